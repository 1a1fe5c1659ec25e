/*
 * Hand-over: interface between the migration code and the two halves
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_INTERNAL_H
#define MIGRATION_HAND_OVER_INTERNAL_H

#include "io/channel-socket.h"
#include "migration/hand-over.h"
#include "qapi/qapi-types-hand-over.h"
#include "qapi/qapi-types-migration.h"

typedef struct MigrationState MigrationState;
typedef struct Monitor Monitor;
typedef struct HandOverChild HandOverChild;

/* A large guest's QEMU is slow to start; the guest runs meanwhile */
#define HAND_OVER_TIMEOUT_MS 120000

/* How long the guest may be stopped until the destination is told to take it */
#define HAND_OVER_DOWNTIME_MS 2000

/*
 * Main thread: begin a hand-over to the QEMU at the other end of @sioc.
 *
 * @child: that QEMU, if this process has started it; ownership passes if
 *         true is returned
 * @own_argv: it was started with this process's own command line
 * @timeout_ms: for each step that waits for it while the guest runs, in ms
 * @downtime_ms: how long the guest may be stopped before "commit", in ms
 * @start_ns: when the command was issued (QEMU_CLOCK_REALTIME)
 */
bool hand_over_begin(HandOverChild *child, QIOChannelSocket *sioc,
                     HandOverOnSuccess on_success, uint32_t timeout_ms,
                     uint32_t downtime_ms, bool own_argv, int64_t start_ns,
                     Error **errp);

/*
 * Source: a migration that begins as an ordinary one.
 */

/*
 * Main thread: is a hand-over the only way for the guest to leave this
 * process?  True with @errp set to the reason.
 */
bool hand_over_is_only_way(Error **errp);

/* Main thread: is even a hand-over impossible?  True with @errp set. */
bool hand_over_is_impossible(Error **errp);

/* Main thread: false with @errp set if the guest can't leave to @addr */
bool hand_over_source_may_take(const MigrationAddress *addr, Error **errp);

/*
 * Main thread, s->to_dst_file open, nothing sent: decide whether the migration
 * is to become a hand-over.  False with @errp set if it must but can't.
 */
bool hand_over_source_set_policy(MigrationState *s, Error **errp);

/*
 * Whether the destination has to be asked: until hand_over_source_switch(),
 * the migration's mode is not known, and its setup notifiers are not called
 */
bool hand_over_source_may_switch(void);

/*
 * Migration thread, BQL not held, guest running; the destination was asked
 * (migration_probe_ping()).  If the migration is to become a hand-over, and the
 * destination supports that, do what hand_over_source_offer() does: the stream
 * then starts over, and migrate_mode() has changed.  False with @errp set on
 * failure.
 */
bool hand_over_source_switch(MigrationState *s, Error **errp);

/* BQL held: the migration is a hand-over from here on */
void hand_over_source_begin_switched(void);

/*
 * Source.  All of these are no-ops, and return true, if the migration is not a
 * hand-over.  The migration thread calls them in this order.
 */

/*
 * Guest running, BQL not held: meet the destination, offer it the guest's
 * RAM.  True: it has adopted all of it, and reads a migration stream next.
 */
bool hand_over_source_offer(MigrationState *s, Error **errp);

/* BQL held: the guest is about to be stopped */
void hand_over_source_stopping(MigrationState *s);

/*
 * Main thread: a migration was requested.  If it may become a hand-over,
 * nothing that the destination's command line describes may change from now
 * on.
 */
void hand_over_source_prepare(void);

/* BQL held: the guest has stopped, and its disks are released */
bool hand_over_source_stopped(MigrationState *s, Error **errp);

/*
 * True: the guest was lost in an earlier hand-over.  Its device state must not
 * be saved again; hand_over_source_replay() sends what was saved then.
 */
bool hand_over_source_replays(void);
int hand_over_source_replay(MigrationState *s);

/*
 * BQL not held: the migration stream is complete.  True: the destination has
 * the guest.  False: it does not, or that is not known; in the latter case
 * hand_over_guest_is_gone() is true.
 */
bool hand_over_source_commit(MigrationState *s, Error **errp);

/*
 * BQL not held: the stream could not be written.  True: @errp is set to the
 * reason why the destination stopped reading.
 */
bool hand_over_source_refused(MigrationState *s, Error **errp);

/*
 * BQL not held, the migration has completed or failed.  If it failed, the
 * destination is gone when this returns.
 */
void hand_over_source_finish(MigrationState *s);

/* BQL held, guest not running yet: take back what was released */
void hand_over_source_restore(MigrationState *s);

/* Main thread: the last one to be called */
void hand_over_source_cleanup(MigrationState *s);

/* BQL held: false with @errp set if it is too late to cancel */
bool hand_over_source_can_cancel(Error **errp);

/*
 * BQL and s->qemu_file_lock held, s->to_dst_file open: make the migration
 * thread give up.
 */
void hand_over_source_cancel(MigrationState *s);

/*
 * Main thread, this process is about to exit: if a hand-over has been
 * cancelled, wait until the destination has been notified.  Otherwise the
 * destination would take the exit of this process for a crash, and run the
 * guest.
 */
void hand_over_source_wait_cancelled(void);

/* Main thread: is there a blocker?  Like migration_is_blocked() */
bool hand_over_is_blocked(Error **errp);

/* Print @info in human-readable form */
void hand_over_info_print(Monitor *mon, const HandOverInfo *info);

/*
 * For query-migrate, to be freed with qapi_free_HandOverInfo().  NULL if there
 * has not been a hand-over.
 */
HandOverInfo *hand_over_info(void);

/*
 * Destination.
 */

/*
 * Main thread: a connection was made.  True: it is handled here; if it turns
 * out not to be a hand-over, it is passed to
 * migration_channel_process_incoming() again.
 */
bool hand_over_incoming_connection(QIOChannel *ioc);

/* Is a hand-over coming in? */
bool hand_over_incoming_active(void);

/*
 * Coroutine: the source has requested, in its migration stream @f, to continue
 * with a hand-over.  True: the RAM is adopted, and a new stream follows.
 */
bool coroutine_fn hand_over_incoming_switch(QEMUFile *f, Error **errp);

/*
 * A section of the guest's state arrives.  False with @errp set if this has to
 * be a hand-over, and is not.
 */
bool hand_over_incoming_section(Error **errp);

/*
 * Coroutine: all device state is loaded.  True: this process is to take the
 * guest, because the source has asked it to or has died.
 */
bool coroutine_fn hand_over_incoming_loaded(Error **errp);

/*
 * Main thread, no coroutine: take disks, sockets and the encryption context,
 * and acknowledge.  True: the guest is ours.
 */
bool hand_over_incoming_take(Error **errp);

/*
 * The hand-over failed: send @err to the source in full, and let go of all
 * parts of the guest.
 */
void hand_over_incoming_failed(const Error *err);

/*
 * Both.
 */

/*
 * Migration thread, BQL not held: call @func in the main loop, and wait until it
 * has returned.  False with @errp set if @func has set an error.
 */
bool hand_over_run_in_main_loop(void (*func)(void *opaque, Error **errp),
                                void *opaque, Error **errp);

/* In migration.c: begin an outgoing migration on a connected channel */
bool migration_start_on_channel(MigrationState *s, QIOChannel *ioc,
                                Error **errp);

/*
 * In migration.c, migration thread: wait until the destination has closed the
 * return path.  The channel stays open.  False: it was not closed cleanly.
 */
bool migration_end_return_path(MigrationState *s);

/*
 * In migration.c: the reasons why a migration of this mode is refused now; to
 * be freed with qapi_free_strList().
 */
strList *migration_blocked_reasons(MigMode mode);

#endif
