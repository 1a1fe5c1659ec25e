/*
 * Hand-over: internals shared by the files of the source's half
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_SOURCE_H
#define MIGRATION_HAND_OVER_SOURCE_H

#include "hand-over-exec.h"
#include "hand-over-internal.h"
#include "hand-over-limit.h"
#include "hand-over-peer.h"
#include "hand-over-wire.h"

/*
 * The request, and its progress.
 *
 * The main thread fills in the request before the migration thread starts,
 * and cleans up after it has ended.  In between the migration thread owns
 * everything, except as noted.
 */
typedef struct HandOverSource {
    HandOverOnSuccess on_success;
    int64_t timeout_ns;
    uint32_t downtime_ms;
    bool own_argv;
    HandOverChild *child;       /* NULL if not started by this process */

    HandOverWire *wire;
    HandOverPeer peer;
    uint32_t *claimed;
    size_t n_claimed;
    HandOverLimit *limit;
    bool streamed;              /* the peer may have all of the device state */
    bool silent;                /* the peer's end is closed */
    int peer_vm;                /* the peer's virtual machine, -1: none */
    HandOverWire *unconfirmed;  /* on which the peer will confirm the guest */

    /* Protected by the BQL */
    bool committed;
    bool released;
} HandOverSource;

/*
 * The guest runs: greet the destination, and offer it the guest's RAM.  True:
 * the destination has adopted all of it.
 */
bool hand_over_offer(HandOverSource *src, MigrationState *s, Error **errp);

/*
 * The stream is complete: tell the destination to take the guest, and determine
 * whether it has.  See hand_over_source_commit().
 */
bool hand_over_commit(HandOverSource *src, MigrationState *s, Error **errp);

/* The stream could not be written: see hand_over_source_refused() */
bool hand_over_refused(HandOverSource *src, MigrationState *s, Error **errp);

#endif
