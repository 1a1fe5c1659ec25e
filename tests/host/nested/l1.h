/*
 * A guest that is a hypervisor: what its parts share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef L1_H
#define L1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Kinds of events that L1 injects into L2, each with a vector of its own; from
 * INT3 on as if by an instruction
 */
enum { INTR, NMI, UD, GP, PF, INT3, INTO, INTN, KINDS };

/* In a page for each processor that the outside reads: see lib.sh */
struct status {
    uint64_t rounds;            /* of L2's loop */
    uint64_t errors;
    uint64_t first;             /* what was wrong first: an enum wrong */
    uint64_t is, wanted;
    uint64_t exits;             /* from L2 */
    uint64_t ticks;             /* of the timer, in L1 */
    uint64_t virtual_ticks;     /* in L2 */
    uint64_t injected[KINDS], received[KINDS];
    uint64_t boots;             /* since RAM was 0 */
    uint64_t deadlines;         /* of the VMX-preemption timer */
    uint64_t late;              /* the latest of them, in ticks of the TSC */
    uint64_t shadowed;          /* rounds that used a shadow VMCS */
    uint64_t smis;              /* that L2 has caused */
    uint64_t inits;             /* that L1 has seen, where they exit */
    uint64_t commands;          /* from the outside: COMMAND_... */
    uint64_t kind;              /* of event, where first is WRONG_COUNT */
};
#define STATUS(cpu) ((volatile struct status *)(0x1000000 + 4096ull * (cpu)))

/* What the outside may ask a processor for */
#define COMMAND_INIT 1          /* INIT and SIPI for the others, once */
#define COMMAND_SMI 2           /* an SMI in each round of L2 */
#define COMMAND_QUIET 4         /* no events for L2 */
#define COMMAND_SOFT 8          /* those of instructions only, in short rounds */

enum wrong {
    WRONG_NONE, WRONG_REGISTER, WRONG_VECTOR_REGISTER, WRONG_MEMORY,
    WRONG_COUNT, WRONG_ERROR_CODE, WRONG_TICKS, WRONG_TSC, WRONG_EXIT,
    WRONG_INTERRUPT, WRONG_CR2, WRONG_DEADLINE, WRONG_SHADOW, WRONG_SMIS,
};

/* A processor, as it finds itself by GS, in L1 as in L2 */
#define CPUS 4
struct cpu {
    struct cpu *self;
    uint64_t l2[15];            /* l1-start.S */
    volatile struct status *status;
    unsigned number;
};

static inline struct cpu *cpu(void)
{
    struct cpu *c;

    __asm__ volatile("movq %%gs:0, %0" : "=r" (c));
    return c;
}

void *memset(void *p, int c, size_t n);

/* Only the first is described, all are counted */
void wrong(enum wrong what, uint64_t is, uint64_t wanted);

static inline uint64_t rdtsc(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a" (low), "=d" (high));
    return low | (uint64_t)high << 32;
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t low, high;

    __asm__ volatile("rdmsr" : "=a" (low), "=d" (high) : "c" (msr));
    return low | (uint64_t)high << 32;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" : : "c" (msr), "a" ((uint32_t)v),
                     "d" ((uint32_t)(v >> 32)));
}

static inline uint64_t cr0(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr0, %0" : "=r" (v));
    return v;
}

static inline uint64_t cr3(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr3, %0" : "=r" (v));
    return v;
}

static inline uint64_t cr4(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr4, %0" : "=r" (v));
    return v;
}

static inline uint32_t cpuid_ecx(uint32_t leaf)
{
    uint32_t b, c = 0, d;

    __asm__("cpuid" : "+a" (leaf), "=b" (b), "+c" (c), "=d" (d));
    return c;
}

#define GS_BASE 0xc0000101

/* What the extension has to do; L2's state is the extension's */

enum exit { EXIT_CALL, EXIT_INTERRUPT, EXIT_OTHER };

struct l2 {
    void (*entry)(void);
    uint64_t stack;
    uint64_t idt;               /* address of the descriptor, as of LIDT */
    uint64_t tsc_offset;
    uint64_t nested_tables;     /* physical address of level 4 */
};

struct extension {
    const char *name;
    /* What an entry of nested paging has beside the address */
    uint64_t table, page, large_page;
    bool (*present)(void);
    void (*start)(const struct l2 *l2);
    /* Run L2 until it exits; after EXIT_CALL its next instruction is next */
    enum exit (*run)(void);
    /* With the next entry: @vector, which has an error code if @code isn't -1 */
    void (*inject)(int kind, int vector, int code);
    /* A virtual interrupt, when L2 accepts it; false if one is still waiting */
    bool (*interrupt)(int vector);
    uint64_t (*exit_code)(void);
    /* In L2: the call of L1; and what else is to be checked there each round */
    void (*call)(void);
    void (*check)(uint64_t round);
};

extern const struct extension svm, vmx;

#endif
