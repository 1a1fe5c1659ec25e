/*
 * Hand-over: the command line of this process
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_ARGV_H
#define MIGRATION_HAND_OVER_ARGV_H

/*
 * This process's command line, as it must be for a QEMU that takes over:
 * without the options that control how to start (-incoming, -loadvm, -S,
 * -daemonize, -preconfig).  A vector to be freed with g_strfreev(), NULL with
 * @errp set on failure.
 */
char **hand_over_own_argv(Error **errp);

/*
 * Call @func with the argument of each option @name (without dashes) of this
 * process's command line; with "" if the option has none.
 */
void hand_over_own_option_foreach(const char *name,
                                  void (*func)(const char *arg, void *opaque),
                                  void *opaque);

/*
 * The path of this process's binary; another file may be there by now.  To be
 * freed with g_free(), NULL with @errp set on failure.
 */
char *hand_over_own_binary(Error **errp);

#endif
