"""Queues over HTTP, and every answer held to share/openapi.json."""
import base64
import http.client
import json
import threading
import time

from harness import SLOW, Cluster, blocked, retry, wait_for
from openapi import Checked, load
from queue_help import ack, consume, publish

RAW = bytes(range(256))


def doors(cluster):
    return [Checked(node, load()) for node in cluster.nodes]


def http_consume(door, topic, **more):
    status, answer = door.request('POST', '/consume', {'topic': topic, 'consumer_group': 'g', 'consumer_id': 'c', **more}, timeout=60)
    assert status == 200, answer
    return answer['messages']


def http_take(door, topic, count, **more):
    taken = []
    deadline = time.monotonic() + 20 * SLOW
    while len(taken) < count:
        assert time.monotonic() < deadline, taken
        got = http_consume(door, topic, wait_ms=2000, **more)
        if got:
            status, answer = door.request('POST', '/ack', {'topic': topic, 'consumer_group': 'g', 'receipts': [m['receipt'] for m in got]})
            assert (status, answer) == (200, {'acked': len(got)}), answer
        taken += got
    return taken


def test_publish_consume_and_acknowledge_by_json():
    with Cluster(3) as cluster:
        a, b, c = doors(cluster)
        status, made = a.request('POST', '/publish', {'topic': 't', 'payload': 'hello', 'key': 'k', 'headers': {'h': 'v'}})
        assert status == 200 and made['message_id'] == f"t:{made['partition']}:{made['offset']}" and made['offset'] == '0', made
        got = http_consume(b, 't', wait_ms=5000)
        assert len(got) == 1 and got[0]['payload'] == 'hello' and got[0]['key'] == 'k' and got[0]['headers'] == {'h': 'v'}, got
        assert got[0]['message_id'] == made['message_id'] and got[0]['deliveries'] == 1 and 'encoding' not in got[0]
        body = {'topic': 't', 'consumer_group': 'g', 'message_id': got[0]['receipt']}
        assert c.request('POST', '/ack', body) == (200, {'acked': 1})
        status, stale = a.request('POST', '/ack', body)
        assert status == 409 and stale['code'] == 'STALERECEIPT', stale
        assert http_consume(b, 't') == []


def test_several_messages_each_with_its_own_options():
    with Cluster(3) as cluster:
        a, b, _ = doors(cluster)
        messages = [{'payload': f'm{i}', 'key': f'k{i % 3}', 'id': f'id{i % 15}', 'headers': {'n': str(i)}} for i in range(20)]
        status, answer = a.request('POST', '/publish', {'topic': 'many', 'messages': messages})
        assert status == 200 and len(answer['messages']) == 20, answer
        assert len({m['message_id'] for m in answer['messages']}) == 15, 'ids that were seen are published once'
        got = http_take(b, 'many', 15)
        assert {m['payload']: m['headers']['n'] for m in got} == {f'm{i}': str(i) for i in range(15)}
        for body in ({'messages': []}, {'messages': [{'key': 'x'}]}, {'messages': ['x']}, {'messages': [{'payload': 'x', 'what': 1}]},
                     {'messages': messages, 'payload': 'x'}, {'messages': [{'payload': 'x'}] * 1001}, {}):
            assert a.request('POST', '/publish', {'topic': 'many', **body})[0] == 400, body


def test_bytes_that_are_not_text_travel_as_base64_between_the_doors():
    with Cluster(3) as cluster:
        a, b, _ = doors(cluster)
        client = cluster.nodes[2].client()
        coded = base64.b64encode(RAW).decode()
        assert a.request('POST', '/publish', {'topic': 'raw', 'payload': coded, 'encoding': 'base64'})[0] == 200
        publish(client, 'raw', RAW, 'KEY', b'\xff', 'HEADER', 'h', b'\xfe')
        assert a.request('POST', '/publish', {'topic': 'raw', 'payload': ''})[0] == 200
        assert a.request('POST', '/publish', {'topic': 'raw', 'payload': {'n': [1, 2.5, None]}})[0] == 200
        got = http_take(b, 'raw', 4)
        binary = [m for m in got if m.get('encoding') == 'base64']
        assert len(binary) == 2 and all(base64.b64decode(m['payload']) == RAW for m in binary), got
        assert {json.dumps(m['key']) for m in binary} == {'null', '{"encoding": "base64", "data": "/w=="}'}
        assert sorted(m['payload'] for m in got if 'encoding' not in m) == ['', '{"n":[1,2.5,null]}']
        for body in ({'payload': '?', 'encoding': 'base64'}, {'payload': 'x', 'encoding': 'rot13'}, {'payload': 5, 'encoding': 'base64'}):
            assert a.request('POST', '/publish', {'topic': 'raw', **body})[0] == 400, body


def test_nack_extend_dead_letters_and_redrive_by_json():
    with Cluster(3) as cluster:
        a, b, _ = doors(cluster)
        assert a.request('POST', '/topic', {'topic': 'n', 'partitions': 1, 'max_deliver': 2, 'backoff_ms': 0})[0] == 201
        a.request('POST', '/publish', {'topic': 'n', 'payload': 'x'})
        m = http_consume(b, 'n', wait_ms=5000, visibility_ms=500)[0]
        body = {'topic': 'n', 'consumer_group': 'g', 'receipt': m['receipt']}
        assert a.request('POST', '/extend', {**body, 'ms': 60000}) == (200, {'extended': 1})
        assert a.request('POST', '/nack', {**body, 'mode': 'silent'}) == (200, {'nacked': 1})
        assert a.request('POST', '/nack', body)[0] == 409
        assert a.request('POST', '/extend', {**body, 'ms': 1})[0] == 409
        for turn in (1, 2):
            m = http_consume(b, 'n', wait_ms=5000)[0]
            assert m['deliveries'] == turn, m
            assert a.request('POST', '/nack', {**body, 'receipt': m['receipt'], 'delay_ms': 0, 'reason': f'no {turn}'})[0] == 200
        status, dead = b.request('GET', '/topic/n/dlq?group=g', template='/topic/{topic}/dlq')
        assert status == 200 and [(d['payload'], d['reason'], d['deliveries']) for d in dead['messages']] == [('x', 'no 2', 2)], dead
        assert b.request('POST', '/redrive', {'topic': 'n', 'consumer_group': 'g'}) == (200, {'redriven': 1})
        assert len(http_take(a, 'n', 1)) == 1


def test_topics_and_groups_are_shown_made_and_deleted():
    with Cluster(3) as cluster:
        a, b, c = doors(cluster)
        assert a.request('POST', '/topic', {'topic': 's h/o p', 'partitions': 4, 'ordered': 'key', 'visibility_ms': 5000})[0] == 201
        status, refused = b.request('POST', '/topic', {'topic': 's h/o p', 'partitions': 5})
        assert status == 409 and refused['code'] == 'TOPICEXISTS', refused
        for i in range(40):
            assert b.request('POST', '/publish', {'topic': 's h/o p', 'payload': f'm{i}', 'key': f'k{i}'})[0] == 200
        assert [t['topic'] for t in c.request('GET', '/topics')[1]['topics']] == ['s h/o p']
        status, topic = c.request('GET', '/topic/s%20h%2Fo%20p', template='/topic/{topic}')
        assert status == 200 and topic['messages'] == 40 and topic['ordered'] == 'key' and len(topic['partition_list']) == 4, topic
        got = http_consume(a, 's h/o p', wait_ms=5000, max_messages=5)
        status, group = b.request('GET', '/group/g?topic=s+h%2Fo+p', template='/group/{group}')
        assert status == 200 and group['generation'] == 1 and group['in_flight'] == len(got) and group['lag'] == 40 - len(got), group
        assert [m['consumer'] for m in group['members']] == ['c'] and sorted(group['members'][0]['partitions']) == [0, 1, 2, 3], group
        assert sorted(p['partition'] for p in group['partitions']) == [0, 1, 2, 3], group
        assert b.request('GET', '/group/nobody?topic=s+h%2Fo+p', template='/group/{group}')[0] == 404
        assert b.request('GET', '/group/g?topic=none', template='/group/{group}')[0] == 404
        assert b.request('GET', '/group/g', template='/group/{group}')[0] == 400
        assert b.request('DELETE', '/topic/s%20h%2Fo%20p', template='/topic/{topic}') == (200, {'deleted': True})
        assert a.request('GET', '/topic/s%20h%2Fo%20p', template='/topic/{topic}')[0] == 404
        assert a.request('DELETE', '/topic/s%20h%2Fo%20p', template='/topic/{topic}')[0] == 404


def test_bad_bodies_are_refused_with_what_is_wrong():
    with Cluster(1) as cluster:
        door = doors(cluster)[0]
        retry(cluster.nodes[0].client().cmd, 'QUEUE.CREATE', 't', 'PARTITIONS', 2)
        group = {'topic': 't', 'consumer_group': 'g'}
        for path, body in [('/publish', {}), ('/publish', {'topic': 't'}), ('/publish', {'topic': '', 'payload': 'x'}),
                           ('/publish', {'topic': 5, 'payload': 'x'}), ('/publish', {'topic': 't', 'payload': 'x', 'delay_ms': -1}),
                           ('/publish', {'topic': 't', 'payload': 'x', 'headers': {'a': 1}}), ('/publish', {'topic': 't', 'payload': 'x', 'extra': 1}),
                           ('/publish', {'topic': 't', 'payload': 'x', 'headers': {str(i): '' for i in range(65)}}),
                           ('/consume', group), ('/consume', {**group, 'consumer_id': 'c', 'max_messages': 0}),
                           ('/consume', {**group, 'consumer_id': 'c', 'max_messages': 'x'}), ('/consume', {**group, 'consumer_id': 'c', 'wait_ms': 1.5}),
                           ('/consume', {**group, 'consumer_id': 'x' * 129}), ('/ack', group), ('/ack', {**group, 'receipts': []}),
                           ('/ack', {**group, 'receipts': ['nonsense']}), ('/ack', {**group, 'receipts': [1]}), ('/ack', {**group, 'receipt': '9-1-0-1'}),
                           ('/ack', {**group, 'receipt': '0-1-0-1', 'message_id': '0-1-0-1'}), ('/nack', {**group, 'receipt': '0-1-0-1', 'mode': 'maybe'}),
                           ('/nack', group), ('/extend', {**group, 'receipt': '0-1-0-1'}), ('/extend', {**group, 'ms': 5}),
                           ('/redrive', {**group, 'count': 0}), ('/topic', {'topic': 't', 'partitions': 0}), ('/topic', {}),
                           ('/topic', {'topic': 't', 'ordered': 'yes'}), ('/topic', {'topic': 't', 'visibility_ms': 1})]:
            status, answer = door.request('POST', path, body)
            assert status == 400 and answer['code'] == 'ERR' and answer['error'], (path, body, status, answer)
        for path, body in [('/ack', {'topic': 'none', 'consumer_group': 'g', 'receipt': '0-1-0-1'}), ('/redrive', {'topic': 'none', 'consumer_group': 'g'})]:
            status, answer = door.request('POST', path, body)
            assert status == 404 and answer['code'] == 'NOTOPIC', answer
        assert door.request('GET', '/topic/t/dlq', template='/topic/{topic}/dlq')[0] == 400
        assert door.node.request('GET', '/publish')[0] == 405


def test_a_first_request_for_a_topic_waits_in_its_turn_of_a_pipeline():
    """Requests put off until their topic's row has come are answered in their order among others of the connection."""
    with Cluster(3) as cluster:
        retry(cluster.nodes[0].client().cmd, 'QUEUE.CREATE', 'p', 'PARTITIONS', 1)
        node = cluster.nodes[1]
        body = json.dumps({'topic': 'p', 'payload': 'x'})
        raw = ''.join(f'POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}GET /livez HTTP/1.1\r\nHost: x\r\n\r\n' for _ in range(8))
        door = http.client.HTTPConnection(node.host, node.http, timeout=10 * SLOW)
        door.connect()
        door.sock.sendall(raw.encode())
        data = b''
        while data.count(b'HTTP/1.1 200') < 16 or not data.endswith(b'\n'):
            more = door.sock.recv(65536)
            assert more, data
            data += more
        offsets = [int(part.split(b'"')[0]) for part in data.split(b'"offset":"')[1:]]
        assert offsets == list(range(8)), data
        door.close()


def test_a_long_poll_by_json_wakes_and_a_client_that_hangs_up_gives_back():
    with Cluster(3) as cluster:
        a, b, _ = doors(cluster)
        retry(cluster.nodes[0].client().cmd, 'QUEUE.CREATE', 'w', 'PARTITIONS', 1)
        assert http_consume(b, 'w') == []
        got = []

        def wait():
            got.extend(http_consume(b, 'w', wait_ms=30000))
        thread = threading.Thread(target=wait)
        thread.start()
        wait_for('it to wait', lambda: blocked(cluster.nodes[1]) > 0)
        a.request('POST', '/publish', {'topic': 'w', 'payload': 'x'})
        thread.join(20 * SLOW)  # long before its 30 s have passed
        assert got, 'it was not woken'
        b.request('POST', '/ack', {'topic': 'w', 'consumer_group': 'g', 'receipt': got[0]['receipt']})
        begun = time.monotonic()
        assert http_consume(b, 'w', wait_ms=500) == [] and time.monotonic() - begun > 0.4
        door = http.client.HTTPConnection(cluster.nodes[1].host, cluster.nodes[1].http, timeout=5)
        door.request('POST', '/consume', json.dumps({'topic': 'w', 'consumer_group': 'g', 'consumer_id': 'c', 'wait_ms': 60000}))
        wait_for('it to wait', lambda: blocked(cluster.nodes[1]) > 0)
        door.close()
        wait_for('it to be gone', lambda: blocked(cluster.nodes[1]) == 0)
        a.request('POST', '/publish', {'topic': 'w', 'payload': 'y'})
        one = wait_for('the message for somebody who is there', lambda: consume(cluster.nodes[2].client(), 'w', block=1000), 30)
        assert one[0]['payload'] == 'y' and one[0]['deliveries'] == 1, one


def test_the_document_names_every_path_of_the_queue():
    paths = load()['paths']
    for path in ('/publish', '/consume', '/ack', '/nack', '/extend', '/redrive', '/topics', '/topic', '/topic/{topic}', '/topic/{topic}/dlq', '/group/{group}'):
        assert path in paths, path


def sample(node, name):
    lines = node.request('GET', '/metrics')[1].splitlines()
    return next(int(line.rsplit(' ', 1)[1]) for line in lines if line.startswith(name + '{'))


def test_metrics_and_info_follow_what_happens_to_messages():
    with Cluster(3) as cluster:
        client = cluster.nodes[0].client()
        retry(client.cmd, 'QUEUE.CREATE', 'm', 'PARTITIONS', 3, 'MAXDELIVER', 1)
        for i in range(12):
            publish(client, 'm', f'm{i}', 'KEY', f'{i % 10}', 'ID', f'{i % 10}')
        got = []
        while len(got) < 10:
            got += consume(client, 'm', count=10, block=3000)
        ack(client, 'm', got[:6])
        client.cmd('QUEUE.NACK', 'm', 'GROUP', 'g', got[6]['receipt'], 'FATAL')
        for i in range(5):
            publish(client, 'm', f'more{i}')
        expected = {'published_total': 15, 'duplicates_total': 2, 'deliveries_total': 10, 'acked_total': 6, 'dead_letters_total': 1, 'dead': 1,
                    'in_flight': 3, 'size': 5, 'topics': 1, 'partitions': 3, 'consumer_group_members': 1, 'rebalances_total': 1}
        for node in cluster.nodes:  # with three copies of everything each node has all of it
            found = {}

            def counted(node=node, found=found):
                found.update({n: sample(node, 'synaxis_queue_' + n) for n in expected})
                return found == expected
            try:
                wait_for(f'{node.name} to count', counted)
            except AssertionError:
                assert found == expected, f'{node.name}: {found}'
        info = client.cmd('INFO', 'queues')
        assert 'queue_published:15' in info and 'queue_messages:5' in info and 'topics:1' in info, info
