/*
 * Emulated AMD SEV: memory encryption
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A model for testing software, not a protection of anything: see
 * docs/sev-platform.md of the project.
 */

#ifndef I386_TCG_SEV_MEMORY_H
#define I386_TCG_SEV_MEMORY_H

#include "cpu.h"

/* Position of the C-bit in page table entries, CPUID 8000_001F EBX[5:0] */
#define SEV_MEMORY_C_BIT 51
#define SEV_MEMORY_C_MASK (1ULL << SEV_MEMORY_C_BIT)

/* Names a key; what is accessed without a key has SEV_KEY_NONE */
typedef uint16_t SevKeyId;
#define SEV_KEY_NONE 0

#define SEV_MAX_ASIDS 1024

/* Whether the machine's processors encrypt memory; never changes back */
extern bool sev_memory_enabled;

/*
 * The processor side.
 *
 * sev_memory_realize: @cpu has sev=on.  Fails with an error that names what
 * the processor or the machine lacks.
 */
bool sev_memory_realize(X86CPU *cpu, Error **errp);

/*
 * @cs is about to access the page of physical address @addr with @key,
 * SEV_KEY_NONE for an access of the hypervisor: from here on, until its next
 * TLB flush, the page holds what this key sees.  Does not return when it is
 * called for a translation and the page has to change: that is then done
 * first, and the translation is started again.
 */
void sev_memory_access(CPUState *cs, hwaddr addr, SevKeyId key);

/*
 * The same, for the page of RAM at @addr as a whole, which is not code.  The
 * pointer is valid until @cs' TLB is flushed.
 */
void *sev_memory_map(CPUState *cs, hwaddr addr, SevKeyId key);

/*
 * Changes with each flush of @cs' TLB: what was looked up before, in the same
 * instruction, is not @cs' any more then.
 */
uint32_t sev_memory_epoch(CPUState *cs);

/* Flush all of @cs' TLB, which is not running, or calls this itself */
void sev_memory_flush(CPUState *cs);
/* The same has been done by somebody else */
void sev_memory_flushed(CPUState *cs);

/* What the ASID that VMRUN was given stands for; in 1 ... sev-asids */
SevKeyId sev_memory_asid_key(uint32_t asid);

/*
 * The firmware's side.  To be called where no processor runs (from work of
 * async_safe_run_on_cpu()), and the first of them in each such section is
 * sev_memory_flush_all().
 */
void sev_memory_flush_all(void);

/*
 * A new random key, with one reference.  It lives until the last reference is
 * dropped *and* no page holds what was written with it.
 */
SevKeyId sev_key_new(void);
void sev_key_ref(SevKeyId key);
void sev_key_unref(SevKeyId key);
/* Pages of 4 KiB that hold what was written with @key */
size_t sev_key_pages(SevKeyId key);

/*
 * From now on @asid stands for @key; for a random key that nothing else has,
 * if it is SEV_KEY_NONE.
 */
void sev_memory_bind(uint32_t asid, SevKeyId key);
/* Number of ASIDs, and the lowest one for guests without SEV-ES */
uint32_t sev_memory_asids(void);
uint32_t sev_memory_min_asid(void);

/*
 * Read or write @len bytes of guest RAM at physical address @addr, as an
 * access with @key would.  Reading changes nothing.  What is written should be
 * aligned to 16 bytes, the unit of encryption.  Returns false, with nothing
 * written, if some of it is not RAM that can be encrypted.
 */
bool sev_memory_read(hwaddr addr, void *buf, size_t len, SevKeyId key);
bool sev_memory_write(hwaddr addr, const void *buf, size_t len, SevKeyId key);
/* Whether @len bytes from @addr are such RAM */
bool sev_memory_is_ram(hwaddr addr, uint64_t len);

#endif
