/*
 * Watch a counter in a guest's RAM, from outside: how long did it stand still?
 *
 *   ram-observer OFFSET FILE...
 *
 * FILE is the memory of the guest (a memfd, by /proc/PID/fd/N), OFFSET where a
 * counter of 32 bits is.  Where memory is copied to another process there are
 * two files: the guest has come as far as the higher counter.
 *
 * For each line on standard input a line is printed: the counter's value, and
 * for each time since the last line that it did not change for 200 us or more:
 * how long, and when that ended, by CLOCK_MONOTONIC, in microseconds.  It is
 * looked at every 20 us or so: where the machine is busy that is what limits
 * the precision, and an interval in which nothing happens shows by how much.
 */

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

#define FILES_MAX 2
#define STANDSTILLS_MAX 65536
#define STANDSTILL_US 200

static volatile uint32_t *counters[FILES_MAX];
static int files;

/* The higher one; they may wrap around */
static uint32_t value_now(void)
{
    uint32_t value = *counters[0];

    for (int i = 1; i < files; i++) {
        uint32_t other = *counters[i];

        if ((int32_t)(other - value) > 0) {
            value = other;
        }
    }
    return value;
}

static volatile uint32_t *map_counter(const char *path, uint64_t offset)
{
    long page = sysconf(_SC_PAGESIZE);
    int fd = open(path, O_RDONLY);
    char *map;

    if (fd < 0) {
        perror(path);
        exit(1);
    }
    map = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, offset & -page);
    if (map == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return (volatile uint32_t *)(map + offset % page);
}

int main(int argc, char **argv)
{
    const struct timespec pause = { .tv_nsec = 20000 };
    struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
    static int64_t lengths[STANDSTILLS_MAX], ends[STANDSTILLS_MAX];
    int64_t changed;
    size_t n = 0;
    uint32_t last;

    files = argc - 2;
    if (files < 1 || files > FILES_MAX) {
        fprintf(stderr, "usage: ram-observer OFFSET FILE [FILE]\n");
        return 2;
    }
    for (int i = 0; i < files; i++) {
        counters[i] = map_counter(argv[i + 2], strtoull(argv[1], NULL, 0));
    }
    prctl(PR_SET_TIMERSLACK, 1);
    puts("ready");
    fflush(stdout);

    last = value_now();
    changed = now_us();
    for (;;) {
        uint32_t value = value_now();
        int64_t now = now_us();
        int asked = poll(&in, 1, 0) > 0;

        /* when asked: one that still stands still counts, too */
        if ((value != last || asked) && now - changed >= STANDSTILL_US &&
            n < STANDSTILLS_MAX) {
            lengths[n] = now - changed;
            ends[n++] = now;
        }
        if (value != last) {
            last = value;
            changed = now;
        }
        if (asked) {
            char line[64];

            if (!fgets(line, sizeof(line), stdin)) {
                return 0;
            }
            printf("%u", value);
            for (size_t i = 0; i < n; i++) {
                printf(" %lld %lld", (long long)lengths[i],
                       (long long)ends[i]);
            }
            putchar('\n');
            fflush(stdout);
            n = 0;
        }
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
}
