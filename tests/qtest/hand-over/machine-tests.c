/*
 * Hand-over tests: machines that match, and machines that do not
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "pair.h"
#include "tests.h"

typedef struct Mismatch {
    const char *name;
    const char *source;
    const char *destination;
    const char *error;
} Mismatch;

static const Mismatch mismatches[] = {
    { "ram-size", MACHINE, "-machine pc,hand-over=on -m 32",
      "RAM block 'pc.ram' has 0x1000000 bytes at the source, and 0x2000000" },
    { "ram-name", "-machine pc,hand-over=on,memory-backend=a "
                  "-object memory-backend-memfd,id=a,size=16M",
                  "-machine pc,hand-over=on,memory-backend=b "
                  "-object memory-backend-memfd,id=b,size=16M",
      "RAM block 'a' of the source does not exist here" },
    { "ram-count", MACHINE " -device VGA", MACHINE, "for which there is no" },
    { "machine", MACHINE, "-machine q35,hand-over=on -m 16",
      "the source's machine is" },
    { "cpus", MACHINE " -smp 1", MACHINE " -smp 2",
      "the source has 1 CPUs, there are 2 here" },
    { "device-missing", MACHINE " -device virtio-balloon", MACHINE,
      "for which there is no device here" },
    { "device-surplus", MACHINE, MACHINE " -device virtio-rng",
      "which the source does not have" },
};

static void test_mismatch(const void *opaque)
{
    const Mismatch *m = opaque;
    g_autofree char *status = NULL, *error = NULL;
    Vm source, destination;

    start_pair(&source, &destination, m->source, m->destination);
    hand_over(&source, "incoming");
    status = vm_wait_migration(&source);
    error = vm_migration_error(&source);
    g_assert_cmpstr(status, ==, "failed");
    g_assert_nonnull(error);
    if (!strstr(error, m->error)) {
        g_test_message("error-desc: %s", error);
        g_assert_not_reached();
    }
    vm_wait_exit(&destination);
    vm_assert_counts(&source);
    vm_kill(&source);
}

typedef struct Machine {
    const char *name;
    const char *options;
} Machine;

static const Machine machines[] = {
    { "q35", "-machine q35,hand-over=on -m 16" },
    { "smp-16", MACHINE " -smp 16" },
    { "memfd", "-machine pc,hand-over=on,memory-backend=a "
               "-object memory-backend-memfd,id=a,size=16M" },
    { "ram", "-machine pc,hand-over=on,memory-backend=a "
             "-object memory-backend-ram,id=a,size=16M" },
    { "prealloc", MACHINE " -mem-prealloc" },
    { "hot-plug-slots", "-machine pc,hand-over=on -m 16M,slots=2,maxmem=1G" },
    { "numa", "-machine pc,hand-over=on -m 32 -smp 2 "
              "-object memory-backend-ram,id=a,size=16M "
              "-object memory-backend-memfd,id=b,size=16M "
              "-numa node,memdev=a -numa node,memdev=b" },
    { "devices", MACHINE " -device VGA -device e1000 -device virtio-net "
                 "-device virtio-serial -device ich9-ahci "
                 "-device qemu-xhci "
                 "-device usb-tablet -device virtio-balloon "
                 "-device virtio-rng -device virtio-scsi "
                 "-drive if=none,id=d1,driver=null-co,read-zeroes=on "
                 "-device virtio-blk,drive=d1 "
                 "-drive if=none,id=d2,driver=null-co,read-zeroes=on "
                 "-drive if=none,id=d3,driver=null-co,read-zeroes=on "
                 "-device nvme,serial=1,drive=d2 "
                 "-device nvme,serial=2,id=n -device nvme-ns,drive=d3,bus=n" },
};

static void test_machine(const void *opaque)
{
    const Machine *m = opaque;

    check_machine(m->options, m->options);
}

void hand_over_add_machine_tests(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(mismatches); i++) {
        g_autofree char *name = g_strdup_printf("/hand-over/mismatch/%s",
                                                mismatches[i].name);

        g_test_add_data_func(name, &mismatches[i], test_mismatch);
    }
    for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
        g_autofree char *name = g_strdup_printf("/hand-over/machine/%s",
                                                machines[i].name);

        g_test_add_data_func(name, &machines[i], test_machine);
    }
}
