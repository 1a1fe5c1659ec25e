# shellcheck shell=sh
# What the scenarios hand-over-storm share: tests/host/storm; sourced, after
# host.sh.

# storm GUEST: with what the kernel's command line says of it
storm() {
    # shellcheck disable=SC2046
    python3 -S -E /storm/storm.py "$1" $(cat /proc/cmdline) ||
        fail "$(cat /tmp/reason)"
}
