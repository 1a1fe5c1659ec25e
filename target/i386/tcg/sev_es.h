/*
 * Emulated AMD SEV-ES: the guest's registers are encrypted
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A model for testing software, which protects nothing: see
 * docs/sev-platform.md of the project.
 */

#ifndef I386_TCG_SEV_ES_H
#define I386_TCG_SEV_ES_H

#include "cpu.h"
#include "tcg/sev_memory.h"

/*
 * The save area of a guest with SEV-ES (VMSA) is a page of its own, encrypted
 * with the guest's key.  VMRUN loads it into a copy that only the processor
 * has, and #VMEXIT writes that back.  The content last written by the firmware
 * or the processor is kept as well: if the page has been changed by anything
 * else, VMRUN fails (section references are to the AMD64 Architecture
 * Programmer's Manual volume 2; 15.35.2).
 */

/*
 * The firmware has encrypted @content, a page, at physical address @addr with
 * @key as a VMSA.  To be called while no processor runs.
 */
void sev_es_vmsa_new(hwaddr addr, SevKeyId key, const uint8_t *content);
/* Forget all VMSAs with @key.  To be called while no processor runs. */
void sev_es_vmsa_forget(SevKeyId key);

/*
 * VMRUN: load the VMSA that the VMCB at env->vm_vmcb points to, with
 * env->sev_key.  Returns false if it is not a VMSA, or not what the processor
 * or the firmware last wrote there.
 */
bool sev_es_enter(CPUX86State *env);

/*
 * The copy of the running guest's VMSA at @offset, which is in bytes from the
 * start of struct vmcb, whose second part (from 0x400) is the save area.
 */
void *sev_es_save_area(CPUX86State *env, size_t offset);

/*
 * The state that the save area of a VMCB does not have: load it from the copy
 * into the processor, once everything else has been checked; and save it to the
 * copy.
 */
void sev_es_load(CPUX86State *env);
void sev_es_save(CPUX86State *env);

/*
 * #VMEXIT: write the copy back, if sev_es_load() was reached, and restore those
 * registers of the hypervisor that it has to restore itself, by VMLOAD and
 * XRSTOR, for other guests (appendix B, table B-4).
 */
void sev_es_leave(CPUX86State *env);

/*
 * Whether @exit_code exits to the hypervisor (an automatic exit), rather than
 * raising #VC in the guest: section 15.35.4
 */
bool sev_es_exit_is_automatic(uint64_t exit_code, uint64_t exit_info_1);
/*
 * Whether that exit comes after the instruction has completed, because the
 * hypervisor could not advance RIP
 */
bool sev_es_exit_is_trap(uint64_t exit_code);

#endif
