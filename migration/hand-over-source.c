/*
 * Hand-over: the source's half
 *
 * Called by migration.c, see hand-over-internal.h: the migration thread greets
 * the destination and offers the RAM while the guest runs (hand-over-offer.c),
 * and completes the exchange after the device state (hand-over-commit.c).
 * This file begins and ends it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/hand-over-resource.h"
#include "qemu/main-loop.h"
#include "qapi/error.h"
#include "system/runstate.h"
#include "system/runstate-action.h"
#include "hand-over-changes.h"
#include "hand-over-departed.h"
#include "hand-over-figures.h"
#include "hand-over-requests.h"
#include "hand-over-source.h"
#include "migration.h"
#include "options.h"
#include "qemu-file.h"
#include "trace.h"

static HandOverSource *source;

typedef struct MainLoopCall {
    void (*func)(void *opaque, Error **errp);
    void *opaque;
    QemuEvent over;
    Error *err;
} MainLoopCall;

static void main_loop_call_bh(void *opaque)
{
    MainLoopCall *call = opaque;

    call->func(call->opaque, &call->err);
    qemu_event_set(&call->over);
}

bool hand_over_run_in_main_loop(void (*func)(void *opaque, Error **errp),
                                void *opaque, Error **errp)
{
    MainLoopCall call = { .func = func, .opaque = opaque };

    qemu_event_init(&call.over, false);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), main_loop_call_bh, &call);
    qemu_event_wait(&call.over);
    qemu_event_destroy(&call.over);
    if (call.err) {
        error_propagate(errp, call.err);
        return false;
    }
    return true;
}

static HandOverSource *source_new(void)
{
    HandOverSource *src = g_new0(HandOverSource, 1);

    src->on_success = HAND_OVER_ON_SUCCESS_STAY;
    src->timeout_ns = HAND_OVER_TIMEOUT_MS * (int64_t)SCALE_MS;
    src->downtime_ms = MAX(HAND_OVER_DOWNTIME_MS, migrate_downtime_limit());
    src->peer = HAND_OVER_PEER_INIT;
    src->peer_vm = -1;
    return src;
}

static void source_free(HandOverSource *src)
{
    if (src) {
        hand_over_child_free(src->child);
        hand_over_wire_free(src->wire);
        hand_over_wire_free(src->unconfirmed);
        hand_over_peer_clear(&src->peer);
        if (src->peer_vm >= 0) {
            close(src->peer_vm);
        }
        g_free(src->claimed);
        hand_over_limit_free(src->limit);
        g_free(src);
    }
}

void hand_over_source_prepare(void)
{
    if (migrate_mode() == MIG_MODE_HAND_OVER || migrate_hand_over() ||
        hand_over_is_only_way(NULL)) {
        hand_over_changes_begin();
    }
}

bool hand_over_begin(HandOverChild *child, QIOChannelSocket *sioc,
                     HandOverOnSuccess on_success, uint32_t timeout_ms,
                     uint32_t downtime_ms, bool own_argv, int64_t start_ns,
                     Error **errp)
{
    MigrationState *s = migrate_get_current();

    source_free(source);
    source = source_new();
    source->on_success = on_success;
    source->timeout_ns = timeout_ms * (int64_t)SCALE_MS;
    source->downtime_ms = downtime_ms;
    source->own_argv = own_argv;
    source->child = child;
    hand_over_enter_stage_at(HAND_OVER_STAGE_CONNECT, start_ns);

    qio_channel_set_name(QIO_CHANNEL(sioc), "hand-over");
    migrate_mode_fix(MIG_MODE_HAND_OVER);
    if (!migration_start_on_channel(s, QIO_CHANNEL(sioc), errp)) {
        migrate_mode_unfix();
        source->child = NULL;
        source_free(source);
        source = NULL;
        return false;
    }
    return true;
}

void hand_over_source_begin_switched(void)
{
    source = source_new();
    migrate_mode_fix(MIG_MODE_HAND_OVER);
    hand_over_enter_stage(HAND_OVER_STAGE_CONNECT);
}

bool hand_over_source_offer(MigrationState *s, Error **errp)
{
    if (migrate_mode() != MIG_MODE_HAND_OVER) {
        return true;
    }
    if (!source) {
        /* started by the command migrate, with parameter mode set */
        source = source_new();
        hand_over_enter_stage(HAND_OVER_STAGE_CONNECT);
    }
    return hand_over_offer(source, s, errp);
}

void hand_over_source_stopping(MigrationState *s)
{
    if (migrate_mode() == MIG_MODE_HAND_OVER) {
        hand_over_requests_hold();
        hand_over_enter_stage(HAND_OVER_STAGE_STOP);
    }
}

bool hand_over_source_stopped(MigrationState *s, Error **errp)
{
    const HandOverArch *arch = hand_over_arch();

    if (migrate_mode() != MIG_MODE_HAND_OVER) {
        return true;
    }
    hand_over_limit_arm(source->limit, source->downtime_ms);
    hand_over_requests_collect();
    if (!hand_over_changes_none(errp)) {
        return false;
    }
    /* from now on it may have read the end of the stream at any time */
    source->streamed = true;
    hand_over_enter_stage(HAND_OVER_STAGE_SAVE);
    return hand_over_source_replays() || !arch || !arch->stopped ||
           arch->stopped(errp);
}

bool hand_over_source_commit(MigrationState *s, Error **errp)
{
    return migrate_mode() != MIG_MODE_HAND_OVER ||
           hand_over_commit(source, s, errp);
}

bool hand_over_source_refused(MigrationState *s, Error **errp)
{
    return migrate_mode() == MIG_MODE_HAND_OVER && source && source->wire &&
           s->state != MIGRATION_STATUS_CANCELLING &&
           hand_over_refused(source, s, errp);
}

void hand_over_source_finish(MigrationState *s)
{
    g_autofree char *how = NULL;

    if (migrate_mode() != MIG_MODE_HAND_OVER || !source ||
        hand_over_guest_is_elsewhere()) {
        return;
    }
    if (!hand_over_guest_is_lost()) {
        /* the guest is here, so the copy is not needed */
        hand_over_keep_end();
    }
    if (source->wire && !source->committed) {
        g_autofree char *reason = NULL;

        WITH_QEMU_LOCK_GUARD(&s->error_mutex) {
            reason = g_strdup(s->error ? error_get_pretty(s->error)
                                       : "cancelled");
        }
        if (!hand_over_send_abort(source->wire, reason) && source->streamed &&
            !hand_over_peer_end(&source->peer)) {
            /*
             * It has all that it needs, and when this process exits, at
             * whatever time, it would take that for a crash and run the guest.
             */
            error_report("process %" PRId64 " could neither be notified that "
                         "the guest stays here nor be killed: do not let it "
                         "go on", source->peer.pid);
        }
    }
    if (source->child) {
        /*
         * It does not have the guest, and never will.  The process that was
         * started may have daemonized, so kill the peer as well.
         */
        how = hand_over_child_kill(source->child);
        if (source->peer.pidfd >= 0) {
            hand_over_peer_kill(&source->peer);
            hand_over_peer_wait_death(&source->peer);
        }
    } else if (source->peer.pidfd >= 0 && source->committed) {
        /* It may have opened our disks: they are free once it is gone */
        hand_over_peer_wait_death(&source->peer);
    }
    trace_hand_over_source_failed(HandOverStage_str(hand_over_stage()),
                                  how ? how : "");
}

void hand_over_source_restore(MigrationState *s)
{
    if (migrate_mode() != MIG_MODE_HAND_OVER || !source ||
        hand_over_guest_is_elsewhere()) {
        return;
    }
    source->committed = false;
    if (source->released) {
        hand_over_resources_restore();
        source->released = false;
    }
    if (hand_over_guest_is_lost()) {
        /* so are its requests: they are in the stream that is kept */
        hand_over_requests_drop();
    } else {
        hand_over_requests_here(runstate_is_live(s->vm_old_state));
    }
}

void hand_over_source_cleanup(MigrationState *s)
{
    if (migrate_mode() != MIG_MODE_HAND_OVER) {
        return;
    }
    if (source && source->child && !hand_over_guest_is_elsewhere()) {
        /* only if the migration thread was never started */
        g_free(hand_over_child_kill(source->child));
    }
    if (hand_over_guest_is_lost() && runstate_check(RUN_STATE_FINISH_MIGRATE)) {
        /* it was running, and can't be resumed */
        runstate_set(RUN_STATE_PAUSED);
    }
    if (hand_over_guest_is_elsewhere()) {
        hand_over_requests_gone();
        if (runstate_check(RUN_STATE_FINISH_MIGRATE)) {
            /* undecided: it was running, and may run elsewhere */
            runstate_set(RUN_STATE_POSTMIGRATE);
        }
    }
    if (source && hand_over_guest_is_elsewhere() &&
        source->on_success == HAND_OVER_ON_SUCCESS_QUIT) {
        /* as qmp_quit() does */
        shutdown_action = SHUTDOWN_ACTION_POWEROFF;
        qemu_system_shutdown_request(SHUTDOWN_CAUSE_HOST_QMP_QUIT);
    }
    if (source && source->unconfirmed) {
        hand_over_departed_watch(source->unconfirmed, source->peer,
                                 source->peer_vm, source->released);
        source->unconfirmed = NULL;
        source->peer = HAND_OVER_PEER_INIT;
        source->peer_vm = -1;
    }
    source_free(source);
    source = NULL;
}

bool hand_over_source_can_cancel(Error **errp)
{
    if (source && source->committed) {
        error_setg(errp, "the hand-over can't be cancelled any more: the "
                   "destination was told to take the guest");
        return false;
    }
    return true;
}

void hand_over_source_wait_cancelled(void)
{
    MigrationState *s = migrate_get_current();

    while (migrate_mode() == MIG_MODE_HAND_OVER &&
           s->migration_thread_running && !hand_over_guest_is_elsewhere() &&
           hand_over_source_can_cancel(NULL)) {
        main_loop_wait(false);
    }
}

void hand_over_source_cancel(MigrationState *s)
{
    /*
     * Wake up the migration thread, whatever it waits for.  Once the
     * destination has the whole stream, the connection to it must stay open
     * for an "abort".  Before that, the incomplete stream makes the
     * destination give up (or hand_over_source_finish() kills it).
     */
    if (hand_over_stage() < HAND_OVER_STAGE_LOAD) {
        qemu_file_shutdown(s->to_dst_file);
    } else {
        qio_channel_shutdown(qemu_file_get_ioc(s->to_dst_file),
                             QIO_CHANNEL_SHUTDOWN_READ, NULL);
    }
}
