"""The HTTP door: probes, state, locks by JSON, metrics that promtool accepts."""
import os
import shutil
import subprocess

from harness import ROOT, Cluster, SLOW, Skip, acquire, wait_for


def take(node, resource, client='c', kind='exclusive', **more):
    return node.request('POST', '/lock/acquire', {'resource_id': resource, 'lock_type': kind, 'client_id': client, **more})


def test_probes_of_a_healthy_node():
    with Cluster(3) as cluster:
        for node in cluster.nodes:
            for path in ('/livez', '/readyz', '/readyz?verbose', '/health'):
                status, body = node.request('GET', path)
                assert status == 200, (path, status, body)


def test_livez_holds_and_readyz_falls_without_a_majority():
    with Cluster(3) as cluster:
        survivor = cluster.nodes[0]
        for node in cluster.nodes[1:]:
            node.kill()
        wait_for('readyz to fall', lambda: survivor.request('GET', '/readyz')[0] == 503, 20)
        assert survivor.request('GET', '/livez')[0] == 200
        assert survivor.request('GET', '/health')[0] == 503


def test_raft_state_agrees_over_the_cluster():
    with Cluster(3) as cluster:
        leader = cluster.leader()
        states = [node.raft() for node in cluster.nodes]
        assert {s['leader'] for s in states} == {leader.name}
        assert sorted(s['role'] for s in states) == ['FOLLOWER', 'FOLLOWER', 'LEADER']
        for node, state in zip(cluster.nodes, states):
            assert state['node_id'] == node.name
            assert {'term', 'commit_index', 'groups'} <= set(state), state


def test_a_lock_by_json():
    with Cluster(3) as cluster:
        a, b, _ = cluster.nodes
        status, held = take(a, 'json', ttl=30)
        assert status == 200 and {'lock_id', 'fencing_token', 'expires_at'} <= set(held), held
        assert isinstance(held['fencing_token'], str), 'tokens are 64 bits and go as strings'
        status, refused = take(b, 'json', 'other')
        assert status == 409 and {'error', 'code'} <= set(refused), refused
        status, state = b.request('GET', '/lock/json')
        assert status == 200 and state['state'] == 'EXCLUSIVE' and state['exclusive_owner'] == 'c', state
        assert state['fencing_token'] == held['fencing_token']
        assert b.request('POST', '/lock/release', {'lock_id': held['lock_id']})[0] == 200
        assert a.request('GET', '/lock/json')[1]['state'] == 'FREE'


def test_a_wait_by_json_ends_with_408():
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        take(node, 'w', ttl=30)
        assert take(node, 'w', 'other', timeout=0.2)[0] == 408
        assert take(node, 'w', 'other', wait_ms=200)[0] == 408


def test_a_body_of_any_content_type():
    """curl -d sends its JSON as a form; other clients send no type at all."""
    body = '{"resource_id":"%d","lock_type":"exclusive","client_id":"c"}'
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        for i, kind in enumerate((None, '', 'application/x-www-form-urlencoded', 'text/plain', 'application/json; charset=utf-8')):
            status, held = node.request('POST', '/lock/acquire', body % i, {} if kind is None else {'Content-Type': kind})
            assert status == 200 and held['resource_id'] == str(i), (kind, status, held)


def test_shared_holders_are_listed():
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        take(node, 's', 'one', 'shared', ttl=30)
        take(node, 's', 'two', 'shared', ttl=30)
        state = node.request('GET', '/lock/s')[1]
        assert state['state'] == 'SHARED' and sorted(state['shared_owners']) == ['one', 'two'], state


def test_no_quorum_is_503():
    with Cluster(3, env={'REQUEST_TIMEOUT': '500'}) as cluster:
        for node in cluster.nodes[1:]:
            node.kill()
        wait_for('a refusal', lambda: take(cluster.nodes[0], 'x')[0] == 503, 20)


def test_lists_and_graph():
    with Cluster(3) as cluster:
        client = cluster.nodes[0].client()
        acquire(client, 'listed', 'OWNER', 'a', 'TTL', 60000)
        status, locks = cluster.nodes[1].request('GET', '/locks')
        assert status == 200 and 'listed' in str(locks), locks
        assert cluster.nodes[2].request('GET', '/locks/graph')[0] == 200
        status, members = cluster.nodes[2].request('GET', '/cluster')
        assert status == 200 and all(n.name in str(members) for n in cluster.nodes), members


def test_unknown_paths_and_methods():
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        assert node.request('GET', '/nothing')[0] == 404
        assert node.request('DELETE', '/lock/acquire')[0] in (404, 405)
        assert node.request('POST', '/lock/acquire', 'not json', {'Content-Type': 'application/json'})[0] == 400
        assert node.request('POST', '/lock/acquire', {'lock_type': 'exclusive'})[0] == 400
        assert node.ready()


def promtool():
    for tool in (shutil.which('promtool'), os.path.join(ROOT, '.run', 'tools', 'promtool')):
        if tool and os.access(tool, os.X_OK):
            return tool
    raise Skip('promtool is not installed (tools/setup.sh test)')


def test_metrics_are_accepted_by_promtool():
    tool = promtool()
    with Cluster(3) as cluster:
        acquire(cluster.nodes[0].client(), 'counted', 'OWNER', 'a"b\\c\n', 'TTL', 60000)
        for node in cluster.nodes:
            status, page = node.request('GET', '/metrics')
            assert status == 200
            done = subprocess.run([tool, 'check', 'metrics'], input=page, text=True, capture_output=True, timeout=60 * SLOW, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


def test_metrics_follow_what_happens():
    def value(name):
        return cluster.leader().metric(name)
    with Cluster(3) as cluster:
        before = value('synaxis_requests_total')
        acquire(cluster.leader().client(), 'm1', 'OWNER', 'a', 'TTL', 60000)
        wait_for('a held lock', lambda: value('synaxis_active_locks') >= 1)
        assert value('synaxis_requests_total') > before
        assert value('synaxis_consensus_term') >= 1
        assert value('synaxis_cluster_nodes_alive') == 3
        for name in ('peer_frames_in_total', 'peer_frames_out_total', 'peer_bytes_in_total', 'peer_bytes_out_total', 'wal_bytes_total',
                     'wal_size_bytes', 'consensus_batch_entries_count', 'consensus_batch_entries_sum'):
            assert value('synaxis_' + name) > 0, name
