"""Clients under faults and the check of what they saw.

A worker takes and releases exclusive locks for ever, moving to another node when its connection breaks, and records every
operation with the instants of its call and its return. check() then holds the record to K1 (no two holds overlap), K2 (tokens
strictly increase along real time), and 'what was acknowledged is there': a release inside the TTL must find its lock.
A worker asks under a new owner name each time, so that an acquire whose reply was lost is an unknown that ends by its TTL.
"""
import collections
import socket
import threading
import time

from harness import RETRY_WORDS, SLOW
from resp import ProtocolError, RespError, as_map

Grant = collections.namedtuple('Grant', 'resource token owner called returned ttl release_called release_returned release')
TTL_MS = 4000


class Load:
    """`workers` threads over the nodes of a cluster; a context manager: leaving it stops them and joins them."""

    def __init__(self, nodes, workers=32, resources=8, wait_ms=3000, hold=0.002, tags=True):
        self.nodes, self.wait_ms, self.hold = nodes, wait_ms, hold
        self.names = [f'{{t{i}}}lock' if tags and i % 2 else f'lock{i}' for i in range(resources)]
        self.grants, self.refused, self.unknown = [], collections.Counter(), 0
        self.surprises = []
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._work, args=(i,), daemon=True) for i in range(workers)]
        self.done = [0] * workers

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.stopping.is_set():
            return
        self.stopping.set()
        deadline = time.monotonic() + 30 * SLOW
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        stuck = sum(thread.is_alive() for thread in self.threads)
        if stuck:
            self.surprises.append(f'{stuck} workers did not end: operations without an answer')

    def _work(self, number):
        node, client, turn = number, None, 0
        while not self.stopping.is_set():
            try:
                if client is None:
                    client = self.nodes[node % len(self.nodes)].client(timeout=8)
                turn += 1
                through = self.nodes[node % len(self.nodes)].name
                self._operate(client, number, self.names[(number + turn) % len(self.names)], f'w{number}.{turn}@{through}')
            except (OSError, socket.timeout):
                if client:
                    client.close()
                client, node = None, node + 1
                time.sleep(0.02)
            except ProtocolError as error:
                self._surprise(f'w{number}: {error}')
                return

    def _surprise(self, text):
        with self.lock:
            self.surprises.append(text)

    def _operate(self, client, number, name, owner):
        called = time.monotonic()
        try:
            reply = as_map(client.cmd('LOCK.ACQUIRE', name, 'EXCLUSIVE', 'OWNER', owner, 'TTL', TTL_MS, 'WAIT', self.wait_ms))
        except RespError as error:
            return self._on_refusal(error)
        except OSError:
            with self.lock:
                self.unknown += 1
            raise
        returned = time.monotonic()
        if (reply['resource'], reply['owner']) != (name, owner):
            self._surprise(f'{owner} asked for {name} and was answered {reply}')
        time.sleep(self.hold)
        release_called = time.monotonic()
        outcome, ended = 'unknown', None
        try:
            outcome = self._release(client, name, reply['lock_id'])
            ended = time.monotonic()
            self.done[number] += 1
        finally:
            with self.lock:
                self.grants.append(Grant(name, int(reply['token']), owner, called, returned, TTL_MS / 1000, release_called, ended, outcome))
        return None

    def _release(self, client, name, lock_id):
        retried = ''
        while True:
            try:
                return client.cmd('LOCK.RELEASE', name, lock_id)
            except RespError as error:
                if error.word not in RETRY_WORDS:
                    return error.text + retried
                retried = f' after {error.word}'
                time.sleep(0.02)

    def _on_refusal(self, error):
        with self.lock:
            self.refused[error.word] += 1
            if error.word not in RETRY_WORDS + ('TIMEOUT', 'LOCKED', 'UNCERTAIN'):
                self.surprises.append(error.text)
        time.sleep(0.01)

    def count(self):
        return sum(self.done)

    def moved_on(self, from_count, by=200):
        """True once `by` more pairs were done: the clients go on."""
        return self.count() >= from_count + by

    def check(self):
        problems = list(self.surprises) + check(self.grants)
        print(f'history: {len(self.grants)} grants, {self.unknown} unknown acquires, refused {dict(self.refused)}')
        assert self.grants, 'no lock was ever granted'
        assert not problems, '\n'.join(problems[:10])


def check(grants):
    """Violations in a history of exclusive grants, as sentences."""
    problems = []
    by_resource = collections.defaultdict(list)
    for grant in grants:
        by_resource[grant.resource].append(grant)
    for name, those in by_resource.items():
        problems += check_resource(name, sorted(those, key=lambda g: g.token))
    for grant in grants:
        inside = grant.release_returned is not None and grant.release_returned < grant.called + grant.ttl
        if grant.release not in (1, 'unknown') and not str(grant.release).startswith('UNCERTAIN') and inside:
            problems.append(f'{grant.resource}: acknowledged token {grant.token} of {grant.owner} was lost inside its TTL: asked after '
                            f'{grant.release_called - grant.called:.3f} s, answered after {grant.release_returned - grant.called:.3f} s: '
                            f'{grant.release}')
    return problems


def check_resource(name, those):
    """those: grants of one resource by token. A hold surely lasts from its reply to its release call or, at least, its TTL."""
    problems = []
    latest = None  # the grant seen so far whose reply came last
    for grant in those:
        if latest and grant.token == latest.token:
            problems.append(f'{name}: token {grant.token} was given to {latest.owner} and to {grant.owner}')
        if latest and grant.returned < latest.called:
            problems.append(f'{name}: token {grant.token} was granted before token {latest.token} was asked for')
        if latest is None or grant.called > latest.called:
            latest = grant
    holds = sorted((g.returned, min(g.release_called, g.called + g.ttl), g) for g in those)
    end, holder = None, None
    for begins, ends, grant in holds:
        if ends <= begins:
            continue  # its reply came when its time may have been over: it surely held for no instant
        if end is not None and begins < end:
            problems.append(f'{name}: {holder.owner} (token {holder.token}) and {grant.owner} (token {grant.token}) hold at once')
        if end is None or ends > end:
            end, holder = ends, grant
    return problems
