/*
 * Capabilities of an outgoing migration's destination: for use by migration/
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PROBE_INTERNAL_H
#define MIGRATION_PROBE_INTERNAL_H

#include "io/channel.h"
#include "migration/probe.h"

/* Whether a return path is wanted, and the connection of @s can have one */
bool migration_probe_wants_return_path(MigrationState *s);

/* False with @errp set if the guest can't go by postcopy */
bool migration_can_postcopy(Error **errp);

/*
 * The question is the value of the first ping.  QEMU 10.0 answers any ping, on
 * the return path, with the same value; a QEMU that knows the question answers
 * with another one.
 *
 * @ioc: the channel that the ping came on
 * @fd: set to a descriptor that has to go with the answer, to be closed by the
 *      caller, or to -1
 */
void migration_probe_reset(void);
uint32_t migration_probe_ping(void);
uint32_t migration_probe_pong(uint32_t ping, QIOChannel *ioc, int *fd);

/*
 * Called by the thread that reads the return path: an answer was read, and
 * whether a descriptor came with it; or the return path has ended
 */
void migration_probe_heard(uint32_t pong, bool with_fd);
void migration_probe_ended(void);

/* Wait until one of them was called, if there is a return path */
void migration_probe_wait(MigrationState *s);

/* Whether the destination is on this host, and can take a hand-over */
bool migration_probe_can_take_over(void);

/*
 * Migration thread: ask whether the channel passes descriptors, and wait for
 * the answer.  UNKNOWN: the destination does not know the question, or has not
 * answered.
 */
typedef enum MigrationProbePass {
    MIGRATION_PROBE_PASS_UNKNOWN,
    MIGRATION_PROBE_PASS_BYTES,
    MIGRATION_PROBE_PASS_FDS,
} MigrationProbePass;

MigrationProbePass migration_probe_ask_pass(MigrationState *s);

#endif
