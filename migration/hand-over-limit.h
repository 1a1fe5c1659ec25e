/*
 * Hand-over: how long the guest may stand still
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_LIMIT_H
#define MIGRATION_HAND_OVER_LIMIT_H

#include "io/channel.h"

typedef struct HandOverLimit HandOverLimit;

/* For @ioc, which is referenced.  Nothing is limited yet. */
HandOverLimit *hand_over_limit_new(QIOChannel *ioc);

/*
 * From now on: when @ms milliseconds have passed the channel is shut down, so
 * that nobody waits for it any more, neither to write nor to read.
 */
void hand_over_limit_arm(HandOverLimit *limit, uint32_t ms);

/* From now on it is not written to: what is shut down is reading alone */
void hand_over_limit_reading(HandOverLimit *limit);

/* No more from now on.  True: it was too late, the channel is shut down. */
bool hand_over_limit_disarm(HandOverLimit *limit);

/* May be NULL */
void hand_over_limit_free(HandOverLimit *limit);

#endif
