/*
 * Hand-over: the guest's RAM stays where it is
 *
 * The source sends the descriptors of its RAM blocks, the destination maps
 * them over the blocks that it has created itself.  A block's host address
 * does not change by that: what was derived from it (memory slots of an
 * accelerator, pointers of devices) stays valid.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/madvise.h"
#include "qemu/mmap-alloc.h"
#include "qemu/rcu.h"
#include "qapi/error.h"
#include "exec/memory.h"
#include "exec/ram_addr.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "hw/boards.h"
#include "system/hostmem.h"
#include "hand-over-internal.h"
#include "hand-over-ram.h"
#include "ram.h"
#include "trace.h"

/* What came in a "ram" message */
typedef struct RamOffer {
    RAMBlock *rb;
    int fd;
    uint64_t offset;
    uint64_t size;
    struct stat st;
} RamOffer;

/* Blocks that are mapped from somebody else's descriptor: GSList of RAMBlock */
static GSList *adopted_blocks;

/* The option which makes @rb shareable */
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

        if (rb->guest_memfd >= 0) {
            reason = g_strdup_printf("RAM block '%s' has private pages in a "
                                     "guest_memfd", rb->idstr);
        } else if (rb->flags & RAM_PREALLOC) {
            reason = g_strdup_printf("RAM block '%s' is no memory of its own",
                                     rb->idstr);
        } else if (!qemu_ram_is_shared(rb) || rb->fd < 0) {
            reason = g_strdup_printf("RAM block '%s' is private to this "
                                     "process", rb->idstr);
            by_option = true;
        } else if (rb->flags & (RAM_READONLY | RAM_READONLY_FD)) {
            reason = g_strdup_printf("RAM block '%s' is mapped read-only",
                                     rb->idstr);
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
        count++;
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

bool hand_over_ram_send(HandOverWire *wire, Error **errp)
{
    g_autoptr(GPtrArray) blocks = g_ptr_array_new();
    RAMBlock *rb;

    /* No block comes or goes meanwhile: a migration is running */
    WITH_RCU_READ_LOCK_GUARD() {
        RAMBLOCK_FOREACH_MIGRATABLE(rb) {
            g_ptr_array_add(blocks, rb);
        }
    }
    for (guint i = 0; i < blocks->len; i++) {
        HandOverMessage msg = { .type = HAND_OVER_MESSAGE_TYPE_RAM };

        rb = g_ptr_array_index(blocks, i);
        msg.u.ram = (HandOverRam) {
            .name = rb->idstr,
            .size = rb->used_length,
            .max_size = rb->max_length,
            .page_size = rb->page_size,
            .offset = rb->fd_offset,
        };
        trace_hand_over_ram_send(rb->idstr, rb->used_length, rb->fd);
        if (!hand_over_send(wire, &msg, rb->fd, errp)) {
            return false;
        }
    }
    return true;
}

/* How many bytes of its file a block's mapping covers (file_ram_alloc()) */
static size_t ram_map_length(RAMBlock *rb)
{
    return ROUND_UP(rb->max_length, rb->page_size);
}

static bool ram_check_fd(RamOffer *offer, const HandOverRam *ram, Error **errp)
{
    RAMBlock *rb = offer->rb;
    size_t length = ram_map_length(rb);
    int flags, seals;

    if (fstat(offer->fd, &offer->st) < 0) {
        error_setg_errno(errp, errno, "RAM block '%s': cannot examine its "
                         "descriptor", rb->idstr);
        return false;
    }
    if (!S_ISREG(offer->st.st_mode)) {
        error_setg(errp, "RAM block '%s': its descriptor (file type 0%o) is "
                   "not shareable memory: expected a memfd or a regular file",
                   rb->idstr, offer->st.st_mode & S_IFMT);
        return false;
    }
    flags = fcntl(offer->fd, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) != O_RDWR) {
        error_setg(errp, "RAM block '%s': its descriptor is not open for "
                   "reading and writing", rb->idstr);
        return false;
    }
    /* fails for a file that can't be sealed: then it isn't */
    seals = fcntl(offer->fd, F_GET_SEALS);
    if (seals > 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))) {
        error_setg(errp, "RAM block '%s': its memory is sealed against "
                   "writing", rb->idstr);
        return false;
    }
    if (offer->offset % rb->page_size) {
        error_setg(errp, "RAM block '%s': offset 0x%" PRIx64 " is not a "
                   "multiple of its page size 0x%zx", rb->idstr,
                   offer->offset, rb->page_size);
        return false;
    }
    if (qemu_fd_getpagesize(offer->fd) != rb->page_size) {
        error_setg(errp, "RAM block '%s': its memory has pages of 0x%zx "
                   "bytes, expected 0x%zx", rb->idstr,
                   qemu_fd_getpagesize(offer->fd), rb->page_size);
        return false;
    }
    if (offer->offset > offer->st.st_size ||
        length > offer->st.st_size - offer->offset) {
        /*
         * A resizeable block may grow further in a newer version of its
         * device.  What the source has mapped stays.
         */
        if (!(rb->flags & RAM_RESIZEABLE) ||
            offer->offset + length < length ||
            ram->max_size > offer->st.st_size - offer->offset ||
            ftruncate(offer->fd, offer->offset + length) < 0) {
            error_setg(errp, "RAM block '%s': its memory ends at 0x%" PRIx64
                       ", expected 0x%" PRIx64, rb->idstr,
                       (uint64_t)offer->st.st_size, offer->offset + length);
            return false;
        }
    }
    return true;
}

/* @rb: the block in the same place of the table here, NULL at its end */
static bool ram_check(RAMBlock *rb, uint32_t index, const HandOverRam *ram,
                      RamOffer *offer, Error **errp)
{
    if (!rb || strcmp(rb->idstr, ram->name)) {
        if (qemu_ram_block_by_name(ram->name)) {
            error_setg(errp, "RAM block %u is '%s' at the source, and '%s' "
                       "here: the order differs", index, ram->name,
                       rb ? rb->idstr : "none");
        } else {
            error_setg(errp, "RAM block '%s' of the source does not exist "
                       "here", ram->name);
        }
        return false;
    }
    if (rb->flags & RAM_PREALLOC || rb->guest_memfd >= 0) {
        error_setg(errp, "RAM block '%s' can't be replaced here", rb->idstr);
        return false;
    }
    if (ram->page_size != rb->page_size) {
        error_setg(errp, "RAM block '%s' has pages of 0x%" PRIx64 " bytes at "
                   "the source, and of 0x%zx here", rb->idstr, ram->page_size,
                   rb->page_size);
        return false;
    }
    if (ram->size > rb->max_length ||
        (ram->size != rb->used_length && !(rb->flags & RAM_RESIZEABLE))) {
        error_setg(errp, "RAM block '%s' has 0x%" PRIx64 " bytes at the "
                   "source, and 0x%" PRIx64 " here", rb->idstr, ram->size,
                   (uint64_t)(rb->flags & RAM_RESIZEABLE ? rb->max_length
                                                         : rb->used_length));
        return false;
    }
    if (ram->size == 0 || ram->size > ram->max_size ||
        !QEMU_IS_ALIGNED(ram->size, qemu_target_page_size())) {
        error_setg(errp, "RAM block '%s': size 0x%" PRIx64 " is not one: "
                   "expected a multiple of 0x%x up to 0x%" PRIx64, rb->idstr,
                   ram->size, (unsigned)qemu_target_page_size(), ram->max_size);
        return false;
    }
    offer->rb = rb;
    offer->offset = ram->offset;
    offer->size = ram->size;
    return ram_check_fd(offer, ram, errp);
}

/* No two blocks may be the same memory */
static bool ram_check_overlap(const RamOffer *a, const RamOffer *b,
                              Error **errp)
{
    if (a->st.st_dev == b->st.st_dev && a->st.st_ino == b->st.st_ino &&
        a->offset < b->offset + ram_map_length(b->rb) &&
        b->offset < a->offset + ram_map_length(a->rb)) {
        error_setg(errp, "RAM blocks '%s' and '%s' are the same memory",
                   a->rb->idstr, b->rb->idstr);
        return false;
    }
    return true;
}

static bool ram_map(RamOffer *offer, Error **errp)
{
    RAMBlock *rb = offer->rb;
    size_t length = ram_map_length(rb);
    void *p;

    /*
     * Where this fails the old mapping is still there.  MAP_FIXED gives no
     * such promise.
     */
    p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, offer->fd,
             offer->offset);
    if (p != MAP_FAILED) {
        munmap(p, length);
        p = mmap(rb->host, length, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED, offer->fd, offer->offset);
    }
    if (p == MAP_FAILED) {
        error_setg_errno(errp, errno, "RAM block '%s': cannot map 0x%zx bytes",
                         rb->idstr, length);
        return false;
    }

    /* As ram_block_add() does for a block of its own */
    qemu_madvise(rb->host, length, QEMU_MADV_HUGEPAGE);
    qemu_madvise(rb->host, length, QEMU_MADV_DONTFORK);
    if (!machine_dump_guest_core(current_machine)) {
        qemu_madvise(rb->host, length, QEMU_MADV_DONTDUMP);
    }

    /*
     * Others may have noted the number of the block's descriptor (CPR has):
     * it stays the same.
     */
    if (rb->fd >= 0) {
        if (dup3(offer->fd, rb->fd, O_CLOEXEC) < 0) {
            error_setg_errno(errp, errno, "RAM block '%s': cannot keep its "
                             "descriptor", rb->idstr);
            return false;
        }
    } else {
        rb->fd = offer->fd;
        offer->fd = -1;
    }
    rb->fd_offset = offer->offset;
    rb->flags |= RAM_SHARED;
    adopted_blocks = g_slist_prepend(adopted_blocks, rb);
    trace_hand_over_ram_adopt(rb->idstr, offer->size, rb->fd);

    return qemu_ram_resize(rb, offer->size, errp) == 0;
}

static void ram_offer_clear(void *opaque)
{
    RamOffer *offer = opaque;

    if (offer->fd >= 0) {
        close(offer->fd);
    }
}

static RAMBlock *ram_block_next(RAMBlock *rb)
{
    RAMBlock *next;

    RAMBLOCK_FOREACH_MIGRATABLE(next) {
        if (!rb) {
            return next;
        }
        if (next == rb) {
            rb = NULL;
        }
    }
    return NULL;
}

bool coroutine_mixed_fn hand_over_ram_adopt(HandOverWire *wire, uint32_t count,
                                            Error **errp)
{
    g_autoptr(GArray) offers = g_array_new(false, true, sizeof(RamOffer));
    RAMBlock *rb = NULL;

    g_array_set_clear_func(offers, ram_offer_clear);

    if (count != hand_over_ram_count()) {
        error_setg(errp, "the source has %u RAM blocks, there are %u here",
                   count, hand_over_ram_count());
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        g_autoptr(HandOverMessage) msg = NULL;
        RamOffer *offer;
        int fd;

        msg = hand_over_recv(wire, HAND_OVER_MESSAGE_TYPE_RAM, -1, &fd, NULL,
                             errp);
        if (!msg) {
            return false;
        }
        g_array_set_size(offers, i + 1);
        offer = &g_array_index(offers, RamOffer, i);
        offer->fd = fd;

        rb = ram_block_next(rb);
        if (!ram_check(rb, i, &msg->u.ram, offer, errp)) {
            return false;
        }
        for (uint32_t j = 0; j < i; j++) {
            if (!ram_check_overlap(&g_array_index(offers, RamOffer, j), offer,
                                   errp)) {
                return false;
            }
        }
    }

    for (uint32_t i = 0; i < count; i++) {
        if (!ram_map(&g_array_index(offers, RamOffer, i), errp)) {
            return false;
        }
    }
    return true;
}

void hand_over_ram_release(void)
{
    GSList *l;

    for (l = adopted_blocks; l; l = l->next) {
        RAMBlock *rb = l->data;

        if (mmap(rb->host, ram_map_length(rb), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
                 -1, 0) == MAP_FAILED) {
            error_report("RAM block '%s': cannot let go of its memory: %s",
                         rb->idstr, strerror(errno));
            /* nothing of the guest may stay in reach of this process */
            abort();
        }
        close(rb->fd);
        rb->fd = -1;
        rb->fd_offset = 0;
        rb->flags &= ~RAM_SHARED;
    }
    g_slist_free(adopted_blocks);
    adopted_blocks = NULL;
}
