/*
 * What two QEMUs on one host can't hold at the same time
 *
 * A listening socket is passed on as it is, with the clients that wait in
 * its backlog.  To hold two of its descriptors is no problem, but only one
 * process may accept.  The other one has a stand-in under the descriptor's
 * number: a socket which nobody can connect to.  Whoever listens (a monitor,
 * a character device, a VNC server) need not know: the number is the same.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/hand-over-resource.h"
#include "qemu/queue.h"
#include "qemu/sockets.h"
#include "qapi/error.h"

typedef struct Resource {
    const HandOverResourceOps *ops;
    void *opaque;
    bool released;
    QTAILQ_ENTRY(Resource) next;
} Resource;

static QTAILQ_HEAD(, Resource) resources =
    QTAILQ_HEAD_INITIALIZER(resources);

/* Destination */
static bool inheriting;

void hand_over_resource_register(const HandOverResourceOps *ops, void *opaque)
{
    Resource *res = g_new0(Resource, 1);

    res->ops = ops;
    res->opaque = opaque;
    QTAILQ_INSERT_TAIL(&resources, res, next);
}

void hand_over_resource_unregister(const HandOverResourceOps *ops,
                                   void *opaque)
{
    Resource *res, *tmp;

    QTAILQ_FOREACH_SAFE(res, &resources, next, tmp) {
        if (res->ops == ops && res->opaque == opaque) {
            QTAILQ_REMOVE(&resources, res, next);
            g_free(res);
        }
    }
}

bool hand_over_inheriting(void)
{
    return inheriting;
}

void hand_over_inherit_begin(void)
{
    inheriting = true;
}

#ifdef CONFIG_LINUX

/*
 * A listening socket.
 *
 * @fd: source: its number here, which is the real one, or after release a
 *      stand-in.  Destination: the stand-in's number, -1 until it is claimed.
 * @real: source: the real one while released.  Destination: the real one.
 *        Else -1.
 * @source_fd: destination: its number in the source
 */
typedef struct Listener {
    int fd;
    int real;
    int source_fd;
} Listener;

static GArray *listeners;

static Listener *listener_at(guint i)
{
    return &g_array_index(listeners, Listener, i);
}

static void listeners_clear(void)
{
    if (!listeners) {
        listeners = g_array_new(false, false, sizeof(Listener));
    }
    g_array_set_size(listeners, 0);
}

/* A socket that nobody can find, and that accept() finds nobody at */
static int stand_in_new(void)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    /* A name of the kernel's choice, see unix(7), autobind */
    if (fd >= 0 &&
        (bind(fd, (struct sockaddr *)&addr, sizeof(sa_family_t)) < 0 ||
         listen(fd, 0) < 0)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/*
 * Source
 */

GArray *hand_over_listeners_collect(void)
{
    GArray *fds = g_array_new(false, false, sizeof(int));
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    const char *name;

    listeners_clear();
    while (dir && (name = g_dir_read_name(dir))) {
        Listener l = { .real = -1, .source_fd = -1 };
        int on = 0, type = 0;
        socklen_t len = sizeof(on);

        if (qemu_strtoi(name, NULL, 10, &l.fd) < 0 ||
            getsockopt(l.fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) < 0 ||
            getsockopt(l.fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
            !on || type != SOCK_STREAM) {
            continue;
        }
        g_array_append_val(listeners, l);
        g_array_append_val(fds, l.fd);
    }
    return fds;
}

static bool listener_release(Listener *l, Error **errp)
{
    int stand_in = stand_in_new();

    if (stand_in < 0) {
        error_setg_errno(errp, errno, "cannot create a socket");
        return false;
    }
    l->real = fcntl(l->fd, F_DUPFD_CLOEXEC, 0);
    if (l->real < 0 || dup3(stand_in, l->fd, O_CLOEXEC) < 0) {
        error_setg_errno(errp, errno, "cannot let go of a listening socket");
        if (l->real >= 0) {
            close(l->real);
            l->real = -1;
        }
        close(stand_in);
        return false;
    }
    close(stand_in);
    return true;
}

static void listeners_restore(void)
{
    for (guint i = 0; listeners && i < listeners->len; i++) {
        Listener *l = listener_at(i);

        if (l->real >= 0) {
            if (dup3(l->real, l->fd, O_CLOEXEC) < 0) {
                error_report("cannot listen again on socket %d: %s", l->fd,
                             strerror(errno));
            }
            close(l->real);
            l->real = -1;
        }
    }
}

static bool listeners_release(const uint32_t *claimed, size_t n_claimed,
                              Error **errp)
{
    for (size_t i = 0; i < n_claimed; i++) {
        if (!listeners || claimed[i] >= listeners->len ||
            listener_at(claimed[i])->real >= 0) {
            error_setg(errp, "the destination claims listening socket %u: "
                       "expected one of %u, each once", claimed[i],
                       listeners ? listeners->len : 0);
            return false;
        }
        if (!listener_release(listener_at(claimed[i]), errp)) {
            return false;
        }
    }
    return true;
}

/*
 * Destination
 */

void hand_over_inherit_listener(int fd, int source_fd)
{
    Listener l = { .fd = -1, .real = fd, .source_fd = source_fd };

    if (!listeners) {
        listeners_clear();
    }
    g_array_append_val(listeners, l);
}

static int listener_claim(Listener *l)
{
    l->fd = stand_in_new();
    return l->fd;
}

/* Is @l bound to @sa, or, if that has one, to one of @more ports after it? */
static bool listener_is_at(const Listener *l, const struct sockaddr *sa,
                           socklen_t salen, uint16_t more)
{
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr_storage ss;
    } own = {};
    socklen_t len = sizeof(own);
    uint16_t port, own_port;

    if (getsockname(l->real, &own.sa, &len) < 0 ||
        own.sa.sa_family != sa->sa_family) {
        return false;
    }
    switch (sa->sa_family) {
    case AF_INET:
        port = ntohs(((const struct sockaddr_in *)sa)->sin_port);
        own_port = ntohs(own.in.sin_port);
        if (memcmp(&own.in.sin_addr,
                   &((const struct sockaddr_in *)sa)->sin_addr,
                   sizeof(own.in.sin_addr))) {
            return false;
        }
        break;
    case AF_INET6:
        port = ntohs(((const struct sockaddr_in6 *)sa)->sin6_port);
        own_port = ntohs(own.in6.sin6_port);
        if (memcmp(&own.in6.sin6_addr,
                   &((const struct sockaddr_in6 *)sa)->sin6_addr,
                   sizeof(own.in6.sin6_addr))) {
            return false;
        }
        break;
    default:
        return len == salen && !memcmp(&own, sa, len);
    }
    /* any port will do where none is asked for */
    return !port || (own_port >= port && own_port - port <= more);
}

int hand_over_inherit_socket_at(const struct sockaddr *sa, socklen_t salen,
                                uint16_t more)
{
    if (!inheriting) {
        return -1;
    }
    for (guint i = 0; listeners && i < listeners->len; i++) {
        Listener *l = listener_at(i);

        if (l->fd < 0 && listener_is_at(l, sa, salen, more)) {
            return listener_claim(l);
        }
    }
    return -1;
}

static int inherit_inet(const InetSocketAddress *addr)
{
    struct addrinfo hints = {
        .ai_flags = AI_PASSIVE,
        .ai_socktype = SOCK_STREAM,
        .ai_family = inet_ai_family_from_address((InetSocketAddress *)addr,
                                                 NULL),
    };
    struct addrinfo *res, *e;
    uint64_t port;
    int fd = -1;

    if (qemu_strtou64(addr->port, NULL, 10, &port) < 0 ||
        getaddrinfo(*addr->host ? addr->host : NULL, addr->port, &hints,
                    &res) != 0) {
        return -1;
    }
    for (e = res; e && fd < 0; e = e->ai_next) {
        fd = hand_over_inherit_socket_at(e->ai_addr, e->ai_addrlen,
                                         addr->has_to && addr->to > port
                                         ? addr->to - port : 0);
    }
    freeaddrinfo(res);
    return fd;
}

static int inherit_unix(const UnixSocketAddress *addr)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    size_t len = addr->path ? strlen(addr->path) : 0;
    bool abstract = addr->has_abstract && addr->abstract;
    bool tight = !addr->has_tight || addr->tight;
    socklen_t salen;

    if (!len || len + 1 > sizeof(un.sun_path)) {
        return -1;
    }
    /* as unix_listen_saddr() does */
    if (abstract) {
        memcpy(un.sun_path + 1, addr->path, len);
        salen = tight ? offsetof(struct sockaddr_un, sun_path) + 1 + len
                      : sizeof(un);
        return hand_over_inherit_socket_at((struct sockaddr *)&un, salen, 0);
    }
    memcpy(un.sun_path, addr->path, len);
    return hand_over_inherit_socket_at((struct sockaddr *)&un,
                                       offsetof(struct sockaddr_un, sun_path) +
                                       len + 1, 0);
}

static int inherit_fd(const char *str)
{
    int number;

    if (qemu_strtoi(str, NULL, 10, &number) < 0) {
        return -1;
    }
    for (guint i = 0; listeners && i < listeners->len; i++) {
        Listener *l = listener_at(i);

        if (l->fd < 0 && l->source_fd == number) {
            return listener_claim(l);
        }
    }
    return -1;
}

int hand_over_inherit_socket(const SocketAddress *addr)
{
    if (!inheriting) {
        return -1;
    }
    switch (addr->type) {
    case SOCKET_ADDRESS_TYPE_INET:
        return inherit_inet(&addr->u.inet);
    case SOCKET_ADDRESS_TYPE_UNIX:
        return inherit_unix(&addr->u.q_unix);
    case SOCKET_ADDRESS_TYPE_FD:
        return inherit_fd(addr->u.fd.str);
    default:
        return -1;
    }
}

int hand_over_real_socket(int fd)
{
    if (inheriting && fd >= 0) {
        for (guint i = 0; listeners && i < listeners->len; i++) {
            if (listener_at(i)->fd == fd) {
                return listener_at(i)->real;
            }
        }
    }
    return fd;
}

GArray *hand_over_inherit_claimed(void)
{
    GArray *claimed = g_array_new(false, false, sizeof(uint32_t));

    for (uint32_t i = 0; listeners && i < listeners->len; i++) {
        Listener *l = listener_at(i);

        if (l->fd >= 0) {
            g_array_append_val(claimed, i);
        } else if (l->real >= 0) {
            close(l->real);
            l->real = -1;
        }
    }
    return claimed;
}

static void listeners_take(void)
{
    for (guint i = 0; listeners && i < listeners->len; i++) {
        Listener *l = listener_at(i);

        if (l->fd < 0 || l->real < 0) {
            continue;
        }
        if (dup3(l->real, l->fd, O_CLOEXEC) < 0) {
            error_report("cannot listen on socket %d: %s", l->fd,
                         strerror(errno));
        }
        close(l->real);
        l->real = -1;
    }
    listeners_clear();
}

#else /* !CONFIG_LINUX: there are no hand-overs */

GArray *hand_over_listeners_collect(void)
{
    return g_array_new(false, false, sizeof(int));
}

static bool listeners_release(const uint32_t *claimed, size_t n_claimed,
                              Error **errp)
{
    return true;
}

static void listeners_restore(void)
{
}

void hand_over_inherit_listener(int fd, int source_fd)
{
}

int hand_over_inherit_socket_at(const struct sockaddr *sa, socklen_t salen,
                                uint16_t more)
{
    return -1;
}

int hand_over_inherit_socket(const SocketAddress *addr)
{
    return -1;
}

int hand_over_real_socket(int fd)
{
    return fd;
}

GArray *hand_over_inherit_claimed(void)
{
    return g_array_new(false, false, sizeof(uint32_t));
}

static void listeners_take(void)
{
}

#endif

bool hand_over_resources_release(const uint32_t *claimed, size_t n_claimed,
                                 Error **errp)
{
    bool ok = listeners_release(claimed, n_claimed, errp);
    Resource *res;

    QTAILQ_FOREACH(res, &resources, next) {
        if (!ok) {
            break;
        }
        /* what fails half way has to be restored as well */
        res->released = true;
        if (res->ops->release) {
            ok = res->ops->release(res->opaque, errp);
        }
    }
    if (!ok) {
        hand_over_resources_restore();
    }
    return ok;
}

void hand_over_resources_restore(void)
{
    Resource *res;

    QTAILQ_FOREACH(res, &resources, next) {
        if (res->released && res->ops->restore) {
            res->ops->restore(res->opaque);
        }
        res->released = false;
    }
    listeners_restore();
}

bool hand_over_resources_take(Error **errp)
{
    Resource *res;

    if (!inheriting) {
        return true;
    }
    QTAILQ_FOREACH(res, &resources, next) {
        if (res->ops->take && !res->ops->take(res->opaque, errp)) {
            error_prepend(errp, "%s: ", res->ops->name);
            return false;
        }
    }
    return true;
}

void hand_over_listeners_take(void)
{
    if (inheriting) {
        listeners_take();
        inheriting = false;
    }
}
