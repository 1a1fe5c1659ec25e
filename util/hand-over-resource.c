/*
 * What two QEMUs on one host can't hold at the same time
 *
 * Owners of such resources register here.  Listening sockets have a file of
 * their own, hand-over-listener.c.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/hand-over-resource.h"
#include "qemu/queue.h"
#include "qapi/error.h"
#include "hand-over-listener.h"

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

bool hand_over_resources_release(const uint32_t *claimed, size_t n_claimed,
                                 Error **errp)
{
    bool ok = hand_over_listeners_release(claimed, n_claimed, errp);
    Resource *res;

    QTAILQ_FOREACH(res, &resources, next) {
        if (!ok) {
            break;
        }
        /* even if it fails halfway, it has to be restored */
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
    hand_over_listeners_restore();
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
        inheriting = false;
        hand_over_listeners_drop_inherited();
    }
}
