/*
 * Hand-over of a SEV guest: its encryption context is moved
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The source describes its guest, and passes on the descriptor of its virtual
 * machine.  The destination creates no context of its own: it adopts the
 * encrypted RAM and the pins on it, and as the very last step has the kernel
 * move the context from the source's machine to its own
 * (KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM, the kernel's arch/x86/kvm/svm/sev.c:
 * sev_vm_move_enc_context_from()).  From then on the source's machine is dead:
 * the kernel fails every ioctl of its vCPUs with EIO.
 *
 * With SEV-ES the kernel moves the registers as well: the encrypted ones
 * (VMSA), and a pending request of the guest (GHCB).  It does not move its own
 * state of a vCPU: local APIC, MP state, events, its MSRs, the CR0, CR4 and
 * EFER that it knows, and the result registers of a request that the guest has
 * not seen yet.  All that can be read, and is written to the destination's
 * vCPUs while these are still ordinary ones.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "qapi/qapi-types-misc-target.h"
#include "exec/cpu-common.h"
#include "exec/ramblock.h"
#include "hw/boards.h"
#include "hw/i386/x86.h"
#include "migration/hand-over.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "system/runstate.h"
#include "sev.h"

/* as in kvm/kvm.c */
#define KVM_MAX_CPUID_ENTRIES 100

/* All of it belongs to the main thread */
static struct {
    bool incoming;              /* no encryption context yet */
    bool moved;                 /* the context came from another machine */
    bool avic_inhibited;        /* before there were vCPUs */
    const GArray *vms;          /* descriptors of machines: one has it */
    SevFacts facts;             /* of the source; the measurement is ours */
    GHashTable *regions;        /* RAM block's address: address when pinned */
    char *misc_cgroup;          /* that the context is charged to */
} sev;

bool sev_hand_over_incoming(void)
{
    return sev.incoming;
}

bool sev_hand_over_moved(void)
{
    return sev.moved;
}

uint64_t sev_hand_over_cr3_mask(void)
{
    return sev.incoming ? 1ULL << sev_get_cbit_position() : 0;
}

uint64_t sev_hand_over_region(const void *host)
{
    uint64_t *pinned = sev.regions ? g_hash_table_lookup(sev.regions, host)
                                   : NULL;

    return pinned ? *pinned : (uintptr_t)host;
}

uint64_t sev_hand_over_region_forget(const void *host)
{
    uint64_t pinned = sev_hand_over_region(host);

    if (sev.regions) {
        g_hash_table_remove(sev.regions, host);
    }
    return pinned;
}

static bool sev_es_incoming(void)
{
    return sev.incoming && sev_es_enabled();
}

void sev_hand_over_mp_state(struct kvm_mp_state *mp_state)
{
    /*
     * A halted vCPU waits for an interrupt that it accepts.  The kernel knows
     * from the last #VMEXIT whether it accepts one (svm_interrupt_blocked(),
     * SVM_GUEST_INTERRUPT_MASK), but this machine has had none yet: the vCPU
     * would wait for ever.  Its RIP is after the HLT already, so let it run.
     */
    if (sev_es_incoming() && mp_state->mp_state == KVM_MP_STATE_HALTED) {
        mp_state->mp_state = KVM_MP_STATE_RUNNABLE;
    }
}

void sev_hand_over_vcpu_events(struct kvm_vcpu_events *events)
{
    /*
     * The kernel would intercept IRET (svm_set_iret_intercept()), which is
     * wrong for a SEV-ES guest: see sev_refresh_vcpus()
     */
    if (sev_es_incoming()) {
        events->nmi.masked = 0;
    }
}

/* The misc controller's group of this process, NULL if unknown */
static char *sev_misc_cgroup(void)
{
    g_autofree char *groups = NULL;
    g_auto(GStrv) lines = NULL;
    g_autofree char *path = NULL;

    if (!g_file_get_contents("/proc/self/cgroup", &groups, NULL, NULL)) {
        return g_strdup("/");
    }
    /* ID:CONTROLLERS:PATH; CONTROLLERS is empty in version 2 */
    lines = g_strsplit(groups, "\n", -1);
    for (int i = 0; lines[i]; i++) {
        g_auto(GStrv) field = g_strsplit(lines[i], ":", 3);
        g_auto(GStrv) controllers = NULL;

        if (g_strv_length(field) != 3) {
            continue;
        }
        controllers = g_strsplit(field[1], ",", -1);
        if (g_strv_contains((const char *const *)controllers, "misc")) {
            return g_strdup(field[2]);
        }
        if (!*field[1]) {
            g_free(path);
            path = g_strdup(field[2]);
        }
    }
    /* Without the controller, a group is charged to its parent */
    while (path && strcmp(path, "/")) {
        g_autofree char *file = g_strdup_printf("/sys/fs/cgroup%s/misc.current",
                                                path);
        char *up;

        if (access(file, F_OK) == 0) {
            return g_steal_pointer(&path);
        }
        up = g_path_get_dirname(path);
        g_free(path);
        path = up;
    }
    return g_strdup("/");
}

/* The encryption context is charged to this process's group from now on */
static void sev_charged(void)
{
    g_free(sev.misc_cgroup);
    sev.misc_cgroup = sev_misc_cgroup();
}

static bool sev_can_move(Error **errp)
{
    if (!kvm_vm_check_extension(kvm_state, KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM)) {
        error_setg(errp, "the kernel cannot move an encryption context "
                   "(KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM, Linux 5.16)");
        return false;
    }
    return true;
}

static int sev_vm(void)
{
    return sev_enabled() ? kvm_state->vmfd : -1;
}

static bool sev_allows_migration(Error **errp)
{
    if (sev_enabled()) {
        error_setg(errp, "SEV: the memory of this guest can't be copied, it "
                   "can only be handed over to a QEMU on this host");
        return false;
    }
    return true;
}

/*
 * Source
 */

/*
 * The kernel matches vCPUs by the order in which they were created, and
 * requires that all of them were there at launch: sev_check_source_vcpus()
 */
static bool sev_es_check_vcpus(Error **errp)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        if (DEVICE(cs)->hotplugged) {
            error_setg(errp, "SEV-ES: CPU %d was not there at launch, as the "
                       "kernel requires of all that it moves", cs->cpu_index);
            return false;
        }
    }
    if (!QLIST_EMPTY(&kvm_state->kvm_parked_vcpus)) {
        error_setg(errp, "SEV-ES: a CPU was unplugged that the kernel still "
                   "has, and would move to another CPU");
        return false;
    }
    return true;
}

/* kvm_vcpu_id of each vCPU, in the order of creation */
static uint64List *sev_es_vcpus(void)
{
    uint64List *list = NULL, **tail = &list;
    CPUState *cs;

    CPU_FOREACH(cs) {
        QAPI_LIST_APPEND(tail, kvm_arch_vcpu_id(cs));
    }
    return list;
}

static bool sev_check(Error **errp)
{
    SevFacts facts;

    if (!sev_enabled()) {
        return true;
    }
    if (sev_snp_enabled()) {
        error_setg(errp, "the kernel cannot move a guest with SEV-SNP");
        return false;
    }
    if (sev_es_enabled() && !sev_es_check_vcpus(errp)) {
        return false;
    }
    sev_get_facts(&facts);
    if (facts.state != SEV_STATE_RUNNING) {
        error_setg(errp, "the launch of the SEV guest is not complete: its "
                   "state is '%s', expected 'running'",
                   SevState_str(facts.state));
        return false;
    }
    if (!sev_can_move(errp)) {
        return false;
    }
    if (facts.kvm_type != KVM_X86_DEFAULT_VM) {
        /*
         * sev_migrate_from() leaves need_init of the destination set, and while
         * it is set, svm_vcpu_pre_run() fails: seen with Linux 6.12.
         */
        error_setg(errp, "the kernel moves a SEV guest of VM type %d, but "
                   "does not run it afterwards: expected %d, -object sev-guest,"
                   "legacy-vm-type=on", facts.kvm_type, KVM_X86_DEFAULT_VM);
        return false;
    }
    return true;
}

static int sev_offer_region(RAMBlock *block, void *opaque)
{
    HandOverSevRegionList ***tail = opaque;
    HandOverSevRegion *region;

    if (!qemu_ram_is_migratable(block)) {
        /* it is not migrated: it has no name, and stays here */
        return 0;
    }
    region = g_new0(HandOverSevRegion, 1);
    region->name = g_strdup(qemu_ram_get_idstr(block));
    region->address = sev_hand_over_region(qemu_ram_get_host_addr(block));
    QAPI_LIST_APPEND(*tail, region);
    return 0;
}

static HandOverProtectedGuest *sev_offer(void)
{
    HandOverProtectedGuest *guest;
    HandOverSevRegionList **tail;
    HandOverSevGuest *offer;
    SevFacts facts;

    if (!sev_enabled()) {
        return NULL;
    }
    sev_get_facts(&facts);
    guest = g_new0(HandOverProtectedGuest, 1);
    guest->protection = HAND_OVER_PROTECTION_SEV;
    offer = &guest->u.sev;
    offer->vm_type = facts.kvm_type;
    offer->policy = facts.policy;
    offer->cbitpos = facts.cbitpos;
    offer->reduced_phys_bits = facts.reduced_phys_bits;
    offer->kernel_hashes = facts.kernel_hashes;
    offer->handle = facts.handle;
    offer->measurement = g_strdup(facts.measurement);
    tail = &offer->regions;
    qemu_ram_foreach_block(sev_offer_region, &tail);
    if (sev_es_enabled()) {
        offer->has_vcpus = true;
        offer->vcpus = sev_es_vcpus();
        offer->misc_cgroup = g_strdup(sev.misc_cgroup);
    }
    return guest;
}

static void sev_get_vcpu(CPUState *cs, run_on_cpu_data data)
{
    Error **errp = data.host_ptr;
    int ret;

    if (*errp) {
        return;
    }
    ret = kvm_arch_get_registers(cs, errp);
    if (ret < 0 && !*errp) {
        error_setg_errno(errp, -ret, "cannot get the state of CPU %d",
                         cs->cpu_index);
    }
}

/*
 * QEMU does not get the registers of a launched SEV-ES vCPU, as these would not
 * be the guest's.  Nor must they be written back, so cs->vcpu_dirty is left as
 * it is.
 */
static bool sev_stopped(Error **errp)
{
    Error *err = NULL;
    CPUState *cs;

    if (sev_es_enabled()) {
        CPU_FOREACH(cs) {
            run_on_cpu(cs, sev_get_vcpu, RUN_ON_CPU_HOST_PTR(&err));
        }
    }
    error_propagate(errp, err);
    return !err;
}

static bool sev_gone(void)
{
    return kvm_vm_is_dead(kvm_state);
}

/*
 * Destination
 */

bool sev_hand_over_prepare(void)
{
    if (sev_snp_enabled()) {
        return false;
    }
    /* Make it possible to hand over any guest of this kind */
    object_property_set_bool(OBJECT(current_machine), "hand-over", true,
                             &error_abort);
    sev.incoming = runstate_check(RUN_STATE_INMIGRATE);
    if (!sev.incoming) {
        sev_charged();
    }
    return sev.incoming;
}

/*
 * AVIC.  The kernel does not use it for SEV guests: it is inhibited at INIT
 * (APICV_INHIBIT_REASON_SEV), which is not done here, but not when a context is
 * moved in (Linux 6.12 to 7.2).  So it has to be inhibited for another of the
 * reasons in AVIC_REQUIRED_APICV_INHIBITS (svm.h).
 */

static bool sev_avic_is_on(void)
{
    g_autofree char *avic = NULL;

    return g_file_get_contents("/sys/module/kvm_amd/parameters/avic", &avic,
                               NULL, NULL) && (*avic == 'Y' || *avic == '1');
}

/*
 * With SEV-ES it must be inhibited before there is a vCPU.  Otherwise the
 * kernel maps a page at the APIC's address (avic_init_backing_page()), and
 * tries to emulate each access to it (kvm_mmu_faultin_pfn()), which it can't:
 * such a guest has to get a #VC there.
 */
void sev_hand_over_irqchip(void)
{
    struct kvm_pit_config config = {};

    if (sev_es_incoming() && sev_avic_is_on() &&
        X86_MACHINE(current_machine)->pit != ON_OFF_AUTO_OFF) {
        /* The PIT reinjects from the start: APICV_INHIBIT_REASON_PIT_REINJ */
        sev.avic_inhibited =
            kvm_vm_ioctl(kvm_state, KVM_CREATE_PIT2, &config) == 0;
    }
}

bool sev_hand_over_has_pit(void)
{
    return sev.avic_inhibited;
}

static bool sev_put_msr(CPUState *cs, uint32_t index, uint64_t value,
                        Error **errp)
{
    struct {
        struct kvm_msrs info;
        struct kvm_msr_entry entry;
    } msrs = {
        .info.nmsrs = 1,
        .entry = { .index = index, .data = value },
    };
    int ret = kvm_vcpu_ioctl(cs, KVM_SET_MSRS, &msrs);

    if (ret != 1) {
        error_setg(errp, "MSR 0x%" PRIx32 " of CPU %d can't be 0x%" PRIx64
                   ": %s", index, cs->cpu_index, value, ret < 0 ?
                   strerror(-ret) : "the kernel does not accept it");
        return false;
    }
    return true;
}

/*
 * The kernel never uses AVIC again in a machine once an APIC's base has been
 * modified (APICV_INHIBIT_REASON_APIC_BASE_MODIFIED, Linux 6.0), whatever
 * becomes of the other reasons.  No vCPU runs here yet that could notice.
 */
static bool sev_inhibit_avic(Error **errp)
{
    ERRP_GUARD();
    const uint64_t base = APIC_DEFAULT_ADDRESS | MSR_IA32_APICBASE_ENABLE |
                          MSR_IA32_APICBASE_BSP;

    if (sev_es_enabled() && sev_avic_is_on() && !sev.avic_inhibited) {
        error_setg(errp, "SEV-ES: the kernel uses AVIC for this machine, which "
                   "it must not for a guest with SEV-ES, and can't be kept "
                   "from it with kernel-irqchip=split or pit=off: expected "
                   "kernel-irqchip=on and the PIT, or a kernel with "
                   "kvm_amd.avic=0");
        return false;
    }
    if (!sev_put_msr(first_cpu, MSR_IA32_APICBASE, base + TARGET_PAGE_SIZE,
                     errp) ||
        !sev_put_msr(first_cpu, MSR_IA32_APICBASE, base, errp)) {
        error_prepend(errp, "SEV: AVIC can't be turned off: ");
        return false;
    }
    return true;
}

/* Value @name of the offer, @there, must be the same @here */
static bool sev_same(const char *name, uint64_t there, uint64_t here,
                     Error **errp)
{
    if (there != here) {
        error_setg(errp, "the source's SEV guest has %s=0x%" PRIx64 ", this "
                   "one has 0x%" PRIx64, name, there, here);
        return false;
    }
    return true;
}

static bool sev_adopt_regions(const HandOverSevRegionList *regions,
                              Error **errp)
{
    sev.regions = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    for (; regions; regions = regions->next) {
        const HandOverSevRegion *region = regions->value;
        RAMBlock *block = qemu_ram_block_by_name(region->name);

        if (!block) {
            error_setg(errp, "the source's SEV guest has region '%s', but "
                       "there is no RAM block of that name here", region->name);
            return false;
        }
        g_hash_table_insert(sev.regions, qemu_ram_get_host_addr(block),
                            g_memdup2(&region->address,
                                      sizeof(region->address)));
    }
    return true;
}

static bool sev_es_adopt(const HandOverSevGuest *offer, Error **errp)
{
    g_autoptr(uint64List) vcpus = sev_es_vcpus();
    const uint64List *here = vcpus, *there = offer->vcpus;
    g_autofree char *group = sev_misc_cgroup();

    while (here && there && here->value == there->value) {
        here = here->next;
        there = there->next;
    }
    if (here || there) {
        error_setg(errp, "the source's SEV-ES guest has other CPUs, or has "
                   "them in another order, than this one");
        return false;
    }
    if (g_strcmp0(offer->misc_cgroup, group)) {
        /*
         * Seen with Linux 6.12: sev_vm_move_enc_context_from() charges and
         * uncharges the resource of plain SEV, because es_active is not set
         * yet, or not any more, when it is checked.
         */
        error_setg(errp, "the source's SEV-ES guest is charged to cgroup '%s' "
                   "of the misc controller, this process is in '%s': expected "
                   "the same, as the kernel loses count otherwise",
                   offer->misc_cgroup ? offer->misc_cgroup : "", group);
        return false;
    }
    return true;
}

static bool sev_adopt(const HandOverProtectedGuest *guest, const GArray *vms,
                      Error **errp)
{
    const HandOverSevGuest *offer;
    SevFacts here;

    if (!guest) {
        if (sev_enabled()) {
            error_setg(errp, "the source's guest has no SEV, this one has");
            return false;
        }
        return true;
    }
    if (guest->protection != HAND_OVER_PROTECTION_SEV || !sev_enabled() ||
        sev_snp_enabled()) {
        error_setg(errp, "the source's guest has SEV, this one has not "
                   "(-object sev-guest)");
        return false;
    }
    if (!vms->len) {
        error_setg(errp, "the source's offer has no descriptor of its virtual "
                   "machine");
        return false;
    }
    if (!sev_can_move(errp)) {
        return false;
    }
    offer = &guest->u.sev;
    sev_get_facts(&here);
    if (!sev_same("vm-type", offer->vm_type, here.kvm_type, errp) ||
        !sev_same("policy", offer->policy, here.policy, errp) ||
        !sev_same("cbitpos", offer->cbitpos, here.cbitpos, errp) ||
        !sev_same("reduced-phys-bits", offer->reduced_phys_bits,
                  here.reduced_phys_bits, errp)) {
        return false;
    }
    if (offer->kernel_hashes != here.kernel_hashes) {
        error_setg(errp, "the source's SEV guest has kernel-hashes=%s, this "
                   "one has not", here.kernel_hashes ? "off" : "on");
        return false;
    }
    if ((sev_es_enabled() && !sev_es_adopt(offer, errp)) ||
        !sev_adopt_regions(offer->regions, errp) ||
        !sev_inhibit_avic(errp)) {
        return false;
    }
    sev.vms = vms;
    sev.facts = here;
    sev.facts.handle = offer->handle;
    sev.facts.measurement = g_strdup(offer->measurement);
    sev.facts.state = SEV_STATE_RUNNING;
    return true;
}

/* Not possible earlier: see sev_hand_over_vcpu_events() */
static int sev_es_put_nmi_mask(CPUState *cs)
{
    struct kvm_vcpu_events events = {};
    int ret;

    if (!(cpu_env(cs)->hflags2 & HF2_NMI_MASK)) {
        return 0;
    }
    ret = kvm_vcpu_ioctl(cs, KVM_GET_VCPU_EVENTS, &events);
    if (ret < 0) {
        return ret;
    }
    events.nmi.masked = 1;
    return kvm_vcpu_ioctl(cs, KVM_SET_VCPU_EVENTS, &events);
}

/*
 * The processor runs a SEV-ES vCPU only with LBR virtualization (AMD64
 * Architecture Programmer's Manual volume 2, section 15.35.2).  The kernel
 * enables it at launch (Linux 6.10 and later), which has not happened here, and
 * for vCPUs that use it: svm_update_lbrv().
 *
 * This must come after the move: the kernel lets the guest access DEBUGCTL
 * directly only if LBR virtualization is enabled for what is already a SEV-ES
 * vCPU.  Otherwise the guest is terminated when it writes 0 to DEBUGCTL
 * (KVM_BUG_ON in __svm_disable_lbrv()).  The guest does not see the value
 * written here: its own is in the VMSA.
 */
static void sev_es_virtualize_lbr(CPUState *cs)
{
    Error *err = NULL;

    if (!sev_put_msr(cs, MSR_IA32_DEBUGCTL, DEBUGCTL_LBR, &err)) {
        error_reportf_err(err, "SEV-ES: LBR virtualization: ");
    }
}

/*
 * When CPUID is set, the kernel determines whether the C-bit is reserved in CR3
 * (svm_vcpu_after_set_cpuid()), and with SEV-ES which MSRs the guest may access
 * directly.  So set CPUID again, then CR3 to its real value.  This is allowed
 * because no vCPU has run yet.
 */
static void sev_refresh_vcpus(void)
{
    size_t max = KVM_MAX_CPUID_ENTRIES;
    g_autofree struct kvm_cpuid2 *cpuid = NULL;
    CPUState *cs;

    cpuid = g_malloc0(sizeof(*cpuid) + max * sizeof(cpuid->entries[0]));
    CPU_FOREACH(cs) {
        int ret;

        cpuid->nent = max;
        ret = kvm_vcpu_ioctl(cs, KVM_GET_CPUID2, cpuid);
        if (ret == 0) {
            ret = kvm_vcpu_ioctl(cs, KVM_SET_CPUID2, cpuid);
        }
        if (ret == 0 && sev_es_enabled()) {
            ret = sev_es_put_nmi_mask(cs);
        }
        if (ret < 0) {
            /* the guest is here already, so this can't be fatal */
            error_report("SEV: CPUID of CPU %d: %s", cs->cpu_index,
                         strerror(-ret));
        }
        if (sev_es_enabled()) {
            sev_es_virtualize_lbr(cs);
        }
        /* protected registers must not be written */
        cs->vcpu_dirty = !sev_es_enabled();
    }
}

static bool sev_es_prepare_vcpus(Error **errp)
{
    ERRP_GUARD();
    CPUState *cs;

    CPU_FOREACH(cs) {
        int ret;

        /* 0 is its value already: this checks that the MSR is supported */
        if (!sev_put_msr(cs, MSR_IA32_DEBUGCTL, 0, errp)) {
            error_prepend(errp, "SEV-ES: LBR virtualization: ");
            return false;
        }
        /* the last time that registers are written */
        ret = cs->vcpu_dirty ?
              kvm_arch_put_registers(cs, KVM_PUT_FULL_STATE, errp) : 0;
        if (ret < 0) {
            return false;
        }
        cs->vcpu_dirty = false;
    }
    return true;
}

/* Pin RAM that was not adopted */
static int sev_pin_own(RAMBlock *block, void *opaque)
{
    if (!qemu_ram_is_migratable(block)) {
        sev_pin(qemu_ram_get_host_addr(block), qemu_ram_get_max_length(block));
    }
    return 0;
}

static bool sev_move(Error **errp)
{
    int ret = -EINVAL;

    if (!sev_enabled()) {
        return true;
    }
    if (sev_es_enabled() && !sev_es_prepare_vcpus(errp)) {
        return false;
    }
    /* EINVAL: that machine does not have the context, or not any more */
    for (guint i = sev.vms->len; i-- > 0 && ret == -EINVAL; ) {
        ret = kvm_vm_enable_cap(kvm_state, KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM,
                                0, g_array_index(sev.vms, int, i));
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "the kernel does not move the SEV "
                         "guest's encryption context%s",
                         ret == -EBUSY ? " (is there room for it in this "
                         "process's cgroup, misc.max?)" : "");
        return false;
    }
    sev.incoming = false;
    sev.moved = true;
    sev_charged();
    sev_moved_in(&sev.facts);
    qemu_ram_foreach_block(sev_pin_own, NULL);
    sev_refresh_vcpus();
    return true;
}

static const HandOverArch sev_hand_over = {
    .vm = sev_vm,
    .allows_migration = sev_allows_migration,
    .check = sev_check,
    .offer = sev_offer,
    .stopped = sev_stopped,
    .gone = sev_gone,
    .adopt = sev_adopt,
    .move = sev_move,
};

static void sev_hand_over_register(void)
{
    hand_over_arch_register(&sev_hand_over);
}

type_init(sev_hand_over_register);
