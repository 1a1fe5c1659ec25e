/*
 * The library of bare.c: instructions, report, the firmware's mailbox, guests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <stdarg.h>
#include "bare.h"

void *memset(void *p, int c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ((volatile uint8_t *)p)[i] = c;
    }
    return p;
}

void *memcpy(void *to, const void *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ((volatile uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    }
    return to;
}

bool same(const void *a, const void *b, size_t n)
{
    const volatile uint8_t *x = a, *y = b;

    for (size_t i = 0; i < n; i++) {
        if (x[i] != y[i]) {
            return false;
        }
    }
    return true;
}

/* The report */

static void put(char c)
{
    while (!(inb(0x3fd) & 0x20)) {
    }
    outb(0x3f8, c);
}

static void put_hex(uint64_t v)
{
    bool started = false;

    put('0');
    put('x');
    for (int i = 60; i >= 0; i -= 4) {
        int digit = (v >> i) & 15;

        started |= digit || !i;
        if (started) {
            put("0123456789abcdef"[digit]);
        }
    }
}

void say(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    for (; *format; format++) {
        if (*format == '%' && format[1] == 's') {
            for (const char *s = va_arg(ap, const char *); *s; s++) {
                put(*s);
            }
            format++;
        } else if (*format == '%' && format[1] == 'x') {
            put_hex(va_arg(ap, uint64_t));
            format++;
        } else {
            put(*format);
        }
    }
    va_end(ap);
}

int checks, failures;

void check(const char *what, uint64_t is, uint64_t wanted)
{
    checks++;
    if (is != wanted) {
        failures++;
        say("FAILED: %s: %x, expected %x\n", what, is, wanted);
    }
}

void check_not(const char *what, uint64_t is, uint64_t unwanted)
{
    checks++;
    if (is == unwanted) {
        failures++;
        say("FAILED: %s: %x\n", what, is);
    }
}

/* The firmware's mailbox, polled */

static volatile uint8_t *psp;

static void psp_write(uint32_t reg, uint32_t v)
{
    *(volatile uint32_t *)(psp + reg) = v;
}

static uint32_t psp_read(uint32_t reg)
{
    return *(volatile uint32_t *)(psp + reg);
}

uint32_t command_at(uint32_t id, uint64_t buffer)
{
    uint32_t r;

    psp_write(0x105e0, buffer);
    psp_write(0x105e4, buffer >> 32);
    psp_write(0x10580, id << 16);
    do {
        r = psp_read(0x10580);
    } while (!(r & 0x80000000));
    return r & 0xffff;
}

/* A command's buffer: words of 32 bits, as the specification lays them out */
uint32_t buffer[32] __attribute__((aligned(4096)));

uint32_t command(uint32_t id, int words, ...)
{
    va_list ap;

    memset(buffer, 0, sizeof(buffer));
    va_start(ap, words);
    for (int i = 0; i < words; i++) {
        buffer[i] = va_arg(ap, uint32_t);
    }
    va_end(ap);
    return command_at(id, (uintptr_t)buffer);
}

bool find_psp(void)
{
    for (uint32_t device = 0; device < 32; device++) {
        uint32_t config = 0x80000000 | device << 11;

        outl(0xcf8, config);
        if (inl(0xcfc) == 0x14561022) {
            outl(0xcf8, config | 0x18);
            psp = (void *)(uintptr_t)(inl(0xcfc) & ~0xfU);
            outl(0xcf8, config | 4);
            outw(0xcfc, 2);
            return true;
        }
    }
    return false;
}

uint32_t platform_state(void)
{
    check("PLATFORM_STATUS", command(PLATFORM_STATUS, 0), SUCCESS);
    return (buffer[0] >> 16) & 0xff;
}

/* Guests */

uint8_t vmcb[4096] __attribute__((aligned(4096)));
uint8_t hsave[4096] __attribute__((aligned(4096)));
uint8_t msrpm[8192] __attribute__((aligned(4096)));
uint8_t iopm[12288] __attribute__((aligned(4096)));
uint8_t ram[4][4096] __attribute__((aligned(4096)));
uint8_t measured[4096] __attribute__((aligned(4096)));
uint8_t copy[4096] __attribute__((aligned(4096)));
uint8_t vmsa[4096] __attribute__((aligned(4096)));
uint64_t nested[4][512] __attribute__((aligned(4096)));

static void segment(uint32_t at, uint16_t attributes)
{
    VMCB(uint16_t, 0x400 + at) = 0;
    VMCB(uint16_t, 0x402 + at) = attributes;
    VMCB(uint32_t, 0x404 + at) = 0xffff;
    VMCB(uint64_t, 0x408 + at) = 0;
}

void prepare(uint32_t asid, uint64_t nested_ctl)
{
    memset(vmcb, 0, sizeof(vmcb));
    INTERCEPT_EXCP = ~0U;
    /* all of the first and of the second word but reading and writing flags */
    INTERCEPT = (~0ULL & ~(3ULL << 16)) & 0xfffffffffffULL;
    VMCB(uint64_t, 0x40) = (uintptr_t)iopm;
    VMCB(uint64_t, 0x48) = (uintptr_t)msrpm;
    ASID = asid;
    INT_CTL = 1 << 24;          /* V_INTR_MASKING */
    NESTED = nested_ctl;
    NESTED_CR3 = (uintptr_t)nested[0];
    segment(0x00, 0x93);        /* ES */
    segment(0x10, 0x9b);        /* CS */
    segment(0x20, 0x93);        /* SS */
    segment(0x30, 0x93);        /* DS */
    VMCB(uint64_t, 0x4d0) = 0x1000;             /* EFER.SVME */
    VMCB(uint64_t, 0x558) = 0x10;               /* CR0 */
    VMCB(uint64_t, 0x560) = 0x400;              /* DR7 */
    VMCB(uint64_t, 0x568) = 0xffff0ff0;         /* DR6 */
    VMCB(uint64_t, 0x570) = 2;                  /* RFLAGS */
    VMCB(uint64_t, 0x5d8) = 0x1000;             /* RSP */

    nested[0][0] = (uintptr_t)nested[1] | 7;
    nested[1][0] = (uintptr_t)nested[2] | 7;
    nested[2][0] = (uintptr_t)nested[3] | 7;
    memset(nested[3], 0, sizeof(nested[3]));
    for (int i = 0; i < 4; i++) {
        nested[3][i] = (uintptr_t)ram[i] | 7;
    }
}

uint64_t run(void)
{
    vmrun((uintptr_t)vmcb);
    return EXIT_CODE;
}

/* An APIC timer ends a guest that does not end by itself */
static void watchdog(void)
{
    volatile uint32_t *apic = (void *)0xfee00000;

    apic[0xf0 / 4] = 0x1ff;
    apic[0x3e0 / 4] = 0;                /* divide by 2 */
    apic[0x320 / 4] = 0x40;             /* one shot, vector 0x40 */
    apic[0x380 / 4] = 20 * 1000 * 1000;
}

static void stop_watchdog(void)
{
    volatile uint32_t *apic = (void *)0xfee00000;

    apic[0x380 / 4] = 0;
    apic[0x320 / 4] = 0x10040;
}

bool marks(void)
{
    uint64_t code;

    watchdog();
    code = run();
    stop_watchdog();
    return code == EXIT_VMMCALL && RAX == 0x6b72614d;
}

uint32_t launch(uint32_t policy, uint32_t asid, const uint8_t *code,
                size_t len)
{
    uint32_t handle;

    memset(ram, 0, sizeof(ram));
    memcpy(ram[0], code, len);
    check("LAUNCH_START", command(LAUNCH_START, 2, 0, policy), SUCCESS);
    handle = buffer[0];
    check("ACTIVATE", command(ACTIVATE, 2, handle, asid), SUCCESS);
    check("LAUNCH_UPDATE_DATA",
          command(LAUNCH_UPDATE_DATA, 5, handle, 0, LO(ram), 0, 4096),
          SUCCESS);
    check("LAUNCH_MEASURE without a buffer",
          command(LAUNCH_MEASURE, 5, handle, 0, 0, 0, 0), INVALID_LENGTH);
    check("its length", buffer[4], 48);
    check("LAUNCH_MEASURE",
          command(LAUNCH_MEASURE, 5, handle, 0, LO(measured), 0, 48), SUCCESS);
    check("LAUNCH_FINISH", command(LAUNCH_FINISH, 1, handle), SUCCESS);
    return handle;
}

void end(uint32_t handle)
{
    check("DEACTIVATE", command(DEACTIVATE, 1, handle), SUCCESS);
    check("DECOMMISSION", command(DECOMMISSION, 1, handle), SUCCESS);
    check("DF_FLUSH", command(DF_FLUSH, 0), SUCCESS);
}
