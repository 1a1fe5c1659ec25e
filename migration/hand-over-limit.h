/*
 * Hand-over: limit the guest's downtime
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_LIMIT_H
#define MIGRATION_HAND_OVER_LIMIT_H

#include "io/channel.h"

typedef struct HandOverLimit HandOverLimit;

/* Takes a reference to @ioc.  Nothing is limited yet. */
HandOverLimit *hand_over_limit_new(QIOChannel *ioc);

/*
 * Arm the limit: once @ms milliseconds have passed, the channel is shut down,
 * so that no thread stays blocked in reading from or writing to it.
 */
void hand_over_limit_arm(HandOverLimit *limit, uint32_t ms);

/* The channel is not written to any more: shut down only reading from now on */
void hand_over_limit_reading(HandOverLimit *limit);

/* Disarm the limit.  True: it was too late, the channel is shut down. */
bool hand_over_limit_disarm(HandOverLimit *limit);

/* @limit may be NULL */
void hand_over_limit_free(HandOverLimit *limit);

#endif
