/*
 * Hand-over: replace the QEMU under a running guest
 *
 * The interface to the rest of QEMU.  The QMP types are in
 * qapi/hand-over.json, the exchange between the two processes is described
 * in migration/hand-over-wire.h, the contract in docs/.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_H
#define MIGRATION_HAND_OVER_H

#include "qapi/qapi-types-hand-over.h"

/*
 * HandOverArch: architecture-specific hooks of a hand-over.
 *
 * The first two are called at both ends.  The next group is called by the
 * source's migration thread, the last group by the destination's main thread.
 * Each may be NULL.
 *
 * @vm: the descriptor of this process's virtual machine if the other end
 *      needs it to move state held by the kernel, else -1.  The callee keeps
 *      ownership.
 * @allows_migration: may the guest leave, or come, by an ordinary migration?
 *                    False with @errp set if not.
 *
 * @check: source: false with @errp set if the guest can't be handed over.
 * @offer: source: facts about a protected guest that the destination needs;
 *         to be freed with qapi_free_HandOverProtectedGuest().  NULL if there
 *         are none.
 * @stopped: source, BQL held: the guest is stopped and about to be saved.
 *           Get the state that cpu_synchronize_state() does not.
 * @gone: source: whether the guest has left this process's virtual machine.
 *        Only called if there is a @vm, and if a destination that was told
 *        to take the guest has not done so.
 *
 * @adopt: destination: compare the facts (NULL if there are none) with this
 *         QEMU's own.  False with @errp set if they don't match.  @vms are
 *         descriptors (int) of virtual machines, one of which has the guest:
 *         most likely the last one.  They stay open until the guest is here
 *         or the hand-over has failed.
 * @move: destination, everything loaded: move the state held by the kernel.
 *        This is the last step that can fail.
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

/* Call at most once; @arch stays the caller's and must remain valid */
void hand_over_arch_register(const HandOverArch *arch);

/* What was registered, or NULL */
const HandOverArch *hand_over_arch(void);

/*
 * Has this process handed its guest over, or lost it in the attempt?  Then it
 * must neither run it, nor write to its RAM, nor touch its disks or its
 * virtual machine in the kernel.  True with @errp set to the reason.
 */
bool hand_over_guest_is_gone(Error **errp);

/*
 * Is the guest on its way from this process to another one, or from another
 * one to this?  Then it is not known yet which of them will have it, and a
 * request that would make it run or change it has to be repeated later.  True
 * with @errp set to that.  BQL held.
 */
bool hand_over_in_flight(Error **errp);

/*
 * May a monitor (QMP or HMP) execute command @name now?  From the moment the
 * guest's state is saved, and for as long as another process has the guest,
 * commands that may change something are refused: the change would be lost.
 * False with @errp set if not.
 */
bool hand_over_allows_command(const char *name, Error **errp);

/*
 * Main thread: if the guest was handed over, check whether it has come back,
 * i.e. whether the destination has died without having run it.
 */
void hand_over_look_back(void);

/*
 * The guest that has arrived is about to change from what the source handed
 * over: it runs, is reset, or goes elsewhere.  From now on the source can't
 * have it back.
 */
void hand_over_guest_confirm(void);

/*
 * Before anything is opened: if @argv is that of a QEMU started by a
 * hand-over, reserve the descriptor numbers that it names.
 */
void hand_over_incoming_early(char **argv);

/*
 * Is the migration that currently saves or loads device state a hand-over?
 * Then RAM is not loaded, and must not be written to before the guest runs:
 * it belongs to the source until the source has given it up.
 */
bool hand_over_is_mode(void);

/*
 * May RAM that this process has mapped belong to another one: is the guest
 * gone, not here yet, or can it still go back?  Then none of it may be
 * discarded when this process exits.
 */
bool hand_over_ram_is_anothers(void);

/*
 * Main thread: this process is about to exit.  If the guest is not here yet,
 * or can still go back, leave it as it is.
 */
void hand_over_incoming_shutdown(void);

/*
 * Command line: @str is the argument of -incoming.  If it has the form used
 * for a QEMU started by a hand-over ("hand-over:FD"), receive what socket FD
 * delivers for initialisation, and return the migration URI to use instead;
 * else return @str.
 * Exits if the data received is not valid.
 */
const char *hand_over_incoming_option(const char *str);

#endif
