/*
 * Hand-over of a SEV guest: what the files about it share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TARGET_I386_SEV_HAND_OVER_H
#define TARGET_I386_SEV_HAND_OVER_H

#include "qapi/qapi-builtin-types.h"
#include "cpu.h"

/* SEV-ES: false with @errp set if the kernel can't move the vCPUs */
bool sev_hand_over_check_vcpus(Error **errp);

/*
 * kvm_vcpu_id of each vCPU, in the order of creation; to be freed with
 * qapi_free_uint64List()
 */
uint64List *sev_hand_over_vcpus(void);

/* Source, guest stopped: get what the kernel knows of SEV-ES vCPUs */
bool sev_hand_over_get_vcpus(Error **errp);

/* Destination, SEV-ES, before the move: the last time registers are written */
bool sev_hand_over_prepare_vcpus(Error **errp);

/* Destination, after the move: what is possible only then */
void sev_hand_over_refresh_vcpus(void);

/* False with @errp set if the kernel does not accept @value */
bool sev_hand_over_put_msr(CPUState *cs, uint32_t index, uint64_t value,
                           Error **errp);

/* Destination, before the move: false with @errp set if AVIC stays on */
bool sev_hand_over_inhibit_avic(Error **errp);

#endif
