/*
 * Hand-over: internals shared by the files that deal with guest RAM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_RAM_INTERNAL_H
#define MIGRATION_HAND_OVER_RAM_INTERNAL_H

#include "exec/ramblock.h"
#include "hand-over-ram.h"

/*
 * A block that is never written to need not be adopted: each side has its own
 * mapping of the file.
 */
bool hand_over_ram_stays(RAMBlock *rb);

/* Does block @wanted, which may have been freed meanwhile, still exist? */
bool hand_over_ram_is_there(const RAMBlock *wanted);

/* Bytes of its file that a block's mapping covers (file_ram_alloc()) */
size_t hand_over_ram_map_length(RAMBlock *rb);

/* The flags (QEMU_MAP_*) of its mapping, as in file_ram_alloc() */
uint32_t hand_over_ram_map_flags(RAMBlock *rb);

/* Apply the block's madvise() settings to @length newly mapped bytes */
void hand_over_ram_advise(RAMBlock *rb, size_t length);

/*
 * -overcommit mem-lock=on: locked memory is populated at once, but the memory
 * that replaces guest RAM must not be
 */
void hand_over_ram_lock_on_fault(bool on);

/* Replace the memory of @rb by empty private memory */
void hand_over_ram_replace(RAMBlock *rb);

#endif
