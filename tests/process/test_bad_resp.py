"""Bad input at the RESP door, one test per row: a clear refusal, the connection kept or closed as the row says, nothing lost."""
import contextlib
import os
import socket
import time

from harness import MEMORY_SLACK, SLOW, Cluster, Skip, acquire, expect_error, wait_for
from resp import Client, RespError, encode

KIB = 1024


@contextlib.contextmanager
def one_node(**env):
    """A live node that must be as well afterwards as before: it answers, and its memory did not run away."""
    with Cluster(1, env=env) as cluster:
        node = cluster.nodes[0]
        before = node.memory_kib()
        yield node
        with node.client() as client:
            assert client.cmd('PING') == 'PONG'
            acquire(client, 'still', 'OWNER', 'well')
        assert node.memory_kib() < before + 96 * KIB * MEMORY_SLACK, f'{before} KiB before, {node.memory_kib()} after'


def refused_and_closed(node, raw, word='ERR'):
    """The bytes earn one error line and the end of the connection."""
    with Client(node.resp) as client:
        with contextlib.suppress(ConnectionError):
            client.send(raw)
        assert client.closed_by_server(10 * SLOW), f'still open after {raw[:60]!r}'
        assert client.buffer == b'' or client.buffer.startswith(b'-' + word.encode()), f'{raw[:60]!r}: {client.buffer[:100]!r}'
        return client.buffer


def refused_and_kept(node, *command, words='ERR'):
    with Client(node.resp) as client:
        refusal = expect_error(words, client.cmd, *command)
        assert client.cmd('PING') == 'PONG'
        return refusal


def test_i01_a_bulk_length_of_2_to_the_63():
    with one_node() as node:
        assert refused_and_closed(node, b'*1\r\n$9223372036854775807\r\n').startswith(b'-ERR Protocol error')


def test_i02_negative_lengths():
    with one_node() as node:
        for raw in (b'*1\r\n$-1\r\n', b'*1\r\n$-2\r\n'):
            refused_and_closed(node, raw)
        with Client(node.resp) as client:
            client.send(b'*0\r\n*-1\r\n' + encode('PING'))
            assert client.read(20) in (b'PONG',)


def test_i03_counts_that_overflow():
    with one_node() as node:
        for raw in (b'*2147483648\r\n', b'*99999999999999999999\r\n', b'*-9223372036854775809\r\n'):
            refused_and_closed(node, raw)


def test_i04_lengths_that_are_not_plain_digits():
    with one_node() as node:
        for length in (b'+4', b' 4', b'4 ', b'0x4', b'', b'4a', b'-0'):
            refused_and_closed(node, b'*1\r\n$' + length + b'\r\nPING\r\n')


def test_i05_nesting_without_end():
    with one_node() as node:
        refused_and_closed(node, b'*1\r\n' * 100_000)


def test_i06_a_million_empty_arguments():
    with one_node() as node:
        refused_and_closed(node, b'*1048576\r\n' + b'$0\r\n\r\n' * 5000)


def test_i07_a_bulk_without_its_end():
    with one_node() as node:
        for end in (b'xx', b'\r\r', b'\n\n', b'\rx'):
            refused_and_closed(node, b'*1\r\n$4\r\nPING' + end + encode('PING'))


def test_i08_an_inline_command_without_end():
    with one_node() as node:
        refused_and_closed(node, b'A' * (256 * KIB))


def test_i09_half_commands_hold_little_memory():
    with one_node() as node:
        before = node.memory_kib()
        idle = []
        for _ in range(500):
            client = Client(node.resp)
            client.send(b'*3\r\n$12\r\nLOCK.ACQ')
            idle.append(client)
        assert node.client().cmd('PING') == 'PONG'
        assert node.memory_kib() - before < 500 * 20 * MEMORY_SLACK, f'{node.memory_kib() - before} KiB for 500 half commands'
        for client in idle:
            client.close()


def test_i10_a_flood_of_pipelined_commands_that_reads_nothing():
    with one_node() as node:
        with Client(node.resp, timeout=2) as client:
            chunk, sent = encode('PING') * 10_000, 0
            with contextlib.suppress(OSError):
                while sent < 100:
                    client.send(chunk)
                    sent += 1
            assert node.client().cmd('PING') == 'PONG', 'others are served meanwhile'


def test_i10_a_million_pipelined_commands_are_answered_when_read():
    import threading
    with one_node() as node, Client(node.resp, timeout=60 * SLOW) as client:
        count = 1_000_000
        sender = threading.Thread(target=client.send, args=(b'PING\r\n' * count,))
        sender.start()
        got = 0
        while got < 7 * count:
            chunk = client.sock.recv(1 << 20)
            assert chunk, f'closed after {got // 7} replies'
            got += len(chunk)
        sender.join()


def test_i11_reply_types_from_a_client():
    with one_node() as node:
        for raw in (b'%1\r\n$1\r\na\r\n$1\r\nb\r\n', b'>1\r\n$4\r\nPING\r\n', b'*1\r\n~1\r\n', b'*1\r\n:1\r\n', b'*1\r\n+PING\r\n'):
            with Client(node.resp) as client:
                client.send(raw)
                answer = client.read(20)
                assert isinstance(answer, RespError), answer


def test_i12_names_that_are_too_long_or_binary():
    with one_node() as node:
        refused_and_kept(node, 'LOCK.ACQUIRE', b'x' * (KIB + 1), 'EXCLUSIVE', words='ERR LIMIT')
        with node.client() as client:
            held = acquire(client, b'\0\r\n\xff\x1b[31m', 'OWNER', 'a')
            assert client.cmd('LOCK.RELEASE', b'\0\r\n\xff\x1b[31m', held['lock_id']) == 1
        assert '\x1b' not in node.log(), 'an escape sequence of a client reached the log'


def test_i13_numbers_out_of_range():
    with one_node() as node:
        for ttl in ('1e9', '-0', '9223372036854775808', '18446744073709551616', 'NaN', '0', '-1', '', ' 5', '0x10', '5ms'):
            refused_and_kept(node, 'LOCK.ACQUIRE', 'n', 'EXCLUSIVE', 'TTL', ttl)
        for wait in ('-1', 'NaN', '99999999999999999999', '1.5'):
            refused_and_kept(node, 'LOCK.ACQUIRE', 'n', 'EXCLUSIVE', 'WAIT', wait)


def test_i14_a_password_of_a_megabyte_and_many_wrong_ones():
    with one_node(REQUIREPASS='right') as node:
        with Client(node.resp) as client:
            with contextlib.suppress(ConnectionError, RespError, socket.timeout):
                client.cmd('AUTH', 'x' * (1024 * KIB))
            assert client.closed_by_server(10 * SLOW)
        with Client(node.resp) as client:
            expect_error('NOAUTH', client.cmd, 'LOCK.ACQUIRE', 'a', 'EXCLUSIVE')
            begun = time.monotonic()
            for _ in range(12):
                expect_error('WRONGPASS', client.cmd, 'AUTH', 'wrong')
            assert time.monotonic() - begun > 1.5, 'guesses must wait'
        with Client(node.resp) as client:
            client.cmd('AUTH', 'right')
            acquire(client, 'a', 'OWNER', 'a')


def test_i09_strangers_are_not_kept():
    with one_node(REQUIREPASS='right') as node:
        doors = [Client(node.resp) for _ in range(50)]
        doors[0].send(b'*2\r\n$4\r\nAUTH\r\n')
        assert all(client.closed_by_server(10 * SLOW) for client in doors)
        assert doors[1].buffer.startswith(b'-NOAUTH ')


def test_i14_big_commands_before_the_password():
    with one_node(REQUIREPASS='right') as node:
        refused_and_closed(node, b'*1\r\n$10000000\r\n')
        refused_and_closed(node, b'*1000\r\n' + b'$4\r\nPING\r\n' * 1000)


def test_i15_wrong_arity_and_unknown_commands():
    with one_node() as node:
        assert 'wrong number of arguments' in refused_and_kept(node, 'LOCK.ACQUIRE')
        assert 'wrong number of arguments' in refused_and_kept(node, 'LOCK.RELEASE', 'a')
        refusal = refused_and_kept(node, 'N' * KIB, 'a' * KIB)
        assert 'unknown command' in refusal and len(refusal) < 512, refusal
        refused_and_kept(node, 'LOCK.ACQUIRE', 'a', 'SIDEWAYS')
        refused_and_kept(node, 'LOCK.ACQUIRE', 'a', 'EXCLUSIVE', 'NOPE', '1')
        refused_and_kept(node, 'LOCK.ACQUIRE', 'a', 'EXCLUSIVE', 'TTL')
        refused_and_kept(node, 'LOCK.ACQUIRE', '', 'EXCLUSIVE')
        refused_and_kept(node, 'LOCK.ACQUIREALL', 'EXCLUSIVE', '5', 'a')
        refused_and_kept(node, 'LOCK.ACQUIREALL', 'EXCLUSIVE', '0')


def test_i16_tokens_that_name_nothing():
    with one_node() as node, node.client() as client:
        held = acquire(client, 't', 'OWNER', 'a', 'TTL', 60000)
        for token in ('0', '18446744073709551615', '18446744073709551616', '-1', 'abc'):
            expect_error('STALE ERR', client.cmd, 'LOCK.RELEASE', 't', token)
        assert client.cmd('LOCK.RELEASE', 't', held['lock_id']) == 1


def test_i18_counts_beyond_what_one_reply_holds():
    with one_node() as node, node.client() as client:
        for i in range(1100):
            acquire(client, f'many{i}', 'OWNER', 'a', 'TTL', 60000)
        for count in ('2147483648', '18446744073709551615'):
            with contextlib.suppress(RespError):
                assert len(client.cmd('LOCK.LIST', 'COUNT', count)[1]) <= 1000
        assert len(client.cmd('LOCK.LIST', 'COUNT', '1000')[1]) <= 1000


def test_i19_patterns_that_backtrack():
    with one_node() as node, node.client() as client:
        acquire(client, 'a' * 200, 'OWNER', 'a', 'TTL', 60000)
        client.cmd('LOCK.LIST', 'MATCH', 'a*' * 60 + 'b', timeout=60 * SLOW)  # who tries all ways takes for ever


def test_i32_a_browser_that_posts_to_the_resp_port():
    with one_node() as node:
        for line in (b'POST / HTTP/1.1\r\nHost: x\r\n\r\nLOCK.FORCE a REASON b\r\n', b'GET / HTTP/1.1\r\n\r\n'):
            with Client(node.resp) as client:
                client.send(line)
                assert client.closed_by_server(10 * SLOW), 'still open'
                assert b'PONG' not in client.buffer and b'+' not in client.buffer


def test_connections_beyond_the_limit():
    """Ten thousand, each with half a command; the next one is told, and those that are there go on (G16)."""
    import resource
    most = 10_000
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < most + 200:
        raise Skip('the system allows too few open files')
    resource.setrlimit(resource.RLIMIT_NOFILE, (most + 200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with one_node() as node:
        resource.prlimit(node.proc.pid, resource.RLIMIT_NOFILE, (most + 200, most + 200))
        held, before = node.client(), node.memory_kib()
        opened = []
        for _ in range(most - 1):
            opened.append(socket.create_connection(('127.0.0.1', node.resp), 20))
            opened[-1].sendall(b'*3\r\n$12\r\nLOCK.ACQ')
        assert held.cmd('PING') == 'PONG'
        assert node.memory_kib() - before < 80 * KIB * MEMORY_SLACK, f'{node.memory_kib() - before} KiB for {most} half commands'
        for _ in range(3):
            with Client(node.resp) as one:
                assert one.closed_by_server(10 * SLOW)
                assert one.buffer in (b'', b'-ERR max number of clients reached\r\n'), one.buffer
        with socket.create_connection(('127.0.0.1', node.http), 20) as door:
            door.settimeout(10 * SLOW)
            assert door.recv(4096).startswith(b'HTTP/1.1 503 ')
        for one in opened:
            one.close()
        wait_for('room', lambda: node.request('GET', '/livez')[0] == 200)
        assert node.refused('connections') >= 4


def test_a_flood_of_connections():
    with one_node() as node:
        opened = []
        with contextlib.suppress(OSError):
            for _ in range(900):
                opened.append(socket.create_connection(('127.0.0.1', node.resp), 20))
        assert node.client().cmd('PING') == 'PONG'
        for one in opened:
            one.close()
        for _ in range(2000):
            socket.create_connection(('127.0.0.1', node.resp), 20).close()


def test_out_of_file_descriptors():
    """P14: accept fails, the loop does not spin or die, and room brings new clients back."""
    import resource
    with one_node() as node:
        held = node.client()
        resource.prlimit(node.proc.pid, resource.RLIMIT_NOFILE, (64, 4096))
        opened = []
        with contextlib.suppress(OSError):
            for _ in range(200):
                opened.append(socket.create_connection(('127.0.0.1', node.resp), 2))
        assert held.cmd('PING') == 'PONG'
        assert acquire(held, 'fd', 'OWNER', 'a')
        for one in opened:
            one.close()
        wait_for('new clients to be let in', lambda: node.client(timeout=2).cmd('PING') == 'PONG')


def test_a_slow_reader_of_pushes_is_cut_off_not_buffered():
    with one_node() as node:
        with Client(node.resp, proto=3) as watcher, node.client() as client:
            watcher.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            watcher.cmd('LOCK.WATCH', 'w' * 900)
            for i in range(20_000):
                held = acquire(client, 'w' * 900, 'OWNER', f'o{i}', 'TTL', 60000)
                client.cmd('LOCK.RELEASE', 'w' * 900, held['lock_id'])
                if i % 500 == 0 and node.refused('output'):
                    break
            assert node.refused('output') == 1, f'{i} grants pushed to a client that reads nothing'
            wait_for('its end', lambda: len(client.cmd('CLIENT', 'LIST').splitlines()) == 1)


def test_random_bytes_at_every_door():
    import random
    dice = random.Random(7)
    with one_node() as node:
        for port in (node.resp, node.http, node.peer):
            for _ in range(60):
                with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), 5) as door:
                    door.sendall(dice.randbytes(dice.randrange(1, 4000)) if dice.random() < 0.5 else os.urandom(64) + b'\r\n' * 8)


def test_every_split_of_a_pipeline():
    """Bytes may arrive cut anywhere: the replies are the same."""
    raw = encode('PING') + encode('ECHO', 'a\r\nb') + b'PING inline\r\n' + encode('LOCK.INFO', 'none')
    with one_node() as node:
        with node.client() as client:
            client.send(raw)
            whole = [str(client.read(20)) for _ in range(4)]
        for cut in range(1, len(raw)):
            with node.client() as client:
                client.send(raw[:cut])
                client.send(raw[cut:])
                assert [str(client.read(20)) for _ in range(4)] == whole, cut
