/*
 * query-nested-state and "info nested"
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-nested-state-target.h"
#include "monitor/hmp.h"
#include "monitor/hmp-target.h"
#include "monitor/monitor.h"
#include "system/hw_accel.h"
#include "cpu.h"
#ifdef CONFIG_KVM
#include "kvm/nested-state-format.h"
#include "kvm/vmcs12.h"
#endif

#ifdef CONFIG_KVM
static NestedField *new_field(const char *name, uint16_t id, uint64_t value)
{
    NestedField *field = g_new0(NestedField, 1);

    field->name = g_strdup(name);
    field->id = id;
    field->value = value;
    return field;
}

/* Empty if the layout is not known */
static NestedFieldList *vmcs_fields(const uint8_t *vmcs12)
{
    const Vmcs12Layout *layout = vmcs12_layout(vmcs12_revision(vmcs12));
    NestedFieldList *list = NULL, **tail = &list;

    for (size_t i = 0; layout && i < layout->count; i++) {
        const Vmcs12Field *field = &layout->fields[i];

        QAPI_LIST_APPEND(tail, new_field(field->name, field->encoding,
                                         vmcs12_read(vmcs12, field)));
    }
    return list;
}

static NestedFieldList *vmcb_fields(const struct kvm_nested_state *state)
{
    NestedFieldList *list = NULL, **tail = &list;
    size_t count;
    const VmcbField *fields = nested_state_vmcb_fields(&count);

    for (size_t i = 0; i < count; i++) {
        QAPI_LIST_APPEND(tail, new_field(fields[i].name, fields[i].offset,
                                         nested_state_vmcb_read(state,
                                                                &fields[i])));
    }
    return list;
}

static void describe_vmx(const struct kvm_nested_state *state,
                         NestedStateInfo *info)
{
    const struct kvm_vmx_nested_state_hdr *vmx = &state->hdr.vmx;

    info->vendor = NESTED_VENDOR_VMX;
    info->operation = vmx->vmxon_pa != UINT64_MAX;
    if (!info->operation) {
        return;
    }
    info->has_vmxon_address = true;
    info->vmxon_address = vmx->vmxon_pa;
    info->has_enlightened = true;
    info->enlightened = state->flags & KVM_STATE_NESTED_EVMCS;
    if (vmx->vmcs12_pa != UINT64_MAX) {
        info->has_vmcs_address = true;
        info->vmcs_address = vmx->vmcs12_pa;
    }
    if (nested_state_has_deadline(state)) {
        info->has_preemption_timer_deadline = true;
        info->preemption_timer_deadline = vmx->preemption_timer_deadline;
    }
    if (state->size > offsetof(struct kvm_nested_state, data.vmx[0].vmcs12)) {
        info->has_vmcs_revision = true;
        info->vmcs_revision = vmcs12_revision(state->data.vmx[0].vmcs12);
        info->fields = vmcs_fields(state->data.vmx[0].vmcs12);
    }
    if (state->size >
        offsetof(struct kvm_nested_state, data.vmx[0].shadow_vmcs12)) {
        info->has_shadow_fields = true;
        info->shadow_fields = vmcs_fields(state->data.vmx[0].shadow_vmcs12);
    }
}

static void describe_svm(const CPUX86State *env, NestedStateInfo *info)
{
    const struct kvm_nested_state *state = env->nested_state;

    info->vendor = NESTED_VENDOR_SVM;
    info->operation = info->guest_mode || (env->efer & MSR_EFER_SVME);
    info->has_gif = true;
    info->gif = state->flags & KVM_STATE_NESTED_GIF_SET;
    if (info->guest_mode) {
        info->has_vmcb_address = true;
        info->vmcb_address = state->hdr.svm.vmcb_pa;
        info->fields = vmcb_fields(state);
    }
}

static void describe(const CPUX86State *env, NestedStateInfo *info)
{
    const struct kvm_nested_state *state = env->nested_state;
    uint32_t event;

    if (!state) {
        return;
    }
    info->guest_mode = state->flags & KVM_STATE_NESTED_GUEST_MODE;
    info->run_pending = state->flags & KVM_STATE_NESTED_RUN_PENDING;
    event = nested_state_pending_event(state);
    if (event) {
        info->has_pending_event = true;
        info->pending_event = event;
    }
    if (state->format == KVM_STATE_NESTED_FORMAT_VMX) {
        describe_vmx(state, info);
    } else {
        describe_svm(env, info);
    }
}
#else
static void describe(const CPUX86State *env, NestedStateInfo *info)
{
}
#endif

NestedStateInfoList *qmp_query_nested_state(Error **errp)
{
    NestedStateInfoList *list = NULL, **tail = &list;
    CPUState *cs;

    CPU_FOREACH(cs) {
        NestedStateInfo *info = g_new0(NestedStateInfo, 1);

        cpu_synchronize_state(cs);
        info->cpu_index = cs->cpu_index;
        describe(cpu_env(cs), info);
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

static void print_fields(Monitor *mon, const char *title,
                         const NestedFieldList *fields)
{
    if (fields) {
        monitor_printf(mon, "  %s:\n", title);
    }
    for (; fields; fields = fields->next) {
        monitor_printf(mon, "    %04x %-46s %016" PRIx64 "\n",
                       fields->value->id, fields->value->name,
                       fields->value->value);
    }
}

void hmp_info_nested(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    g_autoptr(NestedStateInfoList) list = qmp_query_nested_state(&err);

    if (hmp_handle_error(mon, err)) {
        return;
    }
    for (NestedStateInfoList *l = list; l; l = l->next) {
        NestedStateInfo *info = l->value;

        monitor_printf(mon, "CPU #%" PRId64 ": %s, %s, %s%s\n", info->cpu_index,
                       NestedVendor_str(info->vendor),
                       info->operation ? "on" : "off",
                       info->guest_mode ? "in L2" : "not in L2",
                       info->run_pending ? ", entry pending" : "");
        if (info->has_pending_event) {
            monitor_printf(mon, "  event injected by the entry: 0x%08x\n",
                           info->pending_event);
        }
        if (info->has_gif) {
            monitor_printf(mon, "  GIF: %d\n", info->gif);
        }
        if (info->has_vmxon_address) {
            monitor_printf(mon, "  VMXON region: 0x%" PRIx64 "\n",
                           info->vmxon_address);
        }
        if (info->has_vmcs_address) {
            monitor_printf(mon, "  VMCS: 0x%" PRIx64 "\n", info->vmcs_address);
        }
        if (info->has_vmcs_revision) {
            monitor_printf(mon, "  VMCS revision: 0x%x%s\n",
                           info->vmcs_revision,
                           info->enlightened ? ", enlightened" : "");
        }
        if (info->has_preemption_timer_deadline) {
            monitor_printf(mon, "  VMX-preemption timer: until 0x%" PRIx64 "\n",
                           info->preemption_timer_deadline);
        }
        if (info->has_vmcb_address) {
            monitor_printf(mon, "  VMCB: 0x%" PRIx64 "\n", info->vmcb_address);
        }
        print_fields(mon, info->vendor == NESTED_VENDOR_SVM ?
                     "VMCB (controls of L2, saved state of L1)" : "VMCS",
                     info->fields);
        if (info->has_shadow_fields) {
            print_fields(mon, "shadow VMCS", info->shadow_fields);
        }
    }
}
