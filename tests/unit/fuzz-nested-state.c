/*
 * Fuzz what arrives as a vCPU's nested state: for libFuzzer.  The corpus is
 * what test-nested-state writes to $NESTED_STATE_CORPUS.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "io/channel-buffer.h"
#include "../migration/qemu-file.h"
#include "target/i386/kvm/nested-state-format.h"
#include "target/i386/kvm/vmcs12.h"

/* It is libFuzzer that declares them */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    module_call_init(MODULE_INIT_QOM);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree struct kvm_nested_state *state = g_malloc0(NESTED_STATE_BYTES);
    QIOChannelBuffer *ioc = qio_channel_buffer_new(size + 1);
    QEMUFile *f;

    memcpy(ioc->data, data, size);
    ioc->usage = size;
    f = qemu_file_new_input(QIO_CHANNEL(ioc));
    object_unref(OBJECT(ioc));
    if (!vmstate_load_state(f, &vmstate_kvm_nested_state, state, 1)) {
        for (int format = -1; format <= 1; format++) {
            NestedStateLimits limits = {
                .format = format,
                .max_size = format ? 4224 : NESTED_STATE_BYTES,
                .vmcs12_revision = VMCS12_REVISION_KVM,
                .phys_bits = 40,
                .in_l2 = state->flags & KVM_STATE_NESTED_GUEST_MODE,
                .smm = size & 1,
                .evmcs = size & 2,
            };
            Error *err = NULL;
            bool ok = nested_state_check(state, &limits, &err);

            g_assert(ok == !err);
            g_assert(!ok || state->size <= limits.max_size);
            error_free(err);
            nested_state_pending_event(state);
        }
    }
    qemu_fclose(f);
    return 0;
}
