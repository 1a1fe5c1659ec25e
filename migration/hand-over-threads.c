/*
 * Hand-over: thread placement
 *
 * A QEMU that the hand-over starts begins with one thread, whose CPU affinity
 * and scheduling all others inherit.  In the source, an operator may have
 * placed each thread individually.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sched.h>
#include <sys/resource.h>
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "hw/core/cpu.h"
#include "qapi/util.h"
#include "system/iothread.h"
#include "hand-over-threads.h"

/* More CPUs than any kernel supports */
#define CPUS_MAX 65536

typedef void ThreadFunc(char *name, pid_t tid, void *opaque);

typedef struct ThreadCall {
    ThreadFunc *func;
    void *opaque;
} ThreadCall;

static int call_iothread(Object *obj, void *opaque)
{
    ThreadCall *call = opaque;
    IOThread *iothread = (IOThread *)object_dynamic_cast(obj, TYPE_IOTHREAD);

    if (iothread) {
        call->func(g_strdup_printf("iothread/%s",
                                   object_get_canonical_path_component(obj)),
                   iothread->thread_id, call->opaque);
    }
    return 0;
}

/* @func gets a thread's name, the same at both ends, and has to free it */
static void thread_foreach(ThreadFunc *func, void *opaque)
{
    ThreadCall call = { .func = func, .opaque = opaque };
    CPUState *cpu;

    func(g_strdup("main"), getpid(), opaque);
    CPU_FOREACH(cpu) {
        func(g_strdup_printf("cpu/%d", cpu->cpu_index), cpu->thread_id,
             opaque);
    }
    object_child_foreach(object_get_objects_root(), call_iothread, &call);
}

/* In the format of taskset(1): "0-3,8".  NULL with errno set on failure. */
static char *cpus_get(pid_t tid)
{
    g_autoptr(GString) list = g_string_new(NULL);
    cpu_set_t *set = CPU_ALLOC(CPUS_MAX);
    size_t size = CPU_ALLOC_SIZE(CPUS_MAX);

    CPU_ZERO_S(size, set);
    if (sched_getaffinity(tid, size, set) < 0) {
        CPU_FREE(set);
        return NULL;
    }
    for (int first = 0; first < CPUS_MAX; first++) {
        int last = first;

        if (!CPU_ISSET_S(first, size, set)) {
            continue;
        }
        while (last + 1 < CPUS_MAX && CPU_ISSET_S(last + 1, size, set)) {
            last++;
        }
        g_string_append_printf(list, list->len ? ",%d" : "%d", first);
        if (last > first) {
            g_string_append_printf(list, "-%d", last);
        }
        first = last;
    }
    CPU_FREE(set);
    return g_strdup(list->str);
}

static int cpus_set(pid_t tid, const char *list)
{
    g_auto(GStrv) ranges = g_strsplit(list, ",", 0);
    cpu_set_t *set = CPU_ALLOC(CPUS_MAX);
    size_t size = CPU_ALLOC_SIZE(CPUS_MAX);
    int ret = 0;

    CPU_ZERO_S(size, set);
    for (char **range = ranges; !ret && *range; range++) {
        const char *end;
        unsigned first, last;

        if (qemu_strtoui(*range, &end, 10, &first) < 0) {
            ret = -1;
            break;
        }
        last = first;
        if (*end && (*end != '-' ||
                     qemu_strtoui(end + 1, NULL, 10, &last) < 0)) {
            ret = -1;
            break;
        }
        for (unsigned cpu = first; cpu <= last && cpu < CPUS_MAX; cpu++) {
            CPU_SET_S(cpu, size, set);
        }
    }
    if (ret) {
        errno = EINVAL;
    } else {
        ret = sched_setaffinity(tid, size, set);
    }
    CPU_FREE(set);
    return ret;
}

/* Current placement of @tid; NULL if it can't be determined */
static HandOverThread *thread_get(const char *name, pid_t tid)
{
    HandOverThread *thread;
    struct sched_param param;
    char *cpus = cpus_get(tid);

    if (!cpus || sched_getparam(tid, &param) < 0) {
        g_free(cpus);
        return NULL;
    }
    thread = g_new0(HandOverThread, 1);
    thread->name = g_strdup(name);
    thread->cpus = cpus;
    thread->policy = sched_getscheduler(tid);
    thread->priority = param.sched_priority;
    thread->nice = getpriority(PRIO_PROCESS, tid);
    return thread;
}

static void thread_add(char *name, pid_t tid, void *opaque)
{
    HandOverThreadList ***tail = opaque;
    HandOverThread *thread = thread_get(name, tid);

    if (thread) {
        QAPI_LIST_APPEND(*tail, thread);
    }
    g_free(name);
}

HandOverThreadList *hand_over_threads(void)
{
    HandOverThreadList *list = NULL, **tail = &list;

    thread_foreach(thread_add, &tail);
    return list;
}

static void thread_apply(char *name, pid_t tid, void *opaque)
{
    const HandOverThreadList *l = opaque;
    g_autoptr(HandOverThread) now = thread_get(name, tid);
    const HandOverThread *want;
    struct sched_param param;

    while (l && strcmp(l->value->name, name)) {
        l = l->next;
    }
    g_free(name);
    if (!l || !now) {
        return;
    }
    want = l->value;
    param.sched_priority = want->priority;

    if (strcmp(want->cpus, now->cpus) && cpus_set(tid, want->cpus) < 0) {
        warn_report("thread %s can't run on the host's CPUs %s, as it did: %s",
                    want->name, want->cpus, strerror(errno));
    }
    if ((want->policy != now->policy || want->priority != now->priority) &&
        sched_setscheduler(tid, want->policy, &param) < 0) {
        warn_report("thread %s can't have scheduling policy %" PRId64
                    ", priority %" PRId64 ", as it had: %s", want->name,
                    want->policy, want->priority, strerror(errno));
    }
    if (want->nice != now->nice &&
        setpriority(PRIO_PROCESS, tid, want->nice) < 0) {
        warn_report("thread %s can't have nice value %" PRId64 ", as it had: "
                    "%s", want->name, want->nice, strerror(errno));
    }
}

void hand_over_threads_apply(const HandOverThreadList *threads)
{
    thread_foreach(thread_apply, (void *)threads);
}
