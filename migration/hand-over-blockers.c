/*
 * Hand-over: blockers of any hand-over
 *
 * Migration capabilities and blockers, and those of the architecture.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "system/runstate.h"
#include "hand-over-blockers.h"
#include "hand-over-departed.h"
#include "hand-over-internal.h"
#include "hand-over-ram.h"
#include "migration.h"
#include "migration/misc.h"
#include "options.h"

void hand_over_block(HandOverBlockerList ***tail, const char *option,
                     const char *fmt, ...)
{
    HandOverBlocker *blocker = g_new0(HandOverBlocker, 1);
    va_list ap;

    va_start(ap, fmt);
    blocker->reason = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    blocker->option = g_strdup(option);
    QAPI_LIST_APPEND(*tail, blocker);
}

/* Capabilities that make no sense for, or would interfere with, a hand-over */
static const MigrationCapability conflicting[] = {
    MIGRATION_CAPABILITY_BACKGROUND_SNAPSHOT,
    MIGRATION_CAPABILITY_MAPPED_RAM,
    MIGRATION_CAPABILITY_MULTIFD,
    MIGRATION_CAPABILITY_POSTCOPY_RAM,
    MIGRATION_CAPABILITY_X_COLO,
};

/*
 * ... and those that do not matter to a hand-over that begins as a migration:
 * it is done with them by then
 */
static const MigrationCapability conflicting_at_once[] = {
    MIGRATION_CAPABILITY_RETURN_PATH,
    MIGRATION_CAPABILITY_SWITCHOVER_ACK,
};

static void check_capabilities(HandOverBlockerList ***tail,
                               const MigrationCapability *caps, size_t n)
{
    MigrationState *s = migrate_get_current();

    for (size_t i = 0; i < n; i++) {
        if (s->capabilities[caps[i]]) {
            hand_over_block(tail, NULL, "migration capability '%s' is enabled",
                            MigrationCapability_str(caps[i]));
        }
    }
}

void hand_over_check_switch(HandOverBlockerList ***tail)
{
    MigrationState *s = migrate_get_current();
    const HandOverArch *arch = hand_over_arch();
    Error *err = NULL;
    strList *reasons, *r;

    reasons = migration_blocked_reasons(MIG_MODE_HAND_OVER);
    for (r = reasons; r; r = r->next) {
        hand_over_block(tail, NULL, "%s", r->value);
    }
    qapi_free_strList(reasons);

    check_capabilities(tail, conflicting, ARRAY_SIZE(conflicting));
    if (s->parameters.tls_creds && *s->parameters.tls_creds) {
        hand_over_block(tail, NULL, "migration parameter 'tls-creds' is set");
    }

    hand_over_ram_check(tail);

    /* a lost guest has passed this before */
    if (!hand_over_guest_is_lost() && arch && arch->check &&
        !arch->check(&err)) {
        hand_over_block(tail, NULL, "%s", error_get_pretty(err));
        error_free(err);
    }
}

void hand_over_check_guest(HandOverBlockerList ***tail)
{
    MigrationState *s = migrate_get_current();

    hand_over_look_back();
    if (hand_over_guest_is_elsewhere()) {
        hand_over_block(tail, NULL, "the guest has been handed over");
        return;
    }
    if (migration_is_running()) {
        hand_over_block(tail, NULL, "a migration is in progress");
    } else if (s->migration_thread_running) {
        /* It has failed, but its thread has not been joined yet */
        hand_over_block(tail, NULL,
                        "the last migration is still being cleaned up");
    }
    if (runstate_check(RUN_STATE_INMIGRATE)) {
        hand_over_block(tail, NULL,
                        "the guest waits for an incoming migration");
    } else if (runstate_check(RUN_STATE_POSTMIGRATE)) {
        hand_over_block(tail, NULL, "the guest has been migrated");
    }

    check_capabilities(tail, conflicting_at_once,
                       ARRAY_SIZE(conflicting_at_once));
    hand_over_check_switch(tail);
}

bool hand_over_blockers_to_error(const HandOverBlockerList *list, Error **errp)
{
    const HandOverBlockerList *l;
    size_t more = 0;

    if (!list) {
        return false;
    }
    error_setg(errp, "%s", list->value->reason);
    for (l = list->next; l; l = l->next) {
        more++;
    }
    if (list->value->option) {
        error_append_hint(errp, "See option %s.\n", list->value->option);
    }
    if (more) {
        error_prepend(errp, "(one of %zu reasons, check-only lists all) ",
                      more + 1);
    }
    return true;
}

bool hand_over_is_blocked(Error **errp)
{
    g_autoptr(HandOverBlockerList) list = NULL;
    HandOverBlockerList **tail = &list;

    hand_over_check_guest(&tail);
    return hand_over_blockers_to_error(list, errp);
}
