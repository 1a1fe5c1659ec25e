/*
 * Hand-over: replace the QEMU under a running guest
 *
 * What the rest of QEMU needs to know of it.  qapi/hand-over.json has the
 * command, migration/hand-over-wire.h the exchange between the two
 * processes, docs/ the contract.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_H
#define MIGRATION_HAND_OVER_H

#include "qobject/qobject.h"

/*
 * HandOverArch: what an architecture adds to a hand-over.
 *
 * Of all functions the source calls the first group in its migration thread,
 * the destination the second one in its main thread.  Each may be NULL.
 *
 * @check: source: false with @errp set if the guest can't be handed over.
 * @offer: source: facts that the destination needs, for "arch" of the
 *         offer; NULL where there are none.  @vm_fd is set to a descriptor
 *         that goes with them, and stays the callee's, or to -1.
 * @adopt: destination: compare them (NULL where there are none) with what is
 *         here.  False with @errp set if they don't fit.  @vm_fd, or -1, is
 *         the callee's from here on, in any case.
 * @move: destination, everything loaded: the last step that can fail.
 * @release: destination: the hand-over failed, let go of what @adopt got.
 * @other: destination: a migration comes in that is no hand-over.  False with
 *         @errp set if this guest can only be handed over.
 */
typedef struct HandOverArch {
    bool (*check)(Error **errp);
    QObject *(*offer)(int *vm_fd);

    bool (*adopt)(QObject *facts, int vm_fd, Error **errp);
    bool (*move)(Error **errp);
    void (*release)(void);
    bool (*other)(Error **errp);
} HandOverArch;

void hand_over_arch_register(const HandOverArch *arch);

/*
 * Has this process handed its guest over?  Then it must never run it again,
 * nor touch its disks.
 */
bool hand_over_is_done(void);

/*
 * Command line: @str is the argument of -incoming.  If it is of the form
 * that a hand-over gives to a QEMU that it starts ("hand-over:FD"), take
 * what comes over socket FD for the time of initialisation, and return the
 * migration URI that stands for it; else return @str.
 * Ends the process if nothing sensible comes.
 */
const char *hand_over_incoming_option(const char *str);

#endif
