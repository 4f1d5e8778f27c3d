"""CACHE.LEASE: of all who miss a key one may fill it, the others wait for it or take what it had last; a fill that comes too late is refused."""
import collections
import contextlib
import signal
import threading
import time

from harness import CALM, SLOW, Cluster, expect_error, retry, wait_for
from resp import RespError, as_map, encode
from test_cache_coherence import clients_of, home, settled

THROUGH = CALM
BACK = {**CALM, 'CACHE_WRITE_POLICY': 'back', 'CACHE_FLUSH_INTERVAL': '60000'}
POLICIES = (THROUGH, BACK)
LONG = int(30000 * SLOW)
NOTHING_DONE = ('LOADING', 'NOQUORUM', 'CLUSTERDOWN', 'BUSY')


def lease(client, key, *words):
    return as_map(client.cmd('CACHE.LEASE', key, *words, timeout=60 * SLOW))


def late(client, key, token, value='late'):
    return expect_error('STALEFILL', client.cmd, 'SET', key, value, 'FILL', token)


class Caller:
    """One that waits for its answer."""

    def __init__(self, node, key, *words):
        self.client = node.client(timeout=60 * SLOW)
        self.client.send(encode('CACHE.LEASE', key, *words))

    def answer(self):
        with self.client:
            return as_map(self.client.cmd_reply(60 * SLOW))


def stampede(cluster, callers, fill):
    """So many miss one key at once, over all nodes. What each was told, and how many were told to fill."""
    results, lock = collections.Counter(), threading.Lock()
    values = set()
    gate = threading.Barrier(callers)

    def call(number):
        with cluster.nodes[number % len(cluster.nodes)].client(timeout=60 * SLOW) as client:
            gate.wait()
            try:
                answer = lease(client, 'hot', 'WAIT', LONG)
            except RespError as error:
                answer = {'result': error.text}
            with lock:
                results[answer['result']] += 1
            if answer['result'] == 'fill':
                assert client.cmd('SET', 'hot', fill, 'FILL', answer['token']) == 'OK'
            elif answer['result'] == 'hit':
                with lock:
                    values.add(answer['value'])

    threads = [threading.Thread(target=call, args=(i,)) for i in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, values


def test_lease_of_a_stampede_is_one_fill():
    for env in POLICIES:
        with Cluster(3, env=env) as cluster:
            settled(cluster)
            for turn in range(3):
                results, values = stampede(cluster, 100, f'v{turn}')
                assert results == {'fill': 1, 'hit': 99} and values == {f'v{turn}'}, (env, turn, results, values)
                assert cluster.nodes[turn].client().cmd('DEL', 'hot') == 1


def test_lease_of_a_stampede_where_nodes_have_no_replica():
    """Of five nodes two have no copy of the group: they hear of the fill by the end of their lines alone."""
    with Cluster(5) as cluster:
        settled(cluster)
        for turn in range(5):
            results, values = stampede(cluster, 50, f'v{turn}')
            assert results == {'fill': 1, 'hit': 49} and values == {f'v{turn}'}, (turn, results, values)
            assert cluster.nodes[turn].client().cmd('DEL', 'hot') == 1


def test_lease_says_what_it_says():
    for proto in (2, 3):
        with Cluster(3) as cluster:
            a, b, c = clients_of(cluster, proto)
            right = lease(a, 'k')
            assert right['result'] == 'fill' and right['fill_ms'] == 5000 and right['token'] > 0, right
            held = lease(b, 'k', 'FILL', '100')
            assert held['result'] == 'wait' and 0 < held['wait_ms'] <= 5000, held
            assert lease(c, 'k', 'WAIT', '50')['result'] == 'wait'
            assert a.cmd('SET', 'k', 'v', 'FILL', right['token']) == 'OK'
            for client in (a, b, c):
                hit = lease(client, 'k', 'WAIT', LONG)
                assert hit['result'] == 'hit' and hit['value'] == 'v' and hit['version'] > right['token'], hit
            late(a, 'k', right['token'])
            assert b.cmd('GET', 'k') == 'v'


def test_lease_words_that_are_wrong_are_refused():
    with Cluster(1) as cluster, cluster.nodes[0].client() as client:
        for words in (('k', 'WAIT'), ('k', 'WAIT', '-1'), ('k', 'LATER', '1'), ('k', 'ABANDON', '1', 'WAIT', '1'), ('k', 'FILL', '0'), ('k', 'FILL', '600001')):
            expect_error('ERR', client.cmd, 'CACHE.LEASE', *words)
        expect_error('ERR', client.cmd, 'CACHE.LEASE', 'k' * 1025)
        for words in (('FILL',), ('FILL', 'x'), ('FILL', '1', 'FILL', '2'), ('EX', 'FILL', '1')):
            expect_error('ERR', client.cmd, 'SET', 'k', 'v', *words)
        assert client.cmd('SET', 'k', 'FILL', 'IFNE', 'FILL') == 'OK' and client.cmd('GET', 'k') == 'FILL'


ENDS = {
    'SET': (('SET', 'k', 'theirs'), 'theirs'),
    'SET XX, which finds nothing': (('SET', 'k', 'theirs', 'XX'), None),
    'DEL, which finds nothing': (('DEL', 'k'), None),
    'INCR': (('INCR', 'k'), '1'),
    'COPY onto it': (('COPY', '{k}other', 'k'), 'other'),
    'MSETNX': (('MSETNX', 'k', 'theirs'), 'theirs'),
    'CACHE.INVALIDATE': (('CACHE.INVALIDATE', 'k'), None),
    'FLUSHALL': (('FLUSHALL',), None),
    'ABANDON by its holder': (('CACHE.LEASE', 'k', 'ABANDON', 'token'), None),
}


def test_lease_ends_with_whatever_is_written_to_its_key():
    for env in POLICIES:
        with Cluster(3, env=env) as cluster:
            clients = settled(cluster)
            for turn, (name, (command, left)) in enumerate(ENDS.items()):
                a, b, c = (clients[(turn + i) % 3] for i in range(3))
                a.cmd('FLUSHALL')
                b.cmd('SET', '{k}other', 'other')
                token = lease(a, 'k')['token']
                b.cmd(*(token if word == 'token' else word for word in command))
                assert 'over' in late(a, 'k', token), name
                assert [x.cmd('GET', 'k') for x in (a, b, c)] == [left] * 3, (env, name)


def test_lease_does_not_end_with_what_only_looks():
    for env in POLICIES:
        with Cluster(3, env=env) as cluster:
            a, b, c = settled(cluster)
            token = lease(a, 'k')['token']
            assert [b.cmd('GET', 'k'), c.cmd('EXISTS', 'k'), b.cmd('TTL', 'k'), a.cmd('STRLEN', 'k')] == [None, 0, -2, 0]
            late(b, 'k', token + 1)
            assert b.cmd('CACHE.LEASE', 'k', 'ABANDON', token + 1) == 0
            assert c.cmd('SET', 'k', 'v', 'PX', LONG, 'FILL', token) == 'OK'
            assert a.cmd('GET', 'k') == 'v' and 0 < a.cmd('PTTL', 'k') <= LONG


def test_lease_of_a_dead_filler_goes_to_the_next():
    """Nobody heard of the first filler's end: its time has to pass. It finds out when it comes late; one who waited and left is passed over."""
    for env in POLICIES:
        with Cluster(3, env=env) as cluster:
            filler = cluster.nodes[0].client()
            began = time.monotonic()
            first = lease(filler, 'k', 'FILL', 1000)
            gone = Caller(cluster.nodes[1], 'k', 'WAIT', LONG)
            waiters = [Caller(node, 'k', 'WAIT', LONG) for node in cluster.nodes[1:] for _ in range(3)]
            gone.client.close()
            told = []
            threads = [threading.Thread(target=lambda w=w: told.append((w.answer(), time.monotonic() - began))) for w in waiters]
            for thread in threads:
                thread.start()
            wait_for('somebody to be told to fill', lambda: told)
            (second, after), = told
            assert second['result'] == 'fill' and second['token'] > first['token'] and after > 0.9, told
            late(filler, 'k', first['token'])
            assert filler.cmd('SET', 'k', 'v', 'FILL', second['token']) == 'OK'
            for thread in threads:
                thread.join()
            assert [answer['value'] for answer, _ in told[1:]] == ['v'] * 5, told


def test_lease_given_up_goes_on_at_once():
    for env in POLICIES:
        with Cluster(3, env=env) as cluster:
            a = cluster.nodes[0].client()
            token, took, pace = lease(a, 'k', 'FILL', 600000)['token'], [], []
            for turn in range(7):
                waiter = Caller(cluster.nodes[(turn + 1) % 3], 'k', 'WAIT', LONG, 'FILL', 600000)
                wait_for('it to stand there', lambda: as_map(cluster.nodes[(turn + 1) % 3].client().cmd('CACHE.STATS'))['lease_waiters'] == 1)
                began = time.monotonic()
                assert a.cmd('CACHE.LEASE', 'k', 'ABANDON', token) == 1
                pace.append(time.monotonic() - began)
                given = waiter.answer()
                took.append(time.monotonic() - began)
                assert given['result'] == 'fill' and given['token'] > token, given
                late(a, 'k', token)
                token = given['token']
            assert sorted(took)[3] < 0.4 + 5 * sorted(pace)[3], f'somebody looked once a second, nobody was told: {took}, where giving up takes {pace}'


@contextlib.contextmanager
def others_stopped(cluster, node):
    """The node can propose, and nothing of it is committed meanwhile."""
    others = [n for n in cluster.nodes if n is not node]
    for other in others:
        other.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for other in others:
            other.signal(signal.SIGCONT)


def proposed(node, group):
    return next(g['last_index'] for g in node.raft()['groups'] if g['group'] == group)


def home_of(cluster, key):
    name = home(cluster.nodes[0].client(), key)
    return next(node for node in cluster.nodes if node.name == name)


def test_lease_is_not_given_to_who_is_gone():
    """One asks and hangs up while its entry is on its way: its node gives the right up."""
    with Cluster(3, env=CALM) as cluster:
        settled(cluster)
        node = home_of(cluster, 'k')
        look = node.client()
        group = as_map(look.cmd('CACHE.STATE', 'k'))['group']
        assert look.cmd('GET', 'k') is None
        before, clients = proposed(node, group), 'connected_clients:1\r\n'
        with others_stopped(cluster, node):
            gone = Caller(node, 'k', 'FILL', 600000)
            wait_for('its entry to be in the log', lambda: proposed(node, group) > before)
            gone.client.close()
            wait_for('its node to know', lambda: clients in look.cmd('INFO', 'clients'))
        assert retry(lambda: lease(look, 'k', 'WAIT', LONG))['result'] == 'fill'


def test_lease_that_is_asked_for_has_no_owner_beside_it():
    """Under back an owner writes in its own memory: while a LEASE entry is on its way a reader becomes a sharer."""
    with Cluster(3, env=BACK) as cluster:
        settled(cluster)
        node = home_of(cluster, 'k')
        look = node.client()
        group = as_map(look.cmd('CACHE.STATE', 'k'))['group']
        assert look.cmd('GET', 'k') is None and as_map(look.cmd('CACHE.GET', 'k'))['state'] == 'E'
        before = proposed(node, group)
        with others_stopped(cluster, node):
            asker = Caller(node, 'k')
            wait_for('its entry to be in the log', lambda: proposed(node, group) > before)
            assert as_map(look.cmd('CACHE.GET', 'k'))['state'] == 'S'
        token = asker.answer()['token']
        assert look.cmd('DEL', 'k') == 0
        late(look, 'k', token)


def test_lease_gives_a_stale_copy_with_its_age():
    for env in POLICIES:
        with Cluster(3, env=env) as cluster:
            a, b, c = clients_of(cluster)
            for end in (lambda: b.cmd('DEL', 'k'), lambda: c.cmd('PEXPIRE', 'k', 1)):
                token = lease(a, 'k')['token']
                assert a.cmd('SET', 'k', 'old', 'FILL', token) == 'OK'
                version = lease(b, 'k')['version']
                began = time.monotonic()
                end()
                wait_for('it to go', lambda: c.cmd('GET', 'k') is None)
                token = lease(c, 'k', 'STALE', LONG, 'FILL', 600000)['token']
                for client in (a, b, c):
                    stale = lease(client, 'k', 'STALE', LONG, 'WAIT', LONG)
                    age = (time.monotonic() - began) * 1000
                    assert stale['result'] == 'stale' and stale['value'] == 'old' and 0 <= stale['age_ms'] <= age + 50 * SLOW, (stale, age)
                    assert env is BACK or stale['version'] >= version
                wait_for('it to be too old', lambda: lease(a, 'k', 'STALE', 200)['result'] == 'wait')
                assert a.cmd('GET', 'k') is None and lease(b, 'k')['result'] == 'wait'
                assert c.cmd('SET', 'k', 'new', 'FILL', token) == 'OK' and b.cmd('GET', 'k') == 'new'
                assert a.cmd('DEL', 'k') == 1


def test_lease_outlives_the_home_and_stays_one():
    """The home dies while somebody has the right and others wait: the right still holds, and nobody else is given one before it ends."""
    for env in POLICIES:
        with Cluster(3, env={**env, 'CACHE_LEASE': '1000'}) as cluster:
            settled(cluster)
            name = home(cluster.nodes[0].client(), 'k')
            a, b = (node for node in cluster.nodes if node.name != name)
            token = lease(a.client(), 'k', 'FILL', 600000)['token']
            waiters = [Caller(node, 'k', 'WAIT', LONG) for node in (a, b)]
            next(node for node in cluster.nodes if node.name == name).kill()
            held = retry(lambda: lease(b.client(), 'k'), timeout=30)
            assert held['result'] == 'wait' and held['wait_ms'] > 500000, held
            assert retry(lambda: a.client().cmd('SET', 'k', 'v', 'FILL', token), timeout=30) == 'OK'
            assert [waiter.answer()['value'] for waiter in waiters] == ['v'] * 2


def test_lease_survives_a_restart_of_all_nodes():
    with Cluster(3) as cluster:
        token = lease(cluster.nodes[0].client(), 'k', 'FILL', 600000)['token']
        for node in cluster.nodes:
            node.kill()
        cluster.start()
        cluster.wait_ready()
        client = cluster.nodes[1].client()
        assert retry(lambda: lease(client, 'k'))['result'] == 'wait'
        assert client.cmd('SET', 'k', 'v', 'FILL', token) == 'OK' and lease(client, 'k')['value'] == 'v'
