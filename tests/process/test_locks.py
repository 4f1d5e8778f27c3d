"""Locks on three real processes: taken, waited for, lost, fenced, refused as a deadlock; with redis-cli and with raw connections."""
import shutil
import subprocess
import time

from harness import Cluster, SLOW, Skip, acquire, expect_error, in_time, retry, wait_for
from resp import as_map, encode


def redis_cli(node, *args, proto=2):
    if not shutil.which('redis-cli'):
        raise Skip('redis-cli is not installed')
    done = subprocess.run(['redis-cli', '-h', node.host, '-p', str(node.resp)] + (['-3'] if proto == 3 else []) + [str(a) for a in args],
                          capture_output=True, text=True, timeout=20 * SLOW, check=False)
    return done.stdout.strip()


def cli_map(output):
    lines = output.splitlines()
    return dict(zip(lines[0::2], lines[1::2]))


def test_redis_cli_takes_checks_and_releases():
    with Cluster(3) as cluster:
        a, b, c = cluster.nodes
        granted = cli_map(redis_cli(a, 'LOCK.ACQUIRE', 'orders', 'EXCLUSIVE', 'OWNER', 'alice', 'TTL', 30000))
        assert {'lock_id', 'token', 'resource', 'mode', 'owner', 'ttl_ms', 'waited_ms'} <= set(granted), granted
        refused = redis_cli(b, 'LOCK.ACQUIRE', 'orders', 'EXCLUSIVE', 'OWNER', 'bob')
        assert refused.startswith('LOCKED') and 'alice' in refused, refused
        assert redis_cli(c, 'LOCK.CHECK', 'orders', granted['token']) == '1'
        assert redis_cli(b, 'LOCK.RELEASE', 'orders', granted['lock_id']) == '1'
        second = cli_map(redis_cli(c, 'LOCK.ACQUIRE', 'orders', 'EXCLUSIVE', 'OWNER', 'bob'))
        assert int(second['token']) > int(granted['token'])
        assert redis_cli(a, 'LOCK.CHECK', 'orders', granted['token']).splitlines() == ['0', second['token']]
        assert redis_cli(a, 'LOCK.RELEASE', 'orders', granted['lock_id']).startswith('STALE')


def test_redis_cli_over_resp3_prints_a_map():
    with Cluster(1) as cluster:
        out = redis_cli(cluster.nodes[0], 'LOCK.ACQUIRE', 'r', 'EXCLUSIVE', 'OWNER', 'a', proto=3)
        assert 'token' in out and 'lock_id' in out, out


def test_a_waiter_is_granted_when_the_holder_releases():
    with Cluster(3) as cluster:
        holder, waiter = cluster.nodes[0].client(), cluster.nodes[1].client()
        first = acquire(holder, 'job', 'OWNER', 'a', 'TTL', 60000)
        waiter.send(encode('LOCK.ACQUIRE', 'job', 'EXCLUSIVE', 'OWNER', 'b', 'TTL', 60000, 'WAIT', 30000))
        wait_for('b to queue', lambda: 'b' in str(holder.cmd('LOCK.WAITGRAPH')))
        assert holder.cmd('LOCK.RELEASE', 'job', first['lock_id']) == 1
        second = as_map(waiter.cmd_reply(10 * SLOW))
        assert int(second['token']) > int(first['token'])


def test_waiters_are_served_in_order():
    with Cluster(3) as cluster:
        control = cluster.nodes[0].client()
        held = acquire(control, 'fifo', 'OWNER', 'first', 'TTL', 60000)
        queue = []
        for i in range(6):
            waiter = cluster.nodes[i % 3].client()
            waiter.send(encode('LOCK.ACQUIRE', 'fifo', 'EXCLUSIVE', 'OWNER', f'w{i}', 'TTL', 60000, 'WAIT', 60000))
            wait_for(f'w{i} to queue', lambda i=i: f'w{i}' in str(control.cmd('LOCK.WAITGRAPH')))
            queue.append(waiter)
        for i, waiter in enumerate(queue):
            assert control.cmd('LOCK.RELEASE', 'fifo', held['lock_id']) == 1
            held = as_map(waiter.cmd_reply(10 * SLOW))
            assert held['owner'] == f'w{i}', held


def test_a_wait_ends_at_its_time():
    with Cluster(3) as cluster:
        acquire(cluster.nodes[0].client(), 'busy', 'OWNER', 'a', 'TTL', 60000)
        begun = time.monotonic()
        expect_error('TIMEOUT', cluster.nodes[1].client().cmd, 'LOCK.ACQUIRE', 'busy', 'EXCLUSIVE', 'OWNER', 'b', 'WAIT', 300)
        assert time.monotonic() - begun >= 0.3


def test_a_waiter_that_hangs_up_leaves_the_queue():
    with Cluster(3) as cluster:
        control = cluster.nodes[0].client()
        acquire(control, 'left', 'OWNER', 'a', 'TTL', 60000)
        waiter = cluster.nodes[1].client()
        waiter.send(encode('LOCK.ACQUIRE', 'left', 'EXCLUSIVE', 'OWNER', 'gone', 'WAIT', 60000))
        wait_for('the waiter to queue', lambda: 'gone' in str(control.cmd('LOCK.WAITGRAPH')))
        waiter.close()
        wait_for('the waiter to leave', lambda: 'gone' not in str(control.cmd('LOCK.WAITGRAPH')))


def test_a_lock_is_lost_when_its_time_ends():
    with Cluster(3) as cluster:
        client = cluster.nodes[0].client()
        old = acquire(client, 'short', 'OWNER', 'a', 'TTL', 200)
        new = acquire(cluster.nodes[1].client(), 'short', 'OWNER', 'b', 'TTL', 60000, 'WAIT', 20000)
        assert int(new['token']) > int(old['token'])
        expect_error('STALE', client.cmd, 'LOCK.RENEW', 'short', old['lock_id'], 'TTL', 1000)
        assert client.cmd('LOCK.CHECK', 'short', old['token'])[0] == 0


def test_renew_keeps_a_lock_beyond_its_first_time():
    with Cluster(1) as cluster:
        client = cluster.nodes[0].client()

        def renewed(seconds):
            held = acquire(client, f'kept{seconds}', 'OWNER', 'a', 'TTL', int(seconds * 1000))
            assert client.cmd('LOCK.RENEW', f'kept{seconds}', held['lock_id'], 'TTL', 600000) == 1
        seconds, _ = in_time(0.3, renewed)
        expect_error('TIMEOUT', client.cmd, 'LOCK.ACQUIRE', f'kept{seconds}', 'EXCLUSIVE', 'OWNER', 'b', 'WAIT', int(seconds * 2000), timeout=seconds * 2 + 30)


def test_a_deadlock_is_refused_with_its_cycle():
    with Cluster(3) as cluster:
        one, two = cluster.nodes[0].client(), cluster.nodes[1].client()
        acquire(one, 'r1', 'OWNER', 'alice', 'TTL', 60000)
        acquire(two, 'r2', 'OWNER', 'bob', 'TTL', 60000)
        one.send(encode('LOCK.ACQUIRE', 'r2', 'EXCLUSIVE', 'OWNER', 'alice', 'WAIT', 60000))
        wait_for('alice to wait', lambda: 'alice' in str(two.cmd('LOCK.WAITGRAPH')))
        refused = expect_error('DEADLOCK', two.cmd, 'LOCK.ACQUIRE', 'r1', 'EXCLUSIVE', 'OWNER', 'bob', 'WAIT', 60000)
        for name in ('alice', 'bob', 'r1', 'r2'):
            assert name in refused, refused


def test_a_deadlock_across_groups_is_refused():
    with Cluster(3) as cluster:
        one, two = cluster.nodes[0].client(), cluster.nodes[1].client()
        names = [f'{{tag{i}}}r' for i in range(8)]
        for left, right in zip(names[0::2], names[1::2]):
            acquire(one, left, 'OWNER', 'alice', 'TTL', 60000)
            acquire(two, right, 'OWNER', 'bob', 'TTL', 60000)
        one.send(encode('LOCK.ACQUIRE', names[1], 'EXCLUSIVE', 'OWNER', 'alice', 'WAIT', 60000))
        wait_for('alice to wait', lambda: 'alice' in str(cluster.nodes[2].client().cmd('LOCK.INFO', names[1])))
        two.send(encode('LOCK.ACQUIRE', names[0], 'EXCLUSIVE', 'OWNER', 'bob', 'WAIT', 60000))
        watched = {one: None, two: None}

        def one_is_refused():
            for client in watched:
                try:
                    watched[client] = watched[client] or client.read(0.2)
                except TimeoutError:
                    pass
            return [r for r in watched.values() if getattr(r, 'word', '') == 'DEADLOCK']
        assert len(wait_for('one of the two to be refused', one_is_refused, 20)) == 1


def test_the_wait_graph_shows_every_group():
    with Cluster(3) as cluster:
        client = cluster.nodes[0].client()
        waiters = []
        for i in range(6):
            acquire(client, f'{{tag{i}}}g', 'OWNER', f'holder{i}', 'TTL', 60000)
            waiters.append(cluster.nodes[i % 3].client())
            waiters[-1].send(encode('LOCK.ACQUIRE', f'{{tag{i}}}g', 'EXCLUSIVE', 'OWNER', f'waiter{i}', 'WAIT', 60000))

        def all_shown():
            graph = str(client.cmd('LOCK.WAITGRAPH'))
            return all(f'waiter{i}' in graph and f'holder{i}' in graph for i in range(6))
        wait_for('all six edges', all_shown)
        assert all(f'{{tag{i}}}g' in str(client.cmd('LOCK.LIST', 'COUNT', 1000)) for i in range(6))
        assert 'digraph' in client.cmd('LOCK.WAITGRAPH', 'DOT')


def test_readers_share_and_a_writer_is_not_overtaken():
    with Cluster(3) as cluster:
        clients = [n.client() for n in cluster.nodes]
        first = acquire(clients[0], 'doc', 'OWNER', 'r1', 'TTL', 60000, mode='SHARED')
        acquire(clients[1], 'doc', 'OWNER', 'r2', 'TTL', 300, mode='SHARED')
        writer = cluster.nodes[0].client()
        writer.send(encode('LOCK.ACQUIRE', 'doc', 'EXCLUSIVE', 'OWNER', 'w', 'TTL', 60000, 'WAIT', 60000))
        wait_for('the writer to queue', lambda: "'w'" in str(clients[0].cmd('LOCK.WAITGRAPH')))
        expect_error('LOCKED', clients[2].cmd, 'LOCK.ACQUIRE', 'doc', 'SHARED', 'OWNER', 'r3')
        assert clients[0].cmd('LOCK.RELEASE', 'doc', first['lock_id']) == 1
        assert as_map(writer.cmd_reply(20 * SLOW))['owner'] == 'w'


def test_acquireall_takes_all_or_nothing():
    with Cluster(3) as cluster:
        a, b = cluster.nodes[0].client(), cluster.nodes[1].client()
        acquire(a, 'x2', 'OWNER', 'a', 'TTL', 60000)
        expect_error('LOCKED', b.cmd, 'LOCK.ACQUIREALL', 'EXCLUSIVE', 3, 'x1', 'x2', 'x3', 'OWNER', 'b')
        acquire(a, 'x1', 'OWNER', 'c', 'TTL', 60000)
        taken = b.cmd('LOCK.ACQUIREALL', 'EXCLUSIVE', 2, 'x3', 'x4', 'OWNER', 'b')
        assert [as_map(t)['resource'] for t in taken] == ['x3', 'x4'], taken


def test_convert_up_and_down():
    with Cluster(1) as cluster:
        client = cluster.nodes[0].client()
        held = acquire(client, 'c', 'OWNER', 'a', 'TTL', 60000, mode='SHARED')
        client.cmd('LOCK.CONVERT', 'c', held['lock_id'], 'EXCLUSIVE')
        expect_error('LOCKED', client.cmd, 'LOCK.ACQUIRE', 'c', 'SHARED', 'OWNER', 'b')
        info = as_map(client.cmd('LOCK.INFO', 'c'))
        lock_id = as_map(info['holders'][0])['lock_id']
        client.cmd('LOCK.CONVERT', 'c', lock_id, 'SHARED')
        acquire(client, 'c', 'OWNER', 'b', mode='SHARED')


def test_the_end_of_a_session_frees_its_locks():
    with Cluster(3) as cluster:
        client, other = cluster.nodes[0].client(), cluster.nodes[1].client()
        session = retry(client.cmd, 'SESSION.CREATE', 'TTL', 60000)
        for resource in ('s1', 's2', '{far}s3'):
            acquire(client, resource, 'OWNER', 'a', 'SESSION', session)
        client.cmd('SESSION.END', session)
        for resource in ('s1', 's2', '{far}s3'):
            acquire(other, resource, 'OWNER', 'b', 'WAIT', 5000)
        expect_error('NOSESSION', client.cmd, 'LOCK.ACQUIRE', 's9', 'EXCLUSIVE', 'OWNER', 'a', 'SESSION', session)


def test_a_session_that_is_not_kept_alive_ends():
    with Cluster(3) as cluster:
        client, other = cluster.nodes[0].client(), cluster.nodes[1].client(timeout=300)

        def idle(seconds):
            session = retry(client.cmd, 'SESSION.CREATE', 'TTL', int(seconds * 1000))
            acquire(client, f'idle{seconds}', 'OWNER', 'a', 'SESSION', session)
            return session
        seconds, session = in_time(0.5, idle)
        acquire(other, f'idle{seconds}', 'OWNER', 'b', 'WAIT', int(seconds * 1000) + 30000)
        expect_error('NOSESSION', client.cmd, 'SESSION.KEEPALIVE', session)


def test_a_connection_lock_ends_with_its_connection():
    with Cluster(3) as cluster:
        owner = cluster.nodes[0].client()
        acquire(owner, 'conn', 'OWNER', 'a', 'CONNECTION')
        owner.close()
        acquire(cluster.nodes[1].client(), 'conn', 'OWNER', 'b', 'WAIT', 20000)


def test_watch_pushes_what_happens_to_a_resource():
    with Cluster(1) as cluster:
        watcher, client = cluster.nodes[0].client(proto=3), cluster.nodes[0].client()
        watcher.cmd('LOCK.WATCH', 'seen')
        held = acquire(client, 'seen', 'OWNER', 'a', 'TTL', 60000)
        assert 'granted' in str(watcher.read_push()).lower()
        client.cmd('LOCK.RELEASE', 'seen', held['lock_id'])
        assert 'released' in str(watcher.read_push()).lower()


def test_force_frees_by_name_and_fences_the_holder():
    with Cluster(3) as cluster:
        client = cluster.nodes[0].client()
        held = acquire(client, 'stuck', 'OWNER', 'a', 'TTL', 60000)
        cluster.nodes[1].client().cmd('LOCK.FORCE', 'stuck', 'REASON', 'holder hangs')
        acquire(client, 'stuck', 'OWNER', 'b')
        expect_error('STALE', client.cmd, 'LOCK.RELEASE', 'stuck', held['lock_id'])


def test_a_repeated_request_is_answered_not_repeated():
    with Cluster(3) as cluster:
        first = acquire(cluster.nodes[0].client(), 'once', 'OWNER', 'a', 'TTL', 60000, 'IDEM', 'req-1')
        again = acquire(cluster.nodes[1].client(), 'once', 'OWNER', 'a', 'TTL', 60000, 'IDEM', 'req-1')
        assert (first['token'], first['lock_id']) == (again['token'], again['lock_id'])
        client = cluster.nodes[2].client()
        assert client.cmd('LOCK.RELEASE', 'once', first['lock_id']) == 1
        acquire(client, 'once', 'OWNER', 'b')


def test_binary_and_awkward_names():
    with Cluster(1) as cluster:
        client = cluster.nodes[0].client()
        for number, name in enumerate((b'\x00\xff\r\n', b'a b"c\\', 'ключ'.encode(), b'{', b'{}', b'x' * 1024)):
            held = acquire(client, name, 'OWNER', f'o{number}', 'TTL', 60000)
            assert client.cmd('LOCK.RELEASE', name, held['lock_id']) == 1
