/*
 * Hand-over: blockers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_CHECK_H
#define MIGRATION_HAND_OVER_CHECK_H

#include "qapi/qapi-types-hand-over.h"

/*
 * Main thread: append everything that currently prevents a hand-over of this
 * guest to the list at @tail.
 */
void hand_over_check_guest(HandOverBlockerList ***tail);

/* The same, for a migration that has begun and may become a hand-over */
void hand_over_check_switch(HandOverBlockerList ***tail);

/*
 * Append a blocker to the list at @tail: a human-readable reason, and the
 * command line option (NULL: none) that would remove it or that causes it.
 */
void G_GNUC_PRINTF(3, 4)
hand_over_block(HandOverBlockerList ***tail, const char *option,
                const char *fmt, ...);

/* False if @list is empty; else true, with @errp set to its first reason */
bool hand_over_blockers_to_error(const HandOverBlockerList *list,
                                 Error **errp);

/*
 * Main thread: append to the list at @tail everything that this process can't
 * pass on to a QEMU that it starts, each with the option that causes it.
 *
 * @own_command_line: the new QEMU is to be started with this process's command
 *                    line, and so without any later change
 */
void hand_over_check_exec(bool own_command_line, HandOverBlockerList ***tail);

#endif
