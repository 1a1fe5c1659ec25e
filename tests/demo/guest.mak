# What the older QEMU of the demo has: the guest's machine, under KVM
CONFIG_Q35=y
CONFIG_SEV=y
# (which the SEV-ES guest asks by MMIO)
CONFIG_HPET=y
