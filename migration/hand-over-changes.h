/*
 * Hand-over: has the guest's machine changed since the request?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_CHANGES_H
#define MIGRATION_HAND_OVER_CHANGES_H

/*
 * Record the machine's current composition: CPUs, RAM blocks, device state,
 * and the images behind its drives.  BQL held.
 */
void hand_over_changes_begin(void);

/*
 * Is all of it as it was at hand_over_changes_begin()?  False with @errp set
 * to the difference.  BQL held.
 */
bool hand_over_changes_none(Error **errp);

#endif
