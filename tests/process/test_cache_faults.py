"""The cache under kill -9, pauses and cuts: through loses nothing acknowledged, back at most what its owner had not flushed, and nobody serves what is over."""
import signal
import threading
import time

from cache_history import Counters
from harness import CALM, SLOW, Cluster, retry, wait_for
from proxy import ProxiedCluster
from resp import RespError, as_map, encode
from test_cache_coherence import home, settled, states

LEASE = 1000
SHORT = {'CACHE_LEASE': str(LEASE), 'REQUEST_TIMEOUT': '1500'}
SOON = {**SHORT, 'CACHE_WRITE_POLICY': 'back', 'CACHE_FLUSH_INTERVAL': '200'}
NEVER = {**SHORT, 'CACHE_WRITE_POLICY': 'back', 'CACHE_FLUSH_INTERVAL': '600000'}
NOTHING_DONE = ('LOADING', 'NOQUORUM', 'UNCERTAIN', 'CLUSTERDOWN', 'BUSY')


def goes_on(load, what, by=1500):
    begun = load.count()
    wait_for(f'clients to go on after {what}', lambda: load.count() > begun + by, 40)


def finish(cluster, load):
    goes_on(load, 'the last fault')
    load.stop()
    load.check(cluster.nodes[0].client(timeout=20))


def test_cache_kill_9_of_homes_under_load():
    with Cluster(3, env=SHORT) as cluster, Counters(cluster.nodes) as load:
        goes_on(load, 'the start')
        with cluster.nodes[0].client() as client:
            names = {home(client, key) for key in load.keys}
        for node in [n for n in cluster.nodes if n.name in names] + [cluster.leader()]:
            node.kill()
            goes_on(load, f'the end of {node.name}')
            node.start()
            cluster.wait_ready([node])
            goes_on(load, f'the return of {node.name}')
        finish(cluster, load)


def test_cache_kill_9_of_all_nodes_under_load():
    with Cluster(3, env=SHORT) as cluster, Counters(cluster.nodes) as load:
        for turn in range(3):
            goes_on(load, f'start {turn}')
            for node in cluster.nodes:
                node.kill()
            cluster.start()
        finish(cluster, load)


def test_cache_what_was_acknowledged_survives_kill_9_of_all():
    with Cluster(3) as cluster:
        clients = [node.client() for node in cluster.nodes]
        for i in range(300):
            assert clients[i % 3].cmd('SET', f'k{i}', f'v{i}') == 'OK'
        assert clients[0].cmd('EXPIRE', 'k1', 1000) == 1 and clients[1].cmd('RENAME', 'k2', 'k2') == 'OK' and clients[2].cmd('DEL', 'k3') == 1
        for node in cluster.nodes:
            node.kill()
        cluster.start()
        client = cluster.nodes[1].client()
        assert [retry(client.cmd, 'GET', f'k{i}') for i in range(300)] == [None if i == 3 else f'v{i}' for i in range(300)]
        assert 900 < client.cmd('TTL', 'k1') <= 1000


def test_cache_pauses_under_load():
    """Each node is stopped for longer than its lease, with clients at it that go on where they were."""
    with Cluster(3, env=SHORT) as cluster, Counters(cluster.nodes) as load:
        goes_on(load, 'the start')
        for node in cluster.nodes * 2:
            node.signal(signal.SIGSTOP)
            time.sleep(2.5 * LEASE / 1000)  # the fault itself
            node.signal(signal.SIGCONT)
            goes_on(load, f'the pause of {node.name}')
        finish(cluster, load)


def test_cache_short_pauses_under_load():
    """About as long as a lease, when its end here and its end at home are closest."""
    with Cluster(3, env={**SHORT, 'CACHE_LEASE': '300'}) as cluster, Counters(cluster.nodes) as load:
        for turn in range(24):
            node = cluster.nodes[turn % 3]
            node.signal(signal.SIGSTOP)
            time.sleep((0.15, 0.25, 0.3, 0.35, 0.45)[turn % 5])  # the fault itself
            node.signal(signal.SIGCONT)
            goes_on(load, 'a pause', 100)
        finish(cluster, load)


def first_word(reply):
    return reply.word if isinstance(reply, RespError) else reply


def test_cache_a_paused_node_serves_nothing_stale():
    """Its first answers after SIGCONT, to reads that waited in its socket, are current or an error."""
    with Cluster(3, env=SHORT) as cluster:
        clients = settled(cluster)
        keys = [f'k{i}' for i in range(60)]
        for turn in range(6):
            paused, other = cluster.nodes[turn % 3], clients[(turn + 1) % 3]
            for key in keys:
                retry(other.cmd, 'SET', key, f'old {turn}')
                assert retry(clients[turn % 3].cmd, 'GET', key) == f'old {turn}'
            with paused.client(timeout=30) as reader:
                paused.signal(signal.SIGSTOP)
                for key in keys:
                    retry(other.cmd, 'SET', key, f'new {turn}', words=('LOADING', 'NOQUORUM', 'UNCERTAIN'))
                reader.send(b''.join(encode('GET', key) for key in keys))
                paused.signal(signal.SIGCONT)
                seen = [first_word(reader.read(30 * SLOW)) for _ in keys]
            wrong = {key: value for key, value in zip(keys, seen) if value != f'new {turn}'.encode() and value not in NOTHING_DONE}
            assert not wrong, f'turn {turn}: {wrong}'
            wait_for('the node to answer again', lambda turn=turn: clients[turn % 3].cmd('GET', 'k0') == f'new {turn}')


class Reader(threading.Thread):
    """GETs a key at one node for ever, and keeps (called, returned, reply)."""

    def __init__(self, node, key):
        super().__init__(daemon=True)
        self.node, self.key, self.seen, self.stopping = node, key, [], threading.Event()

    def run(self):
        client = self.node.client(timeout=20)
        while not self.stopping.is_set():
            called = time.monotonic()
            client.send(encode('GET', self.key))
            reply = first_word(client.read(20 * SLOW))
            self.seen.append((called, time.monotonic(), reply.decode() if isinstance(reply, bytes) else '-' + str(reply)))
            time.sleep(0.002)

    def stop(self):
        self.stopping.set()
        self.join(20 * SLOW)
        return self.seen


def cut_off(env, write_back):
    """A cut node answers from its lines while its lease lives, then errors; and by then nobody else has been told that the key is written."""
    with ProxiedCluster(3, env) as cluster:
        clients = settled(cluster)
        cut = cluster.nodes[0]
        key = next(k for k in (f'k{i}' for i in range(100)) if home(clients[0], k) != cut.name)
        assert clients[1].cmd('SET', key, 'old') == 'OK' and clients[1].cmd('CACHE.FLUSH') == 'OK'
        assert clients[0].cmd('GET', key) == 'old'
        if write_back:
            assert clients[0].cmd('APPEND', key, '!') == 4 and states(clients[0], key)[0] == 'M'
        reader = Reader(cut, key)
        reader.start()
        wait_for('reads', lambda: len(reader.seen) > 20)
        begun = time.monotonic()
        cluster.proxy.isolate(cut.name)
        retry(clients[1].cmd, 'SET', key, 'new', words=NOTHING_DONE)
        done = time.monotonic()
        wait_for('the cut node to answer errors', lambda: reader.seen[-1][2].startswith('-'), 10)
        wait_for('reads elsewhere', lambda: clients[2].cmd('GET', key) == 'new')
        while time.monotonic() < begun + 4 * LEASE / 1000 * SLOW:
            time.sleep(0.05)  # the fault goes on: it must not begin to answer again
        seen = reader.stop()
        stale = [(round(called - done, 3), reply) for called, _, reply in seen if called > done and not reply.startswith('-')]
        assert not stale, f'old values after the write was acknowledged: {stale[:5]}'
        late = [round(called - begun, 3) for called, _, reply in seen if not reply.startswith('-') and called > begun + (LEASE / 1000 + 0.3) * SLOW]
        assert not late, f'answered without a lease, seconds after the cut: {late[:5]}'
        cluster.proxy.heal()
        wait_for('the cut node to be back', lambda: clients[0].cmd('GET', key) == 'new')
        time.sleep(0.5)  # a late flush would be here by now
        assert [retry(client.cmd, 'GET', key) for client in clients] == ['new'] * 3
        return [as_map(client.cmd('CACHE.STATS')) for client in clients]


def test_cache_a_node_that_is_cut_off():
    cut_off(SHORT, False)


def test_cache_an_owner_that_is_cut_off():
    """Its unflushed write is lost, counted, and never comes back."""
    stats = cut_off(NEVER, True)
    assert stats[0]['lost_writes'] == 1, stats[0]


def test_cache_cuts_under_load():
    with ProxiedCluster(3, SHORT) as cluster, Counters(cluster.nodes) as load:
        goes_on(load, 'the start')
        for turn in range(4):
            cluster.proxy.isolate(cluster.nodes[turn % 3].name, **({'refuse': True} if turn == 3 else {}))
            goes_on(load, 'the cut', 300)
            cluster.proxy.heal()
            goes_on(load, 'the heal', 300)
        finish(cluster, load)


def test_cache_one_broken_pair_under_load():
    with ProxiedCluster(3, SHORT) as cluster, Counters(cluster.nodes) as load:
        goes_on(load, 'the start')
        for one, other in (('n1', 'n2'), ('n2', 'n3')):
            cluster.proxy.set(one, other, hold=True)
            cluster.proxy.set(other, one, hold=True)
            goes_on(load, 'the broken pair', 300)
            cluster.proxy.heal()
            goes_on(load, 'the heal', 300)
        finish(cluster, load)


def test_cache_written_back_survives_its_owner_after_the_interval():
    with Cluster(3, env=SOON) as cluster:
        clients = settled(cluster)
        for i in range(100):
            assert clients[0].cmd('SET', f'k{i}', f'v{i}') == 'OK'
        wait_for('nothing to be dirty', lambda: as_map(clients[0].cmd('CACHE.STATS'))['dirty'] == 0)
        cluster.nodes[0].kill()
        assert [retry(clients[1].cmd, 'GET', f'k{i}', words=NOTHING_DONE) for i in range(100)] == [f'v{i}' for i in range(100)]


def test_cache_written_back_is_flushed_by_its_interval():
    """However often it is written meanwhile, what is CACHE_FLUSH_INTERVAL old is in memory."""
    with Cluster(3, env={**CALM, **SOON}) as cluster:
        clients = settled(cluster)
        written = []
        ends = time.monotonic() + 1 + 1.5 * SLOW
        while time.monotonic() < ends:
            assert clients[0].cmd('INCR', 'k') == len(written) + 1
            written.append(time.monotonic())
        killed = time.monotonic()
        cluster.nodes[0].kill()
        left = int(retry(clients[1].cmd, 'GET', 'k', words=NOTHING_DONE) or 0)
        least = sum(at < killed - 0.2 - 1.0 * SLOW for at in written)
        assert least <= left <= len(written), f'{left} of {len(written)} are left, {least} were older than the interval'


def test_cache_a_clean_shutdown_flushes():
    with Cluster(3, env=NEVER) as cluster:
        clients = settled(cluster)
        for i in range(300):
            assert clients[0].cmd('SET', f'k{i}', f'v{i}') == 'OK'
        assert as_map(clients[0].cmd('CACHE.STATS'))['dirty'] > 0
        assert cluster.nodes[0].terminate() == 0
        assert [retry(clients[1].cmd, 'GET', f'k{i}') for i in range(300)] == [f'v{i}' for i in range(300)]


def test_cache_a_clean_shutdown_of_all_flushes():
    with Cluster(3, env=NEVER) as cluster:
        clients = settled(cluster)
        for i in range(300):
            assert clients[i % 3].cmd('SET', f'k{i}', f'v{i}') == 'OK'
        for node in cluster.nodes:
            node.signal(signal.SIGTERM)
        assert [node.wait() for node in cluster.nodes] == [0, 0, 0]
        cluster.start()
        client = cluster.nodes[2].client()
        assert [retry(client.cmd, 'GET', f'k{i}') for i in range(300)] == [f'v{i}' for i in range(300)]


def test_cache_a_shutdown_without_the_others_ends():
    """Nobody is left to take what is dirty: the bound of a shutdown holds."""
    with Cluster(3, env=NEVER) as cluster:
        clients = settled(cluster)
        assert clients[0].cmd('SET', 'k', 'v') == 'OK'
        for node in cluster.nodes[1:]:
            node.kill()
        assert cluster.nodes[0].terminate() == 0


def test_cache_a_rolling_restart_loses_nothing_written_back():
    with Cluster(3, env=NEVER) as cluster, Counters(cluster.nodes) as load:
        goes_on(load, 'the start')
        for node in cluster.nodes:
            assert node.terminate() == 0
            goes_on(load, f'the end of {node.name}', 500)
            node.start()
            cluster.wait_ready([node])
            goes_on(load, f'the return of {node.name}', 500)
        finish(cluster, load)


def test_cache_writes_that_wait_for_room_end_together():
    """Dirty lines fill the cache and nobody takes them: a pipeline waits for one time-out, not for one a command."""
    with Cluster(3, env={'CACHE_WRITE_POLICY': 'back', 'CACHE_SIZE': '8', 'REQUEST_TIMEOUT': '1000'}) as cluster:
        client = settled(cluster)[0]
        assert client.cmd('SET', 'warm', '1') == 'OK'
        for node in cluster.nodes[1:]:
            node.signal(signal.SIGSTOP)
        client.send(b''.join(encode('SET', f'p{i}', 'v') for i in range(100)))
        replies = [client.read(timeout=20) for _ in range(100)]
        assert sum(str(reply).startswith('BUSY') for reply in replies) > 50, replies
        for node in cluster.nodes[1:]:
            node.signal(signal.SIGCONT)
        wait_for('writes to go on', lambda: retry(client.cmd, 'SET', 'after', '2', timeout=30) == 'OK', 40)
