/*
 * Hand-over: turn an ordinary migration into a hand-over
 *
 * Management tools only know the command migrate.  A guest that can't leave in
 * any other way, or for which capability hand-over is set, is handed over if
 * the migration's channel is a UNIX socket to a QEMU on this host that
 * supports it.  Whether it does is determined by pings (migration/probe.c).  A
 * destination that does not support hand-overs gets an ordinary migration
 * stream, of which it has read only the beginning by then.  So does one that
 * descriptors do not reach, because a program that forwards only bytes is in
 * between.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qapi/error.h"
#include "hand-over-blockers.h"
#include "hand-over-internal.h"
#include "hand-over-peer.h"
#include "migration.h"
#include "migration/misc.h"
#include "options.h"
#include "probe-internal.h"
#include "qemu-file.h"
#include "savevm.h"
#include "trace.h"

/*
 * What the current migration is to become.  Set by the main thread before the
 * migration thread, which reads it, is started.
 */
static enum {
    ORDINARY,
    HAND_OVER_IF_POSSIBLE,
    HAND_OVER_ONLY,
} policy;

static void not_by_that(Error **errp, const Error *only)
{
    error_setg(errp, "%s: expected a UNIX socket to it",
               error_get_pretty(only));
}

bool hand_over_source_may_take(const MigrationAddress *addr, Error **errp)
{
    Error *only = NULL;

    if (migrate_mode() != MIG_MODE_NORMAL || !hand_over_is_only_way(&only)) {
        return true;
    }
    if (addr->transport == MIGRATION_ADDRESS_TYPE_SOCKET &&
        (addr->u.socket.type == SOCKET_ADDRESS_TYPE_UNIX ||
         addr->u.socket.type == SOCKET_ADDRESS_TYPE_FD)) {
        error_free(only);
        return true;
    }
    not_by_that(errp, only);
    error_free(only);
    return false;
}

bool hand_over_source_set_policy(MigrationState *s, Error **errp)
{
    g_autoptr(HandOverBlockerList) list = NULL;
    HandOverBlockerList **tail = &list;
    Error *only = NULL, *why = NULL;
    bool ok;

    policy = ORDINARY;
    if (migrate_mode() != MIG_MODE_NORMAL) {
        return true;
    }
    if (!hand_over_is_only_way(&only) && !migrate_hand_over()) {
        return true;
    }

    if (!hand_over_channel_is_local(qemu_file_get_ioc(s->to_dst_file))) {
        if (only) {
            not_by_that(&why, only);
        } else {
            error_setg(&why, "the channel is no UNIX socket");
        }
    } else {
        hand_over_check_switch(&tail);
        hand_over_blockers_to_error(list, &why);
    }

    if (why) {
        trace_hand_over_ordinary(error_get_pretty(why));
    } else {
        policy = only ? HAND_OVER_ONLY : HAND_OVER_IF_POSSIBLE;
    }
    ok = !only || !why;
    if (ok) {
        error_free(why);
    } else {
        error_propagate(errp, why);
    }
    error_free(only);
    return ok;
}

bool hand_over_source_may_switch(void)
{
    return policy != ORDINARY;
}

/* Ask the destination.  False with @errp set if the guest can't go there. */
static bool decide(MigrationState *s, bool *hand_over, Error **errp)
{
    MigrationProbePass pass;

    *hand_over = false;
    migration_probe_wait(s);
    if (!migration_probe_can_take_over()) {
        if (policy == HAND_OVER_IF_POSSIBLE) {
            trace_hand_over_ordinary("the destination can't take it, or is on "
                                     "another host");
            return true;
        }
        error_setg(errp, "this guest can only be handed over, and the "
                   "destination can't take it: expected a QEMU on this host "
                   "that knows migrate-protected-vm");
        return false;
    }

    pass = migration_probe_ask_pass(s);
    if (policy == HAND_OVER_IF_POSSIBLE && pass != MIGRATION_PROBE_PASS_FDS) {
        trace_hand_over_ordinary("no descriptor came through the channel");
        return true;
    }
    /* an older destination does not know the question: just try */
    if (pass == MIGRATION_PROBE_PASS_BYTES) {
        error_setg(errp, "this guest can only be handed over, and no "
                   "descriptor comes through the UNIX socket: expected one "
                   "that leads to the destination itself, not to a program "
                   "that forwards it");
        return false;
    }
    *hand_over = true;
    return true;
}

static void call_setup_notifiers(void *opaque, Error **errp)
{
    migration_call_notifiers(opaque, MIG_EVENT_PRECOPY_SETUP, errp);
}

/*
 * The migration's mode is known only now, so call the setup notifiers for that
 * mode here; as always, in the main loop.
 */
static bool notify_decided(MigrationState *s, Error **errp)
{
    return hand_over_run_in_main_loop(call_setup_notifiers, s, errp);
}

bool hand_over_source_switch(MigrationState *s, Error **errp)
{
    bool hand_over;

    if (policy == ORDINARY) {
        return true;
    }
    if (!decide(s, &hand_over, errp)) {
        return false;
    }
    if (!hand_over) {
        return notify_decided(s, errp);
    }

    qemu_savevm_send_hand_over(s->to_dst_file);
    if (!migration_end_return_path(s)) {
        error_setg(errp, "the destination did not begin the hand-over");
        return false;
    }

    bql_lock();
    hand_over_source_begin_switched();
    bql_unlock();
    return notify_decided(s, errp) && hand_over_source_offer(s, errp);
}
