/*
 * A guest that is a hypervisor: AMD's extension
 *
 * Offsets and bits: AMD64 Architecture Programmer's Manual volume 2, chapter
 * 15 and appendix B.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "l1.h"

/* l1-start.S */
extern void svm_run(uint64_t vmcb), svm_call(void);

static uint8_t vmcbs[CPUS][4096] __attribute__((aligned(4096)));
static uint8_t hsave[CPUS][4096] __attribute__((aligned(4096)));

#define vmcb (vmcbs[cpu()->number])
#define VMCB(type, offset) (*(volatile type *)(vmcb + (offset)))
#define INTERCEPT_3 VMCB(uint32_t, 0x0c)
#define INTERCEPT_4 VMCB(uint32_t, 0x10)
#define ASID VMCB(uint32_t, 0x58)
#define INT_CTL VMCB(uint64_t, 0x60)
#define EXIT_CODE VMCB(uint64_t, 0x70)
#define NESTED VMCB(uint64_t, 0x90)
#define EVENT_INJ VMCB(uint64_t, 0xa8)
#define NESTED_CR3 VMCB(uint64_t, 0xb0)
#define NEXT_RIP VMCB(uint64_t, 0xc8)
#define CR2 VMCB(uint64_t, 0x640)
#define RIP VMCB(uint64_t, 0x578)

#define V_IRQ (1 << 8)
#define V_IGN_TPR (1 << 20)
#define V_INTR_MASKING (1 << 24)
#define EVENT_VALID (1u << 31)
#define EVENT_HAS_CODE (1u << 11)

static bool present(void)
{
    return cpuid_ecx(0x80000001) & 4;
}

static void segment(int at, uint16_t selector, uint16_t attributes)
{
    VMCB(uint16_t, 0x400 + at) = selector;
    VMCB(uint16_t, 0x402 + at) = attributes;
    VMCB(uint32_t, 0x404 + at) = ~0u;
}

static void start(const struct l2 *l2)
{
    memset(vmcb, 0, sizeof(vmcb));      /* it may have been used before INIT */
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 1 << 12);
    wrmsr(0xc0010117, (uintptr_t)hsave[cpu()->number]);
    INTERCEPT_3 = 1 | 1 << 31;          /* INTR, shutdown */
    INTERCEPT_4 = 3;                    /* VMRUN, VMMCALL */
    ASID = 1;
    INT_CTL = V_INTR_MASKING | V_IGN_TPR;
    NESTED = 1;
    NESTED_CR3 = l2->nested_tables;
    VMCB(uint64_t, 0x50) = l2->tsc_offset;
    segment(0x00, 0x10, 0xc93);         /* ES */
    segment(0x10, 0x08, 0xa9b);         /* CS */
    segment(0x20, 0x10, 0xc93);         /* SS */
    segment(0x30, 0x10, 0xc93);         /* DS */
    VMCB(uint32_t, 0x484) = *(uint16_t *)l2->idt;
    VMCB(uint64_t, 0x488) = *(uint64_t *)(l2->idt + 2);
    __asm__ volatile("sgdt %0" : "=m" (*(char (*)[10])(vmcb + 0x466)));
    VMCB(uint32_t, 0x464) = VMCB(uint16_t, 0x466);
    VMCB(uint16_t, 0x466) = 0;
    VMCB(uint64_t, 0x4d0) = rdmsr(0xc0000080);
    VMCB(uint64_t, 0x548) = cr4();
    VMCB(uint64_t, 0x550) = cr3();
    VMCB(uint64_t, 0x558) = cr0();
    VMCB(uint64_t, 0x560) = 0x400;
    VMCB(uint64_t, 0x568) = 0xffff0ff0;
    VMCB(uint64_t, 0x570) = 0x202;
    RIP = (uintptr_t)l2->entry;
    VMCB(uint64_t, 0x5d8) = l2->stack;
}

static enum exit run(void)
{
    svm_run((uintptr_t)vmcb);
    switch (EXIT_CODE) {
    case 0x60:
        return EXIT_INTERRUPT;
    case 0x81:
        RIP += 3;
        return EXIT_CALL;
    default:
        return EXIT_OTHER;
    }
}

static void inject(int kind, int vector, int code)
{
    static const uint8_t type[KINDS] = {
        [INTR] = 0, [NMI] = 2, [UD] = 3, [GP] = 3, [PF] = 3, [INT3] = 3,
        [INTO] = 3, [INTN] = 4,
    };

    if (kind == PF) {
        CR2 = 0xabcd000;
    }
    /* where a software interrupt returns to: section 15.20 */
    NEXT_RIP = RIP;
    EVENT_INJ = EVENT_VALID | type[kind] << 8 | vector |
                (code == -1 ? 0 : EVENT_HAS_CODE | (uint64_t)code << 32);
}

static bool interrupt(int vector)
{
    if (INT_CTL & V_IRQ) {
        return false;
    }
    INT_CTL = (INT_CTL & 0xffffffff) | V_IRQ | (uint64_t)vector << 32;
    return true;
}

static uint64_t exit_code(void)
{
    return EXIT_CODE;
}

const struct extension svm = {
    .name = "svm",
    .table = 7,
    .page = 7,
    .large_page = 0x87,
    .present = present,
    .start = start,
    .run = run,
    .inject = inject,
    .interrupt = interrupt,
    .exit_code = exit_code,
    .call = svm_call,
};
