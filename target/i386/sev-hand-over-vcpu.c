/*
 * Hand-over of a SEV guest: vCPUs
 *
 * Before the move, the destination writes what the kernel does not move; after
 * it, what is possible only then.  See sev-hand-over.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "exec/cpu-common.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "cpu.h"
#include "kvm/kvm_i386.h"
#include "sev-hand-over.h"
#include "sev.h"

/* as in kvm/kvm.c */
#define KVM_MAX_CPUID_ENTRIES 100

static bool sev_es_incoming(void)
{
    return sev_hand_over_incoming() && sev_es_enabled();
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
     * wrong for a SEV-ES guest: see sev_hand_over_refresh_vcpus()
     */
    if (sev_es_incoming()) {
        events->nmi.masked = 0;
    }
}

/*
 * The kernel matches vCPUs by the order in which they were created, and
 * requires that all of them were there at launch: sev_check_source_vcpus()
 */
bool sev_hand_over_check_vcpus(Error **errp)
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
uint64List *sev_hand_over_vcpus(void)
{
    uint64List *list = NULL, **tail = &list;
    CPUState *cs;

    CPU_FOREACH(cs) {
        QAPI_LIST_APPEND(tail, kvm_arch_vcpu_id(cs));
    }
    return list;
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
bool sev_hand_over_get_vcpus(Error **errp)
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

    if (!sev_hand_over_put_msr(cs, MSR_IA32_DEBUGCTL, DEBUGCTL_LBR, &err)) {
        error_reportf_err(err, "SEV-ES: LBR virtualization: ");
    }
}

/*
 * When CPUID is set, the kernel determines whether the C-bit is reserved in CR3
 * (svm_vcpu_after_set_cpuid()), and with SEV-ES which MSRs the guest may access
 * directly.  So set CPUID again, then CR3 to its real value.  This is allowed
 * because no vCPU has run yet.
 */
void sev_hand_over_refresh_vcpus(void)
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

bool sev_hand_over_prepare_vcpus(Error **errp)
{
    ERRP_GUARD();
    CPUState *cs;

    CPU_FOREACH(cs) {
        int ret;

        /* 0 is its value already: this checks that the MSR is supported */
        if (!sev_hand_over_put_msr(cs, MSR_IA32_DEBUGCTL, 0, errp)) {
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
