/*
 * A guest that is a hypervisor: Intel's extension
 *
 * Encodings, bits and the rules for them: Intel's Software Developer's Manual
 * volume 3, chapters 25 to 28 and appendices A to C.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "l1.h"

/* l1-start.S */
extern bool vmx_run(bool launched);
extern void vmx_exit(void), vmx_call(void);

static uint32_t vmxons[CPUS][1024] __attribute__((aligned(4096)));
static uint32_t vmcss[CPUS][1024] __attribute__((aligned(4096)));
static uint32_t shadows[CPUS][1024] __attribute__((aligned(4096)));
static uint8_t none[4096] __attribute__((aligned(4096)));

static struct vcpu {
    bool launched, entered;
    bool has_deadline, has_shadow;
    uint32_t processor_controls;
    int waiting;                /* a virtual interrupt's vector, or 0 */
    uint64_t due;               /* the deadline, by the TSC */
    uint64_t shadow;            /* what L2 has written last */
} vcpus[CPUS];

static inline struct vcpu *vcpu(void)
{
    return &vcpus[cpu()->number];
}

/* Fields */
#define LINK_POINTER 0x2800
#define GUEST_DEBUGCTL 0x2802
#define GUEST_EFER 0x2806
#define HOST_EFER 0x2c02
#define PROCESSOR_CONTROLS 0x4002
#define ENTRY_EVENT 0x4016
#define ENTRY_ERROR_CODE 0x4018
#define ENTRY_LENGTH 0x401a
#define INSTRUCTION_ERROR 0x4400
#define EXIT_REASON 0x4402
#define TIMER_VALUE 0x482e
#define GUEST_RIP 0x681e
#define SHADOWED_FIELD 0x6c14   /* any that L2 may have: the host's RSP */

#define INTERRUPT_WINDOW (1u << 2)
#define SECONDARY (1u << 31)
#define TIMER (1u << 6)
#define SHADOWING (1u << 14)
#define EVENT_VALID (1u << 31)
#define EVENT_HAS_CODE (1u << 11)

#define DEADLINE (1u << 17)     /* after so many ticks of the TSC */

static bool vmwrite(uint64_t field, uint64_t value)
{
    bool ok;

    __asm__ volatile("vmwrite %2, %1" : "=@cca" (ok) :
                     "r" (field), "rm" (value) : "memory");
    return ok;
}

static uint64_t vmread(uint64_t field)
{
    uint64_t value = 0;

    __asm__ volatile("vmread %1, %0" : "+r" (value) : "r" (field) : "cc");
    return value;
}

static void vmclear(uint32_t *vmcs)
{
    uint64_t address = (uintptr_t)vmcs;

    __asm__ volatile("vmclear %0" : : "m" (address) : "memory", "cc");
}

static bool present(void)
{
    return cpuid_ecx(1) & 0x20;
}

/* @wanted of them, and those that must be 1; appendix A.3 */
static uint32_t controls(uint32_t msr, uint32_t wanted)
{
    uint64_t allowed = rdmsr(msr);

    return (wanted | (uint32_t)allowed) & (uint32_t)(allowed >> 32);
}

static void write_controls(void)
{
    struct vcpu *v = vcpu();
    bool has_true = rdmsr(0x480) >> 55 & 1;
    uint32_t pin, secondary;

    /* external interrupts exit; NMIs don't */
    pin = controls(has_true ? 0x48d : 0x481, 1 | TIMER);
    v->has_deadline = pin & TIMER;
    vmwrite(0x4000, pin);
    /* TSC offset, MSR bitmaps: none of L2's accesses exit */
    v->processor_controls = controls(has_true ? 0x48e : 0x482,
                                     1 << 3 | 1 << 28 | SECONDARY);
    vmwrite(PROCESSOR_CONTROLS, v->processor_controls);
    secondary = controls(0x48b, 1 << 1 | SHADOWING);    /* EPT */
    v->has_shadow = secondary & SHADOWING;
    vmwrite(0x401e, secondary);
    /* a host of 64 bits; save and load EFER */
    vmwrite(0x400c, controls(has_true ? 0x48f : 0x483,
                             1 << 9 | 1 << 20 | 1 << 21));
    /* a guest of 64 bits; load EFER */
    vmwrite(0x4012, controls(has_true ? 0x490 : 0x484, 1 << 9 | 1 << 15));
}

static void write_state(const struct l2 *l2)
{
    /* what guest and host have in the same place of their areas */
    static const uint16_t selectors[] = {
        0x10, 0x08, 0x10, 0x10, 0, 0, 0, 0x20,  /* ES CS SS DS FS GS LDTR TR */
    };
    static const uint32_t attributes[] = {
        0xc093, 0xa09b, 0xc093, 0xc093, 0x10000, 0x10000, 0x10000, 0x8b,
    };
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } gdt, idt;

    __asm__ volatile("sgdt %0" : "=m" (gdt));
    __asm__ volatile("sidt %0" : "=m" (idt));

    for (int i = 0; i < 8; i++) {
        vmwrite(0x0800 + 2 * i, selectors[i]);
        vmwrite(0x4800 + 2 * i, i == 7 ? 0x67 : ~0u);
        vmwrite(0x4814 + 2 * i, attributes[i]);
        vmwrite(0x6806 + 2 * i, 0);
    }
    vmwrite(0x6810, (uintptr_t)cpu());                  /* GS */
    vmwrite(0x4810, gdt.limit);
    vmwrite(0x6816, gdt.base);
    vmwrite(0x4812, *(uint16_t *)l2->idt);
    vmwrite(0x6818, *(uint64_t *)(l2->idt + 2));
    vmwrite(0x6800, cr0());
    vmwrite(0x6802, cr3());
    vmwrite(0x6804, cr4());
    vmwrite(0x681a, 0x400);                             /* DR7 */
    vmwrite(0x681c, l2->stack);
    vmwrite(GUEST_RIP, (uintptr_t)l2->entry);
    vmwrite(0x6820, 0x202);                             /* RFLAGS */
    vmwrite(GUEST_EFER, rdmsr(0xc0000080));
    vmwrite(GUEST_DEBUGCTL, 0);

    for (int i = 0; i < 6; i++) {
        vmwrite(0x0c00 + 2 * i, selectors[i]);
    }
    vmwrite(0x0c0c, selectors[7]);
    vmwrite(0x6c00, cr0());
    vmwrite(0x6c02, cr3());
    vmwrite(0x6c04, cr4());
    vmwrite(0x6c08, (uintptr_t)cpu());                  /* GS */
    vmwrite(0x6c0c, gdt.base);
    vmwrite(0x6c0e, idt.base);
    vmwrite(0x6c16, (uintptr_t)vmx_exit);
    vmwrite(HOST_EFER, rdmsr(0xc0000080));
}

static void start(const struct l2 *l2)
{
    unsigned n = cpu()->number;
    uint32_t revision = rdmsr(0x480) & 0x7fffffff;
    uint64_t address;

    vcpus[n] = (struct vcpu) {};
    /* IA32_FEATURE_CONTROL: the firmware has not seen one that was plugged in */
    if (!(rdmsr(0x3a) & 1)) {
        wrmsr(0x3a, 1 | 1 << 2);
    }
    __asm__ volatile("movq %0, %%cr0" : : "r" (cr0() | rdmsr(0x486)));
    __asm__ volatile("movq %0, %%cr4" : : "r" (cr4() | rdmsr(0x488)));
    vmxons[n][0] = revision;
    vmcss[n][0] = revision;
    shadows[n][0] = revision | 1u << 31;
    address = (uintptr_t)vmxons[n];
    __asm__ volatile("vmxon %0" : : "m" (address) : "memory", "cc");
    vmclear(shadows[n]);
    vmclear(vmcss[n]);
    address = (uintptr_t)vmcss[n];
    __asm__ volatile("vmptrld %0" : : "m" (address) : "memory", "cc");

    write_controls();
    write_state(l2);
    vmwrite(0x2010, l2->tsc_offset);
    vmwrite(0x2004, (uintptr_t)none);                   /* MSR bitmaps */
    vmwrite(0x201a, l2->nested_tables | 3 << 3 | 6);    /* 4 levels, WB */
    vmwrite(LINK_POINTER, ~0ull);
    if (vcpu()->has_shadow) {
        vmwrite(LINK_POINTER, (uintptr_t)shadows[n]);
        vmwrite(0x2026, (uintptr_t)none);               /* VMREAD bitmap */
        vmwrite(0x2028, (uintptr_t)none);               /* VMWRITE bitmap */
    }
}

/* The timer counts ticks of the TSC, shifted right; section 26.5.1 */
static unsigned timer_shift(void)
{
    return rdmsr(0x485) & 31;
}

static void check_deadline(bool expired)
{
    volatile struct status *status = cpu()->status;
    uint64_t now = rdtsc(), due = vcpu()->due;

    if (expired) {
        status->deadlines++;
        if (now + (1ull << timer_shift()) < due) {
            wrong(WRONG_DEADLINE, now, due);
        }
    }
    if (now > due && now - due > status->late) {
        status->late = now - due;
    }
}

static void set_window(bool on)
{
    vmwrite(PROCESSOR_CONTROLS, vcpu()->processor_controls |
            (on ? INTERRUPT_WINDOW : 0));
}

static enum exit run(void)
{
    struct vcpu *v = vcpu();
    uint32_t reason;

    if (v->has_deadline) {
        vmwrite(TIMER_VALUE, DEADLINE >> timer_shift());
        v->due = rdtsc() + DEADLINE;
    }
    v->entered = vmx_run(v->launched);
    if (!v->entered) {
        return EXIT_OTHER;
    }
    v->launched = true;
    reason = vmread(EXIT_REASON);
    if (v->has_deadline) {
        check_deadline(reason == 52);
    }
    switch (reason) {
    case 1:                     /* external interrupt */
    case 52:                    /* VMX-preemption timer */
        return EXIT_INTERRUPT;
    case 3:                     /* INIT */
        cpu()->status->inits++;
        return EXIT_INTERRUPT;
    case 7:                     /* interrupt window */
        set_window(false);
        vmwrite(ENTRY_EVENT, EVENT_VALID | v->waiting);
        v->waiting = 0;
        return EXIT_INTERRUPT;
    case 18:                    /* VMCALL */
        vmwrite(GUEST_RIP, vmread(GUEST_RIP) + 3);
        return EXIT_CALL;
    default:
        return EXIT_OTHER;
    }
}

static void inject(int kind, int vector, int code)
{
    static const struct {
        uint8_t type, length;
    } events[KINDS] = {
        [INTR] = { 0 }, [NMI] = { 2 }, [UD] = { 3 }, [GP] = { 3 }, [PF] = { 3 },
        [INT3] = { 6, 1 }, [INTO] = { 6, 1 }, [INTN] = { 4, 2 },
    };
    unsigned length = events[kind].length;

    if (kind == PF) {
        __asm__ volatile("movq %0, %%cr2" : : "r" (0xabcd000ull));
    }
    if (length) {
        /* it returns to behind the instruction */
        vmwrite(GUEST_RIP, vmread(GUEST_RIP) - length);
        vmwrite(ENTRY_LENGTH, length);
    }
    if (code != -1) {
        vmwrite(ENTRY_ERROR_CODE, code);
    }
    vmwrite(ENTRY_EVENT, EVENT_VALID | events[kind].type << 8 | vector |
            (code == -1 ? 0 : EVENT_HAS_CODE));
}

static bool interrupt(int vector)
{
    if (vcpu()->waiting) {
        return false;
    }
    vcpu()->waiting = vector;
    set_window(true);
    return true;
}

static uint64_t exit_code(void)
{
    return vcpu()->entered ? vmread(EXIT_REASON)
                           : 1ull << 63 | vmread(INSTRUCTION_ERROR);
}

static void check(uint64_t round)
{
    struct vcpu *v = vcpu();
    uint64_t value;

    if (!v->has_shadow) {
        return;
    }
    if (v->shadow) {
        value = vmread(SHADOWED_FIELD);
        if (value != v->shadow) {
            wrong(WRONG_SHADOW, value, v->shadow);
        }
        cpu()->status->shadowed++;
    }
    v->shadow = round * 0x9e3779b97f4a7c15 | 1;
    if (!vmwrite(SHADOWED_FIELD, v->shadow)) {
        wrong(WRONG_SHADOW, ~0ull, v->shadow);
    }
}

const struct extension vmx = {
    .name = "vmx",
    .table = 7,
    .page = 7 | 6 << 3,                 /* write-back */
    .large_page = 7 | 6 << 3 | 1 << 7,
    .present = present,
    .start = start,
    .run = run,
    .inject = inject,
    .interrupt = interrupt,
    .exit_code = exit_code,
    .call = vmx_call,
    .check = check,
};
