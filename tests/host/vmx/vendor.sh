# shellcheck shell=sh
# shellcheck disable=SC2034 # for lib.sh and the scenarios
# Guests that are hypervisors, on this host; sourced

module=kvm-intel
cpu=Haswell-noTSX,check=off,vmx=on

# For nested-refused: of a state that is one of svm
other_words='format is 0x1 (svm), expected 0x0 (vmx)'

# For nested-smm: an SMI in each round of L2; no events, as KVM forgets that L1's has
# been delivered: vmx_leave_smm() sets nested_run_pending, with the event still in
# the VMCS, and KVM_SET_NESTED_STATE would inject it again
smm_commands=6
# what a migration in SMM is refused with, if it is
in_smm_refused='interrupts an L2 with a shadow VMCS'

# CPUs that refuse the guest, and with which words
refusing_cpus() {
    cat <<'X'
a CPU without vmx|this vCPU has neither vmx nor svm|Haswell-noTSX,check=off,vmx=off
a CPU that offers less|vmx-shadow-vmcs|Haswell-noTSX,check=off,vmx=on,vmx-shadow-vmcs=off
X
}

# For nested-init, what a processor counts: in VMX operation INIT makes L2 exit
init_word=29

# For nested-unpatched: whether L2's state has a deadline that others don't know
deadline=yes
