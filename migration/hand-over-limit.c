/*
 * Hand-over: limit the guest's downtime
 *
 * The migration thread writes the device state with the BQL held, to a blocking
 * socket: if the destination does not read, neither the main loop nor a monitor
 * command can interrupt that.  A dedicated thread can, because it needs no
 * lock.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/thread.h"
#include "hand-over-limit.h"

struct HandOverLimit {
    QIOChannel *ioc;
    QemuThread thread;
    QemuSemaphore armed;
    QemuSemaphore over;
    bool running;       /* the thread has not been joined */
    bool is_armed;
    bool reading;       /* atomic */
    uint32_t ms;        /* 0: it was never armed */
    bool expired;       /* read once the thread has been joined */
};

static void *limit_thread(void *opaque)
{
    HandOverLimit *limit = opaque;

    qemu_sem_wait(&limit->armed);
    if (limit->ms && qemu_sem_timedwait(&limit->over, limit->ms) < 0) {
        limit->expired = true;
        qio_channel_shutdown(limit->ioc, qatomic_read(&limit->reading)
                                         ? QIO_CHANNEL_SHUTDOWN_READ
                                         : QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
    }
    return NULL;
}

HandOverLimit *hand_over_limit_new(QIOChannel *ioc)
{
    HandOverLimit *limit = g_new0(HandOverLimit, 1);

    limit->ioc = ioc;
    object_ref(OBJECT(ioc));
    qemu_sem_init(&limit->armed, 0);
    qemu_sem_init(&limit->over, 0);
    /* created while the guest runs, so that this adds no downtime */
    qemu_thread_create(&limit->thread, "hand-over-limit", limit_thread, limit,
                       QEMU_THREAD_JOINABLE);
    limit->running = true;
    return limit;
}

void hand_over_limit_arm(HandOverLimit *limit, uint32_t ms)
{
    limit->ms = MIN(ms, INT_MAX);
    limit->is_armed = true;
    qemu_sem_post(&limit->armed);
}

void hand_over_limit_reading(HandOverLimit *limit)
{
    qatomic_set(&limit->reading, true);
}

bool hand_over_limit_disarm(HandOverLimit *limit)
{
    if (limit->running) {
        qemu_sem_post(limit->is_armed ? &limit->over : &limit->armed);
        qemu_thread_join(&limit->thread);
        limit->running = false;
    }
    return limit->expired;
}

void hand_over_limit_free(HandOverLimit *limit)
{
    if (limit) {
        hand_over_limit_disarm(limit);
        qemu_sem_destroy(&limit->armed);
        qemu_sem_destroy(&limit->over);
        object_unref(OBJECT(limit->ioc));
        g_free(limit);
    }
}
