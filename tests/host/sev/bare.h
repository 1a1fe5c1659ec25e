/*
 * The library of bare.c: instructions, report, the firmware's mailbox, guests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * AMD64 Architecture Programmer's Manual volume 2, chapter 15 and appendix B;
 * Secure Encrypted Virtualization API, publication 55766.
 */

#ifndef BARE_H
#define BARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Instructions */

static inline void outb(uint16_t port, uint8_t v)
{
    asm volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t v;

    asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline void outl(uint16_t port, uint32_t v)
{
    asm volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint32_t inl(uint16_t port)
{
    uint32_t v;

    asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline void outw(uint16_t port, uint16_t v)
{
    asm volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;

    asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (uint64_t)hi << 32 | lo;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
    asm volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v),
                 "d"((uint32_t)(v >> 32)));
}

void *memset(void *p, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);
/* Compare memory that devices and guests may write to */
bool same(const void *a, const void *b, size_t n);

/* The report, on the first serial line */

/* %s, and %x for 64 bits */
void say(const char *format, ...);
extern int checks, failures;
void check(const char *what, uint64_t is, uint64_t wanted);
void check_not(const char *what, uint64_t is, uint64_t unwanted);

/* The firmware's status codes and commands */

#define SUCCESS 0x00
#define INVALID_PLATFORM_STATE 0x01
#define INVALID_GUEST_STATE 0x02
#define INVALID_LENGTH 0x04
#define POLICY_FAILURE 0x07
#define INACTIVE 0x08
#define INVALID_ADDRESS 0x09
#define ASID_OWNED 0x0c
#define INVALID_ASID 0x0d
#define DFFLUSH_REQUIRED 0x0f
#define INVALID_GUEST 0x10
#define INVALID_COMMAND 0x11
#define ACTIVE 0x12
#define UNSUPPORTED 0x15
#define INVALID_PARAM 0x16
#define SECURE_DATA_INVALID 0x18

#define INIT 0x001
#define SHUTDOWN 0x002
#define PLATFORM_RESET 0x003
#define PLATFORM_STATUS 0x004
#define PEK_GEN 0x005
#define PEK_CSR 0x006
#define PDH_CERT_EXPORT 0x008
#define PDH_GEN 0x009
#define DF_FLUSH 0x00a
#define DOWNLOAD_FIRMWARE 0x00b
#define GET_ID 0x00c
#define INIT_EX 0x00d
#define DECOMMISSION 0x020
#define ACTIVATE 0x021
#define DEACTIVATE 0x022
#define GUEST_STATUS 0x023
#define LAUNCH_START 0x030
#define LAUNCH_UPDATE_DATA 0x031
#define LAUNCH_UPDATE_VMSA 0x032
#define LAUNCH_MEASURE 0x033
#define LAUNCH_UPDATE_SECRET 0x034
#define LAUNCH_FINISH 0x035
#define SEND_START 0x040
#define RECEIVE_START 0x050
#define DBG_DECRYPT 0x060
#define DBG_ENCRYPT 0x061

/* Look for the security processor on the PCI bus, and enable its registers */
bool find_psp(void);
/* Give a command, whose buffer is at this physical address; its status */
uint32_t command_at(uint32_t id, uint64_t buffer);
/*
 * Give a command with so many words of 32 bits in buffer[], which then has the
 * answer; its status
 */
uint32_t command(uint32_t id, int words, ...);
extern uint32_t buffer[32];
#define LO(p) ((uint32_t)(uintptr_t)(p))
/* The state that PLATFORM_STATUS returns */
uint32_t platform_state(void);

/* Guests, whose code is in bare-start.S */

extern const uint8_t guest_mark[], guest_mark_end[];
extern const uint8_t guest_insns[], guest_insns_end[];
extern const uint8_t guest_npf[], guest_npf_end[];
extern const uint8_t guest_event[], guest_event_handler[], guest_event_end[];
extern const uint8_t guest_es[], guest_es_vc[], guest_es_end[];
extern uint64_t tables[];
void vmrun(uint64_t vmcb);
void vmrun_es(uint64_t vmcb, void *hsave);

extern uint8_t vmcb[4096];
extern uint8_t hsave[4096];
extern uint8_t msrpm[8192];
extern uint8_t iopm[12288];
extern uint8_t ram[4][4096];
extern uint8_t measured[4096];
extern uint8_t copy[4096];
extern uint8_t vmsa[4096];
extern uint64_t nested[4][512];

#define VMCB(type, offset) (*(volatile type *)(vmcb + (offset)))
#define INTERCEPT_CR VMCB(uint32_t, 0x00)
#define INTERCEPT_EXCP VMCB(uint32_t, 0x08)
#define INTERCEPT VMCB(uint64_t, 0x0c)
#define ASID VMCB(uint32_t, 0x58)
#define INT_CTL VMCB(uint32_t, 0x60)
#define EXIT_CODE VMCB(uint64_t, 0x70)
#define EXIT_INFO_1 VMCB(uint64_t, 0x78)
#define EXIT_INFO_2 VMCB(uint64_t, 0x80)
#define INT_STATE VMCB(uint32_t, 0x68)
#define NESTED VMCB(uint64_t, 0x90)
#define GHCB VMCB(uint64_t, 0xa0)
#define NESTED_CR3 VMCB(uint64_t, 0xb0)
#define EVENT_INJ VMCB(uint64_t, 0xa8)
#define LBR VMCB(uint64_t, 0xb8)
#define NEXT_RIP VMCB(uint64_t, 0xc8)
#define INSN_LEN VMCB(uint8_t, 0xd0)
#define INSN_BYTES (vmcb + 0xd1)
#define VMSA_PA VMCB(uint64_t, 0x108)
#define RIP VMCB(uint64_t, 0x578)
#define RAX VMCB(uint64_t, 0x5f8)
#define DEBUGCTL VMCB(uint64_t, 0x670)
#define BR_FROM VMCB(uint64_t, 0x678)

#define NP 1
#define SEV 2
#define SEV_ES 4
#define EXIT_NPF 0x400
#define EXIT_VMMCALL 0x81
#define EXIT_VMGEXIT 0x403
#define EXIT_INVALID (~0ULL)

/* Make the VMCB of a guest in real mode, whose first 16 KiB are ram[] */
void prepare(uint32_t asid, uint64_t nested_ctl);
/* Run the guest until it exits; the exit code */
uint64_t run(void);
/* Whether the guest could execute its code, and remember something */
bool marks(void);
/* Have the firmware launch @code with this policy; the guest's handle */
uint32_t launch(uint32_t policy, uint32_t asid, const uint8_t *code,
                size_t len);
/* Deactivate and decommission a guest */
void end(uint32_t handle);

#endif
