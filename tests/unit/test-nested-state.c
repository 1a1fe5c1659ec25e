/*
 * The nested state of a vCPU: its stream, what is accepted, vmcs12 layouts
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "io/channel-buffer.h"
#include "../migration/qemu-file.h"
#include "nested-state-streams.h"

static NestedStateLimits vmx_limits(void)
{
    return (NestedStateLimits) {
        .format = KVM_STATE_NESTED_FORMAT_VMX,
        .max_size = NESTED_STATE_BYTES,
        .vmcs12_revision = VMCS12_REVISION_KVM,
        .phys_bits = 40,
    };
}

static NestedStateLimits svm_limits(void)
{
    return (NestedStateLimits) {
        .format = KVM_STATE_NESTED_FORMAT_SVM,
        .max_size = 4224,
        .phys_bits = 40,
    };
}

/* What @stream needs to be accepted */
static NestedStateLimits limits_for(const Stream *stream,
                                    const struct kvm_nested_state *state)
{
    NestedStateLimits limits = strncmp(stream->name, "svm", 3) ? vmx_limits()
                                                               : svm_limits();

    limits.in_l2 = state->flags & KVM_STATE_NESTED_GUEST_MODE;
    limits.smm = strstr(stream->name, "smm");
    limits.evmcs = strstr(stream->name, "evmcs");
    return limits;
}

static struct kvm_nested_state *state_new(void)
{
    struct kvm_nested_state *state = g_malloc0(NESTED_STATE_BYTES);

    state->hdr.vmx.vmxon_pa = -1ull;
    state->hdr.vmx.vmcs12_pa = -1ull;
    return state;
}

/* Returns what vmstate_load_state() does */
static int load(struct kvm_nested_state *state, const uint8_t *bytes,
                size_t len)
{
    g_autoptr(QIOChannelBuffer) ioc = qio_channel_buffer_new(len + 1);
    QEMUFile *f;
    int ret;

    memcpy(ioc->data, bytes, len);
    ioc->data[len] = 0;         /* what follows is no subsection */
    ioc->usage = len + 1;
    f = qemu_file_new_input(QIO_CHANNEL(ioc));
    ret = vmstate_load_state(f, &vmstate_kvm_nested_state, state, 1);
    if (!ret) {
        ret = qemu_file_get_error(f);
    }
    qemu_fclose(f);
    return ret;
}

static struct kvm_nested_state *load_stream(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
        if (!strcmp(streams[i].name, name)) {
            g_autoptr(GByteArray) bytes = stream_bytes(&streams[i]);
            struct kvm_nested_state *state = state_new();

            g_assert_cmpint(load(state, bytes->data, bytes->len), ==, 0);
            return state;
        }
    }
    g_assert_not_reached();
}

/* Each stream is accepted, and becomes what it was */
static void test_golden(const void *opaque)
{
    const Stream *stream = opaque;
    g_autoptr(GByteArray) bytes = stream_bytes(stream);
    g_autofree struct kvm_nested_state *state = state_new();
    g_autoptr(QIOChannelBuffer) ioc = qio_channel_buffer_new(0);
    NestedStateLimits limits;
    QEMUFile *f;

    g_assert_cmpint(load(state, bytes->data, bytes->len), ==, 0);
    limits = limits_for(stream, state);
    nested_state_check(state, &limits, &error_abort);

    f = qemu_file_new_output(QIO_CHANNEL(ioc));
    g_assert_cmpint(vmstate_save_state(f, &vmstate_kvm_nested_state, state,
                                       NULL), ==, 0);
    qemu_fflush(f);
    g_assert_cmpmem(ioc->data, ioc->usage, bytes->data, bytes->len);
    qemu_fclose(f);
}

/* No part of a stream is mistaken for all of it */
static void test_truncated(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
        g_autoptr(GByteArray) bytes = stream_bytes(&streams[i]);

        for (size_t len = 0; len < bytes->len; len += 1 + len / 40) {
            g_autofree struct kvm_nested_state *state = state_new();
            NestedStateLimits limits;
            Error *err = NULL;

            if (load(state, bytes->data, len)) {
                continue;
            }
            limits = limits_for(&streams[i], state);
            if (nested_state_check(state, &limits, &err)) {
                /* what has gone on well is a state of its own: not yet VMX */
                g_assert_cmpint(state->size, ==, 128);
                g_assert(!nested_state_in_use(state));
            }
            error_free(err);
        }
    }
}

static void test_identity(void)
{
    static const uint8_t head[] = {
        0, 0, 0, 0, 0, 0, 0x20, 0x80, 0x11, 0xe5, 0x7e, 0xd0,
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
    };
    NestedStateIdentity id = {
        .format = KVM_STATE_NESTED_FORMAT_VMX,
        .max_size = 8320,
        .vmcs12_revision = VMCS12_REVISION_KVM,
        .offered = { 0x0102030405060708 },
    };
    g_autoptr(QIOChannelBuffer) ioc = qio_channel_buffer_new(0);
    QEMUFile *f = qemu_file_new_output(QIO_CHANNEL(ioc));

    g_assert_cmpint(vmstate_save_state(f, &vmstate_nested_state_identity, &id,
                                       NULL), ==, 0);
    qemu_fflush(f);
    g_assert_cmpint(ioc->usage, ==, 12 + 8 * NESTED_STATE_OFFERED);
    g_assert_cmpmem(ioc->data, sizeof(head), head, sizeof(head));
    for (size_t i = sizeof(head); i < ioc->usage; i++) {
        g_assert_cmpint(ioc->data[i], ==, 0);
    }
    qemu_fclose(f);
}

/* What is refused, and in what words */

typedef struct Refusal {
    const char *name;
    const char *stream;
    void (*change)(struct kvm_nested_state *state, NestedStateLimits *limits);
    const char *words;
} Refusal;

#define CHANGE(name, what) \
    static void name(struct kvm_nested_state *state, \
                     NestedStateLimits *limits) { what; }

static bool nowhere(uint64_t gpa)
{
    return gpa != 0x20000 && gpa != 0x30000;
}

static void no_revision(uint8_t *page)
{
    stl_le_p(page, 0x1234567);
}

CHANGE(none, limits->format = -1)
CHANGE(other, limits->format = !limits->format)
CHANGE(small, state->size = 127)
CHANGE(odd, state->size = 4000)
CHANGE(large, state->size = 8321)
CHANGE(kernel_small, limits->max_size = 4200)
CHANGE(l1_registers, limits->in_l2 = false)
CHANGE(l2_registers, limits->in_l2 = true)
CHANGE(flags, state->flags |= 0x40)
CHANGE(hdr_flags, state->hdr.vmx.flags |= 2)
CHANGE(smm_flags, state->hdr.vmx.smm.flags |= 4)
CHANGE(no_smm, limits->smm = false)
CHANGE(smm, limits->smm = true)
CHANGE(smm_off, state->hdr.vmx.smm.flags = 1)
CHANGE(pending, state->flags |= KVM_STATE_NESTED_RUN_PENDING)
CHANGE(mtf, state->flags |= KVM_STATE_NESTED_MTF_PENDING)
CHANGE(deadline, state->hdr.vmx.flags = 1)
CHANGE(no_timer, vmcs12_write(state->data.vmx[0].vmcs12, vmcs12_find(
           vmcs12_layout(VMCS12_REVISION_KVM), VMCS12_PINBASED_CTLS), 0))
CHANGE(no_evmcs, limits->evmcs = false)
CHANGE(evmcs_pa, state->hdr.vmx.vmcs12_pa = 0x20000)
CHANGE(off_vmcs, state->hdr.vmx.vmcs12_pa = 0x20000)
CHANGE(off_size, state->hdr.vmx.vmxon_pa = -1ull;
       state->hdr.vmx.vmcs12_pa = -1ull)
CHANGE(vmxon_odd, state->hdr.vmx.vmxon_pa = 0x10001)
CHANGE(vmxon_high, state->hdr.vmx.vmxon_pa = 1ull << 40)
CHANGE(vmcs_odd, state->hdr.vmx.vmcs12_pa = 0x20008)
CHANGE(vmcs_same, state->hdr.vmx.vmcs12_pa = 0x10000)
CHANGE(nowhere_page, limits->is_ram = nowhere)
CHANGE(revision, no_revision(state->data.vmx[0].vmcs12))
CHANGE(shadow_revision, no_revision(state->data.vmx[0].shadow_vmcs12))
CHANGE(shadow_none, state->size = 4224)
CHANGE(vmcs_none, state->size = 128)
CHANGE(svm_vmx_flag, state->flags |= KVM_STATE_NESTED_EVMCS)
CHANGE(vmcb_odd, state->hdr.svm.vmcb_pa = 0x30010)
CHANGE(intercept, state->data.svm[0].vmcb12[0x10] = 0x80)
CHANGE(asid, state->data.svm[0].vmcb12[0x58] = 0)
CHANGE(efer, state->data.svm[0].vmcb12[0x4d1] = 0)
CHANGE(cr0, state->data.svm[0].vmcb12[0x558] = 0x32)
CHANGE(rflags, state->data.svm[0].vmcb12[0x572] = 2)

static const Refusal refusals[] = {
    { "no-feature", "vmx-l2", none, "neither vmx nor svm" },
    { "vendor", "svm-l2", other, "0x1 (svm), expected 0x0 (vmx)" },
    { "vendor-vmx", "vmx-l2", other, "0x0 (vmx), expected 0x1 (svm)" },
    { "size-small", "vmx-off", small, "size is 0x7f, expected 128 to 8320" },
    { "size-odd", "vmx-l2", odd, "size is 0xfa0, expected 128, 4224, or 8320" },
    { "size-large", "vmx-l2", large, "expected 128 to 8320" },
    { "size-kernel", "vmx-l2", kernel_small, "expected 128 to 4200" },
    { "size-svm", "svm-l2", small, "size is 0x7f" },
    { "registers-l1", "svm-l2", l1_registers, "outside L2" },
    { "registers-l2", "vmx-on", l2_registers, "expected in L2" },
    { "flags", "vmx-l2", flags, "flags is 0x43, expected no bits but 0xf" },
    { "flags-svm", "svm-l2", svm_vmx_flag, "no bits but 0x103" },
    { "hdr-flags", "vmx-timer", hdr_flags, "hdr.vmx.flags is 0x3" },
    { "smm-flags", "vmx-smm", smm_flags, "hdr.vmx.smm.flags is 0x7" },
    { "smm-outside", "vmx-smm", no_smm, "0 outside system management mode" },
    { "smm-l2", "vmx-l2", smm, "no L2 in system management mode" },
    { "smm-l2-svm", "svm-l2", smm, "no L2 in system management mode" },
    { "smm-vmxon", "vmx-smm", smm_off, "only with KVM_STATE_NESTED_SMM_VMXON" },
    { "pending-l1", "vmx-on", pending,
      "only with KVM_STATE_NESTED_GUEST_MODE" },
    { "pending-l1-svm", "svm-l1", pending,
      "only with KVM_STATE_NESTED_GUEST_MODE" },
    { "mtf-l1", "vmx-on", mtf, "only with KVM_STATE_NESTED_GUEST_MODE" },
    { "deadline-l1", "vmx-on", deadline,
      "only with KVM_STATE_NESTED_GUEST_MODE in flags" },
    { "deadline-no-timer", "vmx-timer", no_timer,
      "only with a VMX-preemption timer in vmcs12" },
    { "evmcs-none", "vmx-evmcs", no_evmcs, "hv-evmcs=on" },
    { "evmcs-address", "vmx-evmcs", evmcs_pa, "no address" },
    { "off-vmcs", "vmx-off", off_vmcs, "no address without VMXON" },
    { "off-size", "vmx-l2", off_size,
      "hdr.vmx.vmxon_pa is 0xffffffffffffffff" },
    { "vmxon-odd", "vmx-on", vmxon_odd, "hdr.vmx.vmxon_pa is 0x10001" },
    { "vmxon-high", "vmx-on", vmxon_high, "of at most 40 bits" },
    { "vmcs-odd", "vmx-l2", vmcs_odd, "hdr.vmx.vmcs12_pa is 0x20008" },
    { "vmcs-vmxon", "vmx-l2", vmcs_same, "another page than hdr.vmx.vmxon_pa" },
    { "vmcs-no-ram", "vmx-l2", nowhere_page,
      "hdr.vmx.vmcs12_pa is 0x20000, expected an address in the guest's RAM" },
    { "vmcb-no-ram", "svm-l2", nowhere_page, "the guest's RAM" },
    { "vmcs-none", "vmx-l2", vmcs_none, "at least 4224" },
    { "revision", "vmx-l2", revision,
      "the revision of vmcs12 is 0x1234567, expected that of this kernel's "
      "KVM, 0x11e57ed0" },
    { "shadow-revision", "vmx-shadow", shadow_revision,
      "expected a shadow VMCS" },
    { "shadow-none", "vmx-shadow", shadow_none,
      "8320, L2's VMCS has a shadow" },
    { "vmcb-odd", "svm-l2", vmcb_odd, "hdr.svm.vmcb_pa is 0x30010" },
    { "vmcb-intercept", "svm-l2", intercept, "that of VMRUN" },
    { "vmcb-asid", "svm-l2", asid, "vmcb12's ASID is 0x0, expected not 0" },
    { "vmcb-efer", "svm-l2", efer, "EFER.SVME" },
    { "vmcb-cr0", "svm-l2", cr0, "CR0.PE and CR0.PG" },
    { "vmcb-rflags", "svm-l2", rflags, "not RFLAGS.VM" },
};

static void test_refused(const void *opaque)
{
    const Refusal *r = opaque;
    g_autofree struct kvm_nested_state *state = load_stream(r->stream);
    NestedStateLimits limits = limits_for(&(Stream) { r->stream }, state);
    Error *err = NULL;

    nested_state_check(state, &limits, &error_abort);
    r->change(state, &limits);
    g_assert_false(nested_state_check(state, &limits, &err));
    g_assert_nonnull(err);
    if (!strstr(error_get_pretty(err), r->words)) {
        g_test_message("'%s' does not say '%s'", error_get_pretty(err),
                       r->words);
        g_test_fail();
    }
    error_free(err);
}

/* Layouts of vmcs12 */

static void test_layout(void)
{
    const Vmcs12Layout *layout = vmcs12_layout(VMCS12_REVISION_KVM);
    uint8_t used[VMCS12_BYTES] = {};

    g_assert_nonnull(layout);
    g_assert_null(vmcs12_layout(VMCS12_REVISION_KVM | VMCS12_SHADOW));
    for (size_t i = 0; i < layout->count; i++) {
        const Vmcs12Field *field = &layout->fields[i];
        unsigned width = vmcs12_field_width(field->encoding);

        g_assert(!i || field[-1].encoding < field->encoding);
        g_assert(vmcs12_find(layout, field->encoding) == field);
        /* bit 0 is the access type, bits 11:10 the type of field */
        g_assert_cmpint(field->encoding & 1, ==, 0);
        g_assert_cmpint(field->offset % width, ==, 0);
        /* revision, abort, launch state and what KVM has reserved */
        g_assert_cmpint(field->offset, >=, 40);
        for (unsigned b = 0; b < width; b++) {
            g_assert_cmpint(used[field->offset + b]++, ==, 0);
        }
    }
    g_assert_null(vmcs12_find(layout, 0x7ffe));
    g_assert_cmpint(vmcs12_find(layout, 0x681e)->offset, ==, 544);
    g_assert_cmpstr(vmcs12_find(layout, 0x681e)->name, ==, "Guest RIP");
}

/* A made-up second revision: other places, and maybe fewer fields */
static Vmcs12Layout other_layout(Vmcs12Field *fields, size_t drop)
{
    const Vmcs12Layout *layout = vmcs12_layout(VMCS12_REVISION_KVM);
    size_t n = 0;

    for (size_t i = 0; i < layout->count; i++) {
        if (i != drop) {
            fields[n] = layout->fields[i];
            fields[n].offset = 1024 + (layout->count - i) * 8;
            n++;
        }
    }
    return (Vmcs12Layout) { 0x22222222, fields, n };
}

static void test_convert(void)
{
    const Vmcs12Layout *layout = vmcs12_layout(VMCS12_REVISION_KVM);
    g_autofree Vmcs12Field *fields = g_new(Vmcs12Field, layout->count);
    uint8_t page[VMCS12_BYTES], there[VMCS12_BYTES], back[VMCS12_BYTES];
    Vmcs12Layout other = other_layout(fields, -1);
    Error *err = NULL;

    fill_vmcs12(page, true);
    stl_le_p(page + 4, 0x55);           /* abort */
    stl_le_p(page + 8, 1);              /* launched */
    memcpy(there, page, sizeof(page));
    g_assert_true(vmcs12_convert(there, layout, &other, &error_abort));
    g_assert_cmphex((uint32_t)ldl_le_p(there), ==,
                    0x22222222 | VMCS12_SHADOW);
    g_assert_cmphex(ldl_le_p(there + 4), ==, 0x55);
    g_assert_cmphex(ldl_le_p(there + 8), ==, 1);
    for (size_t i = 0; i < layout->count; i++) {
        g_assert_cmphex(vmcs12_get(there, &other, layout->fields[i].encoding),
                        ==, vmcs12_read(page, &layout->fields[i]));
    }
    memcpy(back, there, sizeof(there));
    g_assert_true(vmcs12_convert(back, &other, layout, &error_abort));
    g_assert_cmpmem(back, sizeof(back), page, sizeof(page));

    /* what has no place must not be lost */
    other = other_layout(fields, 100);
    memcpy(there, page, sizeof(page));
    g_assert_false(vmcs12_convert(there, layout, &other, &err));
    g_assert_nonnull(strstr(error_get_pretty(err), layout->fields[100].name));
    error_free(err);
    g_assert_cmpmem(there, sizeof(there), page, sizeof(page));
    /* ... but may be missing if it is 0 */
    vmcs12_write(page, &layout->fields[100], 0);
    memcpy(there, page, sizeof(page));
    g_assert_true(vmcs12_convert(there, layout, &other, &error_abort));
}

static void test_event(void)
{
    g_autofree struct kvm_nested_state *vmx = load_stream("vmx-l2");
    g_autofree struct kvm_nested_state *svm = load_stream("svm-l2");

    g_assert_cmphex(nested_state_pending_event(vmx), ==, 0x80000480);
    g_assert_cmphex(nested_state_pending_event(svm), ==, 0x8000030e);
    svm->data.svm[0].vmcb12[0xab] = 0;
    g_assert_cmphex(nested_state_pending_event(svm), ==, 0);
    vmx->flags &= ~KVM_STATE_NESTED_RUN_PENDING;
    g_assert_cmphex(nested_state_pending_event(vmx), ==, 0);
}

int main(int argc, char **argv)
{
    const char *corpus = getenv("NESTED_STATE_CORPUS");

    module_call_init(MODULE_INIT_QOM);
    for (size_t i = 0; corpus && i < ARRAY_SIZE(streams); i++) {
        g_autoptr(GByteArray) bytes = stream_bytes(&streams[i]);
        g_autofree char *path = g_build_filename(corpus, streams[i].name, NULL);

        g_assert_true(g_file_set_contents(path, (char *)bytes->data,
                                          bytes->len, NULL));
    }

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < ARRAY_SIZE(streams); i++) {
        g_autofree char *path = g_strdup_printf("/nested-state/golden/%s",
                                                streams[i].name);

        g_test_add_data_func(path, &streams[i], test_golden);
    }
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        g_autofree char *path = g_strdup_printf("/nested-state/refused/%s",
                                                refusals[i].name);

        g_test_add_data_func(path, &refusals[i], test_refused);
    }
    g_test_add_func("/nested-state/truncated", test_truncated);
    g_test_add_func("/nested-state/identity", test_identity);
    g_test_add_func("/nested-state/event", test_event);
    g_test_add_func("/vmcs12/layout", test_layout);
    g_test_add_func("/vmcs12/convert", test_convert);
    return g_test_run();
}
