/*
 * Hand-over: start the new QEMU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_EXEC_H
#define MIGRATION_HAND_OVER_EXEC_H

#include "io/channel-socket.h"
#include "hand-over-internal.h"
#include "hand-over-wire.h"

/*
 * A QEMU that this process has started.
 *
 * @pid: of the process; its parent must reap it: hand_over_child_kill(), or
 *       the end of this process.  0 once it was.
 * @pidfd: by which it is ended; -1 once it is
 * @ioc: this end of the socket that the child has as its -incoming
 * @err_fd: read end of its standard error, -1 once it is closed
 * @tail: the last that came from there
 */
struct HandOverChild {
    pid_t pid;
    int pidfd;
    QIOChannelSocket *ioc;
    int err_fd;
    GString *tail;
};

/*
 * This process's command line, as it must be for a QEMU that takes over:
 * without the options that say how to begin (-incoming, -loadvm, -S,
 * -daemonize, -preconfig).  A vector to be freed with g_strfreev(), NULL with @errp set
 * on failure.
 */
char **hand_over_own_argv(Error **errp);

/*
 * Call @func with the argument of each option @name (without dashes) of this
 * process's command line; with "" where it has none.
 */
void hand_over_own_option_foreach(const char *name,
                                  void (*func)(const char *arg, void *opaque),
                                  void *opaque);

/*
 * The path of this process's binary, what file may be there now.  To be
 * freed with g_free(), NULL with @errp set on failure.
 */
char *hand_over_own_binary(Error **errp);

/*
 * Start @path (looked up in PATH where it has no slash) with @argv, and
 * -incoming after it.  Only the socket and the standard descriptors are
 * inherited.  Returns NULL with @errp set if that can't be.
 */
HandOverChild *hand_over_child_start(const char *path, char **argv,
                                     Error **errp);

/*
 * Pass on what the child has written to its standard error, and remember the
 * end of it.  Waits for output until @fd can be read, the child's standard
 * error is closed, or @deadline (ns of QEMU_CLOCK_REALTIME).
 */
void hand_over_child_wait(HandOverChild *child, int fd, int64_t deadline);

/* Pass on what is there, and close the pipe */
void hand_over_child_close_err(HandOverChild *child);

/*
 * End the child, wait until it has ended, and tell how it did: a string to
 * be freed with g_free(), NULL if it only ended because it had to.
 */
char *hand_over_child_kill(HandOverChild *child);

/* Forget the child (which goes on) and free @child */
void hand_over_child_free(HandOverChild *child);

/*
 * Tell a child that is just starting what it inherits, over @wire: standard error
 * and listening sockets.  BQL not held.
 */
bool hand_over_child_send_inheritance(HandOverWire *wire, Error **errp);

/*
 * In the child, whose standard error the source has relayed so far: have its own
 * go where the source's goes
 */
void hand_over_child_take_stderr(void);

#endif
