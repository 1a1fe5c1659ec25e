# shellcheck shell=sh
# What the scenarios of the host `sev` share; sourced.

# shellcheck source=tests/host/host.sh
. /host.sh
qemu=           # its process
line=           # what the guest said last

# The guest's first serial line is file descriptor 4 and 5

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

# heard SECONDS: the guest's next line, in $line
heard() {
    _left=$1
    until within 20 line <&5; do
        # (a reader of a pipe that it has open for writing is not told)
        if [ ! -e "/proc/$qemu/exe" ]; then
            while within 1 answer <&7; do echo "$answer"; done
            fail "the guest has ended"
        fi
        _left=$((_left - 20))
        [ "$_left" -gt 0 ] || silent
    done
    echo "guest: $line"
}

# silent: say what there is to find out why, and fail
silent() {
    for _c in status registers lapic irq; do
        qmp '{"execute": "human-monitor-command",
            "arguments": {"command-line": "info '$_c'"}}'
        echo "$answer" | sed 's/\\r\\n/\n/g'
    done
    cat /proc/interrupts
    fail "the guest is silent"
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

# vmsas IMAGE CPUS VM-TYPE: the registers that are measured, with SEV-ES, after
# the image: the first processor's, and those of others, which begin where the
# image says (the entry before its GUID has the address)
vmsas() {
    _ap=$(tail -c 4096 "$1" | od -A n -v -t x1 | tr -d ' \n' |
        sed -n 's/.*\(..\)\(..\)\(..\)\(..\)1600de71f7007e1acb4f890e68c77e2fb44e.*/\4\3\2\1/p')
    _start=fffffff0
    _cpu=0
    while [ "$_cpu" -lt "$2" ]; do
        ask vmsa "$_start" "$3" | base64 -d
        _start=$_ap
        _cpu=$((_cpu + 1))
    done
}

# measured IMAGE [CPUS VM-TYPE]: the owner agrees that this was launched; with
# SEV-ES with so many processors, and VM type old or new
measured() {
    qmp '{"execute": "query-sev-launch-measure"}'
    _digest=$( (cat "$1"; [ $# = 1 ] || vmsas "$@") | sha256sum | cut -d ' ' -f 1)
    _answer=$(ask measure "$(echo "$answer" | sed 's/.*"data": "\([^"]*\)".*/\1/')" \
        "$_digest") || fail "the owner: $_answer"
    [ "$_answer" = equal ] || fail "the launch measurement $_answer"
}
