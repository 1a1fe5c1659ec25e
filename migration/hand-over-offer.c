/*
 * Hand-over: the source greets the destination, and offers it the guest
 *
 * The guest runs meanwhile.  At the end the destination has mapped its RAM, and
 * waits for the device state.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/accel.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "exec/target_page.h"
#include "hw/boards.h"
#include "hw/core/cpu.h"
#include "hand-over-departed.h"
#include "hand-over-figures.h"
#include "hand-over-ram.h"
#include "hand-over-sections.h"
#include "hand-over-source.h"
#include "hand-over-threads.h"
#include "migration.h"
#include "qemu-file.h"

static int64_t deadline_from_now(const HandOverSource *src)
{
    return qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + src->timeout_ns;
}

/*
 * A message could not be sent: if that is because the destination has refused
 * and stopped reading, its reason is the better error message
 */
static void prefer_refusal(HandOverSource *src, Error **errp)
{
    Error *refusal = NULL;

    hand_over_recv(src->wire, HAND_OVER_MESSAGE_TYPE_ADOPTED,
                   deadline_from_now(src), NULL, &src->silent, &refusal);
    if (refusal) {
        error_free(*errp);
        *errp = refusal;
    }
}

static bool hello(HandOverSource *src, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(HandOverMessage) msg = NULL;
    int64_t deadline = deadline_from_now(src);
    uint32List *claimed;

    if ((src->child && !hand_over_child_send_inheritance(src->wire, errp)) ||
        !hand_over_peer_send_hello(src->wire, NULL, errp)) {
        src->silent = true;
        prefer_refusal(src, errp);
        return false;
    }
    if (src->child) {
        hand_over_child_wait(src->child, src->child->ioc->fd, deadline);
    }
    msg = hand_over_peer_recv_hello(src->wire, &src->peer, deadline,
                                    &src->silent, errp);
    if (!msg) {
        return false;
    }
    if (src->child) {
        /* From here on the child uses our standard error */
        hand_over_child_close_err(src->child);
    }
    hand_over_figures_peer(src->peer.pid);

    for (claimed = msg->u.hello.claimed; claimed; claimed = claimed->next) {
        src->claimed = g_renew(uint32_t, src->claimed, src->n_claimed + 1);
        src->claimed[src->n_claimed++] = claimed->value;
    }
    return true;
}

/* The descriptors of virtual machines that may have the guest, or NULL */
static GArray *vms_of_guest(void)
{
    GArray *vms = NULL;
    const HandOverArch *arch = hand_over_arch();
    int fd;

    if (hand_over_guest_is_lost()) {
        return hand_over_lost_vms();
    }
    fd = arch && arch->vm ? arch->vm() : -1;
    if (fd >= 0) {
        vms = g_array_new(false, false, sizeof(int));
        g_array_append_val(vms, fd);
    }
    return vms;
}

/* @vms: descriptors that are to follow the RAM blocks, or NULL */
static bool send_offer(HandOverSource *src, const GArray *vms, Error **errp)
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
    const HandOverArch *arch = hand_over_arch();
    CPUState *cpu;
    bool ok;

    bql_lock();
    CPU_FOREACH(cpu) {
        offer->cpus++;
    }
    offer->ram_blocks = hand_over_ram_count();
    offer->sections = hand_over_sections();
    if (src->own_argv) {
        offer->drives = hand_over_drives();
        offer->has_drives = true;
    }
    if (arch && arch->offer) {
        offer->protected_guest = arch->offer();
    }
    if (vms) {
        offer->has_vms = true;
        offer->vms = vms->len;
    }
    if (src->child && src->wire->version >= 3) {
        /* other QEMUs are placed by the process that has started them */
        offer->threads = hand_over_threads();
        offer->has_threads = true;
    }
    bql_unlock();

    ok = hand_over_send(src->wire, &msg, -1, errp);
    qapi_free_HandOverSectionList(offer->sections);
    qapi_free_HandOverDriveList(offer->drives);
    qapi_free_HandOverThreadList(offer->threads);
    qapi_free_HandOverProtectedGuest(offer->protected_guest);
    return ok;
}

static bool send_vms(HandOverSource *src, const GArray *vms, Error **errp)
{
    HandOverMessage msg = { .type = HAND_OVER_MESSAGE_TYPE_VM };

    for (guint i = 0; vms && i < vms->len; i++) {
        if (!hand_over_send(src->wire, &msg, g_array_index(vms, int, i),
                            errp)) {
            return false;
        }
    }
    return true;
}

/* Prepend the error output of the destination, if it is a child of ours */
static void prepend_child_errors(HandOverSource *src, Error **errp)
{
    HandOverChild *child = src->child;
    g_autofree char *output = NULL;

    if (!child) {
        return;
    }
    /* its socket is closed: it is exiting, and its output ends then */
    if (child->err_fd >= 0) {
        hand_over_child_wait(child, -1,
                             qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                             HAND_OVER_DEATH_TIMEOUT_NS);
    }
    output = g_strdelimit(g_strstrip(g_strdup(child->tail->str)), "\n", ';');
    if (*output) {
        error_prepend(errp, "the new QEMU did not start: %s: ", output);
    }
}

bool hand_over_offer(HandOverSource *src, MigrationState *s, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(HandOverMessage) vm = NULL, adopted = NULL;
    QIOChannel *ioc = qemu_file_get_ioc(s->to_dst_file);
    g_autoptr(GArray) vms = NULL;

    if (!hand_over_peer_check(ioc, errp)) {
        return false;
    }
    src->wire = hand_over_wire_new(ioc, "destination");
    if (!hello(src, errp)) {
        if (src->silent && s->state != MIGRATION_STATUS_CANCELLING) {
            prepend_child_errors(src, errp);
        }
        return false;
    }

    hand_over_enter_stage(HAND_OVER_STAGE_OFFER);
    vms = vms_of_guest();
    if (!send_offer(src, vms, errp) ||
        !hand_over_ram_send(src->wire, errp) ||
        !send_vms(src, vms, errp)) {
        prefer_refusal(src, errp);
        return false;
    }
    if (vms) {
        vm = hand_over_recv(src->wire, HAND_OVER_MESSAGE_TYPE_VM,
                            deadline_from_now(src), &src->peer_vm,
                            &src->silent, errp);
        if (!vm) {
            return false;
        }
    }
    adopted = hand_over_recv(src->wire, HAND_OVER_MESSAGE_TYPE_ADOPTED,
                             deadline_from_now(src), NULL, &src->silent, errp);
    if (!adopted) {
        return false;
    }
    if (vms && !hand_over_guest_is_lost()) {
        hand_over_keep_begin(s->to_dst_file);
    }
    src->limit = hand_over_limit_new(ioc);
    hand_over_enter_stage(HAND_OVER_STAGE_READY);
    return true;
}
