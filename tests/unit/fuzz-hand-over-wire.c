/*
 * Fuzz the parser of a hand-over's messages: for libFuzzer.  The corpus is
 * in hand-over-wire-corpus/.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "migration/hand-over-wire.h"

/* It is libFuzzer that declares it */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    HandOverMessage *msg;
    HandOverHeader header;
    Error *err = NULL;

    if (size < HAND_OVER_HEADER_SIZE) {
        return 0;
    }
    if (hand_over_parse_header(data, HAND_OVER_VERSION, &header, &err)) {
        g_assert(!err && header.length && header.fds <= 1);
    } else {
        /* whatever the header says, the body is looked at, too */
        g_assert(err);
        error_free(err);
        err = NULL;
    }
    msg = hand_over_parse_body((const char *)data + HAND_OVER_HEADER_SIZE,
                               size - HAND_OVER_HEADER_SIZE, &err);
    g_assert(!msg == !!err);
    qapi_free_HandOverMessage(msg);
    error_free(err);
    return 0;
}
