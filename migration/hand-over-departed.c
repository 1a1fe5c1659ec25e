/*
 * Hand-over: a guest that has left
 *
 * It may come back, as long as the destination has not confirmed that the guest
 * has changed there.  And it may be lost: if a destination has moved it to its
 * own virtual machine in the kernel, and died, neither process can run it, but
 * another hand-over can still take it from there.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/hand-over-resource.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "io/channel-socket.h"
#include "system/runstate.h"
#include "hand-over-departed.h"
#include "hand-over-ram.h"
#include "hand-over-requests.h"
#include "migration.h"
#include "options.h"
#include "qemu-file.h"

static bool handed_over;

/* It is not known whether it was: the destination's answer was not valid */
static bool undecided;

/*
 * The destination that the guest was handed over to, and that has not confirmed
 * it yet.  All of it belongs to the main thread.
 */
static struct {
    HandOverWire *wire;         /* NULL: there is none */
    GSource *watch;
    HandOverPeer peer;
    int vm;                     /* its virtual machine, -1: none */
    bool released;              /* it has our sockets and other resources */
} unconfirmed = { .peer.pidfd = -1, .vm = -1 };

/*
 * A lost guest: a destination that was told to take it has moved it to its
 * virtual machine, and died.  Kept here is what another destination needs to
 * take it from there.  Same ownership as HandOverSource, but outlives it.
 */
static struct {
    bool lost;
    GArray *vms;                /* descriptors, the latest last */
    GByteArray *stream;         /* the device state */
} kept;

bool hand_over_guest_is_elsewhere(void)
{
    return qatomic_read(&handed_over);
}

bool hand_over_guest_is_gone(Error **errp)
{
    if (hand_over_guest_is_elsewhere()) {
        error_setg(errp, undecided ?
                   "The guest may be at another QEMU, whose answer was not "
                   "understood: it does not run here as long as that may be" :
                   "The guest was handed over to another QEMU");
        return true;
    }
    if (qatomic_read(&kept.lost)) {
        error_setg(errp, "The guest was moved to a QEMU that has died: it "
                   "goes on after another hand-over");
        return true;
    }
    return false;
}

void hand_over_keep_begin(QEMUFile *f)
{
    kept.stream = g_byte_array_new();
    qemu_file_set_copy(f, kept.stream);
}

void hand_over_keep_lost(int vm)
{
    if (!kept.lost) {
        kept.vms = hand_over_fds_new();
        qatomic_set(&kept.lost, true);
    }
    g_array_append_val(kept.vms, vm);
}

void hand_over_keep_end(void)
{
    g_clear_pointer(&kept.stream, g_byte_array_unref);
    g_clear_pointer(&kept.vms, g_array_unref);
    qatomic_set(&kept.lost, false);
}

bool hand_over_guest_is_lost(void)
{
    return qatomic_read(&kept.lost);
}

GArray *hand_over_lost_vms(void)
{
    return g_array_ref(kept.vms);
}

bool hand_over_source_replays(void)
{
    return migrate_mode() == MIG_MODE_HAND_OVER && kept.lost;
}

int hand_over_source_replay(MigrationState *s)
{
    qemu_put_buffer(s->to_dst_file, kept.stream->data, kept.stream->len);
    return qemu_fflush(s->to_dst_file);
}

static void unconfirmed_clear(void)
{
    g_source_destroy(unconfirmed.watch);
    g_clear_pointer(&unconfirmed.watch, g_source_unref);
    g_clear_pointer(&unconfirmed.wire, hand_over_wire_free);
    hand_over_peer_clear(&unconfirmed.peer);
    if (unconfirmed.vm >= 0) {
        close(unconfirmed.vm);
        unconfirmed.vm = -1;
    }
}

/* The destination has sent something, or died */
static gboolean unconfirmed_settle(QIOChannel *ioc, GIOCondition condition,
                                   gpointer opaque)
{
    g_autoptr(HandOverMessage) confirmed = NULL;
    bool silent = false;
    bool back;

    confirmed = hand_over_recv(unconfirmed.wire,
                               HAND_OVER_MESSAGE_TYPE_CONFIRMED,
                               qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                               HAND_OVER_DEATH_TIMEOUT_NS, NULL, &silent, NULL);
    /* A destination that is alive but violates the protocol has the guest */
    back = !confirmed && silent &&
           hand_over_peer_wait_death(&unconfirmed.peer);
    if (back && unconfirmed.vm >= 0 &&
        (kept.lost || hand_over_arch()->gone())) {
        hand_over_keep_lost(unconfirmed.vm);
        unconfirmed.vm = -1;
    } else {
        hand_over_keep_end();
    }
    if (back) {
        hand_over_ram_get_back();
        warn_report("process %" PRId64 ", which had the guest but did not run "
                    "it, has died: %s", unconfirmed.peer.pid,
                    kept.lost ? "the guest can be handed over again"
                              : "the guest is back");
        if (unconfirmed.released) {
            hand_over_resources_restore();
        }
        qatomic_set(&handed_over, false);
        undecided = false;
        if (kept.lost) {
            hand_over_requests_drop();
        } else {
            hand_over_requests_here(true);
        }
        if (runstate_check(RUN_STATE_POSTMIGRATE)) {
            runstate_set(RUN_STATE_PAUSED);
        }
    }
    /* if the guest has not come back, its RAM is not needed here */
    hand_over_ram_forget();
    unconfirmed_clear();
    return G_SOURCE_REMOVE;
}

void hand_over_depart(bool is_undecided)
{
    undecided = is_undecided;
    qatomic_set(&handed_over, true);
}

void hand_over_departed_watch(HandOverWire *wire, HandOverPeer peer, int vm,
                              bool released)
{
    unconfirmed.wire = wire;
    unconfirmed.peer = peer;
    unconfirmed.vm = vm;
    unconfirmed.released = released;
    unconfirmed.watch = qio_channel_create_watch(wire->ioc,
                                                 G_IO_IN | G_IO_HUP);
    g_source_set_callback(unconfirmed.watch, (GSourceFunc)unconfirmed_settle,
                          NULL, NULL);
    g_source_attach(unconfirmed.watch, NULL);
}

void hand_over_look_back(void)
{
    GPollFD pfd = { .events = G_IO_IN | G_IO_HUP };

    if (!unconfirmed.wire) {
        return;
    }
    pfd.fd = QIO_CHANNEL_SOCKET(unconfirmed.wire->ioc)->fd;
    if (qemu_poll_ns(&pfd, 1, 0) > 0) {
        unconfirmed_settle(unconfirmed.wire->ioc, G_IO_IN, NULL);
    }
}
