/*
 * Hand-over: has the guest become another machine since it was offered?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_CHANGES_H
#define MIGRATION_HAND_OVER_CHANGES_H

/*
 * What the guest consists of now: CPUs, RAM blocks, device state, the images
 * behind its drives.  BQL held.  To be freed with g_hash_table_unref().
 */
GHashTable *hand_over_parts(void);

/* False with @errp set to a part that was not the same @then as it is @now */
bool hand_over_parts_same(GHashTable *then, GHashTable *now, Error **errp);

#endif
