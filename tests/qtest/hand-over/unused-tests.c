/*
 * Hand-over tests: destinations that have the guest, and do not run it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "pair.h"
#include "tests.h"

/* A guest that stands still at the source does so at the destination */
static void test_paused(void)
{
    g_autofree char *status = NULL;
    Vm source, destination;

    start_pair(&source, &destination, MACHINE, MACHINE);
    qobject_unref(vm_command(&source, "{'execute': 'stop'}"));
    hand_over(&source, "incoming");
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "completed");
    vm_assert_stands_still(&destination);
    qobject_unref(vm_command(&destination, "{'execute': 'cont'}"));
    ends_running(&source, &destination);
}

/* Hands over to a destination that does not run the guest */
static void hand_over_unused(Vm *source, Vm *destination)
{
    g_autofree char *status = NULL;

    start_pair(source, destination, MACHINE, MACHINE " -S");
    hand_over(source, "incoming");
    status = vm_wait_migration(source);
    g_assert_cmpstr(status, ==, "completed");
    vm_assert_stands_still(destination);
}

/* It dies: the guest is at the source again, and can go to another one */
static void test_unused_dies(void)
{
    Vm source, destination;

    hand_over_unused(&source, &destination);
    vm_error(&source, "cont", "was handed over");
    vm_kill(&destination);
    vm_ok(&source, "cont");
    vm_wait_running(&source);
    vm_assert_counts(&source);

    hand_over_to_another(&source, &destination);
    ends_running(&source, &destination);
}

/* It dies, and the next step is another hand-over */
static void test_unused_goes_on(void)
{
    Vm source, destination;

    hand_over_unused(&source, &destination);
    vm_kill(&destination);
    hand_over_to_another(&source, &destination);
    vm_ok(&destination, "cont");
    ends_running(&source, &destination);
}

/* What a destination does with the guest before it dies: it can't come back */
static void test_used_dies(const void *opaque)
{
    const char *how = opaque;
    Vm source, destination;

    hand_over_unused(&source, &destination);
    if (!strcmp(how, "runs")) {
        vm_ok(&destination, "cont");
        vm_assert_counts(&destination);
        vm_ok(&destination, "stop");
    } else {
        vm_ok(&destination, how);
    }
    vm_kill(&destination);
    vm_error(&source, "cont", "was handed over");
    vm_kill(&source);
}

/* Handed on, it runs elsewhere */
static void test_used_elsewhere(void)
{
    g_autofree char *third_path = tmp_path("third");
    g_autofree char *third_opts = g_strdup_printf(MACHINE " -incoming unix:%s",
                                                  third_path);
    g_autofree char *status = NULL;
    Vm source, destination, third;

    hand_over_unused(&source, &destination);
    vm_start(&third, "third", third_opts);
    hand_over(&destination, "third");
    status = vm_wait_migration(&destination);
    g_assert_cmpstr(status, ==, "completed");
    vm_kill(&destination);
    vm_error(&source, "cont", "was handed over");
    vm_kill(&source);
    vm_ok(&third, "cont");
    vm_wait_running(&third);
    vm_assert_counts(&third);
    vm_kill(&third);
}

void hand_over_add_unused_tests(void)
{
    g_test_add_func("/hand-over/paused", test_paused);
    g_test_add_func("/hand-over/unused/dies", test_unused_dies);
    g_test_add_func("/hand-over/unused/goes-on", test_unused_goes_on);
    g_test_add_data_func("/hand-over/used/runs", "runs", test_used_dies);
    g_test_add_data_func("/hand-over/used/reset", "system_reset",
                         test_used_dies);
    g_test_add_func("/hand-over/used/elsewhere", test_used_elsewhere);
}
