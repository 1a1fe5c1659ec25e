/*
 * Hand-over: the messages between the two QEMUs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The exchange goes over one UNIX stream socket.  It frames the ordinary
 * migration stream, which carries the device state and nothing else:
 *
 *   source                                        destination
 *   ------                                        -----------
 *      | inherit [stderr], listener [socket] ...  |  only to a QEMU that the
 *      |----------------------------------------->|  source started; read
 *      |                                          |  before anything else
 *      | hello [pidfd]                            |
 *      |----------------------------------------->|  completely initialised
 *      |                            hello [pidfd] |
 *      |<-----------------------------------------|
 *      | offer, ram [memory] ..., vm [VM] ...     |  vm: a protected guest's
 *      |----------------------------------------->|  compares, maps
 *      |                         vm [VM], adopted |  vm: if the source sent
 *      |<-----------------------------------------|  one
 *      | migration stream                         |
 *      |=========================================>|  guest stopped; loads
 *      |                                   loaded |
 *      |<-----------------------------------------|
 *      | commit                                   |  point of no return
 *      |----------------------------------------->|  takes disks, sockets;
 *      |                                     done |  moves the encryption
 *      |<-----------------------------------------|  context
 *      |                                confirmed |  then runs; to a source
 *      |<-----------------------------------------|  that stays
 *
 * [x] is the one descriptor that goes with a message.  Instead of any of its
 * messages the destination can send "refused", and the source, before
 * "commit", "abort"; the sender of either has let go of what it held, and
 * the other side goes on as if nothing had happened.
 *
 * Who has the guest, when an end of the socket closes without a word?
 *
 *   source       until it has sent "commit": the source.  From there on until
 *                it reads "done": the source as well, but only once the
 *                destination is proven dead (its pidfd): the destination
 *                never runs the guest before it has written "done".
 *                From "done" on: the destination; but as long as it has
 *                not written "confirmed" (it was started with -S, say), and is
 *                proven dead, the source again, if that stayed.
 *                A protected guest may be gone then, into the machine of a
 *                dead destination: that is why the source was given its
 *                descriptor.  It keeps the device state, and offers it with
 *                that machine to the next destination.
 *   destination  until it has loaded everything: the source.  From there on
 *                until "commit": the destination, but only once the source
 *                is proven dead; a source that lives took the guest back.
 *                From "commit" on: the destination.
 *
 * A message is a header of HAND_OVER_HEADER_SIZE bytes, big endian, and a
 * body of JSON, a HandOverMessage of qapi/hand-over.json:
 *
 *   0  u32 magic      HAND_OVER_MAGIC ("QHOV")
 *   4  u16 version    of the protocol
 *   6  u16 fds        descriptors that go with the message: 0 or 1
 *   8  u32 length     of the body, in bytes; at most HAND_OVER_BODY_MAX
 *
 * Versions: up to and including "hello" everything is version 1, forever.
 * "hello" tells the newest version its sender speaks; from there on both
 * speak the lower one.  A member may be added to a message in a new version,
 * as an optional one; a sender leaves it out when it speaks an older one,
 * because a receiver refuses what it does not know.
 */

#ifndef MIGRATION_HAND_OVER_WIRE_H
#define MIGRATION_HAND_OVER_WIRE_H

#include "io/channel.h"
#include "qapi/qapi-types-hand-over.h"

#define HAND_OVER_MAGIC         0x51484f56
#define HAND_OVER_VERSION       3
#define HAND_OVER_HEADER_SIZE   12
#define HAND_OVER_BODY_MAX      (1 * 1024 * 1024)

typedef struct HandOverHeader {
    uint16_t version;
    uint16_t fds;
    uint32_t length;
} HandOverHeader;

/*
 * One end of the exchange.
 *
 * @ioc: the socket; referenced.  Blocking where no coroutine reads from it.
 * @version: what is spoken
 * @greeted: "hello" was sent
 * @peer_version: the newest that the peer speaks, 0: it has not said "hello"
 * @peer: for messages: "source" or "destination"
 * @closed: the peer has closed its end, at a message's boundary or not
 * @refused: it has said "refused" or "abort"
 */
typedef struct HandOverWire {
    QIOChannel *ioc;
    uint16_t version;
    bool greeted;
    uint16_t peer_version;
    const char *peer;
    bool closed;
    bool refused;
} HandOverWire;

HandOverWire *hand_over_wire_new(QIOChannel *ioc, const char *peer);
/*
 * Another wire over the socket of @wire, which stays open when that is closed.
 * NULL if there can't be one.
 */
HandOverWire *hand_over_wire_dup(const HandOverWire *wire);

void hand_over_wire_free(HandOverWire *wire);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HandOverWire, hand_over_wire_free)

/*
 * Send @msg, with descriptor @fd (-1: none; stays the caller's).
 * Returns false with @errp set where the message can't be sent whole.
 */
bool hand_over_send(HandOverWire *wire, const HandOverMessage *msg, int fd,
                    Error **errp);

/* As above, for the messages that are nothing but their type */
bool hand_over_send_type(HandOverWire *wire, HandOverMessageType type,
                         Error **errp);

/*
 * "abort", without waiting for a peer that does not read: false where it could
 * not be sent whole.
 */
bool hand_over_send_abort(HandOverWire *wire, const char *reason);

/* As hand_over_send(), for "refused" */
bool hand_over_send_reason(HandOverWire *wire, HandOverMessageType type,
                           const char *reason, Error **errp);

/*
 * Receive a message, which must be of type @type.  In a coroutine this
 * yields while there is nothing to read, elsewhere it blocks.
 *
 * @deadline: in ns of QEMU_CLOCK_REALTIME, or -1.  Not for coroutines.
 * @fd: where the descriptor of the message goes (ownership passes to the
 *      caller); NULL where the message must not have one.
 * @eof: set to true where the peer closed the connection at a message's
 *       boundary; may be NULL.
 *
 * Returns the message, to be freed with qapi_free_HandOverMessage(), or NULL
 * with @errp set: to the peer's own words where it refused or gave up.
 */
HandOverMessage *coroutine_mixed_fn
hand_over_recv(HandOverWire *wire, HandOverMessageType type, int64_t deadline,
               int *fd, bool *eof, Error **errp);

/* An array of descriptors (int), which closes them when it is freed */
GArray *hand_over_fds_new(void);

/*
 * Parts of the above for whom bytes don't come from a socket.
 * Returns false, or NULL, with @errp set if they are no header, no message.
 * @body needs no terminator.
 */
bool hand_over_parse_header(const uint8_t *buf, uint16_t version,
                            HandOverHeader *header, Error **errp);
HandOverMessage *hand_over_parse_body(const char *body, size_t length,
                                      Error **errp);

#endif
