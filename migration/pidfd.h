/*
 * Descriptors that stand for processes, see pidfd_open(2)
 *
 * The C library may be older than these calls.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIDFD_H
#define MIGRATION_PIDFD_H

#include <signal.h>
#include <sys/syscall.h>

/* Kernels that have these calls know them by the same numbers on all hosts */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

/* A descriptor, close-on-exec, of process @pid; -1 with errno set on failure */
static inline int pidfd_from_pid(pid_t pid)
{
    return syscall(SYS_pidfd_open, pid, 0);
}

/* Kill the process; -1 with errno set on failure: ESRCH if it has ended */
static inline int pidfd_kill(int pidfd)
{
    return syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

#endif
