"""The synaxis command line against live nodes: status, lock acquire, list, graph, release, run; JSON and exit codes."""
import json
import os
import signal
import subprocess

from harness import BINARY, CALM, SLOW, Cluster, acquire, wait_for
from resp import as_map
from test_cache_coherence import LONG


def environment(cluster, node=0):
    """The command line finds a cluster by the same settings as a server: host and ports of one node, or flags."""
    one = cluster.nodes[node]
    return {'PATH': os.environ['PATH'], 'RESP_PORT': str(one.resp), 'NODE_PORT': str(one.http), 'HOME': cluster.base,
            **{k: v for k, v in os.environ.items() if k.endswith('SAN_OPTIONS')}}


def synaxis(cluster, *words, node=0, timeout=30):
    return subprocess.run([BINARY, *[str(w) for w in words]], capture_output=True, text=True, timeout=timeout * SLOW, check=False,
                          env=environment(cluster, node), stdin=subprocess.DEVNULL)


def test_version_and_help():
    with Cluster(1, start=False) as cluster:
        for words in (['--version'], ['--help'], ['server', '--help'], ['lock', '--help'], ['status', '--help']):
            done = synaxis(cluster, *words)
            assert done.returncode == 0 and done.stdout, (words, done)


def test_status_of_a_cluster():
    with Cluster(3) as cluster:
        done = synaxis(cluster, 'status')
        assert done.returncode == 0, done
        assert all(n.name in done.stdout for n in cluster.nodes) and 'leader' in done.stdout.lower(), done.stdout
        parsed = json.loads(synaxis(cluster, 'status', '--json').stdout)
        assert 'n1' in json.dumps(parsed)


def test_status_without_a_server():
    with Cluster(1, start=False) as cluster:
        done = synaxis(cluster, 'status')
        assert done.returncode not in (0, 2) and done.stderr, done


def test_lock_acquire_list_graph_release():
    with Cluster(3) as cluster:
        taken = json.loads(synaxis(cluster, 'lock', 'acquire', 'cli', '--json').stdout)
        assert {'lock_id', 'token'} <= set(taken), taken
        again = synaxis(cluster, 'lock', 'acquire', 'cli', node=1)
        assert again.returncode == 4, f'exit code 4 says: not acquired; got {again}'
        assert 'cli' in synaxis(cluster, 'lock', 'list').stdout
        assert synaxis(cluster, 'lock', 'graph').returncode == 0
        assert synaxis(cluster, 'lock', 'release', 'cli', taken['lock_id']).returncode == 0
        assert synaxis(cluster, 'lock', 'release', 'cli', taken['lock_id']).returncode != 0


def test_lock_run_holds_while_the_command_runs():
    with Cluster(3) as cluster:
        client = cluster.nodes[1].client(timeout=30)
        child = subprocess.Popen([BINARY, 'lock', 'run', 'job', '--', 'sh', '-c', 'echo token=$SYNAXIS_TOKEN; read line; exit 7'],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(cluster))
        line = child.stdout.readline().strip()
        assert line.startswith('token=') and int(line[6:]) > 0, line
        assert client.cmd('LOCK.CHECK', 'job', line[6:]) == 1
        assert 'job' in str(client.cmd('LOCK.LIST'))
        child.communicate('go\n', timeout=20 * SLOW)
        assert child.returncode == 7, 'the exit code is the command\'s'
        acquire(client, 'job', 'OWNER', 'next', 'WAIT', 20000)


def renewals(client, resource, count):
    """Waits until the holder has renewed its lock so often: the time that is left has grown."""
    left, seen = [], 0
    while seen < count:
        def longer():
            holders = as_map(client.cmd('LOCK.INFO', resource))['holders']
            assert holders, f'{resource} was lost while the command ran'
            left.append(as_map(holders[0])['ttl_ms'])
            return len(left) > 1 and left[-1] > left[-2]
        wait_for('a renewal', longer, 40)
        seen += 1


def test_lock_run_renews_beyond_the_ttl():
    """A renewal comes at a quarter of the TTL: when the fifth is there, the first TTL is over."""
    with Cluster(3, env=CALM) as cluster:
        child = subprocess.Popen([BINARY, 'lock', 'run', '--ttl', '6000', 'long', '--', 'sh', '-c', 'echo up; read line'],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(cluster))
        assert child.stdout.readline().strip() == 'up'
        renewals(cluster.nodes[1].client(), 'long', 5)
        child.communicate('go\n', timeout=20 * SLOW)
        assert child.returncode == 0


def test_lock_run_ends_the_command_when_the_lock_is_lost():
    with Cluster(3) as cluster:
        child = subprocess.Popen([BINARY, 'lock', 'run', '--ttl', '6000', 'torn', '--', 'sh', '-c', 'echo up; exec sleep 60'],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(cluster))
        assert child.stdout.readline().strip() == 'up'
        cluster.nodes[1].client().cmd('LOCK.FORCE', 'torn', 'REASON', 'test')
        assert child.wait(20 * SLOW) != 0
        assert 'torn' in child.stderr.read()


def test_lock_run_passes_signals_on_and_releases():
    with Cluster(1) as cluster:
        child = subprocess.Popen([BINARY, 'lock', 'run', 'sig', '--', 'sh', '-c', 'echo up; exec sleep 60'],
                                 stdout=subprocess.PIPE, text=True, env=environment(cluster))
        assert child.stdout.readline().strip() == 'up'
        child.send_signal(signal.SIGTERM)
        child.wait(10 * SLOW)
        client = cluster.nodes[0].client()
        wait_for('the lock to be free', lambda: 'sig' not in str(client.cmd('LOCK.LIST')))


def test_lock_run_survives_a_change_of_leader():
    with Cluster(3) as cluster:
        leader = cluster.leader()
        follower = next(i for i, node in enumerate(cluster.nodes) if node is not leader)
        child = subprocess.Popen([BINARY, 'lock', 'run', '--ttl', '10000', 'kept', '--', 'sh', '-c', 'echo up; read line; echo done'],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(cluster, follower))
        assert child.stdout.readline().strip() == 'up'
        leader.kill()
        with cluster.nodes[follower].client() as client:
            wait_for('the next leader', lambda: client.cmd('LOCK.INFO', 'kept'))
            renewals(client, 'kept', 1)
        out, _ = child.communicate('go\n', timeout=30 * SLOW)
        assert child.returncode == 0 and 'done' in out, (child.returncode, out)


def test_a_short_bench_prints_json():
    with Cluster(1) as cluster:
        done = synaxis(cluster, 'bench', 'lock', '--seconds', '1', '--connections', '4', '--json', timeout=60)
        assert done.returncode == 0, done
        assert json.loads(done.stdout), done.stdout


def test_cache_by_the_command_line():
    """Values through pipes unchanged, a table of who has the key, and exit codes."""
    with Cluster(3, env=LONG) as cluster:
        value = bytes(range(256)) * 40 + b'\n'
        done = subprocess.run([BINARY, 'cache', 'set', 'blob', '-'], input=value, capture_output=True, check=False, env=environment(cluster), timeout=30 * SLOW)
        assert (done.returncode, done.stdout) == (0, b'OK\n'), done
        done = subprocess.run([BINARY, 'cache', 'get', 'blob'], capture_output=True, check=False, env=environment(cluster, 1), timeout=30 * SLOW)
        assert done.returncode == 0 and done.stdout == value
        state = synaxis(cluster, 'cache', 'state', 'blob', node=2)
        assert state.returncode == 0 and 'home' in state.stdout and 'epoch' in state.stdout and 'VERSION' in state.stdout, state
        rows = {row['node']: row['state'] for row in json.loads(synaxis(cluster, 'cache', 'state', 'blob', '--json').stdout)['nodes']}
        assert sorted(rows) == ['n1', 'n2', 'n3'] and rows['n2'] in 'SE', rows
        assert int(synaxis(cluster, 'cache', 'invalidate', 'blob').stdout) >= 1
        assert json.loads(synaxis(cluster, 'cache', 'get', 'blob', '--json').stdout)['value']['encoding'] == 'base64'
        assert json.loads(synaxis(cluster, 'cache', 'stats', '--json').stdout)['misses'] >= 1
        assert 'misses' in synaxis(cluster, 'cache', 'stats').stdout
        assert synaxis(cluster, 'cache', 'get', 'none').returncode == 6
        assert synaxis(cluster, 'cache', 'set', 'blob', 'x', '--nx').returncode == 1
        assert synaxis(cluster, 'cache', 'set', 'short', 'x', '--ttl', '300ms').returncode == 0
        wait_for('the key to go', lambda: synaxis(cluster, 'cache', 'get', 'short').returncode == 6)
        assert synaxis(cluster, 'cache', 'del', 'blob', 'none').stdout == '1\n'
        big = subprocess.run([BINARY, 'cache', 'set', 'big', '-'], input=b'x' * (1024 * 1024 + 1), capture_output=True, check=False, env=environment(cluster),
                             timeout=30 * SLOW)
        assert big.returncode == 2 and b'at most 1048576 bytes' in big.stderr, big


def test_a_short_bench_of_the_cache_prints_json():
    with Cluster(3) as cluster:
        nodes = ','.join(f'127.0.0.1:{node.resp}' for node in cluster.nodes)
        done = synaxis(cluster, 'bench', 'cache', 'mixed', '--reads', 70, '--zipf', '0.99', '--keys', 500, '--preload', '-c', 6, '-P', 4, '-s', 1, '--warmup', 0,
                       '--nodes', nodes, '--json')
        assert done.returncode == 0, done
        result = json.loads(done.stdout)
        assert result['preloaded'] == 500 and result['absent'] == 0 and result['errors'] == {}, result
        assert result['operations'] == result['get_us']['count'] + result['set_us']['count'] > 0, result
