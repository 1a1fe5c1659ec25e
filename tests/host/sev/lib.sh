# shellcheck shell=sh
# What the scenarios of the host `sev` share; sourced.

set -eu
cd /tmp
answer=         # of the guest's QEMU, or of who is outside
qemu=           # its process
line=           # what the guest said last

# within SECONDS VARIABLE: read a line (the host's shell can do more than sh)
within() {
    # shellcheck disable=SC3045,SC2229
    read -r -t "$1" "$2"
}

fail() {
    echo "$*" | tr "\n" " " > /tmp/reason
    echo "FAILED: $*"
    exit 1
}

expect_dmesg() {
    dmesg | grep -q -F "$1" || fail "dmesg does not say '$1'"
}

# No warning, no stack trace, nothing that timed out
expect_clean_dmesg() {
    # (what is vulnerable to what is a notice, and worded as a warning)
    if dmesg | grep -v 'Speculative Return Stack Overflow' | grep -E \
            'WARNING:|Call Trace|BUG:|Oops|timed out|general protection|segfault|blocked for more'; then
        fail "dmesg has what it should not have"
    fi
}

# ask QUESTION WORD...: of who is outside
ask() {
    exec 3<> /dev/ttyS1
    echo "$*" >&3
    read -r _answer <&3
    exec 3>&-
    echo "$_answer"
    case $_answer in
    error*) return 1 ;;
    esac
}

# The guest's QEMU.  Its QMP is file descriptor 6 (to it) and 7 (from it), the
# guest's first serial line 4 and 5.

# session POLICY: what the owner gives for a guest of that policy: owner.cert,
# owner.session
session() {
    sev-tool export pdh chain
    ask session "$(base64 -w 0 pdh)" "$(base64 -w 0 chain)" "$1" > answer ||
        fail "the owner: $(cat answer)"
    cut -d ' ' -f 1 answer > owner.cert
    cut -d ' ' -f 2 answer > owner.session
}

# start OPTION...: QEMU with a stopped guest
start() {
    for _f in serial.in serial.out qmp.in qmp.out; do
        rm -f "$_f"
        mkfifo "$_f"
    done
    exec 4<> serial.in 5<> serial.out 6<> qmp.in 7<> qmp.out
    qemu -L /usr/share/qemu -S -accel kvm -cpu EPYC,check=off -nodefaults \
        -no-user-config -no-reboot -display none \
        -chardev pipe,id=serial,path=serial -serial chardev:serial \
        -chardev pipe,id=qmp,path=qmp -mon chardev=qmp,mode=control "$@" &
    qemu=$!
    within 60 answer <&7 || fail "QEMU does not come up"
    qmp '{"execute": "qmp_capabilities"}'
}

# qmp COMMAND: its answer in $answer
qmp() {
    echo "$1" >&6
    while :; do
        within 120 answer <&7 || fail "QEMU does not answer: $1"
        case $answer in
        '{"return"'*) return 0 ;;
        '{"error"'*) fail "$1: $answer" ;;
        esac
    done
}

# heard SECONDS: the guest's next line, in $line
heard() {
    if ! within "$1" line <&5; then
        # what there is to find out why
        for _c in status registers lapic irq; do
            qmp '{"execute": "human-monitor-command",
                "arguments": {"command-line": "info '$_c'"}}'
            echo "$answer" | sed 's/\\r\\n/\n/g'
        done
        cat /proc/interrupts
        fail "the guest is silent"
    fi
    echo "guest: $line"
}

# expect_line LINE
expect_line() {
    heard 60
    [ "$line" = "$1" ] || fail "the guest did not say '$1'"
}

# ended STATUS: the guest left
ended() {
    _status=0
    wait "$qemu" || _status=$?
    exec 4>&- 5>&- 6>&- 7>&-
    [ "$_status" = "$1" ] || fail "QEMU's exit status is $_status, not $1"
}

# measured IMAGE: the owner agrees that this was launched
measured() {
    qmp '{"execute": "query-sev-launch-measure"}'
    _digest=$(sha256sum "$1" | cut -d ' ' -f 1)
    _answer=$(ask measure "$(echo "$answer" | sed 's/.*"data": "\([^"]*\)".*/\1/')" \
        "$_digest") || fail "the owner: $_answer"
    [ "$_answer" = equal ] || fail "the launch measurement $_answer"
}

# parameter NAME DEFAULT: what the kernel's command line says of it
parameter() {
    _value=$(sed -n 's/.*\b'"$1"'=\([^ ]*\).*/\1/p' /proc/cmdline)
    echo "${_value:-$2}"
}
