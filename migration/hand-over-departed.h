/*
 * Hand-over: a guest that has left
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_DEPARTED_H
#define MIGRATION_HAND_OVER_DEPARTED_H

#include "hand-over-internal.h"
#include "hand-over-peer.h"
#include "hand-over-wire.h"

/*
 * The destination has the guest; or, if @is_undecided, this process can't tell
 * whether it has.  hand_over_guest_is_elsewhere() is true from here on.
 * Migration thread.
 */
void hand_over_depart(bool is_undecided);

/*
 * Main thread: the destination, @peer, at the other end of @wire, has not
 * confirmed the guest yet.  If it dies before it does, the guest comes back.
 * Takes ownership of all arguments.
 *
 * @vm: the destination's virtual machine in the kernel, or -1 for none
 * @released: this process has released its sockets and other resources
 */
void hand_over_departed_watch(HandOverWire *wire, HandOverPeer peer, int vm,
                              bool released);

/* Any thread: may another process have the guest? */
bool hand_over_guest_is_elsewhere(void);

/*
 * Keep a copy of everything written to @f from here on: the device state,
 * without which a lost guest can't go on
 */
void hand_over_keep_begin(QEMUFile *f);

/*
 * The guest is lost: it is in virtual machine @vm, whose process has died.
 * Takes ownership of the descriptor.
 */
void hand_over_keep_lost(int vm);

/* Drop what was kept: it is settled which process has the guest */
void hand_over_keep_end(void);

/* Any thread: is the guest lost? */
bool hand_over_guest_is_lost(void);

/*
 * For a lost guest: descriptors (int) of the virtual machines that may have
 * it, the latest last.  The caller must drop the reference.
 */
GArray *hand_over_lost_vms(void);

#endif
