/*
 * Hand-over: requests that the guest makes just before it is stopped
 *
 * A guest requests a reset, shutdown or suspend in a vCPU's thread, and the
 * main loop acts on that a moment later; the same goes for monitor commands,
 * devices that stop the guest, and a debugger's breakpoints.  If the guest is
 * stopped in between, its request is part of its state: it is carried out
 * once, by the process that has the guest afterwards.  The other process must
 * not carry it out: a reset writes to the guest's RAM, which both have mapped.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "qapi/util.h"
#include "migration/hand-over.h"
#include "migration/vmstate.h"
#include "system/runstate.h"
#include "hand-over-internal.h"
#include "hand-over-requests.h"
#include "options.h"
#include "trace.h"

#define NAME_MAX_LEN 32

/* Form used in the stream: by name, as numeric values may change */
typedef struct WireRequests {
    uint8_t reset[NAME_MAX_LEN];
    uint8_t shutdown[NAME_MAX_LEN];
    uint8_t vmstop[NAME_MAX_LEN];
    int32_t exit_code;
    int32_t wakeup;
    bool suspend;
    bool powerdown;
    bool debug;
} WireRequests;

static struct {
    bool in_flight;
    bool leaving;       /* its requests have been collected; atomic */
    SystemRequests pending;
    VMChangeStateEntry *start;
    WireRequests wire;
} requests = { .pending.vmstop = RUN_STATE__MAX };

bool hand_over_in_flight(Error **errp)
{
    if (!requests.in_flight) {
        return false;
    }
    error_setg(errp, "The guest is being handed over %s: try again when it "
               "has arrived, at the QEMU that then has it",
               hand_over_incoming_active() ? "to this QEMU"
                                           : "to another QEMU");
    return true;
}

bool hand_over_allows_command(const char *name, Error **errp)
{
    /* those that change nothing, check for themselves, or end the process */
    static const char *const always[] = {
        "closefd", "cont", "c", "device-list-properties", "getfd", "help",
        "?", "human-monitor-command", "info", "migrate", "migrate-continue",
        "migrate-protected-vm", "migrate-set-capabilities",
        "migrate-set-parameters", "migrate_cancel", "migrate_set_capability",
        "migrate_set_parameter", "p", "print", "qmp_capabilities", "qom-get",
        "qom-list", "qom-list-properties", "qom-list-types", "quit", "q", "x",
        "xp", "yank",
    };

    if ((!qatomic_read(&requests.leaving) && !hand_over_guest_is_gone(NULL)) ||
        g_str_has_prefix(name, "query-")) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_SIZE(always); i++) {
        if (!strcmp(name, always[i])) {
            return true;
        }
    }
    return !hand_over_guest_is_gone(errp) && !hand_over_in_flight(errp);
}

static bool requests_any(const SystemRequests *r)
{
    return r->reset || r->shutdown || r->wakeup || r->suspend ||
           r->powerdown || r->debug || r->vmstop != RUN_STATE__MAX;
}

static void requests_clear(void)
{
    requests.pending = (SystemRequests) { .vmstop = RUN_STATE__MAX };
}

/* Merge @more, which came later, into the pending requests */
static void requests_merge(const SystemRequests *more)
{
    SystemRequests *r = &requests.pending;

    r->reset = more->reset ? more->reset : r->reset;
    if (more->shutdown) {
        r->shutdown = more->shutdown;
        r->exit_code = more->exit_code;
    }
    r->wakeup = more->wakeup ? more->wakeup : r->wakeup;
    r->suspend |= more->suspend;
    r->powerdown |= more->powerdown;
    r->debug |= more->debug;
    r->vmstop = more->vmstop != RUN_STATE__MAX ? more->vmstop : r->vmstop;
}

/*
 * The migration stream
 */

static bool requests_needed(void *opaque)
{
    return migrate_mode() == MIG_MODE_HAND_OVER &&
           requests_any(&requests.pending);
}

static void requests_name(uint8_t *to, const char *name)
{
    assert(strlen(name) < NAME_MAX_LEN);
    strpadcpy((char *)to, NAME_MAX_LEN, name, '\0');
}

static int requests_pre_save(void *opaque)
{
    const SystemRequests *r = &requests.pending;
    WireRequests *w = opaque;

    requests_name(w->reset, ShutdownCause_str(r->reset));
    requests_name(w->shutdown, ShutdownCause_str(r->shutdown));
    requests_name(w->vmstop, r->vmstop == RUN_STATE__MAX
                             ? "" : RunState_str(r->vmstop));
    w->exit_code = r->exit_code;
    w->wakeup = r->wakeup;
    w->suspend = r->suspend;
    w->powerdown = r->powerdown;
    w->debug = r->debug;
    return 0;
}

/* Reports an error and returns -1 if @name is not in @lookup */
static int requests_parse(const QEnumLookup *lookup, const uint8_t *name)
{
    g_autofree char *text = g_strndup((const char *)name, NAME_MAX_LEN);
    Error *err = NULL;
    int value = qapi_enum_parse(lookup, text, -1, &err);

    if (err) {
        error_reportf_err(err, "pending requests of the guest: ");
    }
    return value;
}

/* Can a running guest be stopped with @state? */
static bool requests_can_stop_in(RunState state)
{
    switch (state) {
    case RUN_STATE_DEBUG:
    case RUN_STATE_GUEST_PANICKED:
    case RUN_STATE_INTERNAL_ERROR:
    case RUN_STATE_IO_ERROR:
    case RUN_STATE_PAUSED:
    case RUN_STATE_SHUTDOWN:
    case RUN_STATE_WATCHDOG:
    case RUN_STATE__MAX:
        return true;
    default:
        return false;
    }
}

static int requests_post_load(void *opaque, int version_id)
{
    WireRequests *w = opaque;
    int reset = requests_parse(&ShutdownCause_lookup, w->reset);
    int shutdown = requests_parse(&ShutdownCause_lookup, w->shutdown);
    int vmstop = *w->vmstop ? requests_parse(&RunState_lookup, w->vmstop)
                            : RUN_STATE__MAX;

    if (reset < 0 || shutdown < 0 || !requests_can_stop_in(vmstop) ||
        w->wakeup < 0 || w->wakeup > QEMU_WAKEUP_REASON_OTHER) {
        return -EINVAL;
    }
    requests.pending = (SystemRequests) {
        .reset = reset,
        .shutdown = shutdown,
        .exit_code = w->exit_code,
        .wakeup = w->wakeup,
        .suspend = w->suspend,
        .powerdown = w->powerdown,
        .debug = w->debug,
        .vmstop = vmstop,
    };
    return 0;
}

static const VMStateDescription vmstate_requests = {
    .name = "hand-over/requests",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = requests_needed,
    .pre_save = requests_pre_save,
    .post_load = requests_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_BUFFER(reset, WireRequests),
        VMSTATE_BUFFER(shutdown, WireRequests),
        VMSTATE_BUFFER(vmstop, WireRequests),
        VMSTATE_INT32(exit_code, WireRequests),
        VMSTATE_INT32(wakeup, WireRequests),
        VMSTATE_BOOL(suspend, WireRequests),
        VMSTATE_BOOL(powerdown, WireRequests),
        VMSTATE_BOOL(debug, WireRequests),
        VMSTATE_END_OF_LIST()
    }
};

void hand_over_requests_init(void)
{
    vmstate_register(NULL, 0, &vmstate_requests, &requests.wire);
}

/*
 * Which process acts on them
 */

void hand_over_requests_hold(void)
{
    requests.in_flight = true;
    qemu_system_requests_hold();
}

static void requests_release(void)
{
    qatomic_set(&requests.leaving, false);
    requests.in_flight = false;
    qemu_system_requests_release();
}

static void requests_put(void)
{
    if (requests_any(&requests.pending)) {
        hand_over_guest_confirm();
    }
    qemu_system_requests_put(&requests.pending);
    requests_clear();
}

static void requests_put_at_once(void)
{
    g_clear_pointer(&requests.start, qemu_del_vm_change_state_handler);
    requests_put();
}

void hand_over_requests_collect(void)
{
    if (requests.start) {
        /* the guest leaves again before it has run here */
        requests_put_at_once();
    }
    qemu_system_requests_take(&requests.pending);
    qatomic_set(&requests.leaving, true);
    trace_hand_over_requests(requests.pending.reset, requests.pending.shutdown,
                             requests.pending.vmstop);
}

/* Requests made since then are for a guest that is not here: drop them */
static void requests_forget(void)
{
    SystemRequests of_nobody;

    qemu_system_requests_take(&of_nobody);
    requests_release();
}

void hand_over_requests_gone(void)
{
    requests_forget();
}

static void requests_vm_starts(void *opaque, bool running, RunState state)
{
    if (running) {
        requests_put_at_once();
    }
}

void hand_over_requests_here(bool will_run)
{
    if (requests.in_flight) {
        SystemRequests more;

        /* it may have failed before collecting; others may have come since */
        qemu_system_requests_take(&more);
        requests_merge(&more);
        requests_release();
    }
    if (!requests_any(&requests.pending)) {
        return;
    }
    if (will_run) {
        if (!requests.start) {
            requests.start =
                qemu_add_vm_change_state_handler(requests_vm_starts, NULL);
        }
    } else {
        requests_put();
    }
}

void hand_over_requests_arrived(bool will_run)
{
    SystemRequests more;

    qemu_system_requests_take(&more);
    /*
     * All of these were made for the machine that waited, except for a wakeup
     * by the guest's own clock since the state was loaded
     */
    if (more.wakeup && vm_get_suspended()) {
        requests.pending.wakeup = more.wakeup;
    }
    requests_release();
    hand_over_requests_here(will_run);
}

void hand_over_requests_put_now(void)
{
    if (requests.start) {
        requests_put_at_once();
    }
}

void hand_over_requests_drop(void)
{
    if (requests.in_flight) {
        requests_forget();
    }
    requests_clear();
}
