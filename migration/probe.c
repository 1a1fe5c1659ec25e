/*
 * Capabilities of an outgoing migration's destination
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/thread.h"
#include "io/channel-socket.h"
#include "io/channel-tls.h"
#include "hand-over-internal.h"
#include "hand-over-peer.h"
#include "migration.h"
#include "options.h"
#include "qemu-file.h"
#include "probe-internal.h"
#include "savevm.h"
#include "trace.h"

#define PING 0x68616e64
/*
 * The answer of a QEMU that knows the question.  The low bits identify the host
 * on which it can take a hand-over over the same channel; 0 if it can't.
 */
#define PONG      0x6e000000
#define PONG_HOST 0x00ffffff
/*
 * A second question, sent if that was the answer: do descriptors come through?
 * There may be a program in between, on the same host, that forwards only
 * bytes.  A QEMU that knows the question answers with another value, along with
 * a descriptor if the channel supports that.
 */
#define PING_PASS 0x70617373
#define PONG_PASS 0x50415353

static const MigrationGuest *guest;

static struct {
    bool nested_state;
    bool here;
    MigrationProbePass pass;
    QemuEvent answered;
    QemuEvent pass_answered;
} peer;

static void __attribute__((constructor)) peer_init(void)
{
    qemu_event_init(&peer.answered, false);
    qemu_event_init(&peer.pass_answered, false);
}

void migration_set_guest(const MigrationGuest *g)
{
    guest = g;
}

bool migration_probe_wants_return_path(MigrationState *s)
{
    QIOChannel *ioc = qemu_file_get_ioc(s->to_dst_file);

    /* A hand-over and COLO get answers in other ways; snapshots stay here */
    return migrate_mode() == MIG_MODE_NORMAL && !migrate_colo() &&
           !migrate_background_snapshot() && guest && guest->needs_answer() &&
           (object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_SOCKET) ||
            object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_TLS));
}

bool migration_can_postcopy(Error **errp)
{
    return !guest || guest->can_postcopy(errp);
}

void migration_probe_reset(void)
{
    peer.nested_state = false;
    peer.here = false;
    peer.pass = MIGRATION_PROBE_PASS_UNKNOWN;
    qemu_event_reset(&peer.answered);
    qemu_event_reset(&peer.pass_answered);
}

uint32_t migration_probe_ping(void)
{
    return PING;
}

/*
 * Identifies this host until its next boot; 0 if unknown.  Needed because a
 * UNIX socket may be forwarded to another host.
 */
static uint32_t host_mark(void)
{
    g_autofree char *boot_id = NULL;

    if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &boot_id, NULL,
                             NULL)) {
        return 0;
    }
    return g_str_hash(boot_id) & PONG_HOST;
}

uint32_t migration_probe_pong(uint32_t ping, QIOChannel *ioc, int *fd)
{
    *fd = -1;
    switch (ping) {
    case PING:
        return PONG | (hand_over_channel_is_local(ioc) ? host_mark() : 0);
    case PING_PASS:
        *fd = hand_over_peer_token(ioc);
        return PONG_PASS;
    default:
        return ping;
    }
}

void migration_probe_heard(uint32_t pong, bool with_fd)
{
    if (pong == PING_PASS || pong == PONG_PASS) {
        if (pong == PONG_PASS) {
            peer.pass = with_fd ? MIGRATION_PROBE_PASS_FDS
                                : MIGRATION_PROBE_PASS_BYTES;
        }
        trace_migration_probe_passes(pong, with_fd);
        qemu_event_set(&peer.pass_answered);
        return;
    }
    if ((pong & ~PONG_HOST) == PONG) {
        peer.nested_state = true;
        peer.here = (pong & PONG_HOST) && (pong & PONG_HOST) == host_mark();
    }
    trace_migration_probe_heard(pong, peer.nested_state);
    qemu_event_set(&peer.answered);
}

void migration_probe_ended(void)
{
    qemu_event_set(&peer.answered);
    qemu_event_set(&peer.pass_answered);
}

void migration_probe_wait(MigrationState *s)
{
    if (s->rp_state.rp_thread_created) {
        qemu_event_wait(&peer.answered);
    }
}

bool migration_probe_can_take_over(void)
{
    return peer.here;
}

MigrationProbePass migration_probe_ask_pass(MigrationState *s)
{
    if (s->rp_state.rp_thread_created) {
        qemu_savevm_send_ping(s->to_dst_file, PING_PASS);
        qemu_event_wait(&peer.pass_answered);
    }
    return peer.pass;
}

MigrationDestination migration_destination(void)
{
    MigrationState *s = migrate_get_current();

    if (!migration_is_running()) {
        return MIGRATION_DESTINATION_ONE_WAY;
    }
    if (migrate_mode() == MIG_MODE_HAND_OVER) {
        /* a destination that does not know the sections refuses the guest */
        return MIGRATION_DESTINATION_NESTED_STATE;
    }
    if (!s->rp_state.rp_thread_created) {
        return MIGRATION_DESTINATION_ONE_WAY;
    }
    return peer.nested_state ? MIGRATION_DESTINATION_NESTED_STATE
                             : MIGRATION_DESTINATION_PLAIN;
}

void migration_refuse_destination(Error *err)
{
    if (migration_is_running()) {
        migrate_set_error(migrate_get_current(), err);
    }
}
