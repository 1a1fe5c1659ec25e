/*
 * Hand-over: blockers of a hand-over to a QEMU that this process starts
 *
 * Everything that can't be passed on to it.  Listening sockets, the PID file
 * and forwarded ports can, see include/qemu/hand-over-resource.h.  Terminals,
 * and network interfaces and devices of the host that can be open only once,
 * can't; nor, with this process's own command line, can anything that was
 * changed since it started.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/config-file.h"
#include "qemu/cutils.h"
#include "qemu/job.h"
#include "qemu/option.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block-export.h"
#include "block/block.h"
#include "block/block_int.h"
#include "chardev/char.h"
#include "hw/qdev-core.h"
#include "net/net.h"
#include "qemu/hand-over-resource.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qstring.h"
#include "system/block-backend.h"
#include "hand-over-argv.h"
#include "hand-over-blockers.h"
#include "hand-over-check.h"

typedef struct ExecCheck {
    HandOverBlockerList ***tail;
    bool own;
} ExecCheck;

#define block_by(check, ...) hand_over_block((check)->tail, __VA_ARGS__)

static void note_option(const char *arg, void *opaque)
{
    *(bool *)opaque = true;
}

/* Options of this process's command line that a second process can't honour */
static void check_options(ExecCheck *check)
{
    static const struct {
        const char *name;
        const char *reason;
    } options[] = {
        { "runas", "this process has given up the privilege to change its "
                   "user" },
        { "chroot", "this process has another root directory than the one it "
                    "was started in" },
        { "snapshot", "data written since the start is in files that no "
                      "other process can find" },
        { "add-fd", "descriptors by number can't be passed on" },
        { "spice", "its sockets can't be passed on" },
    };

    for (size_t i = 0; check->own && i < ARRAY_SIZE(options); i++) {
        bool found = false;

        hand_over_own_option_foreach(options[i].name, note_option, &found);
        if (found) {
            g_autofree char *option = g_strdup_printf("-%s", options[i].name);

            block_by(check, option, "%s", options[i].reason);
        }
    }
}

/* -run-with, -sandbox: only some of their parameters are blockers */
static int check_opts(void *opaque, QemuOpts *opts, Error **errp)
{
    ExecCheck *check = opaque;
    const char *user = qemu_opt_get(opts, "user");
    const char *root = qemu_opt_get(opts, "chroot");
    const char *spawn = qemu_opt_get(opts, "spawn");

    if (check->own && user) {
        block_by(check, "-run-with user",
                 "this process has given up the privilege to change its user");
    }
    if (check->own && root) {
        block_by(check, "-run-with chroot",
                 "this process has another root directory than the one it was "
                 "started in");
    }
    if (!g_strcmp0(spawn, "deny")) {
        block_by(check, "-sandbox spawn=deny",
                 "this process may not start other processes");
    }
    return 0;
}

static void check_opts_list(ExecCheck *check, const char *name)
{
    QemuOptsList *list = qemu_find_opts_err(name, NULL);

    if (list) {
        qemu_opts_foreach(list, check_opts, check, NULL);
    }
}

/* Would another process that reads our standard input consume our data? */
static bool stdin_has_data(void)
{
    struct stat st;

    /* not /dev/null, as a daemon has it */
    return fstat(STDIN_FILENO, &st) == 0 &&
           (!S_ISCHR(st.st_mode) || isatty(STDIN_FILENO));
}

/* Character devices that two processes can't have at once */
static const struct {
    const char *type;           /* behind "chardev-" */
    const char *reason;
    bool (*applies)(void);      /* NULL: always */
    bool own;                   /* only with this process's command line */
} exclusive_chardevs[] = {
    { "pty", "is a pseudo-terminal, whose clients know it by its path" },
    { "stdio", "is the standard input that this process was started with: "
               "another one would take what is read there", stdin_has_data },
    { "pipe", "is a pipe: another process would take what is read there",
      .own = true },
    { "udp", "is a UDP port, whose peer knows it by its number" },
    { "serial", "is a serial port of the host" },
    { "parallel", "is a parallel port of the host" },
    { "braille", "is a device of the host" },
    { "dbus", "is known to a D-Bus server" },
    { "spicevmc", "belongs to a SPICE server" },
    { "spiceport", "belongs to a SPICE server" },
};

static void check_chardev(ExecCheck *check, Chardev *chr)
{
    const char *type = object_get_typename(OBJECT(chr));

    if (!strstart(type, "chardev-", &type)) {
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(exclusive_chardevs); i++) {
        if (!strcmp(type, exclusive_chardevs[i].type) &&
            (check->own || !exclusive_chardevs[i].own) &&
            (!exclusive_chardevs[i].applies ||
             exclusive_chardevs[i].applies())) {
            g_autofree char *option = g_strdup_printf("-chardev %s,id=%s",
                                                      type, chr->label);

            block_by(check, option, "character device '%s' %s", chr->label,
                     exclusive_chardevs[i].reason);
        }
    }
}

/* The container of user-created devices, with or without an id */
static Object *peripheral(const char *name)
{
    return object_resolve_path_component(qdev_get_machine(), name);
}

static void check_device(ExecCheck *check, DeviceState *dev)
{
    const char *type = object_get_typename(OBJECT(dev));
    const char *id = dev->id ? dev->id : dev->canonical_path;

    if (!strcmp(type, "usb-host") || g_str_has_prefix(type, "vfio-") ||
        g_str_has_prefix(type, "vhost-") || strstr(type, "-vhost-") ||
        g_str_has_prefix(type, "vhost-vdpa-")) {
        g_autofree char *option = g_strdup_printf("-device %s", type);

        block_by(check, option, "device '%s' is implemented by another "
                 "process, or by the host's kernel", id);
    }
    /* Child devices of a hot-plugged device are marked, too */
    if (check->own && dev->hotplugged &&
        (OBJECT(dev)->parent == peripheral("peripheral") ||
         OBJECT(dev)->parent == peripheral("peripheral-anon"))) {
        block_by(check, NULL, "device '%s' was hot-plugged, this process's "
                 "command line does not have it", id);
    }
}

static int check_object(Object *obj, void *opaque)
{
    ExecCheck *check = opaque;

    if (object_dynamic_cast(obj, TYPE_CHARDEV)) {
        check_chardev(check, CHARDEV(obj));
    } else if (object_dynamic_cast(obj, TYPE_DEVICE)) {
        check_device(check, DEVICE(obj));
    } else if (object_dynamic_cast(obj, "tpm-backend")) {
        block_by(check, "-tpmdev", "the TPM '%s' serves one process only",
                 object_get_canonical_path_component(obj));
    }
    return 0;
}

static void check_netdevs(ExecCheck *check)
{
    NetClientState *ncs[MAX_QUEUE_NUM];
    int n = qemu_find_net_clients_except(NULL, ncs, NET_CLIENT_DRIVER_NIC,
                                         MAX_QUEUE_NUM);

    for (int i = 0; i < MIN(n, MAX_QUEUE_NUM); i++) {
        g_autofree char *option = NULL;

        switch (ncs[i]->info->type) {
        case NET_CLIENT_DRIVER_TAP:
            if (!strcmp(ncs[i]->model, "bridge")) {
                /* the new process gets an interface of its own */
                break;
            }
            goto only_one;
#ifdef CONFIG_AF_XDP
        case NET_CLIENT_DRIVER_AF_XDP:
#endif
        case NET_CLIENT_DRIVER_SOCKET:
        case NET_CLIENT_DRIVER_DGRAM:
            /* many can join a multicast group, and streams are passed on */
            if (!strstart(ncs[i]->info_str, "udp=", NULL) &&
                !strstart(ncs[i]->info_str, "socket: udp=", NULL)) {
                break;
            }
            goto only_one;
        case NET_CLIENT_DRIVER_L2TPV3:
        case NET_CLIENT_DRIVER_VHOST_USER:
        case NET_CLIENT_DRIVER_VHOST_VDPA:
only_one:
            option = g_strdup_printf("-netdev %s,id=%s",
                NetClientDriver_str(ncs[i]->info->type), ncs[i]->name);
            block_by(check, option, "network backend '%s' can be open in one "
                     "process only", ncs[i]->name);
            break;
        default:
            break;
        }
    }
}

static void check_block(ExecCheck *check)
{
    g_autoptr(BlockExportInfoList) exports = qmp_query_block_exports(NULL);
    BlockDriverState *bs;
    Job *job;

    WITH_JOB_LOCK_GUARD() {
        for (job = job_next_locked(NULL); job; job = job_next_locked(job)) {
            if (!job_is_completed_locked(job)) {
                block_by(check, NULL, "job '%s' (%s) is running",
                         job->id ? job->id : "", job_type_str(job));
            }
        }
    }
    for (BlockExportInfoList *e = exports; e; e = e->next) {
        block_by(check, NULL, "block export '%s' of node '%s' is served by "
                 "this process", e->value->id, e->value->node_name);
    }
    GRAPH_RDLOCK_GUARD_MAINLOOP();
    for (bs = bdrv_next_all_states(NULL); bs; bs = bdrv_next_all_states(bs)) {
        if (bs->open_flags & BDRV_O_TEMPORARY) {
            block_by(check, "-drive snapshot=on", "data written to '%s' "
                     "is in a file that no other process can find",
                     bs->filename);
        } else if (check->own && g_str_has_prefix(bs->filename,
                                                  "/dev/fdset/")) {
            block_by(check, "-add-fd", "image '%s' is known by its descriptor "
                     "only", bs->filename);
        }
    }
}

/* The value of @key in an option's argument; to be freed with g_free() */
static char *option_value(const char *arg, const char *key)
{
    size_t len = strlen(key);
    const char *p;

    for (p = arg; (p = strstr(p, key)); p += len) {
        if ((p == arg || p[-1] == ',') && p[len] == '=') {
            return g_strndup(p + len + 1, strcspn(p + len + 1, ","));
        }
    }
    return NULL;
}

/* A device of the command line that has been unplugged would come back */
static void check_unplugged(const char *value, void *opaque)
{
    ExecCheck *check = opaque;
    g_autofree char *id = NULL;

    if (*value == '{') {
        QDict *dict = qobject_to(QDict, qobject_from_json(value, NULL));

        id = dict ? g_strdup(qdict_get_try_str(dict, "id")) : NULL;
        qobject_unref(dict);
    } else {
        id = option_value(value, "id");
    }
    if (id &&
        !object_resolve_path_component(peripheral("peripheral"), id)) {
        block_by(check, NULL, "device '%s' of this process's command line was "
                 "unplugged", id);
    }
}

/* A descriptor given by number is passed on only if it is a listening socket */
static void check_number(ExecCheck *check, const char *option, const char *str)
{
    int fd;

    if (qemu_strtoi(str, NULL, 10, &fd) < 0 || !hand_over_is_listener(fd)) {
        block_by(check, option, "descriptor %s can't be passed on by its "
                 "number", str);
    }
}

/* Members and parameters whose values are numbers of descriptors */
static const char *const fd_keys[] = { "fd", "fds", "vhostfd", "vhostfds" };

static void check_json_fds(ExecCheck *check, const char *option, QDict *dict)
{
    const QDictEntry *e;

    for (e = qdict_first(dict); e; e = qdict_next(dict, e)) {
        QObject *obj = qdict_entry_value(e);
        QDict *inner = qobject_to(QDict, obj);
        QString *str = qobject_to(QString, obj);

        if (inner) {
            if (!g_strcmp0(qdict_get_try_str(inner, "type"), "fd") &&
                qdict_get_try_str(inner, "str")) {
                check_number(check, option, qdict_get_try_str(inner, "str"));
            }
            check_json_fds(check, option, inner);
        }
        for (size_t i = 0; str && i < ARRAY_SIZE(fd_keys); i++) {
            if (!strcmp(qdict_entry_key(e), fd_keys[i])) {
                check_number(check, option, qstring_get_str(str));
            }
        }
    }
}

typedef struct FdCheck {
    ExecCheck *check;
    const char *option;
} FdCheck;

static void check_fds(const char *value, void *opaque)
{
    static const char *const addresses[] = { "addr", "local", "remote" };
    FdCheck *fds = opaque;

    if (*value == '{') {
        QDict *dict = qobject_to(QDict, qobject_from_json(value, NULL));

        if (dict) {
            check_json_fds(fds->check, fds->option, dict);
        }
        qobject_unref(dict);
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(fd_keys); i++) {
        g_autofree char *number = option_value(value, fd_keys[i]);

        if (number) {
            check_number(fds->check, fds->option, number);
        }
    }
    for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
        g_autofree char *type_key = g_strconcat(addresses[i], ".type", NULL);
        g_autofree char *str_key = g_strconcat(addresses[i], ".str", NULL);
        g_autofree char *type = option_value(value, type_key);
        g_autofree char *number = option_value(value, str_key);

        if (number && !g_strcmp0(type, "fd")) {
            check_number(fds->check, fds->option, number);
        }
    }
}

void hand_over_check_exec(bool own_command_line, HandOverBlockerList ***tail)
{
    ExecCheck check = { .tail = tail, .own = own_command_line };

    check_options(&check);
    check_opts_list(&check, "run-with");
    check_opts_list(&check, "sandbox");
    object_child_foreach_recursive(object_get_root(), check_object, &check);
    check_netdevs(&check);
    check_block(&check);
    if (own_command_line) {
        static const char *const with_fds[] = {
            "chardev", "device", "net", "netdev", "nic", "object"
        };

        hand_over_own_option_foreach("device", check_unplugged, &check);
        for (size_t i = 0; i < ARRAY_SIZE(with_fds); i++) {
            g_autofree char *option = g_strdup_printf("-%s fd=", with_fds[i]);
            FdCheck fds = { .check = &check, .option = option };

            hand_over_own_option_foreach(with_fds[i], check_fds, &fds);
        }
    }
}
