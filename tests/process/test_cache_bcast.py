"""CLIENT TRACKING BCAST over nodes: every write anywhere is pushed before it is acknowledged; REDIRECT; and the options' errors, as Redis has them."""
import signal

from harness import SLOW, Cluster, retry, wait_for
from resp import as_map
from streams_compare import Redis
from test_cache import Replies
from test_cache_coherence import LONG, settled
from test_cache_track import error_of


def drain(client):
    """What has been pushed until now: it lies before the answer to a PING."""
    assert client.cmd('PING') == 'PONG'
    out, client.pushes[:] = list(client.pushes), []
    return out


def tracks(node, *options):
    client = node.client(proto=3)
    assert client.cmd('CLIENT', 'TRACKING', 'ON', 'BCAST', *options) == 'OK'
    return client


def test_bcast_is_pushed_before_the_writer_is_answered():
    """From every node to every node, keys of all groups, which the listeners never read. When a home changes they are told of all keys."""
    with Cluster(3, env=LONG) as cluster:
        writers = settled(cluster)
        listeners = [tracks(node) for node in cluster.nodes]
        of_all = 0
        for i in range(300):
            key = f'k{i}'
            assert writers[i % 3].cmd('SET', key, i) == 'OK'
            for at, listener in enumerate(listeners):
                told = drain(listener)
                of_all += ['invalidate', None] in told
                assert told == [['invalidate', [key]]] or ['invalidate', None] in told, f'{key}, written at n{i % 3 + 1}, n{at + 1} listens and was told {told}'
        assert of_all < 50, of_all


def test_bcast_reads_after_the_push_see_the_write():
    """What is read from the node that tracks, and not invalidated afterwards, is the newest."""
    with Cluster(3, env=LONG) as cluster:
        _, writer, other = settled(cluster)
        reader = tracks(cluster.nodes[0])
        for i in range(300):
            for client in (reader, other):
                client.cmd('GET', 'k')  # it has a line, which is to go first
            writer.cmd('SET', 'k', i)
            assert drain(reader) == [['invalidate', ['k']]] and reader.cmd('GET', 'k') == str(i) and drain(reader) == []


def test_bcast_prefixes_noloop_and_what_changes_nothing():
    with Cluster(3, env=LONG) as cluster:
        writer = settled(cluster)[2]
        listener = tracks(cluster.nodes[0], 'PREFIX', 'a:', 'PREFIX', 'b:', 'NOLOOP')
        assert as_map(listener.cmd('CLIENT', 'TRACKINGINFO')) == {'flags': ['on', 'bcast', 'noloop'], 'redirect': 0, 'prefixes': ['a:', 'b:']}
        writer.cmd('SET', 'c:1', 'x')
        writer.cmd('MSET', 'a:1', 'x', 'b:2', 'y', 'z', 'w')
        assert sorted(key for _, (key,) in drain(listener)) == ['a:1', 'b:2']
        assert listener.cmd('SET', 'a:1', 'own') == 'OK' and listener.cmd('APPEND', 'a:1', 'er') == 5 and drain(listener) == []
        assert writer.cmd('SET', 'a:1', 'v', 'NX') is None and writer.cmd('DEL', 'a:none') == 0 and drain(listener) == []
        assert writer.cmd('INCR', 'b:n') == 1 and drain(listener) == [['invalidate', ['b:n']]]
        assert writer.cmd('RENAME', 'a:1', '{a:1}2') == 'OK' and drain(listener) == [['invalidate', ['a:1']]]
        assert writer.cmd('MSETNX', 'a:3', '1') == 1 and drain(listener) == [['invalidate', ['a:3']]]
        assert writer.cmd('MSETNX', 'a:3', '2') == 0 and drain(listener) == []
        assert writer.cmd('SET', 'a:short', 'v', 'PX', int(1500 * SLOW)) == 'OK' and drain(listener) == [['invalidate', ['a:short']]]
        assert listener.read_push(10 * SLOW) == ['invalidate', ['a:short']], 'the end of a time to live'
        assert writer.cmd('FLUSHALL') == 'OK' and set(map(str, drain(listener))) == {"['invalidate', None]"}
        assert listener.cmd('CLIENT', 'TRACKING', 'OFF') == 'OK'
        writer.cmd('SET', 'a:1', 'x')
        assert drain(listener) == []
        assert listener.cmd('CLIENT', 'TRACKING', 'ON', 'BCAST') == 'OK' and listener.cmd('CLIENT', 'TRACKINGINFO')['prefixes'] == ['']
        listener.cmd('RESET')
        assert listener.cmd('CLIENT', 'GETREDIR') == -1


def test_bcast_when_a_home_dies():
    """Whoever listens hears that everything may be old, and then of every write again."""
    with Cluster(3, env={'CACHE_LEASE': '500'}) as cluster, tracks(cluster.nodes[0]) as listener, cluster.nodes[1].client() as writer:
        homes = {f'k{i}': as_map(writer.cmd('CACHE.STATE', f'k{i}'))['home'] for i in range(60)}
        wait_for('n3 to lead', lambda: 'n3' in (as_map(writer.cmd('CACHE.STATE', key))['home'] for key in homes))
        drain(listener)
        cluster.nodes[2].kill()
        wait_for('writes to go on', lambda: all(writer.cmd('SET', key, 'v') == 'OK' for key in homes), 60)
        pushes = drain(listener)
        assert ['invalidate', None] in pushes, pushes
        for turn in range(3):
            for key in homes:
                retry(writer.cmd, 'SET', key, turn)
                told = drain(listener)
                everything = ['invalidate', None]  # a leadership moved
                assert told == [['invalidate', [key]]] or everything in told, (key, told)


def test_bcast_does_not_hold_writes_up_for_a_stopped_listener():
    """Its lease ends; when it goes on, its clients hear that everything may be old."""
    with Cluster(3, env={'CACHE_LEASE': '1000'}) as cluster, tracks(cluster.nodes[2]) as listener, cluster.nodes[0].client() as writer:
        key = next(key for key in (f'k{i}' for i in range(100)) if as_map(writer.cmd('CACHE.STATE', key))['home'] != 'n3')
        cluster.nodes[2].signal(signal.SIGSTOP)
        assert writer.cmd('SET', key, 'v', timeout=20 * SLOW) == 'OK'
        cluster.nodes[2].signal(signal.SIGCONT)
        seen = []
        wait_for('the listener to hear', lambda: seen.append(listener.read_push(10 * SLOW)) or ['invalidate', None] in seen)


def test_bcast_is_refused_with_write_back():
    with Cluster(1, env={'CACHE_WRITE_POLICY': 'back'}) as cluster, cluster.nodes[0].client(proto=3) as client:
        assert 'CACHE_WRITE_POLICY' in error_of(client, 'CLIENT', 'TRACKING', 'ON', 'BCAST')
        assert client.cmd('CLIENT', 'TRACKING', 'ON') == 'OK'


def test_redirect_to_resp3_and_to_a_channel():
    with Cluster(3, env=LONG) as cluster:
        reader, writer, _ = settled(cluster)
        three, two = cluster.nodes[0].client(proto=3), cluster.nodes[0].client()
        assert two.cmd('SUBSCRIBE', '__redis__:invalidate') == ['subscribe', '__redis__:invalidate', 1]
        assert "Can't execute 'get'" in error_of(two, 'GET', 'k') and two.cmd('PING') == ['pong', '']
        for options in ((), ('BCAST',)):
            for to in (three, two):
                ident = as_map(three.hello)['id'] if to is three else next(
                    int(row.split()[0][3:]) for row in reader.cmd('CLIENT', 'LIST').splitlines() if ' flags=P ' in row)
                assert reader.cmd('CLIENT', 'TRACKING', 'ON', 'REDIRECT', ident, *options) == 'OK'
                assert reader.cmd('CLIENT', 'GETREDIR') == ident
                reader.cmd('GET', 'k')
                writer.cmd('SET', 'k', 'v')
                if to is three:
                    assert three.read_push(5 * SLOW) == ['invalidate', ['k']]
                else:
                    assert two.cmd_reply(5 * SLOW) == ['message', '__redis__:invalidate', ['k']]
                assert reader.cmd('CLIENT', 'TRACKING', 'OFF') == 'OK'
        assert two.cmd('UNSUBSCRIBE') == ['unsubscribe', '__redis__:invalidate', 0] and two.cmd('GET', 'k') == 'v'
        with cluster.nodes[0].client(proto=3) as source:
            assert source.cmd('CLIENT', 'TRACKING', 'ON', 'REDIRECT', as_map(three.hello)['id']) == 'OK'
            source.cmd('GET', 'k')
            three.close()
            wait_for('the connection to be gone', lambda: f'id={as_map(three.hello)["id"]} ' not in reader.cmd('CLIENT', 'LIST'))
            writer.cmd('SET', 'k', 'w')
            assert source.read_push(5 * SLOW) == ['tracking-redir-broken', as_map(three.hello)['id']]
            assert source.cmd('CLIENT', 'TRACKINGINFO')['flags'] == ['on', 'broken_redirect']


STEPS = """
CLIENT TRACKING|CLIENT TRACKING MAYBE|CLIENT GETREDIR|CLIENT TRACKINGINFO|CLIENT CACHING YES|CLIENT CACHING MAYBE|CLIENT TRACKING ON PREFIX a|CLIENT TRACKING ON BCAST OPTIN
CLIENT TRACKING ON BCAST OPTOUT|CLIENT TRACKING ON OPTIN OPTOUT|CLIENT TRACKING ON PREFIX|CLIENT TRACKING ON REDIRECT|CLIENT TRACKING ON REDIRECT x|CLIENT TRACKING ON REDIRECT 999999
CLIENT TRACKING ON FOO|CLIENT TRACKING ON BCAST PREFIX a PREFIX ab|CLIENT TRACKING ON BCAST PREFIX ab PREFIX a|CLIENT TRACKING ON BCAST PREFIX a PREFIX a|CLIENT TRACKINGINFO
CLIENT TRACKING ON BCAST PREFIX user: PREFIX item:|CLIENT TRACKINGINFO|CLIENT GETREDIR|CLIENT TRACKING ON BCAST PREFIX user:1|CLIENT TRACKING ON BCAST PREFIX u
CLIENT TRACKING ON BCAST PREFIX other: NOLOOP|CLIENT TRACKINGINFO|CLIENT TRACKING ON|CLIENT CACHING YES|CLIENT CACHING NO|CLIENT TRACKING OFF|CLIENT TRACKINGINFO
CLIENT TRACKING ON BCAST|CLIENT TRACKINGINFO|CLIENT TRACKING ON BCAST|CLIENT TRACKING ON BCAST PREFIX x|CLIENT TRACKING OFF|CLIENT TRACKING ON OPTIN|CLIENT TRACKING ON BCAST
CLIENT TRACKING ON OPTOUT|CLIENT TRACKING ON OPTIN NOLOOP|CLIENT TRACKINGINFO|CLIENT CACHING NO|CLIENT CACHING YES|CLIENT TRACKINGINFO|GET a|CLIENT TRACKINGINFO|CLIENT TRACKING OFF
CLIENT TRACKING ON OPTOUT|CLIENT CACHING YES|CLIENT CACHING NO|CLIENT TRACKINGINFO|GET a|CLIENT TRACKING ON BCAST|RESET|HELLO 3|CLIENT TRACKINGINFO|CLIENT TRACKING OFF FOO
CLIENT TRACKING OFF|CLIENT TRACKINGINFO FOO|CLIENT GETREDIR FOO|CLIENT CACHING|UNSUBSCRIBE
""".strip().replace('\n', '|').split('|')


def test_tracking_options_as_redis():
    """The same words to both, RESP3, byte by byte."""
    wrong = []
    with Redis() as redis, Cluster(1) as cluster, Replies([redis.port], 3) as theirs, Replies([cluster.nodes[0].resp], 3) as ours:
        for line in STEPS:
            expected, reply = theirs.step(line), ours.step(line)
            if line.startswith('HELLO'):
                continue
            if reply != expected:
                wrong.append(f'{line}\n    Redis:   {expected}\n    Synaxis: {reply}')
    assert not wrong, '\n'.join(wrong)
