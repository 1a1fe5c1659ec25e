/*
 * Emulated AMD SEV-ES: the guest's registers are encrypted
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A model for testing software, not a protection of anything: see
 * docs/sev-platform.md of the project.
 */

#ifndef I386_TCG_SEV_ES_H
#define I386_TCG_SEV_ES_H

#include "cpu.h"
#include "tcg/sev_memory.h"

/*
 * The save area of a guest with SEV-ES (VMSA) is a page of its own, encrypted
 * with the guest's key.  VMRUN takes it into a copy that only the processor
 * has, and #VMEXIT writes that back.  What both wrote last is kept as well:
 * a page that somebody else has changed is not run (section references are to
 * the AMD64 Architecture Programmer's Manual volume 2; 15.35.2).
 */

/*
 * The firmware has encrypted @content, a page, at physical address @addr with
 * @key as a VMSA.  To be called where no processor runs.
 */
void sev_es_vmsa_new(hwaddr addr, SevKeyId key, const uint8_t *content);
/* There are no VMSAs with @key any more.  The same holds. */
void sev_es_vmsa_forget(SevKeyId key);

/*
 * VMRUN: take the VMSA that the VMCB at env->vm_vmcb names, with env->sev_key.
 * Returns false if it is none, or not what the processor or the firmware wrote
 * there.
 */
bool sev_es_enter(CPUX86State *env);

/*
 * The copy of the running guest's VMSA: @offset, in bytes, is one in struct
 * vmcb, in whose second part (from 0x400) it stands.
 */
void *sev_es_save_area(CPUX86State *env, size_t offset);

/*
 * What the save area of a VMCB does not have: from the copy into the processor,
 * when all the rest was found right; and from there into the copy.
 */
void sev_es_load(CPUX86State *env);
void sev_es_save(CPUX86State *env);

/*
 * #VMEXIT: write the copy back, if sev_es_load() was reached, and give the
 * hypervisor the registers back that are VMLOAD's and XRSTOR's for others
 * (appendix B, table B-4).
 */
void sev_es_leave(CPUX86State *env);

/*
 * Whether @exit_code ends in the hypervisor (an automatic exit), and not with
 * #VC in the guest: section 15.35.4
 */
bool sev_es_exit_is_automatic(uint64_t exit_code, uint64_t exit_info_1);
/*
 * Whether the instruction is over at that exit: the hypervisor could not
 * advance RIP
 */
bool sev_es_exit_is_trap(uint64_t exit_code);

#endif
