/*
 * Hand-over: thread placement
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_THREADS_H
#define MIGRATION_HAND_OVER_THREADS_H

#include "qapi/qapi-types-hand-over.h"

/*
 * Source, BQL held: CPU affinity and scheduling of the main thread, vCPUs and
 * I/O threads.  To be freed with qapi_free_HandOverThreadList().
 */
HandOverThreadList *hand_over_threads(void);

/*
 * Destination, all of its threads started: apply the same to them.  If the
 * kernel refuses something, that is reported, but not fatal.
 */
void hand_over_threads_apply(const HandOverThreadList *threads);

#endif
