/*
 * A guest that is a hypervisor: it runs a guest of its own, L2, and both check
 * all the time that nothing is lost when they are migrated.
 *
 * L2 loops: registers, vector registers, a page that nested paging has moved.
 * It calls L1 once a round; L1 injects one event of each kind in turn, and
 * counts on both sides.  A timer interrupts L1, which passes each tick on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "l1.h"

#define TIMER 0x50              /* vectors: in L1 */
#define VIRTUAL_TICK 0x60       /* ... in L2 */
#define L2_INTR 0x61
#define L2_INTN 0x62

#define TSC_OFFSET (1ull << 50)
#define SPIN 100000             /* turns of a loop; a round is two or three */

/* The moved page, and the one where it would be */
#define FROM 0x1400000
#define TO 0x1500000
#define AT_FROM 0x66726f6d
#define AT_TO 0x746f

struct gate {
    uint16_t low, selector, flags, middle;
    uint32_t high, zero;
};

struct __attribute__((packed)) descriptor {
    uint16_t limit;
    uint64_t base;
};

static struct gate l1_idt[256], l2_idt[256];
static uint8_t l2_stack[16384] __attribute__((aligned(16)));
static const struct extension *x;
static bool has_avx;

void *memset(void *p, int c, size_t n)
{
    uint8_t *b = p;

    while (n--) {
        *b++ = c;
    }
    return p;
}

void wrong(enum wrong what, uint64_t is, uint64_t wanted)
{
    if (!STATUS->errors) {
        STATUS->first = what;
        STATUS->is = is;
        STATUS->wanted = wanted;
    }
    STATUS->errors++;
}

static void gate(struct gate *idt, int vector, void (*to)(void))
{
    uint64_t a = (uintptr_t)to;

    idt[vector] = (struct gate) { a, 8, 0x8e00, a >> 16, a >> 32, 0 };
}

/* Interrupts */

extern void l1_timer(void), l1_other(void);
extern void l2_tick(void), l2_intr(void), l2_nmi(void), l2_ud(void),
            l2_gp(void), l2_pf(void), l2_int3(void), l2_into(void),
            l2_intn(void), l2_other(void);

static volatile uint32_t *const apic = (void *)0xfee00000;

void l1_timer_c(void)
{
    STATUS->ticks++;
    apic[0xb0 / 4] = 0;
}

void l1_other_c(uint64_t rip)
{
    wrong(WRONG_INTERRUPT, rip, 0);
}

void l2_tick_c(void)
{
    STATUS->virtual_ticks++;
}

/* @frame: what the processor has pushed */
void l2_event_c(uint64_t kind, const uint64_t *frame)
{
    uint64_t cr2;

    STATUS->received[kind]++;
    if (kind == GP && frame[0] != 0x1230) {
        wrong(WRONG_ERROR_CODE, frame[0], 0x1230);
    }
    if (kind == PF) {
        if (frame[0] != 6) {
            wrong(WRONG_ERROR_CODE, frame[0], 6);
        }
        __asm__ volatile("movq %%cr2, %0" : "=r" (cr2));
        if (cr2 != 0xabcd000) {
            wrong(WRONG_CR2, cr2, 0xabcd000);
        }
    }
}

void l2_other_c(uint64_t rip)
{
    wrong(WRONG_INTERRUPT, rip, 2);
}

/* L2 */

/* Fill and compare, with time to be interrupted in between: l1-start.S */
extern uint64_t l2_registers(uint64_t pattern, uint64_t spin);
extern uint64_t l2_vector_registers(uint64_t pattern, uint64_t spin);
extern uint64_t l2_avx_registers(uint64_t pattern, uint64_t spin);
extern void l2_call(void);

static void l2_main(void)
{
    uint64_t last = 0;

    for (;;) {
        uint64_t now = rdtsc(), value;

        if (now <= last || now < TSC_OFFSET) {
            wrong(WRONG_TSC, now, last);
        }
        last = now;
        value = l2_registers(STATUS->rounds * 0x0123456789abcdef, SPIN);
        if (value) {
            wrong(WRONG_REGISTER, value, 0);
        }
        value = l2_vector_registers(STATUS->rounds * 0xfedcba987654321, SPIN);
        if (value) {
            wrong(WRONG_VECTOR_REGISTER, value, 0);
        }
        if (has_avx) {
            value = l2_avx_registers(STATUS->rounds * 0x3c6ef372fe94f82b, SPIN);
            if (value) {
                wrong(WRONG_VECTOR_REGISTER, value, 0);
            }
        }
        value = *(volatile uint64_t *)FROM;
        if (value != AT_TO) {
            wrong(WRONG_MEMORY, value, AT_TO);
        }
        STATUS->rounds++;
        l2_call();
    }
}

/* L1 */

static void check_counts(void)
{
    for (int i = 0; i < KINDS; i++) {
        if (STATUS->injected[i] != STATUS->received[i]) {
            wrong(WRONG_COUNT, STATUS->received[i], STATUS->injected[i]);
            STATUS->received[i] = STATUS->injected[i];
        }
    }
}

static void inject(int kind)
{
    static const struct {
        int vector, code;
    } events[KINDS] = {
        [INTR] = { L2_INTR, -1 }, [NMI] = { 2, -1 }, [UD] = { 6, -1 },
        [GP] = { 13, 0x1230 }, [PF] = { 14, 6 }, [INT3] = { 3, -1 },
        [INTO] = { 4, -1 }, [INTN] = { L2_INTN, -1 },
    };

    STATUS->injected[kind]++;
    x->inject(kind, events[kind].vector, events[kind].code);
}

/* XCR0 as far as the processor has AVX; L2 has the same */
static void start_avx(void)
{
    uint32_t a = 1, b, c = 0, d;
    uint64_t cr4;

    __asm__("cpuid" : "+a" (a), "=b" (b), "+c" (c), "=d" (d));
    if ((c >> 26 & 5) == 5) {           /* XSAVE, AVX */
        __asm__ volatile("movq %%cr4, %0" : "=r" (cr4));
        __asm__ volatile("movq %0, %%cr4" : : "r" (cr4 | 1 << 18));
        __asm__ volatile("xsetbv" : : "c" (0), "a" (7), "d" (0));
        has_avx = true;
    }
}

static void start_timer(void)
{
    apic[0xf0 / 4] = 0x1ff;
    apic[0x3e0 / 4] = 0xb;              /* divide by 1 */
    apic[0x320 / 4] = 0x20000 | TIMER;  /* periodic */
    apic[0x380 / 4] = 4 * 1000 * 1000;  /* KVM's counts in ns */
}

int main(void)
{
    static const struct extension *const extensions[] = { &svm };
    static struct descriptor descriptor = { sizeof(l2_idt) - 1, 0 };
    uint64_t passed_on = 0, begin = rdtsc(), boots = STATUS->boots;
    struct l2 l2 = {
        .entry = l2_main,
        .stack = (uintptr_t)(l2_stack + sizeof(l2_stack) - 8),
        .idt = (uintptr_t)&descriptor,
        .tsc_offset = TSC_OFFSET - begin,
        .from = FROM,
        .to = TO,
    };
    int next = 0;

    memset((void *)STATUS, 0, sizeof(*STATUS));
    STATUS->boots = boots + 1;
    *(volatile uint64_t *)FROM = AT_FROM;
    *(volatile uint64_t *)TO = AT_TO;
    for (int i = 0; i < 256; i++) {
        gate(l1_idt, i, l1_other);
        gate(l2_idt, i, l2_other);
    }
    gate(l1_idt, TIMER, l1_timer);
    gate(l2_idt, VIRTUAL_TICK, l2_tick);
    gate(l2_idt, L2_INTR, l2_intr);
    gate(l2_idt, 2, l2_nmi);
    gate(l2_idt, 6, l2_ud);
    gate(l2_idt, 13, l2_gp);
    gate(l2_idt, 14, l2_pf);
    gate(l2_idt, 3, l2_int3);
    gate(l2_idt, 4, l2_into);
    gate(l2_idt, L2_INTN, l2_intn);
    descriptor.base = (uintptr_t)l1_idt;
    __asm__ volatile("lidt %0" : : "m" (descriptor));
    descriptor.base = (uintptr_t)l2_idt;

    for (size_t i = 0; i < sizeof(extensions) / sizeof(*extensions); i++) {
        if (extensions[i]->present()) {
            x = extensions[i];
        }
    }
    if (!x) {
        wrong(WRONG_EXIT, 0, 0);
        return 1;
    }
    /* no interrupts from the PIC: the firmware has left the PIT running */
    __asm__ volatile("outb %0, $0x21; outb %0, $0xa1" : : "a" ((uint8_t)0xff));
    start_avx();
    x->start(&l2);
    start_timer();
    for (;;) {
        switch (x->run()) {
        case EXIT_CALL:
            check_counts();
            inject(next);
            next = (next + 1) % KINDS;
            break;
        case EXIT_INTERRUPT:
            break;
        default:
            wrong(WRONG_EXIT, x->exit_code(), 0);
            return 1;
        }
        STATUS->exits++;
        if (passed_on != STATUS->ticks && x->interrupt(VIRTUAL_TICK)) {
            /* at most one is on its way */
            if (passed_on - STATUS->virtual_ticks > 1) {
                wrong(WRONG_TICKS, STATUS->virtual_ticks, passed_on);
            }
            passed_on++;
        }
    }
}
