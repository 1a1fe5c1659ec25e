/*
 * Hand-over tests: the command migrate, with capability hand-over
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "pair.h"
#include "proxy.h"
#include "tests.h"

typedef struct Switch {
    const char *name;
    const char *source;         /* options; NULL: those of MACHINE */
    const char *destination;
    bool tcp;
    bool forwarded;             /* by a program that knows of bytes only */
    enum { HANDED_OVER, COPIED, FAILED, CANCELLED } end;
    const char *error;          /* part of error-desc */
} Switch;

static const Switch switches[] = {
    { "unix", .end = HANDED_OVER },
    { "tcp", .tcp = true, .end = COPIED },
    { "private-memory", "-machine pc -m 16", "-machine pc -m 16",
      .end = COPIED },
    { "cancelled", .end = CANCELLED },
    { "refused", NULL, "-machine pc,hand-over=on -m 32", .end = FAILED,
      "the destination gave up" },
    { "source-trusts-nobody", "-machine pc,hand-over=on,hand-over-peers=12345 "
      "-m 16", NULL, .end = FAILED, "hand-over-peers=12345" },
    { "destination-trusts-nobody", NULL,
      "-machine pc,hand-over=on,hand-over-peers=12345:12346 -m 16",
      .end = FAILED, "hand-over-peers=12345:12346" },
    { "trusts-self", "-machine pc,hand-over=on,hand-over-peers=self -m 16",
      "-machine pc,hand-over=on,hand-over-peers=12345:self -m 16",
      .end = HANDED_OVER },
    { "forwarded", .forwarded = true, .end = COPIED },
};

static void vm_set_capabilities(Vm *vm, bool hand_over)
{
    /* as libvirt has them */
    qobject_unref(vm_command(vm, "{'execute': 'migrate-set-capabilities',"
        " 'arguments': {'capabilities': ["
        "  {'capability': 'hand-over', 'state': %i},"
        "  {'capability': 'return-path', 'state': true},"
        "  {'capability': 'switchover-ack', 'state': true},"
        "  {'capability': 'late-block-activate', 'state': true},"
        "  {'capability': 'pause-before-switchover', 'state': true}]}}",
        hand_over));
}

static int64_t vm_ram_total(Vm *vm)
{
    QDict *resp = vm_command(vm, "{'execute': 'query-migrate'}");
    QDict *ram = qdict_get_qdict(resp, "ram");
    int64_t total;

    g_assert_nonnull(ram);
    total = qdict_get_int(ram, "total");
    qobject_unref(resp);
    return total;
}

static void test_switch(const void *opaque)
{
    const Switch *sw = opaque;
    g_autofree char *uri = NULL;
    g_autofree char *options = g_strdup_printf(
        "%s -S -incoming defer", sw->destination ? sw->destination : MACHINE);
    Forwarder forwarder = { };
    Vm source, destination;
    int64_t total = 0;
    QDict *resp;

    vm_start(&source, "source", sw->source ? sw->source : MACHINE);
    vm_start(&destination, "destination", options);
    vm_assert_counts(&source);
    vm_set_capabilities(&source, true);
    vm_set_capabilities(&destination, false);
    uri = vm_listen(&destination, sw->tcp, false);
    if (sw->forwarded) {
        uri = forwarder_start(&forwarder, uri);
    }
    qobject_unref(vm_command(&source, "{'execute': 'migrate',"
                             " 'arguments': {'uri': %s}}", uri));
    if (sw->end != FAILED) {
        vm_wait_pre_switchover(&source);
        total = vm_ram_total(&source);
        g_assert_cmpint(total, >, 0);
        resp = sw->end == CANCELLED
            ? vm_command(&source, "{'execute': 'migrate_cancel'}")
            : vm_command(&source, "{'execute': 'migrate-continue',"
                         " 'arguments': {'state': 'pre-switchover'}}");
        g_assert_false(qdict_haskey(resp, "error"));
        qobject_unref(resp);
    }

    {
        g_autofree char *status = vm_wait_migration(&source);
        g_autofree char *error = vm_migration_error(&source);

        g_assert_cmpstr(status, ==, sw->end == FAILED ? "failed" :
                                    sw->end == CANCELLED ? "cancelled" :
                                    "completed");
        if (sw->error) {
            g_test_message("%s", error);
            g_assert_nonnull(error);
            g_assert_nonnull(strstr(error, sw->error));
        }
    }
    if (sw->end == HANDED_OVER || sw->end == COPIED) {
        /* what was there to copy, whether or not it was */
        g_assert_cmpint(vm_ram_total(&source), ==, total);
    }
    resp = vm_command(&source, "{'execute': 'query-migrate'}");
    if (sw->end == HANDED_OVER || sw->end == COPIED) {
        g_assert(qdict_haskey(resp, "hand-over") == (sw->end == HANDED_OVER));
        vm_ok(&destination, "cont");
        vm_wait_running(&destination);
        vm_assert_counts(&destination);
        g_assert_false(vm_is_running(&source));
    } else {
        vm_wait_running(&source);
        vm_assert_counts(&source);
        g_assert_false(vm_is_running(&destination));
    }
    qobject_unref(resp);
    /* the mode was for the one migration */
    resp = vm_command(&source, "{'execute': 'query-migrate-parameters'}");
    g_assert_cmpstr(qdict_get_str(resp, "mode"), ==, "normal");
    qobject_unref(resp);
    vm_kill(&source);
    vm_kill(&destination);
    if (sw->forwarded) {
        forwarder_end(&forwarder);
    }
}

void hand_over_add_migrate_tests(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(switches); i++) {
        g_autofree char *name = g_strdup_printf("/hand-over/switch/%s",
                                                switches[i].name);

        g_test_add_data_func(name, &switches[i], test_switch);
    }
}
