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
 * @pid: process ID; reaped by hand_over_child_kill(), or when this process
 *       exits.  0 once it has been reaped.
 * @pidfd: used to kill it; -1 once that is done
 * @ioc: this end of the socket that is the child's -incoming
 * @err_fd: read end of its standard error, -1 once closed
 * @tail: the last output that was read from there
 */
struct HandOverChild {
    pid_t pid;
    int pidfd;
    QIOChannelSocket *ioc;
    int err_fd;
    GString *tail;
};

/*
 * Start @path (looked up in PATH if it has no slash) with @argv, followed by
 * -incoming.  Only the socket and the standard descriptors are inherited.
 * Returns NULL with @errp set on failure.
 */
HandOverChild *hand_over_child_start(const char *path, char **argv,
                                     Error **errp);

/*
 * Relay what the child writes to its standard error, and remember the end of
 * it.  Waits for output until @fd is readable, the child's standard error is
 * closed, or @deadline (ns of QEMU_CLOCK_REALTIME) has passed.
 */
void hand_over_child_wait(HandOverChild *child, int fd, int64_t deadline);

/* Relay pending output, and close the pipe */
void hand_over_child_close_err(HandOverChild *child);

/*
 * Kill the child and reap it.  Returns how it ended: a string to be freed with
 * g_free(), or NULL if it ended only because it was killed here.
 */
char *hand_over_child_kill(HandOverChild *child);

/* Free @child; the process goes on */
void hand_over_child_free(HandOverChild *child);

/*
 * Send a child that is just starting what it inherits, over @wire: standard
 * error and listening sockets.  BQL not held.
 */
bool hand_over_child_send_inheritance(HandOverWire *wire, Error **errp);

/*
 * In the child, whose standard error the source has relayed so far: switch to
 * the source's standard error
 */
void hand_over_child_take_stderr(void);

#endif
