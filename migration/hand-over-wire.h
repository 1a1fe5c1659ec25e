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
 * Which process has the guest when the connection closes without a message, as
 * seen by the
 *
 *   source       Until it has sent "commit": the source.  From then on until
 *                it reads "done": the source as well, but only once the
 *                destination is proven dead (its pidfd): the destination
 *                never runs the guest before it has written "done".
 *                From "done" on: the destination.  But if the destination is
 *                proven dead before it has written "confirmed" (because it was
 *                started with -S, say), the source again, if it has stayed.
 *                A protected guest may then be in the virtual machine of a
 *                dead destination: that is why the source was given its
 *                descriptor.  It keeps the device state, and offers it with
 *                that machine to the next destination.
 *   destination  Until it has loaded everything: the source.  From then on
 *                until "commit": the destination, but only once the source
 *                is proven dead; a source that is alive has taken the guest
 *                back.  From "commit" on: the destination.
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
 * "hello" has the newest version that its sender supports; from there on both
 * use the lower one.  A new version may add a member to a message, as an
 * optional one; a sender omits it when an older version is in use, because a
 * receiver refuses members that it does not know.
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
 * @ioc: the socket; referenced.  Blocking unless a coroutine reads from it.
 * @version: the version in use
 * @greeted: "hello" was sent
 * @peer_version: the newest that the peer supports, 0 before its "hello"
 * @peer: for error messages: "source" or "destination"
 * @closed: the peer has closed its end, whether at a message boundary or not
 * @refused: the peer has sent "refused" or "abort"
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
 * Another wire over the socket of @wire, which stays usable when @wire is
 * freed.  NULL on failure.
 */
HandOverWire *hand_over_wire_dup(const HandOverWire *wire);

void hand_over_wire_free(HandOverWire *wire);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HandOverWire, hand_over_wire_free)

/*
 * Send @msg, with descriptor @fd (-1: none; stays the caller's).
 * Returns false with @errp set if the message can't be sent completely.
 */
bool hand_over_send(HandOverWire *wire, const HandOverMessage *msg, int fd,
                    Error **errp);

/* As above, for messages that have no members but their type */
bool hand_over_send_type(HandOverWire *wire, HandOverMessageType type,
                         Error **errp);

/*
 * Send "abort", without waiting for a peer that does not read.  False if it
 * could not be sent completely.
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
 * @fd: set to the descriptor of the message (ownership passes to the caller);
 *      NULL if the message must not have one.
 * @eof: set to true if the peer closed the connection at a message boundary;
 *       may be NULL.
 *
 * Returns the message, to be freed with qapi_free_HandOverMessage(), or NULL
 * with @errp set.  If the peer refused or gave up, @errp has its reason.
 */
HandOverMessage *coroutine_mixed_fn
hand_over_recv(HandOverWire *wire, HandOverMessageType type, int64_t deadline,
               int *fd, bool *eof, Error **errp);

/* An array of descriptors (int), which closes them when it is freed */
GArray *hand_over_fds_new(void);

/*
 * Parts of the above, for callers whose data does not come from a socket.
 * Return false or NULL with @errp set if it is not a valid header or message.
 * @body need not be terminated.
 */
bool hand_over_parse_header(const uint8_t *buf, uint16_t version,
                            HandOverHeader *header, Error **errp);
HandOverMessage *hand_over_parse_body(const char *body, size_t length,
                                      Error **errp);

#endif
