"""hand-over-storm: a guest is handed over, again and again, while others do
their worst.

usage: storm.py GUEST [NAME=VALUE...]

GUEST is plain (TCG), kvm, sev or sev-es; times=N, seed=S, only=DISTURBANCE,...,
from=N: the choices begin with those of round N; forms=FORM,...; scale=X: how much
slower than an idle machine this one is.

What a round has is drawn before it begins, from the seed and its number.  What
is in it is in the table DISTURBANCES.  When it is over, exactly one process has
the guest, as it must be by what was asked for and granted meanwhile.
"""

import ctypes
import mmap
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from typing import Callable, NamedTuple

from qmp import QMP, QMPClosed, QMPError, listens
import spy

WORK = '/tmp/storm'
RAM = '/dev/shm/ram'
SHARED = 0x300000
FROM, WORDS = 0x400000, (2 << 20) // 8
# Words in the page that guest and host share: storm.S, es-tick.S
TICKS, ERRORS, BOOTS, NMIS, ASKED, DID = 0, 1, 3, 4, 5, 6
ES_ERRORS = 6

# What the guest does when it is asked (storm.S)
WORD, STAY, FAULT = 1 << 32, 1 << 33, 1 << 34
RESETS = {'port 0xcf9': 0xcf9 | 6 << 16 | STAY,
          'keyboard controller': 0x64 | 0xfe << 16 | STAY,
          'triple fault': FAULT}
STOPS = {'guest-panicked': 0x505 | 1 << 16,
         'watchdog': 0x443 | 0xf << 16,
         'suspended': 0x604 | 0x2400 << 16 | WORD | STAY,
         'shutdown': 0x604 | 0x2000 << 16 | WORD | STAY}

# What is granted, refused, or nobody knows, as whoever was asked has ended
YES, NO, UNKNOWN = 'granted', 'refused', 'unanswered'

# A hand-over is one of these
FORMS = ('own', 'exec', 'uri', 'migrate', 'uri-S', 'migrate-S')


class Failed(Exception):
    pass


def wait_for(what, condition, seconds):
    """Until the condition holds; its value"""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f'waited {seconds:.0f} s: {what}')
        time.sleep(0.002)


class Memory:
    """The page that guest and host share, and the guest's private memory"""

    def __init__(self):
        with open(RAM, 'r+b') as f:
            self.page = mmap.mmap(f.fileno(), 4096, offset=SHARED)

    def __getitem__(self, word):
        return struct.unpack_from('<Q', self.page, 8 * word)[0]

    def __setitem__(self, word, value):
        struct.pack_into('<Q', self.page, 8 * word, value)

    def rounds(self):
        """How much each word of the guest's private memory (not of an encrypted
        one) is ahead of what tick.S.inc says: [(the first of some words, how much
        these are)].  Of a guest that does not run, in order, 1 and then 0."""
        with open(RAM, 'rb') as f:
            f.seek(FROM)
            words = struct.unpack(f'<{WORDS}Q', f.read(8 * WORDS))
        runs = []
        for i, word in enumerate(words):
            ahead = word - i - self[TICKS] - 1
            if not runs or ahead != runs[-1][1]:
                runs.append((i, ahead))
        return runs


class Monitor:
    """A QMP connection; what was answered is one of three words"""

    def __init__(self, path, seconds, now=False):
        self.qmp = QMP(path, seconds, now)

    def ask(self, name, **arguments):
        try:
            self.value = self.qmp.command(name, **arguments)
            return YES
        except QMPError as e:
            self.value = str(e)
            return NO
        except QMPClosed:
            self.value = None
            return UNKNOWN

    def close(self):
        self.qmp.close()


class Debugger:
    """As much of GDB's remote protocol as a nuisance needs"""

    def __init__(self, path, seconds):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.seconds = seconds
        # who comes while the guest is on its way waits for where it arrives
        self.again = None
        self.buffer = b''
        self.packets = []
        self.acks = 0

    def receive(self, seconds):
        """Some more, if it comes within that time"""
        self.sock.settimeout(max(seconds, 0.001))
        try:
            data = self.sock.recv(4096)
        except TimeoutError:
            return
        if not data:
            raise BrokenPipeError('closed')
        self.buffer += data
        while self.buffer:
            if self.buffer[0] == ord('$'):
                end = self.buffer.find(b'#')
                if not 0 <= end < len(self.buffer) - 2:
                    return
                self.packets.append(self.buffer[1:end].decode())
                self.buffer = self.buffer[end + 3:]
                self.sock.sendall(b'+')
            else:
                self.acks += self.buffer[0] == ord('+')
                self.buffer = self.buffer[1:]

    def wait(self, seconds, condition):
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            self.receive(end - time.monotonic())
        return condition()

    def send(self, text):
        """A packet; again, as GDB does, where nobody says that it has come: to a
        guest that runs again after a migration that has failed, its first byte
        is an interrupt"""
        data = text.encode()
        for _ in range(5):
            self.acks = 0
            self.sock.sendall(b'$%s#%02x' % (data, sum(data) & 0xff))
            if self.wait(self.again or self.seconds, lambda: self.acks):
                self.again = self.seconds / 5
                return
        raise TimeoutError(f'{text}: the debugger is not heard')

    def interrupt(self):
        self.sock.sendall(b'\3')

    def recv(self):
        """The next packet"""
        if not self.wait(self.seconds, lambda: self.packets):
            raise TimeoutError('the debugger is told nothing')
        return self.packets.pop(0)

    def ask(self, text):
        """YES, NO, or UNKNOWN where the other end has closed"""
        try:
            self.send(text)
            self.answer = self.recv()
        except (BrokenPipeError, ConnectionResetError):
            return UNKNOWN
        return NO if self.answer.startswith('E') else YES

    def remove(self, breakpoint):
        """The breakpoint of a guest that does not run, if it is still here; that
        it was hit may be told before"""
        try:
            self.send(f'z1,{breakpoint:x},1')
            while self.recv() != 'OK':
                pass
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass

    def close(self):
        self.sock.close()


# Disturbances: functions of a round, in a thread each, after a delay

def do_stop(x):
    """stop"""
    x.becomes(x.ask('stop'), 'paused')


def do_cont(x):
    """cont, of a guest that is stopped"""
    x.becomes(x.ask('cont'), 'running')


def do_stop_cont(x):
    """stop and cont, as fast as it goes"""
    for _ in range(10):
        stopped = x.ask('stop')
        x.becomes(stopped, 'paused')
        went_on = x.ask('cont')
        x.becomes(went_on, 'running')
        if UNKNOWN in (stopped, went_on):
            break


def do_reset(x):
    """system_reset"""
    x.boots(x.ask('system_reset'))


def do_guest_reset(x):
    """the guest resets itself"""
    how = x.rng.choice(sorted(RESETS))
    x.note(how)
    x.ask_guest(RESETS[how])
    x.boots(YES)


def do_guest_stop(x):
    """the guest panics, has its watchdog bite, sleeps, or turns itself off"""
    how = x.rng.choice(sorted(STOPS))
    x.note(how)
    x.ask_guest(STOPS[how])
    x.becomes(YES, how)


def do_nmi(x):
    """inject-nmi"""
    x.count(x.ask('inject-nmi'), 'nmis')


def do_powerdown(x):
    """system_powerdown: this guest does not care"""
    x.ask('system_powerdown')


def do_wakeup(x):
    """system_wakeup of a guest that does not sleep"""
    x.ask('system_wakeup')


def do_sleeper_wakes(x):
    """system_wakeup of a guest that sleeps"""
    answer = x.ask('system_wakeup')
    x.becomes(answer, 'running')
    x.boots(answer)


def do_debugger(x):
    """a debugger comes, interrupts, lets it go on, leaves"""
    d = x.debugger()
    if not d:
        return
    # whoever was there: coming stops the guest, detaching lets it go on
    x.may_be('paused')
    answers = [d.ask('?')]
    if x.rng.random() < 0.5:
        answers.append(d.ask('qSupported'))
        d.send('c')
        d.interrupt()
        d.recv()
    answers.append(d.ask('D'))
    d.close()
    if UNKNOWN not in answers:
        # (and may not: it is also answered in the middle of a migration)
        x.may_be('running')


def do_breakpoint(x):
    """a debugger's breakpoint is hit"""
    d = x.debugger()
    if not d:
        return
    x.may_be('paused')
    if d.ask(f'Z1,{x.storm.breakpoint:x},1') == YES:
        x.may_be('debug')
        if d.ask('c') == YES:
            if not d.answer.startswith('T05'):
                # the migration has stopped it before it came there: it must not
                # come there while it is looked at
                d.remove(x.storm.breakpoint)
                d.close()
                return
            x.may_not_be('running')
    # (and stays, with the connection open)
    x.storm.debuggers.append(d)


def do_queries(x):
    """query-commands, and all of them that can be asked without arguments"""
    if x.ask('query-commands') != YES:
        return
    names = sorted(c['name'] for c in x.value
                   if c['name'].startswith('query-'))
    for name in x.rng.sample(names, min(len(names), x.storm.queries)):
        if x.ask(name) == UNKNOWN:
            return


def do_hmp(x):
    """what the human monitor tells of devices and the state of the CPUs"""
    for _ in range(5):
        what = x.rng.choice(('registers', 'pic', 'irq', 'lapic', 'qtree', 'mtree',
                             'tlb', 'mem', 'usb', 'block', 'migrate', 'pci'))
        if x.ask('human-monitor-command',
                 command_line=f'info {what}') == UNKNOWN:
            return


def do_hot_plug(x):
    """a device is plugged in, and out again"""
    name = f'hot{x.n}'
    x.storm.plugged.add(name)
    if x.ask('device_add', driver='usb-mouse', id=name, bus='xhci.0') == YES:
        time.sleep(x.rng.random() * 0.02)
        x.ask('device_del', id=name)


def do_medium(x):
    """another CD is put in, once the hand-over has been asked for: whoever
    starts a destination says what is in its drives"""
    x.begun.wait(x.storm.patience)
    other = f'{WORK}/b' if x.storm.medium == f'{WORK}/a' else f'{WORK}/a'
    answer = x.ask('blockdev-change-medium', id='cd', filename=other,
                   format='raw')
    x.media = {YES: {other}, NO: x.media, UNKNOWN: x.media | {other}}[answer]


def do_cancel(x):
    """migrate_cancel"""
    x.ask('migrate_cancel')


def do_twice(x):
    """migrate-protected-vm, while one runs, or after that has failed"""
    x.begun.wait(x.storm.patience)
    if x.ask('migrate-protected-vm', **{
            'on-success': 'stay' if x.stays else 'quit',
            **x.storm.patient}) == YES:
        x.form = 'own'
        x.storm.next_directory = x.storm.directory


def do_parameters(x):
    """migrate-set-parameters, of what a hand-over has no use for"""
    x.ask('migrate-set-parameters', **x.rng.choice((
        {'max-bandwidth': 1}, {'max-bandwidth': 1 << 30},
        {'downtime-limit': 1}, {'downtime-limit': 2000},
        {'multifd-channels': 4}, {'avail-switchover-bandwidth': 1})))


def do_mode(x):
    """migrate-set-parameters mode="""
    x.ask('migrate-set-parameters',
          mode=x.rng.choice(('normal', 'cpr-reboot', 'hand-over')))


def do_yank(x):
    """yank, of the migration"""
    x.ask('yank', instances=[{'type': 'migration'}])


def do_clients(x):
    """clients that connect to a monitor and go away, or stay and say nothing"""
    for _ in range(8):
        s = socket.socket(socket.AF_UNIX)
        s.setblocking(False)
        try:
            s.connect(x.path('clients'))
            if x.rng.random() < 0.3:
                s.send(b'{"execute": "qmp_capab')
        except OSError:
            pass
        s.close()


# Those of which one ends, or is none that could take the guest

def do_destination_dies(x):
    """the destination dies, somewhere before it has the guest"""


def do_source_dies(x):
    """the source dies, after it has told the destination to take the guest"""


def do_refused(x):
    """the destination is another machine"""


def do_never_answers(x):
    """the destination never says anything"""


ALL = ('plain', 'kvm', 'sev', 'sev-es')
RESETTABLE = ('plain', 'kvm', 'sev')


class Disturbance(NamedTuple):
    run: Callable
    # of the guest at its beginning, or None: it has no effect on the run state
    # or the number of resets, and goes with any other
    state: str = None
    may_fail: bool = False          # the hand-over may fail of it
    stops: bool = False             # the guest may arrive, and not run
    guests: tuple = ALL
    forms: tuple = FORMS


DISTURBANCES = {
    # one of these in a round, at most
    'stop': Disturbance(do_stop, 'running', stops=True),
    'cont': Disturbance(do_cont, 'paused'),
    'stop-cont': Disturbance(do_stop_cont, 'running', stops=True),
    'reset': Disturbance(do_reset, 'running', guests=RESETTABLE),
    'guest-reset': Disturbance(do_guest_reset, 'running', guests=RESETTABLE),
    'guest-stop': Disturbance(do_guest_stop, 'running', stops=True, guests=RESETTABLE),
    'nmi': Disturbance(do_nmi, 'running', guests=('plain', 'kvm')),
    'sleeper-wakes': Disturbance(do_sleeper_wakes, 'suspended'),
    'debugger': Disturbance(do_debugger, 'running', stops=True, guests=('plain', 'kvm')),
    'breakpoint': Disturbance(do_breakpoint, 'running', stops=True, may_fail=True,
                              guests=('plain',)),
    # any number of these
    'powerdown': Disturbance(do_powerdown),
    'wakeup': Disturbance(do_wakeup, 'running'),
    'queries': Disturbance(do_queries),
    'hmp': Disturbance(do_hmp),
    'hot-plug': Disturbance(do_hot_plug, may_fail=True),
    'medium': Disturbance(do_medium, may_fail=True),
    'cancel': Disturbance(do_cancel, may_fail=True),
    'twice': Disturbance(do_twice),
    'parameters': Disturbance(do_parameters),
    # (with migrate it would be another migration, to the same file of RAM)
    'mode': Disturbance(do_mode, may_fail=True,
                        forms=('own', 'exec', 'uri', 'uri-S')),
    'yank': Disturbance(do_yank, may_fail=True),
    'clients': Disturbance(do_clients),
    # one of these now and then
    'destination-dies': Disturbance(do_destination_dies, 'fatal',
                                    may_fail=True),
    'source-dies': Disturbance(do_source_dies, 'fatal',
                               forms=('own', 'exec', 'uri', 'migrate')),
    'refused': Disturbance(do_refused, 'fatal', may_fail=True,
                           forms=('exec',)),
    'never-answers': Disturbance(do_never_answers, 'fatal', may_fail=True,
                                 forms=('exec', 'uri')),
}

# Where a round may hold the hand-over, so that the disturbances fall there
HOLDS = ('destination adopted before', 'destination adopted after',
         'destination loaded before', 'source commit before',
         'source commit after', 'destination done before')
DEATHS = ('vm before', 'vm after', 'adopted before', 'adopted after',
          'loaded before', 'loaded after')

# What a source that stays may be asked for
LATE = (('system_reset', {}), ('stop', {}), ('cont', {}), ('inject-nmi', {}),
        ('system_wakeup', {}), ('system_powerdown', {}),
        ('migrate_cancel', {}), ('migrate-protected-vm', {}),
        ('migrate', {'uri': 'exec:cat >/dev/null'}),
        ('device_add', {'driver': 'usb-mouse', 'id': 'late',
                        'bus': 'xhci.0'}),
        ('device_del', {'id': 'late'}),
        ('human-monitor-command', {'command-line': 'savevm late'}),
        ('human-monitor-command', {'command-line': 'info registers'}),
        ('human-monitor-command', {'command-line': 'sendkey a'}),
        ('human-monitor-command', {'command-line': 'info lapic'}),
        ('human-monitor-command', {'command-line': 'sum 0 100'}),
        ('human-monitor-command', {'command-line': 'nmi'}),
        ('x-exit-preconfig', {}),
        ('query-block', {}), ('query-cpus-fast', {}))


class Round:
    """A hand-over and what happens meanwhile"""

    def __init__(self, storm, n):
        self.storm = storm
        self.n = n
        self.rng = rng = random.Random(f'{storm.seed} {n}')
        self.notes = []
        self.threads = []
        self.begun = threading.Event()
        self.lock = threading.Lock()
        self.states = {storm.state}
        self.boots_range = [storm.boots, storm.boots]
        self.nmis_range = [storm.nmis, storm.nmis]
        self.media = {storm.medium}
        self.error = None
        # all of it is drawn, whatever is used: what follows stays the same
        form = rng.choice(storm.forms)
        self.stays = rng.random() < 0.5
        lead, self.hold = rng.random(), rng.choice(HOLDS)
        holds, kinds, self.after = rng.random(), rng.random(), rng.random()
        self.fate = rng.choice(DEATHS)
        self.delays = [rng.random() for _ in range(8)]
        self.late = rng.sample(LATE, 4)

        free = [d for d in storm.table if storm.table[d].state is None]
        state = [d for d in storm.table
                 if storm.table[d].state == storm.state]
        fatal = [d for d in storm.table if storm.table[d].state == 'fatal']
        picks = rng.sample(free, min(len(free), rng.randrange(4)))
        if fatal and (kinds < 0.12 or not free + state):
            picks.append(rng.choice(fatal))
        elif state and (kinds < 0.8 or not free):
            picks.insert(0, rng.choice(state))
        self.fatal = next((d for d in picks if d in fatal), None)
        forms = [f for f in storm.forms
                 if all(f in storm.table[d].forms for d in picks)]
        # (what -S makes of other states is not looked into)
        if any(d in state for d in picks) or storm.state != 'running':
            forms = [f for f in forms if not f.endswith('-S')] or ['uri']
        self.form = form if form in forms else rng.choice(forms)
        self.picks = picks
        if self.form.startswith('migrate') or self.form.endswith('-S'):
            self.stays = True
        if holds > 0.5 or self.fatal:
            self.hold = None
        self.may_fail = any(storm.table[d].may_fail for d in picks)
        self.lead = lead * 0.02 * storm.scale
        # whom each talks to
        self.where = [rng.random() < 0.5 for _ in range(8)]

    def __str__(self):
        hold = f', held at "{self.hold}"' if self.hold else ''
        fatal = f' ({self.fate})' if self.fatal == 'destination-dies' else ''
        return (f'{self.n} {self.storm.state}: {self.form}'
                f'{", stays" if self.stays else ""}{hold}: '
                f'{", ".join(self.picks) or "nothing"}{fatal}')

    # What disturbances do

    def note(self, text):
        with self.lock:
            self.notes.append(text)

    def ask(self, name, **arguments):
        here = threading.current_thread()
        if here.monitor is None:
            # (where nobody listens now nobody will: who had it has gone)
            here.monitor = self.storm.monitor(here.path, now=True)
        answer = here.monitor.ask(name, **arguments)
        self.value = here.monitor.value
        if not name.startswith('query-'):
            said = f' ({self.value})' if answer == NO else ''
            self.note(f'{name}: {answer}{said}')
        return answer

    def path(self, name):
        return threading.current_thread().directory + '/' + name

    def debugger(self):
        try:
            return Debugger(self.path('gdb'), self.storm.patience)
        except OSError as e:
            self.note(f'debugger: {e}')
            return None

    def ask_guest(self, what):
        self.storm.memory[ASKED] = what
        self.storm.did += 1

    def becomes(self, answer, state):
        with self.lock:
            if answer == YES:
                self.states = {state}
            elif answer == UNKNOWN:
                self.states.add(state)

    def may_be(self, state):
        with self.lock:
            self.states.add(state)

    def may_not_be(self, state):
        with self.lock:
            self.states.discard(state)

    def boots(self, answer):
        self.count(answer, 'boots')

    def count(self, answer, what):
        with self.lock:
            counts = getattr(self, what + '_range')
            counts[0] += answer == YES
            counts[1] += answer != NO

    # The round

    def thread(self, pick, delay, at_source):
        """A disturbance.  Its monitor is the source's, or one of whoever has
        the path when it comes."""
        storm = self.storm
        name = f'd{len(self.threads)}'
        here = threading.Thread(daemon=True, name=pick,
                                target=lambda: self.disturb(pick, delay))
        here.begin = threading.Event()
        here.directory = storm.directory
        here.path = f'{storm.directory}/{name}'
        here.monitor = storm.monitor(here.path) if at_source else None
        self.threads.append(here)

    def disturb(self, pick, delay):
        try:
            threading.current_thread().begin.wait(self.storm.patience)
            time.sleep(delay)
            self.storm.table[pick].run(self)
        except (OSError, TimeoutError, QMPClosed) as e:
            # (one of those that die may be gone before it has answered at all)
            self.note(f'{pick}: {e!r}')
            if isinstance(e, TimeoutError):
                self.error = f'{pick}: {e}'
        except Exception as e:
            self.error = f'{pick}: {e!r}'
            traceback.print_exc()

    def fault(self):
        if self.fatal == 'destination-dies':
            return f'destination {self.fate} kill'
        if self.fatal == 'source-dies':
            return 'source commit after kill'
        return f'{self.hold} hold' if self.hold else None

    def run(self):
        storm = self.storm
        spread = storm.typical * 1.2 if not self.hold else 0.01 * storm.scale
        for pick, delay, at_source in zip(self.picks, self.delays, self.where):
            if storm.table[pick].state != 'fatal':
                # (another one could well be handed over once more)
                self.thread(pick, delay * spread,
                            at_source or pick == 'twice')
        storm.set_fault(self.fault())
        try:
            for t in self.threads:
                t.start()
            if not self.hold:
                self.let_begin()
            time.sleep(self.lead)
            started = time.monotonic()
            storm.begin(self)
            if self.hold:
                self.held()
            self.outcome = storm.outcome(self)
            self.let_begin()
            for t in self.threads:
                t.join(2 * storm.patience)
                if t.is_alive():
                    raise Failed(f'disturbance {t.name} does not end')
                if t.monitor:
                    t.monitor.close()
            if self.error:
                raise Failed(self.error)
            # one of them may have begun another
            self.outcome = storm.outcome(self)
            took = time.monotonic() - started
        finally:
            storm.set_fault(None)
        storm.settle(self)
        if self.outcome == 'completed' and not self.hold:
            storm.typical += (min(took, 2 * storm.typical) -
                              storm.typical) / 4
        if self.outcome != 'completed' and not self.may_fail:
            raise Failed(f'the hand-over {self.outcome}: {storm.why}')

    def let_begin(self):
        for t in self.threads:
            t.begin.set()

    def held(self):
        """The hand-over is held, the disturbances have their time"""
        storm = self.storm
        ended, enough = threading.Event(), threading.Event()

        def watch():
            # a thread of its own: the source does not answer while it is held
            # at "commit"
            while not ended.is_set() and not enough.wait(0.002):
                if storm.has_ended():
                    ended.set()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        wait_for(f'nobody gets to {self.hold}',
                 lambda: ended.is_set() or
                 select.select([storm.held], [], [], 0)[0], storm.patience)
        self.let_begin()
        end = time.monotonic() + 0.15 * storm.scale
        while (any(t.is_alive() for t in self.threads) and
               time.monotonic() < end):
            time.sleep(0.002)
        os.write(storm.go, b'\n')
        enough.set()
        watcher.join(2 * storm.patience)
        if watcher.is_alive():
            raise Failed('the source does not answer after it was held')


class Storm:
    """A guest, and the processes that have it"""

    def __init__(self, kind, options):
        self.kind = kind
        self.times = int(options.get('times', 200))
        self.seed = options.get('seed') or str(random.randrange(1 << 32))
        self.first = int(options.get('from', 1))
        self.scale = float(options.get('scale', 1 if kind == 'plain' else 8))
        self.patience = 20 + 5 * self.scale
        # this is not about speed, and the machine may have more to do
        self.patient = {'downtime-limit': int(2000 * self.scale)}
        self.forms = options.get('forms', ','.join(FORMS)).split(',')
        only = options.get('only', ','.join(DISTURBANCES)).split(',')
        self.table = {name: d for name, d in DISTURBANCES.items()
                      if name in only and kind in d.guests}
        self.verbose = 'verbose' in options
        self.queries = 60 if kind == 'plain' else 8
        self.typical = 0.15 * self.scale
        self.generation = 0
        self.state = 'running'
        self.boots = 1
        self.nmis = self.did = 0
        self.medium = f'{WORK}/a'
        self.plugged = set()
        self.debuggers = []
        self.ended = {}
        self.why = None

    # Command lines

    def argv(self, directory, medium, *more):
        """Of a QEMU whose sockets are there"""
        protected = self.kind.startswith('sev')
        image = {'sev': 'storm', 'sev-es': 'es-tick'}.get(self.kind,
                                                          'storm-plain')
        argv = ['qemu', '-name', 'storm', '-L', '/usr/share/qemu',
                '-accel', 'tcg' if self.kind == 'plain' else 'kvm',
                '-cpu', 'qemu64' if self.kind == 'plain' else
                'EPYC,check=off',
                '-smp', '4' if self.kind == 'sev-es' else '1',
                '-nodefaults', '-no-user-config', '-no-shutdown',
                '-action', 'panic=pause,watchdog=pause', '-display', 'none',
                '-m', '64', '-machine', 'q35,memory-backend=ram,' +
                ('confidential-guest-support=sev' if protected else
                 'hand-over=on'),
                '-object', 'memory-backend-file,id=ram,size=64M,share=on,'
                f'mem-path={RAM}',
                '-drive', 'if=pflash,format=raw,unit=0,readonly=on,'
                f'file=/{image}.bin',
                '-device', 'qemu-xhci,id=xhci', '-device', 'pvpanic',
                '-device', 'ib700',
                '-drive', 'if=none,id=cd-image,media=cdrom,format=raw,'
                f'file={medium}', '-device', 'ide-cd,drive=cd-image,id=cd',
                '-monitor', f'unix:{directory}/hmp,server=on,wait=off',
                '-gdb', f'unix:{directory}/gdb,server=on,wait=off']
        if protected:
            argv += ['-object', 'sev-guest,id=sev,cbitpos=51,'
                     'reduced-phys-bits=1,policy=' +
                     ('5' if self.kind == 'sev-es' else '1')]
        for name in 'qmp', 'd0', 'd1', 'd2', 'd3', 'clients':
            argv += ['-qmp', f'unix:{directory}/{name},server=on,wait=off']
        return argv + list(more)

    def spawn(self, argv):
        with open(f'{WORK}/err', 'a') as err:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=err,
                                    start_new_session=True, env={
                                        **os.environ,
                                        'LD_PRELOAD': '/bin/fault.so'}).pid

    def new_directory(self):
        self.generation += 1
        path = f'{WORK}/{self.generation}'
        os.mkdir(path)
        return path

    def monitor(self, path, now=False):
        return Monitor(path, self.patience, now)

    # Processes

    def reap(self):
        """Statuses of those that have ended: all are children, or orphans"""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.ended[pid] = os.waitstatus_to_exitcode(status)

    def living(self):
        """Process IDs of all QEMUs"""
        self.reap()
        pids = set()
        for name in os.listdir('/proc'):
            if name.isdigit():
                try:
                    with open(f'/proc/{name}/cmdline', 'rb') as f:
                        if b'\0-name\0storm\0' in f.read():
                            pids.add(int(name))
                except (FileNotFoundError, ProcessLookupError):
                    pass
        return pids

    def alone(self, pid):
        """Wait until this is the only QEMU"""
        wait_for(f'more than one QEMU is left: {self.living()}, of which '
                 f'{pid} should',
                 lambda: self.living() == {pid}, self.patience)

    def status(self, pid):
        """Wait until it has ended; its exit status"""
        def ended():
            self.reap()
            return pid in self.ended
        wait_for(f'process {pid} does not end', ended, self.patience)
        return self.ended[pid]

    def check_ends(self):
        """None has crashed"""
        self.reap()
        for pid, status in self.ended.items():
            if status not in (0, 1, -signal.SIGKILL):
                raise Failed(f'process {pid} has ended with {status}')

    # A hand-over

    def set_fault(self, fault):
        """What fault.so is to do (fault.c), its FIFOs made anew"""
        for name in 'fault', 'held', 'go':
            try:
                os.unlink(f'/tmp/{name}')
            except FileNotFoundError:
                pass
        for fd in (self.held, self.go):
            if fd is not None:
                os.close(fd)
        self.held = self.go = None
        if fault:
            os.mkfifo('/tmp/held')
            os.mkfifo('/tmp/go')
            self.held = os.open('/tmp/held', os.O_RDWR | os.O_NONBLOCK)
            self.go = os.open('/tmp/go', os.O_RDWR | os.O_NONBLOCK)
            with open('/tmp/fault.new', 'w') as f:
                f.write(fault + '\n')
            os.rename('/tmp/fault.new', '/tmp/fault')
    held = go = None

    def begin(self, x):
        """Send the command"""
        self.waiting = None
        self.silent = None
        self.next_directory = self.directory
        self.why = None
        arguments = {'on-success': 'stay' if x.stays else 'quit', **self.patient}
        command = 'migrate-protected-vm'
        if x.form == 'exec':
            more = ['-device', 'usb-kbd'] if x.fatal == 'refused' else []
            arguments['exec'] = self.argv(self.directory, self.medium, *more)
            if x.fatal == 'never-answers':
                arguments['exec'] = ['/bin/sh', '-c', 'exec sleep 1000']
        elif x.form == 'own':
            pass
        elif x.fatal == 'never-answers':
            self.silent = socket.socket(socket.AF_UNIX)
            try:
                os.unlink(f'{WORK}/silent')
            except FileNotFoundError:
                pass
            self.silent.bind(f'{WORK}/silent')
            self.silent.listen(1)
            arguments['uri'] = f'unix:{WORK}/silent'
        else:
            self.next_directory = self.new_directory()
            path = self.next_directory + '/incoming'
            more = ['-incoming', f'unix:{path}']
            if x.form.endswith('-S'):
                more.append('-S')
            self.waiting = self.spawn(self.argv(self.next_directory,
                                                self.medium, *more))
            wait_for('the destination does not wait',
                     lambda: listens(path), self.patience)
            arguments['uri'] = f'unix:{path}'
            if x.form.startswith('migrate'):
                command = 'migrate'
                del arguments['on-success'], arguments['downtime-limit']
                self.qmp.ask('migrate-set-parameters', **self.patient)
                self.qmp.ask('migrate-set-capabilities', capabilities=[
                    {'capability': 'hand-over', 'state': True}])
        if x.fatal == 'never-answers':
            arguments['timeout'] = 500
        answer = self.qmp.ask(command, **arguments)
        x.begun.set()
        if answer == NO:
            self.why = self.qmp.value
        x.note(f'{command}: {answer}' + (f' ({self.why})' if self.why else ''))
        self.refused = answer == NO

    def has_ended(self):
        """How the migration has ended, None as long as it has not"""
        if self.refused:
            return 'refused'
        if self.qmp.ask('query-migrate') == UNKNOWN:
            # the source has; who has the guest remains to be seen
            return 'completed'
        info = self.qmp.value
        if info.get('status') in ('completed', 'failed', 'cancelled'):
            self.why = info.get('error-desc', '')
            return info['status']
        return None

    def outcome(self, x):
        status = wait_for('the migration does not end', self.has_ended,
                          2 * self.patience)
        return status

    def settle(self, x):
        """Exactly one process has the guest: which one"""
        if self.silent:
            self.silent.close()
            os.unlink(f'{WORK}/silent')
        if self.refused and self.waiting:
            os.kill(self.waiting, signal.SIGKILL)
        if x.outcome == 'completed':
            self.follow(x)
        else:
            self.stay(x)
        self.check_ends()
        if self.directory != self.next_directory:
            if x.outcome == 'completed':
                self.directory = self.next_directory

    def stay(self, x):
        """The guest is where it was, and the other one gone"""
        self.alone(self.pid)
        self.expect_settled()
        if 'can go on after another hand-over' in (self.why or ''):
            # (what was changed since is not what the new one will have)
            self.qmp.ask('blockdev-change-medium', id='cd',
                         filename=self.medium, format='raw')
            x.media = {self.medium}
            self.once_more()

    def expect_settled(self):
        def cleaned_up():
            if self.qmp.ask('migrate-protected-vm', **{
                    'check-only': True}) != YES:
                raise Failed(f'check-only: {self.qmp.value}')
            return not any('cleaned up' in b['reason'] or
                           'in progress' in b['reason']
                           for b in self.qmp.value['blockers'])
        wait_for('the source does not clean up', cleaned_up, self.patience)

    def follow(self, x):
        """The guest has gone to another process"""
        source = self.pid
        self.reap()
        if self.qmp.ask('query-status') == YES:
            # it stays, or is about to quit
            if x.stays and self.qmp.value['status'] != 'postmigrate':
                raise Failed(f'what stayed is {self.qmp.value}')
        others = wait_for('nobody has the guest',
                          lambda: self.living() - {source}, self.patience)
        if len(others) != 1:
            raise Failed(f'beside {source} there are {others}')
        pid = others.pop()
        # who was there first has monitors no longer
        qmp = self.monitor(self.next_directory + '/qmp')
        if x.form.endswith('-S'):
            x.states = {'paused'}
            self.state_is(qmp, x.states)
            # (after a yank it can't tell the source whether it let it run)
            if x.after < 0.4 and 'yank' not in x.picks:
                # it has not let it run, and dies: the guest is back
                os.kill(pid, signal.SIGKILL)
                qmp.close()
                self.alone(source)
                self.state_is(self.qmp, {'paused'})
                if self.kind.startswith('sev'):
                    self.once_more()
                elif self.qmp.ask('cont') != YES:
                    raise Failed(f'it is not back: {self.qmp.value}')
                x.note('came back')
                x.outcome = 'came back'
                x.may_fail = True
                x.states = {'running'}
                return
        if x.stays and x.fatal != 'source-dies':
            for name, arguments in x.late:
                if x.after > 0.6:
                    self.qmp.ask(name, **arguments)
            if self.qmp.ask('query-status') != YES or \
                    self.qmp.value['running']:
                raise Failed(f'what stayed: {self.qmp.value}')
            if x.after > 0.9:
                os.kill(source, signal.SIGKILL)
            else:
                self.qmp.ask('quit')
        self.alone(pid)
        status = self.status(source)
        killed = x.fatal == 'source-dies' or x.after > 0.9 and x.stays
        if status != (-signal.SIGKILL if killed else 0):
            raise Failed(f'the source {source} has ended with {status}')
        self.qmp.close()
        self.qmp = qmp
        self.pid = pid
        if x.form.endswith('-S'):
            self.qmp.ask('cont')
            x.states = {'running'}

    def once_more(self):
        """The kernel has moved the guest away from here: it can't go on here, but
        after another hand-over"""
        source = self.pid
        if self.qmp.ask('cont') != NO or \
                'after another hand-over' not in self.qmp.value:
            raise Failed(f'cont of a guest that was moved: {self.qmp.value}')
        self.must('migrate-protected-vm', **self.patient)
        if self.status(source) != 0:
            raise Failed(f'the source {source} has ended with '
                         f'{self.ended[source]}')
        self.qmp.close()
        self.pid = wait_for('nobody has the guest', self.living,
                            self.patience).pop()
        self.qmp = self.monitor(self.directory + '/qmp')

    def state_is(self, qmp, states):
        def is_one():
            if qmp.ask('query-status') != YES:
                raise Failed(f'query-status: {qmp.value}')
            return qmp.value['status'] in states
        try:
            wait_for('', is_one, self.patience / 2)
        except Failed:
            raise Failed(f'the guest is {qmp.value["status"]}, '
                         f'not {" or ".join(sorted(states))}') from None
        return qmp.value['status']

    # What must be so after each round

    def frozen(self):
        """Whether nobody runs the guest for a while"""
        before = self.memory.page[:64]
        time.sleep(0.01 * self.scale)
        return self.memory.page[:64] == before

    def check(self, x):
        self.state = self.state_is(self.qmp, x.states)
        if self.state == 'running':
            before = self.memory[TICKS]
            wait_for('the guest stands still',
                     lambda: self.memory[TICKS] > before + 1, self.patience)
            if self.kind != 'sev-es':
                wait_for('the guest did not do what it was asked for',
                         lambda: self.memory[ASKED] == 0 and
                         self.memory[DID] == self.did, self.patience)
            self.counted('boots', BOOTS, x.boots_range)
            self.counted('nmis', NMIS, x.nmis_range)
            # nobody else runs it
            try:
                self.freeze(self.pid)
                if not self.frozen():
                    raise Failed('a second process runs the guest')
            finally:
                os.kill(self.pid, signal.SIGCONT)
        elif not self.frozen():
            raise Failed(f'the guest is {self.state}, and runs')
        errors = self.memory[ERRORS]
        if self.kind == 'sev-es':
            errors += self.memory[ES_ERRORS]
        if errors:
            raise Failed(f'{errors} words of memory are wrong')
        self.check_medium(x)
        self.check_socket_files()
        finding = self.spy.finding()
        if finding:
            raise Failed(f'another user: {finding}')

    def freeze(self, pid):
        """Let no thread of a process go on"""
        def stopped():
            states = set()
            for task in os.listdir(f'/proc/{pid}/task'):
                with open(f'/proc/{pid}/task/{task}/stat') as f:
                    states.add(f.read().rsplit(')', 1)[1].split()[0])
            return states == {'T'}
        os.kill(pid, signal.SIGSTOP)
        wait_for('it does not stop', stopped, self.patience)

    def counted(self, name, word, expected):
        if self.kind == 'sev-es':
            return
        low, high = expected
        wait_for(f'{name}: {self.memory[word]}, not {low} to {high}',
                 lambda: self.memory[word] >= low, self.patience)
        if self.memory[word] > high:
            raise Failed(f'{name}: {self.memory[word]}, not {low} to {high}')
        setattr(self, name, self.memory[word])

    def check_medium(self, x):
        self.qmp.ask('query-block')
        file = next(b for b in self.qmp.value
                    if b.get('qdev') == 'cd')['inserted']['file']
        if file not in x.media:
            raise Failed(f'the CD is {file}, not {" or ".join(x.media)}')
        self.medium = file

    def check_socket_files(self):
        """Those of whoever has the guest are there, and no other"""
        expected = {'qmp', 'd0', 'd1', 'd2', 'd3', 'clients', 'hmp', 'gdb'}
        there = set(os.listdir(self.directory)) - {'incoming'}
        if there != expected:
            raise Failed(f'of the sockets there are {sorted(there)}')

    # Between rounds

    def restore(self, rng):
        """Let the guest run again, and undo what was plugged in"""
        for d in self.debuggers:
            if self.state != 'running':
                # (who goes leaves his breakpoints behind)
                d.remove(self.breakpoint)
            d.close()
        self.debuggers.clear()
        for name in self.plugged:
            self.qmp.ask('device_del', id=name)
        self.plugged.clear()
        self.qmp.ask('migrate-set-parameters', mode='normal')
        if self.medium != f'{WORK}/a':
            self.qmp.ask('blockdev-change-medium', id='cd',
                         filename=f'{WORK}/a', format='raw')
            self.medium = f'{WORK}/a'
        if self.state == 'running' or rng.random() < 0.4:
            return
        if self.state == 'suspended':
            self.must('system_wakeup')
            self.boots += 1
        elif self.state == 'shutdown':
            self.must('system_reset')
            self.boots += 1
            self.state_is(self.qmp, {'prelaunch'})
            self.must('cont')
        else:
            self.must('cont')
        self.state_is(self.qmp, {'running'})
        self.state = 'running'

    def must(self, name, **arguments):
        if self.qmp.ask(name, **arguments) != YES:
            raise Failed(f'{name}: {self.qmp.value}')

    # All of it

    def check_breakpoint(self):
        """One in the guest's memory is in the way, as long as it is there"""
        d = Debugger(self.directory + '/gdb', self.patience)
        for command, blocks in ('Z0', True), ('z0', False):
            if d.ask(f'{command},{FROM - 4096:x},1') != YES:
                raise Failed(f'the debugger is told {d.answer}')
            self.qmp.ask('migrate-protected-vm', **{'check-only': True})
            reasons = [b['reason'] for b in self.qmp.value['blockers']]
            if blocks != any('breakpoints in' in r for r in reasons):
                raise Failed(f'{command}: check-only: {reasons}')
        d.ask('D')
        d.close()
        self.state_is(self.qmp, {'running'})

    def run(self):
        for where, _, files in os.walk(WORK, topdown=False):
            for name in files:
                os.unlink(os.path.join(where, name))
            if where != WORK:
                os.rmdir(where)
        print(f'storm: {self.kind} guest, times={self.times} '
              f'seed={self.seed} from={self.first}', flush=True)
        for name in 'a', 'b':
            with open(f'{WORK}/{name}', 'wb') as f:
                f.truncate(1 << 20)
        with open(f'/{"storm" if self.kind == "sev" else "storm-plain"}.bin',
                  'rb') as f:
            self.breakpoint = struct.unpack_from('<Q', f.read(), 0xffe8)[0]
        with open(RAM, 'wb') as f:
            f.truncate(64 << 20)
        self.memory = Memory()
        self.spy = spy.Spy(WORK, RAM)
        self.directory = self.new_directory()
        self.pid = self.spawn(self.argv(self.directory, self.medium))
        self.qmp = self.monitor(self.directory + '/qmp')
        wait_for('the guest does nothing', lambda: self.memory[TICKS] > 5,
                 20 * self.patience)
        self.qmp.ask('migrate-protected-vm', **{'check-only': True})
        if self.qmp.value != {'blockers': []}:
            raise Failed(f'check-only: {self.qmp.value}')
        if self.kind == 'kvm':
            self.check_breakpoint()
        for n in range(self.first, self.first + self.times):
            x = Round(self, n)
            before = self.memory[TICKS]
            began = time.monotonic()
            failed = True
            try:
                x.run()
                self.check(x)
                failed = False
            finally:
                if failed:
                    print(f'FAILED {x}: {getattr(x, "outcome", "?")}: '
                          f'{self.why}', flush=True)
                    for note in x.notes:
                        print(f'    {note}', flush=True)
            print(f'{x}: {x.outcome}, then {self.state}; ticks {before}, '
                  f'{self.memory[TICKS]}; boots {self.boots}; '
                  f'{time.monotonic() - began:.1f} s', flush=True)
            if self.verbose:
                print(*(f'    {note}' for note in x.notes), sep='\n')
            self.restore(x.rng)
        self.finish()

    def finish(self):
        """Nothing is left"""
        self.qmp.ask('quit')
        wait_for('a QEMU is left', lambda: not self.living(), self.patience)
        self.check_ends()
        if os.listdir(self.directory):
            raise Failed(f'left: {os.listdir(self.directory)}')

    def end(self):
        for pid in self.living():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def tell(self):
        """All there is to find out why"""
        with open(f'{WORK}/err') as f:
            print(f.read()[-3000:])
        print(f'ended: {self.ended}')
        for pid in self.living():
            self.freeze(pid)
            with open(f'/proc/{pid}/cmdline') as f:
                cmdline = f.read().replace('\0', ' ')
            print(f'process {pid}: {cmdline[-200:]}')
        if hasattr(self, 'memory'):
            print('words:', [self.memory[i] for i in range(8)])
            if self.kind in ('plain', 'kvm'):
                print('memory:', self.memory.rounds()[:20])


def main():
    kind = sys.argv[1]
    options = dict(a.split('=', 1) for a in sys.argv[2:] if '=' in a)
    # PR_SET_CHILD_SUBREAPER: those whose parents have ended become ours
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    os.makedirs(WORK, exist_ok=True)
    storm = Storm(kind, options)
    begin = time.monotonic()
    try:
        storm.run()
        print(f'storm: {kind} guest: {storm.times} rounds in '
              f'{time.monotonic() - begin:.0f} s', flush=True)
        return 0
    except (Failed, QMPClosed, QMPError, OSError, TimeoutError) as e:
        if not isinstance(e, Failed):
            traceback.print_exc()
        storm.tell()
        again = f'{kind} guest, seed={storm.seed}: {e!r}'
        with open('/tmp/reason', 'w') as f:
            f.write(again)
        print(f'FAILED: {again}', flush=True)
        if 'hold' in options:
            print('held: for you to look', flush=True)
            signal.pause()
        return 1
    finally:
        storm.end()


if __name__ == '__main__':
    sys.exit(main())
