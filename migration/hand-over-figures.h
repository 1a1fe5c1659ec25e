/*
 * Hand-over: how far it has come, and how long it took
 *
 * Any thread may call these.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_FIGURES_H
#define MIGRATION_HAND_OVER_FIGURES_H

#include "qapi/qapi-types-hand-over.h"

/*
 * A stage is entered, now or at @now_ns (QEMU_CLOCK_REALTIME).  "connect" is
 * the first one: it resets the figures of the last hand-over.
 */
void hand_over_enter_stage(HandOverStage stage);
void hand_over_enter_stage_at(HandOverStage stage, int64_t now_ns);

/* The stage that was entered last */
HandOverStage hand_over_stage(void);

/* The destination's process ID is known */
void hand_over_figures_peer(int64_t pid);

/* The device state is complete */
void hand_over_figures_device_state(uint64_t bytes);

#endif
