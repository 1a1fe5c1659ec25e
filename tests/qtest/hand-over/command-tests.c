/*
 * Hand-over tests: check-only, and what the command refuses
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "pair.h"
#include "tests.h"

typedef struct Blocked {
    const char *name;
    const char *options;
    const char *reason;
    const char *option;
} Blocked;

static const Blocked blocked[] = {
    { "private", "-machine pc -m 16",
      "RAM block 'pc.ram' is private to this process",
      "-machine hand-over=on" },
    { "private-backend", "-machine pc,aux-ram-share=on,memory-backend=a "
                         "-object memory-backend-ram,id=a,size=16M",
      "RAM block 'a' is private to this process",
      "-object memory-backend-ram,id=a,share=on" },
    { "pty", MACHINE " -serial pty", "is a pseudo-terminal",
      "-chardev pty,id=serial0" },
    /* the base can't migrate it either */
    { "device", "-machine q35,hand-over=on -m 16 -device amd-iommu",
      "non-migratable device: amd-iommu", NULL },
    { "nvme-cmb", MACHINE " -device nvme,serial=1,cmb_size_mb=1",
      "cmb_size_mb of device '/machine/peripheral-anon/device[0]' can't be "
      "migrated", NULL },
    { "snapshot", MACHINE " -snapshot", "no other process can find",
      "-snapshot" },
    /* a character device, as device DAX is one */
    { "device-dax", "-machine pc,hand-over=on,memory-backend=a -m 16 -object "
      "memory-backend-file,id=a,size=16M,mem-path=/dev/zero,share=on",
      "RAM block 'a' is a character device (device DAX)", NULL },
};

static void test_blocked(const void *opaque)
{
    const Blocked *b = opaque;
    const QListEntry *entry;
    bool found = false;
    QDict *resp;
    Vm vm;

    vm_start(&vm, "source", b->options);
    resp = vm_command(&vm, "{'execute': 'migrate-protected-vm',"
                      " 'arguments': {'check-only': true}}");
    QLIST_FOREACH_ENTRY(qdict_get_qlist(resp, "blockers"), entry) {
        QDict *blocker = qobject_to(QDict, qlist_entry_obj(entry));

        found |= strstr(qdict_get_str(blocker, "reason"), b->reason) &&
                 !g_strcmp0(qdict_get_try_str(blocker, "option"), b->option);
    }
    g_assert_true(found);
    qobject_unref(resp);
    vm_assert_counts(&vm);

    /* what check-only says is an error without it, and nothing happens */
    resp = vm_command(&vm, "{'execute': 'migrate-protected-vm'}");
    g_assert_true(qdict_haskey(resp, "error"));
    qobject_unref(resp);
    vm_assert_counts(&vm);
    vm_kill(&vm);
}

static void test_arguments(void)
{
    static const struct {
        const char *command;
        const char *error;
    } wrong[] = {
        { "{'execute': 'migrate-protected-vm', 'arguments': "
          "{'uri': 'tcp:localhost:1'}}", "unix:PATH" },
        { "{'execute': 'migrate-protected-vm', 'arguments': "
          "{'uri': 'unix:/nonexistent'}}", "/nonexistent" },
        { "{'execute': 'migrate-protected-vm', 'arguments': "
          "{'uri': 'unix:/x', 'exec': ['/x']}}", "together" },
        { "{'execute': 'migrate-protected-vm', 'arguments': {'exec': []}}",
          "empty" },
        { "{'execute': 'migrate-protected-vm', 'arguments': "
          "{'exec': ['/nonexistent']}}", "/nonexistent" },
        { "{'execute': 'migrate-protected-vm', 'arguments': "
          "{'exec': ['/bin/true', '-incoming', 'defer']}}", "-incoming" },
        { "{'execute': 'migrate-protected-vm', 'arguments': "
          "{'timeout': 0}}", "milliseconds" },
    };
    Vm vm;

    vm_start(&vm, "source", MACHINE);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        QDict *resp, *error;

        resp = vm_command(&vm, "%p", qobject_from_json(wrong[i].command,
                                                       &error_abort));
        g_assert_true(qdict_haskey(resp, "error"));
        error = qdict_get_qdict(resp, "error");
        g_assert_nonnull(strstr(qdict_get_str(error, "desc"),
                                wrong[i].error));
        qobject_unref(resp);
        vm_assert_counts(&vm);
    }
    vm_kill(&vm);
}

/* Who may connect to the destination's socket could be it */
static void test_open_socket(void)
{
    g_autofree char *path = tmp_path("open");
    g_autofree char *uri = g_strdup_printf("unix:%s", path);
    int listener = listen_unix(path);
    QDict *resp, *error;
    Vm vm;

    g_assert_cmpint(chmod(path, 0777), ==, 0);
    vm_start(&vm, "source", MACHINE);
    resp = vm_command(&vm, "{'execute': 'migrate-protected-vm',"
                      " 'arguments': {'uri': %s}}", uri);
    error = qdict_get_qdict(resp, "error");
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(qdict_get_str(error, "desc"), "mode 0777"));
    qobject_unref(resp);
    vm_assert_counts(&vm);
    close(listener);
    vm_kill(&vm);
}

void hand_over_add_command_tests(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(blocked); i++) {
        g_autofree char *name = g_strdup_printf("/hand-over/blocked/%s",
                                                blocked[i].name);

        g_test_add_data_func(name, &blocked[i], test_blocked);
    }
    g_test_add_func("/hand-over/arguments", test_arguments);
    g_test_add_func("/hand-over/open-socket", test_open_socket);
}
