/*
 * Hand-over: where threads run
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_THREADS_H
#define MIGRATION_HAND_OVER_THREADS_H

#include "qapi/qapi-types-hand-over.h"

/*
 * Source, BQL held: on which of the host's CPUs, and how, the main thread,
 * vCPUs and I/O threads run.  To be freed with
 * qapi_free_HandOverThreadList().
 */
HandOverThreadList *hand_over_threads(void);

/*
 * Destination, all of its threads started: have them run likewise.  What the
 * kernel refuses is reported, not fatal.
 */
void hand_over_threads_apply(const HandOverThreadList *threads);

#endif
