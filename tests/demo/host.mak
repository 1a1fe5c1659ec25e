# What the newer QEMU of the demo has (the variant "demo" of scripts/build): the machine
# that it emulates, a host with SEV, and that of the guest
CONFIG_Q35=y
CONFIG_SEV=y
# (which the SEV-ES guest asks by MMIO)
CONFIG_HPET=y
CONFIG_AMD_PSP=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_9P=y
CONFIG_VIRTIO_RNG=y
