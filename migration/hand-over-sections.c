/*
 * Hand-over: do both QEMUs have the same devices and images?
 *
 * An ordinary migration detects a mismatch only when it loads the first section
 * that does not fit, and never detects a device that the source does not have.
 * A hand-over compares beforehand, while the guest runs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "block/block_int.h"
#include "system/block-backend.h"
#include "hand-over-sections.h"
#include "savevm.h"

static void section_append(const SaveVMSection *section, void *opaque)
{
    HandOverSectionList ***tail = opaque;
    HandOverSection *copy = g_new0(HandOverSection, 1);

    copy->name = g_strdup(section->idstr);
    copy->instance = section->instance_id;
    copy->version = section->version_id;
    copy->needed = section->needed;
    QAPI_LIST_APPEND(*tail, copy);
}

HandOverSectionList *hand_over_sections(void)
{
    HandOverSectionList *list = NULL, **tail = &list;

    qemu_savevm_state_foreach(section_append, &tail);
    return list;
}

/*
 * @ours: SaveVMSection by key
 * @devices: paths of the source's devices
 * @surplus: path of a device that the source does not have, or NULL
 */
typedef struct SectionMatch {
    GHashTable *ours;
    GHashTable *devices;
    char *surplus;
} SectionMatch;

static char *section_key(const char *name, uint32_t instance)
{
    return g_strdup_printf("%s %" PRIu32, name, instance);
}

/* The part of a section's name that is its device's path */
static char *section_device(const char *name)
{
    const char *end = strrchr(name, '/');

    return end ? g_strndup(name, end - name) : NULL;
}

static void section_note(const SaveVMSection *section, void *opaque)
{
    SectionMatch *match = opaque;

    g_hash_table_insert(match->ours,
                        section_key(section->idstr, section->instance_id),
                        g_memdup2(section, sizeof(*section)));
}

static void section_check_surplus(const SaveVMSection *section, void *opaque)
{
    SectionMatch *match = opaque;
    g_autofree char *device = NULL;

    if (match->surplus || !section->of_device) {
        return;
    }
    /*
     * A device that exists at both ends may well have an additional section
     * here: this QEMU may be newer.
     */
    device = section_device(section->idstr);
    if (device && !g_hash_table_contains(match->devices, device)) {
        match->surplus = g_steal_pointer(&device);
    }
}

static bool section_check(const HandOverSection *theirs,
                          const SaveVMSection *ours, Error **errp)
{
    if (!ours) {
        error_setg(errp, "the source has device state '%s' (instance %u), "
                   "for which there is no device here", theirs->name,
                   theirs->instance);
        return false;
    }
    if (theirs->version > ours->version_id ||
        theirs->version < ours->minimum_version_id) {
        error_setg(errp, "device state '%s' (instance %u) is of version "
                   "%" PRId64 " at the source, expected %d to %d",
                   theirs->name, theirs->instance, theirs->version,
                   ours->minimum_version_id, ours->version_id);
        return false;
    }
    return true;
}

bool hand_over_sections_match(const HandOverSectionList *theirs, Error **errp)
{
    SectionMatch match = {
        .ours = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
        .devices = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                         NULL),
    };
    bool ok = true;

    qemu_savevm_state_foreach(section_note, &match);
    for (; ok && theirs; theirs = theirs->next) {
        const HandOverSection *section = theirs->value;
        g_autofree char *key = section_key(section->name, section->instance);
        char *device = section_device(section->name);

        if (device) {
            g_hash_table_add(match.devices, device);
        }
        if (section->needed) {
            ok = section_check(section, g_hash_table_lookup(match.ours, key),
                               errp);
        }
    }
    if (ok) {
        qemu_savevm_state_foreach(section_check_surplus, &match);
        if (match.surplus) {
            error_setg(errp, "there is a device '%s' here, which the source "
                       "does not have", match.surplus);
            ok = false;
        }
    }
    g_free(match.surplus);
    g_hash_table_destroy(match.ours);
    g_hash_table_destroy(match.devices);
    return ok;
}

/* A drive's name, the same at both ends; to be freed with g_free() */
static char *drive_name(BlockBackend *blk)
{
    const char *name = blk_name(blk);

    return *name ? g_strdup(name) : blk_get_attached_dev_id(blk);
}

HandOverDriveList *hand_over_drives(void)
{
    HandOverDriveList *list = NULL, **tail = &list;
    BlockBackend *blk;

    for (blk = blk_all_next(NULL); blk; blk = blk_all_next(blk)) {
        g_autofree char *name = drive_name(blk);
        BlockDriverState *bs = blk_bs(blk);
        HandOverDrive *drive;

        if (!blk_get_attached_dev(blk) || !*name) {
            continue;
        }
        drive = g_new0(HandOverDrive, 1);
        drive->name = g_steal_pointer(&name);
        drive->file = g_strdup(bs ? bs->filename : "");
        QAPI_LIST_APPEND(tail, drive);
    }
    return list;
}

bool hand_over_drives_match(const HandOverDriveList *theirs, Error **errp)
{
    g_autoptr(HandOverDriveList) ours = hand_over_drives();

    for (; theirs; theirs = theirs->next) {
        const HandOverDrive *their = theirs->value;
        HandOverDriveList *l = ours;

        while (l && strcmp(l->value->name, their->name)) {
            l = l->next;
        }
        if (!l) {
            error_setg(errp, "drive '%s' of the source does not exist here",
                       their->name);
            return false;
        }
        if (strcmp(l->value->file, their->file)) {
            error_setg(errp, "drive '%s' has image '%s' at the source, and "
                       "'%s' here", their->name, their->file, l->value->file);
            return false;
        }
    }
    return true;
}
