"""Queues over RESP on three real nodes: publish, consume, settle, redelivery, dead letters, order, delay, groups and seeking."""
import threading
import time

from harness import SLOW, Cluster, blocked, expect_error, in_time, retry, wait_for
from queue_help import ack, consume, dead, lag, members, message, nothing, position_of, publish, take
from resp import as_map


def create(client, topic, *options):
    assert retry(client.cmd, 'QUEUE.CREATE', topic, *options) == 'OK'


def test_publish_and_consume_through_every_node_in_both_protocols():
    with Cluster(3) as cluster:
        create(cluster.nodes[0].client(), 'jobs', 'PARTITIONS', 6)
        sent = set()
        for proto in (2, 3):
            for node in cluster.nodes:
                client = node.client(proto=proto)
                sent |= {publish(client, 'jobs', f'{node.name}.{proto}.{i}', 'KEY', f'k{i}', 'HEADER', 'from', node.name) for i in range(10)}
        assert len(sent) == 60
        seen = {}
        for proto in (2, 3):
            for node in cluster.nodes:
                for m in take(node.client(proto=proto), 'jobs', 10, consumer='only'):
                    assert m['id'] not in seen and m['deliveries'] == 1 and m['timestamp'] > 0
                    name, _, i = m['payload'].split('.')
                    assert m['key'] == f'k{i}' and m['headers'] == {'from': name}, m
                    seen[m['id']] = m
        assert set(seen) == sent
        after = lag(cluster.nodes[1].client(), 'jobs')
        assert after['lag'] == 0 and after['in_flight'] == 0, after
        info = as_map(cluster.nodes[2].client().cmd('QUEUE.INFO', 'jobs'))
        assert info['partitions'] == 6 and info['messages'] == 0, info


def test_a_publish_makes_its_topic_and_every_group_gets_every_message():
    with Cluster(3) as cluster:
        a, b, c = (n.client() for n in cluster.nodes)
        ids = [publish(a, 'made', f'm{i}') for i in range(20)]
        assert len(set(ids)) == 20
        create(a, 'kept', 'PARTITIONS', 2, 'RETENTION', 1000000)
        for i in range(20):
            publish(b, 'kept', f'm{i}')
        for group, client in (('g1', b), ('g2', c)):
            assert sorted(m['payload'] for m in take(client, 'kept', 20, group=group)) == sorted(f'm{i}' for i in range(20))
        assert len(take(c, 'made', 20)) == 20
        assert {as_map(t)['topic'] for t in a.cmd('QUEUE.LIST')} == {'made', 'kept'}


def test_a_batch_is_published_whole_and_in_order():
    with Cluster(3) as cluster:
        client = cluster.nodes[0].client(proto=3)
        create(client, 'b', 'PARTITIONS', 4)
        ids = retry(client.cmd, 'QUEUE.PUBLISHBATCH', 'b', 100, *[f'm{i}' for i in range(100)], 'KEY', 'same')
        places = [position_of(i) for i in ids]
        assert len({p for p, _ in places}) == 1 and [o for _, o in places] == list(range(100)), places
        assert [m['payload'] for m in take(cluster.nodes[1].client(), 'b', 100)] == [f'm{i}' for i in range(100)]


def test_what_is_not_acknowledged_comes_again_after_its_visibility():
    with Cluster(3) as cluster:
        a, b = cluster.nodes[0].client(timeout=300), cluster.nodes[1].client()

        def hidden(seconds):
            topic = f'v{seconds}'
            create(a, topic, 'PARTITIONS', 1, 'BACKOFF', 0)
            publish(a, topic, 'once more')
            begun = time.monotonic()
            first = consume(a, topic, visibility=int(seconds * 1000))[0]
            assert consume(a, topic, block=200) == []
            return topic, first, begun
        seconds, (topic, first, begun) = in_time(0.7, hidden)
        again = consume(a, topic, block=30000 + int(seconds * 1000), visibility=600000)
        waited = time.monotonic() - begun
        assert again and again[0]['id'] == first['id'] and again[0]['deliveries'] == 2, again
        assert again[0]['receipt'] != first['receipt'] and waited > seconds - 0.1, waited
        expect_error('STALERECEIPT', b.cmd, 'QUEUE.ACK', topic, 'GROUP', 'g', first['receipt'])
        assert ack(b, topic, again) == 1
        expect_error('STALERECEIPT', a.cmd, 'QUEUE.ACK', topic, 'GROUP', 'g', again[0]['receipt'])
        nothing(a, topic)


def test_extend_keeps_a_delivery():
    with Cluster(3) as cluster:
        a, b = cluster.nodes[0].client(timeout=300), cluster.nodes[1].client()

        def extended(seconds):
            topic = f'e{seconds}'
            create(a, topic, 'PARTITIONS', 1, 'BACKOFF', 0)
            publish(a, topic, 'long work')
            m = consume(a, topic, visibility=int(seconds * 1000))[0]
            assert b.cmd('QUEUE.EXTEND', topic, 'GROUP', 'g', m['receipt'], 600000) == 1
            return topic, m
        seconds, (topic, m) = in_time(0.4, extended)
        nothing(a, topic, wait=int(seconds * 2000))
        assert b.cmd('QUEUE.EXTEND', topic, 'GROUP', 'g', m['receipt'], 0) == 1
        again = consume(a, topic, block=30000)
        assert again and again[0]['deliveries'] == 2, again
        expect_error('STALERECEIPT', b.cmd, 'QUEUE.EXTEND', topic, 'GROUP', 'g', m['receipt'], 1000)


def nack(client, topic, m, *options):
    return retry(client.cmd, 'QUEUE.NACK', topic, 'GROUP', 'g', m['receipt'], *options)


def test_nack_counts_silently_or_for_good():
    with Cluster(3) as cluster:
        a, b = cluster.nodes[0].client(), cluster.nodes[2].client()
        create(a, 'n', 'PARTITIONS', 1, 'MAXDELIVER', 3, 'BACKOFF', 0)
        publish(a, 'n', 'x')
        for turn in range(5):
            m = consume(a, 'n', block=5000)[0]
            assert m['deliveries'] == 1, (turn, m)
            assert nack(b, 'n', m, 'SILENT') == 1
        m = consume(a, 'n', block=5000)[0]
        begun = time.monotonic()
        assert nack(b, 'n', m, 'DELAY', 600, 'REASON', 'later') == 1
        m = consume(a, 'n', block=8000)[0]
        assert m['deliveries'] == 2 and time.monotonic() - begun > 0.5, m
        assert nack(b, 'n', m, 'FAIL', 'DELAY', 0) == 1
        m = consume(a, 'n', block=8000)[0]
        assert m['deliveries'] == 3
        assert nack(b, 'n', m, 'REASON', 'third time') == 1
        nothing(a, 'n')
        rows = dead(b, 'n')
        assert len(rows) == 1 and rows[0]['payload'] == 'x' and rows[0]['reason'] == 'third time' and rows[0]['deliveries'] == 3, rows
        publish(a, 'n', 'poison')
        m = consume(a, 'n', block=5000)[0]
        assert nack(a, 'n', m, 'FATAL', 'REASON', 'unreadable') == 1
        assert {r['payload']: r['reason'] for r in dead(a, 'n')} == {'x': 'third time', 'poison': 'unreadable'}


def test_a_silent_visibility_timeout_kills_at_the_limit_too():
    with Cluster(3) as cluster:
        a = cluster.nodes[0].client()
        create(a, 't', 'PARTITIONS', 1, 'MAXDELIVER', 2, 'VISIBILITY', 200, 'BACKOFF', 0)
        publish(a, 't', 'x')
        assert [consume(a, 't', block=5000)[0]['deliveries'] for _ in range(2)] == [1, 2]
        rows = wait_for('the message to be dead', lambda: dead(a, 't'))
        assert rows[0]['reason'] == 'visibility timeout', rows


def test_dead_letters_are_redriven_with_a_new_count():
    with Cluster(3) as cluster:
        a, b = cluster.nodes[0].client(), cluster.nodes[1].client()
        create(a, 'd', 'PARTITIONS', 4, 'MAXDELIVER', 1)
        for i in range(40):
            publish(a, 'd', f'm{i}', 'KEY', f'k{i}')
        done = 0
        while done < 40:
            for m in consume(a, 'd', count=40, block=3000):
                nack(b, 'd', m, 'REASON', 'no')
                done += 1
        assert sorted(r['payload'] for r in dead(b, 'd')) == sorted(f'm{i}' for i in range(40))
        assert len(dead(b, 'd', count=7)) == 7
        assert b.cmd('QUEUE.REDRIVE', 'd', 'GROUP', 'g', 'COUNT', 40) == 40
        assert dead(a, 'd') == []
        again = take(a, 'd', 40)
        assert all(m['deliveries'] == 1 for m in again), again[:3]
        assert a.cmd('QUEUE.REDRIVE', 'd', 'GROUP', 'g') == 0


def test_ordered_keys_come_one_at_a_time_and_in_order():
    with Cluster(3) as cluster:
        a, b = cluster.nodes[0].client(), cluster.nodes[1].client()
        create(a, 'o', 'PARTITIONS', 1, 'ORDERED', 'key', 'BACKOFF', 0)
        for i in range(5):
            for key in ('x', 'y'):
                publish(a, 'o', f'{key}{i}', 'KEY', key)
        first = consume(b, 'o', count=100, block=2000)
        assert sorted(m['payload'] for m in first) == ['x0', 'y0'], first
        nothing(b, 'o')
        x = next(m for m in first if m['key'] == 'x')
        y = next(m for m in first if m['key'] == 'y')
        assert nack(a, 'o', x, 'SILENT') == 1
        assert ack(a, 'o', [y]) == 1
        got = {}
        for _ in range(2):
            got.update({m['payload']: m for m in consume(b, 'o', count=1, block=2000)})
        assert set(got) == {'x0', 'y1'}, got
        order = {'x': ['x0'], 'y': ['y0', 'y1']}
        ack(a, 'o', list(got.values()))
        for _ in range(4):
            for m in consume(b, 'o', count=100, block=2000):
                order[m['key']].append(m['payload'])
                ack(a, 'o', [m])
        assert order == {k: [f'{k}{i}' for i in range(5)] for k in 'xy'}, order


def test_a_delayed_message_comes_when_it_is_due_and_holds_nothing_up():
    with Cluster(3) as cluster:
        a, b = cluster.nodes[0].client(), cluster.nodes[1].client()

        def overtaken(seconds):
            topic = f'l{seconds}'
            create(a, topic, 'PARTITIONS', 1)
            begun = time.monotonic()
            publish(a, topic, 'late', 'DELAY', int(seconds * 1000))
            publish(a, topic, 'now')
            assert [m['payload'] for m in take(b, topic, 1)] == ['now']
            return topic, begun
        seconds, (topic, begun) = in_time(1.5, overtaken)
        assert [m['payload'] for m in take(b, topic, 1, within=seconds + 20)] == ['late']
        assert time.monotonic() - begun > seconds - 0.1


def test_a_long_poll_is_woken_by_a_publish_on_another_node():
    with Cluster(3) as cluster:
        a, b, c = (n.client(timeout=60) for n in cluster.nodes)
        create(a, 'w', 'PARTITIONS', 12)
        for node_client in (b, c):
            nothing(node_client, 'w', consumer='c1' if node_client is b else 'c2', wait=50)
        waits, pace = [], []
        for i in range(15):
            result = {}

            def wait(name, client):
                result[name] = consume(client, 'w', consumer=name, block=30000)
                result[name + '.at'] = time.monotonic()

            threads = [threading.Thread(target=wait, args=pair) for pair in (('c1', b), ('c2', c))]
            for thread in threads:
                thread.start()

            def done():
                return any(not t.is_alive() for t in threads)
            wait_for('both to wait', lambda: done() or blocked(cluster.nodes[1]) > 0 and blocked(cluster.nodes[2]) > 0)
            waited = not done()  # for nothing that an earlier round had left
            sent = time.monotonic()
            publish(a, 'w', f'm{i}', 'KEY', f'{i}')
            published = time.monotonic()
            wait_for('one of them to wake', done, 10)
            if waited:
                pace.append(published - sent)
                waits.append(time.monotonic() - published)
            publish_until_both(a, threads, i)
            for name, client in (('c1', b), ('c2', c)):
                ack(client, 'w', result[name])
        middle = len(waits) // 2
        assert not waits or sorted(waits)[middle] < 0.1 + 10 * sorted(pace)[middle], f'{waits}, where a publish takes {pace}'


def publish_until_both(client, threads, i):
    deadline, k = time.monotonic() + 10 * SLOW, 0
    while any(t.is_alive() for t in threads):
        k += 1
        publish(client, 'w', f'more{i}.{k}', 'KEY', f'{i}.{k}')
        time.sleep(0.01)
        assert time.monotonic() < deadline, 'a waiting consumer was not woken'


def test_a_group_rebalances_when_members_come_leave_and_die():
    with Cluster(3) as cluster:
        clients = [n.client(proto=3, timeout=60) for n in cluster.nodes]
        a = cluster.nodes[0].client()
        create(a, 'r', 'PARTITIONS', 6)
        for i, client in enumerate(clients):
            retry(client.cmd, 'QUEUE.JOIN', 'r', 'GROUP', 'g', 'CONSUMER', f'c{i}', 'TTL', 1500)
        wait_for('an even share', lambda: sorted(len(p) for p in members(a, 'r').values()) == [2, 2, 2])
        assert sorted(sum(members(a, 'r').values(), [])) == list(range(6))
        assert clients[1].cmd('QUEUE.LEAVE', 'r', 'GROUP', 'g', 'CONSUMER', 'c1') == 1
        assert {k: len(v) for k, v in members(a, 'r').items()} == {'c0': 3, 'c2': 3}
        clients[2].close()
        wait_for('the dead one to be out', lambda: members(a, 'r') == {'c0': list(range(6))}, 10)
        for i in range(60):
            publish(a, 'r', f'm{i}', 'KEY', f'{i}')
        assert len(take(clients[0], 'r', 60, consumer='c0')) == 60


def test_a_dead_consumers_messages_come_to_the_others_and_its_receipts_are_stale():
    with Cluster(3) as cluster:
        a, b = cluster.nodes[0].client(timeout=300), cluster.nodes[1].client(timeout=60)

        def hold(seconds):
            topic, held = f'p{seconds}', []
            create(a, topic, 'PARTITIONS', 2, 'BACKOFF', 0)
            for i in range(10):
                publish(a, topic, f'm{i}', 'KEY', f'{i}')
            while len(held) < 10:
                held += consume(b, topic, consumer='dying', count=10, block=2000, visibility=int(seconds * 1000))
            return topic, held
        _, (topic, held) = in_time(1.5, hold)
        b.close()
        again = []
        while len(again) < 10:
            got = consume(a, topic, consumer='heir', count=10, block=60000, visibility=600000)
            assert all(m['deliveries'] == 2 for m in got), got
            again += got
        assert sorted(m['payload'] for m in again) == sorted(m['payload'] for m in held)
        expect_error('STALERECEIPT', a.cmd, 'QUEUE.ACK', topic, 'GROUP', 'g', *[m['receipt'] for m in held])
        assert ack(a, topic, again) == 10


def test_a_clean_leave_gives_back_at_once_and_uncounted():
    with Cluster(3) as cluster:
        a, b = cluster.nodes[0].client(), cluster.nodes[1].client()
        create(a, 'q', 'PARTITIONS', 1)
        publish(a, 'q', 'x')
        assert len(consume(b, 'q', consumer='first', visibility=600000)) == 1
        assert b.cmd('QUEUE.LEAVE', 'q', 'GROUP', 'g', 'CONSUMER', 'first') == 1
        m = consume(a, 'q', consumer='second', block=5000)
        assert m and m[0]['deliveries'] == 1, m


def test_a_short_ttl_is_kept_beside_long_ones():
    """A member that must be heard of often lives although its node's other members need it seldom."""
    with Cluster(3) as cluster:
        a = cluster.nodes[0].client()
        create(a, 's', 'PARTITIONS', 4)

        def kept(seconds):
            """Whether the nodes were never busy for so long that the member may have been given up; then it must still be one."""
            group = f'g{seconds}'
            retry(a.cmd, 'QUEUE.JOIN', 's', 'GROUP', group, 'CONSUMER', 'slow')
            first = as_map(retry(a.cmd, 'QUEUE.JOIN', 's', 'GROUP', group, 'CONSUMER', 'quick', 'TTL', int(seconds * 1000)))
            begun = asked = time.monotonic()
            gap = 0
            while asked < begun + 3.3 * seconds:
                rows = [g for g in map(as_map, retry(a.cmd, 'QUEUE.GROUPS', 's')) if g['group'] == group]
                gap, asked = max(gap, time.monotonic() - asked), time.monotonic()
                time.sleep(0.02)
            if gap > seconds / 4:
                return False
            assert rows[0]['generation'] == first['generation'] and rows[0]['members'] == 2, (first, rows)
            return True
        assert any(kept(seconds) for seconds in (0.9, 3, 12)), 'the machine is busy for seconds at a time'


def test_seek_peek_and_times():
    with Cluster(3) as cluster:
        a, b = cluster.nodes[0].client(), cluster.nodes[1].client()
        create(a, 'k', 'PARTITIONS', 1, 'RETENTION', 100000000)
        for i in range(30):
            publish(a, 'k', f'm{i}')
        peeked = [message(m) for m in b.cmd('QUEUE.PEEK', 'k', 0, 10, 'COUNT', 5)]
        assert [m['payload'] for m in peeked] == [f'm{i}' for i in range(10, 15)], peeked
        assert b.cmd('QUEUE.PEEK', 'k', 0, 30) == []
        assert len(take(b, 'k', 30)) == 30
        assert a.cmd('QUEUE.SEEK', 'k', 'GROUP', 'g', 'OFFSET', 25) == 'OK'
        assert [m['payload'] for m in take(b, 'k', 5)] == [f'm{i}' for i in range(25, 30)]
        assert a.cmd('QUEUE.SEEK', 'k', 'GROUP', 'g', 'BEGIN') == 'OK'
        assert len(take(b, 'k', 30)) == 30
        assert a.cmd('QUEUE.SEEK', 'k', 'GROUP', 'g', 'TIME', peeked[0]['timestamp']) == 'OK'
        assert [m['payload'] for m in consume(b, 'k', count=100, block=2000)][-1] == 'm29'
        assert a.cmd('QUEUE.SEEK', 'k', 'GROUP', 'g', 'END') == 'OK'
        nothing(b, 'k')
        assert a.cmd('QUEUE.SEEK', 'k', 'GROUP', 'new', 'OFFSET', 28) == 'OK'
        assert [m['payload'] for m in take(b, 'k', 2, group='new')] == ['m28', 'm29']


def test_a_forgotten_group_keeps_nothing_and_comes_back_as_new():
    with Cluster(3) as cluster:
        a, b = cluster.nodes[0].client(), cluster.nodes[1].client()
        expect_error('ERR', a.cmd, 'QUEUE.CREATE', 'f', 'DLQ', 'graveyard')
        create(a, 'f', 'PARTITIONS', 3)
        for group in ('stays', 'goes'):
            assert consume(a, 'f', group=group) == []
        for i in range(30):
            publish(a, 'f', f'm{i}')
        assert len(take(b, 'f', 30, group='stays')) == 30
        expect_error('ERR', b.cmd, 'QUEUE.FORGET', 'f', 'GROUP', 'goes')  # it has a member
        for node in (a, b):
            node.cmd('QUEUE.LEAVE', 'f', 'GROUP', 'goes', 'CONSUMER', 'c')
        kept = as_map(b.cmd('QUEUE.INFO', 'f'))['messages']
        assert kept == 30, kept
        assert b.cmd('QUEUE.FORGET', 'f', 'GROUP', 'goes') == 1
        assert a.cmd('QUEUE.FORGET', 'f', 'GROUP', 'goes') == 0
        wait_for('what only it had kept to go', lambda: as_map(b.cmd('QUEUE.INFO', 'f'))['messages'] == 0, 10)
        assert consume(a, 'f', group='goes') == []
        publish(b, 'f', 'later')
        assert [m['payload'] for m in take(a, 'f', 1, group='goes')] == ['later']


def test_producer_ids_and_deleted_topics():
    with Cluster(3) as cluster:
        a, b, c = (n.client() for n in cluster.nodes)
        create(a, 'i', 'PARTITIONS', 8)
        first = publish(a, 'i', 'x', 'ID', 'one')
        assert publish(b, 'i', 'x', 'ID', 'one') == first == publish(c, 'i', 'other payload', 'ID', 'one')
        assert publish(c, 'i', 'x', 'ID', 'two') != first
        assert len(take(b, 'i', 2)) == 2
        nothing(b, 'i')
        assert a.cmd('QUEUE.DELETE', 'i') == 'OK'
        expect_error('NOTOPIC', a.cmd, 'QUEUE.INFO', 'i')
        wait_for('the others to know', lambda: expect_error('NOTOPIC', b.cmd, 'QUEUE.INFO', 'i'))
        create(c, 'i', 'PARTITIONS', 2)
        publish(c, 'i', 'new')
        assert [m['payload'] for m in take(a, 'i', 1, group='h')] == ['new']


def test_altered_options_are_seen_by_every_node_and_add_up():
    with Cluster(3) as cluster:
        a, b, c = (n.client() for n in cluster.nodes)
        create(a, 'alter', 'PARTITIONS', 2)
        for client in (a, b, c):
            publish(client, 'alter', 'x')
        assert a.cmd('QUEUE.ALTER', 'alter', 'MAXDELIVER', 2) == 'OK'
        assert b.cmd('QUEUE.ALTER', 'alter', 'VISIBILITY', 12345) == 'OK'
        assert c.cmd('QUEUE.ALTER', 'alter', 'RETENTION', 1000000) == 'OK'
        for client in (a, b, c):
            info = as_map(client.cmd('QUEUE.INFO', 'alter'))
            assert (info['max_deliver'], info['visibility_ms'], info['retention_bytes']) == (2, 12345, 1000000), info
        expect_error('ERR', a.cmd, 'QUEUE.ALTER', 'alter', 'PARTITIONS', 3)
        expect_error('TOPICEXISTS', a.cmd, 'QUEUE.CREATE', 'alter', 'PARTITIONS', 3)
