#!/usr/bin/python3
"""Run tests of a QEMU build tree, and count what they say.

    run-tests.py OBJ LIST
    run-tests.py --targets OBJ LIST

LIST has a line a test: its name as "meson introspect --tests" has it, or
"suite:NAME" for all of a suite.  Each program speaks TAP (or just exits);
counted are its test points.  What failed or was skipped is named, with the
reason.  The last line is "N passed, N failed, N skipped".

With --targets nothing is run: it prints what ninja has to make for them.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time

POINT = re.compile(r'^\s*(not )?ok\b\s*(\d+)?\s*-?\s*(.*?)(?:\s+#\s*(SKIP|TODO)\s*(.*))?$',
                   re.I)


def introspect(obj, what):
    """WHAT meson knows of the build tree OBJ: tests, targets"""
    meson = os.path.join(obj, 'pyvenv', 'bin', 'meson')
    out = subprocess.run([meson, 'introspect', '--' + what, obj],
                         stdout=subprocess.PIPE, check=True).stdout
    return json.loads(out)


def chosen(tests, lines):
    for line in lines:
        line = line.split('#')[0].strip()
        if not line:
            continue
        if line.startswith('suite:'):
            found = [t for t in tests
                     if any(s.split(':')[-1] == line[6:] for s in t['suite'])]
        else:
            found = [t for t in tests if t['name'] == line]
        if not found:
            raise SystemExit(f'run-tests: no test {line}')
        yield from found


def targets(obj, tests):
    """Names, for ninja, of what TESTS need in OBJ: the programs, and what they run"""
    wanted = {target for test in tests for target in test['depends']}
    programs = {os.path.realpath(word) for test in tests for word in test['cmd']}
    for target in introspect(obj, 'targets'):
        files = target['filename']
        if target['id'] in wanted or programs.intersection(map(os.path.realpath, files)):
            yield from (os.path.relpath(file, obj) for file in files)


class Run:
    def __init__(self, logdir):
        self.lock = threading.Lock()
        self.passed = self.failed = self.skipped = 0
        self.logdir = logdir

    def say(self, text):
        with self.lock:
            print(text, flush=True)

    def count(self, test, output, status, seconds):
        name = test['name'].split('/')[-1]
        passed = failed = skipped = 0
        tap = test['protocol'] == 'tap'
        for line in output.splitlines() if tap else ():
            if re.match(r'1\.\.0\s*#\s*skip', line, re.I):
                skipped += 1
                self.say(f'skipped {name}: {line.split("#", 1)[1][5:].strip()}')
                continue
            m = POINT.match(line)
            if not m or line.startswith('#'):
                continue
            if m.group(4) and m.group(4).upper() == 'SKIP':
                skipped += 1
                self.say(f'skipped {name} {m.group(3)}: '
                         f'{m.group(5) or "gives no reason"}')
            elif m.group(1) and not m.group(4):
                failed += 1
                self.say(f'FAILED {name} {m.group(3)}')
            else:
                passed += 1
        if status == 77 and not tap:
            skipped += 1
            self.say(f'skipped {name}: says that it can not run')
        elif status != 0:
            # what did not get to its end has failed once more
            failed += 1
            why = 'timed out' if status is None else f'status {status}'
            self.say(f'FAILED {name}: {why}')
            for line in output.splitlines()[-15:]:
                self.say(f'    {line}')
        elif not tap:
            passed += 1
        elif passed + failed + skipped == 0:
            failed += 1
            self.say(f'FAILED {name}: said nothing of any test')
        with self.lock:
            self.passed += passed
            self.failed += failed
            self.skipped += skipped
        self.say(f'{name}: {passed} passed, {failed} failed, '
                 f'{skipped} skipped, {seconds:.0f} s')

    def one(self, test):
        env = dict(os.environ, **test['env'])
        start = time.monotonic()
        limit = max(test['timeout'], 60) * 3
        with open(os.path.join(self.logdir,
                               test['name'].replace('/', '-') + '.log'),
                  'w+', errors='replace') as log:
            # on a host with /dev/kvm meson asks for migration-test's long form
            cmd = [arg for arg in test['cmd'] if arg != '--full']
            proc = subprocess.Popen(cmd, env=env, stdout=log,
                                    stderr=subprocess.STDOUT,
                                    stdin=subprocess.DEVNULL,
                                    cwd=test['workdir'] or self.obj,
                                    start_new_session=True)
            try:
                status = proc.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(proc.pid, 9)
                proc.wait()
                status = None
            log.seek(0)
            output = log.read()
        self.count(test, output, status, time.monotonic() - start)


def main():
    args = sys.argv[1:]
    only_targets = args[:1] == ['--targets']
    obj, listing = args[only_targets:]
    obj = os.path.realpath(obj)
    with open(listing) as f:
        todo = list(chosen(introspect(obj, 'tests'), f))
    if only_targets:
        print(*sorted(set(targets(obj, todo))), sep='\n')
        return False
    logdir = os.path.join(obj, 'test-logs')
    os.makedirs(logdir, exist_ok=True)
    run = Run(logdir)
    run.obj = obj
    # the longest first, two at a time
    todo.sort(key=lambda t: t['timeout'])

    def worker():
        while True:
            with run.lock:
                if not todo:
                    return
                test = todo.pop()
            run.one(test)

    threads = [threading.Thread(target=worker)
               for _ in range(min(2, os.cpu_count() or 1))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print(f'{run.passed} passed, {run.failed} failed, {run.skipped} skipped')
    return run.failed != 0


sys.exit(main())
