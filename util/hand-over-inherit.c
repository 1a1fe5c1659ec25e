/*
 * Which of the inherited sockets listens at an address
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/hand-over-resource.h"
#include "qemu/sockets.h"
#include "hand-over-listener.h"

/* Do both names refer to the same file? */
static bool same_file(const char *a, const char *b)
{
    struct stat sa, sb;

    return stat(a, &sa) == 0 && stat(b, &sb) == 0 &&
           sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/* Is @fd bound to @sa, or to one of @more ports after it, if @sa has a port? */
static bool socket_is_at(int fd, const struct sockaddr *sa, socklen_t salen,
                         uint16_t more)
{
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr_storage ss;
    } own = {};
    const struct sockaddr_un *un = (const struct sockaddr_un *)sa;
    socklen_t len = sizeof(own);
    uint16_t port, own_port;

    if (getsockname(fd, &own.sa, &len) < 0 ||
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
        if (len == salen && !memcmp(&own, sa, len)) {
            return true;
        }
        /* different paths may refer to the same socket */
        return sa->sa_family == AF_UNIX && *own.un.sun_path &&
               *un->sun_path && same_file(own.un.sun_path, un->sun_path);
    }
    /* any port will do if none is requested */
    return !port || (own_port >= port && own_port - port <= more);
}

typedef struct Place {
    const struct sockaddr *sa;
    socklen_t salen;
    uint16_t more;
} Place;

static bool matches_place(int fd, int source_fd, const void *opaque)
{
    const Place *place = opaque;

    return socket_is_at(fd, place->sa, place->salen, place->more);
}

int hand_over_inherit_socket_at(const struct sockaddr *sa, socklen_t salen,
                                uint16_t more)
{
    Place place = { .sa = sa, .salen = salen, .more = more };

    return hand_over_inheriting() ? hand_over_inherit_claim(matches_place,
                                                            &place) : -1;
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
    /* as in unix_listen_saddr() */
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

static bool matches_number(int fd, int source_fd, const void *opaque)
{
    return source_fd == *(const int *)opaque;
}

static int inherit_fd(const char *str)
{
    int number;

    if (qemu_strtoi(str, NULL, 10, &number) < 0) {
        return -1;
    }
    return hand_over_inherit_claim(matches_number, &number);
}

int hand_over_inherit_socket(const SocketAddress *addr)
{
    if (!hand_over_inheriting()) {
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
