# shellcheck shell=sh
# What the scenarios of the host `sev` share; sourced.

fail() {
    echo "$*" > /tmp/reason
    echo "FAILED: $*"
    exit 1
}

expect_dmesg() {
    dmesg | grep -q -F "$1" || fail "dmesg does not say '$1'"
}

# No warning, no stack trace, nothing that timed out
expect_clean_dmesg() {
    # (what is vulnerable to what is a notice, and worded as a warning)
    if dmesg | grep -v 'Speculative Return Stack Overflow' |
            grep -E -i 'warning|call trace|BUG:|timed out|general protection|oops|segfault|hung task'; then
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
