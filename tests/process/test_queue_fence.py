"""QUEUE.PUBLISH with FENCE: who lost the lock publishes nothing any more, as far as docs/queue.md, "Fenced publishes", says."""
from harness import Cluster, acquire, expect_error, retry
from openapi import Checked, load
from queue_help import nothing, publish, take


def refused(client, topic, resource, token, *options):
    text = expect_error('FENCED', client.cmd, 'QUEUE.PUBLISH', topic, 'late', 'FENCE', resource, token, *options)
    assert f"token {token} of '{resource}' is old" in text, text
    return int(text.split(', ')[1].split()[0])


def test_publish_under_a_lock_that_is_lost_is_refused():
    """Topic and lock share a tag: refused from the grant on, though the new holder has published nothing."""
    with Cluster(3) as cluster:
        a, b, c = (node.client() for node in cluster.nodes)
        first = acquire(a, '{t}lock')
        publish(a, '{t}topic', 'one', 'FENCE', '{t}lock', first['token'])
        assert retry(a.cmd, 'LOCK.RELEASE', '{t}lock', first['lock_id']) == 1
        publish(a, '{t}topic', 'two', 'FENCE', '{t}lock', first['token'])
        second = acquire(b, '{t}lock')
        assert refused(a, '{t}topic', '{t}lock', first['token']) == second['token']
        publish(b, '{t}topic', 'three', 'KEY', 'k', 'FENCE', '{t}lock', second['token'])
        assert refused(c, '{t}topic', '{t}lock', first['token'], 'ID', 'mine') == second['token']
        assert [m['payload'] for m in take(c, '{t}topic', 3)] == ['one', 'two', 'three']
        nothing(c, '{t}topic')


def test_publish_with_a_key_is_refused_after_a_newer_token_and_after_faults():
    with Cluster(3) as cluster:
        clients = [node.client() for node in cluster.nodes]
        assert retry(clients[0].cmd, 'QUEUE.CREATE', 't', 'PARTITIONS', 12) == 'OK'
        publish(clients[0], 't', 'new', 'KEY', 'k', 'FENCE', 'anything', 7)
        for client in clients:
            assert refused(client, 't', 'anything', 6, 'KEY', 'k') == 7
        assert clients[0].cmd('QUEUE.PUBLISH', 't', 'x', 'KEY', 'k', 'FENCE', 'another', 6)
        for node in cluster.nodes:
            node.kill()
            node.start()
            cluster.wait_ready()
            assert retry(lambda: refused(node.client(), 't', 'anything', 6, 'KEY', 'k')) == 7
        cluster.nodes[0].client().cmd('QUEUE.DELETE', 't')
        publish(cluster.nodes[0].client(), 't', 'old', 'KEY', 'k', 'FENCE', 'anything', 1)


def test_a_batch_is_judged_message_by_message():
    with Cluster(1) as cluster, cluster.nodes[0].client() as client:
        assert retry(client.cmd, 'QUEUE.CREATE', 't', 'PARTITIONS', 1) == 'OK'
        publish(client, 't', 'a', 'FENCE', 'r', 5)
        ids = retry(client.cmd, 'QUEUE.PUBLISHBATCH', 't', 3, 'b', 'c', 'd', 'FENCE', 'r', 6)
        assert len(ids) == 3 and all(i.startswith('t:') for i in ids)
        late = client.cmd('QUEUE.PUBLISHBATCH', 't', 2, 'e', 'f', 'FENCE', 'r', 5)
        assert [str(i).split()[0] for i in late] == ['FENCED'] * 2, late
        for i in range(20):
            client.send(b''.join(encode_publish(i, j) for j in range(3)))
            seen = [outcome(client) for _ in range(3)]
            assert seen == ['t', 'FENCED', 't'], seen
        for words in (('FENCE',), ('FENCE', 'r'), ('FENCE', '', '1'), ('FENCE', 'r', '-1'), ('FENCE', 'r', 'x')):
            expect_error('ERR', client.cmd, 'QUEUE.PUBLISH', 't', 'x', *words)


def encode_publish(turn, place):
    """Newer, older, newer: in one batch, which names the right one's token."""
    from resp import encode
    token = (2 * turn + 10, 5 + turn, 2 * turn + 11)[place]
    return encode('QUEUE.PUBLISH', 't', f'{turn}-{place}', 'FENCE', 'r', token)


def outcome(client):
    from resp import RespError
    try:
        return client.cmd_reply().split(':')[0]
    except RespError as error:
        return error.word


def test_fences_by_http():
    with Cluster(1) as cluster:
        door = Checked(cluster.nodes[0], load())
        assert retry(cluster.nodes[0].client().cmd, 'QUEUE.CREATE', 't', 'PARTITIONS', 1) == 'OK'
        fence = {'resource': 'r', 'token': 5}
        assert door.request('POST', '/publish', {'topic': 't', 'payload': 'x', 'fence': fence})[0] == 200
        assert door.request('POST', '/publish', {'topic': 't', 'payload': 'x', 'fence': {'resource': 'r', 'token': '6'}})[0] == 200
        status, answer = door.request('POST', '/publish', {'topic': 't', 'payload': 'x', 'fence': fence})
        assert status == 412 and answer['code'] == 'FENCED', answer
        status, answer = door.request('POST', '/publish', {'topic': 't', 'messages': [{'payload': 'a', 'fence': fence}, {'payload': 'b'}]})
        assert status == 200 and 'FENCED' in str(answer), answer
        for wrong in ({'resource': 'r'}, {'resource': '', 'token': 1}, {'resource': 'r', 'token': -1}, {'resource': 'r', 'token': 1, 'x': 1}, 'r'):
            assert cluster.nodes[0].request('POST', '/publish', {'topic': 't', 'payload': 'x', 'fence': wrong})[0] == 400, wrong
