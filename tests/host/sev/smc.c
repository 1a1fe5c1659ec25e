/*
 * One processor changes code that another one executes: who has seen that it
 * changed, and has serialized since, must execute the new one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * As the kernel's text_poke_bp_batch() relies on.  usage: smc TIMES
 *
 * One race is left, patches/fixes/06 says why: a write that has found its page
 * without code, and whose processor then loses its host's, is not noticed; the
 * next one is.  So code is never older than the last but one, and only once in a
 * great many writes older than the last.
 */

#include <pthread.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static uint32_t (*code)(void);
static volatile uint32_t written;
static volatile int done;
static unsigned long older, unnoticed, calls;

static void *execute(void *opaque)
{
    uint32_t last = 0;

    (void)opaque;
    while (!done) {
        uint32_t a = 0, b, c, d, least = written, is;

        asm volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d) : : "memory");
        is = code();
        if (is + 1 < least) {
            older++;
        } else if (is < least && least != last) {
            unnoticed++;
            last = least;
        }
        calls++;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    uint32_t times = argc > 1 ? atoi(argv[1]) : 100000;
    uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t thread;

    if (page == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    /* mov $n, %eax; ret: n is aligned, and so written at once */
    memcpy(page + 3, "\xb8\0\0\0\0\xc3", 6);
    code = (uint32_t (*)(void))(page + 3);
    pthread_create(&thread, NULL, execute, NULL);
    for (uint32_t n = 1; n <= times; n++) {
        *(volatile uint32_t *)(page + 4) = n;
        written = n;
        /* let it be executed for a while */
        for (volatile int i = 0; i < 200; i++) {
        }
    }
    done = 1;
    pthread_join(thread, NULL);
    printf("code: written %u times, executed %lu times, %lu writes not noticed "
           "until the next, %lu times older\n", times, calls, unnoticed, older);
    return older || unnoticed > times / 10000;
}
