"""What the cache counts: /metrics moves by exactly what happened, INFO, CACHE.STATS and /stats say the same, and no count ever falls."""
import re

from harness import Cluster, retry, wait_for
from resp import as_map
from test_cache_coherence import BACK, LONG, clients_of, settled, states

SAMPLE = re.compile(r'^synaxis_cache_(\w+)\{node_id="n\d+"(?:,\w+="(\w+)")?\} (\d+)$', re.M)


def counts(node):
    """Every cache sample of a node: 'hits_total' or 'lines S' -> value."""
    return {f'{name} {label}' if label else name: int(value) for name, label, value in SAMPLE.findall(node.request('GET', '/metrics')[1])}


def moved(before, after):
    return {name: after[name] - value for name, value in before.items() if after[name] != value}


class Watch:
    """The counts of all nodes, looked at after each step."""
    SELF = re.compile(r'(hits|misses|bus_transactions|invalidations|downgrades|flushes|writes_lost|evictions)_total|lines')

    def __init__(self, cluster):
        self.nodes = cluster.nodes
        self.last = [counts(node) for node in self.nodes]

    def step(self):
        """What each node's own lines did since the last look; what it did as a home or a replica is left out."""
        now = [counts(node) for node in self.nodes]
        steps = [{n: d for n, d in moved(a, b).items() if self.SELF.match(n)} for a, b in zip(self.last, now)]
        self.last = now
        return steps


def test_cache_metrics_count_what_happened():
    """One key through I, E, S, M and back, by one client at a time."""
    with Cluster(3, env=BACK) as cluster:
        clients = settled(cluster)
        for client in clients:
            assert client.cmd('GET', '{k}lease') is None
        watch = Watch(cluster)
        read = {'misses_total': 1, 'bus_transactions_total BusRd': 1}

        def expect(what, *nodes):
            steps = watch.step()
            assert steps == list(nodes), f'{what}: {steps}, expected {list(nodes)}'
        clients[0].cmd('GET', '{k}')
        expect('the first reader owns', {**read, 'lines E': 1}, {}, {})
        clients[1].cmd('GET', '{k}')
        expect('the second shares', {'downgrades_total': 1, 'lines E': -1, 'lines S': 1}, {**read, 'lines S': 1}, {})
        for _ in range(7):
            clients[1].cmd('GET', '{k}')
        expect('hits', {}, {'hits_total': 7}, {})
        clients[2].cmd('SET', '{k}', 'v')
        gone = {'invalidations_total': 1, 'lines S': -1}
        expect('a writer invalidates', gone, gone, {'bus_transactions_total BusRdX': 1, 'lines M': 1})
        clients[2].cmd('APPEND', '{k}', 'w')
        expect('a write to an owned line is nobody else\'s affair', {}, {}, {})
        assert clients[0].cmd('GET', '{k}') == 'vw'
        wait_for('the flush', lambda: states(clients[0], '{k}') == 'SIS')
        expect('a dirty line is flushed for a reader', {**read, 'lines S': 1}, {},
               {'downgrades_total': 1, 'flushes_total': 1, 'bus_transactions_total Flush': 1, 'lines M': -1, 'lines S': 1})
        clients[2].cmd('SET', '{k}', 'x')
        expect('an upgrade', gone, {}, {'bus_transactions_total BusUpgr': 1, 'lines S': -1, 'lines M': 1})
        for node in range(3):
            total = watch.last[node]
            assert total['writes_lost_total'] == total['evictions_total'] == 0
        kinds = ('BusRd', 'BusRdX', 'BusUpgr', 'Flush')
        asked, served = ({kind: sum(c[f'{name}_transactions_total {kind}'] for c in watch.last) for kind in kinds} for name in ('bus', 'served'))
        assert all(served[kind] >= asked[kind] > 0 for kind in kinds), (asked, served)


def test_cache_metrics_of_writes_through():
    with Cluster(3, env=LONG) as cluster:
        clients = settled(cluster)
        for client in clients:
            client.cmd('GET', '{k}lease')
        watch = Watch(cluster)
        for value in range(5):
            clients[1].cmd('SET', '{k}', value)
        assert watch.step() == [{}, {'bus_transactions_total write': 5, 'lines E': 1}, {}]
        clients[0].cmd('GET', '{k}')
        watch.step()
        clients[1].cmd('SET', '{k}', 'once more')
        gone = {'invalidations_total': 1, 'lines S': -1}
        assert watch.step() == [gone, {'bus_transactions_total write': 1, 'lines S': -1, 'lines E': 1}, {}]


def test_cache_hits_and_misses_are_all_reads():
    with Cluster(1, env={'CACHE_SIZE': '50', **LONG}) as cluster, cluster.nodes[0].client() as client:
        before = counts(cluster.nodes[0])
        for i in range(400):
            client.cmd('SET', f'k{i % 80}', i)
            client.cmd('GET', f'k{(i * 7) % 80}')
            client.cmd('STRLEN', f'k{(i * 3) % 80}')
        client.cmd('MGET', *[f'k{i}' for i in range(80)])
        by = moved(before, counts(cluster.nodes[0]))
        assert by['hits_total'] + by['misses_total'] == 880, by
        assert by['hits_total'] > 0 and by['misses_total'] > 0 and by['evictions_total'] > 0, by
        assert by['memory_keys'] == 80, by


def test_cache_counts_are_the_same_everywhere():
    """/metrics, CACHE.STATS, INFO and /stats."""
    with Cluster(3, env=BACK) as cluster:
        clients = clients_of(cluster)
        for i in range(200):
            clients[i % 3].cmd('SET', f'k{i % 20}', i)
            assert clients[(i + 1) % 3].cmd('GET', f'k{i % 20}') == clients[(i + 1) % 3].cmd('GET', f'k{i % 20}') == str(i)
        for node, client in zip(cluster.nodes, clients):
            stats = as_map(client.cmd('CACHE.STATS'))
            info = dict(line.split(':', 1) for line in client.cmd('INFO').split('\r\n') if ':' in line)
            page, web = counts(node), node.request('GET', '/stats')[1]
            for name in ('hits', 'misses'):
                assert stats[name] == int(info[f'keyspace_{name}']) == int(info[f'cache_{name}']) == page[f'{name}_total'] == web[name] > 0, name
            assert stats['evicted'] == int(info['evicted_keys']) == page['evictions_total'] == web['evictions']
            assert stats['memory_expired'] == int(info['expired_keys']) == page['memory_expired_total']
            assert stats['flushes'] == int(info['cache_flushes']) == page['flushes_total'] == web['flushes'] > 0
            assert stats['invalidated'] == page['invalidations_total'] == web['invalidations'] > 0
            assert stats['lines'] == sum(v for k, v in page.items() if k.startswith('lines ')) == web['cache_size'] == int(info['cache_lines'])
            assert stats['bytes'] == page['bytes'] == web['cache_bytes']
            assert 'cache_lines' in client.cmd('INFO', 'cache') and 'cache_lines' not in client.cmd('INFO', 'server')


def test_cache_counters_never_fall():
    """A home ends with its leadership; what it has counted stays."""
    with Cluster(3) as cluster:
        clients = settled(cluster)
        for i in range(300):
            clients[i % 3].cmd('SET', f'k{i % 30}', i)
            clients[(i + 1) % 3].cmd('GET', f'k{i % 30}')
        before = [counts(node) for node in cluster.nodes]
        group = as_map(clients[0].cmd('CACHE.STATE', 'k0'))
        here = int(group['home'][1:]) - 1
        there = cluster.nodes[(here + 1) % 3]
        assert before[here]['served_transactions_total BusRd'] > 0 and before[here]['directory_keys'] > 0
        for _ in range(2):
            retry(clients[0].cmd, 'CLUSTER.TRANSFER', group['group'], there.name)
        wait_for('another home', lambda: as_map(clients[0].cmd('CACHE.STATE', 'k0'))['home'] != group['home'])
        for old, node in zip(before, cluster.nodes):
            fallen = {name: by for name, by in moved(old, counts(node)).items() if name.split(' ')[0].endswith('_total') and by < 0}
            assert not fallen, f'{node.name}: {fallen}'


def test_cache_lines_of_an_ended_lease_are_not_counted_as_readable():
    with Cluster(1, env={'CACHE_LEASE': '400'}) as cluster, cluster.nodes[0].client() as client:
        for i in range(50):
            client.cmd('SET', f'k{i}', i)
        everything = [f'k{i}' for i in range(50)]
        node = cluster.nodes[0]
        wait_for('all to be read under one lease', lambda: client.cmd('MGET', *everything) and counts(node)['lines E'] == 50)
        wait_for('leases that nobody needs to end', lambda: counts(node)['lines I'] == 50)
        now = counts(node)
        assert now['lines E'] == now['lines S'] == 0 and now['lease_expiries_total'] > 0, now
        assert client.cmd('MGET', *everything) == [str(i) for i in range(50)]

        def readable():
            client.cmd('MGET', *everything)
            now = counts(node)
            return now['lines E'] == 50 and now['lines I'] == 0
        wait_for('all to be readable again', readable)


def test_cache_metrics_of_tracking():
    with Cluster(1) as cluster, cluster.nodes[0].client(proto=3) as reader, cluster.nodes[0].client() as writer:
        reader.cmd('CLIENT', 'TRACKING', 'ON')
        reader.cmd('MGET', 'a', 'b')
        now = counts(cluster.nodes[0])
        assert (now['tracking_clients'], now['tracking_keys']) == (1, 2), now
        writer.cmd('SET', 'a', '1')
        assert counts(cluster.nodes[0])['tracking_keys'] == 1
        reader.cmd('CLIENT', 'TRACKING', 'OFF')
        now = counts(cluster.nodes[0])
        assert (now['tracking_clients'], now['tracking_keys']) == (0, 0), now
