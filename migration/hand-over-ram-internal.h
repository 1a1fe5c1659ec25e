/*
 * Hand-over: what the files about the guest's RAM share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_RAM_INTERNAL_H
#define MIGRATION_HAND_OVER_RAM_INTERNAL_H

#include "exec/ramblock.h"
#include "hand-over-ram.h"

/*
 * A block that nobody writes to needs no adopting: each side has its own
 * mapping of the file.
 */
bool hand_over_ram_stays(RAMBlock *rb);

/* Does block @wanted, which may have been freed meanwhile, still exist? */
bool hand_over_ram_is_there(const RAMBlock *wanted);

/* How many bytes of its file a block's mapping covers (file_ram_alloc()) */
size_t hand_over_ram_map_length(RAMBlock *rb);

/* The flags (QEMU_MAP_*) of its mapping, as file_ram_alloc() has them */
uint32_t hand_over_ram_map_flags(RAMBlock *rb);

/* What is to be said to the kernel of @length bytes that were mapped anew */
void hand_over_ram_advise(RAMBlock *rb, size_t length);

/*
 * -overcommit mem-lock=on: locked pages are there from the beginning; but what
 * comes in the place of a guest's memory is not to take as much
 */
void hand_over_ram_lock_on_fault(bool on);

/* What @rb has from now on is empty, and nobody else's */
void hand_over_ram_replace(RAMBlock *rb);

#endif
