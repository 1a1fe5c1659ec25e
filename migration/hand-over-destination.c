/*
 * Hand-over: the destination's half
 *
 * A coroutine meets the source and adopts the RAM, then lets the ordinary
 * incoming migration load the device state, which calls back here when it
 * has all of it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/coroutine.h"
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
#include "system/hostmem.h"
#include "system/runstate.h"
#include "system/system.h"
#include "channel.h"
#include "hand-over-exec.h"
#include "hand-over-internal.h"
#include "hand-over-peer.h"
#include "hand-over-ram.h"
#include "hand-over-requests.h"
#include "hand-over-sections.h"
#include "hand-over-threads.h"
#include "hand-over-wire.h"
#include "load-errors.h"
#include "migration.h"
#include "migration/global_state.h"
#include "migration/misc.h"
#include "options.h"
#include "qemu-file.h"
#include "trace.h"

/* All of it belongs to the main thread */
static struct {
    bool seen;              /* the first connection has been looked at */
    bool active;
    bool ending;            /* this process is about to exit */
    bool plain;             /* the guest comes by an ordinary migration */
    bool source_is_dead;
    HandOverWire *wire;
    HandOverPeer peer;
    GArray *vms;            /* descriptors of VMs that may have the guest */
    HandOverWire *unconfirmed; /* to a source that can have its guest back */
    VMChangeStateEntry *start;
} incoming = { .peer.pidfd = -1 };

bool hand_over_incoming_active(void)
{
    return incoming.active;
}

/*
 * The exchange
 */

/* Check what must match at both ends, as far as the offer itself shows */
static bool offer_check(const HandOverOffer *offer, Error **errp)
{
    MachineClass *mc = MACHINE_GET_CLASS(current_machine);
    uint32_t cpus = 0;
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        cpus++;
    }
    if (strcmp(offer->target, target_name())) {
        error_setg(errp, "the source's target is '%s', this one's is '%s'",
                   offer->target, target_name());
    } else if (strcmp(offer->machine, mc->name)) {
        error_setg(errp, "the source's machine is '%s', this one's is '%s'",
                   offer->machine, mc->name);
    } else if (strcmp(offer->accel, current_accel_name())) {
        error_setg(errp, "the source's accelerator is '%s', this one's is "
                   "'%s'", offer->accel, current_accel_name());
    } else if (offer->cpus != cpus) {
        error_setg(errp, "the source has %u CPUs, there are %u here",
                   offer->cpus, cpus);
    } else if (offer->page_size != qemu_target_page_size()) {
        error_setg(errp, "the source's page size is %u, this one's is %zu",
                   offer->page_size, qemu_target_page_size());
    } else if (hand_over_sections_match(offer->sections, errp) &&
               (!offer->has_drives ||
                hand_over_drives_match(offer->drives, errp))) {
        return true;
    }
    return false;
}

/*
 * -overcommit mem-lock=on: deferred, because at start it was not known whether
 * this process is going to use its own memory or the source's
 */
static bool lock_memory(Error **errp)
{
    if (should_mlock(mlock_state) && !is_mlock_on_fault(mlock_state) &&
        os_mlock(false) < 0) {
        error_setg(errp, "cannot lock the guest's memory (-overcommit "
                   "mem-lock=on): %s", strerror(errno));
        return false;
    }
    return true;
}

static bool offer_adopt(const HandOverOffer *offer, Error **errp)
{
    const HandOverArch *arch = hand_over_arch();
    HandOverMessage answer = { .type = HAND_OVER_MESSAGE_TYPE_VM };
    int vm;

    if (incoming.ending) {
        error_setg(errp, "this QEMU was told to end");
        return false;
    }
    if (!hand_over_ram_adopt(incoming.wire, offer->ram_blocks, errp) ||
        !lock_memory(errp)) {
        return false;
    }
    incoming.vms = hand_over_fds_new();
    for (uint32_t i = 0; i < offer->vms; i++) {
        g_autoptr(HandOverMessage) msg = NULL;

        msg = hand_over_recv(incoming.wire, HAND_OVER_MESSAGE_TYPE_VM, -1,
                             &vm, NULL, errp);
        if (!msg) {
            return false;
        }
        g_array_append_val(incoming.vms, vm);
    }
    if (arch && arch->adopt) {
        if (!arch->adopt(offer->protected_guest, incoming.vms, errp)) {
            return false;
        }
    } else if (offer->protected_guest) {
        error_setg(errp, "the source's guest is protected in a way that this "
                   "QEMU does not support for target '%s'", target_name());
        return false;
    }
    if (!offer->vms) {
        return true;
    }
    vm = arch && arch->vm ? arch->vm() : -1;
    if (vm < 0) {
        error_setg(errp, "the source's guest has to be moved to a virtual "
                   "machine in the kernel, but there is none here");
        return false;
    }
    return hand_over_send(incoming.wire, &answer, vm, errp);
}

/* True: the peer begins with @magic.  Waits until it has sent something. */
static bool coroutine_fn peek_magic(QIOChannel *ioc, uint32_t magic)
{
    uint32_t first = 0;
    struct iovec iov = { .iov_base = &first, .iov_len = sizeof(first) };
    ssize_t len;

    for (;;) {
        len = qio_channel_readv_full(ioc, &iov, 1, NULL, NULL,
                                     QIO_CHANNEL_READ_FLAG_MSG_PEEK, NULL);
        if (len != QIO_CHANNEL_ERR_BLOCK) {
            /* a header is sent in one piece: if it is short, it is not one */
            return len == sizeof(first) && be32_to_cpu(first) == magic;
        }
        qio_channel_yield(ioc, G_IO_IN);
    }
}

static bool coroutine_fn incoming_adopt(Error **errp)
{
    g_autoptr(HandOverMessage) hello = NULL, offer = NULL;
    g_autoptr(GArray) claimed = NULL;

    /*
     * Send nothing before the source's "hello": until then it may still be
     * reading from the return path of a migration, and could read beyond its
     * end.  But do not parse the "hello" before the peer's credentials have
     * been checked.
     */
    qio_channel_set_blocking(incoming.wire->ioc, false, NULL);
    peek_magic(incoming.wire->ioc, HAND_OVER_MAGIC);
    if (!hand_over_peer_check(incoming.wire->ioc, errp)) {
        return false;
    }
    if (migrate_tls()) {
        error_setg(errp, "migration parameter 'tls-creds' is set here: "
                   "expected none, as a hand-over's stream is not encrypted");
        return false;
    }
    hello = hand_over_peer_recv_hello(incoming.wire, &incoming.peer, -1, NULL,
                                      errp);
    if (!hello) {
        return false;
    }
    if (hand_over_inheriting()) {
        claimed = hand_over_inherit_claimed();
    }
    hand_over_child_take_stderr();
    if (!hand_over_peer_send_hello(incoming.wire, claimed, errp)) {
        return false;
    }
    offer = hand_over_recv(incoming.wire, HAND_OVER_MESSAGE_TYPE_OFFER, -1,
                           NULL, NULL, errp);
    if (!offer || !offer_check(&offer->u.offer, errp) ||
        !offer_adopt(&offer->u.offer, errp)) {
        return false;
    }
    if (hand_over_inheriting()) {
        hand_over_threads_apply(offer->u.offer.threads);
    }
    return hand_over_send_type(incoming.wire, HAND_OVER_MESSAGE_TYPE_ADOPTED,
                               errp);
}

static void incoming_end(void)
{
    load_errors_end();
    incoming.active = false;
    migrate_mode_unfix();
    hand_over_peer_clear(&incoming.peer);
    g_clear_pointer(&incoming.vms, g_array_unref);
    hand_over_wire_free(incoming.wire);
    incoming.wire = NULL;
}

static void incoming_fail(Error *err)
{
    MigrationState *s = migrate_get_current();
    MigrationIncomingState *mis = migration_incoming_get_current();

    hand_over_incoming_failed(err);
    migrate_set_state(&mis->state, MIGRATION_STATUS_SETUP,
                      MIGRATION_STATUS_FAILED);
    migrate_set_error(s, err);
    migration_incoming_state_destroy();
    if (mis->exit_on_error) {
        error_report_err(err);
        exit(EXIT_FAILURE);
    }
    error_free(err);
}

/* @ioc leads to a source */
static void incoming_begin(QIOChannel *ioc)
{
    incoming.active = true;
    incoming.wire = hand_over_wire_new(ioc, "source");
    migrate_mode_fix(MIG_MODE_HAND_OVER);
    hand_over_requests_hold();
    load_errors_begin();
    trace_hand_over_incoming();
}

static void coroutine_fn incoming_co(void *opaque)
{
    g_autoptr(QIOChannel) ioc = opaque;
    Error *err = NULL;

    qio_channel_set_blocking(ioc, false, NULL);
    if (!peek_magic(ioc, HAND_OVER_MAGIC)) {
        qio_channel_set_blocking(ioc, true, NULL);
        migration_channel_process_incoming(ioc);
        return;
    }

    incoming_begin(ioc);
    if (!incoming_adopt(&err)) {
        incoming_fail(err);
        return;
    }
    migration_channel_process_incoming(ioc);
}

bool hand_over_incoming_connection(QIOChannel *ioc)
{
    Coroutine *co;

    /*
     * Later ones are further channels of the migration, or its recovery.  They
     * may arrive in the monitor's thread, where a coroutine can't wait for
     * them.
     */
    if (incoming.seen) {
        return false;
    }
    incoming.seen = true;
    if (!hand_over_channel_is_local(ioc)) {
        Error *err = NULL;

        if (!hand_over_is_only_way(&err)) {
            return false;
        }
        /* The source reports this too, but perhaps only this end is watched */
        error_prepend(&err, "this is no UNIX socket: ");
        incoming_fail(err);
        return true;
    }
    object_ref(OBJECT(ioc));
    co = qemu_coroutine_create(incoming_co, ioc);
    qemu_coroutine_enter(co);
    return true;
}

bool coroutine_fn hand_over_incoming_switch(QEMUFile *f, Error **errp)
{
    if (incoming.active || incoming.plain) {
        error_setg(errp, "the source wants to hand its guest over %s",
                   incoming.active ? "twice" : "in the middle of a migration");
        return false;
    }
    incoming_begin(qemu_file_get_ioc(f));
    return incoming_adopt(errp);
}

bool hand_over_incoming_section(Error **errp)
{
    if (incoming.active || incoming.plain) {
        return true;
    }
    /* Do what was put off in case this was a hand-over */
    incoming.plain = !hand_over_is_only_way(errp) &&
                     host_memory_backend_prealloc_deferred(errp) &&
                     lock_memory(errp);
    return incoming.plain;
}

bool coroutine_fn hand_over_incoming_loaded(Error **errp)
{
    g_autoptr(HandOverMessage) commit = NULL;
    Error *err = NULL;
    bool eof = false;

    if (qemu_file_read_ahead(migration_incoming_get_current()->from_src_file)) {
        /* all that the source can send before "loaded" is "abort" */
        error_setg(errp, "the source gave up before all was loaded");
        return false;
    }
    /*
     * If this can't be sent, the source does not wait for it any more.  The
     * reason can then be read: "abort", if it has taken the guest back.
     */
    hand_over_send_type(incoming.wire, HAND_OVER_MESSAGE_TYPE_LOADED, NULL);
    commit = hand_over_recv(incoming.wire, HAND_OVER_MESSAGE_TYPE_COMMIT, -1,
                            NULL, &eof, &err);
    if (commit) {
        return true;
    }

    /*
     * A source that has died can't take the guest back, and all of it is here.
     * One that has closed the connection and is alive has taken it back.
     */
    if (eof && hand_over_peer_wait_death(&incoming.peer)) {
        trace_hand_over_source_died(incoming.peer.pid);
        incoming.source_is_dead = true;
        error_free(err);
        return true;
    }
    error_propagate(errp, err);
    return false;
}

void hand_over_guest_confirm(void)
{
    if (!incoming.unconfirmed) {
        return;
    }
    /* Ignore errors: the source may have exited */
    hand_over_send_type(incoming.unconfirmed, HAND_OVER_MESSAGE_TYPE_CONFIRMED,
                        NULL);
    hand_over_wire_free(incoming.unconfirmed);
    incoming.unconfirmed = NULL;
    qemu_del_vm_change_state_handler(incoming.start);
}

static void vm_starts(void *opaque, bool running, RunState state)
{
    if (running) {
        hand_over_guest_confirm();
    }
}

bool hand_over_ram_is_anothers(void)
{
    return hand_over_guest_is_gone(NULL) || incoming.unconfirmed ||
           (runstate_check(RUN_STATE_INMIGRATE) &&
            !(incoming.plain && !migrate_ignore_shared()));
}

void hand_over_incoming_shutdown(void)
{
    incoming.ending = true;
    if (incoming.active || incoming.unconfirmed) {
        hand_over_ram_release();
    }
}

bool hand_over_incoming_take(Error **errp)
{
    const HandOverArch *arch = hand_over_arch();
    Error *err = NULL;

    if (incoming.ending) {
        error_setg(errp, "this QEMU was told to end");
        return false;
    }
    if (!migration_block_activate(errp)) {
        return false;
    }
    if (!hand_over_resources_take(errp)) {
        return false;
    }
    /* The last steps that can fail */
    if (!hand_over_ram_take(errp) ||
        (arch && arch->move && !arch->move(errp))) {
        return false;
    }

    if (!incoming.source_is_dead) {
        qio_channel_set_blocking(incoming.wire->ioc, true, NULL);
        if (!hand_over_send_type(incoming.wire, HAND_OVER_MESSAGE_TYPE_DONE,
                                 &err)) {
            /* Without "done" the source keeps the guest, if it is alive */
            if (!hand_over_peer_wait_death(&incoming.peer)) {
                error_propagate(errp, err);
                return false;
            }
            error_free(err);
        }
    }
    if (!incoming.source_is_dead && incoming.wire->version >= 2) {
        incoming.unconfirmed = hand_over_wire_dup(incoming.wire);
    }
    if (incoming.unconfirmed) {
        incoming.start = qemu_add_vm_change_state_handler(vm_starts, NULL);
    }
    /* Not earlier: on failure, the source must keep its addresses */
    hand_over_listeners_take();
    trace_hand_over_taken();
    incoming_end();
    /* the same condition by which the caller decides whether it runs */
    hand_over_requests_arrived(!global_state_received() ||
                               runstate_is_live(global_state_get_runstate()));
    return true;
}

void hand_over_incoming_failed(const Error *err)
{
    const char *reason = error_get_pretty(err);

    if (!incoming.active) {
        return;
    }
    trace_hand_over_incoming_failed(reason);

    /* All that the source needs to go on must be free when it reads this */
    if (!qemu_in_coroutine()) {
        /* a coroutine has not activated disks: see hand_over_incoming_take() */
        migration_block_inactivate();
    }
    hand_over_ram_release();
    g_clear_pointer(&incoming.vms, g_array_unref);

    qio_channel_set_blocking(incoming.wire->ioc, true, NULL);
    hand_over_send_reason(incoming.wire, HAND_OVER_MESSAGE_TYPE_REFUSED,
                          reason, NULL);
    /* The source may still be writing a stream, which is not read any more */
    qio_channel_shutdown(incoming.wire->ioc, QIO_CHANNEL_SHUTDOWN_READ, NULL);
    incoming_end();
    hand_over_requests_drop();
}
