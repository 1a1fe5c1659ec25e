# shellcheck shell=sh
# shellcheck disable=SC2154,SC2034 # of, and for, the others
# The domain of virsh.sh with SEV; sourced, after that and hand-over.sh
chmod 666 /dev/kvm /dev/sev
ip link set lo up

domain_firmware=$(flash /tick.bin)
# (what the kernel pins counts as locked)
domain_more="  <memoryBacking><locked/></memoryBacking>
  <launchSecurity type='sev'>
    <cbitpos>51</cbitpos>
    <reducedPhysBits>1</reducedPhysBits>
    <policy>0x0001</policy>
  </launchSecurity>"
# (a fault may hold a QEMU while the domain stands still: hand_over_limits)
domain_arguments='-global
migration.x-downtime-limit=60000'

# check_sev: its memory is encrypted, and the firmware knows one guest
check_sev() {
    check_encrypted
    sev-tool status | grep -q 'guests 1$' || fail "$(sev-tool status)"
}
