/*
 * What the demo's guest does in user space, as its first process.
 *
 *  - a counter in a page of memory goes on as fast as it can: an observer
 *    outside looks at it (the page begins with MAGIC)
 *  - 32 MiB of memory are verified and changed, round after round
 *  - blocks are written to the disk, and read back, past any cache
 *  - the network's gateway is pinged
 *  - ten times a second a line goes to the console, with a number, and what
 *    was counted so far
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <net/if.h>
#include <netinet/ip_icmp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAGIC "hand-over demo: the counter is at +64"
#define MEMORY (32u << 20)
#define BLOCK (64u << 10)

static const char *disk;         /* disk=... of the kernel's command line */
static volatile uint32_t *counter;
static volatile unsigned memory_rounds, memory_errors;
static volatile unsigned disk_rounds, disk_errors;
static volatile unsigned pings, pings_lost;

static void pause_ms(unsigned ms)
{
    struct timespec ts = { ms / 1000, ms % 1000 * 1000000l };

    while (nanosleep(&ts, &ts) < 0 && errno == EINTR) {
        /* the rest */
    }
}

/* Numbers that depend on all of a, b and their order */
static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t x = a * 0x9e3779b97f4a7c15ull ^ b;

    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9ull;
    return x ^ x >> 32;
}

static void *count(void *unused)
{
    (void)unused;
    for (;;) {
        ++*counter;
    }
    return NULL;
}

static void *check_memory(void *unused)
{
    size_t words = MEMORY / sizeof(uint64_t);
    uint64_t *mem = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t round = 0;

    (void)unused;
    for (size_t i = 0; i < words; i++) {
        mem[i] = mix(round, i);
    }
    for (;; round++) {
        for (size_t i = 0; i < words; i++) {
            if (mem[i] != mix(round, i)) {
                memory_errors++;
            }
            mem[i] = mix(round + 1, i);
            if (i % (words / 64) == 0) {
                pause_ms(2);
            }
        }
        memory_rounds = round + 1;
    }
    return NULL;
}

static void *check_disk(void *unused)
{
    uint64_t *out, *in, size = 0;
    int fd = open(disk, O_RDWR | O_DIRECT | O_DSYNC);

    (void)unused;
    if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) < 0 || size < 2 * BLOCK ||
        posix_memalign((void **)&out, 4096, BLOCK) ||
        posix_memalign((void **)&in, 4096, BLOCK)) {
        printf("guest: no disk: %s\n", strerror(errno));
        disk_errors++;
        return NULL;
    }
    for (uint64_t round = 0;; round++) {
        off_t at = mix(round, size) % (size / BLOCK) * BLOCK;
        off_t before = mix(round - 1, size) % (size / BLOCK) * BLOCK;

        for (size_t i = 0; i < BLOCK / sizeof(*out); i++) {
            out[i] = mix(round, i);
        }
        if (pwrite(fd, out, BLOCK, at) != BLOCK) {
            disk_errors++;
        }
        /* the one before, unless it has just been written over */
        if (round && before != at) {
            if (pread(fd, in, BLOCK, before) != BLOCK) {
                disk_errors++;
            }
            for (size_t i = 0; i < BLOCK / sizeof(*in); i++) {
                if (in[i] != mix(round - 1, i)) {
                    disk_errors++;
                    break;
                }
            }
        }
        disk_rounds = round + 1;
        pause_ms(20);
    }
    return NULL;
}

static uint16_t checksum(const void *buf, size_t len)
{
    const uint16_t *p = buf;
    uint32_t sum = 0;

    for (; len > 1; len -= 2) {
        sum += *p++;
    }
    sum = (sum >> 16) + (sum & 0xffff);
    return ~(sum + (sum >> 16));
}

static int network_up(void)
{
    struct ifreq ifr = { .ifr_name = "eth0" };
    struct sockaddr_in *sin = (struct sockaddr_in *)&ifr.ifr_addr;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    sin->sin_family = AF_INET;
    sin->sin_addr.s_addr = inet_addr("10.0.2.15");
    if (ioctl(fd, SIOCSIFADDR, &ifr) < 0) {
        return -1;
    }
    sin->sin_addr.s_addr = inet_addr("255.255.255.0");
    ioctl(fd, SIOCSIFNETMASK, &ifr);
    ifr.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(fd, SIOCSIFFLAGS, &ifr) < 0) {
        return -1;
    }
    close(fd);
    return 0;
}

static void *ping(void *unused)
{
    struct sockaddr_in to = { .sin_family = AF_INET };
    struct timeval limit = { .tv_sec = 5 };
    int fd;

    (void)unused;
    to.sin_addr.s_addr = inet_addr("10.0.2.2");
    if (network_up() < 0 ||
        (fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)) < 0) {
        printf("guest: no network: %s\n", strerror(errno));
        pings_lost++;
        return NULL;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    for (unsigned n = 1;; n++) {
        struct icmphdr echo = { .type = ICMP_ECHO };
        char buf[256];
        ssize_t len;
        int answered = 0;

        echo.un.echo.sequence = htons(n);
        echo.checksum = checksum(&echo, sizeof(echo));
        sendto(fd, &echo, sizeof(echo), 0, (struct sockaddr *)&to, sizeof(to));
        while (!answered && (len = recv(fd, buf, sizeof(buf), 0)) > 0) {
            struct icmphdr *reply = (void *)(buf + (buf[0] & 15) * 4);

            answered = reply->type == ICMP_ECHOREPLY &&
                       reply->un.echo.sequence == htons(n);
        }
        if (answered) {
            pings++;
        } else {
            pings_lost++;
        }
        pause_ms(100);
    }
    return NULL;
}

static void load_modules(void)
{
    char name[256];
    FILE *list = fopen("/modules", "r");

    while (list && fgets(name, sizeof(name), list)) {
        int fd;

        name[strcspn(name, "\n")] = '\0';
        fd = open(name, O_RDONLY);
        if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0) {
            printf("guest: %s: %s\n", name, strerror(errno));
        }
        close(fd);
    }
}

static void start(void *(*function)(void *))
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, function, NULL)) {
        printf("guest: no thread\n");
    }
}

int main(void)
{
    char *page;
    int console;

    mount("none", "/dev", "devtmpfs", 0, NULL);
    mount("none", "/proc", "proc", 0, NULL);
    console = open("/dev/console", O_RDWR);
    dup2(console, 1);
    dup2(console, 2);
    setvbuf(stdout, NULL, _IOLBF, 0);
    load_modules();
    disk = getenv("disk");
    if (!disk) {
        disk = "/dev/vda";
    }

    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mlock(page, 4096);
    counter = (uint32_t *)(page + 64);
    memcpy(page, MAGIC, sizeof(MAGIC));
    system("/bin/busybox uname -srv");

    start(count);
    start(check_memory);
    for (unsigned i = 0; i < 100 && access(disk, F_OK); i++) {
        pause_ms(50);
    }
    start(check_disk);
    start(ping);
    for (unsigned tick = 1;; tick++) {
        printf("tick %u memory %u errors %u disk %u errors %u ping %u lost "
               "%u\n", tick, memory_rounds, memory_errors, disk_rounds,
               disk_errors, pings, pings_lost);
        pause_ms(100);
    }
}
