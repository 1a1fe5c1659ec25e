/*
 * Hand-over of a guest between two QEMUs, and what becomes of it when
 * something fails
 *
 * The test starts both, and may stand between them (hand-over/proxy.h).  The
 * tests are in hand-over/, a file for each subject.
 *
 * The guest is a ROM of a few bytes that counts in RAM; there is another one
 * that resets itself all the time.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hand-over/tests.h"
#include "hand-over/vm.h"

/* The last 64 KiB are a ROM, which begins with @code */
static void write_rom(const char *name, const uint8_t *code, size_t len)
{
    static const uint8_t reset[] = { 0xea, 0x00, 0x00, 0x00, 0xf0 };
    g_autofree uint8_t *rom = g_malloc0(64 * 1024);
    g_autofree char *path = tmp_path(name);

    memcpy(rom, code, len);
    memcpy(rom + 0xfff0, reset, sizeof(reset));
    g_assert_true(g_file_set_contents(path, (char *)rom, 64 * 1024, NULL));
}

static void write_roms(void)
{
    /* in real mode: inc dword [BOOTS]; inc dword [COUNTER]; jmp back to that */
    static const uint8_t counts[] = {
        0x66, 0xff, 0x06, BOOTS & 0xff, BOOTS >> 8,
        0x66, 0xff, 0x06, COUNTER & 0xff, COUNTER >> 8, 0xeb, 0xf9,
    };
    /*
     * inc dword [COUNTER]; a moment (mov ecx, 20000; loop) in which QEMU gets
     * to something else; a reset by port 0xcf9; and nothing if that fails
     */
    static const uint8_t resets[] = {
        0x66, 0xff, 0x06, COUNTER & 0xff, COUNTER >> 8,
        0x66, 0xb9, 0x20, 0x4e, 0x00, 0x00, 0x67, 0xe2, 0xfd,
        0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xeb, 0xfe,
    };

    write_rom("rom", counts, sizeof(counts));
    write_rom("rom-resets", resets, sizeof(resets));
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    vm_init();
    write_roms();
    /* a killed QEMU must not kill the test */
    signal(SIGPIPE, SIG_IGN);

    hand_over_add_failure_tests();
    hand_over_add_machine_tests();
    hand_over_add_memory_tests();
    hand_over_add_unused_tests();
    hand_over_add_migrate_tests();
    hand_over_add_command_tests();
    hand_over_add_state_tests();
    hand_over_add_change_tests();
    hand_over_add_limit_tests();
    hand_over_add_base_tests();

    ret = g_test_run();

    vm_cleanup();
    return ret;
}
