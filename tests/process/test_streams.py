"""Redis Streams: Synaxis and a real Redis server get the same commands and must answer the same; what differs is in KNOWN and in docs/queue.md."""
import json
import os
import re

from harness import ROOT, SLOW, Cluster, Skip, wait_for
from resp import Client, RespError, as_map, encode
from streams_compare import Redis, Replies, steps_of
from streams_script import SCENARIOS
from test_drivers import node_modules, run

SEVERAL = '-ERR XREADGROUP takes one stream: streams live in different groups, and a message must not be taken for a reply that fails'


def maps(reply):
    """A map, or a list of maps, of either protocol as dicts."""
    if isinstance(reply, list) and (not reply or isinstance(reply[0], (list, dict))):
        return [as_map(r) for r in reply]
    return as_map(reply)


def without(*fields):
    """The replies of XINFO without some fields."""
    def forgive(reply, _):
        rows = maps(reply)
        for row in rows if isinstance(rows, list) else [rows]:
            for field in fields:
                row.pop(field, None)
        return rows
    return forgive


def is_error(reply, _):
    return isinstance(reply, str) and reply.startswith('-')


def consumers_read(reply, _):
    """carol, who only read what was not there, is known to Redis alone."""
    if 'consumers' in maps(reply)[0]:
        return [{**row, 'consumers': None} for row in maps(reply)]
    return [row for row in maps(reply) if row['name'] != 'carol']


def unbalanced(reply, _):
    return re.sub(r"(Unbalanced )'?(XREAD|xread|xreadgroup)'?( .* an ID or ').'", r"\1\3'", reply)


# name: (how its row begins in docs/queue.md, what makes both replies equal (reply, is it Synaxis')), or None: a test of its own below.
KNOWN = {
    'several': ('XREADGROUP takes one stream', lambda reply, ours: reply == SEVERAL if ours else True),
    'exact': ('`~` trims exactly', lambda reply, ours: reply == (2 if ours else 5)),
    'minid': ('XADD ... MINID trims beside the addition', None),
    'makes': ('a blocking XREAD makes a stream', lambda reply, ours: isinstance(reply, (list, dict)) if ours else reply == '-ERR no such key'),
    'full': ('XINFO STREAM FULL is as without FULL', lambda reply, ours: 'first-entry' in as_map(reply) if ours else 'entries' in as_map(reply)),
    'radix': ('radix tree figures of XINFO', None),
    'limit': ('XRANGE replies of more than 3 MB', None),
    'count': ('XREAD and XREADGROUP without COUNT', None),
    'reads': ('entries-read and lag', without('entries-read', 'lag')),
    'ids': ('a consumer group made at an id', without('last-delivered-id')),
    'delete': ('a stream stays when its last entry is deleted', lambda reply, ours: reply == (0 if ours else 1)),
    'last': ('behind the highest id there can be', is_error),
    'words': ('the words of Redis 7.2', unbalanced),
    'inactive': ('the words of Redis 7.2', without('inactive')),
    'first': ('of two things that are wrong', is_error),
    'consumers': ('an XREADGROUP that finds nothing', consumers_read),
    'history': ('reading own pending entries again', lambda reply, _: [row[:3] for row in reply]),
    'forced': ('XCLAIM FORCE counts one delivery', lambda reply, _: [row[:3] + [row[3] if row[0] != '1-4' else 0] for row in reply]),
    'deleted': ('XSETID ... MAXDELETEDID', without('max-deleted-entry-id')),
    'help': ('XGROUP HELP and XINFO HELP', lambda reply, _: isinstance(reply, list) and all(isinstance(line, str) for line in reply)),
    'names': ('names of streams, groups and consumers', lambda reply, ours: is_error(reply, ours) == ours),
    'getkeys': ('COMMAND GETKEYS names no key', lambda reply, ours: reply == '-ERR The command has no key arguments' if ours else True),
    'cut': ('entries that are too large for one reply of XREADGROUP', None),
    'cursor': ('XAUTOCLAIM from an id amid pending entries that were trimmed', None),
    'nil': ('nothing is `$-1`', None),
    'partitions': ('a topic with several partitions', None),
}


def doc_rows():
    """The first column of the table in docs/queue.md, "Streams"."""
    with open(os.path.join(ROOT, 'docs', 'queue.md'), encoding='utf-8') as stream:
        section = stream.read().split('\n## Streams\n')[1].split('\n## ')[0]
    return [line[2:].split(' | ')[0] for line in section.splitlines() if line.startswith('| ') and not line.startswith(('| what', '| ---'))]


def test_streams_differences_are_documented():
    """Every row of the table is a known difference that a test looks at, and every known difference is a row of the table."""
    rows = doc_rows()
    for name, (begins, _) in KNOWN.items():
        assert any(row.startswith(begins) for row in rows), f'docs/queue.md, "Streams", has no row that begins with {begins!r} ({name})'
    for row in rows:
        assert any(row.startswith(begins) for begins, _ in KNOWN.values()), f'no test looks at the difference {row!r}'
    used = {name for script in SCENARIOS.values() for _, known, _ in steps_of(script) for name in known}
    wanted = {name for name, (_, forgive) in KNOWN.items() if forgive}
    assert used == wanted, f'differences without a step, or steps without a difference: {used ^ wanted}'


def forgiven(reply, known, ours):
    for name in known:
        reply = KNOWN[name][1](reply, ours)
    return reply


def differs(step, theirs, ours):
    """What is wrong with a pair of replies; None: nothing."""
    line, known, _ = step
    if not known:
        return None if theirs == ours else f'{line}\n    Redis:   {theirs}\n    Synaxis: {ours}'
    if theirs == ours:
        return f'{line}\n    no longer differs ({", ".join(known)}): take it out of KNOWN and of docs/queue.md\n    both:    {ours}'
    theirs, ours = forgiven(theirs, known, False), forgiven(ours, known, True)
    return None if theirs == ours else f'{line}\n    differs in more than {", ".join(known)}\n    Redis:   {theirs}\n    Synaxis: {ours}'


def run_scenario(name, script, redis, synaxis):
    wrong = []
    for step in steps_of(script):
        line, _, again = step
        theirs, ours = redis.step(line), synaxis.step(line)
        if again and theirs != ours:
            wait_for(f'{line} to answer {theirs}', lambda line=line, theirs=theirs: synaxis.step(line) == theirs)
            ours = theirs
        why = differs(step, theirs, ours)
        wrong += [f'[{name}] {why}'] if why else []
    return wrong


def compare(proto):
    wrong, steps = [], 0
    with Redis() as redis, Cluster(1) as cluster:
        for number, (name, script) in enumerate(SCENARIOS.items()):
            prefix = f'scenario-{number}:'
            with Replies(redis.port, proto, prefix) as theirs, Replies(cluster.nodes[0].resp, proto, prefix) as ours:
                wrong += run_scenario(name, script, theirs, ours)
                steps += len(steps_of(script))
    assert not wrong, f'{len(wrong)} of {steps} replies:\n' + '\n'.join(wrong)


def test_streams_as_redis_resp2():
    compare(2)


def test_streams_as_redis_resp3():
    compare(3)


def both(script):
    """Runs script(client) against Redis and Synaxis; both results."""
    out = []
    with Redis() as redis, Cluster(1) as cluster:
        for port in (redis.port, cluster.nodes[0].resp):
            with Client(port, timeout=20 * SLOW) as client:
                out.append(script(client))
    return out


def answer(client, *words):
    try:
        return client.cmd(*words)
    except RespError as error:
        return '-' + error.text


def test_streams_nothing_is_nil():
    """KNOWN nil: drivers read both as nothing."""
    def script(client):
        client.cmd('XADD', 's', '1-1', 'f', 'v')
        client.send(encode('XREAD', 'STREAMS', 's', '1-1') + encode('PING'))
        wait_for('both replies', lambda: client.buffer.endswith(b'+PONG\r\n') or client._fill(None))
        return client.buffer[:-len('+PONG\r\n')]
    assert both(script) == [b'*-1\r\n', b'$-1\r\n']


def test_streams_that_are_large():
    """KNOWN radix, limit, count: what a reply holds at most, and figures of a tree that is not there."""
    def script(client):
        for i in range(1, 1202):
            client.send(encode('XADD', 'many', f'{i}-1', 'f', 'v'))
        for _ in range(1, 1202):
            client.cmd_reply()
        client.cmd('XGROUP', 'CREATE', 'many', 'g', '0')
        read = [len(client.cmd(*words)[0][1]) for words in (
            ('XREAD', 'STREAMS', 'many', '0'), ('XREAD', 'COUNT', '1100', 'STREAMS', 'many', '0'), ('XREAD', 'COUNT', '0', 'STREAMS', 'many', '0'),
            ('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 'many', '>'), ('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 'many', '>'))
            if words[0] == 'XREAD' or client.cmd('XPENDING', 'many', 'g')[0] < 1201]
        radix = as_map(client.cmd('XINFO', 'STREAM', 'many'))['radix-tree-keys']
        for i in range(1, 5):
            client.cmd('XADD', 'fat', f'{i}-1', 'f', 'v' * 900_000)
        fat = answer(client, 'XRANGE', 'fat', '-', '+')
        return read, radix, fat if isinstance(fat, str) else len(fat), len(client.cmd('XRANGE', 'fat', '-', '+', 'COUNT', '2'))
    theirs, ours = both(script)
    assert theirs[0] == [1201, 1100, 1201, 1201] and ours[0] == [1000, 1100, 1201, 1000, 201], (theirs, ours)
    assert theirs[1] == 13 and ours[1] == 1, (theirs, ours)
    assert theirs[2:] == (4, 2) and ours[2].startswith('-LIMIT ') and ours[3] == 2, (theirs, ours)


def test_streams_pending_that_is_large():
    """KNOWN cut. What a consumer has pending comes back whole, whatever its size: too much for one reply is not the same as deleted."""
    def script(client):
        for i in range(1, 9):
            client.cmd('XADD', 's', f'{i}-1', 'f', str(i) * 600_000)
        client.cmd('XGROUP', 'CREATE', 's', 'g', '0')
        wait_for('all to be taken', lambda: client.cmd('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>') is None and
                 client.cmd('XPENDING', 's', 'g')[0] == 8)
        client.cmd('XDEL', 's', '4-1', '8-1')
        seen, after = [], '0'
        while True:
            entries = client.cmd('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', after)[0][1]
            if not entries:
                return seen
            seen += [(i, fields and fields[1][:1]) for i, fields in entries]
            after = entries[-1][0]
    theirs, ours = both(script)
    assert theirs == [(f'{i}-1', None if i in (4, 8) else str(i)) for i in range(1, 9)], theirs
    assert ours == theirs, ours


def test_streams_pending_that_are_many():
    """KNOWN cursor. More than fits into one page, or one frame between nodes; and all but ten of them trimmed away meanwhile."""
    def script(client):
        for begin in range(1, 75_001, 5000):
            client.send(b''.join(encode('XADD', 's', f'{i}-1', 'f', 'v') for i in range(begin, begin + 5000)))
            for _ in range(5000):
                client.cmd_reply()
        client.cmd('XGROUP', 'CREATE', 's', 'g', '0')
        while client.cmd('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', '10000', 'STREAMS', 's', '>'):
            pass
        return [[row[:2] if isinstance(row, list) else row for row in client.cmd(*line.split())] for line in (
            'XPENDING s g', 'XPENDING s g 74990 + 3', 'XREADGROUP GROUP g c COUNT 2 STREAMS s 70000-1', 'XAUTOCLAIM s g e 0 74000 COUNT 2 JUSTID')
        ] + [client.cmd(*line.split()) for line in (
            'XDEL s 74999-1', 'XCLAIM s g d 0 74999-1 74998-1 5-1 JUSTID', 'XTRIM s MAXLEN 10', 'XAUTOCLAIM s g e 0 0 COUNT 3',
            'XAUTOCLAIM s g e 0 4-1 COUNT 3', 'XAUTOCLAIM s g e 0 74993 COUNT 2', 'XCLAIM s g d 0 100-1', 'XAUTOCLAIM s g e 0 74980 COUNT 1')]
    theirs, ours = both(script)
    assert (theirs.pop()[2], ours.pop()[1]) == (['74980-1'], [['74990-1', ['f', 'v']]]), 'KNOWN cursor'
    for their, our in zip(theirs, ours):
        assert our == their, f'Redis {their}, Synaxis {our}'


def test_streams_take_topics_of_one_partition():
    """KNOWN partitions; and a topic of one partition is a stream to them."""
    with Cluster(1) as cluster, cluster.nodes[0].client() as client:
        client.cmd('QUEUE.CREATE', 'four', 'PARTITIONS', '4')
        client.cmd('QUEUE.CREATE', 'one', 'PARTITIONS', '1')
        for words in (('XADD', 'four', '*', 'f', 'v'), ('XLEN', 'four'), ('XREAD', 'STREAMS', 'four', '0'),
                      ('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 'four', '>'), ('XINFO', 'STREAM', 'four')):
            said = answer(client, *words)
            assert isinstance(said, str) and said.startswith('-WRONGTYPE ') and '4 partitions' in said, (words, said)
        client.cmd('QUEUE.PUBLISH', 'one', 'hello', 'KEY', 'k')
        assert client.cmd('XRANGE', 'one', '-', '+')[0][1] == ['payload', 'hello', 'key', 'k']


def test_streams_read_what_comes_next():
    """XREAD BLOCK $ on one node is woken by an XADD at another."""
    with Cluster(3) as cluster, cluster.nodes[1].client() as reader, cluster.nodes[2].client() as writer:
        writer.cmd('XADD', 's', '1-1', 'f', 'old')
        reader.send(encode('XREAD', 'BLOCK', '0', 'STREAMS', 's', '$'))
        sent = iter(range(2, 10_000))

        def woken():
            writer.cmd('XADD', 's', f'{next(sent)}-1', 'f', 'new')
            try:
                return reader.cmd_reply(timeout=0.05)
            except TimeoutError:
                return None
        [[key, entries]] = wait_for('a blocked reader to be woken', woken)
        assert key == 's' and entries[0][1] == ['f', 'new'], entries


def both_run(*program, **options):
    """Runs one program against Redis and against a cluster of three; it must print the same of both."""
    printed = []
    with Redis() as redis, Cluster(3) as cluster:
        for port in (redis.port, cluster.nodes[1].resp):
            done = run(*program, port, **options)
            assert done.returncode == 0, done.stdout[-300:] + done.stderr[-1500:]
            printed.append(json.loads(done.stdout))
    redis_said, ours = printed
    assert ours == redis_said, {key: (value, ours.get(key)) for key, value in redis_said.items() if value != ours.get(key)}


def test_streams_by_a_python_program():
    """redis-py, as any Streams tutorial uses it."""
    if run('/usr/bin/python3', '-c', 'import redis').returncode:
        raise Skip('python3-redis is not installed')
    both_run('/usr/bin/python3', os.path.join(ROOT, 'tests', 'process', 'streams_program.py'))


def test_streams_by_a_node_program():
    """ioredis, likewise."""
    both_run('node', 'streams.mjs', cwd=node_modules())


def test_streams_by_redis_benchmark():
    """redis-benchmark -t xadd fills a stream whole."""
    with Cluster(3) as cluster:
        port = cluster.nodes[2].resp
        done = run('redis-benchmark', '-p', port, '-q', '-c', 20, '-P', 8, '-n', 20_000, 'XADD', 'bench', '*', 'field', '__rand_int__')
        assert done.returncode == 0 and 'requests per second' in done.stdout, done.stdout[-300:] + done.stderr[-300:]
        with cluster.nodes[0].client() as client:
            assert client.cmd('XLEN', 'bench') == 20_000
