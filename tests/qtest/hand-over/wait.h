/*
 * Hand-over tests: nobody waits without limit
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The caller gives words that can follow "waited for", such as "QEMU 'source'
 * to end".  If that has not happened in time the test fails with these words.
 */

#ifndef HAND_OVER_WAIT_H
#define HAND_OVER_WAIT_H

#include <poll.h>

/*
 * The longest wait of a test.  It is many times what a busy machine needs: who
 * waits this long has found a hang.
 */
#define WAIT_SECONDS 120
/*
 * A thread that only serves the test waits longer, so that the test, which
 * knows best what is missing, fails first.
 */
#define WAIT_SECONDS_THREAD (2 * WAIT_SECONDS)

/* The time at which a wait that begins now has to end */
int64_t wait_until(void);
/* Fail if that time has come */
void wait_check(int64_t end, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* Wait until poll() finds one of @events at @fd */
void wait_fd(int fd, short events, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
/* The same for a thread, and @n descriptors */
void wait_thread(struct pollfd *fds, size_t n, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);
void wait_thread_fd(int fd, short events, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/* Fail: this did not happen in @seconds */
G_NORETURN void wait_failed(int seconds, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

#endif
