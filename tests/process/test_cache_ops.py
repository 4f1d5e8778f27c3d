"""Commands on one key: a real Redis server and cache_op_run (tests/cache/ops_tool.c) get the same commands and must answer the same bytes.

IFEQ, IFNE, FENCE and DELEX are not in Redis 7.0: tests/cache/test_cache_ops.c looks at those."""
import contextlib
import os
import random
import re
import shlex
import socket
import subprocess
import time

import harness
from harness import SLOW, Skip
from resp import Client, encode
from streams_compare import Redis

VALUE_BYTES_MAX = 1024 * 1024
COMMANDS = 20_000
BATCH = 200
TIMES = {'TTL': 1, 'PTTL': 2500, 'EXPIRETIME': 1, 'PEXPIRETIME': 2500}


class Tool(Client):
    """ops_tool behind a pair of sockets."""

    def __init__(self):
        program = os.path.join(os.path.dirname(harness.BINARY), 'tests', 'cache', 'ops_tool')
        if not os.path.exists(program):
            raise Skip(f'{program} is not built')
        self.sock, theirs = socket.socketpair()
        self.proc = subprocess.Popen([program], stdin=theirs, stdout=theirs, preexec_fn=harness._die_with_parent)
        theirs.close()
        self.buffer, self.pushes, self.timeout = b'', [], 20 * SLOW

    def close(self):
        self.sock.close()
        assert self.proc.wait(20 * SLOW) == 0, 'ops_tool failed; what it said stands above'


def raw_reply(client):
    """The bytes of the next reply, which is no aggregate."""
    line = client._line(None)
    body = client._bulk(int(line[1:]), None) + b'\r\n' if line[:1] == b'$' else b''
    return line + b'\r\n' + body


@contextlib.contextmanager
def both():
    with Redis() as redis, Client(redis.port, proto=3, timeout=20 * SLOW) as theirs, Tool() as ours:
        theirs.cmd('CONFIG', 'SET', 'proto-max-bulk-len', VALUE_BYTES_MAX)
        yield theirs, ours


# What differs on purpose.

REFUSED_FIRST = ('BITCOUNT', 'BITPOS', 'GETEX')
SYNTAX_OR_NUMBER = (b'-ERR value is not an integer', b'-ERR syntax error', b'-ERR invalid expire time')


def refused_first(words, theirs, ours):
    """Arguments that are wrong whatever the key holds are refused at the door; Redis 7.0 looks for the key first, or answers an empty range before it reads BIT."""
    return words[0].upper() in REFUSED_FIRST and ours.startswith(SYNTAX_OR_NUMBER) and theirs in (b'_\r\n', b':0\r\n', b':-1\r\n')


def infinite_first(words, theirs, ours):
    """An infinite increment is refused at the door; Redis reads the value first, and may find that it is no number."""
    return words[0] == 'INCRBYFLOAT' and 'inf' in words[2].lower() and ours.startswith(b'-ERR increment would produce') and theirs.startswith(b'-ERR value is not')


def encoding(words, theirs, ours):
    """OBJECT ENCODING tells what SET would have made of the value; in Redis what was written into stays raw, and a sum of INCRBYFLOAT a string."""
    return words[:2] == ['OBJECT', 'ENCODING'] and theirs in (b'$3\r\nraw\r\n', b'$6\r\nembstr\r\n') and ours in (b'$3\r\nint\r\n', b'$6\r\nembstr\r\n')


def shared(words, theirs, ours):
    """OBJECT REFCOUNT is 1; Redis shares small integers."""
    return words[:2] == ['OBJECT', 'REFCOUNT'] and ours == b':1\r\n' and theirs.startswith(b':')


DIFFERENCES = (refused_first, infinite_first, encoding, shared)


def near(words, theirs, ours):
    """Two servers are asked for a time at two moments."""
    slack = TIMES.get(words[0].upper())
    return slack and theirs[:1] == ours[:1] == b':' and int(theirs[1:]) > 0 and abs(int(theirs[1:]) - int(ours[1:])) <= slack


def forgiven(words, theirs, ours):
    return theirs == ours or near(words, theirs, ours) or any(rule(words, theirs, ours) for rule in DIFFERENCES)


def shown(raw):
    return raw if len(raw) <= 120 else raw[:100] + b'... %d bytes' % len(raw)


def compare(pair, commands):
    """What differs, one line each; the commands are sent in batches, and the two stop at the first that differs: what follows it would."""
    theirs, ours = pair
    for at in range(0, len(commands), BATCH):
        batch = commands[at:at + BATCH]
        raw = b''.join(encode(*words) for words in batch)
        replies = []
        for client in (theirs, ours):
            client.send(raw)
            replies.append([raw_reply(client) for _ in batch])
        for i, (words, one, other) in enumerate(zip(batch, *replies)):
            if not forgiven(words, one, other):
                before = [w for w in commands[:at + i] if words[1:2] == w[1:2]][-6:]
                return [f'{shown(encode(*words))}\n  Redis:   {shown(one)}\n  Synaxis: {shown(other)}\n  before:  {[shown(encode(*w)) for w in before]}']
    return []


class Words:
    """Random words by the name of what they are; half of the time what a command means to get, else anything."""

    INTEGERS = ('0', '1', '-1', '2', '7', '10', '100', '-100', '9223372036854775807', '-9223372036854775808', '9223372036854775808', '-9223372036854775809',
                '18446744073709551616', '00', '01', '-0', '+1', ' 1', '1 ', '', '-', 'x', '1.0', '1e3', '0x10')
    FLOATS = ('0', '-0', '1', '3.0', '0.1', '-.5', '5.', '.', '', '-', '1e', '1e+', '1e5', '1E-5', '1e17', '1e18', '1e19', '1e30', '-1e300', '1e400', '5e-18', '4.9e-18',
              '5.0000000000000000001e-18', '1.5e-17', '2.5e-17', '1e4931', '1.18e4932', '1.19e4932', '-1.18e4932', '1e4933', '1e-4949', '3.6e-4951', '1.8e-4951', '1e-4952',
              '0e99999', '1e99999999999999999999', '1e-99999999999999999999', 'inf', '-Infinity', '+INF', 'nan', 'infinit', '0x10', '0X1.8P3', '0x.8p-1', '0x', '0x.p1', '0x1p',
              '0x1.fffffffffffffffffp0', '0x1p16384', '-0x1p16383', '0x1p-16446', '0x1p-16447', ' 1', '1 ', '1\x00', '1.2.3', '12345678901234567890123456789012345678901234567890',
              '18446744073709551615', '18446744073709551616.5', '36893488147419103233', '36893488147419103235', '9007199254740993', '000000000000000000000001.10', '3' * 5118, '3' * 5119,
              '3' * 5120, '0.' + '7' * 3000, '1,5', '1_0', '1e5x')
    STRINGS = ('', 'a', 'hello', 'Hello World', '\x00\x01\x7f', 'v' * 44, 'v' * 45, '10', '-3', '3.5', '\xff\xfe')

    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, *of):
        return self.random.choice(of)

    def key(self):
        return self.pick('a', 'b', 'c', 'd')

    def int(self):
        return self.pick(*self.INTEGERS) if self.random.random() < 0.4 else str(self.random.randint(-30, 30))

    def wide(self):
        return self.pick(*self.INTEGERS) if self.random.random() < 0.3 else str(self.random.randint(-2**63, 2**63 - 1))

    def float(self):
        chance = self.random.random()
        if chance < 0.4:
            return self.pick(*self.FLOATS)
        if chance < 0.6:
            return f'{self.random.uniform(-1000, 1000):.{self.random.randint(0, 20)}f}'
        if chance < 0.8:
            return repr(self.random.uniform(-1, 1) * 10 ** self.random.randint(-20, 40))
        digits = ''.join(self.pick(*'0123456789') for _ in range(self.random.randint(1, 60)))
        return f'{self.pick("", "-", "+")}{digits}.{digits[::-1]}e{self.random.randint(-60, 20)}'

    def value(self):
        return self.pick(*self.STRINGS) if self.random.random() < 0.5 else self.pick(self.int, self.wide, self.float)()

    def offset(self):
        if self.random.random() < 0.95:
            return str(self.random.randint(0, 30))
        return self.pick('-1', 'x', '1048574', '1048575', '1048576', '1048580', '4294967296', '9223372036854775807', '9223372036854775808', '')

    def place(self):
        """Of a bit."""
        if self.random.random() < 0.95:
            return str(self.random.randint(0, 200))
        return self.pick('-1', 'x', '8388600', '8388607', '8388608', '4294967296', '9223372036854775807', '')

    def bit(self):
        return self.pick('0', '1', '0', '1', '0', '1', '2', '-1', 'x')

    def unit(self):
        return self.pick('BIT', 'BYTE', 'bit', 'byte', 'x')

    def amount(self, unix, unit):
        """A time far from now, so that none ends while both servers run, and no two are nearly equal; or one that no key may have, or that is long over."""
        if self.random.random() < 0.15:
            return self.pick('0', '-1', '-100000', '9223372036854775807', '9223372036854775', '9223372036854776', '-9223372036854775808', '-9223372036854775809', 'x', '', '1.5')
        seconds = self.random.randrange(10**4, 10**8) + (int(time.time()) if unix else 0)
        if unix and self.random.random() < 0.1:
            seconds = self.random.randrange(1, 10**9)
        return str(seconds * unit)

    def ex(self):
        return self.amount(False, 1)

    def px(self):
        return self.amount(False, 1000)

    def exat(self):
        return self.amount(True, 1)

    def pxat(self):
        return self.amount(True, 1000)

    def expiry(self):
        form = self.pick('EX', 'PX', 'EXAT', 'PXAT')
        return [self.pick(form, form.lower()), getattr(self, form.lower())()]

    def options(self):
        out = []
        for _ in range(self.pick(0, 1, 1, 2, 2, 3)):
            out += self.pick(lambda: ['NX'], lambda: ['XX'], lambda: ['GET'], lambda: ['KEEPTTL'], self.expiry, self.expiry, lambda: [self.pick('PERSIST', 'EX', 'x', 'get', 'nx')])()
        return out

    def persists(self):
        return self.pick(lambda: [], lambda: ['PERSIST'], self.expiry, self.expiry, self.options)()

    def rule(self):
        return [self.pick('NX', 'XX', 'GT', 'LT', 'gt', 'lt', 'NY') for _ in range(self.pick(0, 0, 1, 1, 1, 2))]

    def command(self):
        out = []
        for word in self.pick(*TEMPLATES).split():
            made = getattr(self, word)() if word.islower() else word
            out += made if isinstance(made, list) else [made]
        return out


TEMPLATES = """GET key|GET key|SET key value|SET key value|SET key value options|SET key value options|SET key value options|SETNX key value|SETEX key ex value
PSETEX key px value|GETSET key value|GETDEL key|GETEX key persists|GETEX key persists|APPEND key value|APPEND key value|STRLEN key|SETRANGE key offset value
GETRANGE key int int|GETRANGE key int int|SUBSTR key int int|INCR key|DECR key|INCRBY key int|INCRBY key wide|DECRBY key wide|SET key wide|SET key float|INCRBYFLOAT key float
INCRBYFLOAT key float|INCRBYFLOAT key float|INCRBYFLOAT key float|DEL key|DEL key|UNLINK key|EXISTS key|TOUCH key|TYPE key|TTL key|PTTL key|EXPIRETIME key|PEXPIRETIME key
EXPIRE key ex rule|PEXPIRE key px rule|EXPIREAT key exat rule|PEXPIREAT key pxat rule|EXPIRE key ex rule|PERSIST key|SETBIT key place bit|SETBIT key place bit|GETBIT key place
BITCOUNT key|BITCOUNT key int int|BITCOUNT key int int unit|BITPOS key bit|BITPOS key bit int|BITPOS key bit int int|BITPOS key bit int int unit
OBJECT ENCODING key|OBJECT REFCOUNT key|FLUSHALL""".replace('\n', '|').split('|')


def random_commands(seed):
    """Values are latin-1: a byte a character."""
    words = Words(seed)
    return [[w.encode('latin-1') if not w.isascii() else w for w in words.command()] for _ in range(COMMANDS)]


def test_cache_ops_as_redis_at_random():
    wrong = []
    for seed in range(3):
        with both() as pair:
            wrong += [f'seed {seed}: {why}' for why in compare(pair, random_commands(seed))]
    assert not wrong, '\n'.join(wrong)


WORDS_THAT_ARE_WRONG = r"""
GET|GET a b|SET a|SET|SETEX a 1|SETEX a 0 v|SETEX a -1 v|SETEX a x v|PSETEX a 0 v|PSETEX a 9223372036854775807 v|SETEX a 9223372036854775807 v|SET a v EX|SET a v EX 0
SET a v EX x|SET a v PX 9223372036854775807|SET a v NX XX|SET a v EX 100000 KEEPTTL|SET a v EX 100000 PX 5|SET a v PERSIST|SET a v EX 100000 EX 200000|SET a v NX NX GET GET
SET a v EXAT -1|GETEX a|GETEX|GETEX a EX|SET a v|GETEX a EX 0|GETEX a EX x|GETEX a KEEPTTL|GETEX a PERSIST EX 100000|GETEX a NX|GETEX a GET|GETEX a EXAT 9223372036854775807
EXPIRE a|EXPIRE a x|EXPIRE a 10000 NX XX|EXPIRE a 10000 GT LT|EXPIRE a 10000 NX GT|EXPIRE a 10000 FOO|EXPIRE a x FOO|EXPIRE a x NX XX|EXPIRE a 9223372036854775807
PEXPIRE a 9223372036854775807|EXPIREAT a 9223372036854775807|PEXPIREAT a 9223372036854775807|PEXPIRETIME a|PERSIST a|EXPIRETIME a|EXPIRE a 10000 XX GT|EXPIRE a 10000 XX LT
EXPIRE none 5 FOO|EXPIRE none 9223372036854775807|INCRBY a|INCRBY a x|SET n 5|INCRBY n x|DECRBY n -9223372036854775808|DECRBY n 9223372036854775807|INCRBY n -9223372036854775808
INCRBYFLOAT a 1|INCRBYFLOAT n x|INCRBYFLOAT n inf|INCRBYFLOAT n nan|SET f inf|INCRBYFLOAT f 1|INCRBYFLOAT f -1|SETRANGE a -1 v|SETRANGE a x v|SETRANGE a 1048576 v
SETRANGE a 1048576 ''|SETRANGE a 9223372036854775807 v|SETRANGE none 5 ''|EXISTS none|SETRANGE none 5 x|GET none|SETBIT a -1 1|SETBIT a 8388608 1|SETBIT a 0 2|SETBIT a x y
SETBIT a 4294967296 1|GETBIT a 8388608|GETBIT a x|SETBIT a 8388607 1|STRLEN a|APPEND a x|GET n|APPEND n ''|APPEND empty ''|EXISTS empty|GET empty|DEL empty|BITCOUNT a 1
BITCOUNT a 1 2 3|BITCOUNT a x 2 BIT y|BITPOS a 1 x 2 BIT y|BITPOS a 2 x 2 BIT y|BITCOUNT a 1 2 BIT BIT|BITCOUNT a 0 -1|BITCOUNT a x y|BITPOS a 2|BITPOS a x|BITPOS a 1 0 -1 FOO|BITPOS a 1 0 -1 BIT x|BITPOS a 1 x|BITPOS a|OBJECT|OBJECT ENCODING
OBJECT ENCODING a b|OBJECT FOO a|OBJECT ENCODING nothere|OBJECT REFCOUNT nothere|OBJECT FREQ n|SET s abc|OBJECT ENCODING s|OBJECT ENCODING n|SUBSTR s 0 1|SUBSTR s 0|GETRANGE s x 1|STRLEN
TYPE|TTL|PTTL a b|APPEND a|SETNX a|GETSET a|GETDEL|GETDEL s t|INCR|INCR n 1|DECR|TOUCH|DEL|UNLINK|EXISTS|PERSIST|SETRANGE a 1|GETBIT a|SETBIT a 1|BITCOUNT|get|gEt n
""".strip().replace('\n', '|').split('|')


def test_cache_ops_refuse_as_redis():
    """The words of errors, arity, and what of two wrong things is named."""
    with both() as pair:
        wrong = [line for command in WORDS_THAT_ARE_WRONG for line in compare(pair, [shlex.split(command)])]
    assert not wrong, '\n'.join(wrong)


def test_cache_ops_expire_as_redis():
    """What is over is absent to every command."""
    def script(client):
        for key in 'abcdefgh':
            client.cmd('SET', key, '5', 'PX', '20')
        time.sleep(0.1)
        asked = ('GET a', 'INCR b', 'TTL b', 'APPEND c x', 'TTL c', 'SET d v KEEPTTL', 'TTL d', 'EXPIRE e 100', 'DEL f', 'EXISTS g', 'SET h v XX', 'PERSIST h', 'GETSET a v',
                 'SET b v GET EXAT 1', 'EXISTS b', 'EXPIRE c -1', 'EXISTS c', 'GETEX d PXAT 1', 'EXISTS d')
        return [(command, client.cmd(*command.split())) for command in asked]
    with both() as (theirs, ours):
        assert re.fullmatch(r'\d+\.\d+\.\d+', theirs.hello['version']), theirs.hello
        assert script(ours) == script(theirs)
