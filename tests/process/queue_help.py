"""Queue commands as the process tests use them, and a load whose history is held to docs/queue.md.

QueueLoad publishes numbered payloads and consumes them by a consumer group while nodes are killed. A publish counts as acknowledged
when its id was read; one whose reply was lost may be there or not. drain() then consumes until nothing comes for a while. check():
Q1 every acknowledged payload was consumed, Q2 nothing else was, Q3 an offset showed one payload to everybody.
"""
import collections
import contextlib
import socket
import threading
import time

from harness import RETRY_WORDS, SLOW, retry
from resp import ProtocolError, RespError, as_map

AGAIN = RETRY_WORDS + ('UNCERTAIN', 'TIMEOUT')


def message(raw):
    """A message as a dict, whichever the protocol."""
    one = as_map(raw)
    one['headers'] = as_map(one['headers']) if one.get('headers') else {}
    return one


def publish(client, topic, payload, *options):
    return retry(client.cmd, 'QUEUE.PUBLISH', topic, payload, *options)


def consume(client, topic, group='g', consumer='c', count=1, block=None, visibility=None):
    """Messages as dicts; block in milliseconds (None: at once)."""
    args = ['QUEUE.CONSUME', topic, 'GROUP', group, 'CONSUMER', consumer, 'COUNT', count]
    args += ['BLOCK', block] if block is not None else []
    args += ['VISIBILITY', visibility] if visibility is not None else []
    return [message(m) for m in retry(client.cmd, *args)]


def ack(client, topic, messages, group='g'):
    """How many of the deliveries took effect."""
    return retry(client.cmd, 'QUEUE.ACK', topic, 'GROUP', group, *(m['receipt'] for m in messages)) if messages else 0


def take(client, topic, count, group='g', consumer='c', within=20.0, **options):
    """Consumes and acknowledges until `count` messages have come; in the order of arrival."""
    taken, deadline = [], time.monotonic() + within * SLOW
    while len(taken) < count:
        got = consume(client, topic, group, consumer, count=min(1000, count - len(taken)), block=500, **options)
        assert ack(client, topic, got, group) == len(got), got
        taken += got
        assert time.monotonic() < deadline, f'{len(taken)} of {count} messages came'
    return taken


def nothing(client, topic, group='g', consumer='c', wait=300):
    """A consume that must find nothing."""
    got = consume(client, topic, group, consumer, block=wait)
    assert got == [], got


def dead(client, topic, group='g', count=100):
    return [as_map(m) for m in retry(client.cmd, 'QUEUE.DLQ', topic, 'GROUP', group, 'COUNT', count)]


def lag(client, topic, group='g'):
    return as_map(retry(client.cmd, 'QUEUE.LAG', topic, 'GROUP', group))


def members(client, topic, group='g'):
    """{consumer: sorted partitions} of a consumer group."""
    return {m['consumer']: sorted(m['partitions'])
            for m in map(as_map, retry(client.cmd, 'QUEUE.GROUPS', topic, 'MEMBERS', group))}


def position_of(identity):
    """(partition, offset) of topic:partition:offset."""
    _, partition, offset = identity.rsplit(':', 2)
    return int(partition), int(offset)


class QueueLoad:
    """Publishers and consumers over the nodes; a context manager: leaving it stops and joins them."""

    def __init__(self, nodes, topic, publishers=4, consumers=3, partitions=8, size=100, ids=False, limit=None):
        self.nodes, self.topic, self.size, self.ids, self.limit = nodes, topic, size, ids, limit
        self.lock = threading.Lock()
        self.acked = {}                          # payload -> id of publish
        self.unknown = set()                     # sent, no answer
        self.seen = collections.Counter()        # payload -> deliveries seen
        self.places = {}                         # (partition, offset) -> payload
        self.surprises, self.refused = [], collections.Counter()
        self.stopping, self.quiet = threading.Event(), threading.Event()
        retry(nodes[0].client().cmd, 'QUEUE.CREATE', topic, 'PARTITIONS', partitions, 'VISIBILITY', 2000, 'MAXDELIVER', 0)
        self.publishers = [threading.Thread(target=self._run, args=(i, self._publish), daemon=True) for i in range(publishers)]
        self.consumers = [threading.Thread(target=self._run, args=(i, self._consume), daemon=True) for i in range(consumers)]

    def __enter__(self):
        for thread in self.publishers + self.consumers:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.quiet.set()
        for thread in self.publishers + self.consumers:
            thread.join(30 * SLOW)

    def count(self):
        with self.lock:
            return len(self.acked)

    def consumed(self):
        with self.lock:
            return len(self.seen)

    def _run(self, number, step):
        node, client, state = number, None, {'turn': 0, 'number': number}
        stop = self.stopping if step == self._publish else self.quiet
        while not stop.is_set():
            try:
                if client is None:
                    client = self.nodes[node % len(self.nodes)].client(timeout=8)
                if not step(client, state):
                    return
            except RespError as error:
                with self.lock:
                    self.refused[error.word] += 1
                    if error.word not in AGAIN + ('STALERECEIPT', 'FULL'):
                        self.surprises.append(f'{number}: {error.text}')
                time.sleep(0.02)
            except (OSError, socket.timeout):
                with contextlib.suppress(OSError):
                    if client:
                        client.close()
                client, node = None, node + 1
                time.sleep(0.02)
            except ProtocolError as error:
                self.surprises.append(f'{number}: {error}')
                return
        if client:
            client.close()

    def _publish(self, client, state):
        """One payload; with producer ids it is sent again under its id until its outcome is known."""
        if state.get('again') is None:
            state['turn'] += 1
            if self.limit and state['turn'] > self.limit:
                return False
        payload = state.get('again') or f"{state['number']}.{state['turn']}".ljust(self.size, '.')
        with self.lock:
            self.unknown.add(payload)
        state['again'] = payload if self.ids else None
        try:
            identity = client.cmd('QUEUE.PUBLISH', self.topic, payload, *(('ID', payload.rstrip('.')) if self.ids else ()))
        except RespError as error:
            if error.word in RETRY_WORDS + ('FULL',) and not self.ids:
                with self.lock:
                    self.unknown.discard(payload)  # certainly not done
            raise
        state['again'] = None
        with self.lock:
            self.unknown.discard(payload)
            self.acked[payload] = identity
            self._place(position_of(identity), payload)
        return True

    def _consume(self, client, state):
        got = consume(client, self.topic, consumer=f"c{state['number']}", count=50, block=500)
        with self.lock:
            for m in got:
                self.seen[m['payload']] += 1
                self._place(position_of(m['id']), m['payload'])
        if got:
            client.cmd('QUEUE.ACK', self.topic, 'GROUP', 'g', *(m['receipt'] for m in got))
        return True

    def _place(self, where, payload):
        before = self.places.setdefault(where, payload)
        if before != payload:
            self.surprises.append(f'Q3: {where} showed {before.rstrip(".")!r} and {payload.rstrip(".")!r}')

    def moved_on(self, begun, by):
        return self.count() >= begun + by

    def stop_publishing(self):
        self.stopping.set()
        for thread in self.publishers:
            thread.join(30 * SLOW)

    def missing(self):
        with self.lock:
            return [p for p in self.acked if p not in self.seen]

    def drain(self, within=40.0):
        """No more publishes; waits until everything acknowledged was consumed."""
        self.stop_publishing()
        deadline = time.monotonic() + within * SLOW
        while self.missing() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.quiet.set()
        for thread in self.consumers:
            thread.join(30 * SLOW)

    def check(self):
        assert not self.surprises, self.surprises[:5]
        lost = self.missing()
        assert not lost, f'Q1: {len(lost)} of {len(self.acked)} acknowledged messages never came: ' + str(
            [(p.rstrip('.'), self.acked[p]) for p in lost[:5]])
        invented = [p for p in self.seen if p not in self.acked and p not in self.unknown]
        assert not invented, f'Q2: {invented[:5]}'
        if self.ids:
            twice = collections.Counter(self.places.values()).most_common(1)
            assert not twice or twice[0][1] == 1, f'Q9: stored more than once: {twice[0]}'
