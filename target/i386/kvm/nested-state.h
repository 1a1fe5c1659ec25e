/*
 * A vCPU's nested state: storage, migration, and validation at the destination
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TARGET_I386_KVM_NESTED_STATE_H
#define TARGET_I386_KVM_NESTED_STATE_H

#include "cpu.h"

/*
 * Allocate the nested state of @cpu, which is VMX or SVM capable; @max_size is
 * what this kernel's KVM needs (bytes).  It is freed with g_free().
 */
void kvm_nested_state_new(X86CPU *cpu, uint32_t max_size);
void kvm_nested_state_free(X86CPU *cpu);

/*
 * KVM_SET_NESTED_STATE failed with errno @err: set @errp to a description of
 * the state, and a hint at the likely reason.
 */
void kvm_nested_state_refused(X86CPU *cpu, int err, Error **errp);

/* The subsection of "cpu"; its opaque is the X86CPU */
extern const VMStateDescription vmstate_nested_state;

#endif
