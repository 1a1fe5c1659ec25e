/*
 * Hand-over: the guest's RAM stays where it is
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_RAM_H
#define MIGRATION_HAND_OVER_RAM_H

#include "hand-over-wire.h"

/* Source: append everything that prevents sharing RAM to the list at @tail */
void hand_over_ram_check(HandOverBlockerList ***tail);

/* Number of blocks that hand_over_ram_send() sends */
uint32_t hand_over_ram_count(void);

/*
 * Source: send a message for each block, in the order of the RAM list.
 * Read-only blocks are left out.
 */
bool hand_over_ram_send(HandOverWire *wire, Error **errp);

/*
 * Source: the table of blocks as text, to detect whether it has changed since
 * it was sent.
 */
char *hand_over_ram_table(void);

/*
 * Destination: receive @count blocks, compare each with the one of the same
 * name here, and if all of them match, map the received memory in place of
 * the existing one.  Host addresses do not change.  Only while the guest does
 * not run here, with the BQL held.
 * Returns false with @errp set; hand_over_ram_release() undoes what was done.
 */
bool coroutine_mixed_fn hand_over_ram_adopt(HandOverWire *wire, uint32_t count,
                                            Error **errp);

/*
 * Destination: let go of all adopted RAM.  It is replaced by empty private
 * memory.
 */
void hand_over_ram_release(void);

/*
 * Destination: the guest is about to belong to this process.  Make adopted RAM
 * writable, which with TCG it has not been until now.  False with @errp set on
 * failure.
 */
bool hand_over_ram_take(Error **errp);

/*
 * Source, BQL held, guest stopped: put the guest's RAM out of reach of this
 * process, both by its addresses and by descriptors.  It is replaced by empty
 * private memory.  Takes microseconds, regardless of the amount of RAM.
 */
void hand_over_ram_put_away(void);

/* BQL held: undo hand_over_ram_put_away() */
void hand_over_ram_get_back(void);

/* BQL held: drop what was put away, which is not needed any more */
void hand_over_ram_forget(void);

#endif
