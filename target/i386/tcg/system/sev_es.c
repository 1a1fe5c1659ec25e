/*
 * Emulated AMD SEV-ES: the guest's registers are encrypted
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Sections and tables are those of the AMD64 Architecture Programmer's Manual,
 * volume 2 (publication 24593).
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/lockable.h"
#include "cpu.h"
#include "svm.h"
#include "exec/cpu-common.h"
#include "tcg/helper-tcg.h"
#include "tcg/sev_es.h"

/* Table B-4: the part that the save area of a VMCB does not have */
#define VMSA_XSS                0x140
#define VMSA_G_PAT              0x268
#define VMSA_PKRU               0x2e8
#define VMSA_RCX                0x308
#define VMSA_SEV_FEATURES       0x3b0
#define VMSA_XCR0               0x3e8
#define VMSA_X87_DP             0x400
#define VMSA_MXCSR              0x408
#define VMSA_X87_FTW            0x40c
#define VMSA_X87_FSW            0x40e
#define VMSA_X87_FCW            0x410
#define VMSA_X87_FOP            0x412
#define VMSA_X87_DS             0x414
#define VMSA_X87_CS             0x416
#define VMSA_X87_RIP            0x418
#define VMSA_X87                0x420
#define VMSA_XMM                0x470
#define VMSA_YMM                0x570

#define VMSA_SAVE               offsetof(struct vmcb, save)

typedef struct SevVmsa {
    SevKeyId key;
    /* Hardware keeps only a checksum, in memory of the firmware */
    uint8_t content[TARGET_PAGE_SIZE];
} SevVmsa;

static struct {
    QemuMutex lock;
    GHashTable *vmsas;          /* physical address: SevVmsa */
} es;

static void __attribute__((constructor)) sev_es_init(void)
{
    qemu_mutex_init(&es.lock);
    es.vmsas = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
                                     g_free);
}

void sev_es_vmsa_new(hwaddr addr, SevKeyId key, const uint8_t *content)
{
    SevVmsa *vmsa = g_new(SevVmsa, 1);

    vmsa->key = key;
    memcpy(vmsa->content, content, sizeof(vmsa->content));
    QEMU_LOCK_GUARD(&es.lock);
    g_hash_table_replace(es.vmsas, g_memdup2(&addr, sizeof(addr)), vmsa);
}

static gboolean sev_es_vmsa_has_key(void *addr, void *vmsa, void *key)
{
    return ((SevVmsa *)vmsa)->key == *(SevKeyId *)key;
}

void sev_es_vmsa_forget(SevKeyId key)
{
    QEMU_LOCK_GUARD(&es.lock);
    g_hash_table_foreach_remove(es.vmsas, sev_es_vmsa_has_key, &key);
}

void *sev_es_save_area(CPUX86State *env, size_t offset)
{
    return env_archcpu(env)->sev_vmsa + offset - VMSA_SAVE;
}

static uint8_t *vmsa_at(CPUX86State *env, size_t offset)
{
    return sev_es_save_area(env, VMSA_SAVE + offset);
}

bool sev_es_enter(CPUX86State *env)
{
    CPUState *cs = env_cpu(env);
    uint8_t *copy = vmsa_at(env, 0);
    hwaddr addr = x86_ldq_phys(cs, env->vm_vmcb +
                               offsetof(struct vmcb, control.vmsa_pa));
    SevVmsa *vmsa;

    if (!QEMU_IS_ALIGNED(addr, TARGET_PAGE_SIZE) ||
        !sev_memory_is_ram(addr, TARGET_PAGE_SIZE)) {
        return false;
    }
    memcpy(copy, sev_memory_map(cs, addr, env->sev_key), TARGET_PAGE_SIZE);
    WITH_QEMU_LOCK_GUARD(&es.lock) {
        vmsa = g_hash_table_lookup(es.vmsas, &addr);
        if (!vmsa || vmsa->key != env->sev_key ||
            memcmp(vmsa->content, copy, TARGET_PAGE_SIZE)) {
            return false;
        }
    }
    /* keep the checked one: another processor may change the VMCB meanwhile */
    env->sev_vmsa_pa = addr;
    /* No feature that a guest may request is implemented */
    return !ldq_le_p(vmsa_at(env, VMSA_SEV_FEATURES));
}

/* RCX, RDX, RBX, (RSP), RBP ... R15; RAX and RSP are elsewhere, before these */
static bool vmsa_has_reg(int reg)
{
    return reg != R_EAX && reg != R_ESP;
}

static uint8_t *vmsa_reg(CPUX86State *env, int reg)
{
    return vmsa_at(env, VMSA_RCX + (reg - R_ECX) * sizeof(uint64_t));
}

static void vmsa_load_regs(CPUX86State *env)
{
    for (int i = R_ECX; i < CPU_NB_REGS; i++) {
        if (vmsa_has_reg(i)) {
            env->regs[i] = ldq_le_p(vmsa_reg(env, i));
        }
    }
}

static void vmsa_save_regs(CPUX86State *env)
{
    for (int i = R_ECX; i < CPU_NB_REGS; i++) {
        if (vmsa_has_reg(i)) {
            stq_le_p(vmsa_reg(env, i), env->regs[i]);
        }
    }
}

/*
 * The 80-bit registers are stored as eight mantissas, followed by eight pairs
 * of bytes with sign and exponent: Linux, sev_es_sync_vmsa()
 */
static uint8_t *vmsa_x87_mantissa(CPUX86State *env, int i)
{
    return vmsa_at(env, VMSA_X87 + i * sizeof(uint64_t));
}

static uint8_t *vmsa_x87_exponent(CPUX86State *env, int i)
{
    return vmsa_at(env, VMSA_X87 + 8 * sizeof(uint64_t) +
                        i * sizeof(uint16_t));
}

static floatx80 *x87_register(CPUX86State *env, int i)
{
    return &env->fpregs[(env->fpstt + i) & 7].d;
}

static void vmsa_load_fpu(CPUX86State *env)
{
    uint16_t fsw = lduw_le_p(vmsa_at(env, VMSA_X87_FSW));
    uint8_t ftw = *vmsa_at(env, VMSA_X87_FTW);

    env->fpdp = ldq_le_p(vmsa_at(env, VMSA_X87_DP));
    env->fpip = ldq_le_p(vmsa_at(env, VMSA_X87_RIP));
    env->fpop = lduw_le_p(vmsa_at(env, VMSA_X87_FOP));
    env->fpds = lduw_le_p(vmsa_at(env, VMSA_X87_DS));
    env->fpcs = lduw_le_p(vmsa_at(env, VMSA_X87_CS));
    env->fpstt = (fsw >> 11) & 7;
    env->fpus = fsw & ~0x3800;
    cpu_set_fpuc(env, lduw_le_p(vmsa_at(env, VMSA_X87_FCW)));
    for (int i = 0; i < 8; i++) {
        env->fptags[i] = !(ftw & (1 << i));
        x87_register(env, i)->low = ldq_le_p(vmsa_x87_mantissa(env, i));
        x87_register(env, i)->high = lduw_le_p(vmsa_x87_exponent(env, i));
    }

    cpu_set_mxcsr(env, ldl_le_p(vmsa_at(env, VMSA_MXCSR)));
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < 2; j++) {
            env->xmm_regs[i].ZMM_Q(j) =
                ldq_le_p(vmsa_at(env, VMSA_XMM + i * 16 + j * 8));
            env->xmm_regs[i].ZMM_Q(2 + j) =
                ldq_le_p(vmsa_at(env, VMSA_YMM + i * 16 + j * 8));
        }
    }
}

static void vmsa_save_fpu(CPUX86State *env)
{
    uint8_t ftw = 0;

    for (int i = 0; i < 8; i++) {
        ftw |= !env->fptags[i] << i;
        stq_le_p(vmsa_x87_mantissa(env, i), x87_register(env, i)->low);
        stw_le_p(vmsa_x87_exponent(env, i), x87_register(env, i)->high);
    }
    stq_le_p(vmsa_at(env, VMSA_X87_DP), env->fpdp);
    stq_le_p(vmsa_at(env, VMSA_X87_RIP), env->fpip);
    stw_le_p(vmsa_at(env, VMSA_X87_FOP), env->fpop);
    stw_le_p(vmsa_at(env, VMSA_X87_DS), env->fpds);
    stw_le_p(vmsa_at(env, VMSA_X87_CS), env->fpcs);
    stw_le_p(vmsa_at(env, VMSA_X87_FSW),
             (env->fpus & ~0x3800) | env->fpstt << 11);
    stw_le_p(vmsa_at(env, VMSA_X87_FTW), ftw);
    stw_le_p(vmsa_at(env, VMSA_X87_FCW), env->fpuc);

    update_mxcsr_from_sse_status(env);
    stl_le_p(vmsa_at(env, VMSA_MXCSR), env->mxcsr);
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < 2; j++) {
            stq_le_p(vmsa_at(env, VMSA_XMM + i * 16 + j * 8),
                     env->xmm_regs[i].ZMM_Q(j));
            stq_le_p(vmsa_at(env, VMSA_YMM + i * 16 + j * 8),
                     env->xmm_regs[i].ZMM_Q(2 + j));
        }
    }
}

/* After #VMEXIT the hypervisor has the FPU in the state after a reset */
static void fpu_reset(CPUX86State *env)
{
    env->fpdp = 0;
    env->fpip = 0;
    env->fpop = 0;
    env->fpds = 0;
    env->fpcs = 0;
    env->fpstt = 0;
    env->fpus = 0;
    cpu_set_fpuc(env, 0x37f);
    memset(env->fptags, 1, sizeof(env->fptags));
    memset(env->fpregs, 0, sizeof(env->fpregs));
    cpu_set_mxcsr(env, 0x1f80);
    memset(env->xmm_regs, 0, sizeof(env->xmm_regs));
}

/* For the guest from its VMSA, for the hypervisor from the host save area */
static void vmsa_load(CPUX86State *env)
{
    env->pat = ldq_le_p(vmsa_at(env, VMSA_G_PAT));
    env->xss = ldq_le_p(vmsa_at(env, VMSA_XSS));
    env->pkru = ldl_le_p(vmsa_at(env, VMSA_PKRU));
    env->xcr0 = ldq_le_p(vmsa_at(env, VMSA_XCR0));
    cpu_sync_bndcs_hflags(env);
    cpu_sync_avx_hflag(env);
    vmsa_load_regs(env);
}

void sev_es_load(CPUX86State *env)
{
    env->sev_vmsa_loaded = true;
    /* type A: kept in the host save area; VMRUN does not save it otherwise */
    x86_stq_phys(env_cpu(env), env->vm_hsave + VMSA_SAVE + VMSA_G_PAT,
                 env->pat);
    vmsa_load(env);
    vmsa_load_fpu(env);
}

void sev_es_save(CPUX86State *env)
{
    stq_le_p(vmsa_at(env, VMSA_G_PAT), env->pat);
    stq_le_p(vmsa_at(env, VMSA_XSS), env->xss);
    stl_le_p(vmsa_at(env, VMSA_PKRU), env->pkru);
    stq_le_p(vmsa_at(env, VMSA_XCR0), env->xcr0);
    vmsa_save_regs(env);
    vmsa_save_fpu(env);
}

static void sev_es_write_back(CPUX86State *env, SevKeyId key)
{
    uint8_t *copy = vmsa_at(env, 0);
    SevVmsa *vmsa;

    memcpy(sev_memory_map(env_cpu(env), env->sev_vmsa_pa, key), copy,
           TARGET_PAGE_SIZE);
    QEMU_LOCK_GUARD(&es.lock);
    vmsa = g_hash_table_lookup(es.vmsas, &env->sev_vmsa_pa);
    /* else the firmware has decommissioned this guest while it ran */
    if (vmsa && vmsa->key == key) {
        memcpy(vmsa->content, copy, TARGET_PAGE_SIZE);
    }
}

void sev_es_leave(CPUX86State *env)
{
    uint8_t *copy = vmsa_at(env, 0);

    if (env->sev_vmsa_loaded) {
        sev_es_write_back(env, sev_memory_asid_key(env->sev_asid));
    }
    env->sev_es = false;
    env->sev_vmsa_loaded = false;

    /* From the host save area: types A and B in the table */
    cpu_physical_memory_read(env->vm_hsave + VMSA_SAVE, copy,
                             TARGET_PAGE_SIZE - VMSA_SAVE);
    vmsa_load(env);
    memset(copy, 0, TARGET_PAGE_SIZE);
    /* Type C: state after a reset */
    fpu_reset(env);
    env->cr[2] = 0;
    env->dr[6] = DR6_FIXED_1;
    cpu_x86_update_dr7(env, DR7_FIXED_1);
}

bool sev_es_exit_is_trap(uint64_t exit_code)
{
    switch (exit_code) {
    case SVM_EXIT_PAUSE:
    case SVM_EXIT_HLT:
    case SVM_EXIT_EFER_WRITE_TRAP:
    case SVM_EXIT_CR0_WRITE_TRAP ... SVM_EXIT_CR0_WRITE_TRAP + 15:
    case SVM_EXIT_VMGEXIT:
        return true;
    default:
        return false;
    }
}

bool sev_es_exit_is_automatic(uint64_t exit_code, uint64_t exit_info_1)
{
    switch (exit_code) {
    case SVM_EXIT_EXCP_BASE + EXCP12_MCHK:
    case SVM_EXIT_INTR:
    case SVM_EXIT_NMI:
    case SVM_EXIT_SMI:
    case SVM_EXIT_INIT:
    case SVM_EXIT_VINTR:
    case SVM_EXIT_SHUTDOWN:
        return true;
    case SVM_EXIT_NPF:
        /* with a reserved bit set: the way hypervisors mark MMIO */
        return !(exit_info_1 & PG_ERROR_RSVD_MASK);
    default:
        return sev_es_exit_is_trap(exit_code) ||
               (int32_t)exit_code == SVM_EXIT_ERR;
    }
}
