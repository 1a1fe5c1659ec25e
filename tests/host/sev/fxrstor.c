/*
 * fxrstor: load the FPU's state for ever, as each switch between tasks does
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

int main(void)
{
    static unsigned char state[512] __attribute__((aligned(16)));

    __asm__ volatile("fxsave %0" : "=m" (state));
    for (;;) {
        __asm__ volatile("fxrstor %0" : : "m" (state));
    }
}
