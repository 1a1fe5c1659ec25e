/*
 * Hand-over tests: nobody waits without limit
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "wait.h"

static G_NORETURN G_GNUC_PRINTF(2, 0)
void wait_vfailed(int seconds, const char *fmt, va_list ap)
{
    g_autofree char *what = g_strdup_vprintf(fmt, ap);

    g_error("waited for %s, which did not happen in %d s", what, seconds);
}

void wait_failed(int seconds, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    wait_vfailed(seconds, fmt, ap);
}

int64_t wait_until(void)
{
    return g_get_monotonic_time() + WAIT_SECONDS * G_TIME_SPAN_SECOND;
}

void wait_check(int64_t end, const char *fmt, ...)
{
    va_list ap;

    if (g_get_monotonic_time() < end) {
        return;
    }
    va_start(ap, fmt);
    wait_vfailed(WAIT_SECONDS, fmt, ap);
}

static G_GNUC_PRINTF(4, 0)
void wait_poll(struct pollfd *fds, size_t n, int seconds, const char *fmt,
               va_list ap)
{
    int ret = RETRY_ON_EINTR(poll(fds, n, seconds * 1000));

    g_assert_cmpint(ret, >=, 0);
    if (!ret) {
        wait_vfailed(seconds, fmt, ap);
    }
}

void wait_fd(int fd, short events, const char *fmt, ...)
{
    struct pollfd pfd = { .fd = fd, .events = events };
    va_list ap;

    va_start(ap, fmt);
    wait_poll(&pfd, 1, WAIT_SECONDS, fmt, ap);
    va_end(ap);
}

void wait_thread(struct pollfd *fds, size_t n, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    wait_poll(fds, n, WAIT_SECONDS_THREAD, fmt, ap);
    va_end(ap);
}

void wait_thread_fd(int fd, short events, const char *fmt, ...)
{
    struct pollfd pfd = { .fd = fd, .events = events };
    va_list ap;

    va_start(ap, fmt);
    wait_poll(&pfd, 1, WAIT_SECONDS_THREAD, fmt, ap);
    va_end(ap);
}
