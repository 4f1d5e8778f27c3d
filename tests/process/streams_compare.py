"""Runs streams_script.py's scenarios against a server and makes replies comparable: ids that a server made get names, times go."""
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile

import harness
from harness import SLOW, Skip, free_port, wait_for
from resp import Client, RespError, encode, text

MADE_ID = re.compile(r'\d{13}-\d+')
TIMES = ('idle', 'inactive', 'seen-time', 'active-time')
KEYS = ('a', 'b', 'bb', 'c', 'd', 'n', 'none', 'new', 'gone')


class Redis:
    """A real Redis server for one test, in memory, on a free port; a context manager."""

    def __init__(self):
        self.program = shutil.which('redis-server') or shutil.which('redis-server', path=os.path.join(harness.ROOT, '.run', 'tools'))
        if not self.program:
            raise Skip('redis-server is not installed')
        version = subprocess.run([self.program, '--version'], capture_output=True, text=True, check=True).stdout
        if ' v=7.0.' not in version:
            raise Skip(f'this compares with Redis 7.0 of Debian 12, here is {version.strip()}')

    def __enter__(self):
        self.port, self.base = free_port(), tempfile.mkdtemp(prefix='synaxis-redis-')
        self.proc = subprocess.Popen([self.program, '--port', str(self.port), '--bind', '127.0.0.1', '--save', '', '--dir', self.base],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=harness._die_with_parent)
        try:
            wait_for('redis-server to answer', self._answers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _answers(self):
        assert self.proc.poll() is None, f'redis-server ended with {self.proc.returncode}'
        with Client(self.port) as client:
            return client.cmd('PING') == 'PONG'

    def __exit__(self, *_):
        self.proc.kill()
        self.proc.wait()
        shutil.rmtree(self.base, ignore_errors=True)


class Replies:
    """One server's replies to the steps of one scenario. Its keys get a prefix of the scenario's own, which replies do not show."""

    def __init__(self, port, proto, prefix):
        self.port, self.proto, self.prefix = port, proto, prefix
        self.clients, self.made = {}, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients.values():
            with contextlib.suppress(OSError):
                client.close()

    def client(self, name=''):
        if name not in self.clients:
            self.clients[name] = Client(self.port, proto=self.proto, timeout=20 * SLOW)
        return self.clients[name]

    def step(self, line):
        """The comparable reply of one step; None of one whose reply is read later."""
        if line.startswith('... '):
            return self.plain(line, self.client(line[4:]).read(20 * SLOW))
        name = ''
        if line.startswith('@'):
            name, line = line[1:].split('& ', 1)
        client = self.client(name)
        client.send(encode(*(self.prefix + w if w in KEYS else w for w in shlex.split(line))))
        return None if name else self.plain(line, client.read(20 * SLOW))

    def plain(self, line, reply):
        """A reply without what is different at every run."""
        if isinstance(reply, RespError):
            return '-' + reply.text.replace(self.prefix, '')
        reply = text(reply)
        if line.upper().startswith('XPENDING') and isinstance(reply, list) and reply and isinstance(reply[0], list):
            reply = [[i, consumer, 'ms' if idle >= 0 else idle, n] for i, consumer, idle, n in reply]
        return self.named(reply)

    def named(self, value, key=None):
        if isinstance(value, dict):
            return {k.replace(self.prefix, ''): self.named(v, k) for k, v in value.items()}
        if isinstance(value, list):
            before = [None, *value]
            return [self.named(v, before[i] if i % 2 and isinstance(before[i], str) else None) for i, v in enumerate(value)]
        if isinstance(value, str) and MADE_ID.fullmatch(value):
            if value not in self.made:
                self.made.append(value)
            return f'id {self.made.index(value) + 1}'
        if key in TIMES and isinstance(value, int) and value >= 0:
            return 'ms'
        return value.replace(self.prefix, '') if isinstance(value, str) else value


def steps_of(script):
    """[(command, names of its known differences, is it to be repeated?)] of a scenario."""
    out = []
    for line in filter(None, (line.strip() for line in script.splitlines())):
        known = ()
        if line.startswith('!'):
            known, line = line[1:].split(' ', 1)
            known = tuple(known.split(','))
        again = line.startswith('~ ')
        out.append((line[2:] if again else line, known, again))
    return out
