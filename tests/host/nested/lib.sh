# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # for, and of, the others
# A guest that is a hypervisor (tests/host/nested/l1.c), and QEMUs that it goes
# through; sourced.
# shellcheck source=tests/host/host.sh
. /host.sh
# shellcheck source=tests/host/qemus.sh
. /qemus.sh
# shellcheck source=tests/host/svm/vendor.sh
. /vendor.sh

cpus=$(parameter cpus 1)
machine_type=q35
machine=                # more of -machine

# word N [PROCESSOR]: a 64-bit number of struct status, in the RAM of the guest in
# $qemu
word() {
    dd if="$ram" bs=4096 skip=$((4096 + ${2:-0})) count=1 2>/dev/null |
        od -A n -t u8 -j $((8 * $1)) -N 8 | tr -d ' '
}
# more_than WORD N [PROCESSOR]
more_than() {
    [ "$(word "$1" "${3:-0}")" -gt "$2" ]
}

# The RAM of each QEMU is a file of its own: nothing is shared but the state
nested_options() {
    qemu_options "$1"
    cat <<X
-machine
$machine_type,memory-backend=ram$machine
-object
memory-backend-file,id=ram,size=${memory}M,mem-path=/dev/shm/$1,share=on
-kernel
/nested.elf
X
}
options() {
    nested_options "$1"
}

# tell_guest N [PROCESSOR]: for the guest in $qemu, COMMAND_... of l1.h
tell_guest() {
    # shellcheck disable=SC2059 # a character by its number
    printf "\\$(printf %03o "$1")" |
        dd of="$ram" bs=1 seek=$((4096 * (4096 + ${2:-0}) + 8 * 30)) \
            conv=notrunc 2>/dev/null
}

# launch: the guest, until it is some seconds older than any destination will
# be.  KVM takes a TSC that is written within a second of its own for one that
# is meant to be the same, and leaves its own (kvm_synchronize_tsc()): that of a
# guest that migrates in its first moments goes back.
launch() {
    boot
    ram=/dev/shm/$next
    wait_for "the guest does nothing" more_than 6 2000
    check_guest
}

# It runs here, and none of its processors has lost anything, in L1 or L2
check_guest() {
    _p=0
    while [ "$_p" -lt "$cpus" ]; do
        _rounds=$(word 0 $_p)
        wait_for "processor $_p of the guest stands still after $_rounds rounds" \
            more_than 0 $((_rounds + 3)) $_p
        [ "$(word 1 $_p)" = 0 ] ||
            fail "processor $_p of the guest: $(word 1 $_p) errors; the first:" \
                "$(word 2 $_p) (enum wrong in l1.h), $(word 3 $_p), expected $(word 4 $_p)," \
                "kind of event $(word 31 $_p)"
        _p=$((_p + 1))
    done
}

# stop_where TEXT: the guest is stopped where query-nested-state says so of a
# processor
stop_where() {
    qmp '{"execute": "stop"}'
    until says "$1" '{"execute": "query-nested-state"}'; do
        qmp '{"execute": "cont"}'
        usleep 1000
        qmp '{"execute": "stop"}'
    done
}
stop_in_l2() {
    stop_where '"guest-mode": true'
}

# nested_state: of the guest, which is stopped.  What nobody reads is left out:
# KVM does not set all of the exit information.
nested_state() {
    qmp '{"execute": "query-nested-state"}'
    echo "$answer" | tr '{' '\n' | grep -v '"Guest-linear address"'
}

# save WHAT: the guest, to the file /tmp/state
save() {
    qmp '{"execute": "migrate", "arguments": {"uri": "file:/tmp/state"}}'
    ends_with '"status": "completed"' "$1, to the file"
}

# move live|file WHAT: the guest, to a QEMU more, where it is still stopped; what it
# had of nested state it has
move() {
    prepare_next
    case $1 in
    live)
        await_at unix:/tmp/incoming -S
        qmp '{"execute": "migrate", "arguments": {"uri": "unix:/tmp/incoming"}}'
        ends_with '"status": "completed"' "$2"
        ;;
    file)
        save "$2"
        spawn -incoming file:/tmp/state -S
        ;;
    esac
    nested_state > before
    take_guest "$2"
    arrives "$2"
    nested_state > after
    diff before after || fail "$2: the state has changed"
}
# arrives WHAT: the guest, which is stopped
arrives() {
    wait_for "$1: nothing has arrived" \
        says '"status": "paused"' '{"execute": "query-status"}'
}
