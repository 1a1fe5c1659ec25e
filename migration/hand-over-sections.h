/*
 * Hand-over: do both QEMUs have the same devices?
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

#endif
