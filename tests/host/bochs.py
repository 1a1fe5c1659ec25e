"""The emulated host `vmx`: Bochs, which has what QEMU's TCG has not."""

import os
import shutil
import subprocess

SETTINGS = '''\
config_interface: textconfig
display_library: nogui
romimage: file={deps}/usr/share/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file={deps}/usr/share/vgabios/vgabios.bin
cpu: model=corei7_haswell_4770, count=1, ips=100000000, ignore_bad_msrs=1, \
reset_on_triple_fault=0
memory: guest={memory}, host={memory}
clock: sync=none
ata0-master: type=cdrom, path={cd}, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={serial}
com2: enabled=1, mode=file, dev={out}
panic: action=fatal
error: action=ignore
info: action=ignore
'''

BOOT = '''\
default linux
prompt 0
label linux
kernel /vmlinuz
append initrd=/initrd {append}
'''


def megabytes(size):
    """Of what QEMU's -m takes; Bochs has no memory above 4 GiB here"""
    unit = {'M': 1, 'G': 1024}.get(size[-1:])
    if not unit or not size[:-1].isdigit() or \
            not 64 <= int(size[:-1]) * unit <= 2048:
        raise SystemExit(f"--memory '{size}': expected 64M to 2G")
    return int(size[:-1]) * unit


def make_cd(build, directory, name, append):
    """What the host boots from; its path"""
    cd = os.path.join(directory, f'{name}.iso')
    tree = os.path.join(directory, f'{name}.cd')
    deps = os.path.join(build, 'deps/usr/lib')
    shutil.rmtree(tree, ignore_errors=True)
    os.mkdir(tree)
    shutil.copy(os.path.join(deps, 'ISOLINUX/isolinux.bin'), tree)
    shutil.copy(os.path.join(deps, 'syslinux/modules/bios/ldlinux.c32'), tree)
    with open(os.path.join(tree, 'isolinux.cfg'), 'w') as out:
        out.write(BOOT.format(append=append))
    os.symlink(os.path.realpath(os.path.join(directory, 'vmlinuz')),
               os.path.join(tree, 'vmlinuz'))
    os.symlink(os.path.join(directory, f'{name}.initrd'),
               os.path.join(tree, 'initrd'))
    subprocess.run(['xorriso', '-as', 'mkisofs', '-quiet', '-f', '-o', cd,
                    '-b', 'isolinux.bin', '-c', 'boot.cat', '-no-emul-boot',
                    '-boot-load-size', '4', '-boot-info-table', tree],
                   check=True, stderr=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return cd


def start(args, directory, append):
    """Bochs, and where what the host says can be read"""
    settings = os.path.join(directory, f'{args.name}.bochsrc')
    said, serial = os.pipe()
    with open(settings, 'w') as out:
        out.write(SETTINGS.format(
            deps=os.path.join(args.build, 'deps'), serial=f'/dev/fd/{serial}',
            out=os.path.join(directory, 'share', 'out'),
            memory=megabytes(args.memory),
            cd=make_cd(args.build, directory, args.name, append)))
    # what Bochs itself says
    with open(os.path.join(directory, f'{args.name}.bochs'), 'w') as log:
        process = subprocess.Popen([args.emulator, '-q', '-f', settings],
                                   stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, pass_fds=[serial])
    os.close(serial)
    return process, os.fdopen(said, 'rb')
