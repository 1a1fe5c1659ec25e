"""Hand a running Debian guest over between two builds of QEMU.

    demo.py BUILD OLD NEW [--count N]
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'lib'))
import observer  # noqa: E402
from qmp import QMP, QMPClosed, QMPError  # noqa: E402

MAGIC = b'hand-over demo: the counter is at +64\0'
RAM = 1 << 30
TICK = re.compile(r'tick (\d+) memory (\d+) errors (\d+) disk (\d+) '
                  r'errors (\d+) ping (\d+) lost (\d+)')
DISK = 64 << 20


# The disk's name in the guest, the options that make it
DISKS = {
    'virtio': ('/dev/vda', ['-device', 'virtio-blk-pci,drive=disk']),
    'nvme': ('/dev/nvme0n1', ['-device', 'nvme,serial=1,drive=disk']),
    'ahci': ('/dev/sda', ['-device', 'ide-hd,drive=disk']),
}


class Failed(Exception):
    pass


class Console:
    """The guest's console: a file that whoever has the guest appends to."""

    def __init__(self, path):
        self.path = path
        self.offset = 0
        self.rest = ''
        self.last = None        # the last tick
        self.lost = 0
        self.errors = 0

    def read(self):
        with open(self.path, errors='replace') as f:
            f.seek(self.offset)
            text = f.read()
            self.offset = f.tell()
        lines = (self.rest + text).split('\n')
        self.rest = lines.pop()
        for line in lines:
            self.line(line.rstrip('\r'))

    def line(self, line):
        print(f'  guest| {line}')
        tick = TICK.match(line)
        if not tick:
            if 'Kernel panic' in line or line.startswith('guest:'):
                raise Failed(f'the guest says: {line}')
            return
        now = [int(n) for n in tick.groups()]
        if self.last:
            # each tick once, in order; nothing that it counts goes back
            if now[0] != self.last[0] + 1:
                self.lost += abs(now[0] - self.last[0] - 1) or 1
            if any(a < b for a, b in zip(now, self.last)):
                raise Failed('the guest went back in time')
        elif now[0] != 1:
            raise Failed(f'the first tick is number {now[0]}')
        self.last = now
        self.errors = now[2] + now[4]

    def wait_ticks(self, n, deadline=120):
        """Wait for n more ticks."""
        want = (self.last[0] if self.last else 0) + n
        end = time.monotonic() + deadline
        while not self.last or self.last[0] < want:
            if time.monotonic() > end:
                raise Failed(f'the guest does not tick: waited {deadline} s')
            # a file tells nobody that it has grown
            time.sleep(0.05)
            self.read()


class Demo:
    def __init__(self, build, versions, work, disk):
        self.work = work
        self.versions = versions
        self.binaries = {v: os.path.join(build, v, 'obj', 'qemu-system-x86_64')
                         for v in versions}
        self.kernel = os.path.join(build, 'demo', 'vmlinuz')
        self.initrd = os.path.join(build, 'demo', 'initrd')
        self.program = observer.build(os.path.join(build, 'demo'))
        self.console = Console(os.path.join(work, 'console'))
        self.disk = os.path.join(work, 'disk')
        self.disk_name, self.disk_options = DISKS[disk]
        self.qmp_path = os.path.join(work, 'qmp')
        self.pid = None
        self.rows = []
        with open(self.disk, 'wb') as f:
            f.truncate(DISK)
        open(self.console.path, 'w').close()

    def argv(self, version):
        return [self.binaries[version], '-nodefaults', '-display', 'none',
                '-machine', 'pc-q35-10.0,hand-over=on', '-accel', 'tcg',
                '-cpu', 'max', '-smp', '2', '-m', '1G',
                '-kernel', self.kernel, '-initrd', self.initrd, '-append',
                'console=ttyS0 quiet mitigations=off nokaslr no_timer_check '
                f'tsc=reliable panic=-1 net.ifnames=0 disk={self.disk_name}',
                '-no-reboot',
                '-chardev', f'file,id=console,path={self.console.path},append=on',
                '-serial', 'chardev:console',
                '-drive', f'if=none,id=disk,file={self.disk},format=raw',
                *self.disk_options,
                '-netdev', 'user,id=net', '-device',
                'virtio-net-pci,netdev=net,romfile=',
                '-qmp', f'unix:{self.qmp_path},server=on,wait=off']

    def boot(self):
        version = self.versions[0]
        process = subprocess.Popen(self.argv(version), start_new_session=True)
        self.pid = process.pid
        self.first = process
        print(f'QEMU {version} boots the guest (process {self.pid})')
        self.qmp = QMP(self.qmp_path)
        self.console.wait_ticks(10)
        path = observer.ram_file(self.pid, RAM)
        at = observer.find(path, MAGIC)
        if at is None:
            raise Failed("the guest's counter is not to be found in its RAM")
        self.observer = observer.Observer(self.program, at + 64, path)

    def hand_over(self, n):
        source = self.versions[n % 2]
        target = self.versions[(n + 1) % 2]
        self.console.wait_ticks(3)
        # noise: as long as a hand-over and what is waited for around it
        self.observer.read()
        self.console.wait_ticks(5)
        before, idle = self.observer.longest()

        print(f'-- {n + 1}: QEMU {source} hands over to QEMU {target}')
        self.qmp.events_on()
        self.qmp.command('migrate-protected-vm', exec=self.argv(target),
                         on_success='stay')
        info = self.qmp.wait_migration()
        if info['status'] != 'completed':
            raise Failed(f"hand-over {info['status']}: "
                         f"{info.get('error-desc', 'no reason given')}")
        figures = info['hand-over']
        self.pid = figures['peer-pid']
        self.qmp.command('quit')
        self.qmp.close()
        self.qmp = QMP(self.qmp_path)
        version = self.qmp.command('query-version')['qemu']
        running = '{major}.{minor}.{micro}'.format(**version)
        if running != target:
            raise Failed(f'QEMU {running} has the guest, expected {target}')
        if not self.qmp.command('query-status')['running']:
            raise Failed('the guest does not run')
        self.console.wait_ticks(5)
        after, blackout = self.observer.longest()
        if after == before:
            raise Failed("the guest's counter stands still")
        self.rows.append((source, target, figures['total-us'] / 1000,
                          blackout / 1000, idle / 1000,
                          figures['blackout-us'] / 1000,
                          figures['device-state-bytes']))

    def table(self):
        print()
        print('  n  from     to       total  blackout  (idle  source)  '
              'device state')
        print('                          ms   ms seen     ms      ms         '
              'bytes')
        for n, row in enumerate(self.rows, 1):
            print('{:3}  {:7}  {:7} {:6.1f}  {:8.1f} {:6.1f}  {:6.1f}  {:12}'
                  .format(n, *row))
        print('blackout: longest standstill of a counter in the guest\'s RAM, '
              'seen from outside;\nidle: the same while nothing happens; '
              'source: what query-migrate says')

    def end(self):
        if self.pid:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if hasattr(self, 'observer'):
            self.observer.close()
        if hasattr(self, 'first'):
            self.first.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('build')
    parser.add_argument('old')
    parser.add_argument('new')
    parser.add_argument('--count', type=int, default=10)
    parser.add_argument('--disk', choices=DISKS, default='virtio')
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    with tempfile.TemporaryDirectory(prefix='hand-over-demo-') as work:
        demo = Demo(args.build, (args.old, args.new), work, args.disk)
        try:
            demo.boot()
            for n in range(args.count):
                demo.hand_over(n)
            demo.table()
            last = demo.console.last
            if not last[1] or not last[3] or not last[5]:
                raise Failed('the guest did not get to check its memory, disk '
                             'and network')
            result = (f'hand-overs={len(demo.rows)} '
                      f'lost-ticks={demo.console.lost} '
                      f'checksum-errors={demo.console.errors} '
                      f'max-blackout-ms={max(r[3] for r in demo.rows):.0f}')
            if demo.console.lost or demo.console.errors or last[6]:
                raise Failed(f'{result} lost-pings={last[6]}')
            print(f'demo: ok {result}')
            return 0
        except (Failed, QMPError, QMPClosed, LookupError, TimeoutError) as e:
            print(f'demo: FAILED after {len(demo.rows)} hand-overs: '
                  f'{e or type(e).__name__}')
            return 1
        finally:
            demo.end()


sys.exit(main())
