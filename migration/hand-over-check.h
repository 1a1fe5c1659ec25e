/*
 * Hand-over: what a QEMU that this process starts can't have
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_CHECK_H
#define MIGRATION_HAND_OVER_CHECK_H

#include "qapi/qapi-types-hand-over.h"

/*
 * Main thread: append to the list at @tail what this process can't pass on
 * to a QEMU that it starts, each with the option that it comes from.
 *
 * @own_command_line: it is to be started with this process's command line,
 *                    and so with nothing that came later
 */
void hand_over_check_exec(bool own_command_line, HandOverBlockerList ***tail);

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
