/*
 * Hand-over: the source's half
 *
 * The command starts or connects to the destination and begins a migration
 * of mode hand-over on the socket to it.  Everything else is called by the
 * migration thread, see hand-over-internal.h: it meets the destination and
 * offers the RAM while the guest runs, and it ends the exchange when the
 * device state is over.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/hand-over-resource.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "exec/target_page.h"
#include "hw/boards.h"
#include "hw/core/cpu.h"
#include "io/channel-socket.h"
#include "qemu/accel.h"
#include "system/runstate.h"
#include "system/runstate-action.h"
#include "hand-over-internal.h"
#include "hand-over-changes.h"
#include "hand-over-check.h"
#include "hand-over-exec.h"
#include "hand-over-limit.h"
#include "hand-over-peer.h"
#include "hand-over-ram.h"
#include "hand-over-requests.h"
#include "hand-over-sections.h"
#include "hand-over-threads.h"
#include "hand-over-wire.h"
#include "migration.h"
#include "options.h"
#include "qemu-file.h"
#include "trace.h"

/*
 * How long the main loop may be kept waiting for "done", in ns.  It takes some
 * milliseconds.
 */
#define HOLD_TIMEOUT_NS NANOSECONDS_PER_SECOND

/* How long a peer that closed its socket may take to die, in ns */
#define DEATH_TIMEOUT_NS (10 * NANOSECONDS_PER_SECOND)

/*
 * What was asked for, and how far it has come.
 *
 * The main thread fills in the request before the migration thread starts,
 * and cleans up after it has ended.  In between the migration thread owns
 * all of it, but for what says otherwise.
 */
typedef struct HandOverSource {
    HandOverOnSuccess on_success;
    int64_t timeout_ns;
    uint32_t downtime_ms;
    bool own_argv;
    HandOverChild *child;       /* NULL: it was not started by us */

    HandOverWire *wire;
    HandOverPeer peer;
    uint32_t *claimed;
    size_t n_claimed;
    HandOverLimit *limit;
    bool streamed;              /* the peer may have all of the device state */
    bool silent;                /* the peer's end is closed */
    int peer_vm;                /* the peer's virtual machine, -1: none */
    HandOverWire *unused;       /* where it says that it uses the guest */

    /* Protected by the BQL */
    bool committed;
    bool released;
} HandOverSource;

static HandOverSource *source;

static bool handed_over;

/* It is not known whether it was: the destination's answer was none */
static bool undecided;

/*
 * The destination that the guest was handed over to, and that has not used it
 * yet.  All of it belongs to the main thread.
 */
static struct {
    HandOverWire *wire;         /* NULL: there is none */
    GSource *watch;
    HandOverPeer peer;
    int vm;                     /* its virtual machine, -1: none */
    bool released;              /* it has our sockets, and the like */
} unused = { .peer.pidfd = -1, .vm = -1 };

/*
 * A guest that is lost: a destination that was told to take it has moved it
 * to its virtual machine, and died.  What another destination needs to take
 * it from there is kept.  Owned as HandOverSource is, and outlives it.
 */
static struct {
    bool lost;
    GArray *vms;                /* descriptors, the latest last */
    GByteArray *stream;         /* the device state */
} kept;

/* Figures; entered[] in ns of QEMU_CLOCK_REALTIME, 0 for a stage not reached */
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

bool hand_over_guest_is_elsewhere(void)
{
    return qatomic_read(&handed_over);
}

bool hand_over_guest_is_gone(Error **errp)
{
    if (hand_over_guest_is_elsewhere()) {
        error_setg(errp, undecided ?
                   "The guest may be at another QEMU, whose answer was not "
                   "understood: it does not run here as long as that may be" :
                   "The guest was handed over to another QEMU");
        return true;
    }
    if (qatomic_read(&kept.lost)) {
        error_setg(errp, "The guest was moved to a QEMU that has died: it "
                   "goes on after another hand-over");
        return true;
    }
    return false;
}

/* The device state that is being sent, and where the guest went with it */
static void keep_begin(QEMUFile *f)
{
    kept.stream = g_byte_array_new();
    qemu_file_set_copy(f, kept.stream);
}

/* Takes ownership of @vm */
static void keep_lost(int vm)
{
    if (!kept.lost) {
        kept.vms = hand_over_fds_new();
        qatomic_set(&kept.lost, true);
    }
    g_array_append_val(kept.vms, vm);
}

static void keep_end(void)
{
    g_clear_pointer(&kept.stream, g_byte_array_unref);
    g_clear_pointer(&kept.vms, g_array_unref);
    qatomic_set(&kept.lost, false);
}

bool hand_over_source_replays(void)
{
    return migrate_mode() == MIG_MODE_HAND_OVER && kept.lost;
}

int hand_over_source_replay(MigrationState *s)
{
    qemu_put_buffer(s->to_dst_file, kept.stream->data, kept.stream->len);
    return qemu_fflush(s->to_dst_file);
}

static void enter_stage_at(HandOverStage stage, int64_t now_ns)
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

static void enter_stage(HandOverStage stage)
{
    enter_stage_at(stage, qemu_clock_get_ns(QEMU_CLOCK_REALTIME));
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

static int64_t source_deadline(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + source->timeout_ns;
}

/*
 * What is in the way
 */

/* Capabilities which make no sense for, or would disturb, a hand-over */
static const MigrationCapability conflicting[] = {
    MIGRATION_CAPABILITY_BACKGROUND_SNAPSHOT,
    MIGRATION_CAPABILITY_MAPPED_RAM,
    MIGRATION_CAPABILITY_MULTIFD,
    MIGRATION_CAPABILITY_POSTCOPY_RAM,
    MIGRATION_CAPABILITY_X_COLO,
};

/* and those which one that begins as a migration is done with by then */
static const MigrationCapability conflicting_at_once[] = {
    MIGRATION_CAPABILITY_RETURN_PATH,
    MIGRATION_CAPABILITY_SWITCHOVER_ACK,
};

static const HandOverArch *arch;

void hand_over_arch_register(const HandOverArch *ops)
{
    assert(!arch);
    arch = ops;
}

const HandOverArch *hand_over_arch(void)
{
    return arch;
}

static void check_capabilities(HandOverBlockerList ***tail,
                               const MigrationCapability *caps, size_t n)
{
    MigrationState *s = migrate_get_current();

    for (size_t i = 0; i < n; i++) {
        if (s->capabilities[caps[i]]) {
            hand_over_block(tail, NULL, "migration capability '%s' is enabled",
                            MigrationCapability_str(caps[i]));
        }
    }
}

void hand_over_check_switch(HandOverBlockerList ***tail)
{
    MigrationState *s = migrate_get_current();
    Error *err = NULL;
    strList *reasons, *r;

    reasons = migration_blocked_reasons(MIG_MODE_HAND_OVER);
    for (r = reasons; r; r = r->next) {
        hand_over_block(tail, NULL, "%s", r->value);
    }
    qapi_free_strList(reasons);

    check_capabilities(tail, conflicting, ARRAY_SIZE(conflicting));
    if (s->parameters.tls_creds && *s->parameters.tls_creds) {
        hand_over_block(tail, NULL, "migration parameter 'tls-creds' is set");
    }

    hand_over_ram_check(tail);

    /* of one that is lost all of this is known */
    if (!kept.lost && arch && arch->check && !arch->check(&err)) {
        hand_over_block(tail, NULL, "%s", error_get_pretty(err));
        error_free(err);
    }
}

bool hand_over_is_only_way(Error **errp)
{
    return arch && arch->other && !arch->other(errp);
}

bool hand_over_is_impossible(Error **errp)
{
    return hand_over_is_only_way(NULL) && !hand_over_guest_is_gone(NULL) &&
           arch->check && !arch->check(errp);
}

void hand_over_check_guest(HandOverBlockerList ***tail)
{
    MigrationState *s = migrate_get_current();

    hand_over_look_back();
    if (qatomic_read(&handed_over)) {
        hand_over_block(tail, NULL, "the guest has been handed over");
        return;
    }
    if (migration_is_running()) {
        hand_over_block(tail, NULL, "a migration is in progress");
    } else if (s->migration_thread_running) {
        /* It has failed, but its thread has not been joined yet */
        hand_over_block(tail, NULL,
                        "the last migration is still being cleaned up");
    }
    if (runstate_check(RUN_STATE_INMIGRATE)) {
        hand_over_block(tail, NULL,
                        "the guest waits for an incoming migration");
    } else if (runstate_check(RUN_STATE_POSTMIGRATE)) {
        hand_over_block(tail, NULL, "the guest has been migrated");
    }

    check_capabilities(tail, conflicting_at_once,
                       ARRAY_SIZE(conflicting_at_once));
    hand_over_check_switch(tail);
}

bool hand_over_blockers_to_error(const HandOverBlockerList *list, Error **errp)
{
    const HandOverBlockerList *l;
    size_t more = 0;

    if (!list) {
        return false;
    }
    error_setg(errp, "%s", list->value->reason);
    for (l = list->next; l; l = l->next) {
        more++;
    }
    if (list->value->option) {
        error_append_hint(errp, "See option %s.\n", list->value->option);
    }
    if (more) {
        error_prepend(errp, "(one of %zu reasons, check-only tells all) ",
                      more + 1);
    }
    return true;
}

bool hand_over_is_blocked(Error **errp)
{
    g_autoptr(HandOverBlockerList) list = NULL;
    HandOverBlockerList **tail = &list;

    hand_over_check_guest(&tail);
    return hand_over_blockers_to_error(list, errp);
}

/*
 * Begin and end
 */

static HandOverSource *source_new(void)
{
    HandOverSource *src = g_new0(HandOverSource, 1);

    src->on_success = HAND_OVER_ON_SUCCESS_STAY;
    src->timeout_ns = HAND_OVER_TIMEOUT_MS * (int64_t)SCALE_MS;
    src->downtime_ms = MAX(HAND_OVER_DOWNTIME_MS, migrate_downtime_limit());
    src->peer = HAND_OVER_PEER_INIT;
    src->peer_vm = -1;
    return src;
}

static void source_free(HandOverSource *src)
{
    if (src) {
        hand_over_child_free(src->child);
        hand_over_wire_free(src->wire);
        hand_over_wire_free(src->unused);
        hand_over_peer_clear(&src->peer);
        if (src->peer_vm >= 0) {
            close(src->peer_vm);
        }
        g_free(src->claimed);
        hand_over_limit_free(src->limit);
        g_free(src);
    }
}

void hand_over_source_prepare(void)
{
    if (migrate_mode() == MIG_MODE_HAND_OVER || migrate_hand_over() ||
        hand_over_is_only_way(NULL)) {
        hand_over_changes_begin();
    }
}

bool hand_over_begin(HandOverChild *child, QIOChannelSocket *sioc,
                     HandOverOnSuccess on_success, uint32_t timeout_ms,
                     uint32_t downtime_ms, bool own_argv, int64_t start_ns,
                     Error **errp)
{
    MigrationState *s = migrate_get_current();

    source_free(source);
    source = source_new();
    source->on_success = on_success;
    source->timeout_ns = timeout_ms * (int64_t)SCALE_MS;
    source->downtime_ms = downtime_ms;
    source->own_argv = own_argv;
    source->child = child;
    enter_stage_at(HAND_OVER_STAGE_CONNECT, start_ns);

    qio_channel_set_name(QIO_CHANNEL(sioc), "hand-over");
    migrate_mode_fix(MIG_MODE_HAND_OVER);
    if (!migration_start_on_channel(s, QIO_CHANNEL(sioc), errp)) {
        migrate_mode_unfix();
        source->child = NULL;
        source_free(source);
        source = NULL;
        return false;
    }
    return true;
}

void hand_over_source_begin_switched(MigrationState *s)
{
    /* who was told that a migration begins hears no more of it */
    migration_call_notifiers(s, MIG_EVENT_PRECOPY_FAILED, NULL);
    source = source_new();
    migrate_mode_fix(MIG_MODE_HAND_OVER);
    enter_stage(HAND_OVER_STAGE_CONNECT);
}

/*
 * The exchange
 */

/* To a child that is just starting: what it inherits */
static bool source_send_inheritance(Error **errp)
{
    HandOverMessage msg = { .type = HAND_OVER_MESSAGE_TYPE_INHERIT };
    GArray *listeners;
    bool ok;

    bql_lock();
    listeners = hand_over_listeners_collect();
    bql_unlock();
    msg.u.inherit.listeners = listeners->len;
    ok = hand_over_send(source->wire, &msg, STDERR_FILENO, errp);

    for (guint i = 0; ok && i < listeners->len; i++) {
        HandOverListening *l = &g_array_index(listeners, HandOverListening, i);

        msg.type = HAND_OVER_MESSAGE_TYPE_LISTENER;
        msg.u.listener = (HandOverListener) {
            .fd = l->number,
            .nonblock = fcntl(l->fd, F_GETFL) & O_NONBLOCK,
        };
        ok = hand_over_send(source->wire, &msg, l->fd, errp);
    }
    g_array_unref(listeners);
    return ok;
}

/*
 * Something could not be sent: a destination that refuses stops reading, and its
 * words are more telling
 */
static void source_prefer_refusal(Error **errp)
{
    Error *refusal = NULL;

    hand_over_recv(source->wire, HAND_OVER_MESSAGE_TYPE_ADOPTED,
                   source_deadline(), NULL, &source->silent, &refusal);
    if (refusal) {
        error_free(*errp);
        *errp = refusal;
    }
}

static bool source_hello(Error **errp)
{
    ERRP_GUARD();
    g_autoptr(HandOverMessage) msg = NULL;
    int64_t deadline = source_deadline();
    uint32List *claimed;

    if ((source->child && !source_send_inheritance(errp)) ||
        !hand_over_peer_send_hello(source->wire, NULL, errp)) {
        source->silent = true;
        source_prefer_refusal(errp);
        return false;
    }
    if (source->child) {
        hand_over_child_wait(source->child, source->child->ioc->fd, deadline);
    }
    msg = hand_over_peer_recv_hello(source->wire, &source->peer, deadline,
                                    &source->silent, errp);
    if (!msg) {
        return false;
    }
    if (source->child) {
        /* From here on its standard error is ours */
        hand_over_child_close_err(source->child);
    }
    WITH_QEMU_LOCK_GUARD(&figures.lock) {
        figures.peer_pid = source->peer.pid;
    }

    for (claimed = msg->u.hello.claimed; claimed; claimed = claimed->next) {
        source->claimed = g_renew(uint32_t, source->claimed,
                                  source->n_claimed + 1);
        source->claimed[source->n_claimed++] = claimed->value;
    }
    return true;
}

/* The descriptors of virtual machines that may have the guest, or NULL */
static GArray *source_vms(void)
{
    GArray *vms = NULL;
    int fd;

    if (kept.lost) {
        return g_array_ref(kept.vms);
    }
    fd = arch && arch->vm ? arch->vm() : -1;
    if (fd >= 0) {
        vms = g_array_new(false, false, sizeof(int));
        g_array_append_val(vms, fd);
    }
    return vms;
}

/* @vms: descriptors that are to follow the RAM blocks, or NULL */
static bool source_send_offer(const GArray *vms, Error **errp)
{
    MachineClass *mc = MACHINE_GET_CLASS(current_machine);
    HandOverMessage msg = {
        .type = HAND_OVER_MESSAGE_TYPE_OFFER,
        .u.offer = {
            .machine = (char *)mc->name,
            .target = (char *)target_name(),
            .accel = (char *)current_accel_name(),
            .page_size = qemu_target_page_size(),
        },
    };
    HandOverOffer *offer = &msg.u.offer;
    CPUState *cpu;
    bool ok;

    bql_lock();
    CPU_FOREACH(cpu) {
        offer->cpus++;
    }
    offer->ram_blocks = hand_over_ram_count();
    offer->sections = hand_over_sections();
    if (source->own_argv) {
        offer->drives = hand_over_drives();
        offer->has_drives = true;
    }
    if (arch && arch->offer) {
        offer->arch = arch->offer();
    }
    if (vms) {
        offer->has_vms = true;
        offer->vms = vms->len;
    }
    if (source->child && source->wire->version >= 3) {
        /* who has started another QEMU has placed it, too */
        offer->threads = hand_over_threads();
        offer->has_threads = true;
    }
    bql_unlock();

    ok = hand_over_send(source->wire, &msg, -1, errp);
    qapi_free_HandOverSectionList(offer->sections);
    qapi_free_HandOverDriveList(offer->drives);
    qapi_free_HandOverThreadList(offer->threads);
    qobject_unref(offer->arch);
    return ok;
}

static bool source_send_vms(const GArray *vms, Error **errp)
{
    HandOverMessage msg = { .type = HAND_OVER_MESSAGE_TYPE_VM };

    for (guint i = 0; vms && i < vms->len; i++) {
        if (!hand_over_send(source->wire, &msg, g_array_index(vms, int, i),
                            errp)) {
            return false;
        }
    }
    return true;
}

/* The destination's own words, if it is a child that said some */
static void source_prepend_child_words(Error **errp)
{
    HandOverChild *child = source->child;
    g_autofree char *words = NULL;

    if (!child) {
        return;
    }
    /* its socket is closed: it is ending, and its words end with it */
    if (child->err_fd >= 0) {
        hand_over_child_wait(child, -1,
                             qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                             DEATH_TIMEOUT_NS);
    }
    words = g_strdelimit(g_strstrip(g_strdup(child->tail->str)), "\n", ';');
    if (*words) {
        error_prepend(errp, "the new QEMU did not start: %s: ", words);
    }
}

bool hand_over_source_offer(MigrationState *s, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(HandOverMessage) vm = NULL, adopted = NULL;
    QIOChannel *ioc = qemu_file_get_ioc(s->to_dst_file);
    g_autoptr(GArray) vms = NULL;

    if (migrate_mode() != MIG_MODE_HAND_OVER) {
        return true;
    }
    if (!source) {
        /* by the command migrate, mode set by its user */
        source = source_new();
        enter_stage(HAND_OVER_STAGE_CONNECT);
    }

    if (!hand_over_peer_check(ioc, errp)) {
        return false;
    }
    source->wire = hand_over_wire_new(ioc, "destination");
    if (!source_hello(errp)) {
        if (source->silent && s->state != MIGRATION_STATUS_CANCELLING) {
            source_prepend_child_words(errp);
        }
        return false;
    }

    enter_stage(HAND_OVER_STAGE_OFFER);
    vms = source_vms();
    if (!source_send_offer(vms, errp) ||
        !hand_over_ram_send(source->wire, errp) ||
        !source_send_vms(vms, errp)) {
        source_prefer_refusal(errp);
        return false;
    }
    if (vms) {
        vm = hand_over_recv(source->wire, HAND_OVER_MESSAGE_TYPE_VM,
                            source_deadline(), &source->peer_vm,
                            &source->silent, errp);
        if (!vm) {
            return false;
        }
    }
    adopted = hand_over_recv(source->wire, HAND_OVER_MESSAGE_TYPE_ADOPTED,
                             source_deadline(), NULL, &source->silent, errp);
    if (!adopted) {
        return false;
    }
    if (vms && !kept.lost) {
        keep_begin(s->to_dst_file);
    }
    source->limit = hand_over_limit_new(ioc);
    enter_stage(HAND_OVER_STAGE_READY);
    return true;
}

void hand_over_source_stopping(MigrationState *s)
{
    if (migrate_mode() == MIG_MODE_HAND_OVER) {
        hand_over_requests_hold();
        enter_stage(HAND_OVER_STAGE_STOP);
    }
}

bool hand_over_source_stopped(MigrationState *s, Error **errp)
{
    const HandOverArch *arch = hand_over_arch();

    if (migrate_mode() != MIG_MODE_HAND_OVER) {
        return true;
    }
    hand_over_limit_arm(source->limit, source->downtime_ms);
    hand_over_requests_collect();
    if (!hand_over_changes_none(errp)) {
        return false;
    }
    /* it may have read the end of the stream before anybody here knows */
    source->streamed = true;
    enter_stage(HAND_OVER_STAGE_SAVE);
    return hand_over_source_replays() || !arch || !arch->stopped ||
           arch->stopped(errp);
}

typedef struct PointOfNoReturn {
    MigrationState *s;
    QemuEvent over;
    Error *err;
} PointOfNoReturn;

/*
 * In the main loop: it must not be waiting for what is closed here, or the
 * kernel would keep that open until it has waited enough.
 */
static void point_of_no_return_bh(void *opaque)
{
    PointOfNoReturn *point = opaque;
    bool ok = point->s->state == MIGRATION_STATUS_DEVICE;

    if (!ok) {
        error_setg(&point->err, "the hand-over was cancelled");
    } else if (source->child) {
        ok = hand_over_resources_release(source->claimed, source->n_claimed,
                                         &point->err);
        source->released = ok;
    }
    source->committed = ok;
    qemu_event_set(&point->over);
}

/* From here on only the destination's word, or its death, tells who runs */
static bool source_point_of_no_return(MigrationState *s, Error **errp)
{
    PointOfNoReturn point = { .s = s };

    qemu_event_init(&point.over, false);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), point_of_no_return_bh,
                            &point);
    qemu_event_wait(&point.over);
    qemu_event_destroy(&point.over);
    if (point.err) {
        error_propagate(errp, point.err);
        return false;
    }
    return true;
}

/* The destination has the guest, and may not have used it yet */
static void source_gone(void)
{
    qatomic_set(&handed_over, true);
    if (source->on_success == HAND_OVER_ON_SUCCESS_STAY &&
        source->wire->version >= 2) {
        source->unused = hand_over_wire_dup(source->wire);
    }
    if (!source->unused) {
        keep_end();
        bql_lock();
        hand_over_ram_forget();
        bql_unlock();
    }
}

/*
 * There is no "done": does that tell that the destination has not got the guest?
 * It does if it has refused, or died.  One that has closed its end meant to, if
 * it was not somebody here (yank) who did that; it must not go on, in any case.
 * No QEMU closes its end in the middle of a message unless it dies there.
 */
static bool source_answer_is_no(void)
{
    if (source->wire->refused) {
        return true;
    }
    if (source->silent) {
        return hand_over_peer_wait_death(&source->peer, DEATH_TIMEOUT_NS) ||
               hand_over_peer_end(&source->peer, DEATH_TIMEOUT_NS);
    }
    return source->wire->closed &&
           hand_over_peer_wait_death(&source->peer, DEATH_TIMEOUT_NS);
}

/*
 * Nothing limits how long the guest stands still from here on.  True, with @errp
 * set to that instead of what it was, where the limit has been reached.
 */
static bool source_was_too_slow(Error **errp)
{
    if (!source->limit || !hand_over_limit_disarm(source->limit)) {
        return false;
    }
    if (errp) {
        error_free(*errp);
        *errp = NULL;
    }
    error_setg(errp, "the destination did not load the device state within %u "
               "ms, the longest that the guest may stand still "
               "(downtime-limit)", source->downtime_ms);
    return true;
}

/*
 * The destination may say "done", and run the guest, at any moment once it has
 * been told to.  From then on nothing here may write to RAM.  All that could
 * does so in the main loop: vCPUs have stopped, block devices are drained.  So
 * the main loop waits for the answer, and goes on without RAM; also where there
 * is none soon, as it must not wait for ever.
 *
 * True: there may be an answer to be read.
 */
static bool source_send_commit(Error **errp)
{
    GPollFD pfd = {
        .fd = QIO_CHANNEL_SOCKET(source->wire->ioc)->fd,
        .events = G_IO_IN | G_IO_HUP,
    };
    bool ok;

    bql_lock();
    ok = hand_over_send_type(source->wire, HAND_OVER_MESSAGE_TYPE_COMMIT,
                             errp);
    if (ok) {
        qemu_poll_ns(&pfd, 1, HOLD_TIMEOUT_NS);
    }
    hand_over_ram_put_away();
    bql_unlock();
    return ok;
}

bool hand_over_source_commit(MigrationState *s, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(HandOverMessage) loaded = NULL, done = NULL;
    bool committed;

    if (migrate_mode() != MIG_MODE_HAND_OVER) {
        return true;
    }

    if (qemu_file_get_error(s->to_dst_file)) {
        /* the caller looks into that */
        return false;
    }

    WITH_QEMU_LOCK_GUARD(&figures.lock) {
        figures.device_state_bytes = qemu_file_transferred(s->to_dst_file);
    }
    hand_over_limit_reading(source->limit);
    enter_stage(HAND_OVER_STAGE_LOAD);
    /* (it is the limit that ends this) */
    loaded = hand_over_recv(source->wire, HAND_OVER_MESSAGE_TYPE_LOADED, -1,
                            NULL, &source->silent, errp);
    if (source_was_too_slow(errp) || !loaded ||
        !source_point_of_no_return(s, errp)) {
        return false;
    }

    enter_stage(HAND_OVER_STAGE_COMMIT);
    committed = source_send_commit(errp);
    if (committed) {
        /* No deadline: it may have the guest, and not have said so yet */
        done = hand_over_recv(source->wire, HAND_OVER_MESSAGE_TYPE_DONE, -1,
                              NULL, &source->silent, errp);
    }
    if (!done && committed && !source_answer_is_no()) {
        /*
         * What it said, or why that could not be read, does not tell whether it
         * has the guest.
         */
        error_prepend(errp, "it is not known whether the destination has the "
                      "guest, which does not go on here: ");
        source->on_success = HAND_OVER_ON_SUCCESS_STAY;
        undecided = true;
        source_gone();
        return false;
    }
    if (!done) {
        bql_lock();
        hand_over_ram_get_back();
        bql_unlock();
        /*
         * It has refused, or closed its end.  In either case it does not run
         * the guest: it says "done" before it does.  But it may have moved
         * the guest away, which it can't do any more.
         */
        if (source->peer_vm >= 0 && (kept.lost || arch->gone())) {
            keep_lost(source->peer_vm);
            source->peer_vm = -1;
            error_prepend(errp, "the guest is lost, and can go on after "
                          "another hand-over: ");
        }
        return false;
    }
    undecided = false;
    enter_stage(HAND_OVER_STAGE_DONE);
    source_gone();
    return true;
}

bool hand_over_source_refused(MigrationState *s, Error **errp)
{
    g_autoptr(HandOverMessage) msg = NULL;
    Error *err = NULL;

    if (migrate_mode() != MIG_MODE_HAND_OVER || !source || !source->wire ||
        s->state == MIGRATION_STATUS_CANCELLING) {
        return false;
    }
    if (source_was_too_slow(errp)) {
        return true;
    }
    /*
     * There is a "refused" to be read if the destination stopped reading, and
     * none where it has nothing to do with what went wrong
     */
    if (!qemu_file_get_error(s->to_dst_file)) {
        return false;
    }
    msg = hand_over_recv(source->wire, HAND_OVER_MESSAGE_TYPE_REFUSED,
                         qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                         source->downtime_ms * (int64_t)SCALE_MS, NULL,
                         &source->silent, &err);
    if (msg) {
        error_setg(errp, "the destination gave up: %s", msg->u.refused.reason);
    } else if (source->silent) {
        error_propagate(errp, err);
    } else {
        error_free(err);
        return false;
    }
    return true;
}

void hand_over_source_finish(MigrationState *s)
{
    g_autofree char *how = NULL;

    if (migrate_mode() != MIG_MODE_HAND_OVER || !source ||
        qatomic_read(&handed_over)) {
        return;
    }
    if (!kept.lost) {
        /* the guest is here */
        keep_end();
    }
    if (source->wire && !source->committed) {
        g_autofree char *reason = NULL;

        WITH_QEMU_LOCK_GUARD(&s->error_mutex) {
            reason = g_strdup(s->error ? error_get_pretty(s->error)
                                       : "cancelled");
        }
        if (!hand_over_send_abort(source->wire, reason) && source->streamed &&
            !hand_over_peer_end(&source->peer, DEATH_TIMEOUT_NS)) {
            /*
             * It has all that it needs, and would take the end of this process
             * for its death, at any time: it does not know better.
             */
            error_report("process %" PRId64 " could be told neither that the "
                         "guest stays here nor to end: do not let it go on",
                         source->peer.pid);
        }
    }
    if (source->child) {
        /*
         * It does not have the guest, and never will.  The process that was
         * started may have put itself into the background.
         */
        how = hand_over_child_kill(source->child);
        if (source->peer.pidfd >= 0) {
            hand_over_peer_kill(&source->peer);
            hand_over_peer_wait_death(&source->peer, DEATH_TIMEOUT_NS);
        }
    } else if (source->peer.pidfd >= 0 && source->committed) {
        /* It may have had our disks: they are free when it is gone */
        hand_over_peer_wait_death(&source->peer, DEATH_TIMEOUT_NS);
    }
    trace_hand_over_source_failed(HandOverStage_str(figures.stage),
                                  how ? how : "");
}

void hand_over_source_restore(MigrationState *s)
{
    if (migrate_mode() != MIG_MODE_HAND_OVER || !source ||
        qatomic_read(&handed_over)) {
        return;
    }
    source->committed = false;
    if (source->released) {
        hand_over_resources_restore();
        source->released = false;
    }
    if (kept.lost) {
        /* with what it has asked for, which is in the stream that is kept */
        hand_over_requests_drop();
    } else {
        hand_over_requests_here(runstate_is_live(s->vm_old_state));
    }
}

static void unused_clear(void)
{
    g_source_destroy(unused.watch);
    g_clear_pointer(&unused.watch, g_source_unref);
    g_clear_pointer(&unused.wire, hand_over_wire_free);
    hand_over_peer_clear(&unused.peer);
    if (unused.vm >= 0) {
        close(unused.vm);
        unused.vm = -1;
    }
}

/* The destination has said something, or died */
static gboolean unused_settle(QIOChannel *ioc, GIOCondition condition,
                              gpointer opaque)
{
    g_autoptr(HandOverMessage) used = NULL;
    bool silent = false;
    bool back;

    used = hand_over_recv(unused.wire, HAND_OVER_MESSAGE_TYPE_USED,
                          qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                          DEATH_TIMEOUT_NS, NULL, &silent, NULL);
    /* One that lives, and does not keep to the protocol, has the guest */
    back = !used && silent &&
           hand_over_peer_wait_death(&unused.peer, DEATH_TIMEOUT_NS);
    if (back && unused.vm >= 0 && (kept.lost || arch->gone())) {
        keep_lost(unused.vm);
        unused.vm = -1;
    } else {
        keep_end();
    }
    if (back) {
        hand_over_ram_get_back();
        warn_report("process %" PRId64 " has died, which had the guest and "
                    "did not run it: %s", unused.peer.pid,
                    kept.lost ? "the guest can be handed over again"
                              : "the guest is back");
        if (unused.released) {
            hand_over_resources_restore();
        }
        qatomic_set(&handed_over, false);
        undecided = false;
        if (kept.lost) {
            hand_over_requests_drop();
        } else {
            hand_over_requests_here(true);
        }
        if (runstate_check(RUN_STATE_POSTMIGRATE)) {
            runstate_set(RUN_STATE_PAUSED);
        }
    }
    /* if it did not come back, nobody needs it here */
    hand_over_ram_forget();
    unused_clear();
    return G_SOURCE_REMOVE;
}

static void unused_begin(HandOverSource *src)
{
    unused.wire = src->unused;
    unused.peer = src->peer;
    unused.vm = src->peer_vm;
    unused.released = src->released;
    src->unused = NULL;
    src->peer = HAND_OVER_PEER_INIT;
    src->peer_vm = -1;
    unused.watch = qio_channel_create_watch(unused.wire->ioc,
                                            G_IO_IN | G_IO_HUP);
    g_source_set_callback(unused.watch, (GSourceFunc)unused_settle, NULL,
                          NULL);
    g_source_attach(unused.watch, NULL);
}

void hand_over_look_back(void)
{
    GPollFD pfd = { .events = G_IO_IN | G_IO_HUP };

    if (!unused.wire) {
        return;
    }
    pfd.fd = QIO_CHANNEL_SOCKET(unused.wire->ioc)->fd;
    if (qemu_poll_ns(&pfd, 1, 0) > 0) {
        unused_settle(unused.wire->ioc, G_IO_IN, NULL);
    }
}

void hand_over_source_cleanup(MigrationState *s)
{
    if (migrate_mode() != MIG_MODE_HAND_OVER) {
        return;
    }
    if (source && source->child && !qatomic_read(&handed_over)) {
        /* only if the migration thread did not even begin */
        g_free(hand_over_child_kill(source->child));
    }
    if (kept.lost && runstate_check(RUN_STATE_FINISH_MIGRATE)) {
        /* it was running, and does not again */
        runstate_set(RUN_STATE_PAUSED);
    }
    if (qatomic_read(&handed_over)) {
        hand_over_requests_gone();
        if (runstate_check(RUN_STATE_FINISH_MIGRATE)) {
            /* undecided: it was running, and may run elsewhere */
            runstate_set(RUN_STATE_POSTMIGRATE);
        }
    }
    if (source && qatomic_read(&handed_over) &&
        source->on_success == HAND_OVER_ON_SUCCESS_QUIT) {
        /* as qmp_quit() does */
        shutdown_action = SHUTDOWN_ACTION_POWEROFF;
        qemu_system_shutdown_request(SHUTDOWN_CAUSE_HOST_QMP_QUIT);
    }
    if (source && source->unused) {
        unused_begin(source);
    }
    source_free(source);
    source = NULL;
}

bool hand_over_source_can_cancel(Error **errp)
{
    if (source && source->committed) {
        error_setg(errp, "the hand-over can't be cancelled any more: the "
                   "destination was told to take the guest");
        return false;
    }
    return true;
}

void hand_over_source_wait_cancelled(void)
{
    MigrationState *s = migrate_get_current();

    while (migrate_mode() == MIG_MODE_HAND_OVER &&
           s->migration_thread_running && !qatomic_read(&handed_over) &&
           hand_over_source_can_cancel(NULL)) {
        main_loop_wait(false);
    }
}

void hand_over_source_cancel(MigrationState *s)
{
    QIOChannel *ioc = qemu_file_get_ioc(s->to_dst_file);
    bool sending;

    WITH_QEMU_LOCK_GUARD(&figures.lock) {
        sending = figures.stage < HAND_OVER_STAGE_LOAD;
    }
    /*
     * Whatever the migration thread waits for, let it be over.  The way to
     * the destination stays open for an "abort" once that has the whole stream;
     * before, what is missing tells it (or hand_over_source_finish() ends it).
     */
    if (sending) {
        qemu_file_shutdown(s->to_dst_file);
    } else {
        qio_channel_shutdown(ioc, QIO_CHANNEL_SHUTDOWN_READ, NULL);
    }
}
