"""What QUEUE.* commands refuse, each with its word, and names and payloads that are anything but plain text."""
from harness import Cluster, expect_error, retry
from queue_help import ack, consume, message, publish, take
from resp import RespError, as_map, encode

COMMANDS = {  # the least arguments each takes
    'QUEUE.CREATE': 1, 'QUEUE.ALTER': 3, 'QUEUE.DELETE': 1, 'QUEUE.PUBLISH': 2, 'QUEUE.PUBLISHBATCH': 3, 'QUEUE.CONSUME': 5, 'QUEUE.ACK': 4,
    'QUEUE.NACK': 4, 'QUEUE.EXTEND': 5, 'QUEUE.JOIN': 5, 'QUEUE.LEAVE': 5, 'QUEUE.GROUPS': 1, 'QUEUE.LAG': 3, 'QUEUE.INFO': 1, 'QUEUE.PEEK': 3,
    'QUEUE.SEEK': 4, 'QUEUE.DLQ': 3, 'QUEUE.REDRIVE': 3}
LOOKS = [('QUEUE.INFO', 'none'), ('QUEUE.GROUPS', 'none'), ('QUEUE.LAG', 'none', 'GROUP', 'g'), ('QUEUE.PEEK', 'none', 0, 0),
         ('QUEUE.DLQ', 'none', 'GROUP', 'g'), ('QUEUE.REDRIVE', 'none', 'GROUP', 'g'), ('QUEUE.SEEK', 'none', 'GROUP', 'g', 'END'),
         ('QUEUE.ACK', 'none', 'GROUP', 'g', '0-1-0-1'), ('QUEUE.NACK', 'none', 'GROUP', 'g', '0-1-0-1'), ('QUEUE.DELETE', 'none'),
         ('QUEUE.EXTEND', 'none', 'GROUP', 'g', '0-1-0-1', 1000), ('QUEUE.LEAVE', 'none', 'GROUP', 'g', 'CONSUMER', 'c'),
         ('QUEUE.ALTER', 'none', 'MAXDELIVER', 3)]
BAD = [
    ('QUEUE.CREATE', 't', 'PARTITIONS', 0), ('QUEUE.CREATE', 't', 'PARTITIONS', 1025), ('QUEUE.CREATE', 't', 'PARTITIONS', '-1'),
    ('QUEUE.CREATE', 't', 'PARTITIONS', '1x'), ('QUEUE.CREATE', 't', 'PARTITIONS'), ('QUEUE.CREATE', 't', 'NONSENSE', 1),
    ('QUEUE.CREATE', 't', 'ORDERED', 'maybe'), ('QUEUE.CREATE', 't', 'REPLICAS', 4), ('QUEUE.CREATE', 't', 'VISIBILITY', 1),
    ('QUEUE.CREATE', 't', 'MAXDELIVER', 99999999999999999999), ('QUEUE.CREATE', ''), ('QUEUE.CREATE', 'n' * 1025),
    ('QUEUE.PUBLISH', 't', 'x', 'KEY'), ('QUEUE.PUBLISH', 't', 'x', 'KEY', 'k' * 1025), ('QUEUE.PUBLISH', 't', 'x', 'ID', ''),
    ('QUEUE.PUBLISH', 't', 'x', 'ID', 'i' * 129), ('QUEUE.PUBLISH', 't', 'x', 'DELAY', -1), ('QUEUE.PUBLISH', 't', 'x', 'DELAY', 86400001),
    ('QUEUE.PUBLISH', 't', 'x', 'HEADER', 'name'), ('QUEUE.PUBLISH', 't', 'x', 'HEADER', '', 'v'), ('QUEUE.PUBLISH', 't', 'x', 'what'),
    ('QUEUE.PUBLISH', 't', 'x', *['HEADER', 'a', 'b'] * 65), ('QUEUE.PUBLISH', '', 'x'), ('QUEUE.PUBLISH', 'n' * 1025, 'x'),
    ('QUEUE.PUBLISHBATCH', 't', 0, 'x'), ('QUEUE.PUBLISHBATCH', 't', 2, 'x'), ('QUEUE.PUBLISHBATCH', 't', 'two', 'x'),
    ('QUEUE.PUBLISHBATCH', 't', 1, 'x', 'ID', 'i'), ('QUEUE.PUBLISHBATCH', 't', 1, 'x', 'y'),
    ('QUEUE.CONSUME', 't', 'GROUP', 'g', 'CONSUMER', ''), ('QUEUE.CONSUME', 't', 'GROUP', '', 'CONSUMER', 'c'),
    ('QUEUE.CONSUME', 't', 'GROUP', 'g' * 129, 'CONSUMER', 'c'), ('QUEUE.CONSUME', 't', 'GROUP', 'g', 'COUNT', '1'),
    ('QUEUE.CONSUME', 't', 'GROUP', 'g', 'CONSUMER', 'c', 'COUNT', 0), ('QUEUE.CONSUME', 't', 'GROUP', 'g', 'CONSUMER', 'c', 'COUNT', 10001),
    ('QUEUE.CONSUME', 't', 'GROUP', 'g', 'CONSUMER', 'c', 'BLOCK', -5), ('QUEUE.CONSUME', 't', 'GROUP', 'g', 'CONSUMER', 'c', 'VISIBILITY', 1),
    ('QUEUE.CONSUME', 't', 'GROUP', 'g', 'CONSUMER', 'c', 'TTL', 1000), ('QUEUE.CONSUME', 't', 'GROUP', 'g', 'CONSUMER', 'c', 'BLOCK'),
    ('QUEUE.JOIN', 't', 'GROUP', 'g', 'CONSUMER', 'c', 'TTL', 1), ('QUEUE.JOIN', 't', 'GROUP', 'g', 'CONSUMER', 'c', 'COUNT', 1),
    ('QUEUE.ACK', 't', 'GRUPPE', 'g', '0-1-0-1'), ('QUEUE.ACK', 't', 'GROUP', 'g', ''), ('QUEUE.ACK', 't', 'GROUP', 'g', '1-2-3'),
    ('QUEUE.ACK', 't', 'GROUP', 'g', '0-1-0-1-'), ('QUEUE.ACK', 't', 'GROUP', 'g', '0-1--1'), ('QUEUE.ACK', 't', 'GROUP', 'g', '99999-1-0-1'),
    ('QUEUE.ACK', 't', 'GROUP', 'g', '0-18446744073709551616-0-1'), ('QUEUE.ACK', 't', 'GROUP', 'g', b'\0\xff\x80'),
    ('QUEUE.ACK', 't', 'GROUP', 'g', '0-1-0-1', 'nonsense'), ('QUEUE.NACK', 't', 'GROUP', 'g', '0-1-0-1', 'MAYBE'),
    ('QUEUE.NACK', 't', 'GROUP', 'g', '0-1-0-1', 'DELAY'), ('QUEUE.NACK', 't', 'GROUP', 'g', '0-1-0-1', 'DELAY', 'x'),
    ('QUEUE.NACK', 't', 'GROUP', 'g', '0-1-0-1', 'REASON', 'r' * 257), ('QUEUE.NACK', 't', 'GROUP', 'g', '0-1-0-1', 'REASON'),
    ('QUEUE.EXTEND', 't', 'GROUP', 'g', '0-1-0-1', 'x'), ('QUEUE.EXTEND', 't', 'GROUP', 'g', 'x', 1000),
    ('QUEUE.PEEK', 't', 4, 0), ('QUEUE.PEEK', 't', 'x', 0), ('QUEUE.PEEK', 't', 0, -1), ('QUEUE.PEEK', 't', 0, 0, 'COUNT'),
    ('QUEUE.PEEK', 't', 0, 0, 'COUNT', 0), ('QUEUE.PEEK', 't', 0, 0, 'LIMIT', 1), ('QUEUE.PEEK', 't', 1024, 0),
    ('QUEUE.SEEK', 't', 'GROUP', 'g', 'MIDDLE'), ('QUEUE.SEEK', 't', 'GROUP', 'g', 'OFFSET', 'x'), ('QUEUE.SEEK', 't', 'GROUP', 'g', -1),
    ('QUEUE.SEEK', 't', 'GROUP', 'g', 'END', 'PARTITION', 4), ('QUEUE.SEEK', 't', 'GROUP', 'g', 'END', 'NONSENSE', 0),
    ('QUEUE.SEEK', 't', 'GROUP', 'g', 'OFFSET', 3, 'x'), ('QUEUE.SEEK', 't', 'GROUP', 'g', 3, 'x'),
    ('QUEUE.DLQ', 't', 'GROUP', 'g', 'COUNT'), ('QUEUE.DLQ', 't', 'GROUP', 'g', 'COUNT', 0), ('QUEUE.DLQ', 't', 'x', 'g'),
    ('QUEUE.REDRIVE', 't', 'GROUP', 'g', 'COUNT', 0), ('QUEUE.REDRIVE', 't', 'GROUP', 'g', 'ALL'), ('QUEUE.REDRIVE', 't', 'GROUP', 'g', 'COUNT'),
    ('QUEUE.REDRIVE', 't', 'GROUP', 'g', 'COUNT', 1, 'x'), ('QUEUE.GROUPS', 't', 'MEMBERS'), ('QUEUE.GROUPS', 't', 'x', 'y'),
    ('QUEUE.ALTER', 't', 'PARTITIONS', 5), ('QUEUE.ALTER', 't', 'ORDERED', 'key'), ('QUEUE.ALTER', 't', 'VISIBILITY', 'soon'),
    ('QUEUE.LEAVE', 't', 'GROUP', 'g', 'GROUP', 'c'), ('QUEUE.LEAVE', 't', 'GROUP', 'g', 'CONSUMER', 'c' * 129)]


def test_wrong_arity_bad_options_and_unknown_topics_are_refused():
    with Cluster(3) as cluster:
        client = cluster.nodes[0].client(proto=3)
        retry(client.cmd, 'QUEUE.CREATE', 't', 'PARTITIONS', 4)
        for name, least in COMMANDS.items():
            for n in range(least):
                text = expect_error('ERR', client.cmd, name, *['x'] * n)
                assert 'arguments' in text, (name, n, text)
        expect_error('ERR', client.cmd, 'QUEUE.NONSENSE', 't')
        for one in LOOKS:
            expect_error('NOTOPIC', retry, cluster.nodes[1].client().cmd, *one)
        taken = []
        for one in BAD:
            try:
                taken.append((one, client.cmd(*one)))
            except RespError as error:
                if error.word not in ('ERR', 'LIMIT') or 'arguments' in error.text:
                    taken.append((one, error.text))
        assert not taken, [(str(o)[:100], r) for o, r in taken]
        assert client.cmd('PING') == 'PONG'
        assert as_map(client.cmd('QUEUE.INFO', 't'))['messages'] == 0


def test_a_pipeline_of_good_and_bad_is_answered_in_order():
    with Cluster(3) as cluster:
        client = cluster.nodes[1].client()
        retry(client.cmd, 'QUEUE.CREATE', 'p', 'PARTITIONS', 1)
        for i in range(200):
            client.send(encode('QUEUE.PUBLISH', 'p', f'm{i}') + encode('QUEUE.PUBLISH', 'p') + encode('QUEUE.ACK', 'p', 'GROUP', 'g', 'bad'))
        for i in range(200):
            assert client.cmd_reply() == f'p:0:{i}'
            for _ in range(2):
                assert isinstance(client.read(), RespError)
        assert [m['payload'] for m in take(client, 'p', 200)] == [f'm{i}' for i in range(200)]


def test_names_may_hold_anything_and_payloads_too():
    with Cluster(3) as cluster:
        a, b = cluster.nodes[0].client(proto=3), cluster.nodes[2].client()
        for topic in ('with space', 'a:b:c', '{tag}x', 'ünï', b'\0\1\2\r\n', '*', 'n' * 1024):
            name = topic if isinstance(topic, bytes) else topic.encode()
            sent = [b'', b'\0', bytes(range(256)), b'\r\n$5\r\n', 'ü'.encode()]
            ids = []
            for i, payload in enumerate(sent):
                a.send(encode('QUEUE.PUBLISH', topic, payload, 'KEY', b'k\0\xff ', 'HEADER', b'h \xff', b'v\0'))
                ids.append(raw_reply(a))
            assert all(i.startswith(name + b':') for i in ids), ids
            got = []
            while len(got) < len(sent):
                b.send(encode('QUEUE.CONSUME', topic, 'GROUP', b'g \0\xff', 'CONSUMER', b'c\r\n', 'COUNT', 10, 'BLOCK', 5000))
                part = [dict(zip(m[0::2], m[1::2])) for m in raw_reply(b)]
                b.send(encode('QUEUE.ACK', topic, 'GROUP', b'g \0\xff', *[m[b'receipt'] for m in part]))
                assert raw_reply(b) == len(part)
                got += part
            assert [m[b'payload'] for m in got] == sent and {m[b'key'] for m in got} == {b'k\0\xff '}
            assert all(m[b'headers'] == [b'h \xff', b'v\0'] for m in got), got[0]


def raw_reply(client):
    value = client.read()
    if isinstance(value, RespError):
        raise value
    return value


def test_sizes_up_to_the_limit_go_through_and_beyond_it_are_refused():
    with Cluster(3) as cluster:
        client = cluster.nodes[0].client(timeout=30)
        retry(client.cmd, 'QUEUE.CREATE', 's', 'PARTITIONS', 1)
        for size in (0, 1, 255, 256, 65535, 65536, 1024 * 1024):
            publish(client, 's', 'x' * size)
            m = consume(client, 's', block=5000)[0]
            assert len(m['payload']) == size and ack(client, 's', [m]) == 1
        other = cluster.nodes[1].client(timeout=30)
        try:
            expect_error('ERR LIMIT', other.cmd, 'QUEUE.PUBLISH', 's', 'x' * (1024 * 1024 + 1))
        except OSError:
            pass  # a command that is too large may end its connection
        assert publish(client, 's', 'after')


def test_large_claims_are_cut_and_nothing_is_lost():
    """A hundred messages of 300 KB asked for at once: the reply is bounded, the rest comes with the next calls, counted once."""
    with Cluster(3) as cluster:
        a, b = cluster.nodes[0].client(timeout=30), cluster.nodes[1].client(timeout=30)
        retry(a.cmd, 'QUEUE.CREATE', 'l', 'PARTITIONS', 1, 'VISIBILITY', 60000)
        for i in range(100):
            publish(a, 'l', f'{i}:'.ljust(300000, '.'))
        seen = []
        while len(seen) < 100:
            got = consume(b, 'l', count=10000, block=10000)
            assert got and all(m['deliveries'] == 1 for m in got), [m['deliveries'] for m in got]
            seen += [int(m['payload'].split(':')[0]) for m in got]
            assert ack(b, 'l', got) == len(got)
        assert seen == list(range(100))
        peeked = [message(m) for m in retry(a.cmd, 'QUEUE.PEEK', 'l', 0, 0, 'COUNT', 10000)]
        assert peeked == [], 'done by the only group: gone'
