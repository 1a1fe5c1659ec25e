/*
 * Hand-over of a SEV guest: its encryption context is moved
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The source describes its guest, and passes on the descriptor of its virtual
 * machine.  The destination creates no context of its own: it adopts the
 * encrypted RAM and the pins on it, and as the very last step has the kernel
 * move the context from the source's machine to its own
 * (KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM, the kernel's arch/x86/kvm/svm/sev.c:
 * sev_vm_move_enc_context_from()).  From then on the source's machine is dead:
 * the kernel fails every ioctl of its vCPUs with EIO.
 *
 * With SEV-ES the kernel moves the registers as well: the encrypted ones
 * (VMSA), and a pending request of the guest (GHCB).  It does not move its own
 * state of a vCPU: local APIC, MP state, events, its MSRs, the CR0, CR4 and
 * EFER that it knows, and the result registers of a request that the guest has
 * not seen yet.  All that can be read, and is written to the destination's
 * vCPUs while these are still ordinary ones.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "qapi/qapi-types-misc-target.h"
#include "exec/cpu-common.h"
#include "exec/ramblock.h"
#include "hw/boards.h"
#include "hw/i386/x86.h"
#include "migration/hand-over.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "system/runstate.h"
#include "sev-hand-over.h"
#include "sev.h"

/* All of it belongs to the main thread */
static struct {
    bool incoming;              /* no encryption context yet */
    bool moved;                 /* the context came from another machine */
    const GArray *vms;          /* descriptors of machines: one has it */
    SevFacts facts;             /* of the source; the measurement is ours */
    GHashTable *regions;        /* RAM block's address: address when pinned */
    char *misc_cgroup;          /* that the context is charged to */
} sev;

bool sev_hand_over_incoming(void)
{
    return sev.incoming;
}

bool sev_hand_over_moved(void)
{
    return sev.moved;
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

/* The misc controller's group of this process, NULL if unknown */
static char *sev_misc_cgroup(void)
{
    g_autofree char *groups = NULL;
    g_auto(GStrv) lines = NULL;
    g_autofree char *path = NULL;

    if (!g_file_get_contents("/proc/self/cgroup", &groups, NULL, NULL)) {
        return g_strdup("/");
    }
    /* ID:CONTROLLERS:PATH; CONTROLLERS is empty in version 2 */
    lines = g_strsplit(groups, "\n", -1);
    for (int i = 0; lines[i]; i++) {
        g_auto(GStrv) field = g_strsplit(lines[i], ":", 3);
        g_auto(GStrv) controllers = NULL;

        if (g_strv_length(field) != 3) {
            continue;
        }
        controllers = g_strsplit(field[1], ",", -1);
        if (g_strv_contains((const char *const *)controllers, "misc")) {
            return g_strdup(field[2]);
        }
        if (!*field[1]) {
            g_free(path);
            path = g_strdup(field[2]);
        }
    }
    /* Without the controller, a group is charged to its parent */
    while (path && strcmp(path, "/")) {
        g_autofree char *file = g_strdup_printf("/sys/fs/cgroup%s/misc.current",
                                                path);
        char *up;

        if (access(file, F_OK) == 0) {
            return g_steal_pointer(&path);
        }
        up = g_path_get_dirname(path);
        g_free(path);
        path = up;
    }
    return g_strdup("/");
}

/* The encryption context is charged to this process's group from now on */
static void sev_charged(void)
{
    g_free(sev.misc_cgroup);
    sev.misc_cgroup = sev_misc_cgroup();
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

static bool sev_allows_migration(Error **errp)
{
    if (sev_enabled()) {
        error_setg(errp, "SEV: the memory of this guest can't be copied, it "
                   "can only be handed over to a QEMU on this host");
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
    if (sev_es_enabled() && !sev_hand_over_check_vcpus(errp)) {
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
         * sev_migrate_from() leaves need_init of the destination set, and while
         * it is set, svm_vcpu_pre_run() fails: seen with Linux 6.12.
         */
        error_setg(errp, "the kernel moves a SEV guest of VM type %d, but "
                   "does not run it afterwards: expected %d, -object sev-guest,"
                   "legacy-vm-type=on", facts.kvm_type, KVM_X86_DEFAULT_VM);
        return false;
    }
    return true;
}

static int sev_offer_region(RAMBlock *block, void *opaque)
{
    HandOverSevRegionList ***tail = opaque;
    HandOverSevRegion *region;

    if (!qemu_ram_is_migratable(block)) {
        /* it is not migrated: it has no name, and stays here */
        return 0;
    }
    region = g_new0(HandOverSevRegion, 1);
    region->name = g_strdup(qemu_ram_get_idstr(block));
    region->address = sev_hand_over_region(qemu_ram_get_host_addr(block));
    QAPI_LIST_APPEND(*tail, region);
    return 0;
}

static HandOverProtectedGuest *sev_offer(void)
{
    HandOverProtectedGuest *guest;
    HandOverSevRegionList **tail;
    HandOverSevGuest *offer;
    SevFacts facts;

    if (!sev_enabled()) {
        return NULL;
    }
    sev_get_facts(&facts);
    guest = g_new0(HandOverProtectedGuest, 1);
    guest->protection = HAND_OVER_PROTECTION_SEV;
    offer = &guest->u.sev;
    offer->vm_type = facts.kvm_type;
    offer->policy = facts.policy;
    offer->cbitpos = facts.cbitpos;
    offer->reduced_phys_bits = facts.reduced_phys_bits;
    offer->kernel_hashes = facts.kernel_hashes;
    offer->handle = facts.handle;
    offer->measurement = g_strdup(facts.measurement);
    tail = &offer->regions;
    qemu_ram_foreach_block(sev_offer_region, &tail);
    if (sev_es_enabled()) {
        offer->has_vcpus = true;
        offer->vcpus = sev_hand_over_vcpus();
        offer->misc_cgroup = g_strdup(sev.misc_cgroup);
    }
    return guest;
}

static bool sev_gone(void)
{
    return kvm_vm_is_dead(kvm_state);
}

/*
 * Destination
 */

bool sev_hand_over_prepare(void)
{
    if (sev_snp_enabled()) {
        return false;
    }
    /* Make it possible to hand over any guest of this kind */
    object_property_set_bool(OBJECT(current_machine), "hand-over", true,
                             &error_abort);
    sev.incoming = runstate_check(RUN_STATE_INMIGRATE);
    if (!sev.incoming) {
        sev_charged();
    }
    return sev.incoming;
}

/* Value @name of the offer, @there, must be the same @here */
static bool sev_same(const char *name, uint64_t there, uint64_t here,
                     Error **errp)
{
    if (there != here) {
        error_setg(errp, "the source's SEV guest has %s=0x%" PRIx64 ", this "
                   "one has 0x%" PRIx64, name, there, here);
        return false;
    }
    return true;
}

static bool sev_adopt_regions(const HandOverSevRegionList *regions,
                              Error **errp)
{
    sev.regions = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    for (; regions; regions = regions->next) {
        const HandOverSevRegion *region = regions->value;
        RAMBlock *block = qemu_ram_block_by_name(region->name);

        if (!block) {
            error_setg(errp, "the source's SEV guest has region '%s', but "
                       "there is no RAM block of that name here", region->name);
            return false;
        }
        g_hash_table_insert(sev.regions, qemu_ram_get_host_addr(block),
                            g_memdup2(&region->address,
                                      sizeof(region->address)));
    }
    return true;
}

static bool sev_es_adopt(const HandOverSevGuest *offer, Error **errp)
{
    g_autoptr(uint64List) vcpus = sev_hand_over_vcpus();
    const uint64List *here = vcpus, *there = offer->vcpus;
    g_autofree char *group = sev_misc_cgroup();

    while (here && there && here->value == there->value) {
        here = here->next;
        there = there->next;
    }
    if (here || there) {
        error_setg(errp, "the source's SEV-ES guest has other CPUs, or has "
                   "them in another order, than this one");
        return false;
    }
    if (g_strcmp0(offer->misc_cgroup, group)) {
        /*
         * Seen with Linux 6.12: sev_vm_move_enc_context_from() charges and
         * uncharges the resource of plain SEV, because es_active is not set
         * yet, or not any more, when it is checked.
         */
        error_setg(errp, "the source's SEV-ES guest is charged to cgroup '%s' "
                   "of the misc controller, this process is in '%s': expected "
                   "the same, as the kernel loses count otherwise",
                   offer->misc_cgroup ? offer->misc_cgroup : "", group);
        return false;
    }
    return true;
}

static bool sev_adopt(const HandOverProtectedGuest *guest, const GArray *vms,
                      Error **errp)
{
    const HandOverSevGuest *offer;
    SevFacts here;

    if (!guest) {
        if (sev_enabled()) {
            error_setg(errp, "the source's guest has no SEV, this one has");
            return false;
        }
        return true;
    }
    if (guest->protection != HAND_OVER_PROTECTION_SEV || !sev_enabled() ||
        sev_snp_enabled()) {
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
    offer = &guest->u.sev;
    sev_get_facts(&here);
    if (!sev_same("vm-type", offer->vm_type, here.kvm_type, errp) ||
        !sev_same("policy", offer->policy, here.policy, errp) ||
        !sev_same("cbitpos", offer->cbitpos, here.cbitpos, errp) ||
        !sev_same("reduced-phys-bits", offer->reduced_phys_bits,
                  here.reduced_phys_bits, errp)) {
        return false;
    }
    if (offer->kernel_hashes != here.kernel_hashes) {
        error_setg(errp, "the source's SEV guest has kernel-hashes=%s, this "
                   "one has not", here.kernel_hashes ? "off" : "on");
        return false;
    }
    if ((sev_es_enabled() && !sev_es_adopt(offer, errp)) ||
        !sev_adopt_regions(offer->regions, errp) ||
        !sev_hand_over_inhibit_avic(errp)) {
        return false;
    }
    sev.vms = vms;
    sev.facts = here;
    sev.facts.handle = offer->handle;
    sev.facts.measurement = g_strdup(offer->measurement);
    sev.facts.state = SEV_STATE_RUNNING;
    return true;
}

/* Pin RAM that was not adopted */
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
    if (sev_es_enabled() && !sev_hand_over_prepare_vcpus(errp)) {
        return false;
    }
    /* EINVAL: that machine does not have the context, or not any more */
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
    sev.moved = true;
    sev_charged();
    sev_moved_in(&sev.facts);
    qemu_ram_foreach_block(sev_pin_own, NULL);
    sev_hand_over_refresh_vcpus();
    return true;
}

static const HandOverArch sev_hand_over = {
    .vm = sev_vm,
    .allows_migration = sev_allows_migration,
    .check = sev_check,
    .offer = sev_offer,
    .stopped = sev_hand_over_get_vcpus,
    .gone = sev_gone,
    .adopt = sev_adopt,
    .move = sev_move,
};

static void sev_hand_over_register(void)
{
    hand_over_arch_register(&sev_hand_over);
}

type_init(sev_hand_over_register);
