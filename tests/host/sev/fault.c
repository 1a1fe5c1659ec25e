/*
 * Faults in a hand-over, at a place that is told: a library that is loaded
 * before QEMU's (LD_PRELOAD).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The file FAULT has one line, and is gone once that has happened:
 *
 *   ROLE POINT WHEN ACTION
 *
 * ROLE: source or destination.  POINT: a message of the hand-over, by its type;
 * "stream", the device state; "move", KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM.  WHEN:
 * before or after it is sent or done.  ACTION:
 *
 *   kill    the process ends
 *   hold    tell so to who opens FIFO "held", and go on when something comes
 *           out of FIFO "go"
 *   skip    do not do it, and say that it was done
 *   NUMBER  do not do it, and fail with that errno
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAULT "/tmp/fault"

/* The guest has come that this QEMU was started for */
static bool taken;

static bool is_destination(void)
{
    char buf[65536];
    FILE *f = fopen("/proc/self/cmdline", "r");
    size_t len = f ? fread(buf, 1, sizeof(buf), f) : 0;

    if (f) {
        fclose(f);
    }
    return !taken && memmem(buf, len, "-incoming", strlen("-incoming"));
}

static void talk(const char *fifo, int flags, char *byte)
{
    int fd = open(fifo, flags | O_CLOEXEC);

    if (fd < 0 || (flags == O_RDONLY ? read(fd, byte, 1)
                                     : write(fd, byte, 1)) != 1) {
        perror(fifo);
        abort();
    }
    close(fd);
}

/*
 * The fault that is to happen at @point, if any: true with *ret and errno set
 * if the call itself is not to be made
 */
static bool fault(const char *point, const char *when, ssize_t *ret)
{
    char role[32], where[32], time[32], action[32];
    FILE *f = fopen(FAULT, "re");
    bool hit;

    if (!f) {
        return false;
    }
    hit = fscanf(f, "%31s %31s %31s %31s", role, where, time, action) == 4 &&
          !strcmp(where, point) && !strcmp(time, when) &&
          /* both send these, the others tell who it is */
          ((strcmp(point, "hello") && strcmp(point, "vm")) ||
           is_destination() == !strcmp(role, "destination"));
    fclose(f);
    /* only one of the processes has it */
    if (!hit || unlink(FAULT) < 0) {
        return false;
    }
    if (!strcmp(action, "kill")) {
        kill(getpid(), SIGKILL);
        for (;;) {
            pause();
        }
    } else if (!strcmp(action, "hold")) {
        talk("/tmp/held", O_WRONLY, "\n");
        talk("/tmp/go", O_RDONLY, (char[1]) { 0 });
        return false;
    } else if (!strcmp(action, "skip")) {
        return true;
    }
    errno = atoi(action);
    *ret = -1;
    return true;
}

/* What is sent by @msg, or NULL */
static const char *message(const struct msghdr *msg, char *type, size_t max)
{
    for (size_t i = 0; i < msg->msg_iovlen; i++) {
        const char *base = msg->msg_iov[i].iov_base;
        size_t len = msg->msg_iov[i].iov_len;
        const char *p;

        if (i == 0 && len >= 4 && !memcmp(base, "QEVM", 4)) {
            return "stream";
        }
        p = memmem(base, len, "\"type\": \"", 9);
        if (p && msg->msg_iov[0].iov_len >= 4 &&
            !memcmp(msg->msg_iov[0].iov_base, "QHOV", 4)) {
            size_t n = 0;

            for (p += 9; p + n < base + len && p[n] != '"' && n + 1 < max;
                 n++) {
                type[n] = p[n];
            }
            type[n] = '\0';
            return type;
        }
    }
    return NULL;
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    static ssize_t (*real)(int, const struct msghdr *, int);
    char type[32];
    const char *point = message(msg, type, sizeof(type));
    ssize_t ret = 0;

    if (!real) {
        real = dlsym(RTLD_NEXT, "sendmsg");
    }
    if (!point) {
        return real(fd, msg, flags);
    }
    if (!fault(point, "before", &ret)) {
        ret = real(fd, msg, flags);
        if (ret > 0) {
            if (!strcmp(point, "done")) {
                taken = true;
            }
            fault(point, "after", &(ssize_t) { 0 });
        }
    }
    return ret;
}

int ioctl(int fd, unsigned long request, ...)
{
    static int (*real)(int, unsigned long, void *);
    ssize_t ret = 0;
    va_list ap;
    void *arg;

    va_start(ap, request);
    arg = va_arg(ap, void *);
    va_end(ap);
    if (!real) {
        real = dlsym(RTLD_NEXT, "ioctl");
    }
    if (request != KVM_ENABLE_CAP || ((struct kvm_enable_cap *)arg)->cap !=
                                     KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM) {
        return real(fd, request, arg);
    }
    if (!fault("move", "before", &ret)) {
        ret = real(fd, request, arg);
        if (ret >= 0) {
            fault("move", "after", &(ssize_t) { 0 });
            taken = true;
        }
    }
    return ret;
}
