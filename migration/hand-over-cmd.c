/*
 * Hand-over: the commands
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/un.h>
#include "qemu/cutils.h"
#include "qemu/sockets.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-migration.h"
#include "qapi/qapi-visit-hand-over.h"
#include "io/channel-socket.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qobject/qdict.h"
#include "hand-over-internal.h"
#include "hand-over-argv.h"
#include "hand-over-blockers.h"
#include "hand-over-check.h"
#include "hand-over-exec.h"
#include "hand-over-peer.h"
#include "migration.h"

static SocketAddress *parse_uri(const char *uri, Error **errp)
{
    SocketAddress *addr = socket_parse(uri, errp);

    if (addr && addr->type != SOCKET_ADDRESS_TYPE_UNIX) {
        error_setg(errp, "'uri' is \"%s\", expected \"unix:PATH\"", uri);
        qapi_free_SocketAddress(addr);
        return NULL;
    }
    return addr;
}

/*
 * Connect without waiting: a process that hangs does not accept, and once its
 * backlog is full, connect() would block the main loop.
 */
static QIOChannelSocket *connect_at_once(const UnixSocketAddress *addr,
                                         Error **errp)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    QIOChannelSocket *sioc;
    int fd;

    if (strlen(addr->path) >= sizeof(un.sun_path)) {
        error_setg(errp, "the path of socket '%s' is too long: expected at "
                   "most %zu bytes", addr->path, sizeof(un.sun_path) - 1);
        return NULL;
    }
    strcpy(un.sun_path, addr->path);
    fd = qemu_socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0) {
        error_setg_errno(errp, errno, "cannot create a socket");
        return NULL;
    }
    qemu_socket_set_nonblock(fd);
    if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
        if (errno == EAGAIN) {
            error_setg(errp, "socket '%s': nobody accepts connections, and its "
                       "backlog is full", addr->path);
        } else {
            error_setg_errno(errp, errno, "cannot connect to '%s'", addr->path);
        }
        close(fd);
        return NULL;
    }
    qemu_socket_set_block(fd);
    sioc = qio_channel_socket_new_fd(fd, errp);
    if (!sioc) {
        close(fd);
    }
    return sioc;
}

static void check_socket(const char *path, HandOverBlockerList ***tail)
{
    Error *err = NULL;

    if (!hand_over_peer_check_path(path, &err)) {
        hand_over_block(tail, NULL, "%s", error_get_pretty(err));
        error_free(err);
    }
}

static char **strv_from_list(const strList *list)
{
    GPtrArray *strv = g_ptr_array_new();

    for (; list; list = list->next) {
        g_ptr_array_add(strv, g_strdup(list->value));
    }
    g_ptr_array_add(strv, NULL);
    return (char **)g_ptr_array_free(strv, false);
}

/* The program to be started, and its arguments */
static bool source_argv(bool own, const strList *exec, char **path,
                        char ***argv, Error **errp)
{
    if (own) {
        *path = hand_over_own_binary(errp);
        *argv = *path ? hand_over_own_argv(errp) : NULL;
        return *argv != NULL;
    }
    for (const strList *arg = exec; arg; arg = arg->next) {
        if (!strcmp(arg->value, "-incoming") ||
            !strcmp(arg->value, "--incoming")) {
            error_setg(errp, "'exec' has -incoming, which the hand-over "
                       "adds itself");
            return false;
        }
    }
    *path = g_strdup(exec->value);
    *argv = strv_from_list(exec);
    return true;
}

static void check_program(const char *path, HandOverBlockerList ***tail)
{
    g_autofree char *found = g_find_program_in_path(path);

    if (!found) {
        hand_over_block(tail, NULL, "'%s' is not a program", path);
    }
}

HandOverCheck *qmp_migrate_protected_vm(bool has_exec, strList *exec,
                                        const char *uri, bool has_check_only,
                                        bool check_only, bool has_on_success,
                                        HandOverOnSuccess on_success,
                                        bool has_timeout, uint32_t timeout,
                                        bool has_downtime_limit,
                                        uint32_t downtime_limit, Error **errp)
{
    int64_t start_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    g_autoptr(HandOverCheck) check = g_new0(HandOverCheck, 1);
    HandOverBlockerList **tail = &check->blockers;
    g_autoptr(SocketAddress) addr = NULL;
    g_autoptr(QIOChannelSocket) sioc = NULL;
    g_autofree char *path = NULL;
    g_auto(GStrv) argv = NULL;
    bool own_argv = !has_exec && !uri;
    HandOverChild *child = NULL;

    if (has_exec && uri) {
        error_setg(errp, "'exec' and 'uri' can't be used together");
        return NULL;
    }
    if (has_exec && !exec) {
        error_setg(errp, "'exec' is empty, expected a program and its "
                   "arguments");
        return NULL;
    }
    if (has_timeout && !timeout) {
        error_setg(errp, "'timeout' is 0, expected milliseconds");
        return NULL;
    }
    if (has_downtime_limit && !downtime_limit) {
        error_setg(errp, "'downtime-limit' is 0, expected milliseconds");
        return NULL;
    }
    if (uri) {
        addr = parse_uri(uri, errp);
        if (!addr) {
            return NULL;
        }
    } else if (!source_argv(own_argv, exec, &path, &argv, errp)) {
        return NULL;
    }

    hand_over_check_guest(&tail);
    if (uri) {
        check_socket(addr->u.q_unix.path, &tail);
    } else {
        check_program(path, &tail);
        hand_over_check_exec(own_argv, &tail);
    }
    if (has_check_only && check_only) {
        return g_steal_pointer(&check);
    }
    if (hand_over_blockers_to_error(check->blockers, errp)) {
        return NULL;
    }

    if (uri) {
        sioc = connect_at_once(&addr->u.q_unix, errp);
        if (!sioc) {
            return NULL;
        }
    } else {
        child = hand_over_child_start(path, argv, errp);
        if (!child) {
            return NULL;
        }
        sioc = child->ioc;
        object_ref(OBJECT(sioc));
    }

    if (!hand_over_begin(child, sioc,
                         has_on_success ? on_success
                                        : HAND_OVER_ON_SUCCESS_QUIT,
                         has_timeout ? timeout : HAND_OVER_TIMEOUT_MS,
                         has_downtime_limit ? downtime_limit
                                            : HAND_OVER_DOWNTIME_MS,
                         own_argv, start_ns, errp)) {
        if (child) {
            g_free(hand_over_child_kill(child));
            hand_over_child_free(child);
        }
        return NULL;
    }
    return g_steal_pointer(&check);
}

/*
 * HMP.  The destination is a single argument: a command line to start, or
 * "unix:PATH" to connect to.
 */
typedef struct HMPHandOverStatus {
    QEMUTimer *timer;
    Monitor *mon;
} HMPHandOverStatus;

/* As for "migrate": the monitor resumes when it is over */
static void hmp_hand_over_status(void *opaque)
{
    HMPHandOverStatus *status = opaque;
    g_autoptr(MigrationInfo) info = qmp_query_migrate(NULL);

    if (info->status == MIGRATION_STATUS_SETUP ||
        info->status == MIGRATION_STATUS_ACTIVE ||
        info->status == MIGRATION_STATUS_PRE_SWITCHOVER ||
        info->status == MIGRATION_STATUS_DEVICE ||
        info->status == MIGRATION_STATUS_CANCELLING) {
        timer_mod(status->timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + 100);
        return;
    }
    if (info->status != MIGRATION_STATUS_COMPLETED) {
        monitor_printf(status->mon, "hand-over %s%s%s\n",
                       MigrationStatus_str(info->status),
                       info->error_desc ? ": " : "",
                       info->error_desc ? info->error_desc : "");
    }
    monitor_resume(status->mon);
    timer_free(status->timer);
    g_free(status);
}

void hmp_migrate_protected_vm(Monitor *mon, const QDict *qdict)
{
    bool detach = qdict_get_try_bool(qdict, "detach", false);
    bool check_only = qdict_get_try_bool(qdict, "check", false);
    bool stay = qdict_get_try_bool(qdict, "stay", false);
    const char *where = qdict_get_try_str(qdict, "where");
    const char *uri = where && strstart(where, "unix:", NULL) ? where : NULL;
    g_autoptr(HandOverCheck) check = NULL;
    g_autoptr(strList) exec = NULL;
    g_autoptr(GError) gerr = NULL;
    g_auto(GStrv) argv = NULL;
    Error *err = NULL;

    if (where && !uri) {
        strList **tail = &exec;

        if (!g_shell_parse_argv(where, NULL, &argv, &gerr)) {
            monitor_printf(mon, "Error: %s\n", gerr->message);
            return;
        }
        for (char **arg = argv; *arg; arg++) {
            QAPI_LIST_APPEND(tail, g_strdup(*arg));
        }
    }

    check = qmp_migrate_protected_vm(exec != NULL, exec, uri, true, check_only,
                                     true, stay ? HAND_OVER_ON_SUCCESS_STAY
                                                : HAND_OVER_ON_SUCCESS_QUIT,
                                     false, 0, false, 0, &err);
    if (hmp_handle_error(mon, err)) {
        return;
    }
    if (check_only) {
        if (!check->blockers) {
            monitor_printf(mon, "nothing prevents a hand-over\n");
        }
        for (HandOverBlockerList *l = check->blockers; l; l = l->next) {
            monitor_printf(mon, "%s%s%s%s\n", l->value->reason,
                           l->value->option ? " [" : "",
                           l->value->option ? l->value->option : "",
                           l->value->option ? "]" : "");
        }
        return;
    }
    if (!detach) {
        HMPHandOverStatus *status;

        if (monitor_suspend(mon) < 0) {
            monitor_printf(mon, "terminal does not allow synchronous "
                           "migration, continuing detached\n");
            return;
        }
        status = g_new0(HMPHandOverStatus, 1);
        status->mon = mon;
        status->timer = timer_new_ms(QEMU_CLOCK_REALTIME, hmp_hand_over_status,
                                     status);
        timer_mod(status->timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME));
    }
}

void hand_over_info_print(Monitor *mon, const HandOverInfo *info)
{
    monitor_printf(mon, "hand-over stage: %s\n",
                   HandOverStage_str(info->stage));
    if (info->has_peer_pid) {
        monitor_printf(mon, "hand-over peer: process %" PRId64 "\n",
                       info->peer_pid);
    }
#define STEP(name) do { \
        if (info->has_##name##_us) { \
            monitor_printf(mon, "hand-over " #name ": %" PRIu64 " us\n", \
                           info->name##_us); \
        } \
    } while (0)
    STEP(connect);
    STEP(offer);
    STEP(stop);
    STEP(save);
    STEP(load);
    STEP(commit);
    STEP(blackout);
    STEP(total);
#undef STEP
    if (info->has_device_state_bytes) {
        monitor_printf(mon, "hand-over device state: %" PRIu64 " bytes\n",
                       info->device_state_bytes);
    }
}
