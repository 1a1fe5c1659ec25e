/*
 * Watch a counter in a guest's RAM, from outside: how long did it stand still?
 *
 *   ram-observer FILE OFFSET
 *
 * FILE is the memory of the guest (a memfd, by /proc/PID/fd/N), OFFSET where a
 * counter of 32 bits is.  For each line on standard input a line is printed:
 * the longest time since the last one that the counter did not change, in
 * microseconds, and its value.  Time is looked at every 20 us or so: where
 * the machine is busy that is what limits the precision, and an interval in
 * which nothing happens shows by how much.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static int64_t now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000ll + ts.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
    const struct timespec pause = { .tv_nsec = 20000 };
    struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
    volatile uint32_t *counter;
    int64_t changed, longest = 0;
    uint64_t offset;
    uint32_t last;
    long page = sysconf(_SC_PAGESIZE);
    char *map;
    int fd;

    if (argc != 3) {
        fprintf(stderr, "usage: ram-observer FILE OFFSET\n");
        return 2;
    }
    fd = open(argv[1], O_RDONLY);
    if (fd < 0) {
        perror(argv[1]);
        return 1;
    }
    offset = strtoull(argv[2], NULL, 0);
    map = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, offset & -page);
    if (map == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    counter = (volatile uint32_t *)(map + offset % page);
    prctl(PR_SET_TIMERSLACK, 1);
    puts("ready");
    fflush(stdout);

    last = *counter;
    changed = now_us();
    for (;;) {
        uint32_t value = *counter;
        int64_t now = now_us();

        if (value != last) {
            if (now - changed > longest) {
                longest = now - changed;
            }
            last = value;
            changed = now;
        }
        if (poll(&in, 1, 0) > 0) {
            char line[64];

            if (!fgets(line, sizeof(line), stdin)) {
                return 0;
            }
            /* one that still stands still counts, too */
            if (now - changed > longest) {
                longest = now - changed;
            }
            printf("%lld %u\n", (long long)longest, value);
            fflush(stdout);
            longest = 0;
        }
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
}
