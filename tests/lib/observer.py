"""Watch a guest's RAM from outside: see ram-observer.c."""

import os
import subprocess


def build(directory):
    """Compile the observer; its path."""
    source = os.path.join(os.path.dirname(__file__), 'ram-observer.c')
    program = os.path.join(directory, 'ram-observer')
    if (not os.path.exists(program) or
            os.path.getmtime(program) < os.path.getmtime(source)):
        subprocess.run(['gcc', '-O2', '-Wall', '-Werror', '-o', program + '.new',
                        source], check=True)
        os.rename(program + '.new', program)
    return program


def ram_file(pid, size):
    """The guest's memory, as a file below /proc: the one of that size."""
    directory = f'/proc/{pid}/fd'
    for fd in os.listdir(directory):
        path = os.path.join(directory, fd)
        try:
            link = os.readlink(path)
            if link.startswith('/memfd:') and os.stat(path).st_size == size:
                return path
        except FileNotFoundError:
            continue        # closed meanwhile
    raise LookupError(f'process {pid} has no memfd of {size} bytes')


def find(path, magic, alignment=4096):
    """Where in the file the bytes are; only where there is data at all."""
    fd = os.open(path, os.O_RDONLY)
    try:
        end = 0
        while True:
            try:
                start = os.lseek(fd, end, os.SEEK_DATA)
            except OSError:
                return None
            end = os.lseek(fd, start, os.SEEK_HOLE)
            for offset in range(start, end, 1 << 22):
                chunk = os.pread(fd, min(1 << 22, end - offset), offset)
                at = chunk.find(magic)
                while at >= 0:
                    if (offset + at) % alignment == 0:
                        return offset + at
                    at = chunk.find(magic, at + 1)
    finally:
        os.close(fd)


class Observer:
    def __init__(self, program, offset, *paths):
        self.process = subprocess.Popen([program, str(offset), *paths],
                                        stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != 'ready\n':
            raise RuntimeError('ram-observer did not start')

    def read(self):
        """The counter's value, and standstills since the last call: pairs of
        length and end, in microseconds, of time.monotonic()."""
        self.process.stdin.write('\n')
        self.process.stdin.flush()
        value, *rest = map(int, self.process.stdout.readline().split())
        return value, list(zip(rest[::2], rest[1::2]))

    def longest(self):
        """The counter's value, and the longest of these."""
        value, standstills = self.read()
        return value, max((s[0] for s in standstills), default=0)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
