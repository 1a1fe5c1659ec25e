/*
 * Hand-over of a guest between two QEMUs, and what becomes of it when
 * something fails
 *
 * The test starts both, and stands between them: the source connects to the
 * test's socket, the test connects to the destination's, and passes on what
 * they say to each other, descriptors included.  So it can stop the exchange
 * before any message, and there kill, refuse or cancel.
 *
 * The guest is a ROM of a few bytes that counts in RAM; there is another one that
 * resets itself all the time.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>
#include "qemu/bswap.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"
#include "libqmp.h"

#define COUNTER 0x8000
#define BOOTS   0x8004          /* how often the guest was reset, and 1 */
#define LOOP    0xf0005         /* where it counts */

/* As migration/hand-over-wire.h has it */
#define MAGIC 0x51484f56
#define HEADER_SIZE 12

static char *tmpdir;
static const char *qemu_binary;

/*
 * A QEMU
 */

typedef struct Vm {
    pid_t pid;
    int qmp;            /* connected monitor */
} Vm;

static int connect_unix(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(strlen(path), <, sizeof(addr.sun_path));
    strcpy(addr.sun_path, path);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int listen_unix(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    strcpy(addr.sun_path, path);
    unlink(path);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    return fd;
}

static char *tmp_path(const char *name)
{
    return g_strdup_printf("%s/%s", tmpdir, name);
}

/* A test that fails must not leave it behind */
static void vm_child_setup(void *opaque)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static QDict *vm_command(Vm *vm, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* The monitor is a socket that this process listens on: nothing to wait for */
static void vm_start(Vm *vm, const char *name, const char *extra)
{
    g_autofree char *qmp_path = g_strdup_printf("%s/%s.qmp", tmpdir, name);
    g_autofree char *rom = tmp_path("rom");
    g_autofree char *cmdline = g_strdup_printf(
        "%s -nodefaults -display none -accel tcg -bios %s "
        "-chardev socket,id=qmp,path=%s -mon qmp,mode=control %s",
        qemu_binary, rom, qmp_path, extra);
    int listener = listen_unix(qmp_path);
    g_auto(GStrv) argv = NULL;
    GError *err = NULL;
    QDict *resp;

    g_shell_parse_argv(cmdline, NULL, &argv, &err);
    g_assert_no_error(err);
    g_spawn_async(NULL, argv, NULL,
                  G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD |
                  (getenv("QTEST_LOG") ? 0 : G_SPAWN_STDERR_TO_DEV_NULL),
                  vm_child_setup, NULL, &vm->pid, &err);
    g_assert_no_error(err);

    vm->qmp = accept(listener, NULL, NULL);
    g_assert_cmpint(vm->qmp, >=, 0);
    close(listener);

    resp = qmp_fd_receive(vm->qmp);
    g_assert(qdict_haskey(resp, "QMP"));
    qobject_unref(resp);
    /* (events may come before it is answered) */
    qobject_unref(vm_command(vm, "{'execute': 'qmp_capabilities'}"));
}

/* What a command returns, or its whole response where that is an error */
static QDict *vm_command(Vm *vm, const char *fmt, ...)
{
    va_list ap;
    QDict *resp;

    va_start(ap, fmt);
    qmp_fd_vsend(vm->qmp, fmt, ap);
    va_end(ap);
    for (;;) {
        resp = qmp_fd_receive(vm->qmp);
        if (!qdict_haskey(resp, "event")) {
            break;
        }
        qobject_unref(resp);
    }
    if (qdict_haskey(resp, "return") && qdict_get_qdict(resp, "return")) {
        QDict *ret = qdict_get_qdict(resp, "return");

        qobject_ref(ret);
        qobject_unref(resp);
        return ret;
    }
    return resp;
}

static bool vm_is_running(Vm *vm)
{
    QDict *status = vm_command(vm, "{'execute': 'query-status'}");
    bool running = qdict_get_bool(status, "running");

    qobject_unref(status);
    return running;
}

/* What the human monitor says to @line, to be freed with g_free() */
static char *vm_hmp(Vm *vm, const char *line)
{
    QDict *resp = vm_command(vm, "{'execute': 'human-monitor-command',"
                             " 'arguments': {'command-line': %s}}", line);
    char *text = g_strdup(qdict_get_str(resp, "return"));

    qobject_unref(resp);
    return text;
}

static uint32_t vm_word(Vm *vm, unsigned address)
{
    g_autofree char *line = g_strdup_printf("xp /1wx 0x%x", address);
    g_autofree char *text = vm_hmp(vm, line);

    return g_ascii_strtoull(strstr(text, ": ") + 2, NULL, 16);
}

static uint32_t vm_counter(Vm *vm)
{
    return vm_word(vm, COUNTER);
}

static bool vm_is_in_state(Vm *vm, const char *state)
{
    QDict *status = vm_command(vm, "{'execute': 'query-status'}");
    bool is = !strcmp(qdict_get_str(status, "status"), state);

    qobject_unref(status);
    return is;
}

static void vm_wait_state(Vm *vm, const char *state)
{
    while (!vm_is_in_state(vm, state)) {
        /* as below */
    }
}

static void vm_wait_running(Vm *vm)
{
    while (!vm_is_running(vm)) {
        /* each turn is a round trip to QEMU's main loop */
    }
}

/* The guest makes progress there: waits until it does */
static void vm_assert_counts(Vm *vm)
{
    uint32_t before = vm_counter(vm);

    /* a migration has failed before the guest is started again */
    vm_wait_running(vm);
    while (vm_counter(vm) == before) {
        /* each turn asks QEMU, and gives the guest time to run */
    }
}

static void vm_assert_stands_still(Vm *vm)
{
    uint32_t before = vm_counter(vm);

    g_assert_false(vm_is_running(vm));
    g_assert_cmpuint(vm_counter(vm), ==, before);
}

static char *vm_migration_status(Vm *vm)
{
    QDict *resp = vm_command(vm, "{'execute': 'query-migrate'}");
    char *status = g_strdup(qdict_get_str(resp, "status"));

    qobject_unref(resp);
    return status;
}

/* Wait for the end of a migration; its status */
static char *vm_wait_migration(Vm *vm)
{
    for (;;) {
        char *now = vm_migration_status(vm);

        if (!strcmp(now, "completed") || !strcmp(now, "failed") ||
            !strcmp(now, "cancelled")) {
            return now;
        }
        g_free(now);
    }
}

/*
 * A destination with -incoming defer waits for a migration, at a UNIX socket or a
 * TCP port; its URI
 */
static char *vm_listen(Vm *vm, bool tcp, bool exit_on_error)
{
    g_autofree char *path = tmp_path("incoming");
    char *uri = tcp ? g_strdup("tcp:127.0.0.1:0")
                    : g_strdup_printf("unix:%s", path);
    QDict *resp = vm_command(vm, "{'execute': 'migrate-incoming',"
                             " 'arguments': {'uri': %s,"
                             " 'exit-on-error': %i}}", uri, exit_on_error);

    g_assert_false(qdict_haskey(resp, "error"));
    qobject_unref(resp);
    if (tcp) {
        QDict *address;

        resp = vm_command(vm, "{'execute': 'query-migrate'}");
        address = qobject_to(QDict, qlist_peek(qdict_get_qlist(resp,
                                                   "socket-address")));
        g_free(uri);
        uri = g_strdup_printf("tcp:127.0.0.1:%s",
                              qdict_get_str(address, "port"));
        qobject_unref(resp);
    }
    return uri;
}

static char *vm_migration_error(Vm *vm)
{
    QDict *resp = vm_command(vm, "{'execute': 'query-migrate'}");
    char *desc = g_strdup(qdict_get_try_str(resp, "error-desc"));

    qobject_unref(resp);
    return desc;
}

/* Wait until it has ended by itself; its exit status */
static int vm_wait_exit(Vm *vm)
{
    int status;

    g_assert_cmpint(waitpid(vm->pid, &status, 0), ==, vm->pid);
    close(vm->qmp);
    vm->pid = 0;
    return status;
}

static void vm_kill(Vm *vm)
{
    if (vm->pid) {
        kill(vm->pid, SIGKILL);
        vm_wait_exit(vm);
    }
}

static unsigned vm_descriptors(Vm *vm)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", vm->pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    unsigned n = 0;

    g_assert_nonnull(dir);
    while (g_dir_read_name(dir)) {
        n++;
    }
    return n;
}

/*
 * What stands between them
 */

typedef enum Action {
    PASS,               /* do nothing */
    KILL_SOURCE,
    KILL_DESTINATION,
    QUIT_SOURCE,        /* it ends in order */
    REFUSE,             /* tell the source that the destination refuses */
    GIVE_UP,            /* close the connection to both, kill nobody */
    CANCEL,
    GARBAGE,            /* bytes that are no message, to the receiver */
    CUT,                /* half of the message, then close */
    NO_DESCRIPTOR,      /* leave out the descriptor that goes with it */
    TWO_DESCRIPTORS,
    NO_MEMORY,          /* a descriptor of something else */
    SMALL_MEMORY,       /* of memory that is too small */
    READ_ONLY_MEMORY,   /* of memory that can't be written to */
} Action;

typedef struct Proxy {
    const char *at;     /* before which message */
    bool from_source;
    Action action;

    int listener;
    char *to;           /* path of the destination's socket */
    int fd[2];          /* source, destination */
    int reached[2], go[2];  /* pipes */
    bool greeted;       /* both speak the newest version */
    bool streaming;     /* the source sends a migration stream */
    GThread *thread;
} Proxy;

typedef struct Message {
    GByteArray *bytes;
    int fds[8];
    size_t nfds;
} Message;

static bool read_exactly(int fd, uint8_t *buf, size_t len, Message *msg)
{
    while (len) {
        char control[CMSG_SPACE(sizeof(msg->fds))];
        struct iovec iov = { .iov_base = buf, .iov_len = len };
        struct msghdr hdr = {
            .msg_iov = &iov, .msg_iovlen = 1,
            .msg_control = control, .msg_controllen = sizeof(control),
        };
        ssize_t ret = recvmsg(fd, &hdr, MSG_CMSG_CLOEXEC);
        struct cmsghdr *cmsg = ret > 0 ? CMSG_FIRSTHDR(&hdr) : NULL;

        if (ret <= 0) {
            return false;
        }
        if (cmsg) {
            size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

            g_assert_cmpint(msg->nfds + n, <=, ARRAY_SIZE(msg->fds));
            memcpy(msg->fds + msg->nfds, CMSG_DATA(cmsg), n * sizeof(int));
            msg->nfds += n;
        }
        buf += ret;
        len -= ret;
    }
    return true;
}

static bool message_read(int fd, Message *msg)
{
    uint8_t header[HEADER_SIZE];
    uint32_t len;

    *msg = (Message) { .bytes = g_byte_array_new() };
    if (!read_exactly(fd, header, sizeof(header), msg)) {
        return false;
    }
    g_assert_cmphex(ldl_be_p(header), ==, MAGIC);
    len = ldl_be_p(header + 8);
    g_byte_array_append(msg->bytes, header, sizeof(header));
    g_byte_array_set_size(msg->bytes, sizeof(header) + len + 1);
    msg->bytes->data[sizeof(header) + len] = '\0';
    if (!read_exactly(fd, msg->bytes->data + sizeof(header), len, msg)) {
        return false;
    }
    return true;
}

static char *message_type(const Message *msg)
{
    QDict *body = qobject_to(QDict,
        qobject_from_json((char *)msg->bytes->data + HEADER_SIZE,
                          &error_abort));
    char *type = g_strdup(qdict_get_str(body, "type"));

    qobject_unref(body);
    return type;
}

static void send_bytes(int fd, const void *buf, size_t len, const int *fds,
                       size_t nfds)
{
    char control[CMSG_SPACE(sizeof(int) * 8)] = {};
    struct iovec iov = { .iov_base = (void *)buf, .iov_len = len };
    struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
    ssize_t ret;

    if (nfds) {
        struct cmsghdr *cmsg;

        hdr.msg_control = control;
        hdr.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
        cmsg = CMSG_FIRSTHDR(&hdr);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
        memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * nfds);
    }
    while (iov.iov_len) {
        ret = sendmsg(fd, &hdr, MSG_NOSIGNAL);
        if (ret < 0) {
            return; /* the peer has gone: the test knows */
        }
        iov.iov_base += ret;
        iov.iov_len -= ret;
        hdr.msg_control = NULL;
        hdr.msg_controllen = 0;
    }
}

static void send_text(int fd, uint16_t version, const char *json)
{
    g_autofree uint8_t *buf = g_malloc(HEADER_SIZE + strlen(json));

    stl_be_p(buf, MAGIC);
    stw_be_p(buf + 4, version);
    stw_be_p(buf + 6, 0);
    stl_be_p(buf + 8, strlen(json));
    memcpy(buf + HEADER_SIZE, json, strlen(json));
    send_bytes(fd, buf, HEADER_SIZE + strlen(json), NULL, 0);
}

static void message_clear(Message *msg)
{
    for (size_t i = 0; i < msg->nfds; i++) {
        close(msg->fds[i]);
    }
    g_byte_array_unref(msg->bytes);
}

/* Stop here until the test says go */
static void proxy_hold(Proxy *p)
{
    char c = 0;

    g_assert_cmpint(write(p->reached[1], &c, 1), ==, 1);
    g_assert_cmpint(read(p->go[0], &c, 1), ==, 1);
}

static void proxy_close(Proxy *p)
{
    for (int i = 0; i < 2; i++) {
        if (p->fd[i] >= 0) {
            close(p->fd[i]);
            p->fd[i] = -1;
        }
    }
}

/* Let another descriptor, which is closed here, go with the message */
static void message_replace_fd(Message *msg, int fd)
{
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(msg->nfds, ==, 1);
    close(msg->fds[0]);
    msg->fds[0] = fd;
}

/* True: the exchange goes on */
static bool proxy_act(Proxy *p, Message *msg, int to)
{
    g_autofree char *path = NULL;

    proxy_hold(p);
    switch (p->action) {
    case NO_DESCRIPTOR:
        close(msg->fds[--msg->nfds]);
        return true;
    case TWO_DESCRIPTORS:
        msg->fds[msg->nfds++] = dup(STDIN_FILENO);
        return true;
    case NO_MEMORY:
        message_replace_fd(msg, open("/dev/null", O_RDWR));
        return true;
    case SMALL_MEMORY:
        message_replace_fd(msg, memfd_create("small", MFD_CLOEXEC));
        return true;
    case READ_ONLY_MEMORY:
        path = g_strdup_printf("/proc/self/fd/%d", msg->fds[0]);
        message_replace_fd(msg, open(path, O_RDONLY));
        return true;
    case REFUSE:
        send_text(p->fd[0], p->greeted ? 3 : 1,
                  "{'type': 'refused', 'reason': 'by the test'}");
        break;
    case GARBAGE:
        send_bytes(to, "this is not one of the messages", 31, NULL, 0);
        break;
    case CUT:
        send_bytes(to, msg->bytes->data, (msg->bytes->len - 1) / 2, msg->fds,
                   msg->nfds);
        break;
    case GIVE_UP:
        break;
    case KILL_SOURCE:
        if (!p->streaming) {
            return true;
        }
        /* all of the stream may be on its way: see to it that it is not */
        break;
    default:
        return true;
    }
    /*
     * What comes back is read, so that nobody gets ECONNRESET, and what the
     * destination has to say reaches the source.
     */
    if (to == p->fd[0] || p->action == GIVE_UP || p->action == REFUSE) {
        shutdown(p->fd[0], SHUT_WR);
    }
    shutdown(p->fd[1], SHUT_WR);
    return false;
}

/* Pass on one message, or one piece of the stream, from side @from */
static bool proxy_pass(Proxy *p, int from)
{
    int to = p->fd[!from];
    Message msg;
    g_autofree char *type = NULL;
    bool ok = true;

    if (from == 0 && p->streaming) {
        uint8_t buf[4096];
        ssize_t len = recv(p->fd[0], buf, sizeof(buf), 0);

        if (len <= 0) {
            return false;
        }
        if (p->at && !strcmp(p->at, "stream")) {
            Message piece = { .bytes = g_byte_array_new() };

            g_byte_array_append(piece.bytes, buf, len);
            p->at = NULL;
            ok = proxy_act(p, &piece, to);
            g_byte_array_unref(piece.bytes);
        }
        if (ok) {
            send_bytes(to, buf, len, NULL, 0);
        }
        return ok;
    }

    if (!message_read(p->fd[from], &msg)) {
        message_clear(&msg);
        return false;
    }
    type = message_type(&msg);
    if (p->at && !strcmp(p->at, type) && p->from_source == (from == 0)) {
        p->at = NULL;
        ok = proxy_act(p, &msg, to);
    }
    if (ok) {
        send_bytes(to, msg.bytes->data, msg.bytes->len - 1, msg.fds, msg.nfds);
        if (!strcmp(type, "hello")) {
            p->greeted = from == 1;
        } else if (!strcmp(type, "adopted")) {
            p->streaming = true;
        } else if (!strcmp(type, "loaded")) {
            p->streaming = false;
        }
    }
    message_clear(&msg);
    return ok;
}

static void *proxy_thread(void *opaque)
{
    Proxy *p = opaque;
    struct pollfd pfd[2];
    bool open[2] = { true, true };

    p->fd[0] = accept(p->listener, NULL, NULL);
    g_assert_cmpint(p->fd[0], >=, 0);
    p->fd[1] = connect_unix(p->to);
    g_assert_cmpint(p->fd[1], >=, 0);

    while (open[0] || open[1]) {
        for (int i = 0; i < 2; i++) {
            pfd[i].fd = open[i] ? p->fd[i] : -1;
            pfd[i].events = POLLIN;
        }
        g_assert_cmpint(poll(pfd, 2, -1), >, 0);
        for (int i = 0; i < 2; i++) {
            if (open[i] && pfd[i].revents && !proxy_pass(p, i)) {
                /* as if there were one socket: closed is closed */
                open[i] = false;
                shutdown(p->fd[!i], SHUT_WR);
            }
        }
    }
    proxy_close(p);
    return NULL;
}

static void proxy_start(Proxy *p, const char *destination)
{
    g_autofree char *path = tmp_path("proxy");

    p->fd[0] = p->fd[1] = -1;
    p->to = g_strdup(destination);
    p->listener = listen_unix(path);
    g_assert_true(g_unix_open_pipe(p->reached, FD_CLOEXEC, NULL));
    g_assert_true(g_unix_open_pipe(p->go, FD_CLOEXEC, NULL));
    p->thread = g_thread_new("proxy", proxy_thread, p);
}

static void proxy_wait(Proxy *p)
{
    char c;

    g_assert_cmpint(read(p->reached[0], &c, 1), ==, 1);
}

static void proxy_go(Proxy *p)
{
    char c = 0;

    g_assert_cmpint(write(p->go[1], &c, 1), ==, 1);
}

static void proxy_end(Proxy *p)
{
    g_thread_join(p->thread);
    close(p->listener);
    for (int i = 0; i < 2; i++) {
        close(p->reached[i]);
        close(p->go[i]);
    }
    g_free(p->to);
}

/*
 * The cases
 */

typedef struct Case {
    const char *at;         /* before this message is passed on: */
    bool from_source;
    Action action;

    /* what is left */
    enum { SOURCE, DESTINATION, NOBODY } guest;
    const char *status;     /* of the source's migration, NULL: it is dead */
    const char *error;      /* part of its error-desc */
} Case;

static const Case cases[] = {
    { "none", true, PASS, DESTINATION, "completed" },

    { "hello", true, KILL_DESTINATION, SOURCE, "failed", "closed" },
    { "hello", false, KILL_DESTINATION, SOURCE, "failed", "closed" },
    { "offer", true, KILL_DESTINATION, SOURCE, "failed", "closed" },
    { "ram", true, KILL_DESTINATION, SOURCE, "failed", "closed" },
    { "adopted", false, KILL_DESTINATION, SOURCE, "failed" },
    { "stream", true, KILL_DESTINATION, SOURCE, "failed" },
    { "loaded", false, KILL_DESTINATION, SOURCE, "failed" },
    { "commit", true, KILL_DESTINATION, SOURCE, "failed", "closed" },

    { "hello", true, KILL_SOURCE, NOBODY },
    { "hello", false, KILL_SOURCE, NOBODY },
    { "offer", true, KILL_SOURCE, NOBODY },
    { "ram", true, KILL_SOURCE, NOBODY },
    { "adopted", false, KILL_SOURCE, NOBODY },
    { "stream", true, KILL_SOURCE, NOBODY },
    { "loaded", false, KILL_SOURCE, DESTINATION },
    /* who ends the source on purpose ends the guest, if that is there */
    { "hello", false, QUIT_SOURCE, NOBODY },
    { "adopted", false, QUIT_SOURCE, NOBODY },
    { "loaded", false, QUIT_SOURCE, NOBODY },
    { "commit", true, QUIT_SOURCE, DESTINATION },
    { "done", false, QUIT_SOURCE, DESTINATION },
    { "commit", true, KILL_SOURCE, DESTINATION },
    { "done", false, KILL_SOURCE, DESTINATION },

    { "hello", false, REFUSE, SOURCE, "failed", "gave up: by the test" },
    { "offer", true, REFUSE, SOURCE, "failed", "gave up: by the test" },
    { "ram", true, REFUSE, SOURCE, "failed", "gave up: by the test" },
    { "adopted", false, REFUSE, SOURCE, "failed", "gave up: by the test" },
    { "stream", true, REFUSE, SOURCE, "failed", "gave up: by the test" },
    { "loaded", false, REFUSE, SOURCE, "failed", "gave up: by the test" },
    { "commit", true, REFUSE, SOURCE, "failed", "gave up: by the test" },

    { "hello", true, CANCEL, SOURCE, "cancelled" },
    { "hello", false, CANCEL, SOURCE, "cancelled" },
    { "offer", true, CANCEL, SOURCE, "cancelled" },
    { "ram", true, CANCEL, SOURCE, "cancelled" },
    { "adopted", false, CANCEL, SOURCE, "cancelled" },
    { "stream", true, CANCEL, SOURCE, "cancelled" },
    { "loaded", false, CANCEL, SOURCE, "cancelled" },
    /* too late */
    { "commit", true, CANCEL, DESTINATION, "completed" },
    { "done", false, CANCEL, DESTINATION, "completed" },

    { "hello", false, GIVE_UP, SOURCE, "failed", "closed" },
    { "adopted", false, GIVE_UP, SOURCE, "failed", "closed" },
    { "stream", true, GIVE_UP, SOURCE, "failed" },

    { "hello", true, GARBAGE, SOURCE, "failed" },
    { "hello", false, GARBAGE, SOURCE, "failed", "magic" },
    { "offer", true, GARBAGE, SOURCE, "failed", "magic" },
    { "ram", true, GARBAGE, SOURCE, "failed", "magic" },
    { "adopted", false, GARBAGE, SOURCE, "failed", "magic" },
    { "stream", true, GARBAGE, SOURCE, "failed" },
    { "loaded", false, GARBAGE, SOURCE, "failed", "magic" },
    /* it has the guest, and its answer does not tell */
    { "done", false, GARBAGE, DESTINATION, "failed", "is not known" },
    { "done", false, CUT, DESTINATION, "failed", "is not known" },

    { "ram", true, NO_DESCRIPTOR, SOURCE, "failed",
      "came with 0 descriptors, it announced 1" },
    { "ram", true, TWO_DESCRIPTORS, SOURCE, "failed",
      "sent more descriptors than belong there" },
    { "ram", true, NO_MEMORY, SOURCE, "failed", "is not shareable memory" },
    { "ram", true, SMALL_MEMORY, SOURCE, "failed", "its memory ends at 0x0" },
    { "ram", true, READ_ONLY_MEMORY, SOURCE, "failed",
      "is not open for reading and writing" },
    { "hello", true, NO_MEMORY, SOURCE, "failed", "is no pidfd" },
    { "hello", false, NO_MEMORY, SOURCE, "failed", "is no pidfd" },

    { "hello", false, CUT, SOURCE, "failed", "in the middle of a message" },
    { "offer", true, CUT, SOURCE, "failed", "in the middle of a message" },
    { "ram", true, CUT, SOURCE, "failed", "in the middle of a message" },
    { "adopted", false, CUT, SOURCE, "failed", "in the middle of a message" },
    { "stream", true, CUT, SOURCE, "failed" },
};

static const char *const action_names[] = {
    [PASS] = "pass", [KILL_SOURCE] = "kill-source",
    [KILL_DESTINATION] = "kill-destination", [QUIT_SOURCE] = "quit-source",
    [REFUSE] = "refuse",
    [GIVE_UP] = "give-up", [CANCEL] = "cancel", [GARBAGE] = "garbage",
    [CUT] = "cut", [NO_DESCRIPTOR] = "no-descriptor",
    [TWO_DESCRIPTORS] = "two-descriptors", [NO_MEMORY] = "no-memory",
    [SMALL_MEMORY] = "small-memory", [READ_ONLY_MEMORY] = "read-only-memory",
};

#define MACHINE "-machine pc,hand-over=on -m 16"

static void start_pair(Vm *source, Vm *destination, const char *source_opts,
                       const char *destination_opts)
{
    g_autofree char *incoming = tmp_path("incoming");
    g_autofree char *opts = g_strdup_printf("%s -incoming unix:%s",
                                            destination_opts, incoming);

    vm_start(source, "source", source_opts);
    vm_start(destination, "destination", opts);
    vm_assert_counts(source);
}

static void hand_over(Vm *source, const char *to)
{
    g_autofree char *path = tmp_path(to);
    g_autofree char *uri = g_strdup_printf("unix:%s", path);
    QDict *resp = vm_command(source, "{'execute': 'migrate-protected-vm',"
                             " 'arguments': {'uri': %s,"
                             " 'on-success': 'stay',"
                             /* what a slow machine needs is not the question */
                             " 'downtime-limit': 60000}}", uri);

    g_assert_true(qdict_haskey(resp, "blockers"));
    qobject_unref(resp);
}

static void test_case(const void *opaque)
{
    const Case *c = opaque;
    g_autofree char *incoming = tmp_path("incoming");
    Proxy proxy = { .at = c->at, .from_source = c->from_source,
                    .action = c->action };
    Vm source, destination;
    unsigned descriptors;

    start_pair(&source, &destination, MACHINE, MACHINE);
    descriptors = vm_descriptors(&source);
    proxy_start(&proxy, incoming);
    hand_over(&source, "proxy");

    if (c->action != PASS) {
        proxy_wait(&proxy);
        switch (c->action) {
        case KILL_SOURCE:
            vm_kill(&source);
            break;
        case KILL_DESTINATION:
            vm_kill(&destination);
            break;
        case QUIT_SOURCE:
            qobject_unref(vm_command(&source, "{'execute': 'quit'}"));
            g_assert_cmpint(vm_wait_exit(&source), ==, 0);
            break;
        case CANCEL:
            qobject_unref(vm_command(&source,
                                     "{'execute': 'migrate_cancel'}"));
            break;
        default:
            break;
        }
        proxy_go(&proxy);
    }

    if (c->status) {
        g_autofree char *status = vm_wait_migration(&source);
        g_autofree char *error = vm_migration_error(&source);

        g_assert_cmpstr(status, ==, c->status);
        if (c->error) {
            g_assert_nonnull(error);
            g_assert_nonnull(strstr(error, c->error));
        }
    } else {
        g_assert_cmpint(source.pid, ==, 0);
    }

    if (c->guest == DESTINATION) {
        vm_wait_running(&destination);
        vm_assert_counts(&destination);
        if (source.pid) {
            QDict *resp;

            /* (its RAM is the other one's, and changes) */
            g_assert_false(vm_is_running(&source));
            /* nothing brings it back to life there */
            resp = vm_command(&source, "{'execute': 'cont'}");
            g_assert_true(qdict_haskey(resp, "error"));
            qobject_unref(resp);
            g_assert_false(vm_is_running(&source));
        }
    } else if (destination.pid) {
        g_assert_cmpint(vm_wait_exit(&destination), !=, 0);
    }
    proxy_end(&proxy);
    if (c->guest == SOURCE) {
        vm_assert_counts(&source);
        /* the last of it is cleaned up after the migration has ended */
        while (vm_descriptors(&source) != descriptors) {
            qobject_unref(vm_command(&source, "{'execute': 'query-status'}"));
        }
    }

    vm_kill(&source);
    vm_kill(&destination);
}

/* The source hands over to another destination, which is started */
static void hand_over_to_another(Vm *source, Vm *destination)
{
    g_autofree char *incoming = tmp_path("incoming");
    g_autofree char *opts = g_strdup_printf(MACHINE " -incoming unix:%s",
                                            incoming);
    g_autofree char *status = NULL;

    unlink(incoming);
    vm_start(destination, "destination", opts);
    hand_over(source, "incoming");
    status = vm_wait_migration(source);
    g_assert_cmpstr(status, ==, "completed");
}

/* The guest runs at the other one; and the end */
static void ends_running(Vm *source, Vm *destination)
{
    vm_wait_running(destination);
    vm_assert_counts(destination);
    vm_kill(source);
    vm_kill(destination);
}

/* After a failure the same source hands over to another destination */
static void test_again(void)
{
    Vm source, destination;
    g_autofree char *status = NULL;

    start_pair(&source, &destination, MACHINE,
               "-machine pc,hand-over=on -m 32");
    hand_over(&source, "incoming");
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "failed");
    vm_wait_exit(&destination);
    vm_assert_counts(&source);

    hand_over_to_another(&source, &destination);
    ends_running(&source, &destination);
}

/*
 * Destinations that are not the same machine
 */

typedef struct Mismatch {
    const char *name;
    const char *source;
    const char *destination;
    const char *error;
} Mismatch;

static const Mismatch mismatches[] = {
    { "ram-size", MACHINE, "-machine pc,hand-over=on -m 32",
      "RAM block 'pc.ram' has 0x1000000 bytes at the source, and 0x2000000" },
    { "ram-name", "-machine pc,hand-over=on,memory-backend=a "
                  "-object memory-backend-memfd,id=a,size=16M",
                  "-machine pc,hand-over=on,memory-backend=b "
                  "-object memory-backend-memfd,id=b,size=16M",
      "RAM block 'a' of the source does not exist here" },
    { "ram-count", MACHINE " -device VGA", MACHINE, "for which there is no" },
    { "machine", MACHINE, "-machine q35,hand-over=on -m 16",
      "the source's machine is" },
    { "cpus", MACHINE " -smp 1", MACHINE " -smp 2",
      "the source has 1 CPUs, there are 2 here" },
    { "device-missing", MACHINE " -device virtio-balloon", MACHINE,
      "for which there is no device here" },
    { "device-surplus", MACHINE, MACHINE " -device virtio-rng",
      "which the source does not have" },
};

static void test_mismatch(const void *opaque)
{
    const Mismatch *m = opaque;
    g_autofree char *status = NULL, *error = NULL;
    Vm source, destination;

    start_pair(&source, &destination, m->source, m->destination);
    hand_over(&source, "incoming");
    status = vm_wait_migration(&source);
    error = vm_migration_error(&source);
    g_assert_cmpstr(status, ==, "failed");
    g_assert_nonnull(error);
    if (!strstr(error, m->error)) {
        g_test_message("error-desc: %s", error);
        g_assert_not_reached();
    }
    vm_wait_exit(&destination);
    vm_assert_counts(&source);
    vm_kill(&source);
}

/*
 * Machines, memory and devices
 */

typedef struct Machine {
    const char *name;
    const char *options;
} Machine;

static const Machine machines[] = {
    { "q35", "-machine q35,hand-over=on -m 16" },
    { "smp-16", MACHINE " -smp 16" },
    { "memfd", "-machine pc,hand-over=on,memory-backend=a "
               "-object memory-backend-memfd,id=a,size=16M" },
    { "ram", "-machine pc,hand-over=on,memory-backend=a "
             "-object memory-backend-ram,id=a,size=16M" },
    { "prealloc", MACHINE " -mem-prealloc" },
    { "hot-plug-slots", "-machine pc,hand-over=on -m 16M,slots=2,maxmem=1G" },
    { "numa", "-machine pc,hand-over=on -m 32 -smp 2 "
              "-object memory-backend-ram,id=a,size=16M "
              "-object memory-backend-memfd,id=b,size=16M "
              "-numa node,memdev=a -numa node,memdev=b" },
    { "devices", MACHINE " -device VGA -device e1000 -device virtio-net "
                 "-device virtio-serial -device ich9-ahci "
                 "-device qemu-xhci "
                 "-device usb-tablet -device virtio-balloon "
                 "-device virtio-rng -device virtio-scsi "
                 "-drive if=none,id=d1,driver=null-co,read-zeroes=on "
                 "-device virtio-blk,drive=d1 "
                 "-drive if=none,id=d2,driver=null-co,read-zeroes=on "
                 "-drive if=none,id=d3,driver=null-co,read-zeroes=on "
                 "-device nvme,serial=1,drive=d2 "
                 "-device nvme,serial=2,id=n -device nvme-ns,drive=d3,bus=n" },
};

static void check_machine(const char *source_opts, const char *dest_opts)
{
    g_autofree char *status = NULL;
    Vm source, destination;

    start_pair(&source, &destination, source_opts, dest_opts);
    hand_over(&source, "incoming");
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "completed");
    vm_wait_running(&destination);
    vm_assert_counts(&destination);
    g_assert_false(vm_is_running(&source));
    vm_kill(&source);
    vm_assert_counts(&destination);
    vm_kill(&destination);
}

static void test_machine(const void *opaque)
{
    const Machine *m = opaque;

    check_machine(m->options, m->options);
}

static void test_memory_file(void)
{
    g_autofree char *path = tmp_path("ram");
    g_autofree char *opts = g_strdup_printf(
        "-machine pc,hand-over=on,memory-backend=a -object "
        "memory-backend-file,id=a,size=16M,mem-path=%s,share=on", path);

    check_machine(opts, opts);
    unlink(path);
}

/*
 * Two blocks of the same size are listed in the order in which they were made:
 * each must come to be where its name is
 */
static void test_memory_order(void)
{
    check_machine("-machine pc,hand-over=on -m 32 -smp 2 "
                  "-object memory-backend-ram,id=a,size=16M "
                  "-object memory-backend-ram,id=b,size=16M "
                  "-numa node,memdev=a -numa node,memdev=b",
                  "-machine pc,hand-over=on -m 32 -smp 2 "
                  "-object memory-backend-ram,id=b,size=16M "
                  "-object memory-backend-ram,id=a,size=16M "
                  "-numa node,memdev=a -numa node,memdev=b");
}

/* What nobody writes to is mapped by each side itself */
static void test_memory_read_only(void)
{
    g_autofree char *path = tmp_path("rom-file");
    g_autofree char *opts = g_strdup_printf(
        "-machine pc,hand-over=on,nvdimm=on -m 16M,slots=2,maxmem=1G -object "
        "memory-backend-file,id=a,size=2M,mem-path=%s,readonly=on -device "
        "nvdimm,memdev=a,unarmed=on", path);
    g_autofree char *content = g_malloc0(2 * 1024 * 1024);

    g_assert_true(g_file_set_contents(path, content, 2 * 1024 * 1024, NULL));
    check_machine(opts, opts);
    unlink(path);
}

/* The flags of the process's mapping of a file, from /proc/PID/smaps */
static char *vm_mapping_flags(Vm *vm, const char *file)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/smaps", vm->pid);
    g_autofree char *text = NULL;
    char *at;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    at = strstr(text, file);
    if (!at) {
        return NULL;
    }
    at = strstr(at, "\nVmFlags:");
    g_assert_nonnull(at);
    return g_strndup(at, strchr(at + 1, '\n') - at);
}

/*
 * An adopted mapping is what the options say, and the source has none at all
 * any more
 */
static void test_memory_mapping(void)
{
    g_autofree char *path = tmp_path("ram");
    g_autofree char *opts = g_strdup_printf(
        "-machine pc,hand-over=on,memory-backend=a -object "
        "memory-backend-file,id=a,size=16M,mem-path=%s,share=on,dump=off",
        path);
    g_autofree char *before = NULL, *after = NULL, *left = NULL;
    g_autofree char *status = NULL;
    int64_t end = g_get_monotonic_time() + 20 * G_TIME_SPAN_SECOND;
    Vm source, destination;

    start_pair(&source, &destination, opts, opts);
    before = vm_mapping_flags(&destination, path);
    g_assert_nonnull(strstr(before, " dd"));
    hand_over(&source, "incoming");
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "completed");
    vm_wait_running(&destination);
    after = vm_mapping_flags(&destination, path);
    g_assert_nonnull(strstr(after, " wr"));
    g_assert_nonnull(strstr(after, " dd"));
    g_assert_nonnull(strstr(after, " dc"));
    /* once the destination has used the guest, what was kept goes */
    do {
        g_free(left);
        vm_is_running(&source);
        left = vm_mapping_flags(&source, path);
    } while (left && g_get_monotonic_time() < end);
    g_assert_null(left);
    ends_running(&source, &destination);
    unlink(path);
}

/* A guest that stands still at the source does so at the destination */
static void test_paused(void)
{
    g_autofree char *status = NULL;
    Vm source, destination;

    start_pair(&source, &destination, MACHINE, MACHINE);
    qobject_unref(vm_command(&source, "{'execute': 'stop'}"));
    hand_over(&source, "incoming");
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "completed");
    vm_assert_stands_still(&destination);
    qobject_unref(vm_command(&destination, "{'execute': 'cont'}"));
    ends_running(&source, &destination);
}

/*
 * Destinations that have the guest, and do not run it (-S)
 */

static void vm_error(Vm *vm, const char *command, const char *words)
{
    QDict *resp = vm_command(vm, "{'execute': %s}", command);

    g_assert_true(qdict_haskey(resp, "error"));
    g_assert_nonnull(strstr(qdict_get_str(qdict_get_qdict(resp, "error"),
                                          "desc"), words));
    qobject_unref(resp);
}

static void vm_ok(Vm *vm, const char *command)
{
    QDict *resp = vm_command(vm, "{'execute': %s}", command);

    g_assert_false(qdict_haskey(resp, "error"));
    qobject_unref(resp);
}

/* Hands over to a destination that does not run the guest */
static void hand_over_unused(Vm *source, Vm *destination)
{
    g_autofree char *status = NULL;

    start_pair(source, destination, MACHINE, MACHINE " -S");
    hand_over(source, "incoming");
    status = vm_wait_migration(source);
    g_assert_cmpstr(status, ==, "completed");
    vm_assert_stands_still(destination);
}

/* It dies: the guest is at the source again, and can go to another one */
static void test_unused_dies(void)
{
    Vm source, destination;

    hand_over_unused(&source, &destination);
    vm_error(&source, "cont", "was handed over");
    vm_kill(&destination);
    vm_ok(&source, "cont");
    vm_wait_running(&source);
    vm_assert_counts(&source);

    hand_over_to_another(&source, &destination);
    ends_running(&source, &destination);
}

/* It dies, and the next step is another hand-over */
static void test_unused_goes_on(void)
{
    Vm source, destination;

    hand_over_unused(&source, &destination);
    vm_kill(&destination);
    hand_over_to_another(&source, &destination);
    vm_ok(&destination, "cont");
    ends_running(&source, &destination);
}

/* What a destination does with the guest before it dies: it can't come back */
static void test_used_dies(const void *opaque)
{
    const char *how = opaque;
    Vm source, destination;

    hand_over_unused(&source, &destination);
    if (!strcmp(how, "runs")) {
        vm_ok(&destination, "cont");
        vm_assert_counts(&destination);
        vm_ok(&destination, "stop");
    } else {
        vm_ok(&destination, how);
    }
    vm_kill(&destination);
    vm_error(&source, "cont", "was handed over");
    vm_kill(&source);
}

/* Handed on, it runs elsewhere */
static void test_used_elsewhere(void)
{
    g_autofree char *third_path = tmp_path("third");
    g_autofree char *third_opts = g_strdup_printf(MACHINE " -incoming unix:%s",
                                                  third_path);
    g_autofree char *status = NULL;
    Vm source, destination, third;

    hand_over_unused(&source, &destination);
    vm_start(&third, "third", third_opts);
    hand_over(&destination, "third");
    status = vm_wait_migration(&destination);
    g_assert_cmpstr(status, ==, "completed");
    vm_kill(&destination);
    vm_error(&source, "cont", "was handed over");
    vm_kill(&source);
    vm_ok(&third, "cont");
    vm_wait_running(&third);
    vm_assert_counts(&third);
    vm_kill(&third);
}

/*
 * The command migrate, with capability hand-over
 */

typedef struct Switch {
    const char *name;
    const char *source;         /* options; NULL: those of MACHINE */
    const char *destination;
    bool tcp;
    bool forwarded;             /* by a program that knows of bytes only */
    enum { HANDED_OVER, COPIED, FAILED, CANCELLED } end;
    const char *error;          /* part of error-desc */
} Switch;

static const Switch switches[] = {
    { "unix", .end = HANDED_OVER },
    { "tcp", .tcp = true, .end = COPIED },
    { "private-memory", "-machine pc -m 16", "-machine pc -m 16",
      .end = COPIED },
    { "cancelled", .end = CANCELLED },
    { "refused", NULL, "-machine pc,hand-over=on -m 32", .end = FAILED,
      "the destination gave up" },
    { "source-trusts-nobody", "-machine pc,hand-over=on,hand-over-peers=12345 "
      "-m 16", NULL, .end = FAILED, "hand-over-peers=12345" },
    { "destination-trusts-nobody", NULL,
      "-machine pc,hand-over=on,hand-over-peers=12345:12346 -m 16",
      .end = FAILED, "hand-over-peers=12345:12346" },
    { "trusts-self", "-machine pc,hand-over=on,hand-over-peers=self -m 16",
      "-machine pc,hand-over=on,hand-over-peers=12345:self -m 16",
      .end = HANDED_OVER },
    { "forwarded", .forwarded = true, .end = COPIED },
};

typedef struct Forwarder {
    int listener;
    char *to;
    GThread *thread;
} Forwarder;

static void *forwarder_thread(void *opaque)
{
    Forwarder *fwd = opaque;
    int fd[2];
    struct pollfd pfd[2];

    fd[0] = accept(fwd->listener, NULL, NULL);
    g_assert_cmpint(fd[0], >=, 0);
    fd[1] = connect_unix(fwd->to);
    g_assert_cmpint(fd[1], >=, 0);
    for (int i = 0; i < 2; i++) {
        pfd[i] = (struct pollfd) { .fd = fd[i], .events = POLLIN };
    }
    while (pfd[0].fd >= 0 || pfd[1].fd >= 0) {
        g_assert_cmpint(poll(pfd, 2, -1), >, 0);
        for (int i = 0; i < 2; i++) {
            uint8_t buf[65536];
            ssize_t len;

            if (!pfd[i].revents) {
                continue;
            }
            len = read(fd[i], buf, sizeof(buf));
            if (len <= 0) {
                shutdown(fd[!i], SHUT_WR);
                pfd[i].fd = -1;
                continue;
            }
            send_bytes(fd[!i], buf, len, NULL, 0);
        }
    }
    close(fd[0]);
    close(fd[1]);
    return NULL;
}

/* Takes ownership of @uri, which says unix:PATH; where it forwards from */
static char *forwarder_start(Forwarder *fwd, char *uri)
{
    g_autofree char *path = tmp_path("forwarder");

    *fwd = (Forwarder) {
        .listener = listen_unix(path),
        .to = g_strdup(uri + strlen("unix:")),
    };
    fwd->thread = g_thread_new("forwarder", forwarder_thread, fwd);
    g_free(uri);
    return g_strdup_printf("unix:%s", path);
}

static void forwarder_end(Forwarder *fwd)
{
    g_thread_join(fwd->thread);
    close(fwd->listener);
    g_free(fwd->to);
}

static void vm_set_capabilities(Vm *vm, bool hand_over)
{
    /* as libvirt has them */
    qobject_unref(vm_command(vm, "{'execute': 'migrate-set-capabilities',"
        " 'arguments': {'capabilities': ["
        "  {'capability': 'hand-over', 'state': %i},"
        "  {'capability': 'return-path', 'state': true},"
        "  {'capability': 'switchover-ack', 'state': true},"
        "  {'capability': 'late-block-activate', 'state': true},"
        "  {'capability': 'pause-before-switchover', 'state': true}]}}",
        hand_over));
}

static int64_t vm_ram_total(Vm *vm)
{
    QDict *resp = vm_command(vm, "{'execute': 'query-migrate'}");
    QDict *ram = qdict_get_qdict(resp, "ram");
    int64_t total;

    g_assert_nonnull(ram);
    total = qdict_get_int(ram, "total");
    qobject_unref(resp);
    return total;
}

static void test_switch(const void *opaque)
{
    const Switch *sw = opaque;
    g_autofree char *uri = NULL;
    g_autofree char *options = g_strdup_printf(
        "%s -S -incoming defer", sw->destination ? sw->destination : MACHINE);
    Forwarder forwarder = { };
    Vm source, destination;
    int64_t total = 0;
    QDict *resp;

    vm_start(&source, "source", sw->source ? sw->source : MACHINE);
    vm_start(&destination, "destination", options);
    vm_assert_counts(&source);
    vm_set_capabilities(&source, true);
    vm_set_capabilities(&destination, false);
    uri = vm_listen(&destination, sw->tcp, false);
    if (sw->forwarded) {
        uri = forwarder_start(&forwarder, uri);
    }
    qobject_unref(vm_command(&source, "{'execute': 'migrate',"
                             " 'arguments': {'uri': %s}}", uri));
    if (sw->end != FAILED) {
        for (;;) {
            g_autofree char *status = vm_migration_status(&source);

            if (!strcmp(status, "pre-switchover")) {
                break;
            }
            g_assert_cmpstr(status, !=, "failed");
        }
        total = vm_ram_total(&source);
        g_assert_cmpint(total, >, 0);
        resp = sw->end == CANCELLED
            ? vm_command(&source, "{'execute': 'migrate_cancel'}")
            : vm_command(&source, "{'execute': 'migrate-continue',"
                         " 'arguments': {'state': 'pre-switchover'}}");
        g_assert_false(qdict_haskey(resp, "error"));
        qobject_unref(resp);
    }

    {
        g_autofree char *status = vm_wait_migration(&source);
        g_autofree char *error = vm_migration_error(&source);

        g_assert_cmpstr(status, ==, sw->end == FAILED ? "failed" :
                                    sw->end == CANCELLED ? "cancelled" :
                                    "completed");
        if (sw->error) {
            g_test_message("%s", error);
            g_assert_nonnull(error);
            g_assert_nonnull(strstr(error, sw->error));
        }
    }
    if (sw->end == HANDED_OVER || sw->end == COPIED) {
        /* what was there to copy, whether or not it was */
        g_assert_cmpint(vm_ram_total(&source), ==, total);
    }
    resp = vm_command(&source, "{'execute': 'query-migrate'}");
    if (sw->end == HANDED_OVER || sw->end == COPIED) {
        g_assert(qdict_haskey(resp, "hand-over") == (sw->end == HANDED_OVER));
        vm_ok(&destination, "cont");
        vm_wait_running(&destination);
        vm_assert_counts(&destination);
        g_assert_false(vm_is_running(&source));
    } else {
        vm_wait_running(&source);
        vm_assert_counts(&source);
        g_assert_false(vm_is_running(&destination));
    }
    qobject_unref(resp);
    /* the mode was for the one migration */
    resp = vm_command(&source, "{'execute': 'query-migrate-parameters'}");
    g_assert_cmpstr(qdict_get_str(resp, "mode"), ==, "normal");
    qobject_unref(resp);
    vm_kill(&source);
    vm_kill(&destination);
    if (sw->forwarded) {
        forwarder_end(&forwarder);
    }
}

/*
 * Snapshots, with a capability that they can't have
 */

/* As blockdev-create has them; takes ownership of @options */
static void vm_create_image(Vm *vm, QDict *options)
{
    QDict *resp = vm_command(vm, "{'execute': 'blockdev-create',"
                             " 'arguments': {'job-id': 'create',"
                             " 'options': %p}}", options);

    g_assert_false(qdict_haskey(resp, "error"));
    qobject_unref(resp);
    for (;;) {
        QList *jobs;
        QDict *job;
        bool concluded;

        resp = vm_command(vm, "{'execute': 'query-jobs'}");
        jobs = qdict_get_qlist(resp, "return");
        job = qobject_to(QDict, qlist_peek(jobs));
        g_assert_nonnull(job);
        concluded = !strcmp(qdict_get_str(job, "status"), "concluded");
        if (concluded) {
            g_assert_false(qdict_haskey(job, "error"));
        }
        qobject_unref(resp);
        if (concluded) {
            break;
        }
    }
    qobject_unref(vm_command(vm, "{'execute': 'job-dismiss',"
                             " 'arguments': {'id': 'create'}}"));
}

static void vm_add_qcow2(Vm *vm)
{
    g_autofree char *path = tmp_path("snapshots");

    vm_create_image(vm, qdict_from_jsonf_nofail(
        "{'driver': 'file', 'filename': %s, 'size': 0}", path));
    qobject_unref(vm_command(vm, "{'execute': 'blockdev-add', 'arguments':"
        " {'driver': 'file', 'node-name': 'file', 'filename': %s}}", path));
    vm_create_image(vm, qdict_from_jsonf_nofail(
        "{'driver': 'qcow2', 'file': 'file', 'size': 1048576}"));
    qobject_unref(vm_command(vm, "{'execute': 'blockdev-add', 'arguments':"
        " {'driver': 'qcow2', 'node-name': 'image', 'file': 'file'}}"));
}

static void vm_set_capability(Vm *vm, const char *name, bool on)
{
    QDict *resp = vm_command(vm, "{'execute': 'migrate-set-capabilities',"
        " 'arguments': {'capabilities': ["
        "  {'capability': %s, 'state': %i}]}}", name, on);

    g_assert_false(qdict_haskey(resp, "error"));
    qobject_unref(resp);
}

static void test_snapshot(const void *opaque)
{
    static const char *const commands[] = { "savevm s", "loadvm s" };
    const char *capability = opaque;
    g_autofree char *saved = NULL, *loaded = NULL;
    uint32_t counter;
    Vm vm;

    vm_start(&vm, "source", MACHINE);
    vm_add_qcow2(&vm);
    vm_assert_counts(&vm);
    saved = vm_hmp(&vm, "savevm s");
    g_assert_cmpstr(saved, ==, "");

    vm_set_capability(&vm, capability, true);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        g_autofree char *said = NULL;

        counter = vm_counter(&vm);
        said = vm_hmp(&vm, commands[i]);
        g_test_message("%s", said);
        g_assert_nonnull(strstr(said, capability));
        g_assert_true(vm_is_running(&vm));
        vm_assert_counts(&vm);
        /* neither reset nor loaded */
        g_assert_cmpuint(vm_counter(&vm), >, counter);
    }
    vm_set_capability(&vm, capability, false);

    /* and the one that was there still is */
    loaded = vm_hmp(&vm, "loadvm s");
    g_assert_cmpstr(loaded, ==, "");
    vm_assert_counts(&vm);
    vm_kill(&vm);
}

/*
 * Many CPUs that have nothing to do
 */

/* How often the threads of all CPUs but the first have gone to sleep */
static uint64_t vm_sleeps(Vm *vm)
{
    QDict *resp = vm_command(vm, "{'execute': 'query-cpus-fast'}");
    const QListEntry *entry;
    uint64_t sum = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(resp, "return"), entry) {
        QDict *cpu = qobject_to(QDict, qlist_entry_obj(entry));
        g_autofree char *path = g_strdup_printf(
            "/proc/%d/task/%" PRId64 "/status", vm->pid,
            qdict_get_int(cpu, "thread-id"));
        g_autofree char *text = NULL;

        if (qdict_get_int(cpu, "cpu-index") == 0) {
            continue;
        }
        g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
        sum += g_ascii_strtoull(strstr(text, "\nvoluntary_ctxt_switches:") +
                                strlen("\nvoluntary_ctxt_switches:"), NULL,
                                10);
    }
    qobject_unref(resp);
    return sum;
}

/* Who sleeps is not woken to be stopped, or resumed */
static void test_cpus_asleep(void)
{
    Vm vm;
    bool slept = false;

    vm_start(&vm, "source", MACHINE " -smp 8");
    vm_assert_counts(&vm);
    /* not the first time, perhaps: some may still be woken since the start */
    for (int i = 0; i < 100 && !slept; i++) {
        uint64_t before = vm_sleeps(&vm);

        vm_ok(&vm, "stop");
        vm_assert_stands_still(&vm);
        vm_ok(&vm, "cont");
        vm_assert_counts(&vm);
        slept = vm_sleeps(&vm) == before;
    }
    g_assert_true(slept);
    vm_kill(&vm);
}

/* The memory of both together is one guest's */
static uint64_t vm_shared_pages(Vm *vm)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/smaps_rollup", vm->pid);
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return g_ascii_strtoull(strstr(text, "\nPss:") + 5, NULL, 10) * 1024;
}

static void test_memory_once(void)
{
    /* -mem-prealloc: every page of both would be there */
    const char *opts = "-machine pc,hand-over=on -m 256 -mem-prealloc";
    g_autofree char *status = NULL;
    Vm source, destination;
    uint64_t alone, together;

#ifdef QEMU_SANITIZE_ADDRESS
    g_test_skip("AddressSanitizer's own memory would be counted");
    return;
#endif
    start_pair(&source, &destination, opts, opts);
    alone = vm_shared_pages(&source);
    together = alone + vm_shared_pages(&destination);
    g_assert_cmpuint(alone, >=, 256 * 1024 * 1024);
    g_assert_cmpuint(together, <=, alone + 64 * 1024 * 1024);

    hand_over(&source, "incoming");
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "completed");
    together = vm_shared_pages(&source) + vm_shared_pages(&destination);
    g_assert_cmpuint(together, <=, alone + 64 * 1024 * 1024);
    vm_kill(&source);
    vm_kill(&destination);
}

/*
 * An ordinary migration to a destination that could adopt: it must preallocate
 * after all
 */
static void test_ordinary(const void *opaque)
{
    bool tcp = !strcmp(opaque, "tcp");
    g_autofree char *uri = NULL;
    g_autofree char *status = NULL;
    Vm source, destination;

    vm_start(&source, "source", "-machine pc,hand-over=on -m 256");
    vm_start(&destination, "destination", "-machine pc,hand-over=on -m 256 "
             "-mem-prealloc -incoming defer");
    vm_assert_counts(&source);
    uri = vm_listen(&destination, tcp, true);
    g_assert_cmpuint(vm_shared_pages(&destination), <, 256 * 1024 * 1024);

    qobject_unref(vm_command(&source, "{'execute': 'migrate',"
                             " 'arguments': {'uri': %s}}", uri));
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "completed");
    vm_wait_running(&destination);
    vm_assert_counts(&destination);
    g_assert_cmpuint(vm_shared_pages(&destination), >=, 256 * 1024 * 1024);
    vm_kill(&source);
    vm_kill(&destination);
}

/*
 * check-only, and wrong arguments
 */

typedef struct Blocked {
    const char *name;
    const char *options;
    const char *reason;
    const char *option;
} Blocked;

static const Blocked blocked[] = {
    { "private", "-machine pc -m 16",
      "RAM block 'pc.ram' is private to this process",
      "-machine hand-over=on" },
    { "private-backend", "-machine pc,aux-ram-share=on,memory-backend=a "
                         "-object memory-backend-ram,id=a,size=16M",
      "RAM block 'a' is private to this process",
      "-object memory-backend-ram,id=a,share=on" },
    { "pty", MACHINE " -serial pty", "is a pseudo-terminal",
      "-chardev pty,id=serial0" },
    /* the base can't migrate it either */
    { "device", "-machine q35,hand-over=on -m 16 -device amd-iommu",
      "non-migratable device: amd-iommu", NULL },
    { "nvme-cmb", MACHINE " -device nvme,serial=1,cmb_size_mb=1",
      "cmb_size_mb of device '/machine/peripheral-anon/device[0]' can't be "
      "migrated", NULL },
    { "snapshot", MACHINE " -snapshot", "no other process can find",
      "-snapshot" },
    /* a character device, as device DAX is one */
    { "device-dax", "-machine pc,hand-over=on,memory-backend=a -m 16 -object "
      "memory-backend-file,id=a,size=16M,mem-path=/dev/zero,share=on",
      "RAM block 'a' is a character device (device DAX)", NULL },
};

static void test_blocked(const void *opaque)
{
    const Blocked *b = opaque;
    const QListEntry *entry;
    bool found = false;
    QDict *resp;
    Vm vm;

    vm_start(&vm, "source", b->options);
    resp = vm_command(&vm, "{'execute': 'migrate-protected-vm',"
                      " 'arguments': {'check-only': true}}");
    QLIST_FOREACH_ENTRY(qdict_get_qlist(resp, "blockers"), entry) {
        QDict *blocker = qobject_to(QDict, qlist_entry_obj(entry));

        found |= strstr(qdict_get_str(blocker, "reason"), b->reason) &&
                 !g_strcmp0(qdict_get_try_str(blocker, "option"), b->option);
    }
    g_assert_true(found);
    qobject_unref(resp);
    vm_assert_counts(&vm);

    /* what check-only says is an error without it, and nothing happens */
    resp = vm_command(&vm, "{'execute': 'migrate-protected-vm'}");
    g_assert_true(qdict_haskey(resp, "error"));
    qobject_unref(resp);
    vm_assert_counts(&vm);
    vm_kill(&vm);
}

static void test_arguments(void)
{
    static const struct {
        const char *command;
        const char *error;
    } wrong[] = {
        { "{'execute': 'migrate-protected-vm', 'arguments': "
          "{'uri': 'tcp:localhost:1'}}", "unix:PATH" },
        { "{'execute': 'migrate-protected-vm', 'arguments': "
          "{'uri': 'unix:/nonexistent'}}", "/nonexistent" },
        { "{'execute': 'migrate-protected-vm', 'arguments': "
          "{'uri': 'unix:/x', 'exec': ['/x']}}", "together" },
        { "{'execute': 'migrate-protected-vm', 'arguments': {'exec': []}}",
          "empty" },
        { "{'execute': 'migrate-protected-vm', 'arguments': "
          "{'exec': ['/nonexistent']}}", "/nonexistent" },
        { "{'execute': 'migrate-protected-vm', 'arguments': "
          "{'exec': ['/bin/true', '-incoming', 'defer']}}", "-incoming" },
        { "{'execute': 'migrate-protected-vm', 'arguments': "
          "{'timeout': 0}}", "milliseconds" },
    };
    Vm vm;

    vm_start(&vm, "source", MACHINE);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        QDict *resp, *error;

        qmp_fd_send_raw(vm.qmp, "%s", wrong[i].command);
        resp = qmp_fd_receive(vm.qmp);
        g_assert_true(qdict_haskey(resp, "error"));
        error = qdict_get_qdict(resp, "error");
        g_assert_nonnull(strstr(qdict_get_str(error, "desc"),
                                wrong[i].error));
        qobject_unref(resp);
        vm_assert_counts(&vm);
    }
    vm_kill(&vm);
}

/* Who may connect to the destination's socket could be it */
static void test_open_socket(void)
{
    g_autofree char *path = tmp_path("open");
    g_autofree char *uri = g_strdup_printf("unix:%s", path);
    int listener = listen_unix(path);
    QDict *resp, *error;
    Vm vm;

    g_assert_cmpint(chmod(path, 0777), ==, 0);
    vm_start(&vm, "source", MACHINE);
    resp = vm_command(&vm, "{'execute': 'migrate-protected-vm',"
                      " 'arguments': {'uri': %s}}", uri);
    error = qdict_get_qdict(resp, "error");
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(qdict_get_str(error, "desc"), "mode 0777"));
    qobject_unref(resp);
    vm_assert_counts(&vm);
    close(listener);
    vm_kill(&vm);
}

/*
 * Run states, and what was asked for before the guest stood still: at whoever
 * has the guest, each as it was, and once
 */

/* Function 3 of the PIIX has its ports at 0x600 (a firmware would see to that) */
#define PM_PORTS \
    "o/w 0xcf8 0x80000b40", "o/w 0xcfc 0x601", \
    "o/w 0xcf8 0x80000b80", "o/b 0xcfc 1"

/* A disk whose every sector is bad, and the guest's attempt to read one */
#define BAD_DISK "-drive if=none,id=d,driver=blkdebug,image.driver=null-co," \
                 "inject-error.0.event=none " \
                 "-device ide-hd,bus=ide.0,drive=d,rerror=stop"
#define READ_SECTOR "o/b 0x1f6 0xe0", "o/b 0x1f2 1", "o/b 0x1f7 0x20"

typedef struct State {
    const char *name;       /* as query-status has it, or what is asked for */
    const char *state;      /* what it leads to, NULL: @name */
    const char *options;
    const char *hmp[8];     /* what brings the guest there */
    bool reset;             /* it is reset by that */
} State;

static const State states[] = {
    { "prelaunch", .options = "-S" },
    { "paused", .hmp = { "stop" } },
    { "shutdown", .options = "-action shutdown=pause",
      .hmp = { PM_PORTS, "o/h 0x604 0x2000" } },
    { "suspended", .hmp = { PM_PORTS, "o/h 0x604 0x2400" } },
    { "guest-panicked", .options = "-device pvpanic -action panic=pause",
      .hmp = { "o/b 0x505 1" } },
    { "watchdog", .options = "-device ib700 -action watchdog=pause",
      .hmp = { "o/b 0x443 15" } },
    { "io-error", .options = BAD_DISK, .hmp = { READ_SECTOR } },
    { "debug" },            /* debug_breakpoint() */
};

/* What is asked for while the guest stands still, and has not left */
static const State requests[] = {
    { "reset", "running", .hmp = { "o/b 0xcf9 6" }, .reset = true },
    { "shutdown", "shutdown", .options = "-action shutdown=pause",
      .hmp = { PM_PORTS, "o/h 0x604 0x2000" } },
    { "suspend", "suspended", .hmp = { PM_PORTS, "o/h 0x604 0x2400" } },
    { "stop", "io-error", .options = BAD_DISK, .hmp = { READ_SECTOR } },
};

typedef struct StateTest {
    const State *state;
    bool refused;           /* the destination refuses the guest */
} StateTest;

static void add_state_test(const char *group, const State *state,
                           void (*func)(const void *), bool refused)
{
    g_autofree char *path = g_strdup_printf("/hand-over/%s/%s%s", group,
                                            state->name,
                                            refused ? "-refused" : "");
    StateTest *test = g_new(StateTest, 1);

    *test = (StateTest) { state, refused };
    g_test_add_data_func_full(path, test, func, g_free);
}

static void rsp_send(int fd, const char *command)
{
    g_autofree char *packet = NULL;
    uint8_t sum = 0;
    char c;

    for (const char *p = command; *p; p++) {
        sum += *p;
    }
    packet = g_strdup_printf("$%s#%02x", command, sum);
    g_assert_cmpint(write(fd, packet, strlen(packet)), ==, strlen(packet));
    do {
        g_assert_cmpint(read(fd, &c, 1), ==, 1);
    } while (c != '+');
}

/* The guest runs into a breakpoint.  Returns the debugger's connection. */
static int debug_breakpoint(Vm *vm)
{
    g_autofree char *path = tmp_path("gdb");
    g_autofree char *where = g_strdup_printf("Z0,%x,1", LOOP);
    int fd = connect_unix(path);

    g_assert_cmpint(fd, >=, 0);
    vm_wait_state(vm, "paused");
    rsp_send(fd, "?");
    rsp_send(fd, where);
    rsp_send(fd, "c");
    vm_wait_state(vm, "debug");
    return fd;
}

static void vm_hmp_lines(Vm *vm, const char *const *lines)
{
    for (; *lines; lines++) {
        g_autofree char *text = vm_hmp(vm, *lines);

        g_assert_cmpstr(text, ==, "");
    }
}

/*
 * The source's guest is handed over by a proxy, which the destination's answer does
 * not pass where that is to be refused
 */
static void state_begin(const StateTest *t, Proxy *proxy, Vm *source,
                        Vm *destination, const char *more)
{
    g_autofree char *incoming = tmp_path("incoming");
    const char *opts = t->state->options ? t->state->options : "";
    g_autofree char *source_opts = g_strdup_printf(MACHINE " %s %s", opts, more);
    g_autofree char *dest_opts = g_strdup_printf(
        MACHINE " %s -incoming unix:%s", strcmp(opts, "-S") ? opts : "",
        incoming);

    *proxy = (Proxy) { .at = t->refused ? "loaded" : "none",
                       .action = t->refused ? REFUSE : PASS };
    unlink(incoming);
    vm_start(source, "source", source_opts);
    vm_start(destination, "destination", dest_opts);
    if (!strcmp(opts, "-S")) {
        return;
    }
    vm_assert_counts(source);
}

static void state_end(const StateTest *t, Proxy *proxy, Vm *source,
                      Vm *destination)
{
    const char *state = t->state->state ? t->state->state : t->state->name;
    Vm *here = t->refused ? source : destination;
    g_autofree char *status = NULL;

    if (t->refused) {
        proxy_wait(proxy);
        proxy_go(proxy);
    }
    status = vm_wait_migration(source);
    g_assert_cmpstr(status, ==, t->refused ? "failed" : "completed");
    if (t->refused) {
        vm_wait_exit(destination);
    }
    vm_wait_state(here, state);
    if (!strcmp(state, "running")) {
        vm_assert_counts(here);
    }
    if (!t->refused) {
        g_assert_true(vm_is_in_state(source, "postmigrate"));
    }
    g_assert_cmpuint(vm_word(here, BOOTS), ==, t->state->reset ? 2 : 1);
    vm_kill(source);
    vm_kill(destination);
    proxy_end(proxy);
}

static void test_state(const void *opaque)
{
    const StateTest *t = opaque;
    bool debug = !strcmp(t->state->name, "debug");
    g_autofree char *incoming = tmp_path("incoming");
    g_autofree char *gdb = g_strdup_printf("-gdb unix:%s/gdb,server=on,wait=off",
                                           tmpdir);
    Vm source, destination;
    int debugger = -1;
    Proxy proxy;

    state_begin(t, &proxy, &source, &destination, debug ? gdb : "");
    if (debug) {
        debugger = debug_breakpoint(&source);
    }
    vm_hmp_lines(&source, t->state->hmp);
    vm_wait_state(&source, t->state->name);
    proxy_start(&proxy, incoming);
    hand_over(&source, "proxy");
    if (!strcmp(t->state->name, "prelaunch")) {
        g_autofree char *status = NULL;

        if (t->refused) {
            proxy_wait(&proxy);
            proxy_go(&proxy);
        }
        status = vm_wait_migration(&source);
        vm_wait_state(t->refused ? &source : &destination, "prelaunch");
        qobject_unref(vm_command(t->refused ? &source : &destination,
                                 "{'execute': 'cont'}"));
        vm_assert_counts(t->refused ? &source : &destination);
        vm_kill(&source);
        vm_kill(&destination);
        proxy_end(&proxy);
        return;
    }
    state_end(t, &proxy, &source, &destination);
    if (debug) {
        close(debugger);
    }
}

static void vm_wait_pre_switchover(Vm *vm)
{
    for (;;) {
        g_autofree char *status = vm_migration_status(vm);

        if (!strcmp(status, "pre-switchover")) {
            return;
        }
        g_assert_cmpstr(status, !=, "failed");
    }
}

static void vm_migrate_continue(Vm *vm)
{
    QDict *resp = vm_command(vm, "{'execute': 'migrate-continue',"
                             " 'arguments': {'state': 'pre-switchover'}}");

    g_assert_false(qdict_haskey(resp, "error"));
    qobject_unref(resp);
}

/* As if the guest had asked for it just before it was stopped */
static void test_request(const void *opaque)
{
    const StateTest *t = opaque;
    g_autofree char *incoming = tmp_path("incoming");
    Vm source, destination;
    Proxy proxy;

    state_begin(t, &proxy, &source, &destination, "");
    vm_set_capability(&source, "pause-before-switchover", true);
    proxy_start(&proxy, incoming);
    hand_over(&source, "proxy");
    vm_wait_pre_switchover(&source);
    vm_hmp_lines(&source, t->state->hmp);
    vm_assert_stands_still(&source);
    g_assert_cmpuint(vm_word(&source, BOOTS), ==, 1);
    vm_migrate_continue(&source);
    state_end(t, &proxy, &source, &destination);
}

/* Asked for, and then it goes by way of a QEMU that does not run it */
static void test_request_handed_on(void)
{
    g_autofree char *third_path = tmp_path("third");
    g_autofree char *third_opts = g_strdup_printf(MACHINE " -incoming unix:%s",
                                                  third_path);
    g_autofree char *status = NULL, *status2 = NULL;
    Vm source, destination, third;

    start_pair(&source, &destination, MACHINE, MACHINE " -S");
    vm_set_capability(&source, "pause-before-switchover", true);
    hand_over(&source, "incoming");
    vm_wait_pre_switchover(&source);
    g_free(vm_hmp(&source, "o/b 0xcf9 6"));
    vm_migrate_continue(&source);
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "completed");
    vm_assert_stands_still(&destination);

    vm_start(&third, "third", third_opts);
    hand_over(&destination, "third");
    status2 = vm_wait_migration(&destination);
    g_assert_cmpstr(status2, ==, "completed");
    vm_kill(&source);
    vm_kill(&destination);
    vm_ok(&third, "cont");
    vm_wait_running(&third);
    vm_assert_counts(&third);
    g_assert_cmpuint(vm_word(&third, BOOTS), ==, 2);
    vm_kill(&third);
}

/* A guest that does nothing but reset itself goes on doing so */
static void test_reset_loop(void)
{
    g_autofree char *rom = tmp_path("rom-resets");
    g_autofree char *incoming = tmp_path("incoming");
    g_autofree char *opts = g_strdup_printf(MACHINE " -smp 4 -bios %s", rom);
    g_autofree char *dest_opts = g_strdup_printf("%s -incoming unix:%s", opts,
                                                 incoming);
    Vm source, destination;

    vm_start(&source, "source", opts);
    for (int i = 0; i < 5; i++) {
        g_autofree char *status = NULL;

        vm_assert_counts(&source);
        unlink(incoming);
        vm_start(&destination, "destination", dest_opts);
        hand_over(&source, "incoming");
        status = vm_wait_migration(&source);
        g_assert_cmpstr(status, ==, "completed");
        vm_wait_running(&destination);
        vm_assert_counts(&destination);
        vm_kill(&source);
        source = destination;
    }
    vm_kill(&source);
}

/* What is refused between the guest's stop and its start */
static void test_in_flight(void)
{
    static const char *const commands[] = {
        "stop", "system_reset", "system_powerdown", "inject-nmi",
    };
    /* not refused by itself, and lost if it were done now */
    g_autofree char *changed = NULL;
    g_autofree char *incoming = tmp_path("incoming");
    g_autofree char *status = NULL;
    Proxy proxy = { .at = "loaded" };
    Vm source, destination;

    start_pair(&source, &destination, MACHINE, MACHINE);
    proxy_start(&proxy, incoming);
    hand_over(&source, "proxy");
    proxy_wait(&proxy);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        vm_error(&source, commands[i], "being handed over to another QEMU");
    }
    for (size_t i = 1; i < ARRAY_SIZE(commands); i++) {
        vm_error(&destination, commands[i], "being handed over to this QEMU");
    }
    vm_error(&source, "cont", "not finalized");
    vm_error(&source, "blockdev-change-medium", "being handed over");
    changed = vm_hmp(&source, "change none");
    g_assert_nonnull(strstr(changed, "being handed over"));
    /* what no command asks for: it must not be done to the RAM of both */
    g_free(vm_hmp(&source, "o/b 0xcf9 6"));
    g_free(vm_hmp(&destination, "o/b 0xcf9 6"));
    vm_assert_stands_still(&source);
    proxy_go(&proxy);
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "completed");
    vm_wait_running(&destination);
    vm_assert_counts(&destination);
    g_assert_cmpuint(vm_word(&destination, BOOTS), ==, 1);
    vm_kill(&source);
    vm_kill(&destination);
    proxy_end(&proxy);
}

/*
 * What happens between the offer and the end
 */

static void vm_set_mode(Vm *vm, const char *mode)
{
    QDict *resp = vm_command(vm, "{'execute': 'migrate-set-parameters',"
                             " 'arguments': {'mode': %s}}", mode);

    g_assert_false(qdict_haskey(resp, "error"));
    qobject_unref(resp);
}

static void test_mode_is_fixed(void)
{
    static const char *const at[] = { "offer", "adopted", "loaded", "done" };

    for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
        g_autofree char *incoming = tmp_path("incoming");
        g_autofree char *status = NULL;
        Proxy proxy = { .at = at[i], .from_source = !strcmp(at[i], "offer") };
        Vm source, destination;

        start_pair(&source, &destination, MACHINE, MACHINE);
        proxy_start(&proxy, incoming);
        hand_over(&source, "proxy");
        proxy_wait(&proxy);
        if (i < 2) {
            /* (and later it is refused, as anything else) */
            vm_set_mode(&source, i % 2 ? "normal" : "cpr-reboot");
        }
        vm_set_mode(&destination, i % 2 ? "cpr-reboot" : "normal");
        proxy_go(&proxy);
        status = vm_wait_migration(&source);
        g_assert_cmpstr(status, ==, "completed");
        ends_running(&source, &destination);
        proxy_end(&proxy);
    }
}

/* The hand-over fails before long, as @words say, and the guest goes on */
static void ends_changed(Vm *source, Vm *destination, const char *words)
{
    g_autofree char *status = vm_wait_migration(source);
    g_autofree char *error = vm_migration_error(source);

    g_assert_cmpstr(status, ==, "failed");
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, words));
    vm_wait_exit(destination);
    vm_assert_counts(source);
    vm_kill(source);
}

/* The guest lets go of a device that was to be unplugged long before */
static void test_changed_device(void)
{
    const char *opts = MACHINE " -device virtio-balloon,id=b,addr=4";
    g_autofree char *incoming = tmp_path("incoming");
    Proxy proxy = { .at = "adopted" };
    int64_t begin;
    Vm source, destination;

    start_pair(&source, &destination, opts, opts);
    qobject_unref(vm_command(&source, "{'execute': 'device_del',"
                             " 'arguments': {'id': 'b'}}"));
    proxy_start(&proxy, incoming);
    hand_over(&source, "proxy");
    proxy_wait(&proxy);
    g_free(vm_hmp(&source, "o/w 0xae08 0x10"));
    begin = g_get_monotonic_time();
    proxy_go(&proxy);
    ends_changed(&source, &destination, "virtio-balloon' (instance 0) is gone");
    /* nobody waits for words of a destination that has no reason for any */
    g_assert_cmpint(g_get_monotonic_time() - begin, <, 15 * G_USEC_PER_SEC);
    proxy_end(&proxy);
}

/* A medium is changed while a management tool has the guest stand still */
static void test_changed_image(void)
{
    g_autofree char *a = tmp_path("a.iso");
    g_autofree char *b = tmp_path("b.iso");
    g_autofree char *opts = g_strdup_printf(
        MACHINE " -drive if=none,id=d,media=cdrom,format=raw,file=%s "
        "-device ide-cd,id=cd,drive=d", a);
    Vm source, destination;
    QDict *resp;

    g_assert_true(g_file_set_contents(a, "12345678", 8, NULL));
    g_assert_true(g_file_set_contents(b, "12345678", 8, NULL));
    start_pair(&source, &destination, opts, opts);
    vm_set_capability(&source, "pause-before-switchover", true);
    hand_over(&source, "incoming");
    vm_wait_pre_switchover(&source);
    resp = vm_command(&source, "{'execute': 'blockdev-change-medium',"
                      " 'arguments': {'id': 'cd', 'format': 'raw',"
                      " 'filename': %s}}", b);
    g_assert_false(qdict_haskey(resp, "error"));
    qobject_unref(resp);
    vm_migrate_continue(&source);
    ends_changed(&source, &destination, "drive 'd' was '");
}

/*
 * Nobody waits without limit
 */

/* A process that hangs, and does not accept */
static void test_limit_connect(void)
{
    g_autofree char *path = tmp_path("hangs");
    g_autofree char *uri = g_strdup_printf("unix:%s", path);
    int listener = listen_unix(path);
    int clients[2];
    QDict *resp;
    Vm vm;

    for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
        clients[i] = connect_unix(path);
        g_assert_cmpint(clients[i], >=, 0);
    }
    vm_start(&vm, "source", MACHINE);
    resp = vm_command(&vm, "{'execute': 'migrate-protected-vm',"
                      " 'arguments': {'uri': %s}}", uri);
    g_assert_true(qdict_haskey(resp, "error"));
    g_assert_nonnull(strstr(qdict_get_str(qdict_get_qdict(resp, "error"),
                                          "desc"), "nobody accepts"));
    qobject_unref(resp);
    vm_assert_counts(&vm);
    close(clients[0]);
    close(clients[1]);
    close(listener);
    vm_kill(&vm);
}

/* A destination that stalls before @at: the guest does not stand still for long */
static void check_limit(const char *at, const char *opts)
{
    g_autofree char *incoming = tmp_path("incoming");
    g_autofree char *path = tmp_path("proxy");
    g_autofree char *uri = g_strdup_printf("unix:%s", path);
    g_autofree char *status = NULL, *error = NULL;
    Proxy proxy = { .at = at, .from_source = !strcmp(at, "stream") };
    Vm source, destination;

    start_pair(&source, &destination, opts, opts);
    proxy_start(&proxy, incoming);
    qobject_unref(vm_command(&source, "{'execute': 'migrate-protected-vm',"
                             " 'arguments': {'uri': %s,"
                             " 'downtime-limit': 200}}", uri));
    proxy_wait(&proxy);
    status = vm_wait_migration(&source);
    error = vm_migration_error(&source);
    g_assert_cmpstr(status, ==, "failed");
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, "within 200 ms"));
    vm_assert_counts(&source);
    proxy_go(&proxy);
    vm_wait_exit(&destination);
    vm_kill(&source);
    proxy_end(&proxy);
}

/* With more state than the sockets hold */
static void test_limit_stream(void)
{
    check_limit("stream", MACHINE " -smp 96");
}

static void test_limit_load(void)
{
    check_limit("loaded", MACHINE);
}

/*
 * A destination that slept when the source took the guest back, and wakes up when
 * that has ended: it must not take that for its death, and go on with a guest that
 * is of the past.  (Nobody stands between the two.)
 */
static void test_wakes_too_late(const void *opaque)
{
    const char *how = opaque;
    bool limit = !strcmp(how, "limit");
    g_autofree char *path = tmp_path("incoming");
    g_autofree char *uri = g_strdup_printf("unix:%s", path);
    g_autofree char *status = NULL;
    Vm source, destination;

    start_pair(&source, &destination, MACHINE, MACHINE);
    vm_set_capability(&source, "pause-before-switchover", true);
    qobject_unref(vm_command(&source, "{'execute': 'migrate-protected-vm',"
                             " 'arguments': {'uri': %s, 'on-success': 'stay',"
                             " 'downtime-limit': %d}}", uri,
                             limit ? 200 : 60000));
    vm_wait_pre_switchover(&source);
    g_assert_cmpint(kill(destination.pid, SIGSTOP), ==, 0);
    vm_migrate_continue(&source);
    while (!limit) {
        QDict *resp = vm_command(&source, "{'execute': 'query-migrate'}");
        QDict *info = qdict_get_qdict(resp, "hand-over");
        bool load = !strcmp(qdict_get_str(info, "stage"), "load");

        qobject_unref(resp);
        if (load) {
            break;
        }
    }
    if (!strcmp(how, "cancel")) {
        qobject_unref(vm_command(&source, "{'execute': 'migrate_cancel'}"));
    }
    if (strcmp(how, "quit")) {
        status = vm_wait_migration(&source);
        vm_assert_counts(&source);
    }
    qobject_unref(vm_command(&source, "{'execute': 'quit'}"));
    g_assert_cmpint(vm_wait_exit(&source), ==, 0);
    g_assert_cmpint(kill(destination.pid, SIGCONT), ==, 0);
    g_assert_cmpint(vm_wait_exit(&destination), !=, 0);
}

/* A destination that never gets ready is given up on */
static void test_timeout(void)
{
    g_autofree char *silent = tmp_path("silent");
    g_autofree char *uri = g_strdup_printf("unix:%s", silent);
    g_autofree char *status = NULL, *error = NULL;
    int listener = listen_unix(silent);
    Vm vm;

    vm_start(&vm, "source", MACHINE);
    qobject_unref(vm_command(&vm, "{'execute': 'migrate-protected-vm',"
                             " 'arguments': {'uri': %s, 'timeout': 100}}",
                             uri));
    status = vm_wait_migration(&vm);
    error = vm_migration_error(&vm);
    g_assert_cmpstr(status, ==, "failed");
    g_assert_nonnull(strstr(error, "did not answer in time"));
    vm_assert_counts(&vm);
    close(listener);
    vm_kill(&vm);
}

/* The last 64 KiB are a ROM, which begins with @code */
static void write_rom(const char *name, const uint8_t *code, size_t len)
{
    static const uint8_t reset[] = { 0xea, 0x00, 0x00, 0x00, 0xf0 };
    g_autofree uint8_t *rom = g_malloc0(64 * 1024);
    g_autofree char *path = tmp_path(name);

    memcpy(rom, code, len);
    memcpy(rom + 0xfff0, reset, sizeof(reset));
    g_assert_true(g_file_set_contents(path, (char *)rom, 64 * 1024, NULL));
}

static void write_roms(void)
{
    /* in real mode: inc dword [BOOTS]; inc dword [COUNTER]; jmp back to that */
    static const uint8_t counts[] = {
        0x66, 0xff, 0x06, BOOTS & 0xff, BOOTS >> 8,
        0x66, 0xff, 0x06, COUNTER & 0xff, COUNTER >> 8, 0xeb, 0xf9,
    };
    /*
     * inc dword [COUNTER]; a moment (mov ecx, 20000; loop) in which QEMU gets
     * to something else; a reset by port 0xcf9; and nothing if that fails
     */
    static const uint8_t resets[] = {
        0x66, 0xff, 0x06, COUNTER & 0xff, COUNTER >> 8,
        0x66, 0xb9, 0x20, 0x4e, 0x00, 0x00, 0x67, 0xe2, 0xfd,
        0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xeb, 0xfe,
    };

    write_rom("rom", counts, sizeof(counts));
    write_rom("rom-resets", resets, sizeof(resets));
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    qemu_binary = getenv("QTEST_QEMU_BINARY");
    g_assert_nonnull(qemu_binary);
    tmpdir = g_dir_make_tmp("hand-over-test-XXXXXX", NULL);
    g_assert_nonnull(tmpdir);
    write_roms();
    /* a killed QEMU must not kill the test */
    signal(SIGPIPE, SIG_IGN);

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const Case *c = &cases[i];
        const char *from = c->from_source ? "source" : "destination";
        g_autofree char *name = g_strdup_printf("/hand-over/%s/%s-from-%s",
                                                action_names[c->action], c->at,
                                                from);

        g_test_add_data_func(name, c, test_case);
    }
    for (size_t i = 0; i < ARRAY_SIZE(mismatches); i++) {
        g_autofree char *name = g_strdup_printf("/hand-over/mismatch/%s",
                                                mismatches[i].name);

        g_test_add_data_func(name, &mismatches[i], test_mismatch);
    }
    for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
        g_autofree char *name = g_strdup_printf("/hand-over/machine/%s",
                                                machines[i].name);

        g_test_add_data_func(name, &machines[i], test_machine);
    }
    for (size_t i = 0; i < ARRAY_SIZE(blocked); i++) {
        g_autofree char *name = g_strdup_printf("/hand-over/blocked/%s",
                                                blocked[i].name);

        g_test_add_data_func(name, &blocked[i], test_blocked);
    }
    g_test_add_func("/hand-over/machine/memory-file", test_memory_file);
    g_test_add_func("/hand-over/again", test_again);
    g_test_add_func("/hand-over/paused", test_paused);
    g_test_add_func("/hand-over/unused/dies", test_unused_dies);
    g_test_add_func("/hand-over/unused/goes-on", test_unused_goes_on);
    g_test_add_data_func("/hand-over/used/runs", "runs", test_used_dies);
    g_test_add_data_func("/hand-over/used/reset", "system_reset",
                         test_used_dies);
    g_test_add_func("/hand-over/used/elsewhere", test_used_elsewhere);
    for (size_t i = 0; i < ARRAY_SIZE(switches); i++) {
        g_autofree char *name = g_strdup_printf("/hand-over/switch/%s",
                                                switches[i].name);

        g_test_add_data_func(name, &switches[i], test_switch);
    }
    g_test_add_func("/hand-over/memory-once", test_memory_once);
    g_test_add_data_func("/hand-over/ordinary-migration/unix", "unix",
                         test_ordinary);
    g_test_add_data_func("/hand-over/ordinary-migration/tcp", "tcp",
                         test_ordinary);
    g_test_add_func("/hand-over/arguments", test_arguments);
    g_test_add_func("/hand-over/memory/order", test_memory_order);
    g_test_add_func("/hand-over/memory/read-only", test_memory_read_only);
    g_test_add_func("/hand-over/memory/mapping", test_memory_mapping);
    g_test_add_func("/hand-over/open-socket", test_open_socket);
    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        add_state_test("state", &states[i], test_state, false);
        add_state_test("state", &states[i], test_state, true);
    }
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        add_state_test("request", &requests[i], test_request, false);
        add_state_test("request", &requests[i], test_request, true);
    }
    g_test_add_func("/hand-over/request/reset-loop", test_reset_loop);
    g_test_add_func("/hand-over/request/in-flight", test_in_flight);
    g_test_add_func("/hand-over/request/handed-on", test_request_handed_on);
    g_test_add_func("/hand-over/mode-is-fixed", test_mode_is_fixed);
    g_test_add_func("/hand-over/changed/device", test_changed_device);
    g_test_add_func("/hand-over/changed/image", test_changed_image);
    g_test_add_func("/hand-over/limit/connect", test_limit_connect);
    g_test_add_func("/hand-over/limit/stream", test_limit_stream);
    g_test_add_func("/hand-over/limit/load", test_limit_load);
    g_test_add_data_func("/hand-over/wakes-too-late/limit", "limit",
                         test_wakes_too_late);
    g_test_add_data_func("/hand-over/wakes-too-late/cancel", "cancel",
                         test_wakes_too_late);
    g_test_add_data_func("/hand-over/wakes-too-late/quit", "quit",
                         test_wakes_too_late);
    g_test_add_func("/hand-over/timeout", test_timeout);
    g_test_add_data_func("/hand-over/snapshot/multifd", "multifd",
                         test_snapshot);
    g_test_add_data_func("/hand-over/snapshot/mapped-ram", "mapped-ram",
                         test_snapshot);
    g_test_add_data_func("/hand-over/snapshot/x-ignore-shared",
                         "x-ignore-shared", test_snapshot);
    g_test_add_func("/hand-over/cpus/asleep", test_cpus_asleep);

    ret = g_test_run();

    /* ROMs, and sockets of QEMUs that were killed */
    {
        g_autoptr(GDir) dir = g_dir_open(tmpdir, 0, NULL);
        const char *name;

        while (dir && (name = g_dir_read_name(dir))) {
            g_autofree char *path = tmp_path(name);

            unlink(path);
        }
    }
    rmdir(tmpdir);
    g_free(tmpdir);
    return ret;
}
