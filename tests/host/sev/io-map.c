/*
 * One processor uses a device while another one changes the memory map: it must
 * be that device all the time.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * usage: io-map RESOURCE OFFSET CONFIG TIMES: a PCI device's memory (of sysfs) and
 * where a number in it never changes; the configuration of the device that is
 * taken out of the map and put back
 */

#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile int done;
static unsigned long reads, others;

static void *use(void *opaque)
{
    volatile uint32_t *p = opaque;
    uint32_t first = *p;

    while (!done) {
        others += *p != first;
        reads++;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int memory = argc == 5 ? open(argv[1], O_RDWR | O_SYNC) : -1;
    int config = argc == 5 ? open(argv[3], O_RDWR) : -1;
    uint16_t command, off;
    uint8_t *page;
    pthread_t thread;

    if (memory == -1 || config == -1 ||
        pread(config, &command, 2, 4) != 2) {
        perror("io-map");
        return 1;
    }
    page = mmap(NULL, 0x4000, PROT_READ, MAP_SHARED, memory, 0);
    if (page == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    off = command & ~2;                 /* memory space */
    pthread_create(&thread, NULL, use, page + strtoul(argv[2], NULL, 0));
    for (int n = atoi(argv[4]); n; n--) {
        if (pwrite(config, &off, 2, 4) != 2 ||
            pwrite(config, &command, 2, 4) != 2) {
            perror("pwrite");
            return 1;
        }
    }
    done = 1;
    pthread_join(thread, NULL);
    printf("memory map: read %lu times, %lu of another device\n", reads, others);
    return others != 0;
}
