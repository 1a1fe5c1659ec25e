/*
 * The layout of a vmcs12, the VMCS that a guest hypervisor works with
 *
 * KVM keeps it in guest memory and hands it to user space as part of the nested
 * state.  Its layout is identified by the revision in its first 31 bits, which
 * KVM reports to its guests in IA32_VMX_BASIC.  KVM keeps the layout of a
 * revision stable (arch/x86/kvm/vmx/vmcs12.h of Linux,
 * vmx_check_vmcs12_offsets()).
 *
 * Fields are named by their encodings: Intel SDM volume 3, appendix B.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TARGET_I386_KVM_VMCS12_H
#define TARGET_I386_KVM_VMCS12_H

#define VMCS12_BYTES 4096
#define VMCS12_REVISION_KVM 0x11e57ed0

/* Bit 31 of the first word: this is a shadow VMCS */
#define VMCS12_SHADOW (1u << 31)

/* Fields that are used by name */
#define VMCS12_LINK_POINTER 0x2800
#define VMCS12_PINBASED_CTLS 0x4000
#define VMCS12_PROCBASED_CTLS 0x4002
#define VMCS12_ENTRY_INTR_INFO 0x4016
#define VMCS12_SECONDARY_CTLS 0x401e

typedef struct Vmcs12Field {
    uint16_t encoding;
    uint16_t offset;
    const char *name;
} Vmcs12Field;

typedef struct Vmcs12Layout {
    uint32_t revision;
    /* in the order of their encodings */
    const Vmcs12Field *fields;
    size_t count;
} Vmcs12Layout;

/* NULL if @revision (without VMCS12_SHADOW) is not known */
const Vmcs12Layout *vmcs12_layout(uint32_t revision);

/* The first word without VMCS12_SHADOW */
uint32_t vmcs12_revision(const uint8_t *vmcs12);

/* Bytes of a field: 2, 4, or 8 */
unsigned vmcs12_field_width(uint16_t encoding);

const Vmcs12Field *vmcs12_find(const Vmcs12Layout *layout, uint16_t encoding);

uint64_t vmcs12_read(const uint8_t *vmcs12, const Vmcs12Field *field);
void vmcs12_write(uint8_t *vmcs12, const Vmcs12Field *field, uint64_t value);

/* A field's value; 0 if the layout does not have it */
uint64_t vmcs12_get(const uint8_t *vmcs12, const Vmcs12Layout *layout,
                    uint16_t encoding);

/*
 * Convert @vmcs12 (VMCS12_BYTES) from layout @from to layout @to, field by
 * field.  Returns false with @errp set, and leaves @vmcs12 as it is, if a field
 * that is not 0 has no place in @to.
 */
bool vmcs12_convert(uint8_t *vmcs12, const Vmcs12Layout *from,
                    const Vmcs12Layout *to, Error **errp);

#endif
