/*
 * Hand-over tests: a source and a destination
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HAND_OVER_PAIR_H
#define HAND_OVER_PAIR_H

#include "vm.h"

#define MACHINE "-machine pc,hand-over=on -m 16"

/* Start both; the source's guest runs, the destination waits at "incoming" */
void start_pair(Vm *source, Vm *destination, const char *source_opts,
                const char *destination_opts);
/* Begin to hand the guest over to the socket tmp_path(@to); the source stays */
void hand_over(Vm *source, const char *to);
/* Start another destination, and hand the guest over to it */
void hand_over_to_another(Vm *source, Vm *destination);
/* The guest must run at the destination; then both are killed */
void ends_running(Vm *source, Vm *destination);
/* Start a pair, hand the guest over, and kill both */
void check_machine(const char *source_opts, const char *dest_opts);

#endif
