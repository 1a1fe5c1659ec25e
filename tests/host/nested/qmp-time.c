/*
 * How long QEMU takes for a QMP command
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * usage: qmp-time COMMAND [TEXT]; to its monitor by file descriptor 6, from it by
 * 7.  Says nanoseconds until it returns, or until an event says TEXT.
 */

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int main(int argc, char **argv)
{
    FILE *from = fdopen(7, "r");
    char line[65536];
    long long begin;

    if (argc < 2 || argc > 3 || !from) {
        fprintf(stderr, "qmp-time: expected a command, and a monitor\n");
        return 1;
    }
    /* what comes after it is for who comes after us */
    setvbuf(from, NULL, _IONBF, 0);
    begin = now();
    dprintf(6, "%s\n", argv[1]);
    while (fgets(line, sizeof(line), from)) {
        if (argc == 3 ? strstr(line, argv[2]) != NULL
                      : !strncmp(line, "{\"return\"", 9)) {
            printf("%lld\n", now() - begin);
            return 0;
        }
        if (!strncmp(line, "{\"error\"", 8)) {
            fputs(line, stderr);
            return 1;
        }
    }
    return 1;
}
