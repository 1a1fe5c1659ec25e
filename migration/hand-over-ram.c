/*
 * Hand-over: the guest's RAM stays where it is
 *
 * The source sends the descriptors of its RAM blocks.  The destination maps
 * them over the blocks that it has created itself (hand-over-ram-adopt.c).
 * When the guest leaves, the source puts its own mappings out of its reach
 * (hand-over-ram-away.c).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qemu/error-report.h"
#include "qemu/madvise.h"
#include "qemu/mmap-alloc.h"
#include "qemu/rcu.h"
#include "qapi/error.h"
#include "exec/memory.h"
#include "exec/ram_addr.h"
#include "exec/ramblock.h"
#include "hw/boards.h"
#include "system/hostmem.h"
#include "system/system.h"
#include "hand-over-blockers.h"
#include "hand-over-internal.h"
#include "hand-over-ram-internal.h"
#include "options.h"
#include "ram.h"
#include "trace.h"

bool hand_over_ram_stays(RAMBlock *rb)
{
    return (rb->flags & RAM_READONLY) && rb->fd >= 0;
}

/* It may have been unplugged while the caller has kept the pointer */
bool hand_over_ram_is_there(const RAMBlock *wanted)
{
    RAMBlock *rb;

    RCU_READ_LOCK_GUARD();
    RAMBLOCK_FOREACH(rb) {
        if (rb == wanted) {
            return true;
        }
    }
    return false;
}

size_t hand_over_ram_map_length(RAMBlock *rb)
{
    return ROUND_UP(rb->max_length, rb->page_size);
}

/* As in file_ram_alloc() */
uint32_t hand_over_ram_map_flags(RAMBlock *rb)
{
    return QEMU_MAP_SHARED |
           (rb->flags & RAM_PMEM ? QEMU_MAP_SYNC : 0) |
           (rb->flags & RAM_NORESERVE ? QEMU_MAP_NORESERVE : 0);
}

/* As in ram_block_add() */
void hand_over_ram_advise(RAMBlock *rb, size_t length)
{
    qemu_madvise(rb->host, length, QEMU_MADV_HUGEPAGE);
    qemu_madvise(rb->host, length, QEMU_MADV_DONTFORK);
    if (!machine_dump_guest_core(current_machine)) {
        qemu_madvise(rb->host, length, QEMU_MADV_DONTDUMP);
    }
}

void hand_over_ram_lock_on_fault(bool on)
{
#ifdef HAVE_MLOCK_ONFAULT
    if (should_mlock(mlock_state) && !is_mlock_on_fault(mlock_state)) {
        /* without MCL_CURRENT: memory that is locked stays locked */
        mlockall(MCL_FUTURE | (on ? MCL_ONFAULT : 0));
    }
#endif
}

void hand_over_ram_replace(RAMBlock *rb)
{
    size_t length = hand_over_ram_map_length(rb);

    if (mmap(rb->host, length, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
             -1, 0) == MAP_FAILED) {
        error_report("RAM block '%s': cannot let go of its memory: %s",
                     rb->idstr, strerror(errno));
        /* no guest memory may stay in reach of this process */
        abort();
    }
    qemu_madvise(rb->host, length, QEMU_MADV_DONTFORK);
    rb->fd = -1;
    rb->fd_offset = 0;
    rb->flags &= ~RAM_SHARED;
}

/* The option that makes @rb shareable */
static char *ram_option(RAMBlock *rb)
{
    Object *owner = memory_region_owner(rb->mr);
    MachineClass *mc = MACHINE_GET_CLASS(current_machine);
    const char *id;

    if (owner && object_dynamic_cast(owner, TYPE_MEMORY_BACKEND)) {
        id = object_get_canonical_path_component(owner);
        if (g_strcmp0(id, mc->default_ram_id)) {
            return g_strdup_printf("-object %s,id=%s,share=on",
                                   object_get_typename(owner), id);
        }
    }
    return g_strdup("-machine hand-over=on");
}

void hand_over_ram_check(HandOverBlockerList ***tail)
{
    RAMBlock *rb;

    RCU_READ_LOCK_GUARD();
    RAMBLOCK_FOREACH_MIGRATABLE(rb) {
        g_autofree char *reason = NULL;
        bool by_option = false;
        struct stat st;

        if (hand_over_ram_stays(rb)) {
            continue;
        } else if (rb->guest_memfd >= 0) {
            reason = g_strdup_printf("RAM block '%s' has private pages in a "
                                     "guest_memfd", rb->idstr);
        } else if (rb->flags & RAM_PREALLOC) {
            reason = g_strdup_printf("RAM block '%s' has no memory of its own",
                                     rb->idstr);
        } else if (rb->flags & RAM_READONLY_FD) {
            reason = g_strdup_printf("RAM block '%s' is a private copy of a "
                                     "read-only file", rb->idstr);
        } else if (!qemu_ram_is_shared(rb) || rb->fd < 0) {
            reason = g_strdup_printf("RAM block '%s' is private to this "
                                     "process", rb->idstr);
            by_option = true;
        } else if (fstat(rb->fd, &st) == 0 && S_ISCHR(st.st_mode)) {
            reason = g_strdup_printf("RAM block '%s' is a character device "
                                     "(device DAX), expected a memfd or a "
                                     "regular file", rb->idstr);
        }
        if (reason) {
            g_autofree char *option = by_option ? ram_option(rb) : NULL;

            hand_over_block(tail, option, "%s", reason);
        }
    }
}

uint32_t hand_over_ram_count(void)
{
    uint32_t count = 0;
    RAMBlock *rb;

    RCU_READ_LOCK_GUARD();
    RAMBLOCK_FOREACH_MIGRATABLE(rb) {
        count += !hand_over_ram_stays(rb);
    }
    return count;
}

char *hand_over_ram_table(void)
{
    GString *table = g_string_new(NULL);
    RAMBlock *rb;

    RCU_READ_LOCK_GUARD();
    RAMBLOCK_FOREACH_MIGRATABLE(rb) {
        g_string_append_printf(table, "%s 0x%" PRIx64 "\n", rb->idstr,
                               (uint64_t)rb->used_length);
    }
    return g_string_free(table, false);
}

typedef struct RamToSend {
    HandOverRam ram;
    int fd;
} RamToSend;

static void ram_to_send_clear(void *opaque)
{
    RamToSend *to_send = opaque;

    g_free(to_send->ram.name);
    if (to_send->fd >= 0) {
        close(to_send->fd);
    }
}

bool hand_over_ram_send(HandOverWire *wire, Error **errp)
{
    g_autoptr(GArray) blocks = g_array_new(false, false, sizeof(RamToSend));
    RAMBlock *rb;

    /*
     * Sending takes as long as the peer takes to read, and a block may be
     * unplugged meanwhile.  hand_over_source_stopped() detects that, but by
     * then the descriptor's number could refer to another file.
     */
    g_array_set_clear_func(blocks, ram_to_send_clear);
    WITH_RCU_READ_LOCK_GUARD() {
        RAMBLOCK_FOREACH_MIGRATABLE(rb) {
            RamToSend to_send = {
                .ram = {
                    .name = g_strdup(rb->idstr),
                    .size = rb->used_length,
                    .max_size = rb->max_length,
                    .page_size = rb->page_size,
                    .offset = rb->fd_offset,
                },
                .fd = -1,
            };

            if (hand_over_ram_stays(rb)) {
                g_free(to_send.ram.name);
                continue;
            }
            to_send.fd = qemu_dup(rb->fd);
            g_array_append_val(blocks, to_send);
        }
    }
    for (guint i = 0; i < blocks->len; i++) {
        RamToSend *to_send = &g_array_index(blocks, RamToSend, i);
        HandOverMessage msg = {
            .type = HAND_OVER_MESSAGE_TYPE_RAM,
            .u.ram = to_send->ram,
        };

        trace_hand_over_ram_send(to_send->ram.name, to_send->ram.size,
                                 to_send->fd);
        if (to_send->fd < 0) {
            error_setg(errp, "RAM block '%s': cannot duplicate its descriptor",
                       to_send->ram.name);
            return false;
        }
        if (!hand_over_send(wire, &msg, to_send->fd, errp)) {
            return false;
        }
    }
    return true;
}

bool hand_over_is_mode(void)
{
    return migrate_mode() == MIG_MODE_HAND_OVER;
}
