/*
 * Hand-over: the process at the other end: its credentials, and whether it is
 * alive
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/eventfd.h>
#include "qemu/cutils.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "qapi/util.h"
#include "hw/boards.h"
#include "io/channel-socket.h"
#include "hand-over-peer.h"
#include "pidfd.h"
#include "trace.h"

/* A flag in /proc/PID/stat: include/linux/sched.h in the kernel */
#define PF_EXITING 0x00000004

bool hand_over_channel_is_local(QIOChannel *ioc)
{
    QIOChannelSocket *sioc;

    sioc = (QIOChannelSocket *)object_dynamic_cast(OBJECT(ioc),
                                                   TYPE_QIO_CHANNEL_SOCKET);
    return sioc && sioc->localAddr.ss_family == AF_UNIX;
}

int hand_over_peer_token(QIOChannel *ioc)
{
    /* the peer's credentials have not been checked: send nothing of value */
    return hand_over_channel_is_local(ioc) ? eventfd(0, EFD_CLOEXEC) : -1;
}

/* May user @uid be at the other end? -machine hand-over-peers */
static bool peer_is_trusted(uid_t uid)
{
    g_auto(GStrv) peers = g_strsplit(current_machine->hand_over_peers, ":",
                                     0);

    for (char **p = peers; *p; p++) {
        uid_t trusted = geteuid();

        if (strcmp(*p, "self")) {
            unsigned n;

            /* the property's setter has checked that it can be parsed */
            qemu_strtoui(*p, NULL, 10, &n);
            trusted = n;
        }
        if (uid == trusted) {
            return true;
        }
    }
    return false;
}

bool hand_over_peer_check(QIOChannel *ioc, Error **errp)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (!hand_over_channel_is_local(ioc)) {
        error_setg(errp, "a hand-over needs a UNIX socket to the other QEMU");
        return false;
    }
    if (getsockopt(QIO_CHANNEL_SOCKET(ioc)->fd, SOL_SOCKET, SO_PEERCRED, &cred,
                   &len) < 0) {
        error_setg_errno(errp, errno, "cannot get the peer's credentials");
        return false;
    }
    if (!peer_is_trusted(cred.uid)) {
        error_setg(errp, "the other end belongs to user %u, expected one of "
                   "-machine hand-over-peers=%s (self: user %u)",
                   cred.uid, current_machine->hand_over_peers, geteuid());
        return false;
    }
    return true;
}

bool hand_over_peer_check_path(const char *path, Error **errp)
{
    struct stat st;

    if (stat(path, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        /* connecting to it will fail, and report why */
        return true;
    }
    if (st.st_uid != geteuid()) {
        error_setg(errp, "socket '%s' belongs to user %u, expected user %u",
                   path, st.st_uid, geteuid());
        return false;
    }
    if (st.st_mode & S_IWOTH) {
        error_setg(errp, "everybody may connect to socket '%s' (mode %04o): "
                   "expected one that others cannot write to", path,
                   st.st_mode & 07777);
        return false;
    }
    return true;
}

/* Version 1 until both have sent "hello", and then the lower one */
static void settle_version(HandOverWire *wire)
{
    if (wire->greeted && wire->peer_version) {
        wire->version = MIN(wire->peer_version, HAND_OVER_VERSION);
    }
}

bool hand_over_peer_send_hello(HandOverWire *wire, GArray *claimed,
                               Error **errp)
{
    HandOverMessage msg = {
        .type = HAND_OVER_MESSAGE_TYPE_HELLO,
        .u.hello = {
            .version = HAND_OVER_VERSION,
            .qemu = (char *)QEMU_VERSION,
            .has_claimed = claimed != NULL,
        },
    };
    uint32List **tail = &msg.u.hello.claimed;
    int pidfd = pidfd_from_pid(getpid());
    bool ok;

    if (pidfd < 0) {
        error_setg_errno(errp, errno, "cannot get a descriptor of this "
                         "process (pidfd_open)");
        return false;
    }
    for (guint i = 0; claimed && i < claimed->len; i++) {
        QAPI_LIST_APPEND(tail, g_array_index(claimed, uint32_t, i));
    }
    ok = hand_over_send(wire, &msg, pidfd, errp);
    wire->greeted = ok;
    settle_version(wire);
    qapi_free_uint32List(msg.u.hello.claimed);
    close(pidfd);
    return ok;
}

/*
 * The ID of the process that @pidfd refers to; 0 if it is not a pidfd.  A peer
 * could send any descriptor, and one that is always readable would make the
 * peer look dead.
 */
static int64_t pidfd_to_pid(int pidfd)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fdinfo/%d", pidfd);
    g_autofree char *info = NULL;
    const char *line;

    if (!g_file_get_contents(path, &info, NULL, NULL)) {
        return 0;
    }
    line = strstr(info, "\nPid:");
    return line ? g_ascii_strtoll(line + strlen("\nPid:"), NULL, 10) : 0;
}

HandOverMessage *coroutine_mixed_fn
hand_over_peer_recv_hello(HandOverWire *wire, HandOverPeer *peer,
                          int64_t deadline, bool *eof, Error **errp)
{
    HandOverMessage *msg = hand_over_recv(wire, HAND_OVER_MESSAGE_TYPE_HELLO,
                                          deadline, &peer->pidfd, eof, errp);

    if (!msg) {
        return NULL;
    }
    if (msg->u.hello.version == 0) {
        error_setg(errp, "the %s speaks version 0 of the protocol, expected 1 "
                   "or more", wire->peer);
        qapi_free_HandOverMessage(msg);
        return NULL;
    }
    peer->pid = pidfd_to_pid(peer->pidfd);
    if (!peer->pid) {
        error_setg(errp, "the descriptor that came with the %s's 'hello' is "
                   "no pidfd", wire->peer);
        qapi_free_HandOverMessage(msg);
        return NULL;
    }
    wire->peer_version = msg->u.hello.version;
    settle_version(wire);
    trace_hand_over_hello(wire->peer, peer->pid, msg->u.hello.qemu,
                          wire->version);
    return msg;
}

/*
 * Is it exiting?  An exiting process closes its descriptors before it is dead,
 * but only once its main thread is exiting (do_exit() in the kernel's
 * kernel/exit.c): a process that has closed its socket, and is not exiting, has
 * done so deliberately.
 */
static bool peer_is_ending(const HandOverPeer *peer)
{
    g_autofree char *path = g_strdup_printf("/proc/%" PRId64 "/stat",
                                            peer->pid);
    g_autofree char *stat = NULL;
    const char *p;
    unsigned flags;
    char state;

    if (!g_file_get_contents(path, &stat, NULL, NULL)) {
        /* it is gone by now, or /proc does not show it: wait and see */
        return true;
    }
    /* proc(5): pid (name) state ppid pgrp session tty tpgid flags */
    p = strrchr(stat, ')');
    if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %u", &state,
                     &flags) != 2) {
        return true;
    }
    return state == 'Z' || state == 'X' || (flags & PF_EXITING);
}

/* Wait for its death, whether or not it is exiting */
static bool peer_wait(const HandOverPeer *peer, int64_t timeout_ns)
{
    int64_t deadline = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + timeout_ns;
    GPollFD pfd = { .fd = peer->pidfd, .events = G_IO_IN };
    int ret;

    do {
        int64_t left = deadline - qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

        ret = qemu_poll_ns(&pfd, 1, MAX(left, 0));
    } while (ret < 0 && errno == EINTR);
    return ret > 0;
}

bool hand_over_peer_wait_death(const HandOverPeer *peer)
{
    if (!peer_wait(peer, 0) && !peer_is_ending(peer)) {
        return false;
    }
    return peer_wait(peer, HAND_OVER_DEATH_TIMEOUT_NS);
}

bool hand_over_peer_end(const HandOverPeer *peer)
{
    if (pidfd_kill(peer->pidfd) < 0 &&
        errno != ESRCH) {
        return peer_wait(peer, 0);
    }
    return peer_wait(peer, HAND_OVER_DEATH_TIMEOUT_NS);
}

void hand_over_peer_kill(const HandOverPeer *peer)
{
    if (peer->pidfd >= 0) {
        pidfd_kill(peer->pidfd);
    }
}

void hand_over_peer_clear(HandOverPeer *peer)
{
    if (peer->pidfd >= 0) {
        close(peer->pidfd);
        peer->pidfd = -1;
    }
}
