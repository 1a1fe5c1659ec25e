/*
 * Hand-over: how far it has come, and how long it took
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "hand-over-figures.h"
#include "hand-over-internal.h"
#include "trace.h"

/* entered[] in ns of QEMU_CLOCK_REALTIME, 0 for a stage not reached */
static struct {
    QemuMutex lock;
    bool valid;
    HandOverStage stage;
    int64_t entered[HAND_OVER_STAGE__MAX];
    int64_t peer_pid;
    uint64_t device_state_bytes;
} figures;

static void __attribute__((constructor)) figures_init(void)
{
    qemu_mutex_init(&figures.lock);
}

void hand_over_enter_stage_at(HandOverStage stage, int64_t now_ns)
{
    QEMU_LOCK_GUARD(&figures.lock);
    if (stage == HAND_OVER_STAGE_CONNECT) {
        memset(figures.entered, 0, sizeof(figures.entered));
        figures.peer_pid = 0;
        figures.device_state_bytes = 0;
        figures.valid = true;
    }
    figures.stage = stage;
    figures.entered[stage] = now_ns;
    trace_hand_over_stage(HandOverStage_str(stage));
}

void hand_over_enter_stage(HandOverStage stage)
{
    hand_over_enter_stage_at(stage, qemu_clock_get_ns(QEMU_CLOCK_REALTIME));
}

HandOverStage hand_over_stage(void)
{
    QEMU_LOCK_GUARD(&figures.lock);
    return figures.stage;
}

void hand_over_figures_peer(int64_t pid)
{
    QEMU_LOCK_GUARD(&figures.lock);
    figures.peer_pid = pid;
}

void hand_over_figures_device_state(uint64_t bytes)
{
    QEMU_LOCK_GUARD(&figures.lock);
    figures.device_state_bytes = bytes;
}

/* Microseconds from @from to @to; true if both have been reached */
static bool stage_us(HandOverStage from, HandOverStage to, uint64_t *us)
{
    if (!figures.entered[from] || !figures.entered[to]) {
        return false;
    }
    *us = (figures.entered[to] - figures.entered[from]) / SCALE_US;
    return true;
}

HandOverInfo *hand_over_info(void)
{
    HandOverInfo *info;

    QEMU_LOCK_GUARD(&figures.lock);
    if (!figures.valid) {
        return NULL;
    }
    info = g_new0(HandOverInfo, 1);
    info->stage = figures.stage;
    info->has_peer_pid = figures.peer_pid != 0;
    info->peer_pid = figures.peer_pid;
    info->has_connect_us = stage_us(HAND_OVER_STAGE_CONNECT,
                                    HAND_OVER_STAGE_OFFER, &info->connect_us);
    info->has_offer_us = stage_us(HAND_OVER_STAGE_OFFER,
                                  HAND_OVER_STAGE_READY, &info->offer_us);
    info->has_stop_us = stage_us(HAND_OVER_STAGE_STOP,
                                 HAND_OVER_STAGE_SAVE, &info->stop_us);
    info->has_save_us = stage_us(HAND_OVER_STAGE_SAVE,
                                 HAND_OVER_STAGE_LOAD, &info->save_us);
    info->has_load_us = stage_us(HAND_OVER_STAGE_LOAD,
                                 HAND_OVER_STAGE_COMMIT, &info->load_us);
    info->has_commit_us = stage_us(HAND_OVER_STAGE_COMMIT,
                                   HAND_OVER_STAGE_DONE, &info->commit_us);
    info->has_blackout_us = stage_us(HAND_OVER_STAGE_STOP,
                                     HAND_OVER_STAGE_DONE, &info->blackout_us);
    info->has_total_us = stage_us(HAND_OVER_STAGE_CONNECT,
                                  HAND_OVER_STAGE_DONE, &info->total_us);
    info->has_device_state_bytes = figures.device_state_bytes != 0;
    info->device_state_bytes = figures.device_state_bytes;
    return info;
}
