/*
 * Hand-over tests: what stands between two QEMUs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "proxy.h"
#include "vm.h"
#include "wait.h"

/* As migration/hand-over-wire.h has it */
#define MAGIC 0x51484f56
#define HEADER_SIZE 12

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
        struct cmsghdr *cmsg;
        ssize_t ret;

        wait_thread_fd(fd, POLLIN, "the rest of a message");
        ret = recvmsg(fd, &hdr, MSG_CMSG_CLOEXEC);
        cmsg = ret > 0 ? CMSG_FIRSTHDR(&hdr) : NULL;
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
        ret = sendmsg(fd, &hdr, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (ret < 0 && errno == EAGAIN) {
            wait_thread_fd(fd, POLLOUT, "a QEMU to read what it is sent");
            continue;
        }
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

    p->acted = true;
    g_assert_cmpint(write(p->reached[1], &c, 1), ==, 1);
    wait_thread_fd(p->go[0], POLLIN, "the test to say what happens before the "
                   "message '%s'", p->at);
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
        if (!p->acted && !strcmp(p->at, "stream")) {
            Message piece = { .bytes = g_byte_array_new() };

            g_byte_array_append(piece.bytes, buf, len);
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
    if (!p->acted && !strcmp(p->at, type) && p->from_source == (from == 0)) {
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

    wait_thread_fd(p->listener, POLLIN, "the source to connect to the proxy");
    p->fd[0] = accept(p->listener, NULL, NULL);
    g_assert_cmpint(p->fd[0], >=, 0);
    p->fd[1] = connect_unix(p->to);
    g_assert_cmpint(p->fd[1], >=, 0);

    while (open[0] || open[1]) {
        for (int i = 0; i < 2; i++) {
            pfd[i].fd = open[i] ? p->fd[i] : -1;
            pfd[i].events = POLLIN;
        }
        wait_thread(pfd, 2, "the source or the destination to say something");
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

void proxy_start(Proxy *p, const char *destination)
{
    g_autofree char *path = tmp_path("proxy");

    p->fd[0] = p->fd[1] = -1;
    p->to = g_strdup(destination);
    p->listener = listen_unix(path);
    g_assert_true(g_unix_open_pipe(p->reached, FD_CLOEXEC, NULL));
    g_assert_true(g_unix_open_pipe(p->go, FD_CLOEXEC, NULL));
    p->thread = g_thread_new("proxy", proxy_thread, p);
}

void proxy_wait(Proxy *p)
{
    char c;

    wait_fd(p->reached[0], POLLIN, "the exchange to come to the message '%s'",
            p->at);
    g_assert_cmpint(read(p->reached[0], &c, 1), ==, 1);
}

void proxy_go(Proxy *p)
{
    char c = 0;

    g_assert_cmpint(write(p->go[1], &c, 1), ==, 1);
}

void proxy_end(Proxy *p)
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
 * A program that forwards bytes
 */

static void *forwarder_thread(void *opaque)
{
    Forwarder *fwd = opaque;
    int fd[2];
    struct pollfd pfd[2];

    wait_thread_fd(fwd->listener, POLLIN, "the source to connect to the "
                   "forwarder");
    fd[0] = accept(fwd->listener, NULL, NULL);
    g_assert_cmpint(fd[0], >=, 0);
    fd[1] = connect_unix(fwd->to);
    g_assert_cmpint(fd[1], >=, 0);
    for (int i = 0; i < 2; i++) {
        pfd[i] = (struct pollfd) { .fd = fd[i], .events = POLLIN };
    }
    while (pfd[0].fd >= 0 || pfd[1].fd >= 0) {
        wait_thread(pfd, 2, "the source or the destination to send something");
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

char *forwarder_start(Forwarder *fwd, char *uri)
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

void forwarder_end(Forwarder *fwd)
{
    g_thread_join(fwd->thread);
    close(fwd->listener);
    g_free(fwd->to);
}
