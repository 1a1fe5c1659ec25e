/*
 * Hand-over of a guest with SEV: its encryption context moves
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The source tells what its guest is, and passes the descriptor of its virtual
 * machine on.  The destination makes no context of its own: it adopts RAM that
 * is encrypted, and the pins on it, and as the last step of all has the kernel
 * move the context from the source's machine to its own
 * (KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM, the kernel's arch/x86/kvm/svm/sev.c:
 * sev_vm_move_enc_context_from()).  From then on the source's machine is dead:
 * the kernel answers each of its vCPUs' ioctls with EIO.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "qapi/qapi-types-misc-target.h"
#include "qobject/qdict.h"
#include "qobject/qnum.h"
#include "exec/cpu-common.h"
#include "exec/ramblock.h"
#include "hw/boards.h"
#include "migration/hand-over.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "system/runstate.h"
#include "sev.h"

/* as kvm/kvm.c */
#define KVM_MAX_CPUID_ENTRIES 100

/* All of it belongs to the main thread */
static struct {
    bool incoming;              /* no encryption context yet */
    const GArray *vms;          /* descriptors of machines: one has it */
    SevFacts facts;             /* of the source; the measurement is ours */
    GHashTable *regions;        /* RAM block's address: where it was pinned */
} sev;

bool sev_hand_over_incoming(void)
{
    return sev.incoming;
}

uint64_t sev_hand_over_cr3_mask(void)
{
    return sev.incoming ? 1ULL << sev_get_cbit_position() : 0;
}

uint64_t sev_hand_over_region(const void *host)
{
    uint64_t *pinned = sev.regions ? g_hash_table_lookup(sev.regions, host)
                                   : NULL;

    return pinned ? *pinned : (uintptr_t)host;
}

uint64_t sev_hand_over_region_forget(const void *host)
{
    uint64_t pinned = sev_hand_over_region(host);

    if (sev.regions) {
        g_hash_table_remove(sev.regions, host);
    }
    return pinned;
}

static bool sev_can_move(Error **errp)
{
    if (!kvm_vm_check_extension(kvm_state, KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM)) {
        error_setg(errp, "the kernel cannot move an encryption context "
                   "(KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM, Linux 5.16)");
        return false;
    }
    return true;
}

static int sev_vm(void)
{
    return sev_enabled() ? kvm_state->vmfd : -1;
}

static bool sev_other(Error **errp)
{
    if (sev_enabled()) {
        error_setg(errp, "SEV: the memory of this guest can't be copied, it can "
                   "only be handed over to a QEMU on this host");
        return false;
    }
    return true;
}

/*
 * Source
 */

static bool sev_check(Error **errp)
{
    SevFacts facts;

    if (!sev_enabled()) {
        return true;
    }
    if (sev_snp_enabled()) {
        error_setg(errp, "the kernel cannot move a guest with SEV-SNP");
        return false;
    }
    if (sev_es_enabled()) {
        error_setg(errp, "guests with SEV-ES cannot be handed over yet");
        return false;
    }
    sev_get_facts(&facts);
    if (facts.state != SEV_STATE_RUNNING) {
        error_setg(errp, "the launch of the SEV guest is not complete: its "
                   "state is '%s', expected 'running'",
                   SevState_str(facts.state));
        return false;
    }
    if (!sev_can_move(errp)) {
        return false;
    }
    if (facts.kvm_type != KVM_X86_DEFAULT_VM) {
        /*
         * sev_migrate_from() leaves need_init of the destination set, and
         * svm_vcpu_pre_run() fails as long as it is: seen with Linux 6.12.
         */
        error_setg(errp, "the kernel moves a SEV guest of VM type %d, but "
                   "does not run it then: expected %d, -object sev-guest,"
                   "legacy-vm-type=on", facts.kvm_type, KVM_X86_DEFAULT_VM);
        return false;
    }
    return true;
}

static int sev_offer_region(RAMBlock *block, void *opaque)
{
    QDict *regions = opaque;
    void *host = qemu_ram_get_host_addr(block);

    if (!qemu_ram_is_migratable(block)) {
        /* it has no name, and stays here */
        return 0;
    }
    qdict_put(regions, qemu_ram_get_idstr(block),
              qnum_from_uint(sev_hand_over_region(host)));
    return 0;
}

static QObject *sev_offer(void)
{
    QDict *dict, *regions;
    SevFacts facts;

    if (!sev_enabled()) {
        return NULL;
    }
    sev_get_facts(&facts);
    dict = qdict_new();
    qdict_put_str(dict, "protection", "sev");
    qdict_put_int(dict, "vm-type", facts.kvm_type);
    qdict_put_int(dict, "cbitpos", facts.cbitpos);
    qdict_put_int(dict, "reduced-phys-bits", facts.reduced_phys_bits);
    qdict_put_bool(dict, "kernel-hashes", facts.kernel_hashes);
    qdict_put_int(dict, "policy", facts.policy);
    qdict_put_int(dict, "handle", facts.handle);
    if (facts.measurement) {
        qdict_put_str(dict, "measurement", facts.measurement);
    }
    regions = qdict_new();
    qemu_ram_foreach_block(sev_offer_region, regions);
    qdict_put(dict, "regions", regions);
    return QOBJECT(dict);
}

/* A machine whose context has left answers all with EIO: kvm_vm_dead() */
static bool sev_gone(void)
{
    return kvm_vm_ioctl(kvm_state, KVM_CHECK_EXTENSION,
                        KVM_CAP_USER_MEMORY) == -EIO;
}

/*
 * Destination
 */

bool sev_hand_over_prepare(void)
{
    if (sev_snp_enabled()) {
        return false;
    }
    /* Any guest of this kind is to be one that can be handed over */
    object_property_set_bool(OBJECT(current_machine), "hand-over", true,
                             &error_abort);
    sev.incoming = runstate_check(RUN_STATE_INMIGRATE);
    return sev.incoming;
}

/* A number of the offer, that must be what is @here */
static bool sev_same(QDict *dict, const char *name, uint64_t here,
                     Error **errp)
{
    QNum *num = qobject_to(QNum, qdict_get(dict, name));
    uint64_t there;

    if (!num || !qnum_get_try_uint(num, &there)) {
        error_setg(errp, "the source's offer has no '%s' of its SEV guest",
                   name);
        return false;
    }
    if (there != here) {
        error_setg(errp, "the source's SEV guest has %s=0x%" PRIx64 ", this "
                   "one has 0x%" PRIx64, name, there, here);
        return false;
    }
    return true;
}

static bool sev_adopt_regions(QDict *regions, Error **errp)
{
    const QDictEntry *e;

    if (!regions) {
        error_setg(errp, "the source's offer has no 'regions' of its SEV "
                   "guest");
        return false;
    }
    sev.regions = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    for (e = qdict_first(regions); e; e = qdict_next(regions, e)) {
        QNum *num = qobject_to(QNum, qdict_entry_value(e));
        RAMBlock *block = qemu_ram_block_by_name(qdict_entry_key(e));
        uint64_t address;

        if (!block || !num || !qnum_get_try_uint(num, &address)) {
            error_setg(errp, "the source's offer has no address for region "
                       "'%s', or there is none of that name",
                       qdict_entry_key(e));
            return false;
        }
        g_hash_table_insert(sev.regions, qemu_ram_get_host_addr(block),
                            g_memdup2(&address, sizeof(address)));
    }
    return true;
}

static bool sev_adopt(QObject *obj, const GArray *vms, Error **errp)
{
    QDict *dict = qobject_to(QDict, obj);
    SevFacts here;

    if (!dict) {
        if (sev_enabled()) {
            error_setg(errp, "the source's guest has no SEV, this one has");
            return false;
        }
        return true;
    }
    if (g_strcmp0(qdict_get_try_str(dict, "protection"), "sev")) {
        error_setg(errp, "the source's guest is protected by '%s', expected "
                   "'sev'", qdict_get_try_str(dict, "protection"));
        return false;
    }
    if (!sev_enabled() || sev_snp_enabled()) {
        error_setg(errp, "the source's guest has SEV, this one has not "
                   "(-object sev-guest)");
        return false;
    }
    if (!vms->len) {
        error_setg(errp, "the source's offer has no descriptor of its virtual "
                   "machine");
        return false;
    }
    if (!sev_can_move(errp)) {
        return false;
    }
    sev_get_facts(&here);
    if (!sev_same(dict, "vm-type", here.kvm_type, errp) ||
        !sev_same(dict, "policy", here.policy, errp) ||
        !sev_same(dict, "cbitpos", here.cbitpos, errp) ||
        !sev_same(dict, "reduced-phys-bits", here.reduced_phys_bits, errp)) {
        return false;
    }
    if (qdict_get_try_bool(dict, "kernel-hashes", false) !=
        here.kernel_hashes) {
        error_setg(errp, "the source's SEV guest has kernel-hashes=%s, this "
                   "one has not", here.kernel_hashes ? "off" : "on");
        return false;
    }
    if (!sev_adopt_regions(qdict_get_qdict(dict, "regions"), errp)) {
        return false;
    }
    sev.vms = vms;
    sev.facts = here;
    sev.facts.handle = qdict_get_try_int(dict, "handle", 0);
    sev.facts.measurement = g_strdup(qdict_get_try_str(dict, "measurement"));
    sev.facts.state = SEV_STATE_RUNNING;
    return true;
}

/*
 * Whether the C-bit is reserved in CR3 the kernel finds out when it is told
 * what CPUID has to say (svm_vcpu_after_set_cpuid()): tell it once more, then
 * put CR3 as it is.  No vCPU has run yet, so that it still may be told.
 */
static void sev_refresh_vcpus(void)
{
    size_t max = KVM_MAX_CPUID_ENTRIES;
    g_autofree struct kvm_cpuid2 *cpuid = NULL;
    CPUState *cs;

    cpuid = g_malloc0(sizeof(*cpuid) + max * sizeof(cpuid->entries[0]));
    CPU_FOREACH(cs) {
        int ret;

        cpuid->nent = max;
        ret = kvm_vcpu_ioctl(cs, KVM_GET_CPUID2, cpuid);
        if (ret == 0) {
            ret = kvm_vcpu_ioctl(cs, KVM_SET_CPUID2, cpuid);
        }
        if (ret < 0) {
            /* the guest is here already: let it try */
            error_report("SEV: CPUID of CPU %d: %s", cs->cpu_index,
                         strerror(-ret));
        }
        cs->vcpu_dirty = true;
    }
}

/* What there is beside the RAM that was adopted is to be pinned now */
static int sev_pin_own(RAMBlock *block, void *opaque)
{
    if (!qemu_ram_is_migratable(block)) {
        sev_pin(qemu_ram_get_host_addr(block), qemu_ram_get_max_length(block));
    }
    return 0;
}

static bool sev_move(Error **errp)
{
    int ret = -EINVAL;

    if (!sev_enabled()) {
        return true;
    }
    /* EINVAL: that machine does not have the context (any more) */
    for (guint i = sev.vms->len; i-- > 0 && ret == -EINVAL; ) {
        ret = kvm_vm_enable_cap(kvm_state, KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM,
                                0, g_array_index(sev.vms, int, i));
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "the kernel does not move the SEV "
                         "guest's encryption context%s",
                         ret == -EBUSY ? " (is there room for it in this "
                         "process's cgroup, misc.max?)" : "");
        return false;
    }
    sev.incoming = false;
    sev_moved_in(&sev.facts);
    qemu_ram_foreach_block(sev_pin_own, NULL);
    sev_refresh_vcpus();
    return true;
}

static const HandOverArch sev_hand_over = {
    .vm = sev_vm,
    .other = sev_other,
    .check = sev_check,
    .offer = sev_offer,
    .gone = sev_gone,
    .adopt = sev_adopt,
    .move = sev_move,
};

static void sev_hand_over_register(void)
{
    hand_over_arch_register(&sev_hand_over);
}

type_init(sev_hand_over_register);
