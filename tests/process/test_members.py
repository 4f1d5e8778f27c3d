"""Membership by command on live processes: a node is added, a leadership handed over, a node removed, all under load."""
from harness import CALM, Cluster, Node, acquire, free_port, retry, wait_for
from history import Load
from resp import as_map


def goes_on(load, what, by=100):
    begun = load.count()
    wait_for(f'clients to go on after {what}', lambda: load.moved_on(begun, by), 30)


def members_of(node):
    return {as_map(row).get('id', as_map(row).get('name')): as_map(row) for row in node.client().cmd('CLUSTER.NODES')}


def test_a_node_is_added_and_another_removed_under_load():
    with Cluster(3, env={'GROUPS': '6'}) as cluster, Load(cluster.nodes[:2], workers=8) as load:
        goes_on(load, 'the start')
        first = cluster.nodes[0]
        peer = free_port()
        members = first.env['CLUSTER_NODES'] + f',n4@127.0.0.1:{peer}'
        fourth = Node('n4', cluster.base, {'NODE_ID': 'n4', 'CLUSTER_NODES': members, 'GROUPS': '6', 'RESP_PORT': str(free_port()),
                                           'PEER_PORT': str(peer), 'NODE_PORT': str(free_port())})
        cluster.nodes.append(fourth)
        retry(first.client().cmd, 'CLUSTER.ADD', f'n4@127.0.0.1:{peer}')
        fourth.start()
        cluster.wait_ready([fourth])
        acquire(fourth.client(), 'from-the-new-node', 'OWNER', 'a')
        goes_on(load, 'the addition')
        retry(first.client().cmd, 'CLUSTER.REMOVE', 'n3')
        wait_for('n3 to be gone', lambda: 'n3' not in members_of(first), 30)
        cluster.nodes[2].kill()
        goes_on(load, 'the removal', 300)
        load.stop()
        load.check()


def test_a_leadership_is_handed_over_by_command():
    with Cluster(3) as cluster, Load(cluster.nodes, workers=8) as load:
        goes_on(load, 'the start')
        for target in cluster.nodes:
            retry(cluster.nodes[0].client().cmd, 'CLUSTER.TRANSFER', 0, target.name)
            wait_for(f'{target.name} to lead', lambda target=target: cluster.leader() is target)
            goes_on(load, 'the hand-over', 50)
        load.stop()
        load.check()


def test_a_removed_node_cannot_disturb():
    with Cluster(3, env=CALM) as cluster:
        outcast = cluster.followers()[0]
        others = [n for n in cluster.nodes if n is not outcast]
        retry(others[0].client().cmd, 'CLUSTER.REMOVE', outcast.name)
        wait_for('it to be gone', lambda: outcast.name not in members_of(others[0]), 30)
        term = wait_for('a leader', lambda: next((n.raft()['term'] for n in others if n.raft()['role'] == 'LEADER'), None))
        outcast.kill()
        for name in CALM:
            del outcast.env[name]
        outcast.start()
        client = others[0].client()
        for i in range(50):
            acquire(client, f'quiet{i}', 'OWNER', 'a')
        wait_for('it to stand again and again', lambda: outcast.metric('synaxis_consensus_elections_total') > 10)
        assert max(n.raft()['term'] for n in others) <= term + 1
