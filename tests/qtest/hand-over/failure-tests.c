/*
 * Hand-over tests: what fails at each message of the exchange
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "pair.h"
#include "proxy.h"
#include "tests.h"
#include "wait.h"

typedef struct Case {
    const char *at;         /* before this message is passed on: */
    bool from_source;
    Action action;

    /* what is left */
    enum { SOURCE, DESTINATION, NOBODY } guest;
    const char *status;     /* of the source's migration, NULL: it is dead */
    const char *error;      /* part of its error-desc */
} Case;

static const Case cases[] = {
    { "none", true, PASS, DESTINATION, "completed" },

    { "hello", true, KILL_DESTINATION, SOURCE, "failed", "closed" },
    { "hello", false, KILL_DESTINATION, SOURCE, "failed", "closed" },
    { "offer", true, KILL_DESTINATION, SOURCE, "failed", "closed" },
    { "ram", true, KILL_DESTINATION, SOURCE, "failed", "closed" },
    { "adopted", false, KILL_DESTINATION, SOURCE, "failed" },
    { "stream", true, KILL_DESTINATION, SOURCE, "failed" },
    { "loaded", false, KILL_DESTINATION, SOURCE, "failed" },
    { "commit", true, KILL_DESTINATION, SOURCE, "failed", "closed" },

    { "hello", true, KILL_SOURCE, NOBODY },
    { "hello", false, KILL_SOURCE, NOBODY },
    { "offer", true, KILL_SOURCE, NOBODY },
    { "ram", true, KILL_SOURCE, NOBODY },
    { "adopted", false, KILL_SOURCE, NOBODY },
    { "stream", true, KILL_SOURCE, NOBODY },
    { "loaded", false, KILL_SOURCE, DESTINATION },
    /* who ends the source on purpose ends the guest, if that is there */
    { "hello", false, QUIT_SOURCE, NOBODY },
    { "adopted", false, QUIT_SOURCE, NOBODY },
    { "loaded", false, QUIT_SOURCE, NOBODY },
    { "commit", true, QUIT_SOURCE, DESTINATION },
    { "done", false, QUIT_SOURCE, DESTINATION },
    { "commit", true, KILL_SOURCE, DESTINATION },
    { "done", false, KILL_SOURCE, DESTINATION },

    { "hello", false, REFUSE, SOURCE, "failed", "gave up: by the test" },
    { "offer", true, REFUSE, SOURCE, "failed", "gave up: by the test" },
    { "ram", true, REFUSE, SOURCE, "failed", "gave up: by the test" },
    { "adopted", false, REFUSE, SOURCE, "failed", "gave up: by the test" },
    { "stream", true, REFUSE, SOURCE, "failed", "gave up: by the test" },
    { "loaded", false, REFUSE, SOURCE, "failed", "gave up: by the test" },
    { "commit", true, REFUSE, SOURCE, "failed", "gave up: by the test" },

    { "hello", true, CANCEL, SOURCE, "cancelled" },
    { "hello", false, CANCEL, SOURCE, "cancelled" },
    { "offer", true, CANCEL, SOURCE, "cancelled" },
    { "ram", true, CANCEL, SOURCE, "cancelled" },
    { "adopted", false, CANCEL, SOURCE, "cancelled" },
    { "stream", true, CANCEL, SOURCE, "cancelled" },
    { "loaded", false, CANCEL, SOURCE, "cancelled" },
    /* too late */
    { "commit", true, CANCEL, DESTINATION, "completed" },
    { "done", false, CANCEL, DESTINATION, "completed" },

    { "hello", false, GIVE_UP, SOURCE, "failed", "closed" },
    { "adopted", false, GIVE_UP, SOURCE, "failed", "closed" },
    { "stream", true, GIVE_UP, SOURCE, "failed" },

    { "hello", true, GARBAGE, SOURCE, "failed" },
    { "hello", false, GARBAGE, SOURCE, "failed", "magic" },
    { "offer", true, GARBAGE, SOURCE, "failed", "magic" },
    { "ram", true, GARBAGE, SOURCE, "failed", "magic" },
    { "adopted", false, GARBAGE, SOURCE, "failed", "magic" },
    { "stream", true, GARBAGE, SOURCE, "failed" },
    { "loaded", false, GARBAGE, SOURCE, "failed", "magic" },
    /* it has the guest, and its answer does not tell */
    { "done", false, GARBAGE, DESTINATION, "failed", "is not known" },
    { "done", false, CUT, DESTINATION, "failed", "is not known" },

    { "ram", true, NO_DESCRIPTOR, SOURCE, "failed",
      "came with 0 descriptors, it announced 1" },
    { "ram", true, TWO_DESCRIPTORS, SOURCE, "failed",
      "sent more descriptors than belong there" },
    { "ram", true, NO_MEMORY, SOURCE, "failed", "is not shareable memory" },
    { "ram", true, SMALL_MEMORY, SOURCE, "failed", "its memory ends at 0x0" },
    { "ram", true, READ_ONLY_MEMORY, SOURCE, "failed",
      "is not open for reading and writing" },
    { "hello", true, NO_MEMORY, SOURCE, "failed", "is no pidfd" },
    { "hello", false, NO_MEMORY, SOURCE, "failed", "is no pidfd" },

    { "hello", false, CUT, SOURCE, "failed", "in the middle of a message" },
    { "offer", true, CUT, SOURCE, "failed", "in the middle of a message" },
    { "ram", true, CUT, SOURCE, "failed", "in the middle of a message" },
    { "adopted", false, CUT, SOURCE, "failed", "in the middle of a message" },
    { "stream", true, CUT, SOURCE, "failed" },
};

static const char *const action_names[] = {
    [PASS] = "pass", [KILL_SOURCE] = "kill-source",
    [KILL_DESTINATION] = "kill-destination", [QUIT_SOURCE] = "quit-source",
    [REFUSE] = "refuse",
    [GIVE_UP] = "give-up", [CANCEL] = "cancel", [GARBAGE] = "garbage",
    [CUT] = "cut", [NO_DESCRIPTOR] = "no-descriptor",
    [TWO_DESCRIPTORS] = "two-descriptors", [NO_MEMORY] = "no-memory",
    [SMALL_MEMORY] = "small-memory", [READ_ONLY_MEMORY] = "read-only-memory",
};

static void test_case(const void *opaque)
{
    const Case *c = opaque;
    g_autofree char *incoming = tmp_path("incoming");
    Proxy proxy = { .at = c->at, .from_source = c->from_source,
                    .action = c->action };
    Vm source, destination;
    unsigned descriptors;

    start_pair(&source, &destination, MACHINE, MACHINE);
    descriptors = vm_descriptors(&source);
    proxy_start(&proxy, incoming);
    hand_over(&source, "proxy");

    if (c->action != PASS) {
        proxy_wait(&proxy);
        switch (c->action) {
        case KILL_SOURCE:
            vm_kill(&source);
            break;
        case KILL_DESTINATION:
            vm_kill(&destination);
            break;
        case QUIT_SOURCE:
            qobject_unref(vm_command(&source, "{'execute': 'quit'}"));
            g_assert_cmpint(vm_wait_exit(&source), ==, 0);
            break;
        case CANCEL:
            qobject_unref(vm_command(&source,
                                     "{'execute': 'migrate_cancel'}"));
            break;
        default:
            break;
        }
        proxy_go(&proxy);
    }

    if (c->status) {
        g_autofree char *status = vm_wait_migration(&source);
        g_autofree char *error = vm_migration_error(&source);

        g_assert_cmpstr(status, ==, c->status);
        if (c->error) {
            g_assert_nonnull(error);
            g_assert_nonnull(strstr(error, c->error));
        }
    } else {
        g_assert_cmpint(source.pid, ==, 0);
    }

    if (c->guest == DESTINATION) {
        vm_wait_running(&destination);
        vm_assert_counts(&destination);
        if (source.pid) {
            QDict *resp;

            /* (its RAM is the other one's, and changes) */
            g_assert_false(vm_is_running(&source));
            /* nothing brings it back to life there */
            resp = vm_command(&source, "{'execute': 'cont'}");
            g_assert_true(qdict_haskey(resp, "error"));
            qobject_unref(resp);
            g_assert_false(vm_is_running(&source));
        }
    } else if (destination.pid) {
        g_assert_cmpint(vm_wait_exit(&destination), !=, 0);
    }
    proxy_end(&proxy);
    if (c->guest == SOURCE) {
        int64_t end = wait_until();
        unsigned now;

        vm_assert_counts(&source);
        /* the last of it is cleaned up after the migration has ended */
        while ((now = vm_descriptors(&source)) != descriptors) {
            wait_check(end, "the source to have %u descriptors open, not %u",
                       descriptors, now);
            qobject_unref(vm_command(&source, "{'execute': 'query-status'}"));
        }
    }

    vm_kill(&source);
    vm_kill(&destination);
}

/* After a failure the same source hands over to another destination */
static void test_again(void)
{
    Vm source, destination;
    g_autofree char *status = NULL;

    start_pair(&source, &destination, MACHINE,
               "-machine pc,hand-over=on -m 32");
    hand_over(&source, "incoming");
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "failed");
    vm_wait_exit(&destination);
    vm_assert_counts(&source);

    hand_over_to_another(&source, &destination);
    ends_running(&source, &destination);
}

void hand_over_add_failure_tests(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const Case *c = &cases[i];
        const char *from = c->from_source ? "source" : "destination";
        g_autofree char *name = g_strdup_printf("/hand-over/%s/%s-from-%s",
                                                action_names[c->action], c->at,
                                                from);

        g_test_add_data_func(name, c, test_case);
    }
    g_test_add_func("/hand-over/again", test_again);
}
