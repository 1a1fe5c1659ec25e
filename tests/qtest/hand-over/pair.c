/*
 * Hand-over tests: a source and a destination
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "pair.h"

void start_pair(Vm *source, Vm *destination, const char *source_opts,
                const char *destination_opts)
{
    g_autofree char *incoming = tmp_path("incoming");
    g_autofree char *opts = g_strdup_printf("%s -incoming unix:%s",
                                            destination_opts, incoming);

    vm_start(source, "source", source_opts);
    vm_start(destination, "destination", opts);
    vm_assert_counts(source);
}

void hand_over(Vm *source, const char *to)
{
    g_autofree char *path = tmp_path(to);
    g_autofree char *uri = g_strdup_printf("unix:%s", path);
    QDict *resp = vm_command(source, "{'execute': 'migrate-protected-vm',"
                             " 'arguments': {'uri': %s,"
                             " 'on-success': 'stay',"
                             /* what a slow machine needs is not the question */
                             " 'downtime-limit': 60000}}", uri);

    g_assert_true(qdict_haskey(resp, "blockers"));
    qobject_unref(resp);
}

void hand_over_to_another(Vm *source, Vm *destination)
{
    g_autofree char *incoming = tmp_path("incoming");
    g_autofree char *opts = g_strdup_printf(MACHINE " -incoming unix:%s",
                                            incoming);
    g_autofree char *status = NULL;

    unlink(incoming);
    vm_start(destination, "destination", opts);
    hand_over(source, "incoming");
    status = vm_wait_migration(source);
    g_assert_cmpstr(status, ==, "completed");
}

void ends_running(Vm *source, Vm *destination)
{
    vm_wait_running(destination);
    vm_assert_counts(destination);
    vm_kill(source);
    vm_kill(destination);
}

void check_machine(const char *source_opts, const char *dest_opts)
{
    g_autofree char *status = NULL;
    Vm source, destination;

    start_pair(&source, &destination, source_opts, dest_opts);
    hand_over(&source, "incoming");
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "completed");
    vm_wait_running(&destination);
    vm_assert_counts(&destination);
    g_assert_false(vm_is_running(&source));
    vm_kill(&source);
    vm_assert_counts(&destination);
    vm_kill(&destination);
}
