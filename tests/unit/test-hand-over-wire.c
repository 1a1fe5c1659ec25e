/*
 * The messages of a hand-over
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/main-loop.h"
#include "qemu/sockets.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "qapi/qapi-types-hand-over.h"
#include "io/channel-socket.h"
#include "migration/hand-over-wire.h"

/* Both ends of a connection */
typedef struct Pair {
    HandOverWire *a;
    HandOverWire *b;
    int fd;             /* of a, for what is no message */
} Pair;

static HandOverWire *wire_new(int fd)
{
    QIOChannelSocket *sioc = qio_channel_socket_new_fd(fd, &error_abort);
    HandOverWire *wire = hand_over_wire_new(QIO_CHANNEL(sioc), "peer");

    object_unref(OBJECT(sioc));
    return wire;
}

static void pair_open(Pair *p)
{
    int fds[2];

    g_assert_cmpint(qemu_socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    p->fd = fds[0];
    p->a = wire_new(fds[0]);
    p->b = wire_new(fds[1]);
}

static void pair_close(Pair *p)
{
    hand_over_wire_free(p->a);
    hand_over_wire_free(p->b);
}

static unsigned open_descriptors(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    unsigned n = 0;

    while (g_dir_read_name(dir)) {
        n++;
    }
    return n;
}

static void test_layout(void)
{
    static const char body[] = "{\"type\": \"loaded\"}";
    uint8_t buf[HAND_OVER_HEADER_SIZE + sizeof(body) - 1 + 1];
    Pair p;

    pair_open(&p);
    g_assert_true(hand_over_send_type(p.a, HAND_OVER_MESSAGE_TYPE_LOADED,
                                      &error_abort));
    g_assert_cmpint(recv(QIO_CHANNEL_SOCKET(p.b->ioc)->fd, buf, sizeof(buf),
                         0), ==, sizeof(buf) - 1);
    g_assert_cmpmem(buf, 4, "QHOV", 4);
    g_assert_cmpint(lduw_be_p(buf + 4), ==, 1);
    g_assert_cmpint(lduw_be_p(buf + 6), ==, 0);
    g_assert_cmpint(ldl_be_p(buf + 8), ==, sizeof(body) - 1);
    g_assert_cmpmem(buf + HAND_OVER_HEADER_SIZE, sizeof(body) - 1,
                    body, sizeof(body) - 1);
    pair_close(&p);
}

static void test_round_trip(void)
{
    g_autoptr(HandOverMessage) msg = NULL;
    HandOverMessage ram = {
        .type = HAND_OVER_MESSAGE_TYPE_RAM,
        .u.ram = { .name = (char *)"pc.ram", .size = 1ULL << 41,
                   .max_size = UINT64_MAX, .page_size = 4096, .offset = 0 },
    };
    struct stat sent, received;
    Pair p;
    int fd;

    pair_open(&p);
    g_assert_true(hand_over_send(p.a, &ram, STDIN_FILENO, &error_abort));
    msg = hand_over_recv(p.b, HAND_OVER_MESSAGE_TYPE_RAM, -1, &fd, NULL,
                         &error_abort);
    g_assert_cmpstr(msg->u.ram.name, ==, "pc.ram");
    g_assert_cmphex(msg->u.ram.size, ==, 1ULL << 41);
    g_assert_cmphex(msg->u.ram.max_size, ==, UINT64_MAX);
    g_assert_cmpint(fstat(STDIN_FILENO, &sent), ==, 0);
    g_assert_cmpint(fstat(fd, &received), ==, 0);
    g_assert_cmpuint(sent.st_ino, ==, received.st_ino);
    close(fd);
    pair_close(&p);
}

static void send_raw(Pair *p, uint32_t magic, uint16_t version, uint16_t fds,
                     uint32_t length, const void *body, size_t body_len)
{
    uint8_t header[HAND_OVER_HEADER_SIZE];

    stl_be_p(header, magic);
    stw_be_p(header + 4, version);
    stw_be_p(header + 6, fds);
    stl_be_p(header + 8, length);
    g_assert_cmpint(send(p->fd, header, sizeof(header), 0), ==,
                    sizeof(header));
    if (body_len) {
        g_assert_cmpint(send(p->fd, body, body_len, 0), ==, body_len);
    }
}

/* What the receiver says of a message; the sender has closed afterwards */
typedef struct Broken {
    const char *name;
    uint32_t magic;
    uint16_t version;
    uint16_t fds;
    int32_t length;         /* -1: that of the body */
    const char *body;
    const char *error;
} Broken;

static const Broken broken[] = {
    { "magic", 0x5145564d, 1, 0, -1, "{}", "magic 0x5145564d" },
    { "version", HAND_OVER_MAGIC, 2, 0, -1, "{}", "version 2, expected 1" },
    { "fds", HAND_OVER_MAGIC, 1, 2, -1, "{}", "2 descriptors" },
    { "fds-missing", HAND_OVER_MAGIC, 1, 1, -1, "{'type': 'loaded'}",
      "came with 0 descriptors, it announced 1" },
    { "empty", HAND_OVER_MAGIC, 1, 0, 0,
      "", "of 0 bytes" },
    { "oversized", HAND_OVER_MAGIC, 1, 0, HAND_OVER_BODY_MAX + 1,
      "", "of 1048577 bytes" },
    { "truncated", HAND_OVER_MAGIC, 1, 0, 100,
      "{'type': 'loaded'}",
      "closed the connection in the middle of a message" },
    { "no-json", HAND_OVER_MAGIC, 1, 0, -1,
      "loaded", "malformed" },
    { "half-json", HAND_OVER_MAGIC, 1, 0, -1,
      "{'type': 'loaded'", "malformed" },
    { "blank", HAND_OVER_MAGIC, 1, 0, -1,
      "   ", "malformed" },
    { "list", HAND_OVER_MAGIC, 1, 0, -1,
      "['loaded']", "malformed" },
    { "no-type", HAND_OVER_MAGIC, 1, 0, -1,
      "{}", "'type' is missing" },
    { "unknown-type", HAND_OVER_MAGIC, 1, 0, -1,
      "{'type': 'x'}", "'x'" },
    { "unknown-member", HAND_OVER_MAGIC, 1, 0, -1,
      "{'type': 'loaded', 'x': 1}", "'x'" },
    { "missing-member", HAND_OVER_MAGIC, 1, 0, -1,
      "{'type': 'ram', 'name': 'x'}",
      "'size' is missing" },
    { "wrong-member", HAND_OVER_MAGIC, 1, 0, -1,
      "{'type': 'inherit', 'listeners': 'x'}",
      "listeners" },
    { "range", HAND_OVER_MAGIC, 1, 0, -1,
      "{'type': 'inherit', 'listeners': 4294967296}",
      "listeners" },
    { "other-type", HAND_OVER_MAGIC, 1, 0, -1,
      "{'type': 'commit'}",
      "sent 'commit', expected 'loaded'" },
    { "refused", HAND_OVER_MAGIC, 1, 0, -1,
      "{'type': 'refused', 'reason': 'my words'}",
      "the peer gave up: my words" },
    { "abort", HAND_OVER_MAGIC, 1, 0, -1,
      "{'type': 'abort', 'reason': 'my words'}",
      "the peer gave up: my words" },
};

static void test_broken(const void *opaque)
{
    const Broken *b = opaque;
    unsigned before = open_descriptors();
    HandOverMessage *msg;
    Error *err = NULL;
    bool eof;
    Pair p;

    pair_open(&p);
    send_raw(&p, b->magic, b->version, b->fds,
             b->length < 0 ? strlen(b->body) : b->length, b->body,
             strlen(b->body));
    shutdown(p.fd, SHUT_WR);
    msg = hand_over_recv(p.b, HAND_OVER_MESSAGE_TYPE_LOADED, -1, NULL, &eof,
                         &err);
    g_assert_null(msg);
    g_assert_nonnull(err);
    g_test_message("%s", error_get_pretty(err));
    g_assert_nonnull(strstr(error_get_pretty(err), b->error));
    g_assert_false(eof);
    error_free(err);
    pair_close(&p);
    g_assert_cmpuint(open_descriptors(), ==, before);
}

static void test_nul(void)
{
    static const char body[] = "{'type': 'loaded'}\0{'x': 1}";
    Error *err = NULL;

    g_assert_null(hand_over_parse_body(body, sizeof(body) - 1, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "NUL at byte 18"));
    error_free(err);
}

/* A descriptor that nobody asked for is closed */
static void test_surplus(void)
{
    HandOverMessage loaded = { .type = HAND_OVER_MESSAGE_TYPE_LOADED };
    unsigned before;
    Error *err = NULL;
    Pair p;

    pair_open(&p);
    before = open_descriptors();
    g_assert_true(hand_over_send(p.a, &loaded, STDIN_FILENO, &error_abort));
    g_assert_null(hand_over_recv(p.b, HAND_OVER_MESSAGE_TYPE_LOADED, -1, NULL,
                                 NULL, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "with a descriptor"));
    error_free(err);
    g_assert_cmpuint(open_descriptors(), ==, before);
    pair_close(&p);
}

static void send_with_fds(Pair *p, const void *data, size_t len, int nfds)
{
    union {
        char buf[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control = {};
    struct iovec iov = { .iov_base = (void *)data, .iov_len = len };
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1,
        .msg_control = &control, .msg_controllen = CMSG_SPACE(nfds *
                                                              sizeof(int)),
    };
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    int fds[2] = { STDIN_FILENO, STDIN_FILENO };

    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(nfds * sizeof(int));
    memcpy(CMSG_DATA(cmsg), fds, nfds * sizeof(int));
    g_assert_cmpint(sendmsg(p->fd, &msg, 0), ==, len);
}

/*
 * More descriptors than a message may have, or with what may have none: that is
 * the end of it, whatever else would come
 */
static void test_too_many(const void *opaque)
{
    static const char body[] = "{'type': 'loaded'}";
    bool with_body = opaque != NULL;
    uint8_t header[HAND_OVER_HEADER_SIZE];
    unsigned before;
    Error *err = NULL;
    Pair p;

    pair_open(&p);
    before = open_descriptors();
    stl_be_p(header, HAND_OVER_MAGIC);
    stw_be_p(header + 4, 1);
    stw_be_p(header + 6, with_body ? 0 : 1);
    stl_be_p(header + 8, strlen(body));
    send_with_fds(&p, header, sizeof(header), with_body ? 0 : 2);
    if (with_body) {
        /* but for its end */
        send_with_fds(&p, body, strlen(body) - 1, 1);
    }
    g_assert_null(hand_over_recv(p.b, HAND_OVER_MESSAGE_TYPE_LOADED,
                                 qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                                 NANOSECONDS_PER_SECOND, NULL, NULL, &err));
    g_assert_nonnull(strstr(error_get_pretty(err),
                            "sent more descriptors than belong there"));
    error_free(err);
    g_assert_cmpuint(open_descriptors(), ==, before);
    pair_close(&p);
}

static void test_eof(void)
{
    Error *err = NULL;
    bool eof;
    Pair p;

    pair_open(&p);
    shutdown(p.fd, SHUT_WR);
    g_assert_null(hand_over_recv(p.b, HAND_OVER_MESSAGE_TYPE_LOADED, -1, NULL,
                                 &eof, &err));
    g_assert_true(eof);
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "the peer closed the connection");
    error_free(err);
    pair_close(&p);
}

static void test_send_closed(void)
{
    Error *err = NULL;
    Pair p;

    pair_open(&p);
    shutdown(p.fd, SHUT_RDWR);
    g_assert_false(hand_over_send_type(p.b, HAND_OVER_MESSAGE_TYPE_LOADED,
                                       &err));
    g_assert_cmpstr(error_get_pretty(err), ==,
                    "cannot send 'loaded': the peer closed the connection");
    error_free(err);
    pair_close(&p);
}

static void test_deadline(void)
{
    int64_t deadline = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + SCALE_MS;
    Error *err = NULL;
    Pair p;

    pair_open(&p);
    g_assert_null(hand_over_recv(p.b, HAND_OVER_MESSAGE_TYPE_LOADED, deadline,
                                 NULL, NULL, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), "did not answer in time"));
    g_assert_cmpint(qemu_clock_get_ns(QEMU_CLOCK_REALTIME), >=, deadline);
    error_free(err);
    pair_close(&p);
}

int main(int argc, char **argv)
{
    qemu_init_main_loop(&error_abort);
    module_call_init(MODULE_INIT_QOM);
    signal(SIGPIPE, SIG_IGN);           /* as QEMU does */
    g_test_init(&argc, &argv, NULL);

    g_test_add_func("/hand-over-wire/layout", test_layout);
    g_test_add_func("/hand-over-wire/round-trip", test_round_trip);
    for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
        g_autofree char *name = g_strdup_printf("/hand-over-wire/broken/%s",
                                                broken[i].name);

        g_test_add_data_func(name, &broken[i], test_broken);
    }
    g_test_add_func("/hand-over-wire/nul", test_nul);
    g_test_add_func("/hand-over-wire/surplus", test_surplus);
    g_test_add_data_func("/hand-over-wire/too-many/header", NULL,
                         test_too_many);
    g_test_add_data_func("/hand-over-wire/too-many/body", "", test_too_many);
    g_test_add_func("/hand-over-wire/eof", test_eof);
    g_test_add_func("/hand-over-wire/send-closed", test_send_closed);
    g_test_add_func("/hand-over-wire/deadline", test_deadline);
    return g_test_run();
}
