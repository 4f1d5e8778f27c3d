"""CACHE.STATE: lines, directory and memory of a key agree; nodes that are dead or stopped are named so, and not waited for longer than need be."""
import signal

from harness import Cluster, wait_for
from resp import as_map
from test_cache_coherence import LONG, settled


def state(client, key):
    reply = as_map(client.cmd('CACHE.STATE', key))
    reply['lines'] = {as_map(row)['node']: as_map(row) for row in reply.pop('nodes')}
    return reply


def known(client, key, nodes=('n1', 'n2', 'n3'), with_home=True):
    """The state when all of these have answered in time, and the home: on a busy machine they may be late."""
    def asked():
        reply = state(client, key)
        answered = all(reply['lines'][name]['state'] != 'unknown' for name in nodes)
        return answered and (reply['directory'] != 'unknown' or not with_home) and reply
    return wait_for(f'{", ".join(nodes)} to answer', asked)


def check(reply, directory, owner, sharers, lines):
    """lines: those that are not I; each has memory's version."""
    assert (reply['directory'], reply['owner'], sorted(reply['sharers'])) == (directory, owner, sorted(sharers)), reply
    assert {name: row['state'] for name, row in reply['lines'].items() if row['state'] != 'I'} == lines, reply
    assert all(reply['lines'][name]['version'] == reply['version'] for name in lines), reply


def test_cache_state_has_lines_directory_and_memory():
    with Cluster(3, env=LONG) as cluster:
        clients = settled(cluster)
        for i in range(6):
            key = f'k{i}'
            check(known(clients[0], key), 'I', None, [], {})
            assert known(clients[0], key)['exists'] == 0 and known(clients[0], key)['version'] == 0
            clients[0].cmd('GET', key)
            check(known(clients[1], key), 'O', 'n1', [], {'n1': 'E'})
            clients[1].cmd('GET', key)
            check(known(clients[2], key), 'S', None, ['n1', 'n2'], {'n1': 'S', 'n2': 'S'})
            clients[2].cmd('GET', key)
            clients[2].cmd('SET', key, 'v')
            reply = known(clients[0], key)
            check(reply, 'O', 'n3', [], {'n3': 'E'})
            assert reply['exists'] == 1 and reply['version'] > 0 and reply['epoch'] > 0 and reply['home'] in ('n1', 'n2', 'n3')
            clients[0].cmd('DEL', key)
            assert known(clients[1], key)['exists'] == 0


def test_cache_state_does_not_wait_for_a_dead_node():
    """Of whom has no link, or loses it while it is asked, that is said; 'unknown' is who was waited for in vain."""
    with Cluster(3) as cluster:
        clients = settled(cluster)
        clients[1].cmd('SET', 'k', 'v')
        cluster.nodes[2].kill()
        for i in range(20):
            for client in clients[:2]:
                rows = known(client, f'k{i}', ('n1', 'n2'), False)['lines']
                assert rows['n3']['state'] == 'unreachable', rows
                assert client.cmd('CACHE.INVALIDATE', f'none{i}') == 0
        wait_for('a home for every key', lambda: all(state(clients[0], f'k{i}')['directory'] != 'unknown' for i in range(20)))
        assert state(clients[0], 'k')['exists'] == 1


def test_cache_state_of_a_stopped_node_is_unknown():
    """Its link stands at first: it is asked, and waited for a little."""
    with Cluster(3, env={'ELECTION_TIMEOUT_MIN': '2000', 'ELECTION_TIMEOUT_MAX': '2500'}) as cluster:
        clients = settled(cluster)
        key = next(key for key in (f'k{i}' for i in range(100)) if state(clients[0], key)['home'] == 'n1')
        cluster.nodes[2].signal(signal.SIGSTOP)

        def seen():
            reply = state(clients[0], key)
            return [reply['lines'][name]['state'] for name in ('n1', 'n2', 'n3')] + [reply['directory']]
        wait_for('n3 to be asked in vain, and the others to answer', lambda: seen() == ['I', 'I', 'unknown', 'I'], 10)
        wait_for('the silent link to be closed', lambda: state(clients[0], key)['lines']['n3']['state'] == 'unreachable', 60)
        cluster.nodes[2].signal(signal.SIGCONT)
        wait_for('it to be back', lambda: state(clients[0], key)['lines']['n3']['state'] == 'I')
