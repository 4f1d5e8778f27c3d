"""Coherence over nodes: what is written at one is read at all, the states of a line by CACHE.STATE, CACHE.INVALIDATE, and who is evicted."""
import signal
import threading
import time

from cache_history import Counters, Op, check
from harness import CALM, Cluster, wait_for
from resp import RespError, as_map, encode

BACK = {**CALM, 'CACHE_WRITE_POLICY': 'back', 'CACHE_FLUSH_INTERVAL': '60000', 'CACHE_LEASE': '60000'}
LONG = {**CALM, 'CACHE_LEASE': '60000'}


def states(client, key):
    """The state of a key's line at each node, as 'ESI' for n1, n2, n3."""
    def asked():
        rows = [as_map(row) for row in as_map(client.cmd('CACHE.STATE', key))['nodes']]
        seen = [row['state'] for row in sorted(rows, key=lambda row: row['node'])]
        return 'unknown' not in seen and ''.join(seen)  # who is slow to answer is asked again
    return wait_for(f'all nodes to say what they have of {key}', asked)


def home(client, key):
    return as_map(client.cmd('CACHE.STATE', key))['home']


def clients_of(cluster, proto=2):
    return [node.client(proto) for node in cluster.nodes]


def settled(cluster):
    """Every group is led where the ring wants it, which else comes about seconds after the start: no home moves under a test's feet. Returns clients_of."""
    clients = clients_of(cluster)

    def in_place():
        rows = [group for node in cluster.nodes for group in node.raft()['groups'] if group['replicas']]
        away = {(row['group'], row['replicas'][0]['id']) for row in rows if row['leader'] != row['replicas'][0]['id']}
        for group, place in away:
            clients[0].cmd('CLUSTER.TRANSFER', group, place)
        return not away
    wait_for('leaderships to go to their places', in_place)
    for i in range(40):
        wait_for('homes to serve', lambda key=f'k{i}': as_map(clients[0].cmd('CACHE.STATE', key))['directory'] != 'unknown')
    return clients


def written_here_read_everywhere(env, rounds):
    with Cluster(3, env={**CALM, **env}) as cluster:
        clients = clients_of(cluster)
        for i in range(rounds):
            key, value = f'k{i % 7}', f'v{i}'
            assert clients[i % 3].cmd('SET', key, value) == 'OK'
            for client in clients:
                client.send(encode('GET', key))
            seen = [client.cmd_reply() for client in clients]
            assert seen == [value] * 3, f'round {i}: {key} is {value} by n{i % 3 + 1}, read {seen}'
            if i % 10 == 0:
                assert clients[(i + 1) % 3].cmd('DEL', key) == 1
                assert [client.cmd('EXISTS', key) for client in clients] == [0, 0, 0]
        assert 'CACHE_SIZE' in env or sum(as_map(client.cmd('CACHE.STATS'))['invalidated'] for client in clients) > rounds


def test_cache_written_at_one_node_is_read_at_all():
    written_here_read_everywhere({}, 3000)


def test_cache_written_back_at_one_node_is_read_at_all():
    written_here_read_everywhere({'CACHE_WRITE_POLICY': 'back', 'CACHE_FLUSH_INTERVAL': '100'}, 3000)


def test_cache_written_with_few_lines_is_read_at_all():
    written_here_read_everywhere({'CACHE_WRITE_POLICY': 'back', 'CACHE_SIZE': '3'}, 1500)


def read_while_written(env):
    """One writes 1, 2, 3, ...; whoever reads meanwhile, at any node, sees at least what was acknowledged before, and at most what was begun."""
    with Cluster(3, env={**CALM, **env}) as cluster:
        state = {'begun': 0, 'done': 0}
        wrong, counts, stopping = [], [0] * 6, threading.Event()

        def read(number):
            client = cluster.nodes[number % 3].client()
            while not stopping.is_set() and not wrong:
                least = state['done']
                value = int(client.cmd('GET', 'k') or 0)
                if not least <= value <= state['begun']:
                    wrong.append(f'n{number % 3 + 1} said {value} after {least} was acknowledged, {state["begun"]} begun')
                counts[number] += 1
        threads = [threading.Thread(target=read, args=(i,), daemon=True) for i in range(6)]
        for thread in threads:
            thread.start()
        clients = clients_of(cluster)
        for i in range(1, 50001):
            if i > 2500 and min(counts) > 300:
                break
            state['begun'] = i
            assert clients[i // 50 % 3].cmd('SET', 'k', i) == 'OK'
            state['done'] = i
        stopping.set()
        for thread in threads:
            thread.join(10)
        assert not wrong, wrong[0]
        assert min(counts) > 300, counts


def test_cache_read_while_written():
    read_while_written({})


def test_cache_read_while_written_back():
    read_while_written({'CACHE_WRITE_POLICY': 'back', 'CACHE_FLUSH_INTERVAL': '50'})


def counted(env, operations=12000):
    with Cluster(3, env={**CALM, **env}) as cluster:
        with Counters(cluster.nodes) as load:
            wait_for('operations', lambda: load.count() > operations, 60)
        load.check(cluster.nodes[0].client())
        assert not load.refused, load.refused


def test_cache_counters_over_all_nodes():
    counted({})


def test_cache_counters_over_all_nodes_back():
    counted({'CACHE_WRITE_POLICY': 'back'})


def test_cache_counters_with_one_line():
    """Every operation evicts."""
    counted({'CACHE_WRITE_POLICY': 'back', 'CACHE_SIZE': '1'}, 6000)


def op(kind, value, called, returned):
    return Op('k', kind, value, called, returned, 'n1')


def test_cache_checker_catches_what_it_is_for():
    good = [op('INCR', 1, 0, 1), op('GET', 1, 0.5, 2), op('GET', 0, 0, 0.6), op('INCR', 2, 2, 3), op('GET', 1, 2.1, 2.2), op('GET', 2, 2.1, 2.3), op('GET', 2, 4, 5)]
    assert check(good) == []
    for bad, word in ((op('GET', 1, 4, 5), 'after'), (op('INCR', 2, 4, 5), 'lost'), (op('GET', 2, 1.2, 1.3), 'began'), (op('GET', 3, 4, 5), 'acknowledged'),
                      (op('GET', 1, 2.25, 9), None), (op('INCR', 3, 0, 0.5), 'after')):
        problems = check(good + [bad])
        assert any(word in why for why in problems) if word else not problems, (bad, problems)
    assert check(good + [op('INCR', None, 3, None), op('GET', 3, 4, 5)]) == [], 'an increment with an unknown end may be done'


def test_cache_states_of_a_line():
    """E for the first, S for both, I for all others after a write."""
    with Cluster(3, env=LONG) as cluster:
        clients = settled(cluster)
        for i in range(12):
            key = f'k{i}'
            one, two, three = clients[i % 3], clients[(i + 1) % 3], clients[(i + 2) % 3]
            place = [(i + n) % 3 for n in range(3)]

            def seen(of, key=key, one=one, place=place):
                row = states(one, key)
                assert ''.join(row[at] for at in place) == of, f'{key}, home {home(one, key)}: {row}, expected {of} from n{place[0] + 1} on'
            seen('III')
            assert one.cmd('GET', key) is None, 'absence is cached, too'
            seen('EII')
            assert two.cmd('GET', key) is None
            seen('SSI')
            assert three.cmd('GET', key) is None
            seen('SSS')
            assert three.cmd('SET', key, 'v') == 'OK'
            seen('IIE')
            assert one.cmd('GET', key) == 'v'
            seen('SIS')
            assert two.cmd('GET', key) == 'v'
            seen('SSS')
            assert one.cmd('APPEND', key, 'w') == 2
            seen('EII')
            assert one.cmd('SET', key, 'x') == 'OK'
            seen('EII')
            assert two.cmd('DEL', key) == 1
            seen('III')
            assert two.cmd('GET', key) is None
            seen('IEI')


def test_cache_states_of_a_line_written_back():
    """M for the writer, S for both when the other reads, M again by BusUpgr."""
    with Cluster(3, env=BACK) as cluster:
        clients = settled(cluster)
        for i in range(12):
            key = f'k{i}'
            one, two, three = (clients[(i + n) % 3] for n in range(3))
            place = [(i + n) % 3 for n in range(3)]

            def seen(of, key=key, one=one, place=place):
                wait_for(f'{key} to be {of} from n{place[0] + 1} on, home {home(one, key)}', lambda: ''.join(states(one, key)[at] for at in place) == of)
            assert one.cmd('SET', key, 'v') == 'OK'
            seen('MII')
            assert one.cmd('APPEND', key, 'w') == 2
            seen('MII')
            assert two.cmd('GET', key) == 'vw'
            seen('SSI')
            assert one.cmd('APPEND', key, 'x') == 3
            seen('MII')
            assert two.cmd('APPEND', key, 'y') == 4
            seen('IMI')
            assert three.cmd('GET', key) == 'vwxy' and one.cmd('GET', key) == 'vwxy'
            seen('SSS')
        assert one.cmd('CACHE.FLUSH') == 'OK'
        stats = [as_map(client.cmd('CACHE.STATS')) for client in clients]
        assert all(s['bus_upgr'] > 0 and s['bus_rdx'] > 0 and s['flushes'] > 0 and s['lost_writes'] == 0 for s in stats), stats


def test_cache_invalidate():
    with Cluster(3, env=LONG) as cluster:
        clients = settled(cluster)
        clients[0].cmd('SET', 'k', 'v')
        assert [client.cmd('GET', 'k') for client in clients] == ['v'] * 3 and states(clients[0], 'k') == 'SSS'
        assert clients[1].cmd('CACHE.INVALIDATE', 'k') == 3
        assert states(clients[2], 'k') == 'III' and clients[1].cmd('CACHE.INVALIDATE', 'k') == 0
        assert clients[2].cmd('GET', 'k') == 'v', 'memory still has it'
        misses = as_map(clients[2].cmd('CACHE.STATS'))['misses']
        for _ in range(100):
            assert clients[2].cmd('GET', 'k') == 'v'
        assert as_map(clients[2].cmd('CACHE.STATS'))['misses'] == misses


def test_cache_invalidate_loses_nothing_dirty():
    with Cluster(3, env=BACK) as cluster:
        clients = settled(cluster)
        assert clients[0].cmd('SET', 'k', 'v') == 'OK' and states(clients[0], 'k') == 'MII'
        assert clients[1].cmd('CACHE.INVALIDATE', 'k') == 1
        assert [client.cmd('GET', 'k') for client in clients] == ['v'] * 3


def test_cache_back_commands_over_several_keys_beside_writers():
    """Six clients at three nodes keep writing a key: the commands that want it have it nevertheless."""
    with Cluster(3, env={**CALM, 'CACHE_WRITE_POLICY': 'back'}) as cluster:
        clients = settled(cluster)
        wrong, counts, stopping = [], [0] * 6, threading.Event()

        def write(number):
            client = cluster.nodes[number % 3].client()
            while not stopping.is_set():
                try:
                    client.cmd('SET', '{k}', f'v{number}')
                    counts[number] += 1
                except RespError as error:
                    wrong.append(error)
                    return
        threads = [threading.Thread(target=write, args=(i,), daemon=True) for i in range(6)]
        for thread in threads:
            thread.start()
        wait_for('all to write', lambda: wrong or min(counts) > 50)
        for i in range(20):
            client, before = clients[i % 3], min(counts)
            wait_for('the key to be written again', lambda: client.cmd('EXISTS', '{k}') == 1)
            assert client.cmd('COPY', '{k}', '{k}copy', 'REPLACE') in (0, 1)
            assert client.cmd('MSETNX', '{k}', 'v', '{k}copy', 'v') in (0, 1)
            wait_for('a RENAME that finds the key', lambda: renamed(client))
            assert clients[(i + 1) % 3].cmd('GET', '{k}renamed')[:1] == 'v'
            wait_for('all to write', lambda: wrong or min(counts) > before)
        stopping.set()
        for thread in threads:
            thread.join(10)
        assert not wrong, wrong[0]


def test_cache_back_a_command_whose_key_is_not_given_up_says_so():
    """The owner of the key is stopped, under a lease that does not end."""
    with Cluster(3, env={**BACK, 'REQUEST_TIMEOUT': '1500'}) as cluster:
        one, two, three = settled(cluster)
        key = next(key for key in (f'{{k{i}}}' for i in range(100)) if home(one, key) == 'n1')
        assert three.cmd('SET', key, 'v') == 'OK' and states(one, key) == 'IIM'
        cluster.nodes[2].signal(signal.SIGSTOP)
        try:
            said = one.cmd('RENAME', key, f'{key}x')
        except RespError as error:
            said = str(error)
        cluster.nodes[2].signal(signal.SIGCONT)
        assert said.startswith('BUSY ') and 'own' in said, said
        assert wait_for('the key to be given up', lambda: two.cmd('RENAME', key, f'{key}x')) == 'OK' and three.cmd('GET', f'{key}x') == 'v'


def renamed(client):
    try:
        return client.cmd('RENAME', '{k}', '{k}renamed') == 'OK'
    except RespError as error: # it was renamed a moment before
        if 'no such key' not in str(error):
            raise AssertionError(str(error)) from error
        return False


def lines_of(client, keys, at):
    return [key for key in keys if states(client, key)[at] != 'I']


def test_cache_evicts_the_least_recently_used():
    """One client, room for eight lines: what is there is what was used last, exactly."""
    with Cluster(3, env={**LONG, 'CACHE_SIZE': '8', 'CACHE_POLICY': 'lru'}) as cluster:
        client, other = settled(cluster)[0], cluster.nodes[1].client()
        keys = [f'k{i}' for i in range(24)]
        used = []

        def use(*words):
            client.cmd(*words)
            if words[1] in used:
                used.remove(words[1])
            used.append(words[1])
        for key in keys: # a lease of every group comes with its first read
            use('GET', key)
        for turn in range(60):
            use(*(('GET', keys[turn * 7 % 24]), ('SET', keys[turn * 5 % 24], 'w'), ('STRLEN', keys[turn * 11 % 24]), ('GET', keys[turn % 5]))[turn % 4])
            there = lines_of(other, keys, 0)
            assert sorted(there) == sorted(used[-8:]), f'turn {turn}: {sorted(there)}, used last {used[-8:]}'
        stats = as_map(client.cmd('CACHE.STATS'))
        assert stats['lines'] == 8 and stats['evicted'] > 20, stats


def test_cache_evicts_dirty_lines_to_memory():
    with Cluster(3, env={**BACK, 'CACHE_SIZE': '8'}) as cluster:
        clients = settled(cluster)
        for i in range(500):
            assert clients[0].cmd('SET', f'k{i}', f'v{i}') == 'OK'
        stats = as_map(clients[0].cmd('CACHE.STATS'))
        assert stats['lines'] <= 16 and stats['flushes'] >= 480 and stats['lost_writes'] == 0, stats
        clients[0].send(b''.join(encode('SET', f'p{i}', f'v{i}') for i in range(2000)))
        assert {clients[0].read() for _ in range(2000)} == {b'OK'}
        stats = as_map(clients[0].cmd('CACHE.STATS'))
        assert stats['lines'] <= 17 and stats['lost_writes'] == 0, stats
        assert clients[1].cmd('GET', 'p1999') == 'v1999'
        for i in range(500):
            assert clients[1 + i % 2].cmd('GET', f'k{i}') == f'v{i}'


def test_cache_read_where_there_is_no_replica():
    """Of five nodes each has some groups only; it knows whom to ask for the others as soon as they are led."""
    for _ in range(3):
        with Cluster(5) as cluster:
            clients = settled(cluster)

            def read_all(name):
                began = time.monotonic()
                assert [[client.cmd('GET', f'{name}{i}') for i in range(20)] for client in clients] == [[None] * 20] * 5
                return time.monotonic() - began
            first, again = read_all('k'), read_all('other')
            assert first < 2.5 + 5 * again, f'somebody waited to hear of a leader: {first:.2f} s, then {again:.2f} s'
