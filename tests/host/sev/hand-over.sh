# shellcheck shell=sh
# shellcheck disable=SC2154 # of lib.sh
# shellcheck disable=SC2034 # for the scenarios
# A SEV guest that keeps checking its memory, and QEMUs that hand it over;
# sourced, after lib.sh.  A page of $ram tells how far it has come.

binary=qemu             # what is started
cpus=1
policy=1
type=                   # more of -object sev-guest
memory=64               # in MiB
ram=/dev/shm/ram        # its file
preload=                # a library that QEMU is to load
cgroup=                 # where QEMU is to be
patience=1200           # of wait_for, in units of at least 50 ms
count=0                 # QEMUs started so far: each has FIFOs of its own

# word N: a 64-bit number in the page that guest and host share
word() {
    dd if="$ram" bs=4096 skip=768 count=1 2>/dev/null |
        od -A n -t u8 -j $((8 * $1)) -N 8 | tr -d ' '
}

# wait_for WHAT COMMAND...: until it succeeds
wait_for() {
    _what=$1
    shift
    _n=0
    until "$@"; do
        _n=$((_n + 1))
        [ "$_n" -lt "$patience" ] || fail "$_what: $answer"
        sleep 0.05
    done
}
more_ticks_than() {
    [ "$(word 0)" -gt "$1" ]
}
# says TEXT COMMAND: whether the answer to a QMP command has it
says() {
    qmp "$2"
    case $answer in
    *"$1"*) return 0 ;;
    esac
    return 1
}
# expect_error TEXT COMMAND: it fails, and says that
expect_error() {
    echo "$2" >&6
    while within 60 answer <&7; do
        case $answer in
        '{"error"'*"$1"*) return 0 ;;
        '{"error"'* | '{"return"'*) break ;;
        esac
    done
    fail "$2 does not say '$1': $answer"
}

# The command line of a QEMU, a line an option

# qemu_options QMP: what all have
qemu_options() {
    cat <<X
$binary
-L
/usr/share/qemu
-accel
kvm
-cpu
EPYC,check=off
-smp
$cpus
-nodefaults
-no-user-config
-no-reboot
-display
none
-m
$memory
-chardev
pipe,id=qmp,path=/tmp/$1
-mon
chardev=qmp,mode=control
X
}
sev_object() {
    cat <<X
-object
sev-guest,id=sev,cbitpos=51,reduced-phys-bits=1,policy=$policy$type
X
}
# tick_options MACHINE IMAGE: of the guest that keeps checking its memory
tick_options() {
    cat <<X
-machine
q35,memory-backend=ram,$1
-object
memory-backend-file,id=ram,size=${memory}M,mem-path=$ram,share=on
-drive
if=pflash,format=raw,unit=0,readonly=on,file=$2
-serial
file:/tmp/serial
X
}
# options QMP: all of it; scenarios may have another guest
options() {
    qemu_options "$1"
    sev_object
    tick_options confidential-guest-support=sev /tick.bin
}

# A QEMU more: its monitor is $next, file descriptors 8 (to it) and 9 (from it)
prepare_next() {
    count=$((count + 1))
    next=q$count
    mkfifo "$next.in" "$next.out"
    exec 8<> "$next.in" 9<> "$next.out"
}
# The QEMU that has the guest is that one: 6 and 7
use_next() {
    within 300 answer <&9 || fail "the new QEMU does not come up"
    exec 6>&8 7<&9
    rm -f "$next.in" "$next.out"
    qmp '{"execute": "qmp_capabilities"}'
}
drop_next() {
    exec 8>&- 9>&-
    rm -f "$next.in" "$next.out"
}

# spawn OPTION...: a QEMU with these beside its options, with $preload, in
# $cgroup; sets $spawned
spawn() {
    _ifs=$IFS
    IFS='
'
    set -f
    # shellcheck disable=SC2046
    set -- $(options "$next") "$@"
    set +f
    IFS=$_ifs
    {
        [ -z "$cgroup" ] || echo 0 > "$cgroup/cgroup.procs"
        [ -z "$preload" ] || export LD_PRELOAD="$preload"
        exec "$@"
    } &
    spawned=$!
}

# boot: a guest's first QEMU
boot() {
    prepare_next
    spawn
    qemu=$spawned
    use_next
}
# launch: of the guest that keeps checking its memory
launch() {
    boot
    wait_for "the guest does nothing" more_ticks_than 5
}

# await: a QEMU, $waiting, that waits for the guest; its monitor is $next
await() {
    rm -f incoming
    spawn -incoming unix:/tmp/incoming
    waiting=$spawned
    wait_for "the destination does not wait" [ -S incoming ]
}
# hand_over_there [ARGUMENTS]: to that one
hand_over_there() {
    qmp '{"execute": "migrate-protected-vm", "arguments": {
        "uri": "unix:/tmp/incoming"'"${1:-}"'}}'
}

# as_json: a JSON list of the lines that are read
as_json() {
    printf '['
    sed 's/.*/"&"/' | tr '\n' ',' | sed 's/,$/]/'
}

# hand_over [ARGUMENTS]: to a QEMU that is started with these options, and has
# the monitor $next.  ARGUMENTS of the command begin with a comma.
hand_over() {
    qmp '{"execute": "migrate-protected-vm", "arguments": {"exec":
        '"$(options "$next" | as_json)${1:-}"'}}'
}

# migration_ended: whether it has; in $answer its figures
migration_ended() {
    qmp '{"execute": "query-migrate"}'
    case $answer in
    *'"status": "completed"'* | *'"status": "failed"'* | \
    *'"status": "cancelled"'*)
        return 0
        ;;
    esac
    return 1
}

# figure NAME: one of query-migrate
figure() {
    echo "$answer" | sed -n 's/.*"'"$1"'": \([0-9]*\).*/\1/p'
}

# ends_with TEXT WHAT: the hand-over, WHAT, ends, and query-migrate says TEXT
ends_with() {
    wait_for "$2: it does not end" migration_ended
    case $answer in
    *"$1"*) ;;
    *) fail "$2: $answer" ;;
    esac
}
# completed WHAT: it does, well; sets $blackout, in us, and $qemu
completed() {
    ends_with '"status": "completed"' "$1"
    blackout=$(figure blackout-us)
    qemu=$(figure peer-pid)
    [ -n "$blackout" ] || fail "$answer"
}
# follow: what stayed ends; the guest is in $next
follow() {
    qmp '{"execute": "quit"}'
    use_next
}

# The guest runs here, has lost nothing, and its memory is encrypted
check_guest() {
    wait_for "the guest does not run" \
        says '"running": true' '{"execute": "query-status"}'
    wait_for "the guest stands still" more_ticks_than "$(word 0)"
    [ "$(word 1)" = 0 ] || fail "the guest lost memory: $(word 1) words"
    [ "$(word 2)" = 1 ] || fail "the guest sees SEV_STATUS $(word 2), not 1"
    dd if="$ram" bs=1M skip=4 count=1 2>/dev/null > seen
    [ "$(tr -d '\0' < seen | wc -c)" -gt 1000000 ] ||
        fail "the guest's memory is not encrypted any more"
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
