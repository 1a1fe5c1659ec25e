/*
 * The nested state of a vCPU: what KVM keeps of a guest that is a hypervisor
 *
 * Its format (struct kvm_nested_state) is KVM's ABI, described in
 * Documentation/virt/kvm/api.rst of Linux (KVM_GET_NESTED_STATE); it is
 * validated by the rules of vmx_set_nested_state() and svm_set_nested_state().
 * Nothing here needs a vCPU, or KVM.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TARGET_I386_KVM_NESTED_STATE_FORMAT_H
#define TARGET_I386_KVM_NESTED_STATE_FORMAT_H

#include <linux/kvm.h>
#include "migration/vmstate.h"

/* Enough for any stream, regardless of what this kernel's KVM needs */
#define NESTED_STATE_BYTES \
    (sizeof(struct kvm_nested_state) + sizeof(struct kvm_vmx_nested_state_data))

/* Number of feature words that describe what a guest hypervisor is offered */
#define NESTED_STATE_OFFERED 16

/* What a destination needs to validate a state before it loads it */
typedef struct NestedStateIdentity {
    uint32_t format;                    /* KVM_STATE_NESTED_FORMAT_* */
    uint32_t max_size;                  /* KVM_CAP_NESTED_STATE, in bytes */
    uint32_t vmcs12_revision;           /* 0: no VMCSs */
    uint64_t offered[NESTED_STATE_OFFERED];
} NestedStateIdentity;

/* What a state has to match */
typedef struct NestedStateLimits {
    int format;                 /* of this vCPU; -1: no vmx or svm */
    uint32_t max_size;          /* bytes that this kernel's KVM accepts */
    uint32_t vmcs12_revision;   /* of this kernel's KVM */
    unsigned phys_bits;
    bool in_l2;                 /* the vCPU's registers are those of L2 */
    bool smm;                   /* ... or of system management mode */
    bool evmcs;                 /* enlightened VMCSs are enabled */
    /* whether there is guest RAM at the page @gpa; NULL: don't check */
    bool (*is_ram)(uint64_t gpa);
} NestedStateLimits;

/* The stream format since QEMU 4.1; its struct has NESTED_STATE_BYTES */
extern const VMStateDescription vmstate_kvm_nested_state;
extern const VMStateDescription vmstate_nested_state_identity;

/* "vmx" or "svm" */
const char *nested_state_format_name(int format);

/* Whether the guest is currently a hypervisor: VMXON, or L2 runs */
bool nested_state_in_use(const struct kvm_nested_state *state);

/* Whether @state has a timer deadline, which QEMU 10.0 would lose */
bool nested_state_has_deadline(const struct kvm_nested_state *state);

/*
 * Whether a vCPU with @limits can have @state.  A vmcs12 of a known revision
 * other than this kernel's is converted.
 * Returns false with @errp set if not: it names the field, its value, and what
 * would be accepted.
 */
bool nested_state_check(struct kvm_nested_state *state,
                        const NestedStateLimits *limits, Error **errp);

/*
 * The event that L1 is injecting into L2 with the entry that is pending, as
 * EVENTINJ or VM-entry interruption information (the two have one format: AMD
 * APM volume 2, 15.20; Intel SDM volume 3, 25.8.3); 0 if there is none.
 */
uint32_t nested_state_pending_event(const struct kvm_nested_state *state);

/*
 * Whether SMM has interrupted an L2 that has a shadow VMCS.  KVM then has the
 * content of the shadow VMCS in a cache, which is not part of the state
 * (vmx_get_nested_state() saves it in guest mode only).  When L2 goes on and
 * exits, KVM writes the cache back: zeroes, if the state was restored.
 */
bool nested_state_lacks_shadow(const struct kvm_nested_state *state);

#define NESTED_EVENT_VALID (1u << 31)
#define NESTED_EVENT_VECTOR(event) ((event) & 0xff)
#define NESTED_EVENT_TYPE(event) (((event) >> 8) & 7)
#define NESTED_EVENT_INTR 0
#define NESTED_EVENT_NMI 2
#define NESTED_EVENT_EXCEPTION 3
#define NESTED_EVENT_SOFT_INTR 4
#define NESTED_EVENT_PRIV_EXCEPTION 5
#define NESTED_EVENT_SOFT_EXCEPTION 6

/* A field of a VMCB: AMD APM volume 2, appendix B */
typedef struct VmcbField {
    uint16_t offset;
    uint8_t width;              /* bytes */
    const char *name;
} VmcbField;

/*
 * The fields that are part of KVM's state: the control area is L2's, the save
 * area is L1's.  @count is set to their number.
 */
const VmcbField *nested_state_vmcb_fields(size_t *count);
uint64_t nested_state_vmcb_read(const struct kvm_nested_state *state,
                                const VmcbField *field);

#endif
