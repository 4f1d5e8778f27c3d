"""Random commands over few keys: a real Redis server and a cluster of three get the same ones, in pipelines of random length to random nodes, one pipeline after
the other, and must answer the same bytes; what docs/cache.md, "What differs from Redis", names is forgiven. One value by itself, in more depth: test_cache_ops.py."""
import os
import random

from harness import SLOW, Cluster
from resp import encode
from streams_compare import Redis
from test_cache import VALUE_BYTES_MAX, Bytes
from test_cache_coherence import BACK
from test_cache_ops import TEMPLATES, Words, forgiven, shown

SEED = int(os.environ.get('SYN_TEST_SEED', '1'))
COMMANDS = int(os.environ.get('SYN_TEST_COMMANDS', '4000'))
SEVERAL = """MGET keys|MGET keys|MSET pairs|MSET pairs|MSETNX tied_pairs|MSETNX tied_pairs|DEL keys|UNLINK keys|EXISTS keys|TOUCH keys|RENAME tied tied|RENAME tied tied
RENAMENX tied tied|RENAMENX tied tied|COPY tied tied|COPY tied tied REPLACE|COPY tied tied copying|LCS key key|LCS key key LEN|SETNX tied value|GETDEL tied|GETEX tied persists
PEXPIRE tied px rule|SET tied value options|GET tied|GET tied|TTL tied|FLUSHDB|EXPIRE tied ex rule""".replace('\n', '|').split('|')
COUNTING = ['DBSIZE', 'KEYS *', 'KEYS pattern', 'SCAN 0 COUNT int'][:3]


class MoreWords(Words):
    """With keys of several groups, some of one tag, and now and then a word too many, too few, or another."""

    def key(self):
        return self.pick('a', 'b', 'c', 'd', 'x\xff\r\n', '', self.tied())

    def tied(self):
        return self.pick('{t}a', '{t}b', '{t}c', 'other{t}')

    def keys(self):
        return [self.key() for _ in range(self.random.randint(1, 5))]

    def pairs(self):
        return [word for _ in range(self.random.randint(1, 4)) for word in (self.key(), self.value())]

    def tied_pairs(self):
        return [word for _ in range(self.random.randint(1, 3)) for word in (self.tied(), self.value())]

    def copying(self):
        return [word for _ in range(self.random.randint(0, 3)) for word in self.pick(['REPLACE'], ['DB', '0'], ['DB'], ['DB', 'x'], ['x'])]

    def pattern(self):
        return self.pick('{t}*', '?', '[a-c]', '*a', 'x*', '[^a]', '\\a')

    def command(self, templates):
        out = []
        for word in self.pick(*templates).split():
            made = getattr(self, word)() if word.islower() else word
            out += made if isinstance(made, list) else [made]
        return self.spoilt(out) if self.random.random() < 0.06 else out

    def spoilt(self, words):
        at, how = self.random.randrange(len(words)), self.random.randrange(4)
        other = self.pick('x', '', 'NX', 'GET') if 'EX' in words[0] or words[0] in ('SET', 'COPY') else self.value()  # no number: a time that is soon over, or a database
        if at == 0 or words[0] in ('FLUSHDB', 'RENAME', 'RENAMENX', 'COPY', 'MSETNX'):
            return words + [other]
        return words[:at] + ([], [other], [words[at]] * 2, [self.key(), words[at]])[how] + words[at + 1:]


def alike(words, theirs, ours):
    if words[0] == 'KEYS':
        return sorted(theirs.split(b'\r\n')) == sorted(ours.split(b'\r\n'))
    null = b'$-1\r\n'  # of RESP2
    return theirs == ours or forgiven(words, b'_\r\n' if theirs == null else theirs, b'_\r\n' if ours == null else ours)


def as_bytes(words):
    return [word.encode('latin-1') for word in words]


def run(env, templates, seed, protos=(2, 3)):
    words, told = MoreWords(seed), []
    dice = random.Random(seed)
    with Redis() as redis, Cluster(3, env=env) as cluster:
        doors = [(Bytes(redis.port, proto=proto, timeout=20 * SLOW), [Bytes(n.resp, proto=proto, timeout=20 * SLOW) for n in cluster.nodes]) for proto in protos]
        doors[0][0].cmd('CONFIG', 'SET', 'proto-max-bulk-len', VALUE_BYTES_MAX)
        while len(told) < COMMANDS:
            theirs, clients = dice.choice(doors)
            at = dice.randrange(3)
            batch = [words.command(templates) for _ in range(dice.choice((1, 1, 2, 5, 20)))]
            raw = b''.join(encode(*as_bytes(command)) for command in batch)
            replies = []
            for client in (theirs, clients[at]):
                client.send(raw)
                replies.append([client.raw_value() for _ in batch])
            before = told[-20:]
            told += [f'n{at + 1} {command} -> {shown(one)}' for command, one in zip(batch, replies[0])]
            for command, one, other in zip(batch, *replies):
                assert alike(command, one, other), (
                    f'seed {seed}: {command}\n  Redis:   {shown(one)}\n  Synaxis: {shown(other)}\n  before:\n  ' + '\n  '.join(before)
                    + '\n  its pipeline:\n  ' + '\n  '.join(told[-len(batch):]))


def test_cache_random_commands_through():
    run({}, TEMPLATES + SEVERAL * 2 + COUNTING, SEED)


def test_cache_random_commands_back():
    run(BACK, TEMPLATES + SEVERAL * 2, SEED + 1)


def test_cache_random_commands_with_few_lines():
    run({**BACK, 'CACHE_SIZE': '3', 'CACHE_POLICY': 's3fifo'}, TEMPLATES + SEVERAL * 2, SEED + 2)
