"""An emulated host: boot it, run a scenario in it, read the verdict.

usage: host.py BUILD HOST EMULATOR SCENARIO [--limit SECONDS] ...
"""

import argparse
import os
import queue
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '../lib'))
import bochs  # noqa: E402
import owner  # noqa: E402

# What each host's machine has, where QEMU emulates it; all have 2 processors
MACHINES = {
    'sev': ['-machine', 'q35', '-accel', 'tcg,thread=multi',
            '-cpu', 'EPYC,check=off,sev=on,sev-es=on',
            '-device', 'amd-psp'],
    'svm': ['-machine', 'q35', '-accel', 'tcg,thread=multi',
            '-cpu', 'EPYC,check=off'],
}


# What scenarios need beside what all have
LAYERS = {
    'es-guest-linux': ['guest'],
    'es-hand-over-linux': ['guest'],
    'guest-linux': ['guest'],
    'hand-over-linux': ['guest'],
    'hand-over-storm': ['python'],
    'hand-over-upgrade': ['old'],
    'nested-bench': ['pristine'],
    'nested-linux': ['inner'],
    'nested-refused': ['other'],
    'nested-unpatched': ['debian'],
    'selftests': ['selftests'],
    'shell': ['guest', 'old'],
    'virsh-faults': ['libvirt'],
    'virsh-hand-over': ['libvirt'],
    'virsh-nested': ['libvirt'],
}


def append(args):
    """The kernel's command line"""
    return ' '.join(['console=ttyS0,115200', 'panic=-1', 'quiet', 'loglevel=4',
                     # it is one clock for all of the emulated processors
                     'random.trust_cpu=on', 'tsc=reliable',
                     # its timer's interrupts come late where this machine is
                     # busy: too late for those that it waits for at boot
                     'no_timer_check',
                     f'scenario={args.scenario}',
                     *args.append])


def command(args, directory, serial):
    share = os.path.join(directory, 'share')
    machine = MACHINES[args.host]
    if args.plain:
        machine = ['-machine', 'q35', '-accel', 'tcg,thread=multi',
                   '-cpu', 'EPYC,check=off']
    # a program may run instead of Linux
    kernel = os.path.join(directory, f'{args.scenario}.elf')
    if not os.path.exists(kernel):
        kernel = os.path.join(directory, 'vmlinuz')
    return [args.emulator, '-nodefaults', '-no-user-config', '-no-reboot',
            '-display', 'none', *machine, '-smp', '2', '-m', args.memory,
            '-kernel', kernel,
            '-initrd', os.path.join(directory, f'{args.scenario}.initrd'),
            '-append', append(args), *serial,
            '-fsdev', f'local,id=share,path={share},security_model=none',
            '-device', 'virtio-9p-pci,fsdev=share,mount_tag=host',
            '-object', 'rng-random,id=rng,filename=/dev/urandom',
            '-device', 'virtio-rng-pci,rng=rng',
            *args.qemu_option]


def layers(args, directory):
    """The initramfs: its parts behind each other"""
    names = ['base'] + LAYERS.get(args.scenario, [])
    with open(os.path.join(directory, f'{args.scenario}.initrd'), 'wb') as out:
        for name in names:
            with open(os.path.join(directory, f'{name}.cpio'), 'rb') as part:
                shutil.copyfileobj(part, out)
            out.write(b'\0' * (-out.tell() % 512))


def start(args, directory, work):
    """The emulator, and where what the host says can be read"""
    if args.host == 'vmx':
        return bochs.start(args, directory, append(args))
    outside = Outside(os.path.join(work, 'outside'))
    outside.start()
    process = subprocess.Popen(
        command(args, directory, ['-serial', 'stdio',
                                  '-serial', f'unix:{work}/outside']),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    return process, process.stdout


class Outside(threading.Thread):
    """Answers what the host asks on its second serial line, a line each."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        self.owner = owner.Owner()

    def run(self):
        connection, _ = self.listener.accept()
        with connection.makefile('rw') as line:
            for request in line:
                words = request.split()
                if not words:
                    continue
                try:
                    answer = self.owner.answer(words[0], *words[1:])
                except Exception as e:  # what is asked may be anything
                    answer = f'error {e!r}'
                line.write(answer + '\n')
                line.flush()


def run(args, directory):
    # a UNIX socket's path must be short
    work = os.path.join('/tmp', f'host-{os.getpid()}')
    os.mkdir(work)
    layers(args, directory)
    begin = time.monotonic()
    process, said = start(args, directory, work)
    lines = queue.Queue()

    def read():
        for raw in said:
            lines.put(raw.decode(errors='replace').rstrip('\r\n'))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    verdict = None
    first = None
    try:
        with open(os.path.join(directory, f'{args.scenario}.log'), 'w') as log:
            while True:
                left = begin + args.limit - time.monotonic()
                try:
                    line = lines.get(timeout=max(left, 0))
                except queue.Empty:
                    verdict = f'FAILED not done after {args.limit} s'
                    break
                if line is None:
                    break
                log.write(f'{time.monotonic() - begin:8.2f} {line}\n')
                log.flush()
                # colours and cursor movements of firmware
                print(re.sub('\x1b\\[[0-9;=?]*[A-Za-z]', '', line), flush=True)
                if first is None and line.startswith('init: scenario'):
                    first = time.monotonic() - begin
                    print(f'({first:.2f} s from power on)', flush=True)
                if line.startswith('init: verdict '):
                    verdict = line[len('init: verdict '):]
                elif 'Kernel panic' in line and verdict is None:
                    verdict = 'FAILED the host panicked'
                # Bochs would begin anew
                if verdict and args.host == 'vmx':
                    break
    finally:
        try:
            process.wait(10 if verdict else 0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(work)
    if verdict is None:
        verdict = f'FAILED the emulator ended with status {process.returncode}'
    print(f'{args.host} {args.scenario}: {verdict.strip()}')
    return verdict.strip() == 'ok'


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('build')
    parser.add_argument('host', choices=[*MACHINES, 'vmx'])
    parser.add_argument('emulator')
    parser.add_argument('scenario')
    parser.add_argument('--limit', type=float, default=2400,
                        help='in s; default: 2400')
    parser.add_argument('--kernel', default='6.12')
    parser.add_argument('--memory', default='2G')
    parser.add_argument('--plain', action='store_true',
                        help='the same host without what it is made for')
    parser.add_argument('--append', action='append', default=[],
                        help="for the kernel's command line")
    parser.add_argument('--qemu-option', action='append', default=[])
    args = parser.parse_args()
    directory = os.path.join(args.build, 'host', f'{args.host}-{args.kernel}')
    os.makedirs(os.path.join(directory, 'share'), exist_ok=True)
    if args.scenario == 'shell':
        if args.host not in MACHINES:
            raise SystemExit(f"host '{args.host}' has no shell: Bochs takes "
                             'no terminal; expected ' + ' or '.join(MACHINES))
        layers(args, directory)
        os.execv(args.emulator, command(args, directory,
                                    ['-serial', 'mon:stdio']))
    return 0 if run(args, directory) else 1


if __name__ == '__main__':
    sys.exit(main())
