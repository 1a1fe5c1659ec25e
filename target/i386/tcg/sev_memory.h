/*
 * Emulated AMD SEV: memory encryption
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A model for testing software, which protects nothing: see
 * docs/sev-platform.md of the project.
 */

#ifndef I386_TCG_SEV_MEMORY_H
#define I386_TCG_SEV_MEMORY_H

#include "cpu.h"

/* Position of the C-bit in page table entries, CPUID 8000_001F EBX[5:0] */
#define SEV_MEMORY_C_BIT 51
#define SEV_MEMORY_C_MASK (1ULL << SEV_MEMORY_C_BIT)

/* Identifies a key; SEV_KEY_NONE stands for access without a key */
typedef uint16_t SevKeyId;
#define SEV_KEY_NONE 0

#define SEV_MAX_ASIDS 1024

/* Whether the machine's processors encrypt memory; never changes back */
extern bool sev_memory_enabled;

/*
 * The processor side.
 *
 * sev_memory_realize: @cpu has sev=on.  Returns false with @errp set if the
 * processor or the machine lacks something that is needed.
 */
bool sev_memory_realize(X86CPU *cpu, Error **errp);

/*
 * @cs is about to access the page of physical address @addr with @key
 * (SEV_KEY_NONE for an access by the hypervisor): from here on, until the next
 * TLB flush of @cs, the page holds what this key sees.  Does not return if it
 * is called for a translation and the page has to be converted: that is then
 * done first, and the translation restarted.
 */
void sev_memory_access(CPUState *cs, hwaddr addr, SevKeyId key);

/*
 * The same, for direct access to the page of RAM at @addr, which must not
 * contain code.  The pointer is valid until the TLB of @cs is flushed.
 */
void *sev_memory_map(CPUState *cs, hwaddr addr, SevKeyId key);

/*
 * Changes with each flush of the TLB of @cs, which invalidates anything that
 * was looked up before, even in the same instruction.
 */
uint32_t sev_memory_epoch(CPUState *cs);

/* Flush the whole TLB of @cs, which is either not running or the caller */
void sev_memory_flush(CPUState *cs);
/* The whole TLB of @cs has been flushed by other code */
void sev_memory_flushed(CPUState *cs);

/* The key of the ASID given to VMRUN, which is in 1 ... sev-asids */
SevKeyId sev_memory_asid_key(uint32_t asid);

/*
 * The firmware's side.  To be called while no processor runs (from work of
 * async_safe_run_on_cpu()); each such section must call sev_memory_flush_all()
 * first.
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
 * From now on @asid stands for @key; if that is SEV_KEY_NONE, for a random key
 * that is not used otherwise.
 */
void sev_memory_bind(uint32_t asid, SevKeyId key);
/* Number of ASIDs, and the lowest one for guests without SEV-ES */
uint32_t sev_memory_asids(void);
uint32_t sev_memory_min_asid(void);

/*
 * Read or write @len bytes of guest RAM at physical address @addr, as an
 * access with @key would.  Reading has no side effect.  Writes should be
 * aligned to 16 bytes, the unit of encryption.  Returns false, with nothing
 * written, if some of it is not RAM that can be encrypted.
 */
bool sev_memory_read(hwaddr addr, void *buf, size_t len, SevKeyId key);
bool sev_memory_write(hwaddr addr, const void *buf, size_t len, SevKeyId key);
/* Whether @len bytes from @addr are such RAM */
bool sev_memory_is_ram(hwaddr addr, uint64_t len);

#endif
