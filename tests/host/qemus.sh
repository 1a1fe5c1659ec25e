# shellcheck shell=sh
# shellcheck disable=SC2154 # of host.sh
# shellcheck disable=SC2034 # for the scenarios
# QEMUs that follow each other, and the guest that goes from one to the next;
# sourced, after host.sh.  Which options they have, a line an option, is what
# the function options says: its argument names the QEMU's monitor.

binary=qemu             # what is started
cpu=EPYC,check=off
cpus=1
smp=                    # more of -smp
memory=64               # in MiB
reboot=shutdown         # what a reset of the guest does
preload=                # a library that QEMU is to load
cgroup=                 # where QEMU is to be
patience=1200           # of wait_for, in units of at least 50 ms
count=0                 # QEMUs started so far: each has FIFOs of its own
qemu=                   # the process that has the guest

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

# qemu_options QMP: what all have
qemu_options() {
    cat <<X
$binary
-L
/usr/share/qemu
-accel
kvm
-cpu
$cpu
-smp
$cpus$smp
-nodefaults
-no-user-config
-action
reboot=$reboot
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

# some_moment US: wait up to 65535 times as long, for whatever the guest does then
some_moment() {
    usleep "$(($(od -A n -t u2 -N 2 /dev/urandom) * $1))"
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
# listens SOCKET: somebody does there; its file is there a moment before
listens() {
    grep -q " 00010000 .* $1\$" /proc/net/unix
}
# await: a QEMU, $waiting, that waits for the guest; its monitor is $next
await() {
    await_at unix:/tmp/incoming
}
# await_at URI [OPTION...]: the same
await_at() {
    rm -f incoming
    spawn -incoming "$@"
    waiting=$spawned
    wait_for "the destination does not wait" listens /tmp/incoming
}
# take_next WHAT: the guest has gone to $spawned; what had it ends, well
take_next() {
    qmp '{"execute": "quit"}'
    wait "$qemu" || fail "$1: the source's exit status is $?"
    qemu=$spawned
    use_next
}
# take_guest WHAT: from $spawned, where it has gone to, with RAM of its own
take_guest() {
    _ram=$ram
    take_next "$1"
    ram=/dev/shm/$next
    rm -f "$_ram"
}
# as_json: a JSON list of the lines that are read
as_json() {
    printf '['
    sed 's/.*/"&"/' | tr '\n' ',' | sed 's/,$/]/'
}

# An emulated host on a busy machine takes its time, and a fault may hold it: how
# long a guest may stand still is a question of the tests that ask it
hand_over_limits='"downtime-limit": 60000'

# hand_over [ARGUMENTS]: to a QEMU that is started with these options, and has
# the monitor $next.  ARGUMENTS of the command begin with a comma.
hand_over() {
    qmp "$(hand_over_command "${1:-}")"
}
hand_over_command() {
    echo '{"execute": "migrate-protected-vm", "arguments": {"exec":
        '"$(options "$next" | as_json), $hand_over_limits$1"'}}'
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
