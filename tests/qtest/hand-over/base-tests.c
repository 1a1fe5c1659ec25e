/*
 * Hand-over tests: snapshots and idle CPUs, without any hand-over
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "pair.h"
#include "tests.h"
#include "wait.h"

/*
 * Snapshots, with a capability that they can't have
 */

/* As blockdev-create has them; takes ownership of @options */
static void vm_create_image(Vm *vm, QDict *options)
{
    QDict *resp = vm_command(vm, "{'execute': 'blockdev-create',"
                             " 'arguments': {'job-id': 'create',"
                             " 'options': %p}}", options);
    int64_t end;

    g_assert_false(qdict_haskey(resp, "error"));
    qobject_unref(resp);
    end = wait_until();
    for (;;) {
        QList *jobs;
        QDict *job;
        bool concluded;

        resp = vm_command(vm, "{'execute': 'query-jobs'}");
        jobs = qdict_get_qlist(resp, "return");
        job = qobject_to(QDict, qlist_peek(jobs));
        g_assert_nonnull(job);
        concluded = !strcmp(qdict_get_str(job, "status"), "concluded");
        if (concluded) {
            g_assert_false(qdict_haskey(job, "error"));
        }
        qobject_unref(resp);
        if (concluded) {
            break;
        }
        wait_check(end, "blockdev-create to conclude");
    }
    qobject_unref(vm_command(vm, "{'execute': 'job-dismiss',"
                             " 'arguments': {'id': 'create'}}"));
}

static void vm_add_qcow2(Vm *vm)
{
    g_autofree char *path = tmp_path("snapshots");

    vm_create_image(vm, qdict_from_jsonf_nofail(
        "{'driver': 'file', 'filename': %s, 'size': 0}", path));
    qobject_unref(vm_command(vm, "{'execute': 'blockdev-add', 'arguments':"
        " {'driver': 'file', 'node-name': 'file', 'filename': %s}}", path));
    vm_create_image(vm, qdict_from_jsonf_nofail(
        "{'driver': 'qcow2', 'file': 'file', 'size': 1048576}"));
    qobject_unref(vm_command(vm, "{'execute': 'blockdev-add', 'arguments':"
        " {'driver': 'qcow2', 'node-name': 'image', 'file': 'file'}}"));
}

static void test_snapshot(const void *opaque)
{
    static const char *const commands[] = { "savevm s", "loadvm s" };
    const char *capability = opaque;
    g_autofree char *saved = NULL, *loaded = NULL;
    uint32_t counter;
    Vm vm;

    vm_start(&vm, "source", MACHINE);
    vm_add_qcow2(&vm);
    vm_assert_counts(&vm);
    saved = vm_hmp(&vm, "savevm s");
    g_assert_cmpstr(saved, ==, "");

    vm_set_capability(&vm, capability, true);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        g_autofree char *said = NULL;

        counter = vm_counter(&vm);
        said = vm_hmp(&vm, commands[i]);
        g_test_message("%s", said);
        g_assert_nonnull(strstr(said, capability));
        g_assert_true(vm_is_running(&vm));
        vm_assert_counts(&vm);
        /* neither reset nor loaded */
        g_assert_cmpuint(vm_counter(&vm), >, counter);
    }
    vm_set_capability(&vm, capability, false);

    /* and the one that was there still is */
    loaded = vm_hmp(&vm, "loadvm s");
    g_assert_cmpstr(loaded, ==, "");
    vm_assert_counts(&vm);
    vm_kill(&vm);
}

/*
 * Many CPUs that have nothing to do
 */

/* How often the threads of all CPUs but the first have gone to sleep */
static uint64_t vm_sleeps(Vm *vm)
{
    QDict *resp = vm_command(vm, "{'execute': 'query-cpus-fast'}");
    const QListEntry *entry;
    uint64_t sum = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(resp, "return"), entry) {
        QDict *cpu = qobject_to(QDict, qlist_entry_obj(entry));
        g_autofree char *path = g_strdup_printf(
            "/proc/%d/task/%" PRId64 "/status", vm->pid,
            qdict_get_int(cpu, "thread-id"));
        g_autofree char *text = NULL;

        if (qdict_get_int(cpu, "cpu-index") == 0) {
            continue;
        }
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        sum += g_ascii_strtoull(strstr(text, "\nvoluntary_ctxt_switches:") +
                                strlen("\nvoluntary_ctxt_switches:"), NULL,
                                10);
    }
    qobject_unref(resp);
    return sum;
}

/* Who sleeps is not woken to be stopped, or resumed */
static void test_cpus_asleep(void)
{
    Vm vm;
    bool slept = false;

    vm_start(&vm, "source", MACHINE " -smp 8");
    vm_assert_counts(&vm);
    /* not the first time, perhaps: some may still be woken since the start */
    for (int i = 0; i < 100 && !slept; i++) {
        uint64_t before = vm_sleeps(&vm);

        vm_ok(&vm, "stop");
        vm_assert_stands_still(&vm);
        vm_ok(&vm, "cont");
        vm_assert_counts(&vm);
        slept = vm_sleeps(&vm) == before;
    }
    g_assert_true(slept);
    vm_kill(&vm);
}

void hand_over_add_base_tests(void)
{
    g_test_add_data_func("/hand-over/snapshot/multifd", "multifd",
                         test_snapshot);
    g_test_add_data_func("/hand-over/snapshot/mapped-ram", "mapped-ram",
                         test_snapshot);
    g_test_add_data_func("/hand-over/snapshot/x-ignore-shared",
                         "x-ignore-shared", test_snapshot);
    g_test_add_func("/hand-over/cpus/asleep", test_cpus_asleep);
}
