/*
 * Emulated AMD Platform Security Processor: stubs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-misc-target.h"
#include "monitor/hmp-target.h"
#include "monitor/monitor.h"

SevPlatformInfo *qmp_query_sev_platform(Error **errp)
{
    error_setg(errp, "this QEMU was built without amd-psp");
    return NULL;
}

void hmp_info_sev_platform(Monitor *mon, const QDict *qdict)
{
    monitor_printf(mon, "this QEMU was built without amd-psp\n");
}
