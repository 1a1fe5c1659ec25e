/*
 * Hand-over of a SEV guest: the destination must not use AVIC
 *
 * The kernel does not use it for SEV guests: it is inhibited at INIT
 * (APICV_INHIBIT_REASON_SEV), which is not done here, but not when a context is
 * moved in (Linux 6.12 to 7.2).  So it has to be inhibited for another of the
 * reasons in AVIC_REQUIRED_APICV_INHIBITS (svm.h).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "exec/target_page.h"
#include "hw/boards.h"
#include "hw/i386/x86.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "cpu.h"
#include "sev-hand-over.h"
#include "sev.h"

static bool avic_inhibited;     /* before there were vCPUs */

bool sev_hand_over_put_msr(CPUState *cs, uint32_t index, uint64_t value,
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

    if (sev_hand_over_incoming() && sev_es_enabled() && sev_avic_is_on() &&
        X86_MACHINE(current_machine)->pit != ON_OFF_AUTO_OFF) {
        /* The PIT reinjects from the start: APICV_INHIBIT_REASON_PIT_REINJ */
        avic_inhibited =
            kvm_vm_ioctl(kvm_state, KVM_CREATE_PIT2, &config) == 0;
    }
}

bool sev_hand_over_has_pit(void)
{
    return avic_inhibited;
}

/*
 * The kernel never uses AVIC again in a machine once an APIC's base has been
 * modified (APICV_INHIBIT_REASON_APIC_BASE_MODIFIED, Linux 6.0), whatever
 * becomes of the other reasons.  No vCPU runs here yet that could notice.
 */
bool sev_hand_over_inhibit_avic(Error **errp)
{
    ERRP_GUARD();
    const uint64_t base = APIC_DEFAULT_ADDRESS | MSR_IA32_APICBASE_ENABLE |
                          MSR_IA32_APICBASE_BSP;

    if (sev_es_enabled() && sev_avic_is_on() && !avic_inhibited) {
        error_setg(errp, "SEV-ES: the kernel uses AVIC for this machine, which "
                   "it must not for a guest with SEV-ES, and can't be kept "
                   "from it with kernel-irqchip=split or pit=off: expected "
                   "kernel-irqchip=on and the PIT, or a kernel with "
                   "kvm_amd.avic=0");
        return false;
    }
    if (!sev_hand_over_put_msr(first_cpu, MSR_IA32_APICBASE, base + TARGET_PAGE_SIZE,
                     errp) ||
        !sev_hand_over_put_msr(first_cpu, MSR_IA32_APICBASE, base, errp)) {
        error_prepend(errp, "SEV: AVIC can't be turned off: ");
        return false;
    }
    return true;
}
