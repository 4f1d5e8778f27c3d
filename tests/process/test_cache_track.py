"""CLIENT TRACKING: a client's own copy is told to be old before the write that made it old is acknowledged; and the cache over HTTP."""
from harness import SLOW, Cluster, wait_for
from openapi import Checked
from resp import RespError, encode
from test_cache_coherence import LONG, settled


def error_of(client, *words):
    try:
        return client.cmd(*words)
    except RespError as e:
        return e.text


def test_a_write_anywhere_invalidates_what_was_read():
    with Cluster(3, env=LONG) as cluster, cluster.nodes[0].client(proto=3) as reader:
        other = settled(cluster)[1]
        assert reader.cmd('CLIENT', 'TRACKING', 'ON') == 'OK'
        for value in range(50):
            other.cmd('SET', 'price', value)
            if value > 0:
                assert reader.read_push(5 * SLOW) == ['invalidate', ['price']]
            assert reader.cmd('GET', 'price') == str(value)
            assert reader.pushes == []
        assert reader.cmd('CLIENT', 'TRACKING', 'OFF') == 'OK'
        other.cmd('SET', 'price', 'last')
        assert reader.cmd('GET', 'price') == 'last' and reader.pushes == []


def test_the_push_comes_before_the_writer_is_answered():
    """The reader's socket has the push when the writer has its reply: nothing is waited for."""
    with Cluster(3, env=LONG) as cluster, cluster.nodes[0].client(proto=3) as reader:
        writer = settled(cluster)[1]
        reader.cmd('CLIENT', 'TRACKING', 'ON')
        late = 0
        for value in range(200):
            writer.cmd('SET', 'k', value)
            reader.cmd('GET', 'k')
            reader.pushes.clear()
            writer.cmd('SET', 'k', f'{value} again')
            reader.send(b'*1\r\n$4\r\nPING\r\n')  # what was pushed before lies before its answer
            assert reader.read(5 * SLOW) is not None
            late += reader.pushes != [['invalidate', ['k']]]
        assert late == 0, f'{late} of 200 pushes came after the write was acknowledged'


def test_what_takes_a_copy_tells_of_it():
    """An own write, DEL, MGET's keys, the end of a time to live, and FLUSHALL."""
    with Cluster(3, env=LONG) as cluster, cluster.nodes[2].client(proto=3) as reader:
        other = settled(cluster)[1]
        reader.cmd('CLIENT', 'TRACKING', 'ON')
        reader.cmd('SET', 'own', '1')
        reader.cmd('GET', 'own')
        reader.cmd('SET', 'own', '2')
        assert reader.read_push(5 * SLOW) == ['invalidate', ['own']]
        other.cmd('MSET', 'a', '1', 'b', '2')
        assert reader.cmd('MGET', 'a', 'b', 'c') == ['1', '2', None]
        other.cmd('DEL', 'b')
        assert reader.read_push(5 * SLOW) == ['invalidate', ['b']]
        other.cmd('SET', 'c', 'now there')
        assert reader.read_push(5 * SLOW) == ['invalidate', ['c']]
        reader.cmd('SET', 'short', 'x', 'PX', int(1500 * SLOW))
        assert reader.cmd('GET', 'short') == 'x'
        assert reader.read_push(10 * SLOW) == ['invalidate', ['short']]
        assert reader.cmd('GET', 'a') == '1'
        other.cmd('FLUSHALL')
        assert ['invalidate', ['a']] in [reader.read_push(5 * SLOW)]


def test_noloop_optin_optout():
    with Cluster(1, env=LONG) as cluster, cluster.nodes[0].client(proto=3) as reader, cluster.nodes[0].client() as other:
        reader.cmd('CLIENT', 'TRACKING', 'ON', 'NOLOOP')
        reader.cmd('GET', 'k')
        reader.cmd('SET', 'k', 'own')
        assert reader.cmd('PING') == 'PONG' and reader.pushes == []
        reader.cmd('CLIENT', 'TRACKING', 'ON', 'OPTIN')
        reader.cmd('GET', 'k')
        other.cmd('SET', 'k', '1')
        assert reader.cmd('PING') == 'PONG' and reader.pushes == []
        reader.cmd('CLIENT', 'CACHING', 'YES')
        reader.cmd('GET', 'k')
        other.cmd('SET', 'k', '2')
        assert reader.read_push(5 * SLOW) == ['invalidate', ['k']]
        reader.cmd('CLIENT', 'TRACKING', 'OFF')
        reader.cmd('CLIENT', 'TRACKING', 'ON', 'OPTOUT')
        reader.cmd('CLIENT', 'CACHING', 'NO')
        reader.cmd('GET', 'k')
        other.cmd('SET', 'k', '3')
        assert reader.cmd('PING') == 'PONG' and reader.pushes == []
        assert reader.cmd('CLIENT', 'TRACKINGINFO')['flags'] == ['on', 'optout']


def test_a_hit_of_a_lease_is_a_read():
    """CACHE.LEASE answered here at once, after a miss, and after waiting for who fills; OPTIN counts when it was asked."""
    with Cluster(3) as cluster, cluster.nodes[0].client(proto=3) as reader, cluster.nodes[1].client() as writer, cluster.nodes[0].client(proto=3) as watch:
        def old_after(write, *key):
            assert reader.pushes == []
            writer.cmd(*write)
            assert list(reader.read_push()) == ['invalidate', list(key)]
        reader.cmd('CLIENT', 'TRACKING', 'ON')
        writer.cmd('SET', 'k', '1')
        for value in ('1', '2'):
            assert reader.cmd('CACHE.LEASE', 'k')['value'] == value
            assert reader.cmd('CACHE.LEASE', 'k')['value'] == value
            old_after(('SET', 'k', str(int(value) + 1)), 'k')
        token = writer.cmd('CACHE.LEASE', 'w')[3]
        reader.send(encode('CACHE.LEASE', 'w', 'WAIT', '20000'))
        wait_for('the reader to wait', lambda: watch.cmd('CACHE.STATS')['lease_waiters'] == 1)
        assert writer.cmd('SET', 'w', 'filled', 'FILL', str(token)) == 'OK'
        assert reader.cmd_reply()['value'] == 'filled'
        old_after(('SET', 'w', 'x'), 'w')
        reader.cmd('CLIENT', 'TRACKING', 'OFF')
        reader.cmd('CLIENT', 'TRACKING', 'ON', 'OPTIN')
        reader.cmd('CACHE.LEASE', 'k')
        writer.cmd('SET', 'k', '7')
        assert reader.cmd('PING') == 'PONG' and reader.pushes == []
        reader.cmd('CLIENT', 'CACHING', 'YES')
        reader.cmd('CACHE.LEASE', 'k')
        old_after(('DEL', 'k'), 'k')


def test_what_tracking_refuses():
    with Cluster(1) as cluster, cluster.nodes[0].client(proto=3) as three, cluster.nodes[0].client() as two:
        assert 'RESP3' in error_of(two, 'CLIENT', 'TRACKING', 'ON')
        assert 'both OPTIN mode and OPTOUT' in error_of(three, 'CLIENT', 'TRACKING', 'ON', 'OPTIN', 'OPTOUT')
        assert 'syntax error' in error_of(three, 'CLIENT', 'TRACKING', 'MAYBE')
        assert 'in tracking mode' in error_of(three, 'CLIENT', 'CACHING', 'YES')


def test_the_cache_over_http():
    with Cluster(3) as cluster:
        first, second = cluster.nodes[0], cluster.nodes[1]
        status, body = first.request('POST', '/cache', {'key': 'h', 'value': 'v', 'ttl': 60})
        assert (status, body) == (200, {'ok': True}), body
        status, body = second.request('GET', '/cache/h')
        assert status == 200 and body['value'] == 'v' and body['state'] in ('E', 'S') and int(body['version']) > 0, body
        status, body = second.request('GET', '/cache/none')
        assert status == 404 and body['code'] == 'NOKEY', body
        status, body = first.request('POST', '/cache/invalidate', {'key': 'h'})
        assert status == 200 and body['copies'] >= 1, body
        assert second.request('GET', '/cache/h')[1]['value'] == 'v'
        status, body = second.request('GET', '/stats')
        assert status == 200 and body['misses'] >= 1 and 0 <= body['hit_rate'] <= 1, body
        assert first.request('POST', '/cache', {'key': 'h'})[0] == 400
        assert first.request('POST', '/cache', {'key': 'h', 'value': 'v', 'more': 1})[0] == 400
        first.request('POST', '/cache', {'key': 'short', 'value': 'v', 'ttl_ms': 300})
        wait_for('the key to go', lambda: second.request('GET', '/cache/short')[0] == 404)
        first.request('POST', '/cache', {'key': 'long', 'value': 'v', 'ttl': 30 * 86400})
        with second.client() as client:
            assert 29 * 86400 < client.cmd('TTL', 'long') <= 30 * 86400


def test_values_over_http_come_back_as_they_were_written():
    """Text, bytes and other JSON: what GET answers can be posted again, and the key has the same bytes."""
    coded = {'encoding': 'base64', 'data': 'AP9h'}
    values = (('grün', 'grün'.encode(), 'grün'), (coded, b'\0\xffa', coded), (5, b'5', '5'), (None, b'null', 'null'), ({'a': [1]}, b'{"a":[1]}', '{"a":[1]}'),
              ({'encoding': 'base64'}, b'{"encoding":"base64"}', '{"encoding":"base64"}'))
    with Cluster(1) as cluster:
        node, client = Checked(cluster.nodes[0]), cluster.nodes[0].client()
        for value, stored, shown in values:
            for posted in (value, shown):
                assert node.request('POST', '/cache', {'key': 'k', 'value': posted}) == (200, {'ok': True}), posted
                client.send(encode('GET', 'k'))
                assert client.read() == stored, posted
                assert node.request('GET', '/cache/k', template='/cache/{key}')[1]['value'] == shown, posted
        status, body = node.request('POST', '/cache', {'key': 'k', 'value': {'encoding': 'hex', 'data': '00'}})
        assert status == 400 and 'value.encoding must be' in body['error'], body
        status, body = node.request('POST', '/cache', {'key': 'k', 'value': {'encoding': 'base64', 'data': '*'}})
        assert status == 400 and 'value.data is not base64' in body['error'], body
        node.request('GET', '/stats')
        node.request('POST', '/cache/invalidate', {'key': 'k'})
