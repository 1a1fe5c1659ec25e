"""Run the items of "make check", two at a time, and count what they say.

    check.py BUILD OBJ

What an item is to take is in the table "Time" of docs/tests.md.  Its output is kept
until it has ended, and shown if it failed; one that takes ten times its budget is
ended.  The last line is "N passed, N failed, N skipped".
"""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COUNT = re.compile(r'^(\d+) passed, (\d+) failed, (\d+) skipped$')
SLOTS = 2
PATIENCE = 10           # times its budget
LEAST = 900             # in s, whatever the budget
SLOWEST = 12            # so many are named at the end


class Item:
    """A command, NAME; it USES what only one at a time can.

    counts: its last line is a count, and its other lines are shown as well.
    SLOTS: it has so many to itself."""

    def __init__(self, name, *command, uses=(), counts=False, slots=1):
        self.names = [name]
        self.command = command
        self.uses = set(uses)
        self.counts = counts
        self.slots = slots

    def verdicts(self, lines, bad):
        """Of each of its names: passed, failed, skipped, where in LINES it ends"""
        last = COUNT.match(lines[-1][1]) if self.counts and lines else None
        if last:
            yield *map(int, last.groups()), len(lines)
        elif self.counts:
            yield 0, 1, 0, len(lines)
        else:
            yield not bad, bad, 0, len(lines)


class Host(Item):
    """Scenarios of a host, in as few boots as it can be"""

    def __init__(self, host, *scenarios, options=(), uses=()):
        super().__init__('', 'tests/host/run', host, *scenarios, *options,
                         uses=uses or [host])
        self.names = [' '.join([f'host {host}: {scenario}', *options])
                      for scenario in scenarios]
        self.found = [f'{host} {scenario}: ' for scenario in scenarios]

    def verdicts(self, lines, bad):
        at = 0
        for begin in self.found:
            verdict = 'FAILED'
            for i, (_, line) in enumerate(lines[at:], at):
                if line.startswith(begin):
                    verdict = line[len(begin):]
                    at = i + 1
                    break
            else:
                # (of what all have in common there is the end)
                at = len(lines)
            yield verdict == 'ok', verdict != 'ok', 0, at


def demo(name, *options):
    return Item(f'demo, {name}', 'tests/demo/run', '--count', '2', *options,
                uses=['demo'])


# Those that take long, or others wait for, come first.  Short forms (times=N) of
# what is longer by itself, and some not at all: docs/tests.md, "In full".
ITEMS = [
    Item('QMP reference', 'scripts/qmp-reference', '--check'),
    # (it has two processes at a time itself)
    Item("QEMU's tests", 'scripts/run-tests.py', '{obj}', 'tests/qemu-tests',
         counts=True, slots=2),
    Host('sev', 'hand-over times=4', 'es-hand-over times=1', 'es-hand-over-faults',
         'hand-over-storm times=4 seed=1'),
    # what the hosts svm and vmx have sent: nested-refused needs it as well
    Item('analyze-migration.py', 'tests/host/nested/analyze', uses=['svm', 'vmx']),
    Item('what ends leaves RAM alone', 'tests/exec/ram', counts=True),
    Host('svm', 'nested-migrate times=10', 'nested-migrate times=6 cpus=2',
         'nested-cancel times=5', 'nested-stop times=150', 'nested-reset times=3',
         'nested-init times=4', 'nested-smm times=4', 'nested-hot-plug',
         'nested-hand-over times=4', 'nested-unpatched times=1', 'selftests',
         'nested-refused times=1'),
    Host('vmx', 'nested-migrate times=4'),
    # (what platform has made of the firmware is for nobody after it)
    Host('sev', 'smc times=4', 'guest-tiny', 'es-guest-tiny',
         'fxrstor seconds=10', 'hand-over-forgotten-move',
         'es-hand-over-forgotten-move', 'io-map times=2000', 'hand-over-cgroup',
         'hand-over-avic', 'platform'),
    Host('sev', 'bare'),
    Host('sev', 'hand-over times=2', options=['--kernel', '6.1'], uses=['sev-6.1']),
    Host('here', 'hand-over-storm times=40 seed=1', 'virsh-plain times=1', 'unpatched'),
    Item('exec and what is passed on', 'tests/exec/run', counts=True),
    Item('demo, a SEV guest', 'tests/demo/sev', '--count', '2', uses=['sev']),
    Item('bench of emulated SEV, one round', 'tests/bench/sev', '--quick', uses=['sev']),
    demo('two hand-overs'),
    demo('NVMe disk', '--disk', 'nvme'),
    demo('AHCI disk', '--disk', 'ahci'),
    Item('fuzz the wire format, 30 s', 'tests/fuzz', '30', 'hand-over-wire'),
    Item('fuzz nested state, 30 s', 'tests/fuzz', '30', 'nested-state'),
    Item('export', 'scripts/export', 'new'),
    Item("the queue's scripts", 'tests/scripts/queue-test', counts=True),
    Item('shellcheck', 'scripts/lint'),
    Item('bench, one round', 'tests/bench/run', '--quick'),
]
# Parts of others, and what measures
NO_TESTS = {'bench', 'bench-hand-over', 'nested-bench', 'nested-inner', 'nested-stream'}


def long_items():
    """LONG=1: every scenario of each host, as often as it says of itself"""
    for host in 'here', 'sev', 'svm', 'vmx':
        for name in sorted(os.listdir(f'{TOP}/tests/host/{host}/scenarios')):
            if name not in NO_TESTS:
                yield Host(host, name)


def budgets():
    """In s, by item: the table's lines are "| `NAME` | SECONDS |" """
    with open(f'{TOP}/docs/tests.md') as f:
        return {name: int(seconds) for name, seconds in
                re.findall(r'^\| `([^`]*)` \| (\d+) \|$', f.read(), re.M)}


class Check:
    def __init__(self, build, obj, items, budget):
        self.logs = os.path.join(build, 'logs')
        self.obj = obj
        self.items = items
        self.budget = budget
        self.free = SLOTS
        self.used = set()
        self.running = set()
        self.change = threading.Condition()
        self.passed = self.failed = self.skipped = 0
        self.took = []          # seconds, name

    def skip(self, item, why):
        for name in item.names:
            self.skipped += 1
            print(f'skipped {name}: {why}')

    def limit(self, item):
        """For all of it, in s; None for what has no budget"""
        wanted = [self.budget.get(name) for name in item.names]
        if None in wanted:
            return None
        return max(PATIENCE * sum(wanted), LEAST)

    def execute(self, item):
        """Its lines, each with when it came, and whether it failed"""
        command = [os.path.join(TOP, item.command[0]),
                   *(word.format(obj=self.obj) for word in item.command[1:])]
        process = subprocess.Popen(command, cwd=TOP, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        with self.change:
            self.running.add(process)
        lines = []

        def read():
            for raw in process.stdout:
                line = raw.decode(errors='replace').rstrip('\r\n')
                lines.append((time.monotonic(), line))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        limit = self.limit(item)
        status = None
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            end(process)
        with self.change:
            self.running.discard(process)
        # (what it has left running may have its output open)
        reader.join(5)
        if status is None:
            lines.append((time.monotonic(), f'ended by check: not done after {limit} s'))
        return list(lines), status != 0

    def run(self, item):
        with self.change:
            for name in item.names:
                print(f'-- {name}', flush=True)
        begin = time.monotonic()
        lines, bad = self.execute(item)
        now = time.monotonic()
        verdicts = list(item.verdicts(lines, bad))
        if bad and not any(failed for _, failed, _, _ in verdicts):
            passed, failed, skipped, _ = verdicts[-1]
            verdicts[-1] = passed, failed + 1, skipped, len(lines)
        with self.change:
            at = 0
            for name, (passed, failed, skipped, to) in zip(item.names, verdicts):
                ended = lines[to - 1][0] if 0 < to < len(lines) else now
                seconds = max(ended - begin, 0)
                begin = ended
                mine = [line for _, line in lines[at:to]] or [line for _, line in lines]
                at = to
                self.keep(name, mine)
                if item.counts:
                    print(*mine, sep='\n')
                elif failed:
                    print(*mine[-40:], sep='\n')
                self.passed += passed
                self.failed += failed
                self.skipped += skipped
                self.took.append((seconds, name))
                if item.counts and not COUNT.match(mine[-1] if mine else ''):
                    print(f'FAILED {name}: ended without a count')
                elif failed:
                    print(f'FAILED {name}: {seconds:.0f} s', flush=True)
                else:
                    print(f'   {name}: {seconds:.0f} s', flush=True)

    def keep(self, name, lines):
        """What it said, in build/logs"""
        file = re.sub('[^a-z0-9.=-]+', '-', f'check-{name}'.lower()) + '.log'
        with open(os.path.join(self.logs, file), 'w') as f:
            f.write('\n'.join([*lines, '']))

    def next(self):
        """The first that can start; None if there is none left"""
        with self.change:
            while self.items:
                for item in self.items:
                    if item.slots <= self.free and not item.uses & self.used:
                        self.items.remove(item)
                        self.free -= item.slots
                        self.used |= item.uses
                        return item
                    if item.slots > 1:
                        # nobody overtakes it, or it would never have both
                        break
                self.change.wait()
            return None

    def work(self):
        while (item := self.next()) is not None:
            try:
                self.run(item)
            except Exception as e:      # whatever it is, it is no success
                with self.change:
                    self.failed += 1
                    print(f'FAILED {item.names}: {e!r}', flush=True)
            finally:
                with self.change:
                    self.free += item.slots
                    self.used -= item.uses
                    self.change.notify_all()

    def all(self):
        workers = [threading.Thread(target=self.work, daemon=True)
                   for _ in range(SLOTS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def end(self):
        with self.change:
            self.items.clear()
            running = list(self.running)
        for process in running:
            end(process)

    def report(self, builds):
        """Where the time went, and the count"""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        total = time.monotonic() - START + builds
        print(f'where {total:.0f} s went, with {SLOTS} items at a time (they computed for '
              f'{usage.ru_utime + usage.ru_stime:.0f} s):')
        self.took.append((builds, 'builds'))
        self.took.sort(reverse=True)
        for place, (seconds, name) in enumerate(self.took):
            budget = self.budget.get(name, 0)
            over = 0 < budget < seconds
            if place < SLOWEST or over:
                print(f'{seconds:6.0f} s   {name}' +
                      (f', budget {budget} s' if budget else '') +
                      (': OVER BUDGET' if over else ''))
        print(f'{self.passed} passed, {self.failed} failed, {self.skipped} skipped',
              flush=True)
        return self.failed == 0


def end(process):
    """It, and those that it has started"""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(5)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()


START = time.monotonic()


def main():
    build, obj, builds = sys.argv[1:]
    budget = budgets()
    names = {name for item in ITEMS for name in item.names} | {'builds'}
    if names != set(budget):
        raise SystemExit('check: docs/tests.md, "Time", and the items differ: '
                         + ', '.join(sorted(names ^ set(budget))))
    check = Check(build, obj, [], budget)
    for item in [*ITEMS, *(long_items() if os.environ.get('LONG') else ())]:
        if 'here' in item.uses and os.getuid() != 0:
            check.skip(item, 'this needs root')
        elif item.command[0] == 'tests/fuzz' and os.environ.get('NO_FUZZ'):
            check.skip(item, 'NO_FUZZ is set')
        else:
            check.items.append(item)

    def interrupt(_signal, _frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        check.all()
    except KeyboardInterrupt:
        print('FAILED: interrupted')
        check.failed += 1
        check.end()
    return 0 if check.report(int(builds)) else 1


if __name__ == '__main__':
    sys.exit(main())
