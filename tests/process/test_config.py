"""Bad settings stop the start with one line that names the setting and what it accepts; exit code 2 (I44, H1)."""
import shutil
import subprocess

from harness import BINARY, SLOW, Cluster, acquire, wait_for


def refuses(names, **env):
    """One line on stderr naming every word of names, exit code 2, at once. A value of None unsets a setting."""
    with Cluster(1, start=False) as cluster:
        node = cluster.nodes[0]
        node.env.update({k: v for k, v in env.items() if v is not None})
        for name in [k for k, v in env.items() if v is None]:
            node.env.pop(name, None)
        node.start()
        code = node.wait(10)
        log = node.log().strip()
        assert code == 2, f'{env}: exit code {code}: {log[-300:]}'
        assert len(log.splitlines()) == 1, f'{env}: more than one line: {log}'
        for name in names.split():
            assert name in log, f'{env}: {name!r} not in {log!r}'


def test_ports_that_are_none():
    for name in ('RESP_PORT', 'PEER_PORT', 'NODE_PORT'):
        for value in ('-1', '65536', 'http', '80.5', '0x50', '99999999999999999999'):
            refuses(name, **{name: value})


def test_two_doors_on_one_port():
    refuses('PORT', RESP_PORT='20001', NODE_PORT='20001')


def test_times_that_cannot_work():
    for name in ('ELECTION_TIMEOUT_MIN', 'HEARTBEAT_INTERVAL', 'LOCK_TTL'):
        for value in ('0', '-5', 'soon', '1e3', '99999999999999999999'):
            refuses(name, **{name: value})
    refuses('ELECTION_TIMEOUT', ELECTION_TIMEOUT_MIN='500', ELECTION_TIMEOUT_MAX='400')
    refuses('HEARTBEAT_INTERVAL', HEARTBEAT_INTERVAL='1000', ELECTION_TIMEOUT_MIN='300', ELECTION_TIMEOUT_MAX='600')


def test_words_that_are_not_choices():
    for name in ('CONSENSUS_TYPE', 'STATE_STORE', 'NODE_TYPE', 'LOG_LEVEL', 'LOG_FORMAT', 'CACHE_WRITE_POLICY'):
        refuses(name, **{name: 'sideways'})


def test_node_names_that_are_paths():
    for value in ('../n1', 'a/b', 'a b', 'x' * 300, 'n\x1b[1m'):
        refuses('NODE_ID', NODE_ID=value)


def test_a_node_that_is_not_in_the_list():
    refuses('NODE_ID', NODE_ID='n9', CLUSTER_NODES='n1@127.0.0.1:20101,n2@127.0.0.1:20102,n3@127.0.0.1:20103')


def test_lists_of_nodes_that_are_none():
    for value in ('n1', 'n1@', 'n1@host', 'n1@127.0.0.1:0', 'n1@127.0.0.1:70000', 'n1@127.0.0.1:20101,', ',',
                  'n1@127.0.0.1:20101,n1@127.0.0.1:20102', 'n1@127.0.0.1:20101,n2@127.0.0.1:20101'):
        refuses('CLUSTER_NODES', CLUSTER_NODES=value)


def test_pbft_with_a_number_of_nodes_that_is_not_3f_plus_1():
    five = ','.join(f'n{i}@127.0.0.1:{20100 + i}' for i in range(1, 6))
    refuses('CONSENSUS_TYPE', CONSENSUS_TYPE='pbft', CLUSTER_NODES=five)


def test_counts_out_of_range():
    for name, values in {'GROUPS': ('-1', '100000', 'x'), 'REPLICATION_FACTOR': ('0', '-3', 'x'), 'VIRTUAL_NODES': ('0', 'x')}.items():
        for value in values:
            refuses(name, **{name: value})


def test_a_redis_url_without_the_redis_store_or_the_reverse():
    refuses('REDIS_URL', STATE_STORE='redis', REDIS_URL=None)


def test_an_unknown_flag_and_an_unknown_command():
    for words in (['server', '--no-such-flag'], ['server', '--resp-port'], ['no-such-command']):
        done = subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=10 * SLOW, check=False, env={})
        assert done.returncode == 2, (words, done)
        assert words[-1].strip('-') in done.stderr, (words, done.stderr)


def test_open_to_the_world_needs_a_password():
    """A node that listens beyond loopback without REQUIREPASS and PEER_SECRET is refused: safe by default."""
    refuses('REQUIREPASS', NODE_HOST='0.0.0.0')


def test_settings_have_a_page_of_help():
    done = subprocess.run([BINARY, 'server', '--help'], capture_output=True, text=True, timeout=10 * SLOW, check=False)
    assert done.returncode == 0
    for name in ('NODE_ID', 'CLUSTER_NODES', 'RESP_PORT', 'PEER_PORT', 'NODE_PORT', 'DATA_DIR', 'ELECTION_TIMEOUT_MIN', 'LOCK_TTL'):
        assert name in done.stdout, name


def names_groups(nodes):
    return any('its GROUPS, CONSENSUS_TYPE, VIRTUAL_NODES, CACHE_LEASE or CACHE_WRITE_POLICY differ' in n.log() for n in nodes)


def test_a_node_that_disagrees_about_the_cluster_does_not_join():
    """H1, H2: a node with another GROUPS is refused by its peers, says why, and the others go on."""
    with Cluster(3) as cluster:
        *others, odd = cluster.nodes
        odd.kill()
        shutil.rmtree(odd.data)
        odd.env['GROUPS'] = '3'
        odd.start()
        wait_for('the reason in its log', lambda: names_groups([odd]))
        cluster.wait_ready(others)
        acquire(others[0].client(), 'on', 'OWNER', 'a')
        assert odd.request('GET', '/readyz')[0] == 503


def test_what_a_cluster_is_made_with_stays():
    """What one grants all rely on: a node whose CACHE_LEASE, CACHE_WRITE_POLICY or ring is another does not begin with its old data."""
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        for name, value in (('CACHE_LEASE', '300'), ('CACHE_WRITE_POLICY', 'back'), ('VIRTUAL_NODES', '50')):
            before = dict(node.env)
            node.kill()
            node.env[name] = value
            node.start()
            wait_for('it to refuse', lambda: node.proc.poll() is not None)
            assert node.proc.poll() == 65 and name in node.log().splitlines()[-1], node.log()
            node.env = before
        node.start()
        cluster.wait_ready()


def test_a_new_cluster_whose_nodes_disagree_waits():
    """It begins when all its nodes are there; until then it says what it waits for, and the correction is enough."""
    with Cluster(3, start=False) as cluster:
        odd = cluster.nodes[2]
        odd.env['GROUPS'] = '3'
        for node in cluster.nodes:
            node.start()
        wait_for('the reason in a log', lambda: names_groups(cluster.nodes))
        assert all(n.request('GET', '/readyz')[0] == 503 for n in cluster.nodes)
        odd.kill()
        shutil.rmtree(odd.data)
        del odd.env['GROUPS']
        odd.start()
        cluster.wait_ready()
