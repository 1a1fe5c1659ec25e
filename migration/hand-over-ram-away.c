/*
 * Hand-over: put RAM of a guest that is leaving out of the source's reach
 *
 * It is replaced by empty private memory.  The mappings are moved, which takes
 * microseconds, rather than unmapped, which takes longer the more memory they
 * map.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qemu/error-report.h"
#include "qemu/mmap-alloc.h"
#include "qemu/rcu.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "exec/memory.h"
#include "exec/ram_addr.h"
#include "exec/ramblock.h"
#include "hand-over-ram-internal.h"
#include "ram.h"
#include "trace.h"

/* A block whose memory this process can't reach for the time being */
typedef struct RamAway {
    RAMBlock *rb;
    size_t length;
    void *parked;       /* where its mapping is now; MAP_FAILED: unmapped */
    int fd;
    uint64_t fd_offset;
    uint32_t flags;
} RamAway;

/* Of RamAway; NULL if no RAM is put away */
static GArray *away_blocks;

/*
 * Page tables are moved as a whole, regardless of how much they map, if the old
 * and the new address are congruent modulo the size that a table covers (Linux,
 * mm/mremap.c: move_page_tables()).  Unmapping gigabytes takes tens of
 * milliseconds.
 */
#define PARK_ALIGN  (1 * GiB)

/* Returns where @rb's mapping is now; MAP_FAILED if the kernel can't move it */
static void *ram_park(RAMBlock *rb, size_t length)
{
#if defined(MREMAP_DONTUNMAP) && HOST_LONG_BITS == 64
    size_t shift = (uintptr_t)rb->host & (PARK_ALIGN - 1);
    void *area, *parked;

    area = mmap(NULL, length + 2 * PARK_ALIGN, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) {
        return MAP_FAILED;
    }
    parked = (void *)ROUND_UP((uintptr_t)area, PARK_ALIGN) + shift;
    /*
     * The old address must not be free even for a moment, or another thread's
     * mapping could end up there.
     */
    if (mremap(rb->host, length, length,
               MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
               parked) == MAP_FAILED) {
        munmap(area, length + 2 * PARK_ALIGN);
        return MAP_FAILED;
    }
    munmap(area, parked - area);
    munmap(parked + length, area + 2 * PARK_ALIGN - parked);
    return parked;
#else
    return MAP_FAILED;
#endif
}

void hand_over_ram_put_away(void)
{
    RAMBlock *rb;

    assert(!away_blocks);
    away_blocks = g_array_new(false, false, sizeof(RamAway));
    hand_over_ram_lock_on_fault(true);
    RCU_READ_LOCK_GUARD();
    RAMBLOCK_FOREACH_MIGRATABLE(rb) {
        RamAway away = {
            .rb = rb,
            .length = hand_over_ram_map_length(rb),
            .fd = rb->fd,
            .fd_offset = rb->fd_offset,
            .flags = rb->flags,
        };

        if (hand_over_ram_stays(rb)) {
            continue;
        }
        away.parked = ram_park(rb, away.length);
        hand_over_ram_replace(rb);
        trace_hand_over_ram_put_away(rb->idstr, away.parked != MAP_FAILED);
        g_array_append_val(away_blocks, away);
    }
}

void hand_over_ram_get_back(void)
{
    if (away_blocks) {
        hand_over_ram_lock_on_fault(false);
    }
    for (guint i = 0; away_blocks && i < away_blocks->len; i++) {
        RamAway *away = &g_array_index(away_blocks, RamAway, i);
        RAMBlock *rb = away->rb;
        void *p;

        if (!hand_over_ram_is_there(rb)) {
            continue;
        }
        rb->fd = away->fd;
        rb->fd_offset = away->fd_offset;
        rb->flags = away->flags;
        if (away->parked != MAP_FAILED) {
            p = mremap(away->parked, away->length, away->length,
                       MREMAP_MAYMOVE | MREMAP_FIXED, rb->host);
        } else {
            p = qemu_ram_mmap_over(rb->host, rb->fd, away->length,
                                   hand_over_ram_map_flags(rb), rb->fd_offset);
            if (p != MAP_FAILED) {
                hand_over_ram_advise(rb, away->length);
            }
        }
        if (p == MAP_FAILED) {
            error_report("RAM block '%s': cannot map its memory again: %s",
                         rb->idstr, strerror(errno));
            /* the memory in its place is not the guest's */
            abort();
        }
        away->parked = MAP_FAILED;
        away->fd = -1;
    }
    /* free what is left of blocks that have been unplugged meanwhile */
    hand_over_ram_forget();
}

static void *ram_forget_thread(void *opaque)
{
    GArray *blocks = opaque;

    for (guint i = 0; i < blocks->len; i++) {
        RamAway *away = &g_array_index(blocks, RamAway, i);

        if (away->parked != MAP_FAILED) {
            munmap(away->parked, away->length);
        }
        if (away->fd >= 0) {
            close(away->fd);
        }
    }
    g_array_unref(blocks);
    return NULL;
}

void hand_over_ram_forget(void)
{
    GArray *blocks = g_steal_pointer(&away_blocks);
    QemuThread thread;

    if (blocks) {
        /* Unmapping takes time, so do it in the background */
        qemu_thread_create(&thread, "hand-over-ram", ram_forget_thread, blocks,
                           QEMU_THREAD_DETACHED);
    }
}
