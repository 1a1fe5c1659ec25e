/*
 * The other end of an outgoing migration, and the guest that can't go anywhere
 *
 * Some guests have state that a destination may refuse only when it has all of
 * it (nested state, which the destination's kernel judges).  Their source must
 * not give the guest up before the destination has it: it wants a return path,
 * asked for or not, and learns there what the destination understands.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PROBE_H
#define MIGRATION_PROBE_H

typedef enum MigrationDestination {
    /* a file, a pipe, a snapshot: nobody can answer */
    MIGRATION_DESTINATION_ONE_WAY,
    /* it answers as QEMU 10.0 does */
    MIGRATION_DESTINATION_PLAIN,
    /* it knows the sections of nested state that are new after 10.0 */
    MIGRATION_DESTINATION_NESTED_STATE,
} MigrationDestination;

/* What the code for the guest's processors has to say */
typedef struct MigrationGuest {
    /* Whether the destination may refuse the guest late */
    bool (*needs_answer)(void);
    /* False with @errp set: postcopy could lose the guest, which is stopped */
    bool (*can_postcopy)(Error **errp);
} MigrationGuest;

/* At most one; @guest stays the caller's, and valid for ever */
void migration_set_guest(const MigrationGuest *guest);

/*
 * Who takes the migration that is being saved now.  To be called by what saves
 * device state.
 */
MigrationDestination migration_destination(void);

/* The migration fails because of @err (which is the caller's) */
void migration_refuse_destination(Error *err);

#endif
