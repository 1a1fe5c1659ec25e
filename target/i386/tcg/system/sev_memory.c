/*
 * Emulated AMD SEV: memory encryption
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * In hardware, RAM holds ciphertext, and the memory controller decrypts on the
 * way to the processor.  Doing so at each access would defeat TCG's fast path.
 * Here, a page of RAM holds what *one* key sees of it, and that key is
 * recorded.  The page is converted only when it is accessed with another key:
 * encrypted with the old key, decrypted with the new one.  "No key" counts as
 * a key, too.  As a TLB entry is made for one key, no check is needed as long
 * as accesses hit the TLB.
 *
 * A page must not be converted while a processor that runs has it in its TLB.
 * For each page and processor there is the number of the processor's TLB flush
 * ("epoch") after which it last used the page.  If that is the current one,
 * the page is "hot": the TLB may have an entry for it, and can only be flushed
 * while that processor does not run.  As each VMRUN, #VMEXIT and CR3 write
 * flushes the TLB, pages that pass from a hypervisor to its guest are rarely
 * hot.
 *
 * The lock-free part: a processor first records its epoch for the page, then
 * reads the page's key; a thread that converts a page first sets its key to
 * SEV_KEY_BUSY, then reads the epochs.  So either the processor sees that the
 * key has changed, or the other thread sees that the page is hot.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qapi/error.h"
#include "crypto/cipher.h"
#include "crypto/random.h"
#include "exec/cputlb.h"
#include "exec/exec-all.h"
#include "exec/ramblock.h"
#include "exec/ram_addr.h"
#include "hw/boards.h"
#include "hw/i386/x86.h"
#include "migration/blocker.h"
#include "system/reset.h"
#include "system/system.h"
#include "tcg/tcg.h"
#include "tcg/sev_memory.h"

#define SEV_KEY_BUSY UINT16_MAX

typedef struct SevKey {
    QCryptoCipher *cipher;      /* AES-128-XTS, the tweak is the address */
    unsigned refs;
    size_t pages;
} SevKey;

bool sev_memory_enabled;

static struct {
    Error *blocker;
    uint32_t asids;             /* 0: no processor with SEV yet */
    uint32_t min_asid;
    bool es;

    /* The machine's RAM: from 0, and the rest of it from above_4g */
    uint8_t *ram;
    hwaddr size;
    hwaddr below_4g;
    hwaddr above_4g;

    SevKeyId *key;              /* of each page; written under the lock */
    uint32_t **used;            /* [processor][page]: epoch of the last use */
    uint32_t *epoch;            /* of each processor; 0 is never current */

    /* Protects what follows, and conversions */
    QemuMutex lock;
    SevKey *keys[SEV_KEY_BUSY];
    SevKeyId *asid_key;         /* written only while no processor runs */
} sev;

static bool sev_page(hwaddr addr, size_t *page)
{
    if (addr >= sev.above_4g) {
        addr = addr - sev.above_4g + sev.below_4g;
    } else if (addr >= sev.below_4g) {
        return false;
    }
    *page = addr >> TARGET_PAGE_BITS;
    return addr < sev.size;
}

/* Keys */

static void sev_key_maybe_free(SevKeyId id)
{
    SevKey *key = sev.keys[id];

    if (!key->refs && !key->pages) {
        qcrypto_cipher_free(key->cipher);
        g_free(key);
        sev.keys[id] = NULL;
    }
}

static void sev_page_set_key(size_t page, SevKeyId old, SevKeyId new)
{
    if (new != SEV_KEY_NONE) {
        sev.keys[new]->pages++;
    }
    if (old != SEV_KEY_NONE) {
        sev.keys[old]->pages--;
        sev_key_maybe_free(old);
    }
    qatomic_store_release(&sev.key[page], new);
}

/* Convert @buf from what @old sees of @page to what @new sees of it */
static void sev_convert(uint8_t *buf, size_t page, SevKeyId old, SevKeyId new)
{
    uint64_t iv[2] = { cpu_to_le64(page << TARGET_PAGE_BITS), 0 };

    if (old == new) {
        return;
    }
    if (old != SEV_KEY_NONE) {
        qcrypto_cipher_setiv(sev.keys[old]->cipher, (uint8_t *)iv, sizeof(iv),
                             &error_abort);
        qcrypto_cipher_encrypt(sev.keys[old]->cipher, buf, buf,
                               TARGET_PAGE_SIZE, &error_abort);
    }
    if (new != SEV_KEY_NONE) {
        qcrypto_cipher_setiv(sev.keys[new]->cipher, (uint8_t *)iv, sizeof(iv),
                             &error_abort);
        qcrypto_cipher_decrypt(sev.keys[new]->cipher, buf, buf,
                               TARGET_PAGE_SIZE, &error_abort);
    }
}

/* The content of the page has changed */
static void sev_page_changed(size_t page)
{
    ram_addr_t addr = current_machine->ram->ram_block->offset +
                      (page << TARGET_PAGE_BITS);

    tb_invalidate_phys_range(addr, addr + TARGET_PAGE_SIZE - 1);
    cpu_physical_memory_set_dirty_range(addr, TARGET_PAGE_SIZE,
                                        DIRTY_CLIENTS_NOCODE);
}

/* Whether @cs may have @page in its TLB */
static bool sev_page_hot(CPUState *cs, size_t page)
{
    return qatomic_read(&sev.used[cs->cpu_index][page]) ==
           qatomic_read(&sev.epoch[cs->cpu_index]);
}

/*
 * Make @page hold what @key sees.  Does nothing and returns false if it is hot
 * for a processor other than @self.
 */
static bool sev_try_convert_locked(size_t page, SevKeyId key, CPUState *self)
{
    SevKeyId old = sev.key[page];
    CPUState *cs;

    if (old == key) {
        return true;
    }
    qatomic_set(&sev.key[page], SEV_KEY_BUSY);
    /* set the key before reading epochs; pairs with sev_memory_access() */
    smp_mb();
    CPU_FOREACH(cs) {
        if (cs != self && sev_page_hot(cs, page)) {
            qatomic_set(&sev.key[page], old);
            return false;
        }
    }
    sev_convert(sev.ram + (page << TARGET_PAGE_BITS), page, old, key);
    sev_page_changed(page);
    sev_page_set_key(page, old, key);
    return true;
}

static bool sev_try_convert(size_t page, SevKeyId key, CPUState *self)
{
    QEMU_LOCK_GUARD(&sev.lock);
    return sev_try_convert_locked(page, key, self);
}

void sev_memory_flushed(CPUState *cs)
{
    if (sev_memory_enabled) {
        uint32_t next = sev.epoch[cs->cpu_index] + 1;

        /* 0 means that a page was never used */
        qatomic_store_release(&sev.epoch[cs->cpu_index], next ? next : 1);
    }
}

void sev_memory_flush(CPUState *cs)
{
    tlb_flush(cs);
    sev_memory_flushed(cs);
}

/* To be called while no processor runs */
void sev_memory_flush_all(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        sev_memory_flush(cs);
    }
}

/* As sev_try_convert(), while no processor runs that may have the page hot */
static void sev_convert_exclusive(size_t page, SevKeyId key)
{
    bool done;

    sev_memory_flush_all();
    done = sev_try_convert(page, key, NULL);
    assert(done);
}

typedef struct SevConvertWork {
    size_t page;
    SevKeyId key;
} SevConvertWork;

/* Work for a processor's thread, while no other processor runs */
static void sev_convert_safe_work(CPUState *cs, run_on_cpu_data data)
{
    g_autofree SevConvertWork *w = data.host_ptr;

    sev_convert_exclusive(w->page, w->key);
}

static void sev_convert_sync(size_t page, SevKeyId key);

/* Work for a processor's thread */
static void sev_convert_work(CPUState *cs, run_on_cpu_data data)
{
    SevConvertWork *w = data.host_ptr;

    sev_convert_sync(w->page, w->key);
}

/* From any thread, but not from within a translation */
static void sev_convert_sync(size_t page, SevKeyId key)
{
    CPUState *cs = current_cpu;
    SevConvertWork w = { page, key };
    bool locked = bql_locked();
    bool running = cs && cs->running;

    if (sev_try_convert(page, key, cs)) {
        return;
    }
    if (!cs) {
        if (!locked) {
            bql_lock();
        }
        run_on_cpu(first_cpu, sev_convert_work, RUN_ON_CPU_HOST_PTR(&w));
        if (!locked) {
            bql_unlock();
        }
        return;
    }

    /* The others may need the BQL before they stop */
    if (locked) {
        bql_unlock();
    }
    if (running) {
        cpu_exec_end(cs);
    }
    start_exclusive();
    sev_convert_exclusive(page, key);
    end_exclusive();
    if (running) {
        cpu_exec_start(cs);
    }
    if (locked) {
        bql_lock();
    }
}

/* The processor's side */

static void sev_convert_self(CPUState *cs, size_t page, SevKeyId key, bool hot)
{
    if (tcg_ctx->gen_tb) {
        /*
         * The translator holds page locks, so it must not wait for other
         * processors, nor for a thread that waits for such a lock.
         */
        SevConvertWork *w = g_new(SevConvertWork, 1);

        *w = (SevConvertWork) { page, key };
        async_safe_run_on_cpu(cs, sev_convert_safe_work,
                              RUN_ON_CPU_HOST_PTR(w));
        cs->exception_index = EXCP_INTERRUPT;
        cpu_loop_exit(cs);
    }
    if (hot) {
        sev_memory_flush(cs);
    }
    sev_convert_sync(page, key);
    qatomic_set(&sev.used[cs->cpu_index][page], sev.epoch[cs->cpu_index]);
}

void sev_memory_access(CPUState *cs, hwaddr addr, SevKeyId key)
{
    uint32_t epoch = sev.epoch[cs->cpu_index];
    uint32_t *used;
    bool hot;
    size_t page;

    if (!sev_page(addr, &page)) {
        return;
    }
    used = &sev.used[cs->cpu_index][page];
    hot = *used == epoch;
    for (;;) {
        if (*used != epoch) {
            qatomic_set(used, epoch);
            /* set epoch before reading key; see sev_try_convert_locked() */
            smp_mb();
        }
        if (likely(qatomic_read(&sev.key[page]) == key)) {
            return;
        }
        sev_convert_self(cs, page, key, hot);
        /* another thread may have converted the page again by now */
        epoch = sev.epoch[cs->cpu_index];
        hot = true;
        /* as above: sev_convert_self() has recorded the epoch */
        smp_mb();
    }
}

void *sev_memory_map(CPUState *cs, hwaddr addr, SevKeyId key)
{
    size_t page = 0;
    bool is_ram = sev_page(addr, &page);

    assert(is_ram);
    sev_memory_access(cs, addr, key);
    return sev.ram + (page << TARGET_PAGE_BITS);
}

uint32_t sev_memory_epoch(CPUState *cs)
{
    return sev_memory_enabled ? sev.epoch[cs->cpu_index] : 0;
}

SevKeyId sev_memory_asid_key(uint32_t asid)
{
    return sev.asid_key[asid];
}

/*
 * The hypervisor's side, other than processors: devices, the monitor, the
 * debugger.  They access RAM without a key.
 */
static void sev_host_access(RAMBlock *block, ram_addr_t offset, hwaddr len)
{
    size_t last = MIN(offset + MAX(len, 1) - 1, sev.size - 1)
                  >> TARGET_PAGE_BITS;
    CPUState *cs = current_cpu;

    for (size_t page = offset >> TARGET_PAGE_BITS; page <= last; page++) {
        if (likely(qatomic_read(&sev.key[page]) == SEV_KEY_NONE)) {
            continue;
        }
        if (cs && sev_page_hot(cs, page)) {
            sev_memory_flush(cs);
        }
        sev_convert_sync(page, SEV_KEY_NONE);
    }
}

/* The firmware's side */

/* Free keys that have no references any more by converting their pages */
static void sev_key_reclaim(void)
{
    for (size_t page = 0; page < sev.size >> TARGET_PAGE_BITS; page++) {
        SevKeyId key = sev.key[page];

        if (key != SEV_KEY_NONE && !sev.keys[key]->refs) {
            sev_try_convert_locked(page, SEV_KEY_NONE, NULL);
        }
    }
}

static SevKeyId sev_key_free_id(void)
{
    static SevKeyId last;

    for (unsigned i = 1; i < SEV_KEY_BUSY; i++) {
        last = last % (SEV_KEY_BUSY - 1) + 1;
        if (!sev.keys[last]) {
            return last;
        }
    }
    return SEV_KEY_NONE;
}

SevKeyId sev_key_new(void)
{
    g_autofree SevKey *key = g_new0(SevKey, 1);
    uint8_t bytes[32];
    SevKeyId id;

    QEMU_LOCK_GUARD(&sev.lock);
    qcrypto_random_bytes(bytes, sizeof(bytes), &error_fatal);
    key->cipher = qcrypto_cipher_new(QCRYPTO_CIPHER_ALGO_AES_128,
                                     QCRYPTO_CIPHER_MODE_XTS,
                                     bytes, sizeof(bytes), &error_abort);
    key->refs = 1;
    id = sev_key_free_id();
    if (id == SEV_KEY_NONE) {
        sev_key_reclaim();
        id = sev_key_free_id();
    }
    /* there are more key IDs than guests and ASIDs */
    assert(id != SEV_KEY_NONE);
    sev.keys[id] = g_steal_pointer(&key);
    return id;
}

void sev_key_ref(SevKeyId key)
{
    QEMU_LOCK_GUARD(&sev.lock);
    sev.keys[key]->refs++;
}

void sev_key_unref(SevKeyId key)
{
    QEMU_LOCK_GUARD(&sev.lock);
    assert(sev.keys[key]->refs);
    sev.keys[key]->refs--;
    sev_key_maybe_free(key);
}

size_t sev_key_pages(SevKeyId key)
{
    QEMU_LOCK_GUARD(&sev.lock);
    return sev.keys[key]->pages;
}

void sev_memory_bind(uint32_t asid, SevKeyId key)
{
    SevKeyId old = sev.asid_key[asid];
    CPUState *cs;

    if (key == SEV_KEY_NONE) {
        key = sev_key_new();
    } else {
        sev_key_ref(key);
    }
    sev.asid_key[asid] = key;
    CPU_FOREACH(cs) {
        CPUX86State *env = cpu_env(cs);

        if (env->sev_key != SEV_KEY_NONE && env->sev_asid == asid) {
            env->sev_key = key;
        }
    }
    if (old != SEV_KEY_NONE) {
        sev_key_unref(old);
    }
}

uint32_t sev_memory_asids(void)
{
    return sev.asids;
}

uint32_t sev_memory_min_asid(void)
{
    return sev.min_asid;
}

bool sev_memory_is_ram(hwaddr addr, uint64_t len)
{
    size_t page;

    if (addr + len < addr) {
        return false;
    }
    for (hwaddr a = addr & TARGET_PAGE_MASK; a < addr + len;
         a += TARGET_PAGE_SIZE) {
        if (!sev_page(a, &page)) {
            return false;
        }
    }
    return true;
}

bool sev_memory_read(hwaddr addr, void *buf, size_t len, SevKeyId key)
{
    uint8_t view[TARGET_PAGE_SIZE];
    size_t page = 0;

    if (!sev_memory_is_ram(addr, len)) {
        return false;
    }
    QEMU_LOCK_GUARD(&sev.lock);
    while (len) {
        size_t offset = addr & ~TARGET_PAGE_MASK;
        size_t n = MIN(len, TARGET_PAGE_SIZE - offset);

        sev_page(addr, &page);
        memcpy(view, sev.ram + (page << TARGET_PAGE_BITS), sizeof(view));
        sev_convert(view, page, sev.key[page], key);
        memcpy(buf, view + offset, n);
        addr += n;
        buf += n;
        len -= n;
    }
    return true;
}

bool sev_memory_write(hwaddr addr, const void *buf, size_t len, SevKeyId key)
{
    size_t page = 0;

    if (!sev_memory_is_ram(addr, len)) {
        return false;
    }
    QEMU_LOCK_GUARD(&sev.lock);
    while (len) {
        size_t offset = addr & ~TARGET_PAGE_MASK;
        size_t n = MIN(len, TARGET_PAGE_SIZE - offset);
        bool done;

        sev_page(addr, &page);
        done = sev_try_convert_locked(page, key, NULL);
        assert(done);
        memcpy(sev.ram + (page << TARGET_PAGE_BITS) + offset, buf, n);
        sev_page_changed(page);
        addr += n;
        buf += n;
        len -= n;
    }
    return true;
}

/* Machine */

/* RAM survives a reset, keys don't; processors are stopped */
static void sev_memory_reset(void *opaque)
{
    sev_memory_flush_all();
    for (uint32_t asid = 1; asid <= sev.asids; asid++) {
        sev_memory_bind(asid, SEV_KEY_NONE);
    }
    for (size_t page = 0; page < sev.size >> TARGET_PAGE_BITS; page++) {
        if (sev.key[page] != SEV_KEY_NONE) {
            sev_convert_sync(page, SEV_KEY_NONE);
        }
    }
}

static void sev_memory_machine_done(Notifier *notifier, void *data)
{
    X86MachineState *x86ms = X86_MACHINE(current_machine);
    unsigned cpus = current_machine->smp.max_cpus;
    size_t pages;

    sev.ram = memory_region_get_ram_ptr(current_machine->ram);
    sev.size = memory_region_size(current_machine->ram);
    sev.below_4g = x86ms->below_4g_mem_size;
    sev.above_4g = x86ms->above_4g_mem_start;
    pages = sev.size >> TARGET_PAGE_BITS;

    qemu_mutex_init(&sev.lock);
    sev.key = g_new0(SevKeyId, pages);
    sev.used = g_new0(uint32_t *, cpus);
    sev.epoch = g_new0(uint32_t, cpus);
    for (unsigned i = 0; i < cpus; i++) {
        sev.used[i] = g_new0(uint32_t, pages);
        sev.epoch[i] = 1;
    }
    sev.asid_key = g_new0(SevKeyId, sev.asids + 1);
    for (uint32_t asid = 1; asid <= sev.asids; asid++) {
        sev.asid_key[asid] = sev_key_new();
    }

    current_machine->ram->ram_block->host_access = sev_host_access;
    sev_memory_enabled = true;
    qemu_register_reset(sev_memory_reset, NULL);
}

static Notifier sev_machine_done = { .notify = sev_memory_machine_done };

bool sev_memory_realize(X86CPU *cpu, Error **errp)
{
    CPUX86State *env = &cpu->env;

    if (!IS_AMD_CPU(env) ||
        !(env->features[FEAT_8000_0001_ECX] & CPUID_EXT3_SVM) ||
        !(env->features[FEAT_SVM] & CPUID_SVM_NPT)) {
        error_setg(errp, "sev=on: needs a CPU model of AMD with svm and npt");
        return false;
    }
    /* All processors with SEV have these, even if the CPU model lacks them */
    env->features[FEAT_SVM] |= CPUID_SVM_NRIPSAVE | CPUID_SVM_FLUSHASID |
                               CPUID_SVM_DECODEASSIST | CPUID_SVM_LBRV;
    if (!object_dynamic_cast(OBJECT(current_machine), TYPE_X86_MACHINE) ||
        !current_machine->ram) {
        error_setg(errp, "sev=on: needs an x86 machine with RAM");
        return false;
    }
    if (!qcrypto_cipher_supports(QCRYPTO_CIPHER_ALGO_AES_128,
                                 QCRYPTO_CIPHER_MODE_XTS)) {
        error_setg(errp, "sev=on: this QEMU was built without AES-128-XTS");
        return false;
    }
    if (!cpu->sev_asids || cpu->sev_asids > SEV_MAX_ASIDS ||
        !cpu->sev_min_asid || cpu->sev_min_asid > cpu->sev_asids) {
        error_setg(errp, "sev=on: sev-min-asid=%u, sev-asids=%u: expected "
                   "1 <= sev-min-asid <= sev-asids <= %d",
                   cpu->sev_min_asid, cpu->sev_asids, SEV_MAX_ASIDS);
        return false;
    }
    if (cpu->sev_es && cpu->sev_min_asid == 1) {
        error_setg(errp, "sev-es=on: sev-min-asid=1 leaves no ASID to guests "
                   "with SEV-ES: expected 2 or more");
        return false;
    }
    if (cpu->sev_es) {
        cpu->sev_vmsa = g_malloc0(TARGET_PAGE_SIZE);
    }
    if (sev.asids) {
        if (sev.asids != cpu->sev_asids ||
            sev.min_asid != cpu->sev_min_asid || sev.es != cpu->sev_es) {
            error_setg(errp, "sev=on: all processors need the same sev-es, "
                       "sev-asids and sev-min-asid");
            return false;
        }
        return true;
    }

    error_setg(&sev.blocker, "the state of the emulated SEV platform "
               "(-cpu ...,sev=on) cannot be migrated or saved");
    if (migrate_add_blocker(&sev.blocker, errp) < 0) {
        return false;
    }
    sev.asids = cpu->sev_asids;
    sev.min_asid = cpu->sev_min_asid;
    sev.es = cpu->sev_es;
    qemu_add_machine_init_done_notifier(&sev_machine_done);
    return true;
}
