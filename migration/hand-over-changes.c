/*
 * Hand-over: has the guest's machine changed since the request?
 *
 * When a hand-over is requested, the command line of the destination is fixed,
 * or the destination has even been started.  It compares what it is offered
 * with what it has; then the guest may run on for as long as a management tool
 * likes (pause-before-switchover).  In the meantime the guest may release a
 * device whose unplug was requested long ago, a medium may be changed, or a
 * snapshot taken.  Then the destination has a different machine, or a different
 * image, which can't be detected from the migration stream.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "block/block_int.h"
#include "hw/core/cpu.h"
#include "system/block-backend.h"
#include "hand-over-changes.h"
#include "hand-over-ram.h"
#include "savevm.h"

/* The machine when the hand-over was requested: parts by name, as text */
static GHashTable *then;

/* The table takes ownership of both strings */
static void part_add(GHashTable *parts, char *name, char *what)
{
    g_hash_table_insert(parts, name, what);
}

static void part_add_section(const SaveVMSection *section, void *opaque)
{
    part_add(opaque, g_strdup_printf("device state '%s' (instance %" PRIu32 ")",
                                     section->idstr, section->instance_id),
             g_strdup_printf("version %d", section->version_id));
}

static void parts_add_ram(GHashTable *parts)
{
    g_autofree char *table = hand_over_ram_table();
    g_auto(GStrv) blocks = g_strsplit(table, "\n", 0);

    for (char **block = blocks; *block; block++) {
        char *size = strrchr(*block, ' ');

        if (size) {
            part_add(parts, g_strdup_printf("RAM block '%.*s'",
                                            (int)(size - *block), *block),
                     g_strdup_printf("of %s bytes", size + 1));
        }
    }
}

/*
 * @bs and all nodes below it, as text: the files, and how they are connected.
 * Node names are left out, as they depend on the command that has created the
 * node; so are filters, which come and go (with jobs) without changing what
 * the guest reads.
 */
static void GRAPH_RDLOCK image_print(GString *text, BlockDriverState *bs)
{
    BdrvChild *child;

    bs = bdrv_skip_filters(bs);
    g_string_append(text, bs->drv ? bs->drv->format_name : "");
    if (QLIST_EMPTY(&bs->children)) {
        g_string_append_printf(text, ":%s", bs->filename);
    }
    QLIST_FOREACH(child, &bs->children, next) {
        g_string_append_printf(text, " (%s ", child->name);
        image_print(text, child->bs);
        g_string_append_c(text, ')');
    }
}

static void parts_add_drives(GHashTable *parts)
{
    BlockBackend *blk;

    GRAPH_RDLOCK_GUARD_MAINLOOP();
    for (blk = blk_all_next(NULL); blk; blk = blk_all_next(blk)) {
        g_autofree char *dev = NULL;
        GString *image;

        if (!blk_get_attached_dev(blk)) {
            continue;
        }
        dev = blk_get_attached_dev_id(blk);
        image = g_string_new(NULL);
        if (blk_bs(blk)) {
            image_print(image, blk_bs(blk));
        } else {
            g_string_append(image, "empty");
        }
        part_add(parts, g_strdup_printf("drive '%s'",
                                        *blk_name(blk) ? blk_name(blk) : dev),
                 g_string_free(image, false));
    }
}

static GHashTable *parts_collect(void)
{
    GHashTable *parts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                              g_free);
    unsigned cpus = 0;
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        cpus++;
    }
    part_add(parts, g_strdup("number of CPUs"), g_strdup_printf("%u", cpus));
    qemu_savevm_state_foreach(part_add_section, parts);
    parts_add_ram(parts);
    parts_add_drives(parts);
    return parts;
}

void hand_over_changes_begin(void)
{
    g_clear_pointer(&then, g_hash_table_unref);
    then = parts_collect();
}

bool hand_over_changes_none(Error **errp)
{
    g_autoptr(GHashTable) now = parts_collect();
    GHashTableIter iter;
    gpointer name, what;

    g_hash_table_iter_init(&iter, then);
    while (g_hash_table_iter_next(&iter, &name, &what)) {
        const char *is = g_hash_table_lookup(now, name);

        if (!is) {
            error_setg(errp, "the guest has changed during the hand-over: %s "
                       "is gone", (char *)name);
            return false;
        }
        if (strcmp(is, what)) {
            error_setg(errp, "the guest has changed during the hand-over: %s "
                       "was '%s', and is '%s'", (char *)name, (char *)what, is);
            return false;
        }
    }
    g_hash_table_iter_init(&iter, now);
    while (g_hash_table_iter_next(&iter, &name, &what)) {
        if (!g_hash_table_contains(then, name)) {
            error_setg(errp, "the guest has changed during the hand-over: %s "
                       "is new", (char *)name);
            return false;
        }
    }
    return true;
}
