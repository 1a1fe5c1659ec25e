/*
 * Hand-over: the source tells the destination to take the guest
 *
 * Everything that decides which process has the guest: from the end of the
 * device state to the destination's "done", its refusal, or its death.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/hand-over-resource.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "io/channel-socket.h"
#include "hand-over-departed.h"
#include "hand-over-figures.h"
#include "hand-over-ram.h"
#include "hand-over-source.h"
#include "migration.h"
#include "qemu-file.h"

/*
 * How long the main loop may be blocked waiting for "done", in ns.  Normally it
 * takes a few milliseconds.
 */
#define HOLD_TIMEOUT_NS NANOSECONDS_PER_SECOND

typedef struct PointOfNoReturn {
    HandOverSource *src;
    MigrationState *s;
} PointOfNoReturn;

static void pass_point_of_no_return(void *opaque, Error **errp)
{
    PointOfNoReturn *point = opaque;
    HandOverSource *src = point->src;
    bool ok = point->s->state == MIGRATION_STATUS_DEVICE;

    if (!ok) {
        error_setg(errp, "the hand-over was cancelled");
    } else if (src->child) {
        ok = hand_over_resources_release(src->claimed, src->n_claimed, errp);
        src->released = ok;
    }
    src->committed = ok;
}

/*
 * From here on only the destination's answer, or its death, decides who runs.
 *
 * In the main loop: it must not be polling the sockets that are closed here, or
 * the kernel would keep them open until that poll returns.
 */
static bool point_of_no_return(HandOverSource *src, MigrationState *s,
                               Error **errp)
{
    PointOfNoReturn point = { .src = src, .s = s };

    return hand_over_run_in_main_loop(pass_point_of_no_return, &point, errp);
}

/*
 * The destination has the guest, and may not have confirmed it yet; or, if
 * @undecided, it is not known whether it has
 */
static void guest_departs(HandOverSource *src, bool undecided)
{
    hand_over_depart(undecided);
    if (src->on_success == HAND_OVER_ON_SUCCESS_STAY &&
        src->wire->version >= 2) {
        src->unconfirmed = hand_over_wire_dup(src->wire);
    }
    if (!src->unconfirmed) {
        hand_over_keep_end();
        bql_lock();
        hand_over_ram_forget();
        bql_unlock();
    }
}

/*
 * There is no "done": does that mean that the destination does not have the
 * guest?  It does if the destination has refused, or died.  If it is alive and
 * the connection is closed, either it has closed its end deliberately, or the
 * connection was shut down at this end (yank); in any case the destination must
 * not go on.  QEMU never closes its end in the middle of a message unless it
 * dies.
 */
static bool answer_is_no(HandOverSource *src)
{
    if (src->wire->refused) {
        return true;
    }
    if (src->silent) {
        return hand_over_peer_wait_death(&src->peer) ||
               hand_over_peer_end(&src->peer);
    }
    return src->wire->closed &&
           hand_over_peer_wait_death(&src->peer);
}

/*
 * The downtime is not limited from here on.  True if the limit has been
 * reached; then @errp is replaced accordingly.
 */
static bool destination_was_too_slow(HandOverSource *src, Error **errp)
{
    if (!src->limit || !hand_over_limit_disarm(src->limit)) {
        return false;
    }
    if (errp) {
        error_free(*errp);
        *errp = NULL;
    }
    error_setg(errp, "the destination did not load the device state within %u "
               "ms, the longest that the guest may stand still "
               "(downtime-limit)", src->downtime_ms);
    return true;
}

/*
 * Once the destination has been sent "commit", it may send "done" and run the
 * guest at any moment.  From then on nothing here may write to RAM.  Everything
 * that could do so runs in the main loop: vCPUs have stopped, and block devices
 * are drained.  So the main loop is held until there is an answer, and then
 * continues without RAM.  It does so even if there is no answer for a while,
 * because it must not be blocked for ever.
 *
 * True: there may be an answer to read.
 */
static bool send_commit(HandOverSource *src, Error **errp)
{
    GPollFD pfd = {
        .fd = QIO_CHANNEL_SOCKET(src->wire->ioc)->fd,
        .events = G_IO_IN | G_IO_HUP,
    };
    bool ok;

    bql_lock();
    ok = hand_over_send_type(src->wire, HAND_OVER_MESSAGE_TYPE_COMMIT,
                             errp);
    if (ok) {
        qemu_poll_ns(&pfd, 1, HOLD_TIMEOUT_NS);
    }
    hand_over_ram_put_away();
    bql_unlock();
    return ok;
}

bool hand_over_commit(HandOverSource *src, MigrationState *s, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(HandOverMessage) loaded = NULL, done = NULL;
    bool committed;

    if (qemu_file_get_error(s->to_dst_file)) {
        /* handled by the caller */
        return false;
    }

    hand_over_figures_device_state(qemu_file_transferred(s->to_dst_file));
    hand_over_limit_reading(src->limit);
    hand_over_enter_stage(HAND_OVER_STAGE_LOAD);
    /* no deadline: the downtime limit ends this */
    loaded = hand_over_recv(src->wire, HAND_OVER_MESSAGE_TYPE_LOADED, -1,
                            NULL, &src->silent, errp);
    if (destination_was_too_slow(src, errp) || !loaded ||
        !point_of_no_return(src, s, errp)) {
        return false;
    }

    hand_over_enter_stage(HAND_OVER_STAGE_COMMIT);
    committed = send_commit(src, errp);
    if (committed) {
        /* No deadline: it may have the guest without having answered yet */
        done = hand_over_recv(src->wire, HAND_OVER_MESSAGE_TYPE_DONE, -1,
                              NULL, &src->silent, errp);
    }
    if (!done && committed && !answer_is_no(src)) {
        /*
         * Neither its answer, nor the reason why that could not be read, tells
         * whether it has the guest.
         */
        error_prepend(errp, "it is not known whether the destination has the "
                      "guest, which does not go on here: ");
        src->on_success = HAND_OVER_ON_SUCCESS_STAY;
        guest_departs(src, true);
        return false;
    }
    if (!done) {
        bql_lock();
        hand_over_ram_get_back();
        bql_unlock();
        /*
         * It has refused, or closed its end.  In either case it does not run
         * the guest, because it would have sent "done" before.  But it may
         * already have moved the guest to its own virtual machine.
         */
        if (src->peer_vm >= 0 &&
            (hand_over_guest_is_lost() || hand_over_arch()->gone())) {
            hand_over_keep_lost(src->peer_vm);
            src->peer_vm = -1;
            error_prepend(errp, "the guest is lost, and can go on after "
                          "another hand-over: ");
        }
        return false;
    }
    hand_over_enter_stage(HAND_OVER_STAGE_DONE);
    guest_departs(src, false);
    return true;
}

bool hand_over_refused(HandOverSource *src, MigrationState *s, Error **errp)
{
    g_autoptr(HandOverMessage) msg = NULL;
    Error *err = NULL;

    if (destination_was_too_slow(src, errp)) {
        return true;
    }
    /*
     * There is a "refused" to read if the destination has stopped reading, but
     * not if the failure is unrelated to it
     */
    if (!qemu_file_get_error(s->to_dst_file)) {
        return false;
    }
    msg = hand_over_recv(src->wire, HAND_OVER_MESSAGE_TYPE_REFUSED,
                         qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                         src->downtime_ms * (int64_t)SCALE_MS, NULL,
                         &src->silent, &err);
    if (msg) {
        error_setg(errp, "the destination gave up: %s", msg->u.refused.reason);
    } else if (src->silent) {
        error_propagate(errp, err);
    } else {
        error_free(err);
        return false;
    }
    return true;
}
