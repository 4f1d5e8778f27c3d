"""Bad input at the HTTP door, one test per row of the list."""
import contextlib
import resource
import socket

from harness import MEMORY_SLACK, SLOW, Cluster, Skip, wait_for

ACQUIRE = '{"resource_id":"r","lock_type":"exclusive","client_id":"c"}'
JSON_HEADERS = f'Content-Type: application/json\r\nContent-Length: {len(ACQUIRE)}\r\n'


def room_for(sockets, node=None):
    """Lets this process, or the node, open so many files."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < sockets + 200:
        raise Skip('the system allows too few open files')
    resource.prlimit(node.proc.pid if node else 0, resource.RLIMIT_NOFILE, (sockets + 200, hard))


@contextlib.contextmanager
def one_node():
    """A live node that must be as well afterwards as before: it answers, and its memory did not run away."""
    with Cluster(1) as cluster:
        node = cluster.nodes[0]
        before = node.memory_kib()
        yield node
        assert node.request('GET', '/livez')[0] == 200
        assert node.memory_kib() < before + 64 * 1024 * MEMORY_SLACK, f'{before} KiB before, {node.memory_kib()} after'


def exchange(node, raw, kept=False, timeout=20.0):
    """Sends raw bytes; returns (everything answered, whether the server closed). kept: it is not to close, one answer is waited for."""
    raw = raw if isinstance(raw, bytes) else raw.encode()
    with socket.create_connection(('127.0.0.1', node.http), 20) as door:
        with contextlib.suppress(ConnectionError):
            door.sendall(raw)
        door.settimeout(timeout * SLOW)
        got, closed = b'', False
        try:
            while True:
                chunk = door.recv(65536)
                if not chunk:
                    closed = True
                    break
                got += chunk
                if kept and complete(got):
                    break
        except socket.timeout:
            pass
        except ConnectionError:
            closed = True
        return got, closed


def complete(got):
    head, mark, body = got.partition(b'\r\n\r\n')
    lengths = [line.split(b':')[1] for line in head.lower().split(b'\r\n') if line.startswith(b'content-length:')]
    return bool(mark) and bool(lengths) and len(body) >= int(lengths[0])


def status(answer):
    return int(answer.split(b' ', 2)[1]) if answer.startswith(b'HTTP/1.') else 0


def refused(node, raw, codes=(400,)):
    """One refusal with one of the codes, then the end of the connection; never a second answer from smuggled bytes."""
    answer, closed = exchange(node, raw)
    assert status(answer) in codes, f'{raw[:120]!r}: {answer[:120]!r}'
    assert closed, f'{raw[:120]!r}: still open'
    assert answer.count(b'HTTP/1.1 ') == 1, answer[:300]


def post(headers, body='', path='/lock/acquire', version='1.1'):
    return f'POST {path} HTTP/{version}\r\nHost: x\r\n{headers}\r\n{body}'


SMUGGLED = 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n'


def test_i20_both_length_and_chunked():
    with one_node() as node:
        refused(node, post('Content-Length: 5\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n' + SMUGGLED))


def test_i21_lengths_that_disagree_or_are_not_digits():
    with one_node() as node:
        refused(node, post('Content-Length: 5\r\nContent-Length: 6\r\n', 'abcdef' + SMUGGLED))
        for length in ('+5', '5,5', '0x5', '99999999999999999999', '-1', '5 5', ''):
            refused(node, post(f'Content-Length: {length}\r\n', 'abcde' + SMUGGLED), (400, 413))


def test_i22_transfer_encodings_we_do_not_know():
    with one_node() as node:
        for coding in ('identity', 'gzip, chunked', 'xchunked', 'chunked, identity', 'chunked\r\nTransfer-Encoding: identity'):
            refused(node, post(f'Transfer-Encoding: {coding}\r\n', '0\r\n\r\n' + SMUGGLED), (400, 501))
        refused(node, post('Transfer-Encoding: chunked\r\n', '0\r\n\r\n' + SMUGGLED, version='1.0'), (400, 501))


def test_i23_chunks_that_lie():
    with one_node() as node:
        for size in ('ffffffffffffffff', '-1', '0x5', 'g', '10000000000000000'):
            refused(node, post('Transfer-Encoding: chunked\r\n', f'{size}\r\nabcde\r\n0\r\n\r\n'), (400, 413))
        refused(node, post('Transfer-Encoding: chunked\r\n', '1;' + 'x' * 1_000_000 + '\r\na\r\n0\r\n\r\n'), (400, 413, 431))
        refused(node, post('Transfer-Encoding: chunked\r\n', '1\nab\n0\n\n'))


def test_i24_headers_that_are_not_headers():
    with one_node() as node:
        for line in ('X: a\r\n folded\r\n', 'X : a\r\n', 'X: a\0b\r\n', 'X: a\rb\r\n', 'no colon\r\n', ': empty\r\n', 'Host: y\r\n'):
            refused(node, f'GET /livez HTTP/1.1\r\nHost: x\r\n{line}\r\n')
        refused(node, 'GET /livez HTTP/1.1\r\n\r\n')


def test_i25_slowloris_headers():
    many = 4000
    room_for(many)
    with one_node() as node:
        room_for(many, node)
        before = node.memory_kib()
        doors = [socket.create_connection(('127.0.0.1', node.http), 20) for _ in range(many)]
        for part in (b'GET /livez HTTP/1.1\r\nHo', b'st: ', b'x\r\n'):
            for door in doors:
                with contextlib.suppress(ConnectionError):  # its ten seconds may be over
                    door.sendall(part)
        assert node.request('GET', '/livez')[0] == 200, 'others are served meanwhile'
        assert node.memory_kib() - before < many * 12 * MEMORY_SLACK, f'{node.memory_kib() - before} KiB for {many} slow heads'
        for door in (doors[0], doors[-1]):
            door.settimeout(40 * SLOW)
            assert status(door.recv(4096)) == 408
            with contextlib.suppress(ConnectionError):
                assert door.recv(4096) == b''
        wait_for('the slow to be counted', lambda: node.refused('slow') == many, 40)
        for door in doors:
            door.close()


def test_i26_slow_bodies():
    with one_node() as node, socket.create_connection(('127.0.0.1', node.http), 20) as door:
        door.sendall(post('Content-Length: 100000\r\nContent-Type: application/json\r\n', '{').encode())
        door.settimeout(30 * SLOW)
        answer = door.recv(4096)
        assert status(answer) == 408, answer[:80]


def test_i27_too_many_headers_and_long_lines():
    with one_node() as node:
        refused(node, 'GET /livez HTTP/1.1\r\nHost: x\r\n' + 'X: a\r\n' * 10_000 + '\r\n', (431, 400))
        refused(node, 'GET /' + 'a' * 1_000_000 + ' HTTP/1.1\r\nHost: x\r\n\r\n', (414, 431, 400))
        for path in ('/lock/%00', '/lock/..%2f..%2fetc', '/lock/../x', '/lock/%', '/lock/%zz', '/lock/%c0%af', '/lock/%ed%a0%80'):
            refused(node, f'GET {path} HTTP/1.1\r\nHost: x\r\n\r\n')


def test_i28_a_flood_of_pipelined_requests():
    with one_node() as node, socket.create_connection(('127.0.0.1', node.http), 20) as door:
        door.settimeout(2)
        with contextlib.suppress(OSError):
            for _ in range(100):
                door.sendall((SMUGGLED * 1000).encode())
        assert node.request('GET', '/livez')[0] == 200


def test_i28_pipelined_requests_are_answered_in_order():
    with one_node() as node:
        answer, _ = exchange(node, 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n'
                                   'GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
        codes = [int(part[:3]) for part in answer.decode('latin1').split('HTTP/1.1 ')[1:]]
        assert codes == [200, 404, 200], codes


def test_i29_expect_upgrade_connect_trace():
    with one_node() as node:
        answer, _ = exchange(node, post(f'Expect: 100-continue\r\n{JSON_HEADERS}', ACQUIRE), kept=True)
        assert status(answer) == 200, answer[:120]
        refused(node, post(f'Expect: 200-ok\r\n{JSON_HEADERS}', ACQUIRE), (417,))
        answer, _ = exchange(node, 'GET /livez HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n'
                                   'Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n\r\n', kept=True)
        assert status(answer) == 200, answer[:120]
        for method in ('CONNECT', 'TRACE', 'PROPFIND'):
            refused(node, f'{method} /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', (405,))
        refused(node, 'BREW /livez HTTP/1.1\r\nHost: x\r\n\r\n')


def test_i30_compressed_bodies():
    with one_node() as node:
        refused(node, post(f'Content-Encoding: gzip\r\n{JSON_HEADERS}', ACQUIRE), (415,))
        answer, _ = exchange(node, 'GET /livez HTTP/1.1\r\nHost: x\r\nRange: bytes=' + '0-,' * 1000 + '0-\r\n\r\n', kept=True)
        assert status(answer) == 200, answer[:120]


def test_i31_json_that_is_not_ours():
    bodies = ('[' * 10_000, '{"a":' * 10_000, '{"resource_id":"r","ttl":1e400}', '{"resource_id":"a","resource_id":"b"}',
              '{"resource_id":"\\ud800","lock_type":"exclusive","client_id":"c"}', '{"resource_id":"r"', '', 'null', '[]', '"x"', '{"a":1}x',
              '{"resource_id":1,"lock_type":"exclusive","client_id":"c"}', '{"resource_id":"r","lock_type":"sideways","client_id":"c"}',
              '{"resource_id":"r","lock_type":"exclusive","client_id":"c","ttl":-1}', '{"resource_id":"\xff\xfe"}',
              '{"resource_id":"r","lock_type":"exclusive","client_id":"c","ttl":9223372036854775808}',
              '{"resource_id":"r","lock_type":"exclusive","client_id":"c","ttl":"soon"}')
    with one_node() as node:
        for body in bodies:
            code, answer = node.request('POST', '/lock/acquire', body.encode('latin1'), {'Content-Type': 'application/json'})
            assert code == 400 and {'error', 'code'} <= set(answer), (body[:60], code, answer)


def test_i31_a_body_over_the_limit():
    with one_node() as node:
        head = 'Content-Type: application/json\r\nContent-Length: 1073741824\r\n'
        refused(node, post(head, '{"resource_id":"' + 'x' * 100_000), (413,))


def test_i32_pages_of_other_sites():
    """A browser adds Origin and Sec-Fetch-Site to what a page makes it send: nothing is done for another site's page."""
    with one_node() as node:
        here = f'127.0.0.1:{node.http}'
        for headers in ({'Origin': 'http://evil.example'}, {'Origin': 'null'}, {'Origin': f'http://{here}.evil.example'},
                        {'Sec-Fetch-Site': 'cross-site'}, {'Origin': 'http://127.0.0.1:1', 'Sec-Fetch-Site': 'same-site'}):
            for method, path in (('POST', '/lock/acquire'), ('POST', '/session'), ('DELETE', '/session/1'), ('PUT', '/session/1')):
                code, answer = node.request(method, path, ACQUIRE if method == 'POST' else None, {'Content-Type': 'text/plain', **headers})
                assert code == 403 and answer['code'] == 'NOPERM' and 'another site' in answer['error'], (headers, code, answer)
        assert node.request('GET', '/lock/r')[1]['state'] == 'FREE'
        assert node.refused('cross_site') == 20
        assert node.request('GET', '/livez', headers={'Origin': 'http://evil.example'})[0] == 200
        own = {'Origin': f'http://{here}', 'Sec-Fetch-Site': 'same-origin'}
        assert node.request('POST', '/lock/acquire', ACQUIRE, own)[0] == 200


def test_i33_metrics_under_many_scrapes():
    with one_node() as node:
        for _ in range(300):
            assert node.request('GET', '/metrics')[0] in (200, 429)


def test_bytes_of_a_request_may_arrive_cut_anywhere():
    raw = post(f'Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(ACQUIRE)}\r\n', ACQUIRE).encode()
    with one_node() as node:
        for cut in range(1, len(raw), 3):
            with socket.create_connection(('127.0.0.1', node.http), 20) as door:
                door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                door.sendall(raw[:cut])
                door.sendall(raw[cut:])
                door.settimeout(10 * SLOW)
                assert status(door.recv(65536)) == 200, cut
