/*
 * Hand-over: the command line of this process
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qapi/error.h"
#include "system/system.h"
#include "hand-over-argv.h"

char *hand_over_own_binary(Error **errp)
{
    g_autoptr(GError) err = NULL;
    char *path = g_file_read_link("/proc/self/exe", &err);

    if (!path) {
        error_setg(errp, "cannot determine this process's binary: %s",
                   err->message);
        return NULL;
    }
    /* The kernel appends this if the file has been replaced since */
    if (g_str_has_suffix(path, " (deleted)")) {
        path[strlen(path) - strlen(" (deleted)")] = '\0';
    }
    return path;
}

typedef void OptionFunc(const char *option, const char *name, const char *arg,
                        void *opaque);

/*
 * Call @func for each option of this process's command line.  For anything
 * else (argv[0], an image's name) @name is NULL, for an option without an
 * argument @arg is NULL.
 */
static bool own_cmdline_foreach(OptionFunc *func, void *opaque, Error **errp)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *cmdline = NULL;
    const char *arg, *end;
    gsize len;

    if (!g_file_get_contents("/proc/self/cmdline", &cmdline, &len, &err)) {
        error_setg(errp, "cannot read this process's command line: %s",
                   err->message);
        return false;
    }
    end = cmdline + len;
    for (arg = cmdline; arg < end; arg += strlen(arg) + 1) {
        const char *next = arg + strlen(arg) + 1;
        const char *name = arg;

        if (arg == cmdline || *arg != '-') {
            func(arg, NULL, NULL, opaque);
            continue;
        }
        name += name[1] == '-' ? 2 : 1;
        if (qemu_option_has_arg(name) && next < end) {
            func(arg, name, next, opaque);
            arg = next;
        } else {
            func(arg, name, NULL, opaque);
        }
    }
    return true;
}

static void own_argv_add(const char *option, const char *name,
                         const char *arg, void *opaque)
{
    static const char *const dropped[] = {
        "incoming", "loadvm", "S", "daemonize", "preconfig"
    };
    GPtrArray *argv = opaque;

    for (size_t i = 0; name && i < ARRAY_SIZE(dropped); i++) {
        if (!strcmp(name, dropped[i])) {
            return;
        }
    }
    g_ptr_array_add(argv, g_strdup(option));
    if (arg) {
        g_ptr_array_add(argv, g_strdup(arg));
    }
}

char **hand_over_own_argv(Error **errp)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);

    if (!own_cmdline_foreach(own_argv_add, argv, errp)) {
        return NULL;
    }
    g_ptr_array_add(argv, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&argv), false);
}

typedef struct OptionSearch {
    const char *name;
    void (*func)(const char *arg, void *opaque);
    void *opaque;
} OptionSearch;

static void own_option_match(const char *option, const char *name,
                             const char *arg, void *opaque)
{
    OptionSearch *search = opaque;

    if (name && !strcmp(name, search->name)) {
        search->func(arg ? arg : "", search->opaque);
    }
}

void hand_over_own_option_foreach(const char *name,
                                  void (*func)(const char *arg, void *opaque),
                                  void *opaque)
{
    OptionSearch search = { .name = name, .func = func, .opaque = opaque };

    /* hand_over_own_argv() reports a command line that can't be read */
    own_cmdline_foreach(own_option_match, &search, NULL);
}
