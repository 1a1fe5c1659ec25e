/*
 * Hand-over tests: how the guest's memory is backed and mapped
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "pair.h"
#include "tests.h"
#include "wait.h"

static void test_memory_file(void)
{
    g_autofree char *path = tmp_path("ram");
    g_autofree char *opts = g_strdup_printf(
        "-machine pc,hand-over=on,memory-backend=a -object "
        "memory-backend-file,id=a,size=16M,mem-path=%s,share=on", path);

    check_machine(opts, opts);
    unlink(path);
}

/*
 * Two blocks of the same size are listed in the order in which they were made:
 * each must come to be where its name is
 */
static void test_memory_order(void)
{
    check_machine("-machine pc,hand-over=on -m 32 -smp 2 "
                  "-object memory-backend-ram,id=a,size=16M "
                  "-object memory-backend-ram,id=b,size=16M "
                  "-numa node,memdev=a -numa node,memdev=b",
                  "-machine pc,hand-over=on -m 32 -smp 2 "
                  "-object memory-backend-ram,id=b,size=16M "
                  "-object memory-backend-ram,id=a,size=16M "
                  "-numa node,memdev=a -numa node,memdev=b");
}

/* What nobody writes to is mapped by each side itself */
static void test_memory_read_only(void)
{
    g_autofree char *path = tmp_path("rom-file");
    g_autofree char *opts = g_strdup_printf(
        "-machine pc,hand-over=on,nvdimm=on -m 16M,slots=2,maxmem=1G -object "
        "memory-backend-file,id=a,size=2M,mem-path=%s,readonly=on -device "
        "nvdimm,memdev=a,unarmed=on", path);
    g_autofree char *content = g_malloc0(2 * 1024 * 1024);

    g_assert_true(g_file_set_contents(path, content, 2 * 1024 * 1024, NULL));
    check_machine(opts, opts);
    unlink(path);
}

/* The flags of the process's mapping of a file, from /proc/PID/smaps */
static char *vm_mapping_flags(Vm *vm, const char *file)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/smaps", vm->pid);
    g_autofree char *text = NULL;
    char *at;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    at = strstr(text, file);
    if (!at) {
        return NULL;
    }
    at = strstr(at, "\nVmFlags:");
    g_assert_nonnull(at);
    return g_strndup(at, strchr(at + 1, '\n') - at);
}

/*
 * An adopted mapping is what the options say, and the source has none at all
 * any more
 */
static void test_memory_mapping(void)
{
    g_autofree char *path = tmp_path("ram");
    g_autofree char *opts = g_strdup_printf(
        "-machine pc,hand-over=on,memory-backend=a -object "
        "memory-backend-file,id=a,size=16M,mem-path=%s,share=on,dump=off",
        path);
    g_autofree char *before = NULL, *after = NULL, *left = NULL;
    g_autofree char *status = NULL;
    int64_t end;
    Vm source, destination;

    start_pair(&source, &destination, opts, opts);
    before = vm_mapping_flags(&destination, path);
    g_assert_nonnull(strstr(before, " dd"));
    hand_over(&source, "incoming");
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "completed");
    vm_wait_running(&destination);
    after = vm_mapping_flags(&destination, path);
    g_assert_nonnull(strstr(after, " wr"));
    g_assert_nonnull(strstr(after, " dd"));
    g_assert_nonnull(strstr(after, " dc"));
    /* once the destination has used the guest, what was kept goes */
    end = wait_until();
    while ((left = vm_mapping_flags(&source, path))) {
        g_clear_pointer(&left, g_free);
        wait_check(end, "the source to unmap %s", path);
        vm_is_running(&source);
    }
    ends_running(&source, &destination);
    unlink(path);
}

/* The memory of both together is one guest's */
static uint64_t vm_shared_pages(Vm *vm)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/smaps_rollup", vm->pid);
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return g_ascii_strtoull(strstr(text, "\nPss:") + 5, NULL, 10) * 1024;
}

static void test_memory_once(void)
{
    /* -mem-prealloc: every page of both would be there */
    const char *opts = "-machine pc,hand-over=on -m 256 -mem-prealloc";
    g_autofree char *status = NULL;
    Vm source, destination;
    uint64_t alone, together;

#ifdef QEMU_SANITIZE_ADDRESS
    g_test_skip("AddressSanitizer's own memory would be counted");
    return;
#endif
    start_pair(&source, &destination, opts, opts);
    alone = vm_shared_pages(&source);
    together = alone + vm_shared_pages(&destination);
    g_assert_cmpuint(alone, >=, 256 * 1024 * 1024);
    g_assert_cmpuint(together, <=, alone + 64 * 1024 * 1024);

    hand_over(&source, "incoming");
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "completed");
    together = vm_shared_pages(&source) + vm_shared_pages(&destination);
    g_assert_cmpuint(together, <=, alone + 64 * 1024 * 1024);
    vm_kill(&source);
    vm_kill(&destination);
}

/*
 * An ordinary migration to a destination that could adopt: it must preallocate
 * after all
 */
static void test_ordinary(const void *opaque)
{
    bool tcp = !strcmp(opaque, "tcp");
    g_autofree char *uri = NULL;
    g_autofree char *status = NULL;
    Vm source, destination;

    vm_start(&source, "source", "-machine pc,hand-over=on -m 256");
    vm_start(&destination, "destination", "-machine pc,hand-over=on -m 256 "
             "-mem-prealloc -incoming defer");
    vm_assert_counts(&source);
    uri = vm_listen(&destination, tcp, true);
    g_assert_cmpuint(vm_shared_pages(&destination), <, 256 * 1024 * 1024);

    qobject_unref(vm_command(&source, "{'execute': 'migrate',"
                             " 'arguments': {'uri': %s}}", uri));
    status = vm_wait_migration(&source);
    g_assert_cmpstr(status, ==, "completed");
    vm_wait_running(&destination);
    vm_assert_counts(&destination);
    g_assert_cmpuint(vm_shared_pages(&destination), >=, 256 * 1024 * 1024);
    vm_kill(&source);
    vm_kill(&destination);
}

void hand_over_add_memory_tests(void)
{
    g_test_add_func("/hand-over/machine/memory-file", test_memory_file);
    g_test_add_func("/hand-over/memory-once", test_memory_once);
    g_test_add_data_func("/hand-over/ordinary-migration/unix", "unix",
                         test_ordinary);
    g_test_add_data_func("/hand-over/ordinary-migration/tcp", "tcp",
                         test_ordinary);
    g_test_add_func("/hand-over/memory/order", test_memory_order);
    g_test_add_func("/hand-over/memory/read-only", test_memory_read_only);
    g_test_add_func("/hand-over/memory/mapping", test_memory_mapping);
}
