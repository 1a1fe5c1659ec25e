# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # for, and of, the others
# A guest that is a hypervisor (tests/host/nested/l1.c), and QEMUs that it goes
# through; sourced.
# shellcheck source=tests/host/host.sh
. /host.sh
# shellcheck source=tests/host/qemus.sh
. /qemus.sh

cpu=EPYC,check=off,svm=on
machine=                # more of -machine

# word N: a 64-bit number of struct status, in the RAM of the guest in $qemu
word() {
    dd if="$ram" bs=4096 skip=4096 count=1 2>/dev/null |
        od -A n -t u8 -j $((8 * $1)) -N 8 | tr -d ' '
}
more_rounds_than() {
    [ "$(word 0)" -gt "$1" ]
}

# The RAM of each QEMU is a file of its own: nothing is shared but the state
options() {
    qemu_options "$1"
    cat <<X
-machine
q35,memory-backend=ram$machine
-object
memory-backend-file,id=ram,size=${memory}M,mem-path=/dev/shm/$1,share=on
-kernel
/nested.elf
X
}

more_ticks_than() {
    [ "$(word 6)" -gt "$1" ]
}

# launch: the guest, until it is some seconds older than any destination will
# be.  KVM takes a TSC that is written within a second of its own for one that
# is meant to be the same, and leaves its own (kvm_synchronize_tsc()): that of a
# guest that migrates in its first moments goes back.
launch() {
    boot
    ram=/dev/shm/$next
    wait_for "the guest does nothing" more_ticks_than 2000
    check_guest
}

# It runs here, and neither L1 nor L2 has lost anything
check_guest() {
    wait_for "the guest stands still after $(word 0) rounds" \
        more_rounds_than $(($(word 0) + 3))
    [ "$(word 1)" = 0 ] ||
        fail "$(word 1) errors; the first: $(word 2) (enum wrong in l1.h), $(word 3), expected $(word 4)"
}

# stop_in_l2: the guest is stopped, in L2
stop_in_l2() {
    qmp '{"execute": "stop"}'
    until says '"guest-mode": true' '{"execute": "query-nested-state"}'; do
        qmp '{"execute": "cont"}'
        usleep 1000
        qmp '{"execute": "stop"}'
    done
}
