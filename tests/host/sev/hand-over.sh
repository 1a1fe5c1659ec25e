# shellcheck shell=sh
# shellcheck disable=SC2154 # of lib.sh
# shellcheck disable=SC2034 # for the scenarios
# A SEV guest that keeps checking its memory, and QEMUs that hand it over;
# sourced, after lib.sh.  A page of $ram tells how far it has come.
# shellcheck source=tests/host/qemus.sh
. /qemus.sh
# shellcheck source=tests/host/tick.sh
. /tick.sh

type=                   # more of -object sev-guest
machine=                # more of -machine
devices=                # more options, a line each

# protect POLICY: guests have that from now on, 1 or 5: with SEV-ES
protect() {
    policy=$1
    tick=/tick.bin
    sev_status=1        # what the guest has in that MSR
    if [ "$policy" = 5 ]; then
        tick=/es-tick.bin
        sev_status=3
    fi
}
protect "${policy:-1}"

# The command line of a QEMU, a line an option

sev_object() {
    cat <<X
-object
sev-guest,id=sev,cbitpos=51,reduced-phys-bits=1,policy=$policy$type
X
}
# options QMP: all of it; scenarios may have another guest
options() {
    qemu_options "$1"
    sev_object
    tick_options "confidential-guest-support=sev$machine" "$tick"
    [ -z "$devices" ] || echo "$devices"
}

# launch: of the guest that keeps checking its memory
launch() {
    boot
    wait_for "the guest does nothing" more_ticks_than 5
}

# hand_over_there [ARGUMENTS]: to that one
hand_over_there() {
    qmp '{"execute": "migrate-protected-vm", "arguments": {
        "uri": "unix:/tmp/incoming", '"$hand_over_limits${1:-}"'}}'
}

# The guest runs here, has lost nothing, and its memory is encrypted
check_guest() {
    wait_for "the guest does not run" \
        says '"running": true' '{"execute": "query-status"}'
    wait_for "the guest stands still" more_ticks_than "$(word 0)"
    [ "$(word 1)" = 0 ] || fail "the guest lost memory: $(word 1) words"
    check_encrypted
    [ "$policy" != 5 ] || check_processors
}
# the other processors do what they do in es-tick.S
check_processors() {
    _cpu=1
    while [ "$_cpu" -lt "$cpus" ]; do
        wait_for "processor $_cpu stands still" \
            more_than "$((_cpu + 2))" "$(word "$((_cpu + 2))")"
        _cpu=$((_cpu + 1))
    done
    [ "$(word 6)" = 0 ] || fail "port I/O: $(word 6) wrong answers"
}
more_than() {
    [ "$(word "$1")" -gt "$2" ]
}
# its memory is encrypted, and it knows
check_encrypted() {
    [ "$(word 2)" = "$sev_status" ] ||
        fail "the guest sees SEV_STATUS $(word 2), not $sev_status"
    dd if="$ram" bs=1M skip=4 count=1 2>/dev/null > seen
    [ "$(tr -d '\0' < seen | wc -c)" -gt 1000000 ] ||
        fail "the guest's memory is not encrypted any more"
}

# is_held: wait until who has the fault "hold" (fault.c) is there
is_held() {
    read -r _nothing < held
}

gone() {
    ! pidof qemu qemu-old > /dev/null
}

# End the guest: nothing of it is left
finish() {
    sev-tool status | grep -q 'guests 1$' || fail "$(sev-tool status)"
    qmp '{"execute": "quit"}'
    nothing_left
}
nothing_left() {
    wait_for "a QEMU does not end" gone
    sev-tool status | grep -q 'guests 0$' || fail "$(sev-tool status)"
    [ "$(pinned)" = 0 ] || fail "$(pinned) pages are still pinned"
    rm -f "$ram"
}
# pages that the kernel has pinned for guests
pinned() {
    echo 1 > /proc/sys/vm/stat_refresh
    awk '/^nr_foll_pin_acquired/ { n += $2 } /^nr_foll_pin_released/ { n -= $2 }
        END { print n }' /proc/vmstat
}
