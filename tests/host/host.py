"""An emulated host: boot it, run scenarios in it, read the verdicts.

usage: host.py BUILD HOST EMULATOR SCENARIO... [--limit SECONDS] ...

A scenario is a name, and its parameters behind that: "nested-reset times=3".  Where
one has failed, or left something behind, the host boots anew for the rest.
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
                     f'scenario={args.name}',
                     *args.append])


def command(args, directory, serial):
    share = os.path.join(directory, 'share')
    machine = MACHINES[args.host]
    if args.plain:
        machine = ['-machine', 'q35', '-accel', 'tcg,thread=multi',
                   '-cpu', 'EPYC,check=off']
    # a program may run instead of Linux
    kernel = os.path.join(directory, f'{args.name}.elf')
    if not os.path.exists(kernel):
        kernel = os.path.join(directory, 'vmlinuz')
    return [args.emulator, '-nodefaults', '-no-user-config', '-no-reboot',
            '-display', 'none', *machine, '-smp', '2', '-m', args.memory,
            '-kernel', kernel,
            '-initrd', os.path.join(directory, f'{args.name}.initrd'),
            '-append', append(args), *serial,
            '-fsdev', f'local,id=share,path={share},security_model=none',
            '-device', 'virtio-9p-pci,fsdev=share,mount_tag=host',
            '-object', 'rng-random,id=rng,filename=/dev/urandom',
            '-device', 'virtio-rng-pci,rng=rng',
            *args.qemu_option]


def cpio_file(name, content):
    """An archive with that file, as cpio makes it with -H newc"""
    archive = b''
    for inode, mode, path, data in ((1, 0o100644, name, content), (0, 0, 'TRAILER!!!', b'')):
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path) + 1, 0)
        archive += b'070701' + ''.join(f'{f:08x}' for f in fields).encode()
        for part in path.encode() + b'\0', data:
            archive += part
            archive += b'\0' * (-len(archive) % 4)
    return archive


def layers(args, directory, todo):
    """The initramfs: its parts behind each other, and the list of scenarios"""
    names = ['base']
    for scenario in todo:
        names += [name for name in LAYERS.get(scenario.split()[0], [])
                  if name not in names]
    with open(os.path.join(directory, f'{args.name}.initrd'), 'wb') as out:
        for name in names:
            with open(os.path.join(directory, f'{name}.cpio'), 'rb') as part:
                shutil.copyfileobj(part, out)
            out.write(b'\0' * (-out.tell() % 512))
        if args.name != 'shell':
            out.write(cpio_file('list', '\n'.join([*todo, '']).encode()))


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


class Log:
    """What is said of a scenario, in a file of its own"""

    def __init__(self, directory):
        self.directory = directory
        self.names = []
        self.file = None

    def open(self, scenario):
        """For the next one; SCENARIO may be there a second time"""
        self.close()
        name = scenario.split()[0]
        self.names.append(name)
        again = self.names.count(name)
        path = f'{name}.{again}.log' if again > 1 else f'{name}.log'
        self.file = open(os.path.join(self.directory, path), 'w')

    def close(self):
        if self.file:
            self.file.close()


def boot(args, directory, todo, log):
    """Boot the host for the scenarios TODO.  The verdicts of those that it came to,
    the first of TODO, and whether it came to one at all."""
    # a UNIX socket's path must be short
    work = os.path.join('/tmp', f'host-{os.getpid()}')
    os.mkdir(work)
    layers(args, directory, todo)
    begin = since = time.monotonic()
    process, said = start(args, directory, work)
    lines = queue.Queue()

    def read():
        for raw in said:
            lines.put(raw.decode(errors='replace').rstrip('\r\n'))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    verdicts = []
    started = 0
    end = None          # of the boot: when nothing more is waited for
    log.open(todo[0])

    def tell():
        print(f'{args.host} {todo[len(verdicts) - 1]}: {verdicts[-1]}', flush=True)

    def decide(verdict):
        verdicts.append(verdict.strip())
        # what a host says last is not to come behind the last verdict
        if len(verdicts) < len(todo):
            tell()

    try:
        while True:
            until = end or since + args.limit
            try:
                line = lines.get(timeout=max(until - time.monotonic(), 0))
            except queue.Empty:
                if not end:
                    decide(f'FAILED not done after {args.limit} s')
                break
            if line is None:
                break
            now = time.monotonic()
            if line.startswith('init: scenario'):
                since = now
                started += 1
                if started > 1:
                    log.open(todo[started - 1])
            log.file.write(f'{now - begin:8.2f} {line}\n')
            log.file.flush()
            # colours and cursor movements of firmware
            print(re.sub('\x1b\\[[0-9;=?]*[A-Za-z]', '', line), flush=True)
            if started == 1 and since == now:
                print(f'({now - begin:.2f} s from power on)', flush=True)
            over = False
            if line.startswith('init: verdict ') and not end:
                decide(line[len('init: verdict '):])
                over = verdicts[-1] != 'ok' or len(verdicts) == len(todo)
            elif 'Kernel panic' in line and not end:
                decide('FAILED the host panicked')
                over = True
            elif line.endswith('leaves the host changed:'):
                over = True
            if over and not end:
                # Bochs would begin anew
                end = now + (1 if args.host == 'vmx' else 60)
    finally:
        try:
            process.wait(10 if verdicts else 0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(work)
    if not end and len(verdicts) < max(started, 1):
        decide(f'FAILED the emulator ended with status {process.returncode}')
    if len(verdicts) == len(todo):
        tell()
    return verdicts, started > 0


def run(args, directory):
    """All scenarios, in as many boots as they need; whether all are ok"""
    todo = args.scenario
    log = Log(directory)
    failed = 0
    while todo:
        verdicts, came = boot(args, directory, todo, log)
        # (a program that runs instead of Linux has no first line)
        if not came and verdicts[0] != 'ok':
            for scenario in todo[1:]:
                verdicts.append('FAILED the host does not boot')
                print(f'{args.host} {scenario}: {verdicts[-1]}')
        failed += sum(verdict != 'ok' for verdict in verdicts)
        todo = todo[len(verdicts):]
        if todo:
            print(f'booting {args.host} anew for: {", ".join(todo)}', flush=True)
    log.close()
    return failed == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('build')
    parser.add_argument('host', choices=[*MACHINES, 'vmx'])
    parser.add_argument('emulator')
    parser.add_argument('scenario', nargs='+')
    parser.add_argument('--limit', type=float, default=2400,
                        help='for each scenario, in s; default: 2400')
    parser.add_argument('--kernel', default='6.12')
    parser.add_argument('--variant', default='', help='of QEMU: scripts/build')
    parser.add_argument('--memory', default='2G')
    parser.add_argument('--plain', action='store_true',
                        help='the same host without what it is made for')
    parser.add_argument('--append', action='append', default=[],
                        help="for the kernel's command line")
    parser.add_argument('--qemu-option', action='append', default=[])
    args = parser.parse_args()
    directory = os.path.join(args.build, 'host', '-'.join(filter(None, (
        args.host, args.kernel, args.variant))))
    os.makedirs(os.path.join(directory, 'share'), exist_ok=True)
    args.name = 'several'
    if len(args.scenario) == 1:
        args.name = args.scenario[0].split()[0]
    if args.name == 'shell':
        if args.host not in MACHINES:
            raise SystemExit(f"host '{args.host}' has no shell: Bochs takes "
                             'no terminal; expected ' + ' or '.join(MACHINES))
        layers(args, directory, args.scenario)
        os.execv(args.emulator, command(args, directory,
                                    ['-serial', 'mon:stdio']))
    return 0 if run(args, directory) else 1


if __name__ == '__main__':
    sys.exit(main())
