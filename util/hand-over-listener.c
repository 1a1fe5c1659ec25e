/*
 * Listening sockets that are passed on to another QEMU
 *
 * A listening socket is passed on as it is, with the clients that wait in
 * its backlog.  Both processes may have a descriptor of it, but only one may
 * accept clients: in the other one the socket is "held", which means that its
 * listener (QIONetListener, used by monitors, character devices and VNC
 * servers) does not poll it.  There is nothing else that a client could
 * connect to.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/eventfd.h>
#include "qemu/ctype.h"
#include "qemu/cutils.h"
#include "qemu/hand-over-resource.h"
#include "qemu/lockable.h"
#include "qemu/queue.h"
#include "qemu/sockets.h"
#include "qemu/thread.h"
#include "qapi/error.h"
#include "hand-over-listener.h"

/*
 * A listener of this process.
 *
 * @released: source: another process may accept on it
 */
typedef struct Listener {
    int fd;
    bool released;
    void (*changed)(void *opaque);
    void *opaque;
    QTAILQ_ENTRY(Listener) next;
} Listener;

/*
 * Destination: a socket of the source's, from its arrival until everything is
 * taken.
 *
 * @source_fd: its number in the source
 * @claimed: this process is going to listen on it
 */
typedef struct Inherited {
    int fd;
    int source_fd;
    bool claimed;
} Inherited;

/*
 * The lists are changed by the main thread only; other threads (the monitors'
 * I/O thread, threads that resolve names) look things up.
 */
static QemuMutex listeners_lock;
static QTAILQ_HEAD(, Listener) listeners = QTAILQ_HEAD_INITIALIZER(listeners);
static GPtrArray *collected;    /* an entry is NULL if closed since */
static GArray *inherited;
static GArray *reserved;        /* numbers with a placeholder */

static void __attribute__((constructor)) listeners_init(void)
{
    qemu_mutex_init(&listeners_lock);
    collected = g_ptr_array_new();
    inherited = g_array_new(false, false, sizeof(Inherited));
    reserved = g_array_new(false, false, sizeof(int));
}

static Inherited *inherited_at(guint i)
{
    return &g_array_index(inherited, Inherited, i);
}

void hand_over_listener_add(int fd, void (*changed)(void *opaque),
                            void *opaque)
{
    Listener *l = g_new0(Listener, 1);

    l->fd = fd;
    l->changed = changed;
    l->opaque = opaque;
    QEMU_LOCK_GUARD(&listeners_lock);
    QTAILQ_INSERT_TAIL(&listeners, l, next);
}

void hand_over_listener_remove(int fd)
{
    Listener *l, *tmp;

    QEMU_LOCK_GUARD(&listeners_lock);
    QTAILQ_FOREACH_SAFE(l, &listeners, next, tmp) {
        if (l->fd != fd) {
            continue;
        }
        for (guint i = 0; i < collected->len; i++) {
            if (collected->pdata[i] == l) {
                collected->pdata[i] = NULL;
            }
        }
        QTAILQ_REMOVE(&listeners, l, next);
        g_free(l);
    }
}

bool hand_over_is_listener(int fd)
{
    Listener *l;

    QEMU_LOCK_GUARD(&listeners_lock);
    QTAILQ_FOREACH(l, &listeners, next) {
        if (l->fd == fd) {
            return true;
        }
    }
    return false;
}

bool hand_over_listener_is_held(int fd)
{
    Listener *l;

    QEMU_LOCK_GUARD(&listeners_lock);
    for (guint i = 0; i < inherited->len; i++) {
        if (inherited_at(i)->claimed && inherited_at(i)->fd == fd) {
            return true;
        }
    }
    QTAILQ_FOREACH(l, &listeners, next) {
        if (l->fd == fd && l->released) {
            return true;
        }
    }
    return false;
}

bool hand_over_listener_owns_path(int fd)
{
    if (hand_over_listener_is_held(fd)) {
        QEMU_LOCK_GUARD(&listeners_lock);
        for (guint i = 0; i < inherited->len; i++) {
            if (inherited_at(i)->fd == fd) {
                /* it is going to be closed */
                inherited_at(i)->claimed = false;
                inherited_at(i)->fd = -1;
            }
        }
        return false;
    }
    return true;
}

/* Lock not held, because the callbacks call hand_over_listener_is_held() */
static void listeners_changed(void)
{
    Listener *l, *tmp;

    QTAILQ_FOREACH_SAFE(l, &listeners, next, tmp) {
        l->changed(l->opaque);
    }
}

/*
 * Source
 */

static void listening_clear(void *opaque)
{
    close(((HandOverListening *)opaque)->fd);
}

GArray *hand_over_listeners_collect(void)
{
    GArray *list = g_array_new(false, false, sizeof(HandOverListening));
    Listener *l;

    g_array_set_clear_func(list, listening_clear);
    QEMU_LOCK_GUARD(&listeners_lock);
    g_ptr_array_set_size(collected, 0);
    QTAILQ_FOREACH(l, &listeners, next) {
        HandOverListening listening = {
            .fd = qemu_dup(l->fd),
            .number = l->fd,
        };

        if (listening.fd >= 0) {
            g_ptr_array_add(collected, l);
            g_array_append_val(list, listening);
        }
    }
    return list;
}

void hand_over_listeners_restore(void)
{
    bool any = false;
    Listener *l;

    WITH_QEMU_LOCK_GUARD(&listeners_lock) {
        QTAILQ_FOREACH(l, &listeners, next) {
            any |= l->released;
            l->released = false;
        }
    }
    if (any) {
        listeners_changed();
    }
}

bool hand_over_listeners_release(const uint32_t *claimed, size_t n_claimed,
                              Error **errp)
{
    WITH_QEMU_LOCK_GUARD(&listeners_lock) {
        for (size_t i = 0; i < n_claimed; i++) {
            Listener *l;

            if (claimed[i] >= collected->len) {
                error_setg(errp, "the destination claims listening socket %u: "
                           "expected one of %u", claimed[i], collected->len);
                return false;
            }
            l = collected->pdata[claimed[i]];
            if (!l) {
                error_setg(errp, "listening socket %u, which the destination "
                           "claims, was closed during the hand-over",
                           claimed[i]);
                return false;
            }
            if (l->released) {
                error_setg(errp, "the destination claims listening socket %u "
                           "twice", claimed[i]);
                return false;
            }
            l->released = true;
        }
    }
    if (n_claimed) {
        listeners_changed();
    }
    return true;
}

/*
 * Destination
 */

void hand_over_inherit_listener(int fd, int source_fd)
{
    Inherited in = { .fd = fd, .source_fd = source_fd };

    g_array_append_val(inherited, in);
}

bool hand_over_next_number(const char **text, uint64_t *number)
{
    const char *p = *text;

    while (*p && !qemu_isdigit(*p)) {
        p++;
    }
    *text = p;
    if (!*p) {
        return false;
    }
    if (qemu_strtou64(p, text, 10, number) < 0) {
        *number = UINT64_MAX;
    }
    return true;
}

void hand_over_inherit_reserve(char **argv)
{
    int holder = eventfd(0, EFD_CLOEXEC);
    bool named = false;

    for (; holder >= 0 && *argv; argv++) {
        const char *p = *argv;
        uint64_t number;

        while (hand_over_next_number(&p, &number)) {
            if (number == holder) {
                named = true;
            } else if (number > STDERR_FILENO && number <= INT_MAX &&
                       fcntl(number, F_GETFD) < 0 &&
                       dup3(holder, number, O_CLOEXEC) >= 0) {
                int fd = number;

                g_array_append_val(reserved, fd);
            }
        }
    }
    if (named) {
        g_array_append_val(reserved, holder);
    } else if (holder >= 0) {
        close(holder);
    }
}

static bool number_is_reserved(int fd)
{
    for (guint i = 0; i < reserved->len; i++) {
        if (g_array_index(reserved, int, i) == fd) {
            g_array_remove_index(reserved, i);
            return true;
        }
    }
    return false;
}

/* Free number @fd if an inherited socket or *@sock has it, by moving that */
static void number_vacate(int fd, int *sock)
{
    int *at = *sock == fd ? sock : NULL;
    int moved;

    for (guint i = 0; i < inherited->len; i++) {
        if (inherited_at(i)->fd == fd) {
            at = &inherited_at(i)->fd;
        }
    }
    /* at a new number, because @fd is still open */
    moved = at ? fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1) : -1;
    if (moved >= 0) {
        close(fd);
        *at = moved;
    }
}

void hand_over_inherit_numbers(int *sock)
{
    for (guint i = 0; i < inherited->len; i++) {
        Inherited *in = inherited_at(i);
        int number = in->source_fd;

        if (in->fd == number || number <= STDERR_FILENO) {
            continue;
        }
        number_vacate(number, sock);
        /* Leave a number alone that another file has: @argv does not name it */
        if ((number_is_reserved(number) || fcntl(number, F_GETFD) < 0) &&
            dup3(in->fd, number, O_CLOEXEC) == number) {
            close(in->fd);
            in->fd = number;
        }
    }
    for (guint i = 0; i < reserved->len; i++) {
        close(g_array_index(reserved, int, i));
    }
    g_array_set_size(reserved, 0);
}

int hand_over_inherit_claim(HandOverMatch *match, const void *opaque)
{
    QEMU_LOCK_GUARD(&listeners_lock);
    for (guint i = 0; i < inherited->len; i++) {
        Inherited *in = inherited_at(i);

        if (!in->claimed && match(in->fd, in->source_fd, opaque)) {
            in->claimed = true;
            return in->fd;
        }
    }
    return -1;
}

GArray *hand_over_inherit_claimed(void)
{
    GArray *claimed = g_array_new(false, false, sizeof(uint32_t));

    QEMU_LOCK_GUARD(&listeners_lock);
    for (uint32_t i = 0; i < inherited->len; i++) {
        Inherited *in = inherited_at(i);

        if (in->claimed) {
            g_array_append_val(claimed, i);
        } else if (in->fd >= 0) {
            close(in->fd);
            in->fd = -1;
        }
    }
    return claimed;
}

void hand_over_listeners_drop_inherited(void)
{
    WITH_QEMU_LOCK_GUARD(&listeners_lock) {
        g_array_set_size(inherited, 0);
    }
    listeners_changed();
}
