# shellcheck shell=sh
# What the scenarios of all emulated hosts share; sourced.

set -eu
cd /tmp
answer=         # of a QEMU, or of who is outside

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

# alarms: what the kernel says of warnings, stack traces, what timed out; fails
# if there are none
alarms() {
    # (what is vulnerable to what is a notice, and worded as a warning)
    dmesg | grep -v 'Speculative Return Stack Overflow' | grep -E \
        'WARNING:|Call Trace|BUG:|Oops|timed out|general protection|segfault|blocked for more'
}
expect_clean_dmesg() {
    ! alarms > /dev/null || fail "dmesg has what it should not have"
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

# leave FILE NAME: FILE is the outside's share/NAME.  A host without a shared
# directory has one file, share/out, on its second serial line.
leave() {
    if grep -q ' /host ' /proc/mounts; then
        cp "$1" "/host/$2"
    else
        stty -F /dev/ttyS1 115200 raw -echo
        cat "$1" > /dev/ttyS1
        # (to set it waits for what is still to be sent)
        stty -F /dev/ttyS1 -echo
    fi
}

# A QEMU's QMP is file descriptor 6 (to it) and 7 (from it)

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

# parameter NAME DEFAULT: what the kernel's command line says of it
parameter() {
    _value=$(sed -n 's/.*\b'"$1"'=\([^ ]*\).*/\1/p' /proc/cmdline)
    echo "${_value:-$2}"
}
