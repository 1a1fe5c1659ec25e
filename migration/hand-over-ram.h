/*
 * Hand-over: the guest's RAM stays where it is
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_RAM_H
#define MIGRATION_HAND_OVER_RAM_H

#include "hand-over-wire.h"

/* Source: append what keeps RAM from being shared to the list at @tail */
void hand_over_ram_check(HandOverBlockerList ***tail);

/* Source: number of blocks that hand_over_ram_send() sends */
uint32_t hand_over_ram_count(void);

/* Source: send a message for each block, in the order of the RAM list */
bool hand_over_ram_send(HandOverWire *wire, Error **errp);

/*
 * Source: the table of blocks as text, to find out whether it has changed
 * since it was sent.
 */
char *hand_over_ram_table(void);

/*
 * Destination: receive @count blocks, compare each with its counterpart
 * here, and when all are right, map what came in the place of what was
 * there.  Host addresses stay as they are.  Only while the guest does not
 * run here, with the BQL held.
 * Returns false with @errp set; hand_over_ram_release() undoes what was done.
 */
bool coroutine_mixed_fn hand_over_ram_adopt(HandOverWire *wire, uint32_t count,
                                            Error **errp);

/*
 * Destination: let go of all adopted RAM.  What is mapped afterwards is
 * empty, and nobody else's.
 */
void hand_over_ram_release(void);

#endif
