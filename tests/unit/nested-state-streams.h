/*
 * Nested states and their streams, byte by byte: what QEMU 10.0 sends, and
 * what is new.  For test-nested-state and fuzz-nested-state.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_NESTED_STATE_STREAMS_H
#define TESTS_UNIT_NESTED_STATE_STREAMS_H

#include "qemu/bswap.h"
#include "target/i386/kvm/nested-state-format.h"
#include "target/i386/kvm/vmcs12.h"

/* Names of subsections as they stand in the stream: length and text */
#define VMX "\x05\x18" "cpu/kvm_nested_state/vmx" "\0\0\0\x01"
#define VMCS12 "\x05\x1f" "cpu/kvm_nested_state/vmx/vmcs12" "\0\0\0\x01"
#define SHADOW "\x05\x26" "cpu/kvm_nested_state/vmx/shadow_vmcs12" "\0\0\0\x01"
#define TIMER "\x05\x29" "cpu/kvm_nested_state/vmx/preemption_timer" \
              "\0\0\0\x01"
#define SVM "\x05\x18" "cpu/kvm_nested_state/svm" "\0\0\0\x01"

#define NONE "\xff\xff\xff\xff\xff\xff\xff\xff"

/* Stands for the 4 KiB of a page that fill_vmcs12() or fill_vmcb() make */
typedef enum Page { NO_PAGE, A_VMCS12, A_SHADOW, A_VMCB } Page;

typedef struct Part {
    const char *bytes;
    size_t len;
    Page page;
} Part;

#define BYTES(literal) { literal, sizeof(literal) - 1, NO_PAGE }

typedef struct Stream {
    const char *name;
    Part parts[8];
} Stream;

/* (a literal is cut where a hexadecimal escape would swallow what follows) */
static const Stream streams[] = {
    { "vmx-off", { BYTES("\0\0" "\0\0" "\0\0\0\x80") } },
    { "vmx-on", { BYTES("\0\0" "\0\0" "\0\0\0\x80" VMX
                        "\0\0\0\0\0\x01\0\0" NONE "\0\0") } },
    { "vmx-smm", { BYTES("\0\0" "\0\0" "\0\0\x10\x80" VMX
                         "\0\0\0\0\0\x01\0\0" "\0\0\0\0\0\x02\0\0" "\0\x03"
                         VMCS12), { .page = A_VMCS12 } } },
    { "vmx-l2", { BYTES("\0\x03" "\0\0" "\0\0\x10\x80" VMX
                        "\0\0\0\0\0\x01\0\0" "\0\0\0\0\0\x02\0\0" "\0\0"
                        VMCS12), { .page = A_VMCS12 } } },
    { "vmx-shadow", { BYTES("\0\x01" "\0\0" "\0\0\x20\x80" VMX
                            "\0\0\0\0\0\x01\0\0" "\0\0\0\0\0\x02\0\0" "\0\0"
                            VMCS12), { .page = A_VMCS12 },
                      BYTES(SHADOW), { .page = A_SHADOW } } },
    { "vmx-evmcs", { BYTES("\0\x05" "\0\0" "\0\0\x10\x80" VMX
                           "\0\0\0\0\0\x01\0\0" NONE "\0\0"
                           VMCS12), { .page = A_VMCS12 } } },
    { "vmx-timer", { BYTES("\0\x01" "\0\0" "\0\0\x10\x80" VMX
                           "\0\0\0\0\0\x01\0\0" "\0\0\0\0\0\x02\0\0" "\0\0"
                           VMCS12), { .page = A_VMCS12 },
                     BYTES(TIMER "\0\0\0\x01" "\x11\x22\x33\x44"
                           "\x55\x66\x77\x88") } },
    { "svm-l1", { BYTES("\x01\0" "\0\x01" "\0\0\0\x80") } },
    { "svm-l2", { BYTES("\x01\x03" "\0\x01" "\0\0\x10\x80" SVM
                        "\0\0\0\0\0\x03\0\0"), { .page = A_VMCB } } },
};

static inline void fill_vmcs12(uint8_t *page, bool shadow)
{
    const Vmcs12Layout *layout = vmcs12_layout(VMCS12_REVISION_KVM);

    memset(page, 0, VMCS12_BYTES);
    stl_le_p(page, VMCS12_REVISION_KVM | (shadow ? VMCS12_SHADOW : 0));
    for (size_t i = 0; i < layout->count; i++) {
        /* all different, none of them 0 */
        vmcs12_write(page, &layout->fields[i],
                     (i + 1) * 0x0123456789abcdull | 1);
    }
    /* secondary controls, shadow VMCS, VMX-preemption timer; no link */
    vmcs12_write(page, vmcs12_find(layout, VMCS12_PINBASED_CTLS), 1u << 6);
    vmcs12_write(page, vmcs12_find(layout, VMCS12_PROCBASED_CTLS), 1u << 31);
    vmcs12_write(page, vmcs12_find(layout, VMCS12_SECONDARY_CTLS), 1u << 14);
    vmcs12_write(page, vmcs12_find(layout, VMCS12_LINK_POINTER), -1ull);
    /* INT 0x80 */
    vmcs12_write(page, vmcs12_find(layout, VMCS12_ENTRY_INTR_INFO),
                 0x80000480);
}

static inline void fill_vmcb(uint8_t *page)
{
    memset(page, 0, KVM_STATE_NESTED_SVM_VMCB_SIZE);
    stl_le_p(page + 0x10, 0x81);            /* VMRUN, and others */
    stl_le_p(page + 0x58, 1);               /* ASID */
    stl_le_p(page + 0xa8, 0x8000030e);      /* #PF */
    stq_le_p(page + 0x4d0, 0x1d01);         /* EFER */
    stq_le_p(page + 0x558, 0x80050033);     /* CR0 */
    stq_le_p(page + 0x570, 0x202);          /* RFLAGS */
    stq_le_p(page + 0x578, 0x1234567890);   /* RIP */
}

static inline GByteArray *stream_bytes(const Stream *stream)
{
    GByteArray *bytes = g_byte_array_new();
    uint8_t page[4096];

    for (const Part *p = stream->parts; p->bytes || p->page; p++) {
        switch (p->page) {
        case NO_PAGE:
            g_byte_array_append(bytes, (const uint8_t *)p->bytes, p->len);
            continue;
        case A_VMCB:
            fill_vmcb(page);
            break;
        default:
            fill_vmcs12(page, p->page == A_SHADOW);
            if (p->page == A_VMCS12 && p[1].len &&
                strstr(stream->name, "shadow")) {
                const Vmcs12Layout *layout = vmcs12_layout(VMCS12_REVISION_KVM);

                vmcs12_write(page, vmcs12_find(layout, VMCS12_LINK_POINTER),
                             0x40000);
            }
        }
        g_byte_array_append(bytes, page, sizeof(page));
    }
    return bytes;
}

#endif
