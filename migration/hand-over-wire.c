/*
 * Hand-over: the messages between the two QEMUs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/coroutine.h"
#include "qemu/iov.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-hand-over.h"
#include "qapi/qobject-input-visitor.h"
#include "qapi/qobject-output-visitor.h"
#include "qobject/qjson.h"
#include "qobject/qobject.h"
#include "io/channel-socket.h"
#include "hand-over-wire.h"
#include "trace.h"

HandOverWire *hand_over_wire_new(QIOChannel *ioc, const char *peer)
{
    HandOverWire *wire = g_new0(HandOverWire, 1);

    wire->ioc = ioc;
    object_ref(OBJECT(ioc));
    wire->version = 1;
    wire->peer = peer;
    return wire;
}

HandOverWire *hand_over_wire_dup(const HandOverWire *wire)
{
    g_autoptr(QIOChannelSocket) sioc = NULL;
    int fd = qemu_dup(QIO_CHANNEL_SOCKET(wire->ioc)->fd);
    HandOverWire *dup;

    if (fd < 0) {
        return NULL;
    }
    sioc = qio_channel_socket_new_fd(fd, NULL);
    if (!sioc) {
        close(fd);
        return NULL;
    }
    dup = hand_over_wire_new(QIO_CHANNEL(sioc), wire->peer);
    dup->version = wire->version;
    return dup;
}

void hand_over_wire_free(HandOverWire *wire)
{
    if (wire) {
        object_unref(OBJECT(wire->ioc));
        g_free(wire);
    }
}

static GString *message_to_json(const HandOverMessage *msg)
{
    HandOverMessage *m = (HandOverMessage *)msg; /* output visits don't write */
    QObject *obj = NULL;
    Visitor *v = qobject_output_visitor_new(&obj);
    GString *json;

    visit_type_HandOverMessage(v, NULL, &m, &error_abort);
    visit_complete(v, &obj);
    visit_free(v);
    json = qobject_to_json(obj);
    qobject_unref(obj);
    return json;
}

static void message_header(HandOverWire *wire, const HandOverMessage *msg,
                           int fd, size_t length, uint8_t *header)
{
    trace_hand_over_send(HandOverMessageType_str(msg->type), fd, length);
    stl_be_p(header, HAND_OVER_MAGIC);
    stw_be_p(header + 4, wire->version);
    stw_be_p(header + 6, fd >= 0);
    stl_be_p(header + 8, length);
}

bool hand_over_send(HandOverWire *wire, const HandOverMessage *msg, int fd,
                    Error **errp)
{
    g_autoptr(GString) json = message_to_json(msg);
    uint8_t header[HAND_OVER_HEADER_SIZE];
    struct iovec iov[] = {
        { .iov_base = header, .iov_len = sizeof(header) },
        { .iov_base = json->str, .iov_len = json->len },
    };
    Error *err = NULL;

    if (json->len > HAND_OVER_BODY_MAX) {
        error_setg(errp, "hand-over message '%s' is too large: %zu bytes, "
                   "at most %d can be sent",
                   HandOverMessageType_str(msg->type), json->len,
                   HAND_OVER_BODY_MAX);
        return false;
    }
    message_header(wire, msg, fd, json->len, header);

    if (qio_channel_writev_full_all(wire->ioc, iov, ARRAY_SIZE(iov), &fd,
                                    fd >= 0, 0, &err) < 0) {
        if (errno == EPIPE || errno == ECONNRESET) {
            /* The same error as if a read had noticed it first */
            error_free(err);
            error_setg(errp, "cannot send '%s': the %s closed the connection",
                       HandOverMessageType_str(msg->type), wire->peer);
            return false;
        }
        error_propagate_prepend(errp, err, "cannot send '%s' to the %s: ",
                                HandOverMessageType_str(msg->type),
                                wire->peer);
        return false;
    }
    return true;
}

bool hand_over_send_type(HandOverWire *wire, HandOverMessageType type,
                         Error **errp)
{
    HandOverMessage msg = { .type = type };

    return hand_over_send(wire, &msg, -1, errp);
}

bool hand_over_send_reason(HandOverWire *wire, HandOverMessageType type,
                           const char *reason, Error **errp)
{
    HandOverMessage msg = { .type = type };

    msg.u.refused.reason = (char *)reason;
    return hand_over_send(wire, &msg, -1, errp);
}

bool hand_over_send_abort(HandOverWire *wire, const char *reason)
{
    HandOverMessage msg = { .type = HAND_OVER_MESSAGE_TYPE_ABORT };
    uint8_t header[HAND_OVER_HEADER_SIZE];
    struct iovec iov[] = {
        { .iov_base = header, .iov_len = sizeof(header) },
        { },
    };
    g_autoptr(GString) json = NULL;
    ssize_t sent;

    msg.u.abort.reason = (char *)reason;
    json = message_to_json(&msg);
    iov[1] = (struct iovec) { .iov_base = json->str, .iov_len = json->len };
    message_header(wire, &msg, -1, json->len, header);

    qio_channel_set_blocking(wire->ioc, false, NULL);
    sent = qio_channel_writev(wire->ioc, iov, ARRAY_SIZE(iov), NULL);
    qio_channel_set_blocking(wire->ioc, true, NULL);
    return sent == sizeof(header) + json->len;
}

bool hand_over_parse_header(const uint8_t *buf, uint16_t version,
                            HandOverHeader *header, Error **errp)
{
    uint32_t magic = ldl_be_p(buf);

    header->version = lduw_be_p(buf + 4);
    header->fds = lduw_be_p(buf + 6);
    header->length = ldl_be_p(buf + 8);

    if (magic != HAND_OVER_MAGIC) {
        error_setg(errp, "not a hand-over message: magic 0x%08x, "
                   "expected 0x%08x", magic, HAND_OVER_MAGIC);
        return false;
    }
    if (header->version != version) {
        error_setg(errp, "hand-over message of version %u, expected %u",
                   header->version, version);
        return false;
    }
    if (header->fds > 1) {
        error_setg(errp, "hand-over message with %u descriptors, "
                   "expected at most 1", header->fds);
        return false;
    }
    if (header->length == 0 || header->length > HAND_OVER_BODY_MAX) {
        error_setg(errp, "hand-over message of %u bytes, expected 1 to %u",
                   header->length, HAND_OVER_BODY_MAX);
        return false;
    }
    return true;
}

HandOverMessage *hand_over_parse_body(const char *body, size_t length,
                                      Error **errp)
{
    g_autofree char *json = g_strndup(body, length);
    HandOverMessage *msg = NULL;
    QObject *obj;
    Visitor *v;

    /* the JSON parser would stop at the NUL, and ignore the rest */
    if (strlen(json) != length) {
        error_setg(errp, "hand-over message with a NUL at byte %zu",
                   strlen(json));
        return NULL;
    }

    obj = qobject_from_json(json, errp);
    if (!obj) {
        error_prepend(errp, "malformed hand-over message: ");
        return NULL;
    }
    v = qobject_input_visitor_new(obj);
    if (!visit_type_HandOverMessage(v, NULL, &msg, errp)) {
        error_prepend(errp, "malformed hand-over message: ");
    }
    visit_free(v);
    qobject_unref(obj);
    return msg;
}

/* Wait until the socket is readable; false with @errp set at the deadline */
static bool coroutine_mixed_fn wire_wait(HandOverWire *wire, int64_t deadline,
                                         Error **errp)
{
    GPollFD pfd = {
        .fd = QIO_CHANNEL_SOCKET(wire->ioc)->fd,
        .events = G_IO_IN | G_IO_HUP | G_IO_ERR,
    };
    int ret;

    if (qemu_in_coroutine()) {
        qio_channel_yield(wire->ioc, G_IO_IN);
        return true;
    }

    do {
        int64_t left = deadline;

        if (deadline >= 0) {
            left = deadline - qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
            left = MAX(left, 0);
        }
        ret = qemu_poll_ns(&pfd, 1, left);
    } while (ret < 0 && errno == EINTR);

    if (ret == 0) {
        error_setg(errp, "the %s did not answer in time", wire->peer);
    } else if (ret < 0) {
        error_setg_errno(errp, errno, "cannot wait for the %s", wire->peer);
    }
    return ret > 0;
}

static void close_fd(void *opaque)
{
    close(*(int *)opaque);
}

GArray *hand_over_fds_new(void)
{
    GArray *fds = g_array_new(false, false, sizeof(int));

    g_array_set_clear_func(fds, close_fd);
    return fds;
}

/*
 * Read @len bytes, and the descriptor that comes with them into @fd, which is
 * NULL if none may come.  A surplus descriptor is an error, so that a peer
 * can't make this process accumulate them.
 * @eof: as for hand_over_recv(); NULL inside a message.
 */
static bool coroutine_mixed_fn
wire_read(HandOverWire *wire, void *buf, size_t len, int64_t deadline,
          int *fd, bool *eof, Error **errp)
{
    size_t done = 0;

    while (done < len) {
        struct iovec iov = { .iov_base = buf + done, .iov_len = len - done };
        g_autofree int *got = NULL;
        size_t ngot = 0;
        Error *err = NULL;
        ssize_t ret;

        if (!qemu_in_coroutine() && !wire_wait(wire, deadline, errp)) {
            return false;
        }
        ret = qio_channel_readv_full(wire->ioc, &iov, 1, &got, &ngot, 0, &err);
        if (ret == -1 && errno == ECONNRESET) {
            /* It has closed its end without reading all that we have sent */
            error_free(err);
            ret = 0;
        }
        if (ngot == 1 && fd && *fd < 0) {
            *fd = got[0];
        } else if (ngot) {
            for (size_t i = 0; i < ngot; i++) {
                close(got[i]);
            }
            error_free(err);
            error_setg(errp, "the %s sent more descriptors than belong there: "
                       "expected at most one, with a message's header",
                       wire->peer);
            return false;
        }
        if (ret == QIO_CHANNEL_ERR_BLOCK) {
            if (!wire_wait(wire, deadline, errp)) {
                return false;
            }
        } else if (ret < 0) {
            error_propagate_prepend(errp, err, "cannot read from the %s: ",
                                    wire->peer);
            return false;
        } else if (ret == 0) {
            wire->closed = true;
            if (done == 0 && eof) {
                *eof = true;
                error_setg(errp, "the %s closed the connection", wire->peer);
            } else {
                error_setg(errp, "the %s closed the connection in the middle "
                           "of a message", wire->peer);
            }
            return false;
        } else {
            done += ret;
        }
    }
    return true;
}

HandOverMessage *coroutine_mixed_fn
hand_over_recv(HandOverWire *wire, HandOverMessageType type, int64_t deadline,
               int *fd, bool *eof, Error **errp)
{
    ERRP_GUARD();
    uint8_t buf[HAND_OVER_HEADER_SIZE];
    g_autofree char *body = NULL;
    HandOverMessage *msg = NULL;
    HandOverHeader header;
    bool at_boundary = false;
    int got = -1;

    if (eof) {
        *eof = false;
    }
    if (fd) {
        *fd = -1;
    }

    if (!wire_read(wire, buf, sizeof(buf), deadline, &got, &at_boundary,
                   errp)) {
        if (eof) {
            *eof = at_boundary;
        }
        goto out;
    }
    if (!hand_over_parse_header(buf, wire->version, &header, errp)) {
        goto out;
    }
    if ((got >= 0) != header.fds) {
        error_setg(errp, "hand-over message came with %d descriptors, it "
                   "announced %u", got >= 0, header.fds);
        goto out;
    }
    body = g_malloc(header.length);
    if (!wire_read(wire, body, header.length, deadline, NULL, NULL, errp)) {
        goto out;
    }
    msg = hand_over_parse_body(body, header.length, errp);
    if (!msg) {
        goto out;
    }
    trace_hand_over_recv(HandOverMessageType_str(msg->type), header.fds,
                         header.length);

    if (msg->type != type &&
        (msg->type == HAND_OVER_MESSAGE_TYPE_REFUSED ||
         msg->type == HAND_OVER_MESSAGE_TYPE_ABORT)) {
        wire->refused = true;
        error_setg(errp, "the %s gave up: %s", wire->peer,
                   msg->u.refused.reason);
    } else if (msg->type != type) {
        error_setg(errp, "the %s sent '%s', expected '%s'", wire->peer,
                   HandOverMessageType_str(msg->type),
                   HandOverMessageType_str(type));
    } else if (!!fd != header.fds) {
        error_setg(errp, "the %s sent '%s' %s a descriptor", wire->peer,
                   HandOverMessageType_str(type), fd ? "without" : "with");
    }
    if (*errp) {
        qapi_free_HandOverMessage(msg);
        msg = NULL;
    } else if (fd) {
        *fd = got;
        got = -1;
    }

out:
    if (got >= 0) {
        close(got);
    }
    return msg;
}
