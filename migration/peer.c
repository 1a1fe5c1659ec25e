/*
 * The other end of an outgoing migration
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/thread.h"
#include "io/channel-socket.h"
#include "io/channel-tls.h"
#include "migration.h"
#include "options.h"
#include "qemu-file.h"
#include "peer-internal.h"
#include "trace.h"

#define PING 0x68616e64
#define PONG_NESTED_STATE 0x6e657374

static const MigrationGuest *guest;

static struct {
    bool nested_state;
    QemuEvent answered;
} peer;

static void __attribute__((constructor)) peer_init(void)
{
    qemu_event_init(&peer.answered, false);
}

void migration_set_guest(const MigrationGuest *g)
{
    guest = g;
}

bool migration_peer_wants_return_path(MigrationState *s)
{
    QIOChannel *ioc = qemu_file_get_ioc(s->to_dst_file);

    /* A hand-over and COLO have answers of their own; others stay here */
    return migrate_mode() == MIG_MODE_NORMAL && !migrate_colo() &&
           !migrate_background_snapshot() && guest && guest->needs_answer() &&
           (object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_SOCKET) ||
            object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_TLS));
}

bool migration_peer_can_postcopy(Error **errp)
{
    return !guest || guest->can_postcopy(errp);
}

void migration_peer_reset(void)
{
    peer.nested_state = false;
    qemu_event_reset(&peer.answered);
}

uint32_t migration_peer_ping(void)
{
    return PING;
}

uint32_t migration_peer_pong(uint32_t ping)
{
    return ping == PING ? PONG_NESTED_STATE : ping;
}

void migration_peer_heard(uint32_t pong)
{
    if (pong == PONG_NESTED_STATE) {
        peer.nested_state = true;
    }
    trace_migration_peer_heard(pong, peer.nested_state);
    qemu_event_set(&peer.answered);
}

void migration_peer_gone(void)
{
    qemu_event_set(&peer.answered);
}

void migration_peer_wait(MigrationState *s)
{
    if (s->rp_state.rp_thread_created) {
        qemu_event_wait(&peer.answered);
    }
}

MigrationPeer migration_peer(void)
{
    MigrationState *s = migrate_get_current();

    if (!migration_is_running()) {
        return MIGRATION_PEER_ONE_WAY;
    }
    if (migrate_mode() == MIG_MODE_HAND_OVER) {
        /* who does not know it refuses, and the guest stays */
        return MIGRATION_PEER_NESTED_STATE;
    }
    if (!s->rp_state.rp_thread_created) {
        return MIGRATION_PEER_ONE_WAY;
    }
    return peer.nested_state ? MIGRATION_PEER_NESTED_STATE
                             : MIGRATION_PEER_PLAIN;
}

void migration_peer_refuse(Error *err)
{
    if (migration_is_running()) {
        migrate_set_error(migrate_get_current(), err);
    }
}
