/*
 * Hand-over tests: what changes between the offer and the end
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "pair.h"
#include "proxy.h"
#include "tests.h"

static void vm_set_mode(Vm *vm, const char *mode)
{
    QDict *resp = vm_command(vm, "{'execute': 'migrate-set-parameters',"
                             " 'arguments': {'mode': %s}}", mode);

    g_assert_false(qdict_haskey(resp, "error"));
    qobject_unref(resp);
}

static void test_mode_is_fixed(void)
{
    static const char *const at[] = { "offer", "adopted", "loaded", "done" };

    for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
        g_autofree char *incoming = tmp_path("incoming");
        g_autofree char *status = NULL;
        Proxy proxy = { .at = at[i], .from_source = !strcmp(at[i], "offer") };
        Vm source, destination;

        start_pair(&source, &destination, MACHINE, MACHINE);
        proxy_start(&proxy, incoming);
        hand_over(&source, "proxy");
        proxy_wait(&proxy);
        if (i < 2) {
            /* (and later it is refused, as anything else) */
            vm_set_mode(&source, i % 2 ? "normal" : "cpr-reboot");
        }
        vm_set_mode(&destination, i % 2 ? "cpr-reboot" : "normal");
        proxy_go(&proxy);
        status = vm_wait_migration(&source);
        g_assert_cmpstr(status, ==, "completed");
        ends_running(&source, &destination);
        proxy_end(&proxy);
    }
}

/* The hand-over fails before long, as @words say, and the guest goes on */
static void ends_changed(Vm *source, Vm *destination, const char *words)
{
    g_autofree char *status = vm_wait_migration(source);
    g_autofree char *error = vm_migration_error(source);

    g_assert_cmpstr(status, ==, "failed");
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, words));
    vm_wait_exit(destination);
    vm_assert_counts(source);
    vm_kill(source);
}

/* The guest lets go of a device that was to be unplugged long before */
static void test_changed_device(void)
{
    const char *opts = MACHINE " -device virtio-balloon,id=b,addr=4";
    g_autofree char *incoming = tmp_path("incoming");
    Proxy proxy = { .at = "adopted" };
    int64_t begin;
    Vm source, destination;

    start_pair(&source, &destination, opts, opts);
    qobject_unref(vm_command(&source, "{'execute': 'device_del',"
                             " 'arguments': {'id': 'b'}}"));
    proxy_start(&proxy, incoming);
    hand_over(&source, "proxy");
    proxy_wait(&proxy);
    g_free(vm_hmp(&source, "o/w 0xae08 0x10"));
    begin = g_get_monotonic_time();
    proxy_go(&proxy);
    ends_changed(&source, &destination, "virtio-balloon' (instance 0) is gone");
    /* nobody waits for words of a destination that has no reason for any */
    g_assert_cmpint(g_get_monotonic_time() - begin, <, 15 * G_USEC_PER_SEC);
    proxy_end(&proxy);
}

/* A medium is changed while a management tool has the guest stand still */
static void test_changed_image(void)
{
    g_autofree char *a = tmp_path("a.iso");
    g_autofree char *b = tmp_path("b.iso");
    g_autofree char *opts = g_strdup_printf(
        MACHINE " -drive if=none,id=d,media=cdrom,format=raw,file=%s "
        "-device ide-cd,id=cd,drive=d", a);
    Vm source, destination;
    QDict *resp;

    g_assert_true(g_file_set_contents(a, "12345678", 8, NULL));
    g_assert_true(g_file_set_contents(b, "12345678", 8, NULL));
    start_pair(&source, &destination, opts, opts);
    vm_set_capability(&source, "pause-before-switchover", true);
    hand_over(&source, "incoming");
    vm_wait_pre_switchover(&source);
    resp = vm_command(&source, "{'execute': 'blockdev-change-medium',"
                      " 'arguments': {'id': 'cd', 'format': 'raw',"
                      " 'filename': %s}}", b);
    g_assert_false(qdict_haskey(resp, "error"));
    qobject_unref(resp);
    vm_migrate_continue(&source);
    ends_changed(&source, &destination, "drive 'd' was '");
}

void hand_over_add_change_tests(void)
{
    g_test_add_func("/hand-over/mode-is-fixed", test_mode_is_fixed);
    g_test_add_func("/hand-over/changed/device", test_changed_device);
    g_test_add_func("/hand-over/changed/image", test_changed_image);
}
