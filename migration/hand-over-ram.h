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

/* Number of blocks that hand_over_ram_send() sends */
uint32_t hand_over_ram_count(void);

/*
 * Source: send a message for each block, in the order of the RAM list.  Blocks
 * that are read-only are left out.
 */
bool hand_over_ram_send(HandOverWire *wire, Error **errp);

/*
 * Source: the table of blocks as text, to find out whether it has changed
 * since it was sent.
 */
char *hand_over_ram_table(void);

/*
 * Destination: receive @count blocks, compare each with the one of the same
 * name here, and when all are right, map what came in the place of what was
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

/*
 * Destination: until now nothing can have written to adopted RAM where TCG is
 * the accelerator.  The guest is about to be this process's: it can from here
 * on.  False with @errp set if not.
 */
bool hand_over_ram_take(Error **errp);

/*
 * Source, BQL held, guest stopped: this process can't reach the guest's RAM any
 * more, neither by its addresses nor by descriptors.  What is in its place is
 * empty, and private.  Takes microseconds, however much RAM there is.
 */
void hand_over_ram_put_away(void);

/* BQL held: as if hand_over_ram_put_away() had not been called */
void hand_over_ram_get_back(void);

/* BQL held: what was put away is not needed any more */
void hand_over_ram_forget(void);

#endif
