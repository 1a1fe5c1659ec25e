/*
 * Listening sockets: for hosts on which there are no hand-overs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/hand-over-resource.h"
#include "hand-over-listener.h"

void hand_over_listener_add(int fd, void (*changed)(void *opaque),
                            void *opaque)
{
}

void hand_over_listener_remove(int fd)
{
}

bool hand_over_is_listener(int fd)
{
    return false;
}

bool hand_over_listener_is_held(int fd)
{
    return false;
}

bool hand_over_listener_owns_path(int fd)
{
    return true;
}

GArray *hand_over_listeners_collect(void)
{
    return g_array_new(false, false, sizeof(HandOverListening));
}

bool hand_over_listeners_release(const uint32_t *claimed, size_t n_claimed,
                              Error **errp)
{
    return true;
}

void hand_over_listeners_restore(void)
{
}

void hand_over_inherit_listener(int fd, int source_fd)
{
}

void hand_over_inherit_reserve(char **argv)
{
}

void hand_over_inherit_numbers(int *sock)
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

GArray *hand_over_inherit_claimed(void)
{
    return g_array_new(false, false, sizeof(uint32_t));
}

void hand_over_listeners_drop_inherited(void)
{
}
