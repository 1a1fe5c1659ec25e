/*
 * drain_call_rcu() while a grace period is under way already
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/rcu.h"
#include "qemu/thread.h"

/* A reader that leaves its critical section when it is asked to, not before */
typedef struct Reader {
    QemuThread thread;
    QemuEvent asked;
    QemuEvent reads;
    struct rcu_reader_data *data;
    Notifier force_rcu;
} Reader;

static void reader_force(Notifier *n, void *opaque)
{
    qemu_event_set(&container_of(n, Reader, force_rcu)->asked);
}

static void *reader_run(void *opaque)
{
    Reader *r = opaque;

    rcu_register_thread();
    r->data = get_ptr_rcu_reader();
    r->force_rcu.notify = reader_force;
    rcu_add_force_rcu_notifier(&r->force_rcu);
    rcu_read_lock();
    qemu_event_set(&r->reads);
    qemu_event_wait(&r->asked);
    rcu_read_unlock();
    rcu_remove_force_rcu_notifier(&r->force_rcu);
    rcu_unregister_thread();
    return NULL;
}

struct callback {
    struct rcu_head rcu;
};

static void nothing(struct callback *head)
{
}

static void test_drain_during_grace_period(void)
{
    struct callback callback;
    Reader r = { 0 };

    qemu_event_init(&r.asked, false);
    qemu_event_init(&r.reads, false);
    qemu_thread_create(&r.thread, "reader", reader_run, &r,
                       QEMU_THREAD_JOINABLE);
    qemu_event_wait(&r.reads);

    /* have the RCU thread wait for the reader, which nobody asks to go */
    call_rcu(&callback, nothing, rcu);
    while (!qatomic_read(&r.data->waiting)) {
        g_usleep(1000);
    }
    /* (it looks at all readers after it has marked them) */
    g_usleep(20000);

    /* what is drained must not wait longer than that reader has to */
    alarm(20);
    drain_call_rcu();
    alarm(0);
    qemu_thread_join(&r.thread);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rcu/drain/during-grace-period",
                    test_drain_during_grace_period);
    return g_test_run();
}
