/*
 * A vCPU's nested state: storage, migration, and validation at the destination
 *
 * A guest hypervisor (L1) and its guest (L2) migrate as one vCPU.  On SVM the
 * state has the controls of L2 and the state of L1 saved by VMRUN, while the
 * registers of L2 are the vCPU's own; on VMX all of it is in vmcs12 as well.
 * Hence the order in kvm_arch_put_registers(): special registers (EFER.SVME),
 * nested state, registers, MSRs, events.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "migration/probe.h"
#include "system/hw_accel.h"
#include "system/kvm.h"
#include "cpu.h"
#include "cpu-internal.h"
#include "kvm_i386.h"
#include "nested-state.h"
#include "nested-state-format.h"
#include "vmcs12.h"

/* What a guest hypervisor is offered; append new feature words at the end */
static const FeatureWord vmx_words[] = {
    FEAT_VMX_PROCBASED_CTLS, FEAT_VMX_SECONDARY_CTLS, FEAT_VMX_PINBASED_CTLS,
    FEAT_VMX_EXIT_CTLS, FEAT_VMX_ENTRY_CTLS, FEAT_VMX_MISC,
    FEAT_VMX_EPT_VPID_CAPS, FEAT_VMX_BASIC, FEAT_VMX_VMFUNC,
};
static const FeatureWord svm_words[] = { FEAT_SVM };
QEMU_BUILD_BUG_ON(ARRAY_SIZE(vmx_words) > NESTED_STATE_OFFERED);

static const FeatureWord *words_of(int format, size_t *count)
{
    bool vmx = format == KVM_STATE_NESTED_FORMAT_VMX;

    *count = vmx ? ARRAY_SIZE(vmx_words) : ARRAY_SIZE(svm_words);
    return vmx ? vmx_words : svm_words;
}

static int format_of(X86CPU *cpu)
{
    if (cpu_has_vmx(&cpu->env)) {
        return KVM_STATE_NESTED_FORMAT_VMX;
    }
    return cpu_has_svm(&cpu->env) ? KVM_STATE_NESTED_FORMAT_SVM : -1;
}

/* Of this kernel's KVM: bits 30:0 of IA32_VMX_BASIC */
static uint32_t kvm_vmcs12_revision(void)
{
    uint32_t revision = extract64(kvm_arch_get_supported_msr_feature(
                                      kvm_state, MSR_IA32_VMX_BASIC), 0, 31);

    /* a kernel that does not report it has the only one there has been */
    return revision ? revision : VMCS12_REVISION_KVM;
}

static NestedStateIdentity identity_of(X86CPU *cpu)
{
    NestedStateIdentity id = {
        .format = format_of(cpu),
        .max_size = kvm_max_nested_state_length(),
    };
    size_t count;
    const FeatureWord *words = words_of(id.format, &count);

    if (id.format == KVM_STATE_NESTED_FORMAT_VMX) {
        id.vmcs12_revision = kvm_vmcs12_revision();
    }
    for (size_t i = 0; i < count; i++) {
        id.offered[i] = cpu->env.features[words[i]];
    }
    return id;
}

/*
 * Whether this vCPU can replace the source's for L1: it must have the same
 * vendor's extension, with all features that L1 was offered there.
 */
static bool identity_check(X86CPU *cpu, const NestedStateIdentity *theirs,
                           Error **errp)
{
    NestedStateIdentity ours = identity_of(cpu);
    size_t count;
    const FeatureWord *words;

    if (ours.format != theirs->format) {
        error_setg(errp, "nested state: the source's vCPU has '%s', expected "
                   "'%s'", nested_state_format_name(theirs->format),
                   nested_state_format_name(ours.format));
        return false;
    }
    if (ours.vmcs12_revision != theirs->vmcs12_revision &&
        !(vmcs12_layout(ours.vmcs12_revision) &&
          vmcs12_layout(theirs->vmcs12_revision))) {
        error_setg(errp, "nested state: the source's vmcs12 revision is 0x%x, "
                   "expected 0x%x, that of this kernel's KVM",
                   theirs->vmcs12_revision, ours.vmcs12_revision);
        return false;
    }
    words = words_of(ours.format, &count);
    for (size_t i = 0; i < count; i++) {
        const FeatureWordInfo *word = &feature_word_info[words[i]];
        uint64_t missing = theirs->offered[i] & ~ours.offered[i];

        while (missing) {
            int bit = ctz64(missing);

            missing &= missing - 1;
            if (word->feat_names[bit]) {
                error_setg(errp, "nested state: the source's vCPU has the "
                           "feature '%s', which this one has not",
                           word->feat_names[bit]);
                return false;
            }
        }
    }
    return true;
}

/* BQL held, or in the thread that loads the state */
static bool is_ram(uint64_t gpa)
{
    MemoryRegionSection section = memory_region_find(get_system_memory(), gpa,
                                                     TARGET_PAGE_SIZE);
    bool ram = section.mr && memory_region_is_ram(section.mr);

    if (section.mr) {
        memory_region_unref(section.mr);
    }
    return ram;
}

static NestedStateLimits limits_of(X86CPU *cpu)
{
    return (NestedStateLimits) {
        .format = format_of(cpu),
        .max_size = kvm_max_nested_state_length(),
        .vmcs12_revision = kvm_vmcs12_revision(),
        .phys_bits = cpu->phys_bits,
        .in_l2 = cpu->env.hflags & HF_GUEST_MASK,
        .smm = cpu->env.hflags & HF_SMM_MASK,
        .evmcs = hyperv_feat_enabled(cpu, HYPERV_FEAT_EVMCS),
        .is_ram = is_ram,
    };
}

/*
 * An event that L1 is injecting into L2 with the pending entry is in the nested
 * state, and also in the vCPU's events if KVM was about to inject it when the
 * vCPU was stopped.  KVM_SET_NESTED_STATE injects it.  If KVM_SET_VCPU_EVENTS
 * did so once more, KVM would compute the next RIP of a software interrupt from
 * L2's current instruction, which is not a software interrupt.
 */
static void forget_event_of_l1(CPUX86State *env)
{
    uint32_t event = nested_state_pending_event(env->nested_state);
    int vector = NESTED_EVENT_VECTOR(event);

    if (!event) {
        return;
    }
    switch (NESTED_EVENT_TYPE(event)) {
    case NESTED_EVENT_INTR:
    case NESTED_EVENT_SOFT_INTR:
        if (env->interrupt_injected == vector) {
            env->interrupt_injected = -1;
            env->soft_interrupt = 0;
        }
        break;
    case NESTED_EVENT_NMI:
        env->nmi_injected = 0;
        break;
    case NESTED_EVENT_EXCEPTION:
    case NESTED_EVENT_PRIV_EXCEPTION:
    case NESTED_EVENT_SOFT_EXCEPTION:
        if (env->exception_injected && env->exception_nr == vector) {
            env->exception_injected = 0;
            env->exception_nr = -1;
            env->has_error_code = 0;
        }
        break;
    }
}

/*
 * The migration stream
 */

static bool nested_state_needed(void *opaque)
{
    X86CPU *cpu = opaque;
    struct kvm_nested_state *state = cpu->env.nested_state;

    return state && nested_state_in_use(state);
}

/*
 * The destination does not know @what, and would lose it: drop it only if that
 * was requested.  False: the guest stays.
 */
static bool may_drop(X86CPU *cpu, const char *what, const char *instead)
{
    Error *err = NULL;

    if (cpu->nested_state_drop) {
        warn_report("nested state of vCPU %d: %s is not sent, %s",
                    CPU(cpu)->cpu_index, what, instead);
        return true;
    }
    error_setg(&err, "nested state of vCPU %d: the destination does not know "
               "%s; use a newer QEMU there, or the CPU property "
               "nested-state-drop=on", CPU(cpu)->cpu_index, what);
    migration_refuse_destination(err);
    error_report_err(err);
    return false;
}

static int nested_state_pre_save(void *opaque)
{
    X86CPU *cpu = opaque;
    CPUX86State *env = &cpu->env;
    struct kvm_nested_state *state = env->nested_state;
    MigrationDestination peer = migration_destination();
    Error *err = NULL;

    if (nested_state_lacks_shadow(state)) {
        error_setg(&err, "nested state of vCPU %d: system management mode "
                   "interrupts an L2 with a shadow VMCS, which KVM can't save: "
                   "migrate again", CPU(cpu)->cpu_index);
        migration_refuse_destination(err);
        error_report_err(err);
        return -EINVAL;
    }
    if (peer == MIGRATION_DESTINATION_NESTED_STATE ||
        (peer == MIGRATION_DESTINATION_ONE_WAY && !cpu->nested_state_drop)) {
        return 0;
    }
    if (nested_state_has_deadline(state)) {
        if (!may_drop(cpu, "the deadline of the VMX-preemption timer",
                      "the timer starts anew")) {
            return -EINVAL;
        }
        state->hdr.vmx.flags = 0;
    }
    /* vmstate_exception_error_code */
    if ((env->hflags & HF_GUEST_MASK) && env->exception_nr != -1 &&
        env->has_error_code && env->error_code &&
        !may_drop(cpu, "the error code of the exception that L2 is getting",
                  "L2 gets 0")) {
        return -EINVAL;
    }
    return 0;
}

static int nested_state_pre_load(void *opaque)
{
    X86CPU *cpu = opaque;

    if (!cpu->env.nested_state) {
        error_report("nested state of vCPU %d: %s", CPU(cpu)->cpu_index,
                     format_of(cpu) == -1 ?
                     "this vCPU has neither vmx nor svm (CPU features)" :
                     "this kernel's KVM can't restore it");
        return -EINVAL;
    }
    return 0;
}

static int nested_state_post_load(void *opaque, int version_id)
{
    X86CPU *cpu = opaque;
    NestedStateLimits limits = limits_of(cpu);
    Error *err = NULL;

    if (!nested_state_check(cpu->env.nested_state, &limits, &err)) {
        error_prepend(&err, "vCPU %d: ", CPU(cpu)->cpu_index);
        error_report_err(err);
        return -EINVAL;
    }
    forget_event_of_l1(&cpu->env);
    return 0;
}

static bool identity_needed(void *opaque)
{
    return migration_destination() == MIGRATION_DESTINATION_NESTED_STATE;
}

static int identity_pre_save(void *opaque)
{
    X86CPU *cpu = opaque;

    *cpu->nested_state_identity = identity_of(cpu);
    return 0;
}

static int identity_post_load(void *opaque, int version_id)
{
    X86CPU *cpu = opaque;
    Error *err = NULL;

    if (!identity_check(cpu, cpu->nested_state_identity, &err)) {
        error_prepend(&err, "vCPU %d: ", CPU(cpu)->cpu_index);
        error_report_err(err);
        return -EINVAL;
    }
    return 0;
}

/* Added after QEMU 10.0; sent only to a destination that knows it */
static const VMStateDescription vmstate_identity = {
    .name = "cpu/nested_state/identity",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = identity_needed,
    .pre_save = identity_pre_save,
    .post_load = identity_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_STRUCT_POINTER(nested_state_identity, X86CPU,
                               vmstate_nested_state_identity,
                               struct NestedStateIdentity),
        VMSTATE_END_OF_LIST()
    }
};

const VMStateDescription vmstate_nested_state = {
    .name = "cpu/nested_state",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = nested_state_needed,
    .pre_save = nested_state_pre_save,
    .pre_load = nested_state_pre_load,
    .post_load = nested_state_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_STRUCT_POINTER(env.nested_state, X86CPU,
                               vmstate_kvm_nested_state,
                               struct kvm_nested_state),
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription * const []) {
        &vmstate_identity,
        NULL
    }
};

/*
 * Hooks of the migration
 */

static bool needs_answer(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        if (X86_CPU(cs)->env.nested_state) {
            return true;
        }
    }
    return false;
}

/*
 * With postcopy the source can't have the guest back once the destination runs
 * it, and that happens before it is proven that the destination's kernel
 * accepts the nested state.
 */
static bool can_postcopy(Error **errp)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        CPUX86State *env = &X86_CPU(cs)->env;

        if (!env->nested_state) {
            continue;
        }
        cpu_synchronize_state(cs);
        if (nested_state_in_use(env->nested_state) ||
            (env->efer & MSR_EFER_SVME)) {
            error_setg(errp, "vCPU %d is that of a hypervisor (%s is on): "
                       "postcopy can't give the guest back if the destination "
                       "refuses its nested state; let precopy complete",
                       cs->cpu_index,
                       nested_state_format_name(env->nested_state->format));
            return false;
        }
    }
    return true;
}

static const MigrationGuest guest = {
    .needs_answer = needs_answer,
    .can_postcopy = can_postcopy,
};

void kvm_nested_state_new(X86CPU *cpu, uint32_t max_size)
{
    cpu->env.nested_state = g_malloc0(MAX(max_size, NESTED_STATE_BYTES));
    cpu->env.nested_state->size = max_size;
    cpu->nested_state_identity = g_new0(NestedStateIdentity, 1);
    migration_set_guest(&guest);
}

void kvm_nested_state_free(X86CPU *cpu)
{
    g_clear_pointer(&cpu->env.nested_state, g_free);
    g_clear_pointer(&cpu->nested_state_identity, g_free);
}

void kvm_nested_state_refused(X86CPU *cpu, int err, Error **errp)
{
    ERRP_GUARD();
    const struct kvm_nested_state *state = cpu->env.nested_state;
    bool vmx = state->format == KVM_STATE_NESTED_FORMAT_VMX;

    error_setg_errno(errp, err, "this kernel refuses the nested state of vCPU "
                     "%d (%s, flags 0x%x, size %u, %s 0x%llx)",
                     CPU(cpu)->cpu_index,
                     nested_state_format_name(state->format), state->flags,
                     state->size, vmx ? "vmcs12_pa" : "vmcb_pa",
                     vmx ? state->hdr.vmx.vmcs12_pa : state->hdr.svm.vmcb_pa);
    error_append_hint(errp, "Its %s must have nested=1, and the CPU model what "
                      "the guest hypervisor was offered at the source.\n",
                      vmx ? "kvm_intel" : "kvm_amd");
}
