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

static struct cpu cpus[CPUS];
static struct gate l1_idt[256], l2_idt[256];
static uint8_t l2_stack[CPUS][16384] __attribute__((aligned(16)));
static uint64_t tables[4][512] __attribute__((aligned(4096)));
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
    volatile struct status *status = cpu()->status;

    if (!status->errors) {
        status->first = what;
        status->is = is;
        status->wanted = wanted;
    }
    status->errors++;
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
    cpu()->status->ticks++;
    apic[0xb0 / 4] = 0;
}

void l1_other_c(uint64_t rip)
{
    wrong(WRONG_INTERRUPT, rip, 0);
}

void l2_tick_c(void)
{
    cpu()->status->virtual_ticks++;
}

/* @frame: what the processor has pushed */
void l2_event_c(uint64_t kind, const uint64_t *frame)
{
    uint64_t cr2;

    cpu()->status->received[kind]++;
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

/*
 * An SMI, for a command that the firmware's handler ignores.  (SeaBIOS has a
 * handler for the first processor only.)
 */
static void check_smi(volatile struct status *status)
{
    uint64_t before = rdmsr(0x34), after;       /* SMIs so far */

    __asm__ volatile("outb %0, $0xb2" : : "a" ((uint8_t)0));
    after = rdmsr(0x34);
    if (after != before + 1) {
        wrong(WRONG_SMIS, after, before + 1);
    }
    status->smis++;
}

static void l2_main(void)
{
    volatile struct status *status = cpu()->status;
    uint64_t last = 0;

    for (;;) {
        uint64_t now = rdtsc(), round = status->rounds, value;
        uint64_t spin = status->commands & COMMAND_SOFT ? 1 : SPIN;

        if (now <= last || now < TSC_OFFSET) {
            wrong(WRONG_TSC, now, last);
        }
        last = now;
        value = l2_registers(round * 0x0123456789abcdef, spin);
        if (value) {
            wrong(WRONG_REGISTER, value, 0);
        }
        value = l2_vector_registers(round * 0xfedcba987654321, spin);
        if (value) {
            wrong(WRONG_VECTOR_REGISTER, value, 0);
        }
        if (has_avx) {
            value = l2_avx_registers(round * 0x3c6ef372fe94f82b, spin);
            if (value) {
                wrong(WRONG_VECTOR_REGISTER, value, 0);
            }
        }
        value = *(volatile uint64_t *)FROM;
        if (value != AT_TO) {
            wrong(WRONG_MEMORY, value, AT_TO);
        }
        if (x->check) {
            x->check(round);
        }
        if (status->commands & COMMAND_SMI) {
            check_smi(status);
        }
        status->rounds++;
        x->call();
    }
}

/* L1 */

static void check_counts(volatile struct status *status)
{
    for (int i = 0; i < KINDS; i++) {
        if (status->injected[i] != status->received[i]) {
            if (!status->errors) {
                status->kind = i;
            }
            wrong(WRONG_COUNT, status->received[i], status->injected[i]);
            status->received[i] = status->injected[i];
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

    cpu()->status->injected[kind]++;
    x->inject(kind, events[kind].vector, events[kind].code);
}

/* Nested paging of 1 GiB, where all is as it is but a page */
static void map(uint64_t from, uint64_t to)
{
    tables[0][0] = (uintptr_t)tables[1] | x->table;
    tables[1][0] = (uintptr_t)tables[2] | x->table;
    for (uint64_t i = 0; i < 512; i++) {
        tables[2][i] = i << 21 | x->large_page;
        tables[3][i] = (from & ~0x1fffffull) | i << 12 | x->page;
    }
    tables[2][from >> 21] = (uintptr_t)tables[3] | x->table;
    tables[3][from >> 12 & 511] = to | x->page;
}

/* XCR0 as far as the processor has AVX; L2 has the same */
static void start_avx(void)
{
    if ((cpuid_ecx(1) >> 26 & 5) == 5) {        /* XSAVE, AVX */
        __asm__ volatile("movq %0, %%cr4" : : "r" (cr4() | 1 << 18));
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

/* Once, by the first processor */
static void start(void)
{
    static const struct extension *const extensions[] = { &svm, &vmx };

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
    for (size_t i = 0; i < sizeof(extensions) / sizeof(*extensions); i++) {
        if (extensions[i]->present()) {
            x = extensions[i];
        }
    }
    if (x) {
        map(FROM, TO);
    }
    /* no interrupts from the PIC: the firmware has left the PIT running */
    __asm__ volatile("outb %0, $0x21; outb %0, $0xa1" : : "a" ((uint8_t)0xff));
}

static void wait(uint64_t ticks)
{
    for (uint64_t begin = rdtsc(); rdtsc() - begin < ticks;) {
    }
}

/*
 * Let the other processor, if there is one, begin anew.  INIT waits while GIF is
 * 0, and a SIPI that comes before it is lost: it is sent until it has an effect.
 */
static void start_others(void)
{
    extern char ap_start[], ap_end[];
    volatile char *to = (char *)0x8000;
    uint64_t boots = STATUS(1)->boots;

    for (char *c = ap_start; c < ap_end; c++) {
        *to++ = *c;
    }
    apic[0x300 / 4] = 0xc4500;          /* INIT */
    for (int i = 0; i < 50 && STATUS(1)->boots == boots; i++) {
        wait(1000 * 1000);
        apic[0x300 / 4] = 0xc4608;      /* begin at 0x8000 */
    }
}

int main(unsigned number)
{
    volatile struct status *status = STATUS(number);
    uint64_t passed_on = 0, boots = status->boots;
    struct descriptor idt = { sizeof(l2_idt) - 1, (uintptr_t)l1_idt };
    struct l2 l2 = {
        .entry = l2_main,
        .stack = (uintptr_t)(l2_stack[number] + sizeof(*l2_stack) - 8),
        .idt = (uintptr_t)&idt,
        .tsc_offset = TSC_OFFSET - rdtsc(),
        .nested_tables = (uintptr_t)tables,
    };
    int next = 0;

    memset((void *)status, 0, sizeof(*status));
    status->boots = boots + 1;
    cpus[number] = (struct cpu) {
        .self = &cpus[number], .status = status, .number = number,
    };
    wrmsr(GS_BASE, (uintptr_t)&cpus[number]);
    if (number == 0) {
        start();
    }
    __asm__ volatile("lidt %0" : : "m" (idt));
    if (!x) {
        wrong(WRONG_EXIT, 0, 0);
        return 1;
    }
    start_avx();
    idt.base = (uintptr_t)l2_idt;
    x->start(&l2);
    start_timer();
    if (number == 0) {
        start_others();
    }
    for (;;) {
        switch (x->run()) {
        case EXIT_CALL:
            check_counts(status);
            if (!(status->commands & COMMAND_QUIET)) {
                inject(next);
                do {
                    next = (next + 1) % KINDS;
                } while (status->commands & COMMAND_SOFT && next < INT3);
            }
            break;
        case EXIT_INTERRUPT:
            break;
        default:
            wrong(WRONG_EXIT, x->exit_code(), 0);
            return 1;
        }
        status->exits++;
        if (status->commands & COMMAND_INIT) {
            start_others();
            status->commands &= ~COMMAND_INIT;
        }
        if (passed_on != status->ticks &&
            !(status->commands & COMMAND_QUIET) &&
            x->interrupt(VIRTUAL_TICK)) {
            /* at most one is on its way */
            if (passed_on - status->virtual_ticks > 1) {
                wrong(WRONG_TICKS, status->virtual_ticks, passed_on);
            }
            passed_on++;
        }
    }
}
