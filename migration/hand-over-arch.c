/*
 * Hand-over: registration of the architecture's hooks
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hand-over-internal.h"

static const HandOverArch *arch;

void hand_over_arch_register(const HandOverArch *ops)
{
    assert(!arch);
    arch = ops;
}

const HandOverArch *hand_over_arch(void)
{
    return arch;
}

bool hand_over_is_only_way(Error **errp)
{
    return arch && arch->allows_migration && !arch->allows_migration(errp);
}

bool hand_over_is_impossible(Error **errp)
{
    return hand_over_is_only_way(NULL) && !hand_over_guest_is_gone(NULL) &&
           arch->check && !arch->check(errp);
}
