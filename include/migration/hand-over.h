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

#include "qapi/qapi-types-hand-over.h"

/*
 * HandOverArch: what an architecture adds to a hand-over.
 *
 * Of all functions the source calls the first group in its migration thread,
 * the destination the second one in its main thread, and both the first two
 * of all.  Each may be NULL.
 *
 * @vm: the descriptor of this process's virtual machine, where the other end
 *      needs it to move what is in the kernel; -1 where it does not.  Stays
 *      the callee's.
 * @allows_migration: may the guest leave, or come, by an ordinary migration?
 *                    False with @errp set if not.
 *
 * @check: source: false with @errp set if the guest can't be handed over.
 * @offer: source: facts about a protected guest, which the destination needs; to
 *         be freed with qapi_free_HandOverProtectedGuest().  NULL where there are
 *         none.
 * @stopped: source, BQL held: the guest stands still and is about to be saved.
 *           Get what cpu_synchronize_state() does not.
 * @gone: source: whether the guest has left this process's virtual machine.
 *        Asked of a machine that has a @vm, when a destination that was told
 *        to take the guest has not.
 *
 * @adopt: destination: compare the facts (NULL where there are none) with
 *         what is here.  False with @errp set if they don't fit.  @vms are
 *         descriptors (int) of virtual machines, one of which has the guest:
 *         the last one, most likely.  They live until the guest is here,
 *         or the hand-over has failed.
 * @move: destination, everything loaded: the last step that can fail.
 */
typedef struct HandOverArch {
    int (*vm)(void);
    bool (*allows_migration)(Error **errp);

    bool (*check)(Error **errp);
    HandOverProtectedGuest *(*offer)(void);
    bool (*stopped)(Error **errp);
    bool (*gone)(void);

    bool (*adopt)(const HandOverProtectedGuest *guest, const GArray *vms,
                  Error **errp);
    bool (*move)(Error **errp);
} HandOverArch;

/* At most one; @arch stays the caller's, and valid for ever */
void hand_over_arch_register(const HandOverArch *arch);

/* What was registered, or NULL */
const HandOverArch *hand_over_arch(void);

/*
 * Has this process handed its guest over, or lost it in trying to?  Then it
 * must never run it, nor write to its RAM, nor touch its disks or its virtual
 * machine in the kernel.  True with @errp set to why.
 */
bool hand_over_guest_is_gone(Error **errp);

/*
 * Is the guest on its way from this process to another one, or from another one
 * to this?  Then nobody knows yet who will have it, and whoever asks for something
 * that would make it run, or become another one, has to ask again.  True with
 * @errp set to that.  BQL held.
 */
bool hand_over_in_flight(Error **errp);

/*
 * May a monitor (QMP, or HMP) execute command @name now?  Not one that may change
 * something, from when the guest's state is saved, and as long as another process
 * has the guest: what is changed would stay behind.  False with @errp set if not.
 */
bool hand_over_allows_command(const char *name, Error **errp);

/*
 * Main thread: if the guest was handed over, look whether it has come back: the
 * destination has died, and had not run it.
 */
void hand_over_look_back(void);

/*
 * The guest that has come is about to become another one than the source handed
 * over: it runs, is reset, or goes elsewhere.  The source can't have it back.
 */
void hand_over_guest_confirm(void);

/*
 * Before anything is opened: if @argv is what a hand-over gives to a QEMU that it
 * starts, keep the descriptors' numbers free that it names.
 */
void hand_over_incoming_early(char **argv);

/*
 * Is the migration that saves or loads device state now a hand-over?  RAM is
 * not loaded then, and must not be written to before the guest runs: it is
 * the source's until that has said that it is not.
 */
bool hand_over_is_mode(void);

/*
 * May RAM that this process has mapped be another one's: the guest is gone from
 * here, or is not here yet, or can go back?  Then nothing of it may be thrown
 * away when this process ends.
 */
bool hand_over_ram_is_anothers(void);

/*
 * Main thread: this process ends.  If the guest is not here yet, or can go
 * back, it won't be, and is left as it is.
 */
void hand_over_incoming_shutdown(void);

/*
 * Command line: @str is the argument of -incoming.  If it is of the form
 * that a hand-over gives to a QEMU that it starts ("hand-over:FD"), take
 * what comes over socket FD for the time of initialisation, and return the
 * migration URI that stands for it; else return @str.
 * Ends the process if nothing sensible comes.
 */
const char *hand_over_incoming_option(const char *str);

#endif
