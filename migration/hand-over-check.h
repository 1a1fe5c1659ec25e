/*
 * Hand-over: blockers of a hand-over to a QEMU that this process starts
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_CHECK_H
#define MIGRATION_HAND_OVER_CHECK_H

#include "qapi/qapi-types-hand-over.h"

/*
 * Main thread: append to the list at @tail everything that this process can't
 * pass on to a QEMU that it starts, each with the option that causes it.
 *
 * @own_command_line: the new QEMU is to be started with this process's command
 *                    line, and so without any later change
 */
void hand_over_check_exec(bool own_command_line, HandOverBlockerList ***tail);

#endif
