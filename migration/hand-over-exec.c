/*
 * Hand-over: start the new QEMU
 *
 * This includes passing on what it inherits: the second half of this file runs
 * in the new QEMU, while it initialises.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <spawn.h>
#include <sys/wait.h>
#include <glib-unix.h>
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/hand-over-resource.h"
#include "qemu/main-loop.h"
#include "qemu/sockets.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "system/system.h"
#include "hand-over-argv.h"
#include "hand-over-exec.h"
#include "pidfd.h"
#include "trace.h"

/*
 * The working directory in which this process was started: relative names on
 * its command line refer to it, even if a daemon has changed its directory.
 */
static char *start_dir;

static void __attribute__((constructor)) start_dir_init(void)
{
    start_dir = g_get_current_dir();
}

/* How much of the child's standard error is kept for messages, in bytes */
#define TAIL_MAX 1024

/* Does @number occur anywhere in @argv? */
static bool argv_names(char **argv, int number)
{
    for (; *argv; argv++) {
        const char *p = *argv;
        uint64_t n;

        while (hand_over_next_number(&p, &n)) {
            if (n == number) {
                return true;
            }
        }
    }
    return false;
}

/* The child's number for its end of the socket: one that @argv does not name */
static int child_socket(char **argv)
{
    int number = STDERR_FILENO + 1;

    while (argv_names(argv, number)) {
        number++;
    }
    return number;
}

/* Returns an errno, like posix_spawn*() */
static int child_spawn(const char *path, char **argv, int sock, int number,
                       int err_fd, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t signals;
    int ret;

    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);

    ret = posix_spawn_file_actions_adddup2(&actions, err_fd, STDERR_FILENO);
    if (!ret) {
        ret = posix_spawn_file_actions_adddup2(&actions, sock, number);
    }
    if (!ret) {
        ret = posix_spawn_file_actions_addchdir_np(&actions, start_dir);
    }
#ifdef CONFIG_POSIX_SPAWN_CLOSEFROM
    /* The guest's descriptors must not get there except by the protocol */
    for (int fd = STDERR_FILENO + 1; !ret && fd < number; fd++) {
        ret = posix_spawn_file_actions_addclose(&actions, fd);
    }
    if (!ret) {
        ret = posix_spawn_file_actions_addclosefrom_np(&actions, number + 1);
    }
#endif
    /* This thread blocks signals that the new QEMU has to receive */
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attr, &signals);
    sigfillset(&signals);
    posix_spawnattr_setsigdefault(&attr, &signals);
    /* A ^C for this process is not meant for the new one */
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK |
                                    POSIX_SPAWN_SETSIGDEF |
                                    POSIX_SPAWN_SETPGROUP);
    if (!ret) {
        ret = posix_spawnp(pid, path, &actions, &attr, argv, environ);
    }
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    return ret;
}

/* Replace @fd (which is closed) by a duplicate above the child's @number */
static int fd_move_up(int fd, int number)
{
    int up = fcntl(fd, F_DUPFD_CLOEXEC, number + 1);

    close(fd);
    return up;
}

HandOverChild *hand_over_child_start(const char *path, char **argv,
                                     Error **errp)
{
    g_autoptr(GPtrArray) child_argv = g_ptr_array_new();
    g_autoptr(QIOChannelSocket) sioc = NULL;
    int number = child_socket(argv);
    g_autofree char *incoming = g_strdup_printf("hand-over:%d", number);
    HandOverChild *child;
    int socks[2], pipes[2];
    struct sigaction act;
    pid_t pid;
    int pidfd;
    int ret;

    while (*argv) {
        g_ptr_array_add(child_argv, *argv++);
    }
    g_ptr_array_add(child_argv, (char *)"-incoming");
    g_ptr_array_add(child_argv, incoming);
    g_ptr_array_add(child_argv, NULL);

    if (qemu_socketpair(AF_UNIX, SOCK_STREAM, 0, socks) < 0) {
        error_setg_errno(errp, errno, "cannot create a socket pair");
        return NULL;
    }
    sioc = qio_channel_socket_new_fd(socks[0], errp);
    if (!sioc) {
        close(socks[0]);
        close(socks[1]);
        return NULL;
    }
    if (!g_unix_open_pipe(pipes, FD_CLOEXEC, NULL)) {
        error_setg_errno(errp, errno, "cannot create a pipe");
        close(socks[1]);
        return NULL;
    }
    g_unix_set_fd_nonblocking(pipes[0], true, NULL);
    socks[1] = fd_move_up(socks[1], number);
    pipes[1] = fd_move_up(pipes[1], number);

    /*
     * A child that has exited keeps its process ID until it is reaped, unless
     * this process was started with SIGCHLD ignored: see wait(2)
     */
    if (sigaction(SIGCHLD, NULL, &act) == 0 &&
        (act.sa_handler == SIG_IGN || (act.sa_flags & SA_NOCLDWAIT))) {
        act = (struct sigaction) { .sa_handler = SIG_DFL };
        sigaction(SIGCHLD, &act, NULL);
    }

    ret = child_spawn(path, (char **)child_argv->pdata, socks[1], number,
                      pipes[1], &pid);
    close(socks[1]);
    close(pipes[1]);
    if (ret) {
        error_setg_errno(errp, ret, "cannot start '%s'", path);
        close(pipes[0]);
        return NULL;
    }
    pidfd = pidfd_from_pid(pid);
    if (pidfd < 0) {
        error_setg_errno(errp, errno, "cannot get a descriptor of the new "
                         "QEMU's process (pidfd_open)");
        kill(pid, SIGKILL);
        RETRY_ON_EINTR(waitpid(pid, NULL, 0));
        close(pipes[0]);
        return NULL;
    }
    trace_hand_over_child_start(path, pid);

    child = g_new0(HandOverChild, 1);
    child->pid = pid;
    child->pidfd = pidfd;
    child->ioc = g_steal_pointer(&sioc);
    child->err_fd = pipes[0];
    child->tail = g_string_new(NULL);
    return child;
}

/* True while there may be more */
static bool child_relay_err(HandOverChild *child)
{
    char buf[512];
    ssize_t len = RETRY_ON_EINTR(read(child->err_fd, buf, sizeof(buf)));

    if (len < 0 && errno == EAGAIN) {
        return false;
    }
    if (len <= 0) {
        close(child->err_fd);
        child->err_fd = -1;
        return false;
    }
    if (qemu_write_full(STDERR_FILENO, buf, len) != len) {
        /* there is nowhere to report this */
    }
    g_string_append_len(child->tail, buf, len);
    if (child->tail->len > TAIL_MAX) {
        g_string_erase(child->tail, 0, child->tail->len - TAIL_MAX);
    }
    return true;
}

void hand_over_child_wait(HandOverChild *child, int fd, int64_t deadline)
{
    while (child->err_fd >= 0) {
        GPollFD pfds[] = {
            { .fd = fd, .events = G_IO_IN | G_IO_HUP | G_IO_ERR },
            { .fd = child->err_fd, .events = G_IO_IN | G_IO_HUP },
        };
        int64_t left = deadline - qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
        int ret = qemu_poll_ns(pfds, ARRAY_SIZE(pfds), MAX(left, 0));

        if (ret < 0 && errno == EINTR) {
            continue;
        }
        if (pfds[1].revents) {
            child_relay_err(child);
        }
        if (ret <= 0 || pfds[0].revents) {
            return;
        }
    }
}

void hand_over_child_close_err(HandOverChild *child)
{
    while (child->err_fd >= 0 && child_relay_err(child)) {
        /* until it is empty */
    }
    if (child->err_fd >= 0) {
        close(child->err_fd);
        child->err_fd = -1;
    }
}

char *hand_over_child_kill(HandOverChild *child)
{
    pid_t pid, ret;
    int status;

    if (!child->pid) {
        return NULL;
    }
    trace_hand_over_child_kill(child->pid);
    if (child->pidfd >= 0) {
        pidfd_kill(child->pidfd);
        close(child->pidfd);
        child->pidfd = -1;
    }
    ret = RETRY_ON_EINTR(waitpid(child->pid, &status, 0));
    /* reaped, or not ours: from here on another process may have that ID */
    pid = child->pid;
    child->pid = 0;
    hand_over_child_close_err(child);
    if (ret != pid) {
        return NULL;
    }

    if (WIFEXITED(status)) {
        return g_strdup_printf("exited with status %d", WEXITSTATUS(status));
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) {
        return g_strdup_printf("was ended by signal %d (%s)",
                               WTERMSIG(status), strsignal(WTERMSIG(status)));
    }
    return NULL;
}

void hand_over_child_free(HandOverChild *child)
{
    if (child) {
        if (child->err_fd >= 0) {
            close(child->err_fd);
        }
        if (child->pidfd >= 0) {
            close(child->pidfd);
        }
        object_unref(OBJECT(child->ioc));
        g_string_free(child->tail, true);
        g_free(child);
    }
}

bool hand_over_child_send_inheritance(HandOverWire *wire, Error **errp)
{
    HandOverMessage msg = { .type = HAND_OVER_MESSAGE_TYPE_INHERIT };
    GArray *listeners;
    bool ok;

    bql_lock();
    listeners = hand_over_listeners_collect();
    bql_unlock();
    msg.u.inherit.listeners = listeners->len;
    ok = hand_over_send(wire, &msg, STDERR_FILENO, errp);

    for (guint i = 0; ok && i < listeners->len; i++) {
        HandOverListening *l = &g_array_index(listeners, HandOverListening, i);

        msg.type = HAND_OVER_MESSAGE_TYPE_LISTENER;
        msg.u.listener = (HandOverListener) {
            .fd = l->number,
            .nonblock = fcntl(l->fd, F_GETFL) & O_NONBLOCK,
        };
        ok = hand_over_send(wire, &msg, l->fd, errp);
    }
    g_array_unref(listeners);
    return ok;
}

/*
 * In the QEMU that was started
 */

/* The standard error of the QEMU that has started this one; -1: keep our own */
static int source_stderr = -1;

/*
 * The process that has started this one with this command line has full control
 * of it anyway: there is no need to check the peer's credentials on @sock.
 * Returns its number, which may have changed.
 */
static int inherit(int sock)
{
    g_autoptr(QIOChannelSocket) sioc = NULL;
    g_autoptr(HandOverWire) wire = NULL;
    g_autoptr(HandOverMessage) msg = NULL;
    int fd;

    /* @sock itself stays open for the migration proper */
    fd = qemu_dup(sock);
    if (fd < 0) {
        error_report("-incoming hand-over:%d: not an open descriptor", sock);
        exit(1);
    }
    qemu_set_cloexec(sock);
    sioc = qio_channel_socket_new_fd(fd, &error_fatal);
    wire = hand_over_wire_new(QIO_CHANNEL(sioc), "source");

    msg = hand_over_recv(wire, HAND_OVER_MESSAGE_TYPE_INHERIT, -1,
                         &source_stderr, NULL, &error_fatal);
    hand_over_inherit_begin();
    for (uint32_t i = 0; i < msg->u.inherit.listeners; i++) {
        g_autoptr(HandOverMessage) listener = NULL;

        listener = hand_over_recv(wire, HAND_OVER_MESSAGE_TYPE_LISTENER, -1,
                                  &fd, NULL, &error_fatal);
        if (listener->u.listener.nonblock) {
            /* QIOChannelSocket has reset O_NONBLOCK, for the source as well */
            qemu_socket_set_nonblock(fd);
        }
        hand_over_inherit_listener(fd, listener->u.listener.fd);
    }
    hand_over_inherit_numbers(&sock);
    return sock;
}

void hand_over_incoming_early(char **argv)
{
    guint n = g_strv_length(argv);

    /* where hand_over_child_start() puts it */
    if (n > 2 && strstart(argv[n - 1], "hand-over:", NULL)) {
        hand_over_inherit_reserve(argv);
    }
}

const char *hand_over_incoming_option(const char *str)
{
    const char *number;
    int fd;

    if (!strstart(str, "hand-over:", &number)) {
        return str;
    }
    if (qemu_strtoi(number, NULL, 10, &fd) < 0 || fd < 0) {
        error_report("-incoming %s: expected hand-over:FD, FD being the "
                     "number of a socket", str);
        exit(1);
    }
    return g_strdup_printf("fd:%d", inherit(fd));
}

void hand_over_child_take_stderr(void)
{
    if (source_stderr >= 0) {
        dup2(source_stderr, STDERR_FILENO);
        close(source_stderr);
        source_stderr = -1;
    }
}
