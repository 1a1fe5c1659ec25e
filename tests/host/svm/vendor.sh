# shellcheck shell=sh
# shellcheck disable=SC2034 # for lib.sh and the scenarios
# Guests that are hypervisors, on this host; sourced

module=kvm-amd
cpu=EPYC,check=off,svm=on

# For nested-refused: of a state that is one of vmx
other_words='format is 0x0 (vmx), expected 0x1 (svm)'

# For nested-smm: an SMI in each round of L2
smm_commands=2
# what a migration in SMM is refused with, if it is
in_smm_refused=

# CPUs that refuse the guest, and with which words
refusing_cpus() {
    cat <<'X'
a CPU without svm|this vCPU has neither vmx nor svm|EPYC,check=off,svm=off
a CPU that offers less|has the feature 'nrip-save'|EPYC,check=off,svm=on,nrip-save=off
X
}

# For nested-init, what a processor counts: INIT resets it, in L2 as well
init_word=24

# For nested-unpatched: whether L2's state has a deadline that others don't know
deadline=no
