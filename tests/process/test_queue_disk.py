"""Backlogs on disk: snapshots under kill -9, replicas without their disk, and disks that fill."""
import contextlib
import errno
import hashlib
import os
import shutil
import threading
import time

from faults import Faults
from harness import MEMORY_SLACK, SLOW, Cluster, expect_error, retry, wait_for
from queue_help import ack, consume, message, publish, take
from resp import RespError, encode
from test_disk import small_tmpfs

PIECE = 16 * 1024


def payload_of(number, size=PIECE):
    """Bytes that differ everywhere and are known by their number."""
    seed = hashlib.sha256(str(number).encode()).hexdigest()
    return (f'{number}:' + seed * (size // len(seed) + 1))[:size]


def fill(client, topic, first, count, window=64):
    """Publishes payloads first.. in order, a window of them at a time; their ids."""
    ids = []
    for at in range(first, first + count, window):
        part = range(at, min(at + window, first + count))
        client.send(b''.join(encode('QUEUE.PUBLISH', topic, payload_of(i)) for i in part))
        for i in part:
            try:
                ids.append(client.cmd_reply(20 * SLOW))
            except RespError as error:
                if error.word not in ('BUSY', 'LOADING', 'NOQUORUM'):
                    raise
                time.sleep(0.05)
                ids.append(None)
    return ids


def one_partition(cluster, topic, *options):
    retry(cluster.nodes[0].client().cmd, 'QUEUE.CREATE', topic, 'PARTITIONS', 1, *options)


def backlog_files(node):
    return [os.path.join(folder, name) for folder, _, names in os.walk(node.data) for name in names if name.startswith('back-')]


def backlog_bytes(node):
    return sum(os.path.getsize(f) for f in backlog_files(node))


def least(value, bound):
    return value if value > bound else None


def read_all(node, topic, end):
    """Every message of partition 0 below `end`, in order."""
    client, at, found = node.client(timeout=60), 0, []
    while at < end:
        got = [message(m) for m in retry(client.cmd, 'QUEUE.PEEK', topic, 0, at, 'COUNT', 50)]
        assert got, f'{node.name}: nothing at {at}'
        found += [m['payload'] for m in got]
        at += len(got)
    return found


def known(found):
    """The numbers of payloads; each must be whole."""
    numbers = [int(p.split(':', 1)[0]) for p in found]
    bad = [n for n, p in zip(numbers, found) if p != payload_of(n, len(p))]
    assert not bad, f'damaged: {bad[:5]}'
    return numbers


def test_a_backlog_is_written_out_and_read_back_after_kill_9_of_all():
    with Cluster(3, env={'GROUPS': '1'}) as cluster:
        one_partition(cluster, 'big')
        client = cluster.nodes[0].client(timeout=60)
        ids = fill(client, 'big', 0, 6000)  # 94 MiB: past a snapshot of the group
        sent = [i for i, identity in enumerate(ids) if identity]
        for node in cluster.nodes:
            wait_for(f'{node.name} to write a backlog', lambda node=node: backlog_files(node))
            assert node.memory_kib() < 200 * 1024 * MEMORY_SLACK, node.memory_kib()
        for node in cluster.nodes:
            node.kill()
        cluster.start()
        for node in cluster.nodes:
            assert known(read_all(node, 'big', len(sent))) == sent
            assert node.memory_kib() < 200 * 1024 * MEMORY_SLACK, node.memory_kib()
        got = take(cluster.nodes[1].client(timeout=60), 'big', len(sent), within=60)
        assert known([m['payload'] for m in got]) == sent


def test_kill_9_during_snapshots_and_backlog_writes():
    with Cluster(3, env={'GROUPS': '1'}) as cluster:
        one_partition(cluster, 'kills')
        stop, ids, at = threading.Event(), {}, [0]

        def produce():
            client, turn = None, 0
            while not stop.is_set():
                try:
                    if client is None:
                        turn += 1
                        client = cluster.nodes[turn % 3].client(timeout=8)
                    first, at[0] = at[0], at[0] + 32
                    client.send(b''.join(encode('QUEUE.PUBLISH', 'kills', payload_of(i)) for i in range(first, first + 32)))
                    for i in range(first, first + 32):
                        with contextlib.suppress(RespError):
                            ids[i] = client.cmd_reply()
                except OSError:
                    client = None
                    time.sleep(0.02)

        thread = threading.Thread(target=produce)
        thread.start()
        try:
            for turn in range(9):
                begun = len(ids)
                wait_for('4 MiB more', lambda begun=begun: len(ids) > begun + 4 * 1024 * 1024 // PIECE + 97 * turn, 40)
                victims = cluster.nodes if turn % 3 == 2 else [cluster.nodes[turn % 3]]
                for victim in victims:
                    victim.kill()
                for victim in victims:
                    victim.start()
                cluster.wait_ready(victims)
        finally:
            stop.set()
            thread.join(30 * SLOW)
        places = {int(identity.rsplit(':', 1)[1]): i for i, identity in ids.items()}
        assert len(places) == len(ids), 'two messages were given one offset'
        end = max(places) + 1
        for node in cluster.nodes:
            numbers = known(read_all(node, 'kills', end))
            wrong = [(o, i, numbers[o]) for o, i in places.items() if numbers[o] != i]
            assert not wrong, f'{node.name}: {wrong[:5]}'


def test_a_replica_without_its_disk_catches_up_with_the_backlog():
    with Cluster(3, env={'GROUPS': '1'}) as cluster:
        one_partition(cluster, 'wiped')
        client = cluster.nodes[0].client(timeout=60)
        sent = [i for i, identity in enumerate(fill(client, 'wiped', 0, 5200)) if identity]
        held = consume(client, 'wiped', count=20, block=5000, visibility=600000)
        assert ack(client, 'wiped', held[:10]) == 10
        victim = cluster.nodes[2]
        victim.kill()
        shutil.rmtree(victim.data)
        victim.start()
        end = len(sent)
        wait_for('it to vote again', lambda: victim.ready() and is_caught_up(cluster.leader(), victim), 60)
        assert backlog_files(victim), 'its snapshot came without the backlog'
        assert victim.metric('synaxis_snapshot_installs_total') >= 1
        assert sum(node.metric('synaxis_snapshots_total') for node in cluster.nodes[:2]) >= 1
        cluster.nodes[0].kill()  # now the wiped one is needed for every majority
        other = cluster.nodes[1].client(timeout=60)
        wait_for('a publish', lambda: publish(other, 'wiped', payload_of(end)), 30)
        # What was acknowledged is gone from the front; the rest is whole on the replica that was wiped, also as a leader alone with it.
        cluster.nodes[1].kill()
        cluster.nodes[1].start()
        cluster.wait_ready([cluster.nodes[1]])
        again = victim.client(timeout=60)
        assert ack(again, 'wiped', held[10:]) == 10
        got = take(again, 'wiped', end - 20 + 1, within=60)
        assert known([m['payload'] for m in got]) == sent[20:] + [end]


def is_caught_up(leader, node):
    group = leader.raft()['groups'][0]
    row = next(r for r in group['replicas'] if r['id'] == node.name)
    return row['kind'] == 'voter' and row['match'] == group['last_index']


def test_consumed_backlogs_leave_the_disk():
    with Cluster(3, env={'GROUPS': '1'}) as cluster:
        one_partition(cluster, 'gone')
        client = cluster.nodes[0].client(timeout=60)
        assert consume(client, 'gone') == []
        sent = [i for i, identity in enumerate(fill(client, 'gone', 0, 4000)) if identity]
        full = wait_for('a follower to write the backlog out', lambda: least(backlog_bytes(cluster.nodes[1]), 30 * 1024 * 1024))
        assert len(take(client, 'gone', len(sent), within=60)) == len(sent)

        def small():
            fill(client, 'gone', 100000, 64)
            take(client, 'gone', 64)
            return all(backlog_bytes(n) < full / 2 for n in cluster.nodes)
        wait_for('the files to go', small, 60)


def test_a_full_disk_refuses_publishes_and_recovers():
    with Cluster(1, start=False, env={'REQUEST_TIMEOUT': '2000', 'GROUPS': '1'}) as cluster:
        node = cluster.nodes[0]
        faults = Faults(node)
        cluster.start()
        one_partition(cluster, 'full')
        client = node.client()
        before = [publish(client, 'full', f'before{i}') for i in range(20)]
        faults.set(write_errno=errno.ENOSPC)
        assert refusal_of(client, 'full', 5000).startswith('FULL ')
        assert len(client.cmd('QUEUE.PEEK', 'full', 0, 0, 'COUNT', 20)) == len(before)
        faults.set(write_errno=0)
        wait_for('room to be noticed', lambda: publish(node.client(), 'full', 'after'), 30)
        got = []
        while 'after' not in got:
            got += [m['payload'] for m in take(client, 'full', 1)]
        assert got[:20] == [f'before{i}' for i in range(20)]


def refusal_of(client, topic, count):
    for i in range(count):
        try:
            client.cmd('QUEUE.PUBLISH', topic, payload_of(i))
        except RespError as error:
            if error.word not in ('UNCERTAIN', 'BUSY'):
                return error.text
            time.sleep(0.01)
    raise AssertionError(f'{count} publishes were taken by a full disk')


def test_a_small_filesystem_fills_with_a_backlog_and_recovers_when_it_is_consumed():
    """A queue that nobody reads fills the disk: publishes are refused, what is there is read, and reading it makes room."""
    with small_tmpfs('160m') as place, Cluster(1, start=False, env={'GROUPS': '1', 'REQUEST_TIMEOUT': '3000'}) as cluster:
        node = cluster.nodes[0]
        node.env['DATA_DIR'] = node.data = os.path.join(place, 'data')
        cluster.start()
        one_partition(cluster, 'fills')
        client, ids, refused = node.client(timeout=60), {}, None
        assert consume(client, 'fills') == []
        for i in range(20000):
            try:
                ids[i] = client.cmd('QUEUE.PUBLISH', 'fills', payload_of(i))
            except RespError as error:
                if error.word == 'FULL':
                    refused = error.text
                    break
                assert error.word in ('BUSY', 'UNCERTAIN'), error.text
                time.sleep(0.02)
        assert refused, 'a filesystem of 160 MB took 320 MB'
        assert len(ids) > 1000, len(ids)
        assert node.alive() and node.request('GET', '/livez')[0] == 200
        got = take(client, 'fills', len(ids), within=60)
        numbers = known([m['payload'] for m in got])
        assert set(ids) <= set(numbers), sorted(set(ids) - set(numbers))[:5]
        wait_for('room for publishes', lambda: publish(client, 'fills', 'again'), 60)
        node.kill()
        cluster.start()
        client = node.client(timeout=60)
        payloads = [m['payload'] for m in take(client, 'fills', 1)]
        assert payloads, payloads
        expect_error('STALERECEIPT', client.cmd, 'QUEUE.ACK', 'fills', 'GROUP', 'g', got[0]['receipt'])


def test_a_short_block_outlasts_a_slow_join():
    """The time of BLOCK ends while the consumer is being made a member: it looks once all the same."""
    with Cluster(1, start=False) as cluster:
        faults = Faults(cluster.nodes[0])
        cluster.start()
        client = cluster.nodes[0].client()
        retry(client.cmd, 'QUEUE.CREATE', 'slow', 'PARTITIONS', 2)
        publish(client, 'slow', 'here')
        faults.set(sync_delay_ms=300)
        assert [message(m)['payload'] for m in client.cmd('QUEUE.CONSUME', 'slow', 'GROUP', 'g', 'CONSUMER', 'c', 'BLOCK', 10)] == ['here']
        assert client.cmd('QUEUE.CONSUME', 'slow', 'GROUP', 'g', 'CONSUMER', 'c', 'BLOCK', 10) == []
