/*
 * A program instead of an operating system: what no hypervisor does, or does
 * wrong only once, asked of the processor and of the firmware directly.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * These are the tests; the functions that they use are in bare-lib.c.
 *
 * AMD64 Architecture Programmer's Manual volume 2, chapter 15 and appendix B;
 * Secure Encrypted Virtualization API, publication 55766.
 */

#include "bare.h"

/* The processor without SEV: what an intercept tells */
static void test_intercepts(void)
{
    static const struct {
        const char *name;
        uint32_t code;
        uint64_t info_1;
        uint64_t mask;
    } wanted[] = {
        { "CPUID", 0x72, 0, 0 },
        { "MOV to CR0", 0x10, 1ULL << 63 | 2, ~0ULL },
        { "MOV from CR4", 0x04, 1ULL << 63 | 1, ~0ULL },
        { "INT 0x42", 0x75, 0x42, ~0ULL },
        { "INT3", 0x43, 0, 0 },
        { "MOV to DX", 0, 0, 0 },
        /* (not: the size of the address) */
        { "OUT", 0x7b, 0x80U << 16 | 1 << 4, ~0x380ULL },
        { "MOV to ECX", 0, 0, 0 },
        { "RDMSR", 0x7c, 0, ~0ULL },
        { "INVLPG", 0x79, 0x123, ~0ULL },
        { "PAUSE", 0x77, 0, 0 },
        { "VMMCALL", EXIT_VMMCALL, 0, 0 },
    };
    /* the lengths of these instructions, the way they are assembled */
    static const uint8_t len[] = { 2, 3, 3, 2, 1, 3, 1, 6, 2, 5, 2, 3 };
    /* what is intercepted is skipped, what is not is executed */
    uint64_t rip = 0, from = 0;

    memcpy(ram[0], guest_insns, guest_insns_end - guest_insns);
    memset(msrpm, 0xff, sizeof(msrpm));
    memset(iopm, 0xff, sizeof(iopm));
    prepare(1, NP);
    INTERCEPT_CR = ~0U;
    for (size_t i = 0; i < sizeof(len); i++) {
        if (wanted[i].code) {
            RIP = from;
            check(wanted[i].name, run(), wanted[i].code);
            check("its EXITINFO1", EXIT_INFO_1 & wanted[i].mask,
                  wanted[i].info_1);
            check("its address", RIP, rip);
            check("its NRIP", NEXT_RIP, rip + len[i]);
            from = rip + len[i];
        }
        rip += len[i];
    }

    memset(ram[0], 0, sizeof(ram[0]));
    memcpy(ram[0], guest_npf, guest_npf_end - guest_npf);
    prepare(1, NP);
    check("#NPF", run(), EXIT_NPF);
    check("its address", EXIT_INFO_2, 0x9000);
    check("its NRIP", NEXT_RIP, 0);
    check("its number of bytes", INSN_LEN, 15);
    check("its bytes", same(INSN_BYTES, ram[0], 15), true);

    /* LBR virtualization */
    memcpy(ram[0], guest_mark, guest_mark_end - guest_mark);
    prepare(1, NP);
    wrmsr(0x1d9, 2);
    LBR = 1;
    DEBUGCTL = 1;
    BR_FROM = 0x1234;
    check("a guest with LBR", run(), EXIT_VMMCALL);
    check("the guest's DEBUGCTL", DEBUGCTL, 1);
    check("the guest's last branch", BR_FROM, 0x1234);
    check("the host's DEBUGCTL", rdmsr(0x1d9), 2);
    wrmsr(0x1d9, 0);
}

/* An interrupt that VMRUN injects is delivered once */
static void test_injection(void)
{
    volatile uint16_t *count = (void *)&ram[0][0x300];

    memset(ram[0], 0, sizeof(ram[0]));
    memcpy(ram[0], guest_event, guest_event_end - guest_event);
    *(uint32_t *)&ram[0][0x40 * 4] = guest_event_handler - guest_event;
    prepare(1, NP);
    INTERCEPT &= ~(1ULL << 20 | 1ULL << 27);    /* IRET, IN and OUT */
    VMCB(uint32_t, 0x484) = 0x3ff;              /* IDTR's limit */
    EVENT_INJ = 1U << 31 | 0x40;
    check("an injected interrupt", run(), EXIT_VMMCALL);
    check("how often it is delivered", *count, 1);
    check("what is left to inject", EVENT_INJ, 0);
}

/* Each command needs its state */
static void test_states(void)
{
    static const uint32_t need_init[] = {
        PEK_GEN, PEK_CSR, PDH_CERT_EXPORT, PDH_GEN, DF_FLUSH, LAUNCH_START,
        DECOMMISSION, ACTIVATE, DEACTIVATE, GUEST_STATUS, LAUNCH_UPDATE_DATA,
        LAUNCH_MEASURE, LAUNCH_FINISH, DBG_DECRYPT, DBG_ENCRYPT,
    };
    uint32_t handle, other;

    check("the first state", platform_state(), 0);
    for (size_t i = 0; i < sizeof(need_init) / sizeof(need_init[0]); i++) {
        check("a command before INIT", command(need_init[i], 0),
              INVALID_PLATFORM_STATE);
    }
    check("no command", command(0x0ff, 0), INVALID_COMMAND);
    check("a buffer that is not RAM",
          command_at(PLATFORM_STATUS, 0xfee00000), INVALID_ADDRESS);
    check("INIT with flags that there are not", command(INIT, 1, 2),
          INVALID_PARAM);
    check("PLATFORM_RESET", command(PLATFORM_RESET, 0), SUCCESS);
    check("INIT", command(INIT, 0), SUCCESS);
    check("the state after INIT", platform_state(), 1);
    check("INIT twice", command(INIT, 0), INVALID_PLATFORM_STATE);
    check("PLATFORM_RESET after INIT", command(PLATFORM_RESET, 0),
          INVALID_PLATFORM_STATE);
    check("DOWNLOAD_FIRMWARE", command(DOWNLOAD_FIRMWARE, 0), UNSUPPORTED);
    check("RECEIVE_START", command(RECEIVE_START, 0), UNSUPPORTED);
    check("PEK_CSR to a short buffer", command(PEK_CSR, 3, LO(ram), 0, 16),
          INVALID_LENGTH);
    check("its length", buffer[2], 0x824);
    check("GET_ID", command(GET_ID, 3, LO(ram), 0, 128), SUCCESS);

    check("LAUNCH_START for a newer firmware",
          command(LAUNCH_START, 2, 0, 0x00010000), POLICY_FAILURE);
    check("LAUNCH_START with half a session",
          command(LAUNCH_START, 7, 0, 0, LO(ram), 0, 16, 0, LO(ram)),
          INVALID_LENGTH);
    check("LAUNCH_START sharing the key of nobody",
          command(LAUNCH_START, 2, 77, 0), INVALID_GUEST);
    check("no guest was made", platform_state(), 1);

    check("LAUNCH_START", command(LAUNCH_START, 2, 0, 2), SUCCESS);
    handle = buffer[0];
    check("the state with a guest", platform_state(), 2);
    check("LAUNCH_START sharing what is not to be shared",
          command(LAUNCH_START, 2, handle, 2), POLICY_FAILURE);
    check("PEK_GEN with a guest", command(PEK_GEN, 0), INVALID_PLATFORM_STATE);
    check("a command for nobody", command(ACTIVATE, 2, 77, 5), INVALID_GUEST);
    check("LAUNCH_UPDATE_DATA before ACTIVATE",
          command(LAUNCH_UPDATE_DATA, 5, handle, 0, LO(ram), 0, 4096),
          INACTIVE);
    check("ACTIVATE, ASID 0", command(ACTIVATE, 2, handle, 0), INVALID_ASID);
    check("ACTIVATE, an ASID of SEV-ES", command(ACTIVATE, 2, handle, 4),
          INVALID_ASID);
    check("ACTIVATE, an ASID too many", command(ACTIVATE, 2, handle, 17),
          INVALID_ASID);
    check("ACTIVATE", command(ACTIVATE, 2, handle, 5), SUCCESS);
    check("ACTIVATE twice", command(ACTIVATE, 2, handle, 6), ACTIVE);
    check("LAUNCH_START", command(LAUNCH_START, 2, 0, 0), SUCCESS);
    other = buffer[0];
    check("ACTIVATE, another guest's ASID", command(ACTIVATE, 2, other, 5),
          ASID_OWNED);
    check("GUEST_STATUS", command(GUEST_STATUS, 1, handle), SUCCESS);
    check("its policy", buffer[1], 2);
    check("its ASID", buffer[2], 5);
    check("its state", buffer[3] & 0xff, 1);
    check("an unaligned address",
          command(LAUNCH_UPDATE_DATA, 5, handle, 0, LO(ram) + 8, 0, 4096),
          INVALID_ADDRESS);
    check("an unaligned length",
          command(LAUNCH_UPDATE_DATA, 5, handle, 0, LO(ram), 0, 4090),
          INVALID_LENGTH);
    check("what is not RAM",
          command(LAUNCH_UPDATE_DATA, 5, handle, 0, 0xfee00000, 0, 4096),
          INVALID_ADDRESS);
    check("LAUNCH_UPDATE_VMSA without SEV-ES",
          command(LAUNCH_UPDATE_VMSA, 5, handle, 0, LO(ram), 0, 4096),
          POLICY_FAILURE);
    check("LAUNCH_FINISH before LAUNCH_MEASURE",
          command(LAUNCH_FINISH, 1, handle), INVALID_GUEST_STATE);
    check("LAUNCH_UPDATE_SECRET before LAUNCH_MEASURE",
          command(LAUNCH_UPDATE_SECRET, 1, handle), INVALID_GUEST_STATE);
    check("LAUNCH_MEASURE",
          command(LAUNCH_MEASURE, 5, handle, 0, LO(measured), 0, 48), SUCCESS);
    check("LAUNCH_UPDATE_DATA after LAUNCH_MEASURE",
          command(LAUNCH_UPDATE_DATA, 5, handle, 0, LO(ram), 0, 4096),
          INVALID_GUEST_STATE);
    check("LAUNCH_FINISH", command(LAUNCH_FINISH, 1, handle), SUCCESS);
    check("LAUNCH_FINISH twice", command(LAUNCH_FINISH, 1, handle),
          INVALID_GUEST_STATE);
    check("SEND_START", command(SEND_START, 1, handle), UNSUPPORTED);
    check("DECOMMISSION of an active guest", command(DECOMMISSION, 1, handle),
          ACTIVE);
    check("DEACTIVATE", command(DEACTIVATE, 1, handle), SUCCESS);
    check("ACTIVATE before DF_FLUSH", command(ACTIVATE, 2, other, 5),
          DFFLUSH_REQUIRED);
    check("DF_FLUSH", command(DF_FLUSH, 0), SUCCESS);
    check("ACTIVATE after DF_FLUSH", command(ACTIVATE, 2, other, 5), SUCCESS);
    check("DECOMMISSION", command(DECOMMISSION, 1, handle), SUCCESS);
    check("a command for who is gone", command(GUEST_STATUS, 1, handle),
          INVALID_GUEST);
    check("the state with a guest", platform_state(), 2);
    end(other);
    check("the state without guests", platform_state(), 1);
}

/* INIT_EX keeps the identity in memory that the host provides */
static void test_identity(void)
{
    static uint8_t nv[32768] __attribute__((aligned(4096)));
    static uint8_t csr[2][0x824] __attribute__((aligned(4096)));

    memset(nv, 0xff, sizeof(nv));
    check("SHUTDOWN", command(SHUTDOWN, 0), SUCCESS);
    check("INIT_EX with a small area",
          command(INIT_EX, 9, 36, 0, 0, 0, 0, 0, LO(nv), 0, 4096),
          INVALID_LENGTH);
    for (int i = 0; i < 2; i++) {
        check("INIT_EX",
              command(INIT_EX, 9, 36, 0, 0, 0, 0, 0, LO(nv), 0, sizeof(nv)),
              SUCCESS);
        check("PEK_CSR",
              command(PEK_CSR, 3, LO(csr[i]), 0, sizeof(csr[i])), SUCCESS);
        check("SHUTDOWN", command(SHUTDOWN, 0), SUCCESS);
        /* in between, the platform is somebody else */
        check("PLATFORM_RESET", command(PLATFORM_RESET, 0), SUCCESS);
    }
    check("the identity is the same", same(csr[0], csr[1], sizeof(csr[0])),
          true);
    nv[100] ^= 1;
    check("INIT_EX with an area that has changed",
          command(INIT_EX, 9, 36, 0, 0, 0, 0, 0, LO(nv), 0, sizeof(nv)),
          SECURE_DATA_INVALID);
    check("the state after that", platform_state(), 0);
    check("INIT", command(INIT, 0), SUCCESS);
}

/* VMRUN with SEV: what is refused, and what is encrypted */
static void test_encryption(void)
{
    uint32_t handle, other;
    size_t len = guest_mark_end - guest_mark;

    check("SYSCFG.MemEncryptEn", (rdmsr(0xc0010010) >> 23) & 1, 1);
    check("HWCR.SmmLock", rdmsr(0xc0010015) & 1, 1);
    check("the SEV status of a host", rdmsr(0xc0010131), 0);

    handle = launch(0, 5, guest_mark, len);
    prepare(5, SEV);
    check("SEV without nested paging", run(), EXIT_INVALID);
    prepare(4, NP | SEV);
    check("SEV with an ASID of SEV-ES", run(), EXIT_INVALID);
    prepare(17, NP | SEV);
    check("SEV with an ASID too many", run(), EXIT_INVALID);
    prepare(0, NP | SEV);
    check("ASID 0", run(), EXIT_INVALID);
    prepare(1, NP | SEV | SEV_ES);
    check("SEV-ES", run(), EXIT_INVALID);
    prepare(5, NP | SEV_ES);
    check("SEV-ES without SEV", run(), EXIT_INVALID);

    check("the guest's code is not to be seen",
          same(ram[0], guest_mark, len), false);
    prepare(5, NP | SEV);
    check("a guest with its key", marks(), true);
    check_not("what it wrote is not to be seen",
              *(volatile uint32_t *)(ram[0] + 0x800), 0x6b72614d);
    memcpy(copy, ram[0], sizeof(copy));

    /* The same pages with other keys */
    prepare(5, NP);
    check("the guest without SEV", marks(), false);
    memcpy(ram[0], copy, sizeof(copy));
    prepare(7, NP | SEV);
    check("an ASID that was never activated", marks(), false);
    memcpy(ram[0], copy, sizeof(copy));
    other = launch(0, 6, guest_mark, len);
    prepare(6, NP | SEV);
    check("another guest with its own key", marks(), true);
    memcpy(ram[0], copy, sizeof(copy));
    prepare(6, NP | SEV);
    check("the ASID of another guest", marks(), false);
    memcpy(ram[0], copy, sizeof(copy));
    prepare(5, NP | SEV);
    check("the guest after all that", marks(), true);

    /* Ciphertext depends on where it is */
    memcpy(copy, ram[0], sizeof(copy));
    memcpy(ram[1], copy, sizeof(copy));
    prepare(5, NP | SEV);
    nested[3][0] = (uintptr_t)ram[1] | 7;
    check("the guest's page in another place", marks(), false);

    /* Two guests that share a key */
    check("LAUNCH_START with a guest's key",
          command(LAUNCH_START, 2, handle, 0), SUCCESS);
    {
        uint32_t sharer = buffer[0];

        check("ACTIVATE", command(ACTIVATE, 2, sharer, 8), SUCCESS);
        memcpy(ram[0], copy, sizeof(copy));
        prepare(8, NP | SEV);
        check("a guest that shares the key", marks(), true);
        end(sharer);
    }

    /* The firmware's debugger */
    memcpy(ram[0], copy, sizeof(copy));
    check("DBG_DECRYPT",
          command(DBG_DECRYPT, 7, handle, 0, LO(ram[0]), 0, LO(ram[2]), 0,
                  4096), SUCCESS);
    check("what the debugger sees", same(ram[2], guest_mark, len), true);
    ram[2][len + 16] = 0x55;
    check("DBG_ENCRYPT",
          command(DBG_ENCRYPT, 7, handle, 0, LO(ram[2]), 0, LO(ram[0]), 0,
                  4096), SUCCESS);
    check("it is ciphertext", same(ram[0], ram[2], 64), false);
    memset(ram[2], 0, sizeof(ram[2]));
    check("DBG_DECRYPT",
          command(DBG_DECRYPT, 7, handle, 0, LO(ram[0]), 0, LO(ram[2]), 0,
                  4096), SUCCESS);
    check("what the debugger wrote", ram[2][len + 16], 0x55);
    prepare(5, NP | SEV);
    check("the guest after the debugger", marks(), true);

    /* Without its ASID it is lost */
    memcpy(copy, ram[0], sizeof(copy));
    check("DEACTIVATE", command(DEACTIVATE, 1, handle), SUCCESS);
    prepare(5, NP | SEV);
    check("a guest that was deactivated", marks(), false);
    check("DF_FLUSH", command(DF_FLUSH, 0), SUCCESS);
    check("ACTIVATE elsewhere", command(ACTIVATE, 2, handle, 9), SUCCESS);
    memcpy(ram[0], copy, sizeof(copy));
    prepare(9, NP | SEV);
    check("a guest with another ASID, but its key", marks(), true);
    end(handle);
    end(other);

    handle = launch(1, 5, guest_mark, len);
    check("DBG_DECRYPT against the policy",
          command(DBG_DECRYPT, 7, handle, 0, LO(ram[0]), 0, LO(ram[2]), 0,
                  4096), POLICY_FAILURE);
    end(handle);

    /* Fewer bytes than a page */
    memset(ram, 0, sizeof(ram));
    memcpy(ram[0] + 0x100, guest_mark, len);
    memset(ram[0] + 0x200, 0x77, 16);
    check("LAUNCH_START", command(LAUNCH_START, 2, 0, 0), SUCCESS);
    handle = buffer[0];
    check("ACTIVATE", command(ACTIVATE, 2, handle, 5), SUCCESS);
    check("LAUNCH_UPDATE_DATA",
          command(LAUNCH_UPDATE_DATA, 5, handle, 0, LO(ram[0]) + 0x100, 0, 32),
          SUCCESS);
    check("the rest of the page", ram[0][0x200], 0x77);
    check("the part", same(ram[0] + 0x100, guest_mark, len), false);
    prepare(5, NP | SEV);
    RIP = 0x100;
    check("a guest of two lines", marks(), true);
    end(handle);

    /* Bytes of an instruction that only the processor can read */
    memset(copy, 0x90, sizeof(copy));
    memcpy(copy, guest_npf, guest_npf_end - guest_npf);
    handle = launch(0, 5, copy, 64);
    prepare(5, NP | SEV);
    memcpy(copy, guest_npf, guest_npf_end - guest_npf);
    check("#NPF of a guest with SEV", run(), EXIT_NPF);
    check("its number of bytes", INSN_LEN, 15);
    check("its bytes", same(INSN_BYTES, copy, guest_npf_end - guest_npf),
          true);
    end(handle);
}

static uint64_t run_es(void)
{
    vmrun_es((uintptr_t)vmcb, hsave);
    return EXIT_CODE;
}

/* The guest's next VMGEXIT has this value */
static void expect_ghcb(const char *what, uint64_t value)
{
    check(what, run_es(), EXIT_VMGEXIT);
    check("its GHCB MSR", GHCB, value);
}

/* VMRUN with SEV-ES: the guest's registers are nobody else's */
static void test_es(void)
{
    uint16_t *vector = (void *)&ram[0][29 * 4];
    uint32_t handle;

    check("SHUTDOWN", command(SHUTDOWN, 0), SUCCESS);
    check("INIT with SEV-ES, without memory of its own",
          command(INIT, 5, 1, 0, 0x1000000, 0, 4096), INVALID_LENGTH);
    check("INIT with SEV-ES", command(INIT, 5, 1, 0, 0x1000000, 0, 1 << 20),
          SUCCESS);
    memset(ram, 0, sizeof(ram));
    memcpy(ram[0] + 0x100, guest_es, guest_es_end - guest_es);
    vector[0] = 0x100 + (guest_es_vc - guest_es);
    check("LAUNCH_START", command(LAUNCH_START, 2, 0, 4), SUCCESS);
    handle = buffer[0];
    check("ACTIVATE with an ASID of plain SEV",
          command(ACTIVATE, 2, handle, 5), INVALID_ASID);
    check("ACTIVATE", command(ACTIVATE, 2, handle, 2), SUCCESS);
    check("LAUNCH_UPDATE_DATA",
          command(LAUNCH_UPDATE_DATA, 5, handle, 0, LO(ram), 0, 4096),
          SUCCESS);

    prepare(2, NP | SEV | SEV_ES);
    RIP = 0x100;
    VMCB(uint32_t, 0x484) = 0x3ff;              /* IDTR's limit */
    VMCB(uint64_t, 0x558) |= 1ULL << 1;         /* CR0.MP */
    VMCB(uint64_t, 0x548) = 1ULL << 9;          /* CR4.OSFXSR */
    memcpy(vmsa, vmcb + 0x400, 0x400);
    *(uint64_t *)(vmsa + 0x318) = 0x6b72614d;   /* RBX */
    *(uint64_t *)(vmsa + 0x3e8) = 1;            /* XCR0 */
    *(uint32_t *)(vmsa + 0x408) = 0x1f80;       /* MXCSR */
    check("LAUNCH_UPDATE_VMSA of a part",
          command(LAUNCH_UPDATE_VMSA, 5, handle, 0, LO(vmsa), 0, 2048),
          INVALID_LENGTH);
    check("LAUNCH_UPDATE_VMSA",
          command(LAUNCH_UPDATE_VMSA, 5, handle, 0, LO(vmsa), 0, 4096),
          SUCCESS);
    check_not("it is not to be seen", *(uint64_t *)(vmsa + 0x318), 0x6b72614d);
    check("LAUNCH_MEASURE",
          command(LAUNCH_MEASURE, 5, handle, 0, LO(measured), 0, 48), SUCCESS);
    check("LAUNCH_FINISH", command(LAUNCH_FINISH, 1, handle), SUCCESS);

    /* What is refused */
    memset(vmcb + 0x400, 0, 0xc00);
    VMSA_PA = (uintptr_t)vmsa;
    INTERCEPT &= ~(1ULL << 20 | 1ULL << 28);    /* IRET, MSRs */
    check("SEV-ES without LBR virtualization", run_es(), EXIT_INVALID);
    LBR = 1;
    ASID = 5;
    check("SEV-ES with an ASID of plain SEV", run_es(), EXIT_INVALID);
    ASID = 3;
    check("SEV-ES with another guest's ASID", run_es(), EXIT_INVALID);
    ASID = 2;
    VMSA_PA = (uintptr_t)vmsa + 64;
    check("a VMSA that is not aligned", run_es(), EXIT_INVALID);
    VMSA_PA = (uintptr_t)ram[1];
    check("a page that is no VMSA", run_es(), EXIT_INVALID);
    VMSA_PA = 1ULL << 39;
    check("a VMSA where there is no memory", run_es(), EXIT_INVALID);
    VMSA_PA = (uintptr_t)vmsa;
    vmsa[0x318] ^= 1;
    check("a VMSA that was changed", run_es(), EXIT_INVALID);
    vmsa[0x318] ^= 1;

    /* What the guest asks for, it says itself */
    INTERCEPT |= 1ULL << 47 | 1ULL << 48;       /* EFER's and CR0's traps */
    nested[3][9] = (uintptr_t)ram[1] | 1ULL << 45 | 7;
    expect_ghcb("VMGEXIT", 1ULL << 32 | 0x6b72614d);
    check("the VMCB's save area", VMCB(uint64_t, 0x578) | RAX, 0);
    check("RFLAGS.IF", INT_STATE, 0);
    memcpy(copy, vmsa, sizeof(copy));
    GHCB = 0x12345000;
    check("HLT", run_es(), 0x78);
    check("RFLAGS.IF", INT_STATE & 2, 2);
    check("the VMSA is another one", same(copy, vmsa, sizeof(copy)), false);
    /* the old one, which was right before */
    memcpy(measured, vmsa, sizeof(copy));
    memcpy(vmsa, copy, sizeof(copy));
    check("a VMSA of the past", run_es(), EXIT_INVALID);
    memcpy(vmsa, measured, sizeof(copy));
    /* HLT is over, and XMM3 is what it was */
    expect_ghcb("VMGEXIT behind the HLT", 0x12345000);
    check("a write of CR0", run_es(), 0x90);
    check("its value", EXIT_INFO_1, 0x1a);
    check("CLTS", run_es(), 0x90);
    check("its value", EXIT_INFO_1, 0x12);
    check("a write of EFER", run_es(), 0x8f);
    check("its value", EXIT_INFO_1, 0x1001);
    check("#NPF", run_es(), EXIT_NPF);
    check("its address", EXIT_INFO_2, 0xa000);
    check("its bytes", INSN_LEN, 0);
    nested[3][10] = (uintptr_t)ram[1] | 7;
    check("VMGEXIT after both", run_es(), EXIT_VMGEXIT);
    check("how many #VC it had", (uint32_t)GHCB, 2);
    end(handle);
    check("the guest without its key", run_es(), EXIT_INVALID);
}

int main(void)
{
    say("init: scenario bare\n");
    /* no interrupt but the watchdog's */
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    wrmsr(0xc0010117, (uintptr_t)hsave);
    if (!find_psp()) {
        say("init: verdict FAILED there is no PSP\n");
    } else {
        test_intercepts();
        test_injection();
        test_states();
        test_identity();
        test_encryption();
        test_es();
        say("%x checks\n", (uint64_t)checks);
        if (failures) {
            say("init: verdict FAILED %x checks\n", (uint64_t)failures);
        } else {
            say("init: verdict ok\n");
        }
    }
    /* power off: ICH9's PM1a control register, as SeaBIOS set it up */
    outw(0x604, 0x2000);
    return 0;
}
