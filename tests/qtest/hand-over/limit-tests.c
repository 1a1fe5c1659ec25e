/*
 * Hand-over tests: neither QEMU waits for the other one without limit
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "pair.h"
#include "proxy.h"
#include "tests.h"
#include "wait.h"

/* A process that hangs, and does not accept */
static void test_limit_connect(void)
{
    g_autofree char *path = tmp_path("hangs");
    g_autofree char *uri = g_strdup_printf("unix:%s", path);
    int listener = listen_unix(path);
    int clients[2];
    QDict *resp;
    Vm vm;

    for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
        clients[i] = connect_unix(path);
        g_assert_cmpint(clients[i], >=, 0);
    }
    vm_start(&vm, "source", MACHINE);
    resp = vm_command(&vm, "{'execute': 'migrate-protected-vm',"
                      " 'arguments': {'uri': %s}}", uri);
    g_assert_true(qdict_haskey(resp, "error"));
    g_assert_nonnull(strstr(qdict_get_str(qdict_get_qdict(resp, "error"),
                                          "desc"), "nobody accepts"));
    qobject_unref(resp);
    vm_assert_counts(&vm);
    close(clients[0]);
    close(clients[1]);
    close(listener);
    vm_kill(&vm);
}

/* A destination stalls before @at: the guest does not stand still for long */
static void check_limit(const char *at, const char *opts)
{
    g_autofree char *incoming = tmp_path("incoming");
    g_autofree char *path = tmp_path("proxy");
    g_autofree char *uri = g_strdup_printf("unix:%s", path);
    g_autofree char *status = NULL, *error = NULL;
    Proxy proxy = { .at = at, .from_source = !strcmp(at, "stream") };
    Vm source, destination;

    start_pair(&source, &destination, opts, opts);
    proxy_start(&proxy, incoming);
    qobject_unref(vm_command(&source, "{'execute': 'migrate-protected-vm',"
                             " 'arguments': {'uri': %s,"
                             " 'downtime-limit': 200}}", uri));
    proxy_wait(&proxy);
    status = vm_wait_migration(&source);
    error = vm_migration_error(&source);
    g_assert_cmpstr(status, ==, "failed");
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, "within 200 ms"));
    vm_assert_counts(&source);
    proxy_go(&proxy);
    vm_wait_exit(&destination);
    vm_kill(&source);
    proxy_end(&proxy);
}

/* With more state than the sockets hold */
static void test_limit_stream(void)
{
    check_limit("stream", MACHINE " -smp 96");
}

static void test_limit_load(void)
{
    check_limit("loaded", MACHINE);
}

/*
 * A destination that slept when the source took the guest back, and wakes up
 * after the source has ended: it must not take that for the source's death, and
 * go on with a guest of the past.  (Nobody stands between the two.)
 */
static void test_wakes_too_late(const void *opaque)
{
    const char *how = opaque;
    bool limit = !strcmp(how, "limit");
    g_autofree char *path = tmp_path("incoming");
    g_autofree char *uri = g_strdup_printf("unix:%s", path);
    g_autofree char *status = NULL;
    Vm source, destination;
    int64_t end;

    start_pair(&source, &destination, MACHINE, MACHINE);
    vm_set_capability(&source, "pause-before-switchover", true);
    qobject_unref(vm_command(&source, "{'execute': 'migrate-protected-vm',"
                             " 'arguments': {'uri': %s, 'on-success': 'stay',"
                             " 'downtime-limit': %d}}", uri,
                             limit ? 200 : 60000));
    vm_wait_pre_switchover(&source);
    g_assert_cmpint(kill(destination.pid, SIGSTOP), ==, 0);
    vm_migrate_continue(&source);
    end = wait_until();
    while (!limit) {
        QDict *resp = vm_command(&source, "{'execute': 'query-migrate'}");
        QDict *info = qdict_get_qdict(resp, "hand-over");
        bool load = !strcmp(qdict_get_str(info, "stage"), "load");

        qobject_unref(resp);
        if (load) {
            break;
        }
        wait_check(end, "the source to wait for the destination to load");
    }
    if (!strcmp(how, "cancel")) {
        qobject_unref(vm_command(&source, "{'execute': 'migrate_cancel'}"));
    }
    if (strcmp(how, "quit")) {
        status = vm_wait_migration(&source);
        vm_assert_counts(&source);
    }
    qobject_unref(vm_command(&source, "{'execute': 'quit'}"));
    g_assert_cmpint(vm_wait_exit(&source), ==, 0);
    g_assert_cmpint(kill(destination.pid, SIGCONT), ==, 0);
    g_assert_cmpint(vm_wait_exit(&destination), !=, 0);
}

/* A destination that never gets ready is given up on */
static void test_timeout(void)
{
    g_autofree char *silent = tmp_path("silent");
    g_autofree char *uri = g_strdup_printf("unix:%s", silent);
    g_autofree char *status = NULL, *error = NULL;
    int listener = listen_unix(silent);
    Vm vm;

    vm_start(&vm, "source", MACHINE);
    qobject_unref(vm_command(&vm, "{'execute': 'migrate-protected-vm',"
                             " 'arguments': {'uri': %s, 'timeout': 100}}",
                             uri));
    status = vm_wait_migration(&vm);
    error = vm_migration_error(&vm);
    g_assert_cmpstr(status, ==, "failed");
    g_assert_nonnull(strstr(error, "did not answer in time"));
    vm_assert_counts(&vm);
    close(listener);
    vm_kill(&vm);
}

void hand_over_add_limit_tests(void)
{
    g_test_add_func("/hand-over/limit/connect", test_limit_connect);
    g_test_add_func("/hand-over/limit/stream", test_limit_stream);
    g_test_add_func("/hand-over/limit/load", test_limit_load);
    g_test_add_data_func("/hand-over/wakes-too-late/limit", "limit",
                         test_wakes_too_late);
    g_test_add_data_func("/hand-over/wakes-too-late/cancel", "cancel",
                         test_wakes_too_late);
    g_test_add_data_func("/hand-over/wakes-too-late/quit", "quit",
                         test_wakes_too_late);
    g_test_add_func("/hand-over/timeout", test_timeout);
}
