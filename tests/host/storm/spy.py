"""Another user of the host, who tries to get at a guest.

A process of user nobody looks for sockets again and again, as anybody can
(/proc/net/unix), and connects; and for what /proc tells of the QEMUs.  Who is
answered, or only let in, has found something.
"""

import os
import select
import socket
import sys
import time

NOBODY = 65534

# In /proc/PID: what must not be opened by another user
SECRETS = ('mem', 'environ', 'maps', 'fd', 'fdinfo', 'map_files', 'root', 'cwd')


class Spy:
    def __init__(self, work, ram):
        os.chmod(work, 0o755)
        os.chmod(ram, 0o600)
        self.ram = ram
        self.said, tell = os.pipe()
        self.parent = os.getpid()
        if os.fork() == 0:
            os.close(self.said)
            try:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
                self.run(tell)
            finally:
                os._exit(1)
        os.close(tell)

    def finding(self):
        """What was found, None where nothing was"""
        if select.select([self.said], [], [], 0)[0]:
            return os.read(self.said, 4096).decode() or 'has ended'
        return None

    def run(self, tell):
        def found(what):
            os.write(tell, what.encode() + b'\n')

        reported = set()
        n = 0
        while os.getppid() == self.parent:
            n += 1
            # sockets come and go, while what /proc has stays
            for what in [*self.sockets(), *(self.files() if n % 50 == 0
                                            else ())]:
                if what not in reported:
                    reported.add(what)
                    found(what)
            time.sleep(0.004)

    def sockets(self):
        """Those that let us in"""
        with open('/proc/net/unix') as f:
            names = {line.split()[7] for line in f.readlines()[1:]
                     if len(line.split()) > 7}
        for name in names:
            s = socket.socket(socket.AF_UNIX)
            s.setblocking(False)
            try:
                s.connect('\0' + name[1:] if name[0] == '@' else name)
                yield f'connects to {name}'
            except BlockingIOError:
                # its queue is full
                yield f'may connect to {name}'
            except OSError:
                pass
            s.close()

    def files(self):
        for pid in os.listdir('/proc'):
            if not pid.isdigit() or int(pid) == os.getpid():
                continue
            try:
                with open(f'/proc/{pid}/cmdline', 'rb') as f:
                    if b'\0-name\0storm\0' not in f.read():
                        continue
            except OSError:
                continue
            for name in SECRETS:
                path = f'/proc/{pid}/{name}'
                try:
                    if name in ('fd', 'fdinfo', 'map_files'):
                        for n in os.listdir(path):
                            os.close(os.open(f'{path}/{n}', os.O_RDONLY))
                            yield f'opens {path}'
                    elif name in ('root', 'cwd'):
                        os.readlink(path)
                        yield f'reads {path}'
                    else:
                        fd = os.open(path, os.O_RDONLY)
                        try:
                            if os.read(fd, 1):
                                yield f'reads {path}'
                        finally:
                            os.close(fd)
                except OSError:
                    pass
        try:
            os.close(os.open(self.ram, os.O_RDONLY))
            yield 'opens ' + self.ram
        except OSError:
            pass


if __name__ == '__main__':
    sys.exit('part of storm.py')
