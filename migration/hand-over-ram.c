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
#include "qemu/thread.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "exec/memory.h"
#include "exec/ram_addr.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "hw/boards.h"
#include "system/hostmem.h"
#include "system/system.h"
#include "system/tcg.h"
#include "hand-over-internal.h"
#include "hand-over-ram.h"
#include "options.h"
#include "ram.h"
#include "trace.h"

/* What came in a "ram" message */
typedef struct RamOffer {
    HandOverMessage *msg;
    RAMBlock *rb;       /* valid as long as nothing yields */
    int fd;
    struct stat st;
} RamOffer;

/* A block whose memory this process can't reach for the time being */
typedef struct RamAway {
    RAMBlock *rb;
    size_t length;
    void *parked;       /* where its mapping is now, MAP_FAILED: nowhere */
    int fd;
    uint64_t fd_offset;
    uint32_t flags;
} RamAway;

/* Blocks that are mapped from somebody else's descriptor: GSList of RAMBlock */
static GSList *adopted_blocks;

/* Of RamAway; NULL: all is where it belongs */
static GArray *away_blocks;

/*
 * A block that nobody writes to needs no adopting: each side has its own
 * mapping of the file.
 */
static bool ram_stays(RAMBlock *rb)
{
    return (rb->flags & RAM_READONLY) && rb->fd >= 0;
}

/* Has the block been freed?  (It may be unplugged while a pointer is kept) */
static bool ram_is_there(const RAMBlock *wanted)
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
        struct stat st;

        if (ram_stays(rb)) {
            continue;
        } else if (rb->guest_memfd >= 0) {
            reason = g_strdup_printf("RAM block '%s' has private pages in a "
                                     "guest_memfd", rb->idstr);
        } else if (rb->flags & RAM_PREALLOC) {
            reason = g_strdup_printf("RAM block '%s' is no memory of its own",
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
        count += !ram_stays(rb);
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
     * Sending takes as long as the peer does, and a block may be unplugged
     * meanwhile: hand_over_source_stopped() notices, but a descriptor's number
     * could be another file's by then.
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

            if (ram_stays(rb)) {
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

/* How many bytes of its file a block's mapping covers (file_ram_alloc()) */
static size_t ram_map_length(RAMBlock *rb)
{
    return ROUND_UP(rb->max_length, rb->page_size);
}

static bool ram_check_fd(RamOffer *offer, Error **errp)
{
    const HandOverRam *ram = &offer->msg->u.ram;
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
         * A resizeable block may grow further in a newer version of its
         * device.  What the source has mapped stays.
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

/* Blocks are the same if their names are, as for an ordinary migration */
static bool ram_check(RamOffer *offer, Error **errp)
{
    const HandOverRam *ram = &offer->msg->u.ram;
    RAMBlock *rb = qemu_ram_block_by_name(ram->name);

    if (!*ram->name || !rb) {
        error_setg(errp, "RAM block '%s' of the source does not exist here",
                   ram->name);
        return false;
    }
    if (ram_stays(rb)) {
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

/* By file, and offset in it */
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

/* Each of the source's blocks once, and no two the same memory */
static bool ram_check_all(GArray *offers, Error **errp)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; i < offers->len; i++) {
        RamOffer *offer = &g_array_index(offers, RamOffer, i);

        /* Once more: what was right when it came may have been unplugged */
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
            ram_map_length(a->rb)) {
            error_setg(errp, "RAM blocks '%s' and '%s' are the same memory",
                       a->rb->idstr, b->rb->idstr);
            return false;
        }
    }
    return true;
}

/*
 * May adopted RAM be write-protected until the guest is this process's?  A
 * device model that writes too early is found out then, by SIGSEGV: the guest
 * goes on at the source.
 *
 * Not with KVM, which writes to guest memory in the name of KVM_SET_MSRS, and
 * fails that for some of the MSRs (Linux 6.12, arch/x86/kvm: the hypercall page
 * in kvm_hv_set_msr_pw(), the VP assist page in kvm_hv_set_msr()).  Nor where
 * memory is locked: its pages are mapped at once, and making them all writable
 * would take its time while the guest stands still.
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

/* As file_ram_alloc() */
static uint32_t ram_map_flags(RAMBlock *rb)
{
    return QEMU_MAP_SHARED |
           (rb->flags & RAM_PMEM ? QEMU_MAP_SYNC : 0) |
           (rb->flags & RAM_NORESERVE ? QEMU_MAP_NORESERVE : 0);
}

/* As ram_block_add() for a block of its own */
static void ram_advise(RAMBlock *rb, size_t length)
{
    qemu_madvise(rb->host, length, QEMU_MADV_HUGEPAGE);
    qemu_madvise(rb->host, length, QEMU_MADV_DONTFORK);
    if (!machine_dump_guest_core(current_machine)) {
        qemu_madvise(rb->host, length, QEMU_MADV_DONTDUMP);
    }
}

static bool ram_map(RamOffer *offer, Error **errp)
{
    RAMBlock *rb = offer->rb;
    HostMemoryBackend *backend = ram_backend(rb);
    uint64_t offset = offer->msg->u.ram.offset;
    uint64_t size = offer->msg->u.ram.size;
    size_t length = ram_map_length(rb);
    uint32_t flags;
    void *p;

    if (backend && host_memory_backend_reserve_deferred(backend)) {
        rb->flags &= ~RAM_NORESERVE;
    }
    flags = ram_map_flags(rb);
    if (ram_may_be_protected()) {
        flags |= QEMU_MAP_READONLY;
    }

    /*
     * Where this fails the old mapping is still there.  MAP_FIXED gives no
     * such promise.
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
    ram_advise(rb, length);

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

    /* nothing yields from here on */
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

        if (ram_is_there(rb) &&
            mprotect(rb->host, ram_map_length(rb), PROT_READ | PROT_WRITE)) {
            error_setg_errno(errp, errno, "RAM block '%s': cannot make its "
                             "memory writable", rb->idstr);
            return false;
        }
    }
    return true;
}

/*
 * -overcommit mem-lock=on: locked pages are there from the beginning; but what
 * comes in the place of a guest's memory is not to take as much
 */
static void ram_lock_on_fault(bool on)
{
#ifdef HAVE_MLOCK_ONFAULT
    if (should_mlock(mlock_state) && !is_mlock_on_fault(mlock_state)) {
        /* without MCL_CURRENT: what is locked stays so */
        mlockall(MCL_FUTURE | (on ? MCL_ONFAULT : 0));
    }
#endif
}

/* What @rb has from now on is empty, and nobody else's */
static void ram_replace(RAMBlock *rb)
{
    size_t length = ram_map_length(rb);

    if (mmap(rb->host, length, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
             -1, 0) == MAP_FAILED) {
        error_report("RAM block '%s': cannot let go of its memory: %s",
                     rb->idstr, strerror(errno));
        /* nothing of the guest may stay in reach of this process */
        abort();
    }
    qemu_madvise(rb->host, length, QEMU_MADV_DONTFORK);
    rb->fd = -1;
    rb->fd_offset = 0;
    rb->flags &= ~RAM_SHARED;
}

void hand_over_ram_release(void)
{
    GSList *l;

    ram_lock_on_fault(true);
    for (l = adopted_blocks; l; l = l->next) {
        RAMBlock *rb = l->data;

        if (ram_is_there(rb)) {
            int fd = rb->fd;

            ram_replace(rb);
            close(fd);
        }
    }
    g_slist_free(adopted_blocks);
    adopted_blocks = NULL;
}

/*
 * Page tables move as they are, however much they map, as long as old and new
 * address are the same modulo what a table covers (Linux, mm/mremap.c:
 * move_page_tables()).  To unmap gigabytes takes tens of milliseconds.
 */
#define PARK_ALIGN  (1 * GiB)

/* Where @rb's mapping is now, MAP_FAILED where the kernel does not move it */
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
     * The old address must not be free for a moment: another thread's mapping
     * would come to be there.
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
    ram_lock_on_fault(true);
    RCU_READ_LOCK_GUARD();
    RAMBLOCK_FOREACH_MIGRATABLE(rb) {
        RamAway away = {
            .rb = rb,
            .length = ram_map_length(rb),
            .fd = rb->fd,
            .fd_offset = rb->fd_offset,
            .flags = rb->flags,
        };

        if (ram_stays(rb)) {
            continue;
        }
        away.parked = ram_park(rb, away.length);
        ram_replace(rb);
        trace_hand_over_ram_put_away(rb->idstr, away.parked != MAP_FAILED);
        g_array_append_val(away_blocks, away);
    }
}

void hand_over_ram_get_back(void)
{
    if (away_blocks) {
        ram_lock_on_fault(false);
    }
    for (guint i = 0; away_blocks && i < away_blocks->len; i++) {
        RamAway *away = &g_array_index(away_blocks, RamAway, i);
        RAMBlock *rb = away->rb;
        void *p;

        if (!ram_is_there(rb)) {
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
                                   ram_map_flags(rb), rb->fd_offset);
            if (p != MAP_FAILED) {
                ram_advise(rb, away->length);
            }
        }
        if (p == MAP_FAILED) {
            error_report("RAM block '%s': cannot map its memory again: %s",
                         rb->idstr, strerror(errno));
            /* what is there instead is not the guest's */
            abort();
        }
        away->parked = MAP_FAILED;
        away->fd = -1;
    }
    /* a block that was unplugged meanwhile has left something */
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
        /* This is what takes its time.  Nobody waits for it. */
        qemu_thread_create(&thread, "hand-over-ram", ram_forget_thread, blocks,
                           QEMU_THREAD_DETACHED);
    }
}

bool hand_over_is_mode(void)
{
    return migrate_mode() == MIG_MODE_HAND_OVER;
}
