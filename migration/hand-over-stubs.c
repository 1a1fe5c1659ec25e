/*
 * Hand-over: stubs for hosts without memfd and pidfd
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-migration.h"
#include "monitor/hmp.h"
#include "hand-over-internal.h"
#include "hand-over-requests.h"

bool hand_over_guest_is_gone(Error **errp)
{
    return false;
}

bool hand_over_is_mode(void)
{
    return false;
}

bool hand_over_ram_is_anothers(void)
{
    return false;
}

void hand_over_incoming_shutdown(void)
{
}

bool hand_over_is_blocked(Error **errp)
{
    error_setg(errp, "this host's operating system can't hand guests over");
    return true;
}

void hand_over_incoming_early(char **argv)
{
}

const char *hand_over_incoming_option(const char *str)
{
    return str;
}

bool hand_over_is_only_way(Error **errp)
{
    return false;
}

bool hand_over_is_impossible(Error **errp)
{
    return false;
}

bool hand_over_channel_is_local(QIOChannel *ioc)
{
    return false;
}

int hand_over_peer_token(QIOChannel *ioc)
{
    return -1;
}

bool hand_over_source_may_take(const MigrationAddress *addr, Error **errp)
{
    return true;
}

bool hand_over_source_set_policy(MigrationState *s, Error **errp)
{
    return true;
}

bool hand_over_source_may_switch(void)
{
    return false;
}

bool hand_over_source_switch(MigrationState *s, Error **errp)
{
    return true;
}

bool hand_over_source_offer(MigrationState *s, Error **errp)
{
    return true;
}

void hand_over_source_stopping(MigrationState *s)
{
}

bool hand_over_source_stopped(MigrationState *s, Error **errp)
{
    return true;
}

bool hand_over_source_replays(void)
{
    return false;
}

int hand_over_source_replay(MigrationState *s)
{
    return 0;
}

bool hand_over_source_commit(MigrationState *s, Error **errp)
{
    return true;
}

bool hand_over_source_refused(MigrationState *s, Error **errp)
{
    return false;
}

void hand_over_source_finish(MigrationState *s)
{
}

void hand_over_source_restore(MigrationState *s)
{
}

void hand_over_source_cleanup(MigrationState *s)
{
}

void hand_over_look_back(void)
{
}

bool hand_over_source_can_cancel(Error **errp)
{
    return true;
}

void hand_over_source_cancel(MigrationState *s)
{
}

HandOverInfo *hand_over_info(void)
{
    return NULL;
}

bool hand_over_incoming_connection(QIOChannel *ioc)
{
    return false;
}

bool hand_over_incoming_active(void)
{
    return false;
}

bool coroutine_fn hand_over_incoming_switch(QEMUFile *f, Error **errp)
{
    error_setg(errp, "this host's operating system can't hand guests over");
    return false;
}

bool hand_over_incoming_section(Error **errp)
{
    return true;
}

bool coroutine_fn hand_over_incoming_loaded(Error **errp)
{
    return true;
}

bool hand_over_incoming_take(Error **errp)
{
    return true;
}

void hand_over_guest_confirm(void)
{
}

bool hand_over_in_flight(Error **errp)
{
    return false;
}

void hand_over_source_wait_cancelled(void)
{
}

bool hand_over_allows_command(const char *name, Error **errp)
{
    return true;
}

void hand_over_requests_put_now(void)
{
}

void hand_over_requests_drop(void)
{
}

void hand_over_requests_init(void)
{
}

void hand_over_incoming_failed(const Error *err)
{
}

void hand_over_info_print(Monitor *mon, const HandOverInfo *info)
{
}

void hmp_migrate_protected_vm(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;

    hand_over_is_blocked(&err);
    hmp_handle_error(mon, err);
}

HandOverCheck *qmp_migrate_protected_vm(bool has_exec, strList *exec,
                                        const char *uri, bool has_check_only,
                                        bool check_only, bool has_on_success,
                                        HandOverOnSuccess on_success,
                                        bool has_timeout, uint32_t timeout,
                                        bool has_downtime_limit,
                                        uint32_t downtime_limit, Error **errp)
{
    hand_over_is_blocked(errp);
    return NULL;
}
