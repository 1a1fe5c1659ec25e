/*
 * The other end of an outgoing migration: what migration.c calls
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PROBE_INTERNAL_H
#define MIGRATION_PROBE_INTERNAL_H

#include "io/channel.h"
#include "migration/probe.h"

/* Whether a return path is wanted, and @s has a connection that can have one */
bool migration_probe_wants_return_path(MigrationState *s);

/* True, or @errp tells why the guest can't go by postcopy */
bool migration_can_postcopy(Error **errp);

/*
 * The question is the value of the first ping on the return path.  QEMU 10.0
 * answers any ping with its value; who knows more answers with another one.
 * @ioc: what it came on
 * @fd: a descriptor that has to go with the answer, the caller's to close, or
 *      -1
 */
void migration_probe_reset(void);
uint32_t migration_probe_ping(void);
uint32_t migration_probe_pong(uint32_t ping, QIOChannel *ioc, int *fd);

/*
 * From the thread that reads the return path: an answer, and whether a
 * descriptor came with it; or the end of the path
 */
void migration_probe_heard(uint32_t pong, bool with_fd);
void migration_probe_ended(void);

/* Wait until one of them was called, if there is a return path */
void migration_probe_wait(MigrationState *s);

/* Whether the answer was: it is on this host, and can take a hand-over */
bool migration_probe_can_take_over(void);

/*
 * Migration thread: ask whether descriptors come through, and wait for the
 * answer.  UNKNOWN: from a QEMU that does not know the question, or none.
 */
typedef enum MigrationProbePass {
    MIGRATION_PROBE_PASS_UNKNOWN,
    MIGRATION_PROBE_PASS_BYTES,
    MIGRATION_PROBE_PASS_FDS,
} MigrationProbePass;

MigrationProbePass migration_probe_ask_pass(MigrationState *s);

#endif
