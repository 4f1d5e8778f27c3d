"""Starts, watches and ends real Synaxis processes for one test.

A test is a function whose name begins with test_ and that takes nothing. It owns whatever it starts: nodes die with the test's
process (PR_SET_PDEATHSIG and the runner's process group), data directories go when it passes and are kept and named when it fails.
Nothing here sleeps for a result: every wait has a condition and a deadline.
"""
import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from resp import Client, RespError

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.environ.get('SYNAXIS', os.path.join(ROOT, 'build', 'synaxis'))
# Sanitizer builds are several times slower; every deadline is stretched by this, none is a measurement.
SLOW = float(os.environ.get('SYN_TEST_SLOW', '1'))


def _is_sanitized():
    with contextlib.suppress(OSError), open(BINARY, 'rb') as stream:
        return re.search(rb'lib[at]san', stream.read()) is not None
    return False


# Sanitizers put shadow and red zones around everything: bounds on memory are that much wider there.
MEMORY_SLACK = 5 if _is_sanitized() else 1
# For tests of what happens while no leader changes: a busy machine holds a process up for longer than the default of 150 ms.
CALM = {'ELECTION_TIMEOUT_MIN': str(int(1000 * SLOW)), 'ELECTION_TIMEOUT_MAX': str(int(2000 * SLOW))}
BAD_LOG_WORDS = ('AddressSanitizer', 'ThreadSanitizer', 'runtime error:', 'LeakSanitizer', 'invariant broken')
RETRY_WORDS = ('LOADING', 'NOQUORUM', 'TRYAGAIN', 'CLUSTERDOWN', 'BUSY')


class Skip(Exception):
    """Raised by a test that cannot run here; its text says why."""


def wait_for(what, condition, timeout=20.0):
    """Polls condition() until it is true and returns its value; `what` names it when time is up."""
    deadline = time.monotonic() + timeout * SLOW
    last = None
    while time.monotonic() < deadline:
        try:
            value = condition()
            if value:
                return value
        except (OSError, RespError, http.client.HTTPException, ValueError) as error:
            last = error
        time.sleep(0.02)
    raise AssertionError(f'waited {timeout * SLOW:.0f} s for {what}' + (f' (last: {last!r})' if last else ''))


def blocked(node):
    """How many requests of a node's clients are under way: who has only sent one does not wait yet."""
    with node.client() as client:
        return int(re.search(r'blocked_clients:(\d+)', client.cmd('INFO', 'clients'))[1])


def in_time(seconds, step):
    """For what a test must do before some time ends: step(seconds) with twice as many each time, until it took less than that; (seconds, its result).
    A step that took longer shows nothing, whatever came of it. Each must use names of its own."""
    while True:
        begun, failed = time.monotonic(), None
        try:
            result = step(seconds)
        except (AssertionError, RespError, IndexError) as error:
            failed = error
        if time.monotonic() - begun < seconds:
            if failed:
                raise failed
            return seconds, result
        assert seconds < 120, f'the machine never does in time what takes moments (last: {failed!r})'
        seconds *= 2


def expect_error(words, call, *args, **kwargs):
    """call(*args) must answer an error reply whose first word is one of words; returns its text."""
    try:
        reply = call(*args, **kwargs)
    except RespError as error:
        assert error.word in words.split(), f'expected -{words}, got -{error.text}'
        return error.text
    raise AssertionError(f'expected -{words}, got {reply!r}')


# Below the ephemeral range, so that no outgoing connection of the system takes a port between our probe and the bind.
_ports = iter(random.SystemRandom().sample(range(20000, 32000), 4000))
# Byte n of it is locked by the test that took port n, until it ends: its nodes may not listen yet.
_taken = open(os.path.join(tempfile.gettempdir(), 'synaxis-test-ports'), 'ab')


def free_port():
    """A port that nobody listens on and no other test has taken."""
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                fcntl.lockf(_taken, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
                probe.bind(('127.0.0.1', port))
                return port
    raise RuntimeError('no free port')


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Node:
    """One server process and its data directory; start() may be called again after it ended."""

    def __init__(self, name, base, env, wrapper=()):
        self.name = name
        self.data = os.path.join(base, name)
        self.log_path = os.path.join(base, name + '.log')
        self.wrapper = list(wrapper)
        self.host = env.get('NODE_HOST', '127.0.0.1')
        self.resp, self.peer, self.http = (int(env[k]) for k in ('RESP_PORT', 'PEER_PORT', 'NODE_PORT'))
        self.env = {'DATA_DIR': self.data, **env}
        self.proc = None

    def start(self, binary=None):
        env = {k: v for k, v in os.environ.items() if k in ('PATH', 'HOME', 'LD_LIBRARY_PATH') or k.endswith('SAN_OPTIONS')}
        env.update(self.env)
        with open(self.log_path, 'ab') as log:
            self.proc = subprocess.Popen(self.wrapper + [binary or BINARY, 'server'], env=env, stdin=subprocess.DEVNULL, stdout=log,
                                         stderr=log, preexec_fn=_die_with_parent)
        return self

    def signal(self, number):
        self.proc.send_signal(number)

    def kill(self):
        """kill -9, and reaped."""
        if self.proc and self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()

    def terminate(self, timeout=10):
        """SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout=10):
        return self.proc.wait(timeout * SLOW)

    def alive(self):
        return self.proc is not None and self.proc.poll() is None

    def log(self):
        with open(self.log_path, encoding='utf-8', errors='replace') as stream:
            return stream.read()

    def client(self, proto=2, timeout=10.0):
        return Client(self.resp, host=self.host, proto=proto, timeout=timeout * SLOW, password=self.env.get('REQUIREPASS'))

    def metric(self, name):
        """The sum over all labels of what /metrics says of a name, or of names that begin with it."""
        lines = self.request('GET', '/metrics')[1].splitlines()
        return sum(float(line.rsplit(' ', 1)[1]) for line in lines if line.startswith(name))

    def request(self, method, path, body=None, headers=None, timeout=10.0):
        """One HTTP request; (status, parsed JSON or text)."""
        door = http.client.HTTPConnection(self.host, self.http, timeout=timeout * SLOW)
        try:
            raw = json.dumps(body) if isinstance(body, (dict, list)) else body
            sent = dict(headers or {})
            if isinstance(body, (dict, list)):
                sent.setdefault('Content-Type', 'application/json')
            if 'REQUIREPASS' in self.env:
                sent.setdefault('Authorization', f"Bearer {self.env['REQUIREPASS']}")
            door.request(method, path, raw, sent)
            answer = door.getresponse()
            data = answer.read().decode('utf-8', 'replace')
            kind = answer.getheader('Content-Type', '')
            return answer.status, json.loads(data) if 'json' in kind else data
        finally:
            door.close()

    def ready(self):
        return self.alive() and self.request('GET', '/readyz', timeout=2)[0] == 200

    def raft(self):
        return self.request('GET', '/raft/state', timeout=2)[1]

    def refused(self, reason):
        """How often this node refused input for that reason (synaxis_refused_total)."""
        lines = self.request('GET', '/metrics')[1].splitlines()
        return sum(int(line.rsplit(' ', 1)[1]) for line in lines if line.startswith('synaxis_refused_total') and f'reason="{reason}"' in line)

    def memory_kib(self):
        with open(f'/proc/{self.proc.pid}/status', encoding='ascii') as stream:
            return next(int(line.split()[1]) for line in stream if line.startswith('VmRSS'))


class Cluster:
    """n nodes on loopback; a context manager that ends them all."""

    def __init__(self, count=3, env=None, names=None, start=True, per_node=None, **options):
        self.base = tempfile.mkdtemp(prefix='synaxis-test-')
        ids = names or [f'n{i + 1}' for i in range(count)]
        peers = [free_port() for _ in ids]
        listed = options.get('listed') or (lambda name, port: f'{name}@127.0.0.1:{port}')
        members = ','.join(listed(name, port) for name, port in zip(ids, peers))
        self.nodes = []
        for name, peer in zip(ids, peers):
            settings = {'NODE_ID': name, 'CLUSTER_NODES': members, 'RESP_PORT': str(free_port()), 'PEER_PORT': str(peer),
                        'NODE_PORT': str(free_port()), **(env or {}), **((per_node or {}).get(name, {}))}
            self.nodes.append(Node(name, self.base, settings, wrapper=options.get('wrapper', ())))
        if start:
            try:
                self.start()
            except BaseException as error:
                self.__exit__(type(error))
                raise

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        crashed = [n.name for n in self.nodes if n.proc and n.proc.poll() in (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS)]
        for node in self.nodes:
            with contextlib.suppress(Exception):
                node.signal(signal.SIGCONT)
            node.kill()
        if kind is None:
            self.check_logs()
            assert not crashed, f'crashed: {crashed}'
            shutil.rmtree(self.base, ignore_errors=True)
        else:
            for node in self.nodes:
                if os.path.exists(node.log_path):
                    print(f'--- {node.name} log ({node.log_path}), last lines')
                    print('\n'.join(node.log().splitlines()[-15:]))

    def check_logs(self):
        """A failed assertion or a sanitizer's report in any log fails the test even when clients saw nothing."""
        for node in self.nodes:
            if os.path.exists(node.log_path):
                lines = node.log().splitlines()
                for i, line in enumerate(lines):
                    report = '\n'.join(lines[i:i + 30])
                    assert not any(word in line for word in BAD_LOG_WORDS), f'{node.name}: {report}'

    def start(self):
        for node in self.nodes:
            node.start()
        self.wait_ready()

    def wait_ready(self, nodes=None):
        for node in nodes or self.nodes:
            wait_for(f'{node.name} to be ready', lambda node=node: node.ready() or self._must_live(node), 30)

    @staticmethod
    def _must_live(node):
        if node.proc is not None and node.proc.poll() is not None:
            raise AssertionError(f'{node.name} exited with {node.proc.returncode}: {node.log()[-400:]}')
        return False

    def leader(self, among=None):
        """The node that says it leads group 0; waits for one that a majority of the live nodes agrees on."""
        def look():
            states = {}
            for node in among or self.nodes:
                if node.alive():
                    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                        states[node.name] = node.raft()
            for node in self.nodes:
                agreed = [s for s in states.values() if s.get('leader') == node.name]
                if states.get(node.name, {}).get('role') == 'LEADER' and 2 * len(agreed) > len(self.nodes):
                    return node
            return None
        return wait_for('a leader of group 0', look, 20)

    def followers(self):
        leader = self.leader()
        return [n for n in self.nodes if n is not leader]


def retry(call, *args, timeout=15.0, words=RETRY_WORDS):
    """Repeats a command while the answer says that it certainly was not done."""
    deadline = time.monotonic() + timeout * SLOW
    while True:
        try:
            return call(*args)
        except RespError as error:
            if error.word not in words or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def acquire(client, resource, *options, mode='EXCLUSIVE'):
    """LOCK.ACQUIRE as a dict, retried while there is no leader."""
    from resp import as_map
    return as_map(retry(client.cmd, 'LOCK.ACQUIRE', resource, mode, *options))
