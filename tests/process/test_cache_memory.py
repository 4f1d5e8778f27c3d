"""CACHE_MEMORY: a group that is full refuses what would grow, at every node and through changes of leader, and takes everything else; room that is made is found."""
from harness import CALM, Cluster, expect_error, retry, wait_for
from resp import RespError, as_map
from test_cache_coherence import clients_of, settled

OOM = "OOM command not allowed when used memory > 'maxmemory'."
GROUPS = 4
SMALL = {**CALM, 'GROUPS': str(GROUPS), 'CACHE_MEMORY': '1mb', 'CACHE_LEASE': '500'}
VALUE = 'x' * 10000


def refused(client, *command):
    text = expect_error('OOM', client.cmd, *command)
    assert text == OOM, text


def fill(client, tag):
    """Keys of one group until it is full: how many there are."""
    for i in range(1000):
        try:
            retry(client.cmd, 'SET', f'{{{tag}}}{i}', VALUE)
        except RespError as error:
            assert error.text == OOM, error.text
            return i
    raise AssertionError('a small memory was never full')


def test_cache_memory_is_bounded():
    with Cluster(3, env=SMALL) as cluster:
        clients = settled(cluster)
        part = int(as_map(clients[0].cmd('CONFIG', 'GET', 'maxmemory'))['maxmemory']) // GROUPS
        count = fill(clients[0], 't')
        assert part * 0.8 < count * len(VALUE) < part, f'{count} values of {len(VALUE)} bytes in {part}'
        for i, client in enumerate(clients):
            for command in (('SET', '{t}new', VALUE), ('APPEND', '{t}0', VALUE), ('SETRANGE', '{t}1', 20000, 'y'), ('MSETNX', '{t}m', VALUE, '{t}n', VALUE)):
                refused(client, *command)
            seen = len(client.cmd('GET', '{t}0')), client.cmd('STRLEN', '{t}1'), client.cmd('EXISTS', '{t}new')
            assert seen == (len(VALUE), len(VALUE), 0), f'n{i + 1}: {seen}'
            assert client.cmd('SET', f'{{t}}{i}', VALUE.upper()) == 'OK', 'one that is as large as before'
            assert client.cmd('SET', f'{{t}}{i}', VALUE) == 'OK'
        assert clients[1].cmd('SET', 'elsewhere', 'small') == 'OK', 'each group has its own part'
        assert clients[1].cmd('DEL', '{t}0', '{t}1') == 2
        assert clients[2].cmd('SET', '{t}new', VALUE) == 'OK' and clients[0].cmd('SET', '{t}0', VALUE) == 'OK'
        refused(clients[1], 'SET', '{t}1', VALUE)
        assert clients[2].cmd('PEXPIRE', '{t}2', 1) == 1
        wait_for('room after an expiry', lambda: retry_full(clients[0], '{t}1'))
        assert clients[0].cmd('FLUSHALL') == 'OK' and fill(clients[1], 't') == count, 'as many as the first time'
        for client in clients:
            stats = as_map(client.cmd('CACHE.STATS'))
            assert 0 < stats['memory_bytes'] <= stats['memory_bound'] == part * GROUPS


def retry_full(client, key):
    """True once the key could be set; it is full until then."""
    try:
        return retry(client.cmd, 'SET', key, VALUE) == 'OK'
    except RespError as error:
        assert error.text == OOM, error.text
        return False


def test_cache_memory_follows_the_leader():
    """Told different bounds, all replicas refuse by one: that of the group's leader, which is in the log and outlives restarts."""
    told = {'n1': 1 << 20, 'n2': 2 << 20, 'n3': 4 << 20}
    with Cluster(3, env=SMALL, per_node={name: {'CACHE_MEMORY': str(size)} for name, size in told.items()}) as cluster:
        clients = settled(cluster)
        group = as_map(clients[0].cmd('CACHE.STATE', '{t}0'))['group']

        def by_one_bound():
            leaders = {row['group']: row['leader'] for row in cluster.nodes[0].raft()['groups']}
            stats = [as_map(client.cmd('CACHE.STATS')) for client in clients]
            wanted = sum(told.get(leaders[g], 0) // GROUPS for g in range(GROUPS))
            return all(s['memory_bound'] == wanted and s['memory_bytes'] == stats[0]['memory_bytes'] for s in stats)

        def lead(name):
            wait_for(f'{name} to lead', lambda: as_map(clients[0].cmd('CACHE.STATE', '{t}0'))['home'] == name or
                     not clients[0].cmd('CLUSTER.TRANSFER', group, name))
            wait_for('all replicas to have the same bound and the same keys', by_one_bound)

        lead('n1')
        few = fill(clients[1], 't')
        lead('n3')
        many = fill(clients[0], 't')
        assert 3.5 * few < many < 4.5 * few, f'{few}, then {many}'
        lead('n2')
        refused(clients[2], 'SET', '{t}new', '1')
        assert clients[2].cmd('GET', f'{{t}}{many - 1}') == VALUE and clients[1].cmd('SET', '{t}0', 'shorter') == 'OK'
        for node in cluster.nodes:
            node.kill()
        cluster.start()
        clients = clients_of(cluster)
        lead('n2')
        refused(clients[0], 'SET', '{t}new', '1')
        assert clients[1].cmd('GET', '{t}0') == 'shorter' and clients[1].cmd('GET', '{t}1') == VALUE
        for i in range(1, many):
            assert clients[i % 3].cmd('DEL', f'{{t}}{i}') == 1
        assert clients[0].cmd('SET', '{t}new', '1') == 'OK'
