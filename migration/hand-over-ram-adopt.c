/*
 * Hand-over: the destination adopts the guest's RAM
 *
 * The memory that the source sends is mapped over the blocks that this process
 * has created itself.  That does not change a block's host address: anything
 * derived from it (memory slots of an accelerator, pointers of devices) stays
 * valid.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qemu/cutils.h"
#include "qemu/mmap-alloc.h"
#include "qemu/rcu.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "exec/memory.h"
#include "exec/ram_addr.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "system/hostmem.h"
#include "system/system.h"
#include "system/tcg.h"
#include "hand-over-internal.h"
#include "hand-over-ram-internal.h"
#include "ram.h"
#include "trace.h"

/* A received "ram" message */
typedef struct RamOffer {
    HandOverMessage *msg;
    RAMBlock *rb;       /* valid until the coroutine yields */
    int fd;
    struct stat st;
} RamOffer;

/* Blocks that are mapped from the source's descriptors: GSList of RAMBlock */
static GSList *adopted_blocks;

static bool ram_check_fd(RamOffer *offer, Error **errp)
{
    const HandOverRam *ram = &offer->msg->u.ram;
    RAMBlock *rb = offer->rb;
    size_t length = hand_over_ram_map_length(rb);
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
    /* fails for a file that can't be sealed, and so is not */
    seals = fcntl(offer->fd, F_GET_SEALS);
    if (seals > 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))) {
        error_setg(errp, "RAM block '%s': its memory is sealed against "
                   "writing", rb->idstr);
        return false;
    }
    if (ram->offset % rb->page_size) {
        error_setg(errp, "RAM block '%s': offset 0x%" PRIx64 " is not a "
                   "multiple of its page size 0x%zx", rb->idstr,
                   ram->offset, rb->page_size);
        return false;
    }
    if (qemu_fd_getpagesize(offer->fd) != rb->page_size) {
        error_setg(errp, "RAM block '%s': its memory has pages of 0x%zx "
                   "bytes, expected 0x%zx", rb->idstr,
                   qemu_fd_getpagesize(offer->fd), rb->page_size);
        return false;
    }
    if (ram->offset > offer->st.st_size ||
        length > offer->st.st_size - ram->offset) {
        /*
         * A resizeable block may have a larger maximum in a newer version of
         * its device.  What the source has mapped stays.
         */
        if (!(rb->flags & RAM_RESIZEABLE) ||
            ram->offset + length < length ||
            ram->max_size > offer->st.st_size - ram->offset ||
            ftruncate(offer->fd, ram->offset + length) < 0) {
            error_setg(errp, "RAM block '%s': its memory ends at 0x%" PRIx64
                       ", expected 0x%" PRIx64, rb->idstr,
                       (uint64_t)offer->st.st_size, ram->offset + length);
            return false;
        }
    }
    return true;
}

/* Blocks are matched by name, as for an ordinary migration */
static bool ram_check(RamOffer *offer, Error **errp)
{
    const HandOverRam *ram = &offer->msg->u.ram;
    RAMBlock *rb = qemu_ram_block_by_name(ram->name);

    if (!*ram->name || !rb) {
        error_setg(errp, "RAM block '%s' of the source does not exist here",
                   ram->name);
        return false;
    }
    if (hand_over_ram_stays(rb)) {
        error_setg(errp, "RAM block '%s' is read-only here, and not at the "
                   "source", ram->name);
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
    return ram_check_fd(offer, errp);
}

/* Order by file, then by offset in the file */
static gint ram_offer_compare(gconstpointer pa, gconstpointer pb)
{
    const RamOffer *a = pa, *b = pb;

    if (a->st.st_dev != b->st.st_dev) {
        return a->st.st_dev < b->st.st_dev ? -1 : 1;
    }
    if (a->st.st_ino != b->st.st_ino) {
        return a->st.st_ino < b->st.st_ino ? -1 : 1;
    }
    return a->msg->u.ram.offset < b->msg->u.ram.offset ? -1 :
           a->msg->u.ram.offset > b->msg->u.ram.offset;
}

/* Each of the source's blocks must come once, and no two may overlap */
static bool ram_check_all(GArray *offers, Error **errp)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < offers->len; i++) {
        RamOffer *offer = &g_array_index(offers, RamOffer, i);

        /* Check again: the block may have been unplugged since it came */
        if (!ram_check(offer, errp)) {
            return false;
        }
        if (!g_hash_table_add(names, offer->msg->u.ram.name)) {
            error_setg(errp, "RAM block '%s' came twice",
                       offer->msg->u.ram.name);
            return false;
        }
    }
    g_array_sort(offers, ram_offer_compare);
    for (guint i = 1; i < offers->len; i++) {
        RamOffer *a = &g_array_index(offers, RamOffer, i - 1);
        RamOffer *b = &g_array_index(offers, RamOffer, i);

        if (a->st.st_dev == b->st.st_dev && a->st.st_ino == b->st.st_ino &&
            b->msg->u.ram.offset - a->msg->u.ram.offset <
            hand_over_ram_map_length(a->rb)) {
            error_setg(errp, "RAM blocks '%s' and '%s' are the same memory",
                       a->rb->idstr, b->rb->idstr);
            return false;
        }
    }
    return true;
}

/*
 * May adopted RAM be write-protected until the guest belongs to this process?
 * A device model that writes too early then gets SIGSEGV, and the guest goes on
 * at the source.
 *
 * Not with KVM: KVM_SET_MSRS writes to guest memory, and fails for some MSRs if
 * it can't (Linux 6.12, arch/x86/kvm: the hypercall page in
 * kvm_hv_set_msr_pw(), the VP assist page in kvm_hv_set_msr()).  Nor if memory
 * is locked: its pages are mapped at once, and making all of them writable
 * would add to the downtime.
 */
static bool ram_may_be_protected(void)
{
    return tcg_enabled() && !should_mlock(mlock_state);
}

static HostMemoryBackend *ram_backend(RAMBlock *rb)
{
    Object *owner = memory_region_owner(rb->mr);

    return owner ? (HostMemoryBackend *)
                   object_dynamic_cast(owner, TYPE_MEMORY_BACKEND) : NULL;
}

static bool ram_map(RamOffer *offer, Error **errp)
{
    RAMBlock *rb = offer->rb;
    HostMemoryBackend *backend = ram_backend(rb);
    uint64_t offset = offer->msg->u.ram.offset;
    uint64_t size = offer->msg->u.ram.size;
    size_t length = hand_over_ram_map_length(rb);
    uint32_t flags;
    void *p;

    if (backend && host_memory_backend_reserve_deferred(backend)) {
        rb->flags &= ~RAM_NORESERVE;
    }
    flags = hand_over_ram_map_flags(rb);
    if (ram_may_be_protected()) {
        flags |= QEMU_MAP_READONLY;
    }

    /*
     * If this fails, the old mapping is still in place.  MAP_FIXED does not
     * guarantee that.
     */
    p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, offer->fd,
             offset);
    if (p != MAP_FAILED) {
        munmap(p, length);
        p = qemu_ram_mmap_over(rb->host, offer->fd, length, flags, offset);
    }
    if (p == MAP_FAILED) {
        error_setg_errno(errp, errno, "RAM block '%s': cannot map 0x%zx bytes",
                         rb->idstr, length);
        return false;
    }
    hand_over_ram_advise(rb, length);

    /*
     * Other code may have recorded the number of the block's descriptor (CPR
     * does): keep it.
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
    rb->fd_offset = offset;
    rb->flags |= RAM_SHARED;
    adopted_blocks = g_slist_prepend(adopted_blocks, rb);
    trace_hand_over_ram_adopt(rb->idstr, size, rb->fd);

    return (!backend || host_memory_backend_mapped_again(backend, errp)) &&
           qemu_ram_resize(rb, size, errp) == 0;
}

static void ram_offer_clear(void *opaque)
{
    RamOffer *offer = opaque;

    qapi_free_HandOverMessage(offer->msg);
    if (offer->fd >= 0) {
        close(offer->fd);
    }
}

static bool ram_check_count(uint32_t count, Error **errp)
{
    if (count != hand_over_ram_count()) {
        error_setg(errp, "the source has %u RAM blocks, there are %u here",
                   count, hand_over_ram_count());
        return false;
    }
    return true;
}

bool coroutine_mixed_fn hand_over_ram_adopt(HandOverWire *wire, uint32_t count,
                                            Error **errp)
{
    g_autoptr(GArray) offers = g_array_new(false, true, sizeof(RamOffer));

    g_array_set_clear_func(offers, ram_offer_clear);

    if (!ram_check_count(count, errp)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        RamOffer offer = { .fd = -1 };

        offer.msg = hand_over_recv(wire, HAND_OVER_MESSAGE_TYPE_RAM, -1,
                                   &offer.fd, NULL, errp);
        if (!offer.msg) {
            return false;
        }
        g_array_append_val(offers, offer);
        if (!ram_check(&g_array_index(offers, RamOffer, i), errp)) {
            return false;
        }
    }

    /* the coroutine does not yield from here on */
    if (!ram_check_count(count, errp) || !ram_check_all(offers, errp)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!ram_map(&g_array_index(offers, RamOffer, i), errp)) {
            return false;
        }
    }
    return true;
}

bool hand_over_ram_take(Error **errp)
{
    GSList *l;

    for (l = adopted_blocks; l && ram_may_be_protected(); l = l->next) {
        RAMBlock *rb = l->data;

        if (hand_over_ram_is_there(rb) &&
            mprotect(rb->host, hand_over_ram_map_length(rb),
                     PROT_READ | PROT_WRITE)) {
            error_setg_errno(errp, errno, "RAM block '%s': cannot make its "
                             "memory writable", rb->idstr);
            return false;
        }
    }
    return true;
}

void hand_over_ram_release(void)
{
    GSList *l;

    hand_over_ram_lock_on_fault(true);
    for (l = adopted_blocks; l; l = l->next) {
        RAMBlock *rb = l->data;

        if (hand_over_ram_is_there(rb)) {
            int fd = rb->fd;

            hand_over_ram_replace(rb);
            close(fd);
        }
    }
    g_slist_free(adopted_blocks);
    adopted_blocks = NULL;
}
