/*
 * The nested state of a vCPU: what KVM keeps of a guest that is a hypervisor
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qapi/error.h"
#include "nested-state-format.h"
#include "vmcs12.h"

#define HEADER offsetof(struct kvm_nested_state, data)
#define WITH_VMCS12 (HEADER + KVM_STATE_NESTED_VMX_VMCS_SIZE)
#define WITH_SHADOW (WITH_VMCS12 + KVM_STATE_NESTED_VMX_VMCS_SIZE)
#define WITH_VMCB (HEADER + KVM_STATE_NESTED_SVM_VMCB_SIZE)

#define NO_GPA UINT64_MAX

/* SDM volume 3, 25.6.1 and 25.6.2 */
#define PINBASED_PREEMPTION_TIMER (1u << 6)
#define PROCBASED_SECONDARY (1u << 31)
#define SECONDARY_SHADOW_VMCS (1u << 14)

/* APM volume 2, appendix B */
#define VMCB_INTERCEPT_VMRUN 0x10       /* bit 0 */
#define VMCB_ASID 0x58
#define VMCB_EVENTINJ 0xa8
#define VMCB_EFER 0x4d0
#define VMCB_CR0 0x558
#define VMCB_RFLAGS 0x570
#define EFER_SVME (1ull << 12)
#define CR0_PE_PG (1ull | 1ull << 31)
#define RFLAGS_VM (1ull << 17)

static const VmcbField vmcb_fields[] = {
    { 0x000, 2, "Intercept reads of CR0-CR15" },
    { 0x002, 2, "Intercept writes of CR0-CR15" },
    { 0x004, 2, "Intercept reads of DR0-DR15" },
    { 0x006, 2, "Intercept writes of DR0-DR15" },
    { 0x008, 4, "Intercept exception vectors" },
    { 0x00c, 4, "Intercepts (vector 3)" },
    { 0x010, 4, "Intercepts (vector 4)" },
    { 0x014, 4, "Intercepts (vector 5)" },
    { 0x03c, 2, "PAUSE Filter Threshold" },
    { 0x03e, 2, "PAUSE Filter Count" },
    { 0x040, 8, "IOPM_BASE_PA" },
    { 0x048, 8, "MSRPM_BASE_PA" },
    { 0x050, 8, "TSC_OFFSET" },
    { 0x058, 4, "Guest ASID" },
    { 0x05c, 1, "TLB_CONTROL" },
    { 0x060, 8, "V_TPR, V_IRQ, VGIF, V_INTR" },
    { 0x068, 8, "INTERRUPT_SHADOW, GUEST_INTERRUPT_MASK" },
    { 0x070, 8, "EXITCODE" },
    { 0x078, 8, "EXITINFO1" },
    { 0x080, 8, "EXITINFO2" },
    { 0x088, 8, "EXITINTINFO" },
    { 0x090, 8, "NP_ENABLE and others" },
    { VMCB_EVENTINJ, 8, "EVENTINJ" },
    { 0x0b0, 8, "N_CR3" },
    { 0x0b8, 8, "LBR_VIRTUALIZATION_ENABLE and others" },
    { 0x0c0, 4, "VMCB Clean Bits" },
    { 0x0c8, 8, "nRIP" },
    /* the save area */
    { 0x410, 2, "CS selector" },
    { 0x412, 2, "CS attributes" },
    { 0x414, 4, "CS limit" },
    { 0x418, 8, "CS base" },
    { 0x464, 4, "GDTR limit" },
    { 0x468, 8, "GDTR base" },
    { 0x484, 4, "IDTR limit" },
    { 0x488, 8, "IDTR base" },
    { VMCB_EFER, 8, "EFER" },
    { 0x548, 8, "CR4" },
    { 0x550, 8, "CR3" },
    { VMCB_CR0, 8, "CR0" },
    { VMCB_RFLAGS, 8, "RFLAGS" },
    { 0x578, 8, "RIP" },
    { 0x5d8, 8, "RSP" },
    { 0x5f8, 8, "RAX" },
};

const VmcbField *nested_state_vmcb_fields(size_t *count)
{
    *count = ARRAY_SIZE(vmcb_fields);
    return vmcb_fields;
}

uint64_t nested_state_vmcb_read(const struct kvm_nested_state *state,
                                const VmcbField *field)
{
    return ldn_le_p(state->data.svm[0].vmcb12 + field->offset, field->width);
}

/*
 * The stream
 */

static bool vmcs12_needed(void *opaque)
{
    struct kvm_nested_state *state = opaque;

    return state->size > HEADER;
}

static const VMStateDescription vmstate_vmcs12 = {
    .name = "cpu/kvm_nested_state/vmx/vmcs12",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = vmcs12_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8_ARRAY(data.vmx[0].vmcs12, struct kvm_nested_state,
                            KVM_STATE_NESTED_VMX_VMCS_SIZE),
        VMSTATE_END_OF_LIST()
    }
};

static bool shadow_vmcs12_needed(void *opaque)
{
    struct kvm_nested_state *state = opaque;

    return state->size > WITH_VMCS12;
}

static const VMStateDescription vmstate_shadow_vmcs12 = {
    .name = "cpu/kvm_nested_state/vmx/shadow_vmcs12",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = shadow_vmcs12_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8_ARRAY(data.vmx[0].shadow_vmcs12, struct kvm_nested_state,
                            KVM_STATE_NESTED_VMX_VMCS_SIZE),
        VMSTATE_END_OF_LIST()
    }
};

bool nested_state_has_deadline(const struct kvm_nested_state *state)
{
    return state->format == KVM_STATE_NESTED_FORMAT_VMX &&
           (state->hdr.vmx.flags & KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE);
}

static bool preemption_timer_needed(void *opaque)
{
    return nested_state_has_deadline(opaque);
}

/* Added after QEMU 10.0, which loses the deadline: the timer starts over */
static const VMStateDescription vmstate_preemption_timer = {
    .name = "cpu/kvm_nested_state/vmx/preemption_timer",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = preemption_timer_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_U32(hdr.vmx.flags, struct kvm_nested_state),
        VMSTATE_U64(hdr.vmx.preemption_timer_deadline, struct kvm_nested_state),
        VMSTATE_END_OF_LIST()
    }
};

static bool vmx_needed(void *opaque)
{
    struct kvm_nested_state *state = opaque;

    return state->format == KVM_STATE_NESTED_FORMAT_VMX &&
           state->hdr.vmx.vmxon_pa != NO_GPA;
}

static const VMStateDescription vmstate_vmx = {
    .name = "cpu/kvm_nested_state/vmx",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = vmx_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_U64(hdr.vmx.vmxon_pa, struct kvm_nested_state),
        VMSTATE_U64(hdr.vmx.vmcs12_pa, struct kvm_nested_state),
        VMSTATE_U16(hdr.vmx.smm.flags, struct kvm_nested_state),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription * const []) {
        &vmstate_vmcs12,
        &vmstate_shadow_vmcs12,
        &vmstate_preemption_timer,
        NULL,
    }
};

/* GUEST_MODE and GIF_SET are in hflags and hflags2 as well */
static bool svm_needed(void *opaque)
{
    struct kvm_nested_state *state = opaque;

    return state->format == KVM_STATE_NESTED_FORMAT_SVM && state->size > HEADER;
}

static const VMStateDescription vmstate_svm = {
    .name = "cpu/kvm_nested_state/svm",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = svm_needed,
    .fields = (const VMStateField[]) {
        VMSTATE_U64(hdr.svm.vmcb_pa, struct kvm_nested_state),
        VMSTATE_UINT8_ARRAY(data.svm[0].vmcb12, struct kvm_nested_state,
                            KVM_STATE_NESTED_SVM_VMCB_SIZE),
        VMSTATE_END_OF_LIST()
    }
};

const VMStateDescription vmstate_kvm_nested_state = {
    .name = "cpu/kvm_nested_state",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_U16(flags, struct kvm_nested_state),
        VMSTATE_U16(format, struct kvm_nested_state),
        VMSTATE_U32(size, struct kvm_nested_state),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription * const []) {
        &vmstate_vmx,
        &vmstate_svm,
        NULL
    }
};

const VMStateDescription vmstate_nested_state_identity = {
    .name = "nested_state_identity",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(format, NestedStateIdentity),
        VMSTATE_UINT32(max_size, NestedStateIdentity),
        VMSTATE_UINT32(vmcs12_revision, NestedStateIdentity),
        VMSTATE_UINT64_ARRAY(offered, NestedStateIdentity,
                             NESTED_STATE_OFFERED),
        VMSTATE_END_OF_LIST()
    }
};

/*
 * Validation
 */

const char *nested_state_format_name(int format)
{
    switch (format) {
    case KVM_STATE_NESTED_FORMAT_VMX:
        return "vmx";
    case KVM_STATE_NESTED_FORMAT_SVM:
        return "svm";
    default:
        return "unknown";
    }
}

bool nested_state_in_use(const struct kvm_nested_state *state)
{
    switch (state->format) {
    case KVM_STATE_NESTED_FORMAT_VMX:
        return state->hdr.vmx.vmxon_pa != NO_GPA;
    case KVM_STATE_NESTED_FORMAT_SVM:
        return state->flags & KVM_STATE_NESTED_GUEST_MODE;
    default:
        return false;
    }
}

static bool G_GNUC_PRINTF(4, 5)
wrong(Error **errp, const char *field, uint64_t value, const char *expected,
      ...)
{
    g_autofree char *what = NULL;
    va_list ap;

    va_start(ap, expected);
    what = g_strdup_vprintf(expected, ap);
    va_end(ap);
    error_setg(errp, "nested state: %s is 0x%" PRIx64 ", expected %s", field,
               value, what);
    return false;
}

static bool check_flags(const char *field, uint64_t value, uint64_t accepted,
                        Error **errp)
{
    return value & ~accepted ?
           wrong(errp, field, value, "no bits but 0x%" PRIx64, accepted) : true;
}

/* @bit of @value may be set only with @other */
static bool check_needs(const char *field, uint64_t value, uint64_t bit,
                        bool other, const char *what, Error **errp)
{
    return (value & bit) && !other ?
           wrong(errp, field, value, "bit 0x%" PRIx64 " only with %s", bit,
                 what) : true;
}

static bool check_page(const char *field, uint64_t gpa,
                       const NestedStateLimits *limits, Error **errp)
{
    if (gpa & 0xfff || gpa >> limits->phys_bits) {
        return wrong(errp, field, gpa, "the address of a page of 4 KiB of at "
                     "most %u bits", limits->phys_bits);
    }
    if (limits->is_ram && !limits->is_ram(gpa)) {
        return wrong(errp, field, gpa, "an address in the guest's RAM");
    }
    return true;
}

/* @what: "vmcs12" or "shadow_vmcs12" */
static bool check_vmcs12(const char *what, uint8_t *vmcs12, bool shadow,
                         const NestedStateLimits *limits, Error **errp)
{
    uint32_t revision = vmcs12_revision(vmcs12);
    g_autofree char *field = g_strdup_printf("the revision of %s", what);
    const Vmcs12Layout *from, *to;

    if (shadow && !(ldl_le_p(vmcs12) & VMCS12_SHADOW)) {
        return wrong(errp, what, (uint32_t)ldl_le_p(vmcs12),
                     "a shadow VMCS (bit 31)");
    }
    if (revision == limits->vmcs12_revision) {
        return true;
    }
    from = vmcs12_layout(revision);
    to = vmcs12_layout(limits->vmcs12_revision);
    if (!from || !to) {
        return wrong(errp, field, revision, "that of this kernel's KVM, 0x%x",
                     limits->vmcs12_revision);
    }
    return vmcs12_convert(vmcs12, from, to, errp);
}

static bool vmcs12_has_shadow(const uint8_t *vmcs12, const Vmcs12Layout *layout)
{
    return layout &&
           (vmcs12_get(vmcs12, layout, VMCS12_PROCBASED_CTLS) &
            PROCBASED_SECONDARY) &&
           (vmcs12_get(vmcs12, layout, VMCS12_SECONDARY_CTLS) &
            SECONDARY_SHADOW_VMCS) &&
           vmcs12_get(vmcs12, layout, VMCS12_LINK_POINTER) != NO_GPA;
}

/* vmx_set_nested_state() of Linux, arch/x86/kvm/vmx/nested.c */
static bool check_vmx(struct kvm_nested_state *state,
                      const NestedStateLimits *limits, Error **errp)
{
    struct kvm_vmx_nested_state_hdr *vmx = &state->hdr.vmx;
    bool in_l2 = state->flags & KVM_STATE_NESTED_GUEST_MODE;
    bool evmcs = state->flags & KVM_STATE_NESTED_EVMCS;
    uint8_t *vmcs12 = state->data.vmx[0].vmcs12;
    const Vmcs12Layout *layout;

    if (!check_flags("flags", state->flags,
                     KVM_STATE_NESTED_GUEST_MODE |
                     KVM_STATE_NESTED_RUN_PENDING |
                     KVM_STATE_NESTED_EVMCS | KVM_STATE_NESTED_MTF_PENDING,
                     errp) ||
        !check_flags("hdr.vmx.flags", vmx->flags,
                     KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE, errp) ||
        !check_flags("hdr.vmx.smm.flags", vmx->smm.flags,
                     KVM_STATE_NESTED_SMM_GUEST_MODE |
                     KVM_STATE_NESTED_SMM_VMXON, errp)) {
        return false;
    }
    if (state->size != HEADER && state->size != WITH_VMCS12 &&
        state->size != WITH_SHADOW) {
        return wrong(errp, "size", state->size, "%zu, %zu, or %zu", HEADER,
                     WITH_VMCS12, WITH_SHADOW);
    }
    if (!check_needs("flags", state->flags, KVM_STATE_NESTED_RUN_PENDING |
                     KVM_STATE_NESTED_MTF_PENDING, in_l2,
                     "KVM_STATE_NESTED_GUEST_MODE", errp) ||
        !check_needs("hdr.vmx.flags", vmx->flags,
                     KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE, in_l2,
                     "KVM_STATE_NESTED_GUEST_MODE in flags", errp)) {
        return false;
    }
    if (vmx->smm.flags && !limits->smm) {
        return wrong(errp, "hdr.vmx.smm.flags", vmx->smm.flags,
                     "0 outside system management mode");
    }
    if (in_l2 && limits->smm) {
        return wrong(errp, "flags", state->flags, "no L2 in system management "
                     "mode");
    }
    if (!check_needs("hdr.vmx.smm.flags", vmx->smm.flags,
                     KVM_STATE_NESTED_SMM_GUEST_MODE,
                     vmx->smm.flags & KVM_STATE_NESTED_SMM_VMXON,
                     "KVM_STATE_NESTED_SMM_VMXON", errp) ||
        !check_needs("flags", state->flags, KVM_STATE_NESTED_EVMCS,
                     limits->evmcs,
                     "enlightened VMCSs, which this vCPU does not have "
                     "(hv-evmcs=on)", errp)) {
        return false;
    }

    if (vmx->vmxon_pa == NO_GPA) {
        if (vmx->vmcs12_pa != NO_GPA) {
            return wrong(errp, "hdr.vmx.vmcs12_pa", vmx->vmcs12_pa,
                         "no address without VMXON");
        }
        if (in_l2 || state->size != HEADER) {
            return wrong(errp, "hdr.vmx.vmxon_pa", vmx->vmxon_pa,
                         "the VMXON region of a vCPU with a VMCS");
        }
        return true;
    }
    if (!check_page("hdr.vmx.vmxon_pa", vmx->vmxon_pa, limits, errp)) {
        return false;
    }
    if (state->size == HEADER) {
        if (in_l2 || evmcs || vmx->vmcs12_pa != NO_GPA) {
            return wrong(errp, "size", state->size, "at least %zu, there is a "
                         "VMCS", WITH_VMCS12);
        }
        return true;
    }

    if (evmcs) {
        if (vmx->vmcs12_pa != NO_GPA) {
            return wrong(errp, "hdr.vmx.vmcs12_pa", vmx->vmcs12_pa,
                         "no address, the VMCS is an enlightened one");
        }
    } else {
        if (vmx->vmcs12_pa == vmx->vmxon_pa) {
            return wrong(errp, "hdr.vmx.vmcs12_pa", vmx->vmcs12_pa,
                         "another page than hdr.vmx.vmxon_pa");
        }
        if (!check_page("hdr.vmx.vmcs12_pa", vmx->vmcs12_pa, limits, errp)) {
            return false;
        }
    }
    if (!check_vmcs12("vmcs12", vmcs12, false, limits, errp)) {
        return false;
    }
    layout = vmcs12_layout(limits->vmcs12_revision);
    if (in_l2 && vmcs12_has_shadow(vmcs12, layout)) {
        if (state->size != WITH_SHADOW) {
            return wrong(errp, "size", state->size, "%zu, L2's VMCS has a "
                         "shadow VMCS", WITH_SHADOW);
        }
        if (!check_vmcs12("shadow_vmcs12", state->data.vmx[0].shadow_vmcs12,
                          true, limits, errp)) {
            return false;
        }
    }
    return !layout ||
           check_needs("hdr.vmx.flags", vmx->flags,
                       KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE,
                       vmcs12_get(vmcs12, layout, VMCS12_PINBASED_CTLS) &
                       PINBASED_PREEMPTION_TIMER,
                       "a VMX-preemption timer in vmcs12", errp);
}

/* svm_set_nested_state() of Linux, arch/x86/kvm/svm/nested.c */
static bool check_svm(struct kvm_nested_state *state,
                      const NestedStateLimits *limits, Error **errp)
{
    bool in_l2 = state->flags & KVM_STATE_NESTED_GUEST_MODE;
    const uint8_t *vmcb = state->data.svm[0].vmcb12;
    uint32_t size = in_l2 ? WITH_VMCB : HEADER;
    uint64_t cr0, efer, rflags;

    if (!check_flags("flags", state->flags,
                     KVM_STATE_NESTED_GUEST_MODE |
                     KVM_STATE_NESTED_RUN_PENDING |
                     KVM_STATE_NESTED_GIF_SET, errp) ||
        !check_needs("flags", state->flags, KVM_STATE_NESTED_RUN_PENDING, in_l2,
                     "KVM_STATE_NESTED_GUEST_MODE", errp)) {
        return false;
    }
    if (state->size != size) {
        return wrong(errp, "size", state->size, "%u %s", size,
                     in_l2 ? "in L2" : "outside L2");
    }
    if (!in_l2) {
        return true;
    }
    if (limits->smm) {
        return wrong(errp, "flags", state->flags, "no L2 in system management "
                     "mode");
    }
    if (!check_page("hdr.svm.vmcb_pa", state->hdr.svm.vmcb_pa, limits, errp)) {
        return false;
    }
    if (!(ldl_le_p(vmcb + VMCB_INTERCEPT_VMRUN) & 1)) {
        return wrong(errp, "vmcb12's intercepts (vector 4)",
                     (uint32_t)ldl_le_p(vmcb + VMCB_INTERCEPT_VMRUN),
                     "that of VMRUN");
    }
    if (!ldl_le_p(vmcb + VMCB_ASID)) {
        return wrong(errp, "vmcb12's ASID", 0, "not 0");
    }
    efer = ldq_le_p(vmcb + VMCB_EFER);
    if (!(efer & EFER_SVME)) {
        return wrong(errp, "L1's EFER", efer, "EFER.SVME");
    }
    cr0 = ldq_le_p(vmcb + VMCB_CR0);
    if ((cr0 & CR0_PE_PG) != CR0_PE_PG) {
        return wrong(errp, "L1's CR0", cr0, "CR0.PE and CR0.PG");
    }
    rflags = ldq_le_p(vmcb + VMCB_RFLAGS);
    if (rflags & RFLAGS_VM) {
        return wrong(errp, "L1's RFLAGS", rflags, "not RFLAGS.VM");
    }
    return true;
}

bool nested_state_check(struct kvm_nested_state *state,
                        const NestedStateLimits *limits, Error **errp)
{
    bool in_l2 = state->flags & KVM_STATE_NESTED_GUEST_MODE;

    if (limits->format == -1) {
        error_setg(errp, "nested state: format is '%s', expected none: this "
                   "vCPU has neither vmx nor svm",
                   nested_state_format_name(state->format));
        return false;
    }
    if (state->format != limits->format) {
        error_setg(errp, "nested state: format is 0x%x (%s), expected 0x%x "
                   "(%s), that of this host's processor", state->format,
                   nested_state_format_name(state->format), limits->format,
                   nested_state_format_name(limits->format));
        return false;
    }
    if (state->size < HEADER || state->size > limits->max_size) {
        return wrong(errp, "size", state->size, "%zu to %u, what this "
                     "kernel's KVM takes", HEADER, limits->max_size);
    }
    if (in_l2 != limits->in_l2) {
        return wrong(errp, "flags", state->flags, "%s L2, where the vCPU's "
                     "registers are", limits->in_l2 ? "in" : "outside");
    }
    return state->format == KVM_STATE_NESTED_FORMAT_VMX ?
           check_vmx(state, limits, errp) : check_svm(state, limits, errp);
}

uint32_t nested_state_pending_event(const struct kvm_nested_state *state)
{
    const Vmcs12Layout *layout;
    uint32_t event;

    if (!(state->flags & KVM_STATE_NESTED_RUN_PENDING)) {
        return 0;
    }
    if (state->format == KVM_STATE_NESTED_FORMAT_SVM) {
        event = ldl_le_p(state->data.svm[0].vmcb12 + VMCB_EVENTINJ);
    } else {
        const uint8_t *vmcs12 = state->data.vmx[0].vmcs12;

        layout = vmcs12_layout(vmcs12_revision(vmcs12));
        event = layout ? vmcs12_get(vmcs12, layout, VMCS12_ENTRY_INTR_INFO) : 0;
    }
    return event & NESTED_EVENT_VALID ? event : 0;
}

bool nested_state_lacks_shadow(const struct kvm_nested_state *state)
{
    const uint8_t *vmcs12 = state->data.vmx[0].vmcs12;

    if (state->format != KVM_STATE_NESTED_FORMAT_VMX ||
        !(state->hdr.vmx.smm.flags & KVM_STATE_NESTED_SMM_GUEST_MODE) ||
        state->size < WITH_VMCS12) {
        return false;
    }
    return vmcs12_has_shadow(vmcs12, vmcs12_layout(vmcs12_revision(vmcs12)));
}
