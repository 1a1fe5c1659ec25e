"""A QMP client: what the tests' drivers need of it."""

import json
import select
import socket
import time


class QMPError(Exception):
    """A command was answered with an error."""


class QMPClosed(Exception):
    """QEMU has closed the connection."""


def listens(path):
    """Whether somebody does, at that UNIX socket: its file is there before"""
    with open('/proc/net/unix') as f:
        sockets = [line.split() for line in f][1:]
    accepts = 0x10000           # __SO_ACCEPTCON
    return any(s[-1] == path and int(s[3], 16) & accepts for s in sockets)


class QMP:
    def __init__(self, path, deadline=30, now=False):
        """Connect to the UNIX socket at path, once somebody listens there, or,
        with now, if somebody does."""
        end = time.monotonic() + deadline
        while True:
            self.sock = socket.socket(socket.AF_UNIX)
            try:
                self.sock.connect(path)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                self.sock.close()
                if now or time.monotonic() > end:
                    raise
                # a socket file has no event to wait for
                time.sleep(0.01)
        self.buffer = b''
        self.events = []
        self._receive(end)
        self.command('qmp_capabilities')

    def _receive(self, end=None):
        while b'\n' not in self.buffer:
            if end is not None:
                left = end - time.monotonic()
                if left <= 0 or not select.select([self.sock], [], [], left)[0]:
                    raise TimeoutError('QEMU does not answer')
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b''
            if not data:
                raise QMPClosed()
            self.buffer += data
        line, self.buffer = self.buffer.split(b'\n', 1)
        return json.loads(line)

    def command(self, name, **arguments):
        """Execute a command.  In names of arguments _ stands for -."""
        arguments = {k.replace('_', '-'): v for k, v in arguments.items()}
        text = json.dumps({'execute': name, 'arguments': arguments})
        try:
            self.sock.sendall(text.encode() + b'\n')
        except (BrokenPipeError, ConnectionResetError):
            raise QMPClosed() from None
        end = time.monotonic() + 60
        while True:
            answer = self._receive(end)
            if 'event' in answer:
                self.events.append(answer)
            elif 'error' in answer:
                raise QMPError(answer['error']['desc'])
            elif 'return' in answer:
                return answer['return']
            else:
                raise QMPError(f'{name}: expected an answer, got {answer}')

    def hmp(self, line):
        return self.command('human-monitor-command', command_line=line)

    def wait_event(self, name, deadline=60, matches=lambda data: True,
                   keep=False):
        """Wait for an event.  It and those before it are removed from
        self.events, unless they shall be kept there."""
        end = time.monotonic() + deadline
        seen = 0
        while True:
            while seen < len(self.events):
                event = self.events[seen]
                seen += 1
                if event['event'] == name and matches(event.get('data', {})):
                    if not keep:
                        del self.events[:seen]
                    return event
            answer = self._receive(end)
            if 'event' in answer:
                self.events.append(answer)

    def events_on(self):
        """Have MIGRATION events sent."""
        self.command('migrate-set-capabilities',
                     capabilities=[{'capability': 'events', 'state': True}])

    def wait_migration(self, deadline=60):
        """Wait until a migration has ended; what query-migrate says then."""
        ended = ('completed', 'failed', 'cancelled')
        self.wait_event('MIGRATION', deadline,
                        lambda data: data['status'] in ended)
        return self.command('query-migrate')

    def close(self):
        self.sock.close()
