"""Counters under load from every node, and the check of what clients saw.

Workers INCR and GET a few keys for ever, each at a node of its own, moving on when its connection breaks. A key that is only counted up tells its whole history by
its values: INCR n comes after INCR n-1, GET n between INCR n and INCR n+1. So a history is linearizable if and only if no operation saw less than one that had
ended before it began, no two INCR the same, and no GET what nobody had begun to write. A lost update, a stale copy and a write done twice each break that.
"""
import collections
import random
import socket
import threading
import time

from harness import RETRY_WORDS, SLOW
from resp import RespError

Op = collections.namedtuple('Op', 'key kind value called returned node')  # value None: an INCR whose end is not known
REFUSALS = RETRY_WORDS + ('UNCERTAIN',)


class Counters:
    """`workers` threads over the nodes of a cluster; a context manager: leaving it stops them and joins them."""

    def __init__(self, nodes, workers=12, keys=6, reads=0.6, pause=0.0):
        self.nodes, self.reads, self.pause = nodes, reads, pause
        self.keys = [f'{{c{i}}}' if i % 2 else f'count:{i}' for i in range(keys)]
        self.ops, self.refused = [[] for _ in range(workers)], collections.Counter()
        self.surprises = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._work, args=(i,), daemon=True) for i in range(workers)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping.set()
        deadline = time.monotonic() + 30 * SLOW
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self.threads):
            self.surprises.append('workers did not end: operations without an answer')

    def _work(self, number):
        dice, at, client = random.Random(number), number, None
        while not self.stopping.is_set():
            node = self.nodes[at % len(self.nodes)]
            try:
                client = client or node.client(timeout=8)
                kind = 'GET' if dice.random() < self.reads else 'INCR'
                self._operate(client, number, kind, dice.choice(self.keys), node.name)
            except (OSError, socket.timeout):
                if client:
                    client.close()
                client, at = None, at + 1
                time.sleep(0.02)
            if self.pause:
                time.sleep(self.pause)

    def _operate(self, client, number, kind, key, node):
        called, ops = time.monotonic(), self.ops[number]
        try:
            reply = client.cmd(kind, key)
        except RespError as error:
            self.refused[error.word] += 1
            if error.word not in REFUSALS:
                self.surprises.append(f'{kind} {key} at {node}: {error.text}')
            if error.word == 'UNCERTAIN' and kind == 'INCR':
                ops.append(Op(key, kind, None, called, None, node))
            time.sleep(0.01)
        except OSError:
            if kind == 'INCR':
                ops.append(Op(key, kind, None, called, None, node))
            raise
        else:
            ops.append(Op(key, kind, int(reply or 0), called, time.monotonic(), node))

    def count(self):
        return sum(len(ops) for ops in self.ops)

    def check(self, client):
        """client: of a node that is asked for what is left."""
        ops = [op for of in self.ops for op in of]
        now = time.monotonic()
        ops += [Op(key, 'GET', int(client.cmd('GET', key) or 0), now, time.monotonic(), 'last') for key in self.keys]
        problems = self.surprises + check(ops)
        unknown = sum(op.value is None for op in ops)
        print(f'history: {len(ops)} operations, {unknown} of them unknown, refused {dict(self.refused)}')
        assert len(ops) > 100, 'nothing was done'
        assert not problems, '\n'.join(problems[:10])


def check(ops):
    """Violations in a history of counters, as sentences."""
    problems = []
    by_key = collections.defaultdict(list)
    for op in ops:
        by_key[op.key].append(op)
    for key, those in by_key.items():
        problems += [f'{key}: {why}' for why in check_counter(those)]
    return problems


def shown(op):
    return f'{op.kind} = {op.value} at {op.node} ({op.called:.4f} to {op.returned:.4f})'


def check_counter(ops):
    """ops: all of one key."""
    problems = []
    known = [op for op in ops if op.value is not None]
    written, unknown = {}, len(ops) - len(known)
    for op in known:
        if op.kind == 'INCR':
            if op.value in written:
                problems.append(f'{shown(op)}, and so is {shown(written[op.value])}: an update is lost')
            written[op.value] = op
    highest = max((op.value for op in known), default=0)
    missing = highest - sum(value <= highest for value in written)
    if missing > unknown:
        problems.append(f'it is {highest}, but only {highest - missing} increments were acknowledged and {unknown} have an unknown end')
    for op in known:
        source = written.get(op.value)
        if op.kind == 'GET' and source and op.returned < source.called:
            problems.append(f'{shown(op)} before {shown(source)} began')
    return problems + check_order(known)


def check_order(known):
    """Nobody sees less than what had ended before he began, nor an INCR the same."""
    problems, seen = [], None
    ended = iter(sorted(known, key=lambda op: op.returned))
    pending = next(ended, None)
    for op in sorted(known, key=lambda op: op.called):
        while pending and pending.returned < op.called:
            seen = pending if seen is None or pending.value > seen.value else seen
            pending = next(ended, None)
        if seen and (op.value < seen.value or op.kind == 'INCR' and op.value == seen.value):
            problems.append(f'{shown(op)} after {shown(seen)} had ended')
    return problems
