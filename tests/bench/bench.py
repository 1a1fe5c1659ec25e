"""Compare the hand-over with cpr-transfer and with precopy.

    bench.py QEMU DIRECTORY [--quick] [--rounds N]

The guest is a ROM that counts in RAM.  A round takes each method once, for
each guest; so what disturbs the machine disturbs all methods alike.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'lib'))
import observer  # noqa: E402
from qmp import QMP, QMPError, QMPClosed, listens  # noqa: E402

COUNTER = 0x8000
MIB = 1 << 20
SIZES = [256 * MIB, 2048 * MIB, 64 << 30, 2 << 40]
# with the first size and no devices; the idle CPUs are to cost little
MANY_CPUS = [64, 240]
# how much longer than one CPU's the blackout may be
MANY_CPUS_GOALS = {64: 3, 240: 6}
METHODS = ['hand-over', 'cpr-transfer', 'precopy']
DEVICES = ['-device', 'VGA', '-device', 'virtio-net-pci,romfile=',
           '-device', 'e1000,romfile=', '-device', 'virtio-serial',
           '-device', 'ich9-ahci', '-device', 'qemu-xhci',
           '-device', 'usb-tablet', '-device', 'virtio-balloon',
           '-device', 'virtio-rng', '-device', 'virtio-scsi']


def size_name(size):
    for unit, shift in (('TiB', 40), ('GiB', 30), ('MiB', 20)):
        if size >= 1 << shift:
            return f'{size >> shift} {unit}'
    raise ValueError(size)


def available_memory():
    with open('/proc/meminfo') as f:
        for line in f:
            if line.startswith('MemAvailable:'):
                return int(line.split()[1]) * 1024
    return 0


class Guest:
    def __init__(self, qemu, work, size, cpus, devices):
        self.work = work
        self.argv = [qemu, '-nodefaults', '-display', 'none', '-accel', 'tcg',
                     '-machine', 'q35,hand-over=on', '-cpu', 'max,phys-bits=52',
                     '-smp', str(cpus), '-m', str(size // MIB),
                     '-bios', work + '/rom'] + (DEVICES if devices else [])
        self.size = size
        self.processes = []
        self.pids = []

    def start(self, name, *options):
        argv = self.argv + ['-qmp', f'unix:{self.work}/{name},server=on,wait=off',
                            *options]
        self.processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL))
        self.pids.append(self.processes[-1].pid)
        return self.processes[-1].pid

    def end(self):
        for pid in self.pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for process in self.processes:
            process.wait()
        for name in 'source', 'destination', 'main', 'cpr':
            try:
                os.unlink(f'{self.work}/{name}')
            except FileNotFoundError:
                pass


def wait_for(condition, deadline=60):
    end = time.monotonic() + deadline
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise TimeoutError('waited in vain')
        time.sleep(0.0005)


def try_ram_file(pid, size):
    try:
        return observer.ram_file(pid, size)
    except (LookupError, FileNotFoundError):
        return None


def at_switchover(standstills, stop, clocks):
    """The standstill that the source's STOP event fell into: there may be
    longer ones while the new QEMU starts, on a machine with few processors."""
    stop_us = stop['seconds'] * 1e6 + stop['microseconds'] - clocks * 1e6
    around = [s for s in standstills
              if s[1] >= stop_us and s[1] - s[0] <= stop_us + 1000]
    if not around:
        raise RuntimeError('the guest did not stand still at the switch-over')
    return max(around)


def measure(program, qemu, work, method, size, cpus, devices):
    """One hand-over, or what it is compared with; times in microseconds."""
    guest = Guest(qemu, work, size, cpus, devices)
    watch = None
    try:
        pid = guest.start('source')
        qmp = QMP(work + '/source')
        qmp.events_on()
        # with more RAM than fits below 4 GiB it is still one block
        source_ram = wait_for(lambda: try_ram_file(pid, size))
        watch = observer.Observer(program, COUNTER, source_ram)
        watch.read()
        time.sleep(0.2)
        before, idle = watch.longest()
        wait_for(lambda: watch.read()[0] != before)
        clocks = time.time() - time.monotonic()

        begin = time.monotonic()
        spent = 0
        if method == 'hand-over':
            qmp.command('migrate-protected-vm', on_success='stay',
                        exec=guest.argv + ['-qmp', f'unix:{work}/destination,'
                                           'server=on,wait=off'])
        elif method == 'cpr-transfer':
            guest.start('destination', '-incoming', f'unix:{work}/main',
                        '-incoming', json.dumps(
                            {'channel-type': 'cpr', 'addr': {
                                'transport': 'socket', 'type': 'unix',
                                'path': f'{work}/cpr'}}))
            wait_for(lambda: listens(f'{work}/cpr'))
            qmp.command('migrate-set-parameters', mode='cpr-transfer')
            unix = {'transport': 'socket', 'type': 'unix'}
            channels = [
                {'channel-type': 'main', 'addr': dict(unix, path=f'{work}/main')},
                {'channel-type': 'cpr', 'addr': dict(unix, path=f'{work}/cpr')}]
            qmp.command('migrate', channels=channels)
        else:
            other = guest.start('destination', '-incoming', f'unix:{work}/main')
            ram = wait_for(lambda: try_ram_file(other, size))
            wait_for(lambda: listens(f'{work}/main'))
            # the copy has to be watched, too; that takes no time of the method's
            now = time.monotonic()
            watch.close()
            watch = observer.Observer(program, COUNTER, source_ram, ram)
            spent = time.monotonic() - now
            qmp.command('migrate-set-parameters', max_bandwidth=1 << 40)
            qmp.command('migrate', uri=f'unix:{work}/main')
        # This machine has few processors: what the driver does now would be
        # in the guest's way while it gets going.  So it does nothing.
        qmp.wait_event('MIGRATION', 300,
                       lambda data: data['status'] in ('completed', 'failed'),
                       keep=True)
        time.sleep(0.2)
        value, standstills = watch.read()
        stop = [e['timestamp'] for e in qmp.events if e['event'] == 'STOP']
        info = qmp.command('query-migrate')
        if info['status'] != 'completed':
            raise RuntimeError(f"{method}: {info.get('error-desc')}")
        if method == 'hand-over':
            guest.pids.append(info['hand-over']['peer-pid'])
        destination = QMP(work + '/destination')
        wait_for(lambda: destination.command('query-status')['running'])
        wait_for(lambda: watch.read()[0] != value)
        blackout, ended = at_switchover(standstills, stop[-1], clocks)
        return {'blackout': blackout,
                'total': ended - (begin + spent) * 1e6, 'idle': idle}
    finally:
        if watch:
            watch.close()
        guest.end()


def median_row(samples):
    row = {}
    for key in 'blackout', 'total', 'idle':
        values = [s[key] for s in samples]
        row[key] = statistics.median(values)
        row[key + '_max'] = max(values)
        row[key + '_min'] = min(values)
    return row


def ms(us):
    return f'{us / 1000:.1f}'


def plot(directory, rows):
    data = os.path.join(directory, 'blackout.dat')
    with open(data, 'w') as f:
        for method in METHODS:
            f.write(f'"{method}"\n')
            for (m, size, cpus, devices), row in rows.items():
                if m == method and cpus == 1 and not devices and row:
                    f.write('{} {} {} {}\n'.format(
                        size / (1 << 30), row['blackout'] / 1000,
                        row['blackout_min'] / 1000, row['blackout_max'] / 1000))
            f.write('\n\n')
    for terminal, name in (('svg size 800,500', 'blackout.svg'),
                           ('pngcairo size 800,500', 'blackout.png')):
        script = f'''
set terminal {terminal}
set output "{os.path.join(directory, name)}"
set logscale xy
set xlabel "guest RAM, GiB"
set ylabel "guest stands still, ms (median; least to most)"
set title "1 CPU, bare guest"
set key left top
plot for [i=0:{len(METHODS) - 1}] "{data}" index i using 1:2:3:4 \\
    with yerrorlines title columnheader(1)
'''
        subprocess.run(['gnuplot'], input=script, text=True, check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('qemu')
    parser.add_argument('directory')
    parser.add_argument('--quick', action='store_true')
    parser.add_argument('--rounds', type=int)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    program = observer.build(args.directory)

    sizes, cpus, devices = SIZES, [1, 16], [False, True]
    if args.quick:
        sizes, cpus, devices = SIZES[:1], [1], [False]
    rounds = args.rounds or (1 if args.quick else 7)
    cases = [(m, s, c, d) for s in sizes for c in cpus for d in devices
             for m in METHODS]
    if not args.quick:
        cases += [(m, sizes[0], c, False) for c in MANY_CPUS for m in METHODS]
    memory = available_memory()
    why_not = {}
    for case in cases:
        # reading a hole of shared memory allocates it, at both ends
        if case[0] == 'precopy' and 2 * case[1] > memory:
            why_not[case] = (f'not run: needs {2 * case[1] >> 30} GiB of '
                             f'memory, {memory >> 30} GiB are there')
    samples = {case: [] for case in cases}
    failures = 0
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='hand-over-bench-') as work:
        rom = bytearray(64 * 1024)
        # in real mode: inc dword [COUNTER]; jmp back; and the reset vector
        rom[0:7] = bytes([0x66, 0xff, 0x06, COUNTER & 0xff, COUNTER >> 8,
                          0xeb, 0xf9])
        rom[0xfff0:0xfff5] = bytes([0xea, 0, 0, 0, 0xf0])
        with open(work + '/rom', 'wb') as f:
            f.write(rom)
        for n in range(rounds):
            for case in cases:
                if case in why_not:
                    continue
                try:
                    samples[case].append(measure(program, args.qemu, work,
                                                 *case))
                except (QMPError, QMPClosed, TimeoutError, RuntimeError) as e:
                    failures += 1
                    why_not[case] = f'failed: {e or type(e).__name__}'
                    print(f'{case}: {why_not[case]}', flush=True)
            print(f'round {n + 1} of {rounds}: '
                  f'{time.monotonic() - start:.0f} s', flush=True)

    rows = {case: median_row(s) if s and case not in why_not else None
            for case, s in samples.items()}
    lines = ['{:8} {:>4} {:>7}  {:12} {:>9} {:>17} {:>6} {:>9} {:>6} {:>8}'.format(
        'RAM', 'CPUs', 'devices', 'method', 'blackout', '(least-most)', 'ratio',
        'total', 'ratio', 'idle')]
    goals = []
    for case in cases:
        method, size, ncpus, devs = case
        row = rows[case]
        name = (size_name(size), ncpus, 10 if devs else 0, method)
        if not row:
            lines.append('{:8} {:4} {:7}  {:12} {}'.format(*name, why_not[case]))
            continue
        ref = rows[('cpr-transfer', size, ncpus, devs)]
        ratio = [row[k] / ref[k] if ref else float('nan')
                 for k in ('blackout', 'total')]
        lines.append('{:8} {:4} {:7}  {:12} {:>9} {:>17} {:6.2f} {:>9} {:6.2f} '
                     '{:>8}'.format(*name, ms(row['blackout']),
                                    f"{ms(row['blackout_min'])}-"
                                    f"{ms(row['blackout_max'])}", ratio[0],
                                    ms(row['total']), ratio[1], ms(row['idle'])))
        if method == 'hand-over' and ref:
            goals.append((f'blackout at most 1.1 times cpr-transfer: {name[:3]}',
                          ratio[0] <= 1.1, f'{ratio[0]:.2f}'))
            goals.append((f'total at most 1.2 times cpr-transfer: {name[:3]}',
                          ratio[1] <= 1.2, f'{ratio[1]:.2f}'))
    one = rows[('hand-over', sizes[0], 1, False)]
    for ncpus, most in MANY_CPUS_GOALS.items():
        many = rows.get(('hand-over', sizes[0], ncpus, False))
        if one and many:
            ratio = many['blackout'] / one['blackout']
            goals.append((f'blackout with {ncpus} CPUs at most {most} times one '
                          f"CPU's", ratio <= most, f'{ratio:.2f}'))
    for ncpus in cpus:
        for devs in devices:
            flat = [rows[('hand-over', s, ncpus, devs)] for s in sizes]
            if all(flat) and len(flat) > 1:
                # noise: how far rounds of the same guest lie apart
                noise = max(r['blackout_max'] - r['blackout_min'] for r in flat)
                span = (max(r['blackout'] for r in flat) -
                        min(r['blackout'] for r in flat))
                goals.append((f'blackout is flat from {size_name(sizes[0])} to '
                              f'{size_name(sizes[-1])}: {ncpus} CPUs, '
                              f'{10 if devs else 0} devices', span <= noise,
                              f'{ms(span)} ms apart, noise {ms(noise)} ms'))
    lines.append('')
    lines.append(f'Medians of {rounds} rounds, in ms; ratio: to cpr-transfer.')
    lines.append("blackout: the guest's counter stands still at the switch-over; "
                 'idle: the longest')
    lines.append('standstill while nothing happens; total: from the command, '
                 'start of the new QEMU')
    lines.append('included, until the guest counts again.')
    lines.append('')
    for goal, met, value in goals:
        lines.append(f'{"met    " if met else "NOT met"} {goal}: {value}')
    text = '\n'.join(lines)
    print(text)
    with open(os.path.join(args.directory, 'table.txt'), 'w') as f:
        f.write(text + '\n')
    with open(os.path.join(args.directory, 'samples.json'), 'w') as f:
        json.dump({'host': {'machine': platform.machine(),
                            'kernel': platform.release(),
                            'cpus': os.cpu_count(), 'memory': memory},
                   'rounds': rounds,
                   'goals': [{'goal': g, 'met': m, 'value': v}
                             for g, m, v in goals],
                   'samples': [{'method': m, 'ram': s, 'cpus': c, 'devices': d,
                                'why_not': why_not.get((m, s, c, d)),
                                'us': samples[(m, s, c, d)]}
                               for m, s, c, d in cases]}, f, indent=1)
    plot(args.directory, rows)
    print(f'bench: {len(cases)} rows, {len(why_not)} of them not measured; '
          f'table, JSON and plot are in {os.path.relpath(args.directory)}')
    return failures != 0


sys.exit(main())
