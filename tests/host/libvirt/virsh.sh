# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # of, and for, the others
# Two libvirts on one host, and a domain that goes from one to the other; sourced,
# after qemus.sh and tick.sh.
#
# Each libvirtd has a mount namespace of its own, with its own directories in
# the places that are compiled into it: two machines, as far as it knows.  A side
# is called `a` or `b`; below /tmp/SIDE there are run/ (the socket), lib/, etc/,
# cache/ and log/.

export LC_ALL=C
libvirt=11.3            # the version, of both
qemu_user=64055         # whom QEMUs belong to, as Debian has it
libvirt_preload=        # a library for QEMUs, by way of their libvirtd

# other SIDE
other() {
    case $1 in a) echo b ;; *) echo a ;; esac
}

uri() {
    echo "qemu+unix:///system?socket=/tmp/$1/run/libvirt-sock"
}

# virsh SIDE COMMAND...
virsh() {
    _side=$1
    shift
    LD_LIBRARY_PATH=/libvirt/$libvirt/lib "/libvirt/$libvirt/bin/virsh" -q \
        -c "$(uri "$_side")" "$@"
}

# virsh_fails TEXT SIDE COMMAND...: it does, and says that
virsh_fails() {
    _text=$1
    shift
    ! virsh "$@" > said 2>&1 || fail "virsh $*: did not fail"
    grep -q -F "$_text" said || fail "virsh $*: does not say '$_text': $(cat said)"
    echo "refused: $(grep -F "$_text" said)"
}

users() {
    mkdir -p /etc
    cat > /etc/passwd <<X
root:x:0:0:root:/root:/bin/sh
libvirt-qemu:x:$qemu_user:$qemu_user:QEMU:/:/bin/false
X
    cat > /etc/group <<X
root:x:0:
kvm:x:36:
libvirt-qemu:x:$qemu_user:
X
}

# libvirt_start SIDE
libvirt_start() {
    _dir=/tmp/$1
    # (to find out what a QEMU can do takes a while: once is enough)
    mkdir -p "$_dir/run" "$_dir/lib" "$_dir/etc" "$_dir/log" "/tmp/cache-$libvirt"
    ln -sfn "/tmp/cache-$libvirt" "$_dir/cache"
    users
    cat > "$_dir/etc/libvirtd.conf" <<X
host_uuid = "00000000-0000-4000-8000-00000000000$1"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "1:file:$_dir/log/libvirtd.log"
log_filters = "1:qemu.qemu_monitor 3:*"
X
    cat > "$_dir/etc/qemu.conf" <<X
user = "libvirt-qemu"
group = "libvirt-qemu"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
seccomp_sandbox = 0
X
    # shellcheck disable=SC2016
    unshare -m sh -eu -c '
        dir=$1 v=$2 preload=$3
        for d in run:/run lib:/var/lib etc:/etc cache:/var/cache log:/var/log; do
            mkdir -p "${d#*:}/libvirt"
            mount --bind "$dir/${d%%:*}" "${d#*:}/libvirt"
        done
        mkdir -p /usr/lib/libvirt /usr/share/libvirt
        mount --bind "/libvirt/$v/exec" /usr/lib/libvirt
        mount --bind "/libvirt/$v/share" /usr/share/libvirt
        # (the programs that it starts have no environment)
        for l in "/libvirt/$v/lib"/libvirt*.so.0; do
            : > "/usr/lib/x86_64-linux-gnu/${l##*/}"
            mount --bind "$l" "/usr/lib/x86_64-linux-gnu/${l##*/}"
        done
        export LIBVIRT_DRIVER_DIR="/libvirt/$v/lib/libvirt"
        [ -z "$preload" ] || export LD_PRELOAD="$preload"
        exec "/libvirt/$v/bin/libvirtd" -p "$dir/libvirtd.pid" \
            > "$dir/log/said" 2>&1
        ' sh "$_dir" "$libvirt" "$libvirt_preload" &
    eval "libvirtd_$1=$!"
    wait_for "libvirt $1 does not come up" libvirt_answers "$1"
}
libvirt_answers() {
    [ -S "/tmp/$1/run/libvirt-sock" ] && virsh "$1" list > answers 2>&1
}
# libvirt_kill SIDE: its libvirtd, not its QEMUs
libvirt_kill() {
    eval "_pid=\$libvirtd_$1"
    kill -9 "$_pid"
    wait "$_pid" || true
    rm -f "/tmp/$1/run/libvirt-sock" "/tmp/$1/run/libvirt-sock-ro"
}
# libvirts: both, of version $libvirt
libvirts() {
    libvirt_start a
    libvirt_start b
}
# no_libvirts: they end, in order
no_libvirts() {
    # shellcheck disable=SC2086
    kill $libvirtd_a $libvirtd_b
    wait "$libvirtd_a" || true
    wait "$libvirtd_b" || true
}

# domain_xml: the domain that checks its memory (tick.sh); scenarios have it
# otherwise by these
domain=guest
domain_type=kvm
domain_firmware=/tick-plain.bin
domain_cpu=EPYC
domain_features=        # of its processor
domain_more=            # below <domain>
domain_arguments=       # options of QEMU, a line an option
domain_xml() {
    cat <<X
<domain type='$domain_type' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>$domain</name>
  <uuid>00000000-0000-4000-8000-0000000000ff</uuid>
  <memory unit='MiB'>$memory</memory>
  <vcpu>$cpus</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
$domain_firmware
  </os>
  <features><acpi/><apic/></features>
  <cpu mode='custom' match='exact' check='none'>
    <model>$domain_cpu</model>$domain_features
  </cpu>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
$domain_more
  <devices>
    <emulator>/bin/qemu</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'><source path='/tmp/serial' append='on'/></serial>
    <memballoon model='none'/>
  </devices>
  <qemu:commandline>
$(echo "$domain_arguments" | sed -n "s|.\\{1,\\}|    <qemu:arg value='&'/>|p")
  </qemu:commandline>
</domain>
X
}
# flash FILE: a firmware in read-only flash
flash() {
    echo "    <loader readonly='yes' type='pflash' stateless='yes'>$1</loader>"
}

# domain_create SIDE
domain_create() {
    domain_xml > domain.xml
    virsh "$1" create domain.xml || {
        cat "/tmp/$1/log/qemu/$domain.log"
        fail "the domain does not start"
    }
    domain_at "$1"
}

# domain_pid SIDE: of its QEMU there
domain_pid() {
    cat "/tmp/$1/run/qemu/$domain.pid" 2>/dev/null
}

# domain_at SIDE: it is there; $side, $qemu and $ram: its process, and the file of
# its memory
domain_at() {
    side=$1
    qemu=$(domain_pid "$1") || fail "the domain is not at $1"
    ram=
    for _fd in "/proc/$qemu/fd"/*; do
        case $(readlink "$_fd") in
        *pc.ram* | *memory-backend-memfd*) ram=$_fd ;;
        esac
    done
    [ -n "$ram" ] || fail "the domain's memory is no file"
}

# domain_state SIDE: "running", "paused", or nothing where it is not
domain_state() {
    virsh "$1" domstate "$domain" 2>/dev/null | head -n 1
}
state_is() {
    [ "$(domain_state "$1")" = "$2" ]
}

# The domain runs at $side, and nowhere else, and has lost nothing
check_domain() {
    state_is "$side" running || fail "the domain at $side: $(domain_state "$side")"
    state_is "$(other "$side")" '' ||
        fail "the domain is at $(other "$side"), too: $(domain_state "$(other "$side")")"
    wait_for "the domain stands still" more_ticks_than "$(word 0)"
    [ "$(word 1)" = 0 ] || fail "the domain lost memory: $(word 1) words"
}

# qemu_command SIDE QMP: by its libvirt
qemu_command() {
    virsh "$1" qemu-monitor-command "$domain" "$2"
}

# migrate_to SIDE [OPTION...]: from $side, by a UNIX socket.  What libvirt says of
# it is in the file said.
migrate_to() {
    _to=$1
    shift
    virsh "$side" migrate --live --p2p "$domain" "$(uri "$_to")" \
        --migrateuri unix:///tmp/migration.sock "$@" > said 2>&1
}
# migrates_to SIDE [OPTION...]: it does
migrates_to() {
    migrate_to "$@" || fail "to $1: $(cat said)"
    domain_at "$1"
}

# job_figure NAME: of the migration that has brought the domain to $side, as virsh
# domjobinfo has it
job_figure() {
    virsh "$side" domjobinfo "$domain" --completed --keep-completed |
        awk -F ': *' -v name="$1" '$1 == name { split($2, f, " "); print f[1] }'
}
# handed_over: whether no memory was copied
handed_over() {
    [ "$(job_figure 'Normal pages')" = 0 ] && [ "$(job_figure 'Constant pages')" = 0 ]
}
