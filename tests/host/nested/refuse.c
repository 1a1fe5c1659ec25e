/*
 * A kernel that refuses L2's state, for a QEMU with this library before its own
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define _GNU_SOURCE
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

int ioctl(int fd, unsigned long request, ...);

int ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, request);
    arg = va_arg(ap, void *);
    va_end(ap);
    if (request == KVM_SET_NESTED_STATE &&
        (((struct kvm_nested_state *)arg)->flags &
         KVM_STATE_NESTED_GUEST_MODE)) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_ioctl, fd, request, arg);
}
