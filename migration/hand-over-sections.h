/*
 * Hand-over: do both QEMUs have the same devices and images?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_SECTIONS_H
#define MIGRATION_HAND_OVER_SECTIONS_H

#include "qapi/qapi-types-hand-over.h"

/*
 * Source: the sections of the migration stream.  BQL held; to be freed with
 * qapi_free_HandOverSectionList().
 */
HandOverSectionList *hand_over_sections(void);

/*
 * Destination: false with @errp set if a section of @theirs can't be loaded
 * here, or if there is a device here that the source does not have.
 */
bool hand_over_sections_match(const HandOverSectionList *theirs, Error **errp);

/*
 * BQL held: the images of all drives, to be freed with
 * qapi_free_HandOverDriveList().
 */
HandOverDriveList *hand_over_drives(void);

/*
 * Main thread: false with @errp set if a drive of @theirs has another image
 * here, or does not exist.
 */
bool hand_over_drives_match(const HandOverDriveList *theirs, Error **errp);

#endif
