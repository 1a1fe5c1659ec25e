/*
 * Capabilities of an outgoing migration's destination
 *
 * Some guests have state that a destination may only be able to refuse once
 * it has all of it (nested state, which is validated by the destination's
 * kernel).  The source must not give up such a guest before the destination
 * has accepted it: it opens a return path whether or not one was requested,
 * and learns there what the destination understands.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PROBE_H
#define MIGRATION_PROBE_H

typedef enum MigrationDestination {
    /* a file, a pipe, a snapshot: there is no answer */
    MIGRATION_DESTINATION_ONE_WAY,
    /* it answers as QEMU 10.0 does */
    MIGRATION_DESTINATION_PLAIN,
    /* it knows the nested state sections added after 10.0 */
    MIGRATION_DESTINATION_NESTED_STATE,
} MigrationDestination;

/* Provided by the code for the guest's processors */
typedef struct MigrationGuest {
    /* Whether the destination may refuse the guest late */
    bool (*needs_answer)(void);
    /* False with @errp set: postcopy could lose the guest, which is stopped */
    bool (*can_postcopy)(Error **errp);
} MigrationGuest;

/* Call at most once; @guest stays the caller's and must remain valid */
void migration_set_guest(const MigrationGuest *guest);

/*
 * What kind of destination the current migration has.  To be called while
 * device state is being saved.
 */
MigrationDestination migration_destination(void);

/* Fail the migration with @err, which stays the caller's */
void migration_refuse_destination(Error *err);

#endif
