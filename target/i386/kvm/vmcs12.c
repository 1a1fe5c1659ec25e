/*
 * The layout of a vmcs12, the VMCS that a guest hypervisor works with
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qapi/error.h"
#include "vmcs12.h"

/* Precedes the fields in all revisions: SDM volume 3, 25.2 */
#define OFFSET_ABORT 4
/* ... and so does a word of KVM's own: whether it was launched */
#define OFFSET_LAUNCH_STATE 8

static const Vmcs12Field kvm_fields[] = {
    { 0x0000, 960, "Virtual-processor identifier (VPID)" },
    { 0x0002, 962, "Posted-interrupt notification vector" },
    { 0x0800, 964, "Guest ES selector" },
    { 0x0802, 966, "Guest CS selector" },
    { 0x0804, 968, "Guest SS selector" },
    { 0x0806, 970, "Guest DS selector" },
    { 0x0808, 972, "Guest FS selector" },
    { 0x080a, 974, "Guest GS selector" },
    { 0x080c, 976, "Guest LDTR selector" },
    { 0x080e, 978, "Guest TR selector" },
    { 0x0810, 980, "Guest interrupt status" },
    { 0x0812, 996, "PML index" },
    { 0x0c00, 982, "Host ES selector" },
    { 0x0c02, 984, "Host CS selector" },
    { 0x0c04, 986, "Host SS selector" },
    { 0x0c06, 988, "Host DS selector" },
    { 0x0c08, 990, "Host FS selector" },
    { 0x0c0a, 992, "Host GS selector" },
    { 0x0c0c, 994, "Host TR selector" },
    { 0x2000, 40, "Address of I/O bitmap A" },
    { 0x2002, 48, "Address of I/O bitmap B" },
    { 0x2004, 56, "Address of MSR bitmaps" },
    { 0x2006, 64, "VM-exit MSR-store address" },
    { 0x2008, 72, "VM-exit MSR-load address" },
    { 0x200a, 80, "VM-entry MSR-load address" },
    { 0x200e, 312, "PML address" },
    { 0x2010, 88, "TSC offset" },
    { 0x2012, 96, "Virtual-APIC address" },
    { 0x2014, 104, "APIC-access address" },
    { 0x2016, 112, "Posted-interrupt descriptor address" },
    { 0x2018, 296, "VM-function controls" },
    { 0x201a, 120, "EPT pointer" },
    { 0x201c, 128, "EOI-exit bitmap 0" },
    { 0x201e, 136, "EOI-exit bitmap 1" },
    { 0x2020, 144, "EOI-exit bitmap 2" },
    { 0x2022, 152, "EOI-exit bitmap 3" },
    { 0x2024, 304, "EPTP-list address" },
    { 0x2026, 280, "VMREAD-bitmap address" },
    { 0x2028, 288, "VMWRITE-bitmap address" },
    { 0x202c, 160, "XSS-exiting bitmap" },
    { 0x202e, 320, "ENCLS-exiting bitmap" },
    { 0x2032, 328, "TSC multiplier" },
    { 0x2400, 168, "Guest-physical address" },
    { 0x2800, 176, "VMCS link pointer" },
    { 0x2802, 184, "Guest IA32_DEBUGCTL" },
    { 0x2804, 192, "Guest IA32_PAT" },
    { 0x2806, 200, "Guest IA32_EFER" },
    { 0x2808, 208, "Guest IA32_PERF_GLOBAL_CTRL" },
    { 0x280a, 216, "Guest PDPTE0" },
    { 0x280c, 224, "Guest PDPTE1" },
    { 0x280e, 232, "Guest PDPTE2" },
    { 0x2810, 240, "Guest PDPTE3" },
    { 0x2812, 248, "Guest IA32_BNDCFGS" },
    { 0x2c00, 256, "Host IA32_PAT" },
    { 0x2c02, 264, "Host IA32_EFER" },
    { 0x2c04, 272, "Host IA32_PERF_GLOBAL_CTRL" },
    { 0x4000, 744, "Pin-based VM-execution controls" },
    { 0x4002, 748, "Primary processor-based VM-execution controls" },
    { 0x4004, 752, "Exception bitmap" },
    { 0x4006, 756, "Page-fault error-code mask" },
    { 0x4008, 760, "Page-fault error-code match" },
    { 0x400a, 764, "CR3-target count" },
    { 0x400c, 768, "Primary VM-exit controls" },
    { 0x400e, 772, "VM-exit MSR-store count" },
    { 0x4010, 776, "VM-exit MSR-load count" },
    { 0x4012, 780, "VM-entry controls" },
    { 0x4014, 784, "VM-entry MSR-load count" },
    { 0x4016, 788, "VM-entry interruption-information field" },
    { 0x4018, 792, "VM-entry exception error code" },
    { 0x401a, 796, "VM-entry instruction length" },
    { 0x401c, 800, "TPR threshold" },
    { 0x401e, 804, "Secondary processor-based VM-execution controls" },
    { 0x4400, 808, "VM-instruction error" },
    { 0x4402, 812, "Exit reason" },
    { 0x4404, 816, "VM-exit interruption information" },
    { 0x4406, 820, "VM-exit interruption error code" },
    { 0x4408, 824, "IDT-vectoring information field" },
    { 0x440a, 828, "IDT-vectoring error code" },
    { 0x440c, 832, "VM-exit instruction length" },
    { 0x440e, 836, "VM-exit instruction information" },
    { 0x4800, 840, "Guest ES limit" },
    { 0x4802, 844, "Guest CS limit" },
    { 0x4804, 848, "Guest SS limit" },
    { 0x4806, 852, "Guest DS limit" },
    { 0x4808, 856, "Guest FS limit" },
    { 0x480a, 860, "Guest GS limit" },
    { 0x480c, 864, "Guest LDTR limit" },
    { 0x480e, 868, "Guest TR limit" },
    { 0x4810, 872, "Guest GDTR limit" },
    { 0x4812, 876, "Guest IDTR limit" },
    { 0x4814, 880, "Guest ES access rights" },
    { 0x4816, 884, "Guest CS access rights" },
    { 0x4818, 888, "Guest SS access rights" },
    { 0x481a, 892, "Guest DS access rights" },
    { 0x481c, 896, "Guest FS access rights" },
    { 0x481e, 900, "Guest GS access rights" },
    { 0x4820, 904, "Guest LDTR access rights" },
    { 0x4822, 908, "Guest TR access rights" },
    { 0x4824, 912, "Guest interruptibility state" },
    { 0x4826, 916, "Guest activity state" },
    { 0x482a, 920, "Guest IA32_SYSENTER_CS" },
    { 0x482e, 928, "VMX-preemption timer value" },
    { 0x4c00, 924, "Host IA32_SYSENTER_CS" },
    { 0x6000, 344, "CR0 guest/host mask" },
    { 0x6002, 352, "CR4 guest/host mask" },
    { 0x6004, 360, "CR0 read shadow" },
    { 0x6006, 368, "CR4 read shadow" },
    { 0x6400, 408, "Exit qualification" },
    { 0x640a, 416, "Guest-linear address" },
    { 0x6800, 424, "Guest CR0" },
    { 0x6802, 432, "Guest CR3" },
    { 0x6804, 440, "Guest CR4" },
    { 0x6806, 448, "Guest ES base" },
    { 0x6808, 456, "Guest CS base" },
    { 0x680a, 464, "Guest SS base" },
    { 0x680c, 472, "Guest DS base" },
    { 0x680e, 480, "Guest FS base" },
    { 0x6810, 488, "Guest GS base" },
    { 0x6812, 496, "Guest LDTR base" },
    { 0x6814, 504, "Guest TR base" },
    { 0x6816, 512, "Guest GDTR base" },
    { 0x6818, 520, "Guest IDTR base" },
    { 0x681a, 528, "Guest DR7" },
    { 0x681c, 536, "Guest RSP" },
    { 0x681e, 544, "Guest RIP" },
    { 0x6820, 552, "Guest RFLAGS" },
    { 0x6822, 560, "Guest pending debug exceptions" },
    { 0x6824, 568, "Guest IA32_SYSENTER_ESP" },
    { 0x6826, 576, "Guest IA32_SYSENTER_EIP" },
    { 0x6c00, 584, "Host CR0" },
    { 0x6c02, 592, "Host CR3" },
    { 0x6c04, 600, "Host CR4" },
    { 0x6c06, 608, "Host FS base" },
    { 0x6c08, 616, "Host GS base" },
    { 0x6c0a, 624, "Host TR base" },
    { 0x6c0c, 632, "Host GDTR base" },
    { 0x6c0e, 640, "Host IDTR base" },
    { 0x6c10, 648, "Host IA32_SYSENTER_ESP" },
    { 0x6c12, 656, "Host IA32_SYSENTER_EIP" },
    { 0x6c14, 664, "Host RSP" },
    { 0x6c16, 672, "Host RIP" },
};

static const Vmcs12Layout layouts[] = {
    { VMCS12_REVISION_KVM, kvm_fields, ARRAY_SIZE(kvm_fields) },
};

const Vmcs12Layout *vmcs12_layout(uint32_t revision)
{
    for (size_t i = 0; i < ARRAY_SIZE(layouts); i++) {
        if (layouts[i].revision == revision) {
            return &layouts[i];
        }
    }
    return NULL;
}

uint32_t vmcs12_revision(const uint8_t *vmcs12)
{
    return ldl_le_p(vmcs12) & ~VMCS12_SHADOW;
}

unsigned vmcs12_field_width(uint16_t encoding)
{
    /* Bits 14:13; the natural width is that of a 64-bit processor */
    static const uint8_t width[] = { 2, 8, 4, 8 };

    return width[extract16(encoding, 13, 2)];
}

const Vmcs12Field *vmcs12_find(const Vmcs12Layout *layout, uint16_t encoding)
{
    size_t low = 0, high = layout->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (layout->fields[middle].encoding < encoding) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < layout->count && layout->fields[low].encoding == encoding ?
           &layout->fields[low] : NULL;
}

uint64_t vmcs12_read(const uint8_t *vmcs12, const Vmcs12Field *field)
{
    return ldn_le_p(vmcs12 + field->offset,
                    vmcs12_field_width(field->encoding));
}

void vmcs12_write(uint8_t *vmcs12, const Vmcs12Field *field, uint64_t value)
{
    stn_le_p(vmcs12 + field->offset, vmcs12_field_width(field->encoding),
             value);
}

uint64_t vmcs12_get(const uint8_t *vmcs12, const Vmcs12Layout *layout,
                    uint16_t encoding)
{
    const Vmcs12Field *field = vmcs12_find(layout, encoding);

    return field ? vmcs12_read(vmcs12, field) : 0;
}

bool vmcs12_convert(uint8_t *vmcs12, const Vmcs12Layout *from,
                    const Vmcs12Layout *to, Error **errp)
{
    g_autofree uint8_t *result = NULL;

    if (from == to) {
        return true;
    }
    result = g_malloc0(VMCS12_BYTES);
    stl_le_p(result, to->revision | (ldl_le_p(vmcs12) & VMCS12_SHADOW));
    stl_le_p(result + OFFSET_ABORT, ldl_le_p(vmcs12 + OFFSET_ABORT));
    stl_le_p(result + OFFSET_LAUNCH_STATE,
             ldl_le_p(vmcs12 + OFFSET_LAUNCH_STATE));
    for (size_t i = 0; i < from->count; i++) {
        const Vmcs12Field *field = &from->fields[i];
        const Vmcs12Field *place = vmcs12_find(to, field->encoding);
        uint64_t value = vmcs12_read(vmcs12, field);

        if (place) {
            vmcs12_write(result, place, value);
        } else if (value) {
            error_setg(errp, "vmcs12 revision 0x%x has no field '%s' (0x%04x), "
                       "which is 0x%" PRIx64 " in revision 0x%x", to->revision,
                       field->name, field->encoding, value, from->revision);
            return false;
        }
    }
    memcpy(vmcs12, result, VMCS12_BYTES);
    return true;
}
