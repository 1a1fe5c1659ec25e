/*
 * Hand-over: has the guest become another machine since it was asked for?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_CHANGES_H
#define MIGRATION_HAND_OVER_CHANGES_H

/*
 * Remember what the guest consists of now: CPUs, RAM blocks, device state, the
 * images behind its drives.  BQL held.
 */
void hand_over_changes_begin(void);

/*
 * Is all of it as it was at hand_over_changes_begin()?  False with @errp set to
 * what is not.  BQL held.
 */
bool hand_over_changes_none(Error **errp);

#endif
