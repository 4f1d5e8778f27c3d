"""Strings, bits, keys and expiries: a real Redis server and a cluster of three get the same commands, each sent to the next node, and must answer the same bytes.

What differs is in KNOWN and in docs/cache.md, "What differs from Redis". One value by itself, at random: test_cache_ops.py."""
import os
import random
import re
import shlex

from cache_script import SCENARIOS
from harness import ROOT, SLOW, Cluster, expect_error, wait_for
from resp import Client, as_map, encode
from streams_compare import Redis, steps_of
from test_cache_coherence import BACK

VALUE_BYTES_MAX = 1024 * 1024
NEAR = {'TTL': 3, 'PTTL': 3500, 'EXPIRETIME': 3, 'PEXPIRETIME': 3500}


def refused(reply, ours):
    """An error here alone."""
    return reply.startswith(b'-') == ours


def taken(reply, ours):
    """An error in Redis alone."""
    return reply.startswith(b'-') != ours


# name: (how its row begins in docs/cache.md, what makes both replies equal (reply, is it Synaxis')), or None: a test of its own below.
KNOWN = {
    'crossgroup': ('MSETNX, RENAME, RENAMENX and COPY', lambda reply, ours: reply.startswith(b'-CROSSGROUP ') == ours),
    'parts': ('MSET, DEL, UNLINK, EXISTS, TOUCH and MGET', None),
    'pipeline': ('a pipeline', None),
    'databases': ('there is one database', refused),
    'streams': ('streams and strings', lambda reply, ours: True),
    'refused': ('arguments that are wrong whatever the key holds', refused),
    'infinite': ('an infinite increment', lambda reply, _: reply.startswith(b'-')),
    'encoding': ('OBJECT ENCODING', lambda reply, ours: reply == (b'$3\r\nint\r\n' if ours else b'$3\r\nraw\r\n')),
    'refcount': ('OBJECT REFCOUNT', lambda reply, ours: reply == b':1\r\n' or not ours),
    'idle': ('OBJECT IDLETIME', None),
    'usage': ('MEMORY USAGE', lambda reply, ours: reply[:1] == b':'),
    'lcs': ('LCS', None),
    'cursor': ('the cursor of SCAN', refused),
    'empty': ('an empty key', lambda reply, ours: reply.removesuffix(b' |') if ours else reply),
    'scan': ('SCAN, KEYS, RANDOMKEY and DBSIZE', None),
    'ifeq': ('IFEQ, IFNE, FENCE, FILL and DELEX', taken),
    'missing': ('commands that are not there', None),
    'tracking': ('CLIENT TRACKING', None),
    'sizes': ('a key has at most', None),
}


class Bytes(Client):
    """A client whose replies are the bytes that came."""

    def raw(self, *words):
        self.send(encode(*words))
        return self.raw_value()

    def raw_value(self):
        line = self._line(None)
        kind, rest = line[:1], line[1:]
        out = line + b'\r\n'
        if kind == b'$' and rest != b'-1':
            out += self._bulk(int(rest), None) + b'\r\n'
        if kind in b'*%~' and rest != b'-1':
            for _ in range(int(rest) * (2 if kind == b'%' else 1)):
                out += self.raw_value()
        return out


class Replies:
    """What a server says: all its nodes take turns."""

    def __init__(self, ports, proto):
        self.clients = [Bytes(port, proto=proto, timeout=20 * SLOW) for port in ports]
        self.turn = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()

    def next(self):
        self.turn += 1
        return self.clients[self.turn % len(self.clients)]

    def step(self, line):
        words = shlex.split(line)
        if words[0] == 'WALK':
            return b' '.join(sorted(self.walk(words[1:])))
        if words[0] == 'GO':
            return wait_for(f'{words[1]} to expire', lambda: self.next().raw('EXISTS', words[1]) == b':0\r\n')
        if words[0] == 'SIZE':
            return wait_for(f'{words[1]} keys to be counted', lambda: self.next().raw('DBSIZE') == f':{words[1]}\r\n'.encode())
        if words[0] == 'KEYS' and len(words) == 2:
            return b' '.join(sorted(key.encode('utf-8', 'surrogateescape') + b'|' for key in self.next().cmd(*words)))
        return self.next().raw(*words)

    def walk(self, options):
        """All keys of a SCAN; the cursor is taken to the next node each time."""
        cursor, seen = '0', set()
        while True:
            cursor, keys = self.next().cmd('SCAN', cursor, *options)
            seen.update(key.encode() + b'|' for key in keys)
            if cursor == '0':
                return seen


def near(line, theirs, ours):
    """Two servers are asked for a time at two moments."""
    slack = NEAR.get(line.split()[0].upper())
    return slack and theirs[:1] == ours[:1] == b':' and int(theirs[1:]) > 0 and abs(int(theirs[1:]) - int(ours[1:])) <= slack


def differs(step, theirs, ours):
    """What is wrong with a pair of replies; None: nothing."""
    line, known, _ = step
    same = theirs == ours or near(line, theirs, ours)
    shown = f'\n    Redis:   {theirs}\n    Synaxis: {ours}'
    if not known:
        return None if same else line + shown
    if same:
        return f'{line}\n    no longer differs ({", ".join(known)}): take it out of KNOWN and of docs/cache.md{shown}'
    for name in known:
        theirs, ours = KNOWN[name][1](theirs, False), KNOWN[name][1](ours, True)
    return None if theirs == ours else f'{line}\n    differs in more than {", ".join(known)}{shown}'


def compare(proto, env=None):
    wrong, steps = [], 0
    with Redis() as redis, Cluster(3, env=env) as cluster:
        with Replies([redis.port], proto) as theirs, Replies([n.resp for n in cluster.nodes], proto) as ours:
            theirs.next().cmd('CONFIG', 'SET', 'proto-max-bulk-len', VALUE_BYTES_MAX)
            for name, script in SCENARIOS.items():
                for server in (theirs, ours):
                    server.next().cmd('FLUSHALL')
                for step in steps_of(script):
                    why = differs(step, theirs.step(step[0]), ours.step(step[0]))
                    wrong += [f'[{name}] {why}'] if why else []
                    steps += 1
    assert not wrong, f'{len(wrong)} of {steps} replies:\n' + '\n'.join(wrong)


def test_cache_as_redis_resp2():
    compare(2)


def test_cache_as_redis_resp3():
    compare(3)


def test_cache_as_redis_with_few_lines():
    """Next to nothing fits: every command misses."""
    compare(3, {'CACHE_SIZE': '2', 'CACHE_POLICY': 's3fifo'})


COUNTING = ('WALK', 'SIZE', 'KEYS', 'DBSIZE', 'RANDOMKEY')  # with write-back they miss what is not flushed


def runs_of(steps):
    """Steps that are commands, as many together as there are."""
    run = []
    for step in steps:
        if step[0].split()[0] in ('GO', *COUNTING):
            yield run, step
            run = []
        else:
            run.append(step)
    yield run, None


def test_cache_as_redis_in_pipelines():
    """KNOWN pipeline. All at once: each command sees what those before it in its pipeline did, and nothing of those behind it."""
    for env in ({}, BACK):
        wrong = []
        with Redis() as redis, Cluster(3, env=env) as cluster:
            with Replies([redis.port], 3) as theirs, Replies([n.resp for n in cluster.nodes], 3) as ours:
                theirs.next().cmd('CONFIG', 'SET', 'proto-max-bulk-len', VALUE_BYTES_MAX)
                for name, script in SCENARIOS.items():
                    for run, single in runs_of(steps_of('FLUSHALL\n' + script)):
                        raw = b''.join(encode(*shlex.split(line)) for line, _, _ in run)
                        replies = [pipelined(server.next(), raw, len(run)) for server in (theirs, ours)]
                        whys = [differs(step, *pair) for step, *pair in zip(run, *replies)]
                        if single and (not env or single[0].split()[0] not in COUNTING):
                            whys.append(differs(single, theirs.step(single[0]), ours.step(single[0])))
                        wrong += [f'[{name}] {why}' for why in whys if why]
        assert not wrong, f'{env}: {len(wrong)} replies:\n' + '\n'.join(wrong)


def pipelined(client, raw, count):
    client.send(raw)
    return [client.raw_value() for _ in range(count)]


def test_lcs_as_redis_at_random():
    """Pairs of few letters, so that there are many sequences to choose from; bytes, not text; keys of several groups."""
    rng = random.Random(7)
    with Redis() as redis, Cluster(3) as cluster, Replies([redis.port], 3) as theirs, Replies([n.resp for n in cluster.nodes], 3) as ours:
        for turn in range(150):
            values = [bytes(rng.choice(b'ab\0\xff'[:rng.randint(2, 4)]) for _ in range(rng.choice((0, 1, 5, 30, 200)))) for _ in range(2)]
            words = ['LCS', f'x{turn}', f'y{turn}']
            words += rng.choice(([], ['LEN'], ['IDX'], ['IDX', 'WITHMATCHLEN'], ['IDX', 'MINMATCHLEN', rng.randint(-1, 5)]))
            for server in (theirs, ours):
                server.next().cmd('MSET', words[1], values[0], words[2], values[1])
            expected, reply = theirs.next().raw(*words), ours.next().raw(*words)
            assert reply == expected, (words, values, expected, reply)


def test_object_idletime():
    """KNOWN idle: of each node by itself; looks do not count; leases may end meanwhile, a use begins it anew."""
    with Cluster(3, env={'CACHE_LEASE': '100'}) as cluster, cluster.nodes[0].client() as one, cluster.nodes[1].client() as other:
        def idle(client):
            assert client.cmd('OBJECT', 'ENCODING', 'k') == 'embstr' and client.cmd('MEMORY', 'USAGE', 'k') > 1
            return client.cmd('OBJECT', 'IDLETIME', 'k')
        def used_now(client, *words):
            return client.cmd(*words) is not None and idle(client) == 0  # a second may begin in between
        wait_for('a write to count as a use', lambda: used_now(one, 'SET', 'k', 'v'))
        wait_for('two seconds without a use', lambda: idle(one) >= 2)
        wait_for('a read elsewhere to be a use there', lambda: used_now(other, 'GET', 'k'))
        wait_for('a read elsewhere to be no use here, even if the line went', lambda: idle(one) >= 2)
        wait_for('a read to be a use', lambda: used_now(one, 'GET', 'k'))
        assert one.cmd('DEL', 'k') == 1 and one.cmd('OBJECT', 'IDLETIME', 'k') is None


def doc_rows():
    """The rows of the table in docs/cache.md, "What differs from Redis"."""
    with open(os.path.join(ROOT, 'docs', 'cache.md'), encoding='utf-8') as stream:
        section = stream.read().split('\n## What differs from Redis\n')[1].split('\n## ')[0]
    return [line[2:] for line in section.splitlines() if line.startswith('| ') and not line.startswith(('| what', '| ---'))]


def test_cache_differences_are_documented():
    """Every row of the table is a known difference that a test looks at, and every known difference is a row of the table."""
    rows = doc_rows()
    for name, (begins, _) in KNOWN.items():
        assert any(row.startswith(begins) for row in rows), f'docs/cache.md, "What differs from Redis", has no row that begins with {begins!r} ({name})'
    for row in rows:
        assert any(row.startswith(begins) for begins, _ in KNOWN.values()), f'no test looks at the difference {row!r}'
    used = {name for script in SCENARIOS.values() for _, known, _ in steps_of(script) for name in known}
    wanted = {name for name, (_, forgive) in KNOWN.items() if forgive}
    assert used == wanted, f'differences without a step, or steps without a difference: {used ^ wanted}'


def test_cache_commands_that_are_missing():
    """KNOWN missing: of Redis' commands on strings, bits and keys, those that the row names and no others."""
    with Redis() as redis, Cluster(1) as cluster, Client(redis.port) as theirs, cluster.nodes[0].client() as ours:
        here = {name.lower() for name in ours.cmd('COMMAND', 'LIST')}
        there = {name for kind in ('string', 'bitmap', 'keyspace') for name in theirs.cmd('COMMAND', 'LIST', 'FILTERBY', 'ACLCAT', kind)}
        row = next(row for row in doc_rows() if row.startswith(KNOWN['missing'][0]))
        named = {name.lower() for name in re.findall(r'\b[A-Z_]{3,}\b', row)}
        missing = {name for name in there - here if '|' not in name} - {'restore-asking'}
        assert missing <= named and not named & here, (missing - named, named & here)


def test_cache_keys_of_several_groups():
    """KNOWN crossgroup, parts: what is all or nothing is nothing, what is not is all of it."""
    with Cluster(3) as cluster, cluster.nodes[0].client() as client:
        keys = [f'k{i}' for i in range(40)]
        assert len({as_map(client.cmd('CACHE.STATE', key))['group'] for key in keys}) == 6
        expect_error('CROSSGROUP', client.cmd, 'MSETNX', *(word for key in keys for word in (key, 'v')))
        assert client.cmd('EXISTS', *keys) == 0
        assert client.cmd('MSET', *(word for key in keys for word in (key, 'v' + key))) == 'OK'
        for node in cluster.nodes:
            with node.client() as other:
                assert other.cmd('MGET', *keys) == ['v' + key for key in keys]
                assert other.cmd('EXISTS', *keys) == 40 and other.cmd('DBSIZE') == 40
        expect_error('CROSSGROUP', client.cmd, 'RENAME', 'k0', next(k for k in keys if k not in same_group(client, 'k0', keys)))
        assert client.cmd('DEL', *keys, *keys) == 40 and client.cmd('DBSIZE') == 0


def same_group(client, key, keys):
    def group(k):
        return as_map(client.cmd('CACHE.STATE', k))['group']
    return [k for k in keys if group(k) == group(key)]


def test_cache_sizes():
    """KNOWN sizes: at the bound and beyond it, from another node."""
    with Cluster(3) as cluster, cluster.nodes[0].client() as one, cluster.nodes[1].client() as other:
        key, value = 'k' * 1024, bytes(range(256)) * 4096
        assert one.cmd('SET', key, value) == 'OK'
        other.send(encode('GET', key))
        assert other.read() == value
        expect_error('ERR', one.cmd, 'SET', key + 'k', 'v')
        expect_error('ERR', one.cmd, 'GET', key + 'k')
        expect_error('ERR', one.cmd, 'APPEND', key, 'v')
        assert other.cmd('STRLEN', key) == VALUE_BYTES_MAX
        many = [f'm{i}' for i in range(511)]
        assert one.cmd('MSET', *(word for k in many for word in (k, k))) == 'OK' and other.cmd('MGET', *many) == many
        assert other.cmd('EXISTS', *many, *many) == 1022
        with cluster.nodes[2].client() as third:
            expect_error('ERR', third.cmd, 'EXISTS', *many, *many, 'a', 'b')


def test_cache_scan_of_many_keys():
    """KNOWN scan. Every key that stays is seen, whatever comes and goes meanwhile, and no cursor runs in circles."""
    with Cluster(3) as cluster, Replies([n.resp for n in cluster.nodes], 2) as all_nodes:
        client = all_nodes.next()
        for begin in range(0, 6000, 500):
            client.cmd('MSET', *(word for i in range(begin, begin + 500) for word in (f'stay:{i}', i)))
        wanted = {f'stay:{i}|'.encode() for i in range(6000)}
        assert all_nodes.walk(['MATCH', 'stay:*', 'COUNT', '5000']) == wanted and all_nodes.walk(['COUNT', '7']) == wanted
        seen, cursor, turn = set(), '0', 0
        while turn == 0 or cursor != '0':
            client = all_nodes.next()
            client.cmd('MSET', *(word for i in range(5) for word in (f'new:{turn}:{i}', 'v')))
            client.cmd('DEL', *(f'new:{turn - 1}:{i}' for i in range(3)))
            cursor, keys = client.cmd('SCAN', cursor, 'COUNT', '100')
            seen.update(key for key in keys if key.startswith('stay:'))
            turn += 1
            assert turn < 1000, 'SCAN does not end'
        assert len(seen) == 6000
        assert sorted(client.cmd('KEYS', 'stay:1?')) == [f'stay:{i}' for i in range(10, 20)]
        assert {client.cmd('RANDOMKEY').split(':')[0] for _ in range(50)} >= {'stay'} and len({client.cmd('RANDOMKEY') for _ in range(50)}) > 25
        client.cmd('FLUSHALL')
        assert [c.cmd('DBSIZE') for c in all_nodes.clients] == [0, 0, 0] and all_nodes.walk([]) == set()


def test_cache_scan_misses_what_is_not_flushed():
    """KNOWN scan, with write-back: a new key is counted once its owner has flushed it."""
    with Cluster(3, env=BACK) as cluster, cluster.nodes[0].client() as client:
        assert client.cmd('SET', 'k', 'v') == 'OK' and client.cmd('GET', 'k') == 'v'
        assert client.cmd('DBSIZE') == 0 and client.cmd('KEYS', '*') == []
        assert client.cmd('CACHE.FLUSH') == 'OK'
        assert client.cmd('DBSIZE') == 1, 'CACHE.FLUSH is answered when memory has it'
        assert client.cmd('KEYS', '*') == ['k'] and client.cmd('GET', 'k') == 'v'
