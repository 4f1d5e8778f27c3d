"""Queues under kill -9: what was acknowledged comes, producers' ids hold, waiting consumers go on with the next leader."""
import threading
import time

from harness import SLOW, Cluster, blocked, expect_error, retry, wait_for
from queue_help import QueueLoad, ack, consume, message, publish, take
from resp import RespError, as_map


def goes_on(load, what, by=150):
    begun, seen = load.count(), load.consumed()
    wait_for(f'publishers to go on after {what}', lambda: load.moved_on(begun, by), 30)
    wait_for(f'consumers to go on after {what}', lambda: load.consumed() >= seen + by, 40)


def leader_of_partition(cluster, topic, partition):
    """The node that leads the group of a partition."""
    client = next(n for n in cluster.nodes if n.alive()).client()

    def row():
        rows = [as_map(p) for p in as_map(client.cmd('QUEUE.INFO', topic))['partition_list']]
        return [r for r in rows if r['partition'] == partition]
    group = wait_for('the partition to be there', row)[0]['group']

    def look():
        for node in cluster.nodes:
            if node.alive() and any(g['group'] == group and g['role'] == 'LEADER' for g in node.raft()['groups']):
                return node
        return None
    return wait_for(f'a leader of group {group}', look, 20)


def test_kill_9_of_a_partitions_leader_under_load():
    with Cluster(3) as cluster, QueueLoad(cluster.nodes, 'load') as load:
        goes_on(load, 'the start')
        for turn in range(4):
            victim = leader_of_partition(cluster, 'load', turn)
            victim.kill()
            goes_on(load, f'kill {turn}')
            victim.start()
            cluster.wait_ready([victim])
        goes_on(load, 'the last restart')
        load.drain()
        load.check()


def test_kill_9_of_all_nodes_under_publishing():
    with Cluster(3) as cluster, QueueLoad(cluster.nodes, 'load') as load:
        for turn in range(3):
            goes_on(load, f'start {turn}')
            for node in cluster.nodes:
                node.kill()
            cluster.start()
        goes_on(load, 'the last restart')
        load.drain()
        load.check()


def test_producer_ids_are_published_once_over_kills():
    with Cluster(3) as cluster, QueueLoad(cluster.nodes, 'ids', ids=True) as load:
        goes_on(load, 'the start')
        for turn in range(3):
            victim = leader_of_partition(cluster, 'ids', turn)
            victim.kill()
            goes_on(load, f'kill {turn}')
            victim.start()
            cluster.wait_ready([victim])
        load.drain()
        load.check()


def test_one_producer_id_over_a_kill_of_its_leader():
    with Cluster(3) as cluster:
        client = cluster.nodes[0].client()
        retry(client.cmd, 'QUEUE.CREATE', 'one', 'PARTITIONS', 1)
        first = [publish(client, 'one', f'm{i}', 'ID', f'id{i}') for i in range(20)]
        victim = leader_of_partition(cluster, 'one', 0)
        victim.kill()
        other = next(n for n in cluster.nodes if n is not victim).client(timeout=20)
        assert [publish_surely(other, 'one', f'm{i}', f'id{i}') for i in range(20)] == first
        assert len(take(other, 'one', 20)) == 20
        assert as_map(other.cmd('QUEUE.INFO', 'one'))['messages'] == 0


def publish_surely(client, topic, payload, identity):
    deadline = time.monotonic() + 20 * SLOW
    while True:
        try:
            return publish(client, topic, payload, 'ID', identity)
        except RespError as error:
            if error.word != 'UNCERTAIN' or time.monotonic() > deadline:
                raise


def test_a_waiting_consumer_is_served_by_the_next_leader():
    with Cluster(3) as cluster:
        retry(cluster.nodes[0].client().cmd, 'QUEUE.CREATE', 'wait', 'PARTITIONS', 1)
        victim = leader_of_partition(cluster, 'wait', 0)
        a, b = [n for n in cluster.nodes if n is not victim]
        waiting, got = a.client(timeout=60), []
        assert consume(waiting, 'wait') == []
        thread = threading.Thread(target=lambda: got.extend(consume(waiting, 'wait', block=40000)))
        thread.start()
        wait_for('it to wait', lambda: blocked(a) > 0)
        victim.kill()
        publish_surely(b.client(timeout=20), 'wait', 'after', 'x')
        thread.join(20 * SLOW)
        assert [m['payload'] for m in got] == ['after'], got
        assert ack(waiting, 'wait', got) == 1


def test_deliveries_and_positions_survive_kill_9_of_all():
    with Cluster(3) as cluster:
        a = cluster.nodes[0].client()
        retry(a.cmd, 'QUEUE.CREATE', 'pos', 'PARTITIONS', 4, 'MAXDELIVER', 2, 'BACKOFF', 0)
        for i in range(100):
            publish(a, 'pos', f'm{i}', 'KEY', f'{i}')
        got = []
        while len(got) < 100:
            got += consume(a, 'pos', count=100, block=2000, visibility=600000)
        assert ack(a, 'pos', got[:40]) == 40
        for m in got[40:50]:
            retry(a.cmd, 'QUEUE.NACK', 'pos', 'GROUP', 'g', m['receipt'], 'FATAL', 'REASON', 'why not')
        for node in cluster.nodes:
            node.kill()
        cluster.start()
        b = cluster.nodes[1].client()
        assert ack(b, 'pos', got[50:90]) == 40, 'receipts hold over a restart'
        expect_error('STALERECEIPT', b.cmd, 'QUEUE.ACK', 'pos', 'GROUP', 'g', *[m['receipt'] for m in got[:50]])
        rows = [as_map(m) for m in b.cmd('QUEUE.DLQ', 'pos', 'GROUP', 'g')]
        assert sorted(r['payload'] for r in rows) == sorted(m['payload'] for m in got[40:50]) and rows[0]['reason'] == 'why not'
        for m in got[90:]:
            assert retry(b.cmd, 'QUEUE.NACK', 'pos', 'GROUP', 'g', m['receipt'], 'DELAY', 0) == 1
        again = []
        while len(again) < 10:
            again += consume(b, 'pos', count=10, block=20000)
        assert sorted(m['payload'] for m in again) == sorted(m['payload'] for m in got[90:]) and again[0]['deliveries'] == 2


def test_a_group_goes_on_when_the_node_of_its_members_dies():
    with Cluster(3) as cluster:
        a, b, c = cluster.nodes
        client = a.client(timeout=60)
        retry(client.cmd, 'QUEUE.CREATE', 'mem', 'PARTITIONS', 6, 'BACKOFF', 0)
        other = b.client(timeout=60)
        for name, one in (('a', client), ('b', other)):
            retry(one.cmd, 'QUEUE.JOIN', 'mem', 'GROUP', 'g', 'CONSUMER', name, 'TTL', 2000)
        for i in range(60):
            publish(c.client(), 'mem', f'm{i}', 'KEY', f'{i}')
        held = consume(other, 'mem', consumer='b', count=100, block=5000, visibility=3000)
        assert held
        b.kill()
        seen = set()
        deadline = time.monotonic() + 30 * SLOW
        while len(seen) < 60 and time.monotonic() < deadline:
            try:
                got = consume(client, 'mem', consumer='a', count=100, block=1000)
                ack(client, 'mem', got)
                seen |= {m['payload'] for m in got}
            except RespError as error:
                assert error.word in ('UNCERTAIN', 'STALERECEIPT'), error.text
        assert len(seen) == 60, len(seen)


def test_rolling_restarts_lose_nothing_and_refuse_little():
    with Cluster(3) as cluster, QueueLoad(cluster.nodes, 'roll') as load:
        goes_on(load, 'the start')
        for node in list(cluster.nodes):
            code = node.terminate()
            assert code == 0, f'{node.name} ended with {code}'
            node.start()
            cluster.wait_ready([node])
            goes_on(load, f'the restart of {node.name}')
        load.drain()
        load.check()
        assert not set(load.refused) - {'LOADING', 'STALERECEIPT', 'UNBLOCKED'}, load.refused


def test_what_was_published_is_read_back_by_every_node_after_kills():
    with Cluster(3) as cluster:
        a = cluster.nodes[0].client()
        retry(a.cmd, 'QUEUE.CREATE', 'read', 'PARTITIONS', 1)
        for i in range(500):
            publish(a, 'read', f'm{i}')
        for victim in cluster.nodes:
            victim.kill()
            victim.start()
            cluster.wait_ready([victim])
            for node in cluster.nodes:
                got = [message(m) for m in retry(node.client().cmd, 'QUEUE.PEEK', 'read', 0, 0, 'COUNT', 1000)]
                assert [m['payload'] for m in got] == [f'm{i}' for i in range(500)], (node.name, len(got))
