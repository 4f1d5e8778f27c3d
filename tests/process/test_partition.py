"""Partitions and bad links between real processes, under load: nothing is granted twice, and what has a majority goes on."""
import contextlib
import os
import shutil
import socket
import subprocess
import time

from harness import CALM, Cluster, Skip, acquire, expect_error, wait_for
from history import Load
from proxy import ProxiedCluster

MINORITY_WORDS = 'LOADING NOQUORUM UNCERTAIN CLUSTERDOWN'


def goes_on(load, what, by=100):
    begun = load.count()
    wait_for(f'clients to go on after {what}', lambda: load.moved_on(begun, by), 40)


def finish(cluster, load):
    cluster.proxy.heal()
    goes_on(load, 'the heal')
    cluster.wait_ready()
    load.stop()
    load.check()


def other_leader(cluster, old):
    others = [n for n in cluster.nodes if n is not old]
    return wait_for('a leader of the majority', lambda: next((n for n in others if n.raft().get('role') == 'LEADER'), None), 30)


def test_a_leader_cut_off_silently():
    with ProxiedCluster(3, {'REQUEST_TIMEOUT': '1500'}) as cluster, Load(cluster.nodes) as load:
        goes_on(load, 'the start')
        old = cluster.leader()
        cluster.proxy.isolate(old.name)
        other_leader(cluster, old)
        goes_on(load, 'the cut', 40)
        wait_for('the old leader to step down (CheckQuorum)', lambda: old.raft()['role'] != 'LEADER')
        expect_error(MINORITY_WORDS, old.client(timeout=30).cmd, 'LOCK.ACQUIRE', 'minority', 'EXCLUSIVE', 'OWNER', 'm')
        finish(cluster, load)


def test_a_leader_cut_off_with_resets():
    with ProxiedCluster(3, {'REQUEST_TIMEOUT': '1500'}) as cluster, Load(cluster.nodes) as load:
        goes_on(load, 'the start')
        old = cluster.leader()
        cluster.proxy.isolate(old.name, refuse=True)
        other_leader(cluster, old)
        goes_on(load, 'the cut', 40)
        finish(cluster, load)


def test_a_leader_that_can_only_send():
    with ProxiedCluster(3, {'REQUEST_TIMEOUT': '1500'}) as cluster, Load(cluster.nodes) as load:
        goes_on(load, 'the start')
        old = cluster.leader()
        for node in cluster.nodes:
            if node is not old:
                cluster.proxy.set(node.name, old.name, hold=True)
        other_leader(cluster, old)
        goes_on(load, 'the one-way cut', 40)
        finish(cluster, load)


def terms_of(node):
    return {g['group']: g['term'] for g in node.raft()['groups']}


def test_a_follower_that_can_only_send_does_not_depose_the_leader():
    with ProxiedCluster(3) as cluster, Load(cluster.nodes[:1], workers=8) as load:
        goes_on(load, 'the start')
        deaf = cluster.followers()[-1]
        for node in cluster.nodes:
            if node is not deaf:
                cluster.proxy.set(node.name, deaf.name, hold=True)
        goes_on(load, 'the one-way cut', 20)
        terms = terms_of(deaf)  # it hears of none but its own; the others may have any while the machine is busy
        stood = deaf.metric('synaxis_consensus_elections_total')
        wait_for('it to stand again and again', lambda: deaf.metric('synaxis_consensus_elections_total') > stood + 10)
        assert terms_of(deaf) == terms, 'it stood in a newer term without a majority that would have it'
        goes_on(load, 'its elections', 20)
        finish(cluster, load)


def test_one_broken_pair_leaves_a_majority_that_goes_on():
    """n1 and n2 cannot talk to each other, n3 talks to both: the bridge of N7."""
    with ProxiedCluster(3, {'REQUEST_TIMEOUT': '2000'}) as cluster, Load(cluster.nodes) as load:
        goes_on(load, 'the start')
        cluster.proxy.set('n1', 'n2', hold=True)
        cluster.proxy.set('n2', 'n1', hold=True)
        goes_on(load, 'the broken pair', 100)
        finish(cluster, load)


def test_flapping_links():
    with ProxiedCluster(3, {'REQUEST_TIMEOUT': '2000'}) as cluster, Load(cluster.nodes) as load:
        goes_on(load, 'the start')
        for turn in range(10):
            cluster.proxy.isolate(cluster.nodes[turn % 3].name)
            time.sleep(0.3)
            cluster.proxy.heal()
            time.sleep(0.3)
        finish(cluster, load)


def test_long_and_uneven_delays():
    with ProxiedCluster(3) as cluster, Load(cluster.nodes) as load:
        goes_on(load, 'the start')
        cluster.proxy.everywhere(delay=(0.0, 0.06))
        goes_on(load, 'the delays', 60)
        finish(cluster, load)


def test_flipped_bits_are_refused_and_counted():
    with ProxiedCluster(3) as cluster, Load(cluster.nodes) as load:
        goes_on(load, 'the start')
        cluster.proxy.everywhere(flip=0.01)
        wait_for('bits to be flipped', lambda: cluster.proxy.harmed() >= 10, 40)
        goes_on(load, 'the flips', 20)
        finish(cluster, load)
        assert sum(n.refused('peer') for n in cluster.nodes) > 0


def test_frames_cut_short():
    with ProxiedCluster(3) as cluster, Load(cluster.nodes) as load:
        goes_on(load, 'the start')
        cluster.proxy.everywhere(truncate=0.01)
        wait_for('frames to be cut', lambda: cluster.proxy.harmed() >= 10, 40)
        goes_on(load, 'the cuts', 20)
        finish(cluster, load)


def test_a_slow_link_to_one_follower_slows_nobody():
    with ProxiedCluster(3) as cluster, Load(cluster.nodes[:2], workers=8) as load:
        slow = cluster.followers()[-1]
        goes_on(load, 'the start')
        for node in cluster.nodes:
            if node is not slow:
                cluster.proxy.set(node.name, slow.name, bytes_per_s=2000)
        goes_on(load, 'the slow link', 100)
        finish(cluster, load)


def test_garbage_on_the_peer_port():
    """I34, I37, I38: what is not a peer is closed, counted, and changes nothing."""
    import socket
    with Cluster(3, env=CALM) as cluster:
        node, term = cluster.leader(), cluster.leader().raft()['term']
        for raw in (b'', b'\0' * 8, b'\xff' * 4096, b'GET / HTTP/1.1\r\n\r\n', b'*1\r\n$4\r\nPING\r\n',
                    b'\x05\0\0\0\0\0\0\0\xdd\xff\xff\xff\xff', b'\x91' * 100000, os.urandom(20000)):
            with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', node.peer), 5) as door:
                door.sendall(raw)
                door.shutdown(socket.SHUT_WR)
                door.settimeout(10)
                while door.recv(4096):
                    pass
        wait_for('the refusals to be counted', lambda: node.refused('peer') >= 5)
        acquire(node.client(), 'alive', 'OWNER', 'a')
        assert cluster.leader().raft()['term'] < term + 5  # leadership may have gone to its place on the ring meanwhile


@contextlib.contextmanager
def namespaces(count):
    """One network namespace per node on a bridge; yields their names and addresses."""
    if os.geteuid() != 0 or not shutil.which('ip'):
        raise Skip('network namespaces need root and iproute2')
    tag = f'sx{os.getpid() % 10000}'
    net = f'10.{77 + os.getpid() % 100}.{os.getpid() // 100 % 250}'

    def ip(*words, check=True):
        return subprocess.run(['ip', *words], check=check, capture_output=True).returncode == 0
    if not ip('netns', 'add', f'{tag}n0', check=False):
        raise Skip('this system lets nobody make network namespaces')
    try:
        ip('link', 'add', f'{tag}br', 'type', 'bridge')
        ip('addr', 'add', f'{net}.254/24', 'dev', f'{tag}br')
        ip('link', 'set', f'{tag}br', 'up')
        for i in range(1, count + 1):
            space, link = f'{tag}n{i}', f'{tag}v{i}'
            ip('netns', 'add', space)
            ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', space)
            ip('link', 'set', link, 'master', f'{tag}br', 'up')
            ip('-n', space, 'addr', 'add', f'{net}.{i}/24', 'dev', 'eth0')
            ip('-n', space, 'link', 'set', 'eth0', 'up')
            ip('-n', space, 'link', 'set', 'lo', 'up')
        numbers = range(1, count + 1)
        yield ([f'{tag}n{i}' for i in numbers], [f'{net}.{i}' for i in numbers],
               lambda i, state: ip('link', 'set', f'{tag}v{i}', state))
    finally:
        for i in range(count + 1):
            ip('netns', 'del', f'{tag}n{i}', check=False)
        ip('link', 'del', f'{tag}br', check=False)


def test_a_real_network_partition_in_namespaces():
    """The same cut by the kernel: the leader's cable is pulled and put back."""
    with namespaces(3) as (spaces, addresses, cable):
        secrets = {'REQUIREPASS': 'p', 'PEER_SECRET': 'a-secret-of-32-bytes-for-the-test'}
        cluster = Cluster(3, start=False, env={**secrets, 'REQUEST_TIMEOUT': '1500'})
        members = ','.join(f'{n.name}@{a}:{n.peer}' for n, a in zip(cluster.nodes, addresses))
        for node, space, address in zip(cluster.nodes, spaces, addresses):
            node.wrapper, node.host = ['ip', 'netns', 'exec', space], address
            node.env.update(NODE_HOST=address, CLUSTER_NODES=members)
        with cluster:
            cluster.start()
            with Load(cluster.nodes) as load:
                goes_on(load, 'the start')
                for _ in range(2):
                    old = cluster.leader()
                    number = cluster.nodes.index(old) + 1
                    cable(number, 'down')
                    other_leader(cluster, old)
                    goes_on(load, 'the pulled cable', 40)
                    cable(number, 'up')
                    cluster.wait_ready([old])
                goes_on(load, 'the cable is back')
                load.stop()
                load.check()


@contextlib.contextmanager
def silent(port):
    """A host that takes SYNs and answers none, as one behind a dead link: whoever dials the port goes on dialling."""
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(('127.0.0.1', port), backlog=0))
        for _ in range(4):  # more than its queue takes
            full = opened.enter_context(socket.socket())
            full.setblocking(False)
            full.connect_ex(listener.getsockname())
        yield


def dials(port):
    """Whether somebody else's connection to the port is in SYN_SENT (proc(5), net/tcp)."""
    with open('/proc/net/tcp', encoding='ascii') as stream:
        rows = [line.split() for line in stream][1:]
    return sum(row[2].endswith(f':{port:04X}') and row[3] == '02' for row in rows)


def test_a_shutdown_while_a_peer_is_being_dialled():
    with Cluster(3, start=False) as cluster:
        port = cluster.nodes[1].peer
        with silent(port):
            before = dials(port)
            assert before > 0, 'the listener took all'
            node = cluster.nodes[0].start()
            wait_for('a dial that has no answer', lambda: dials(port) > before)
            assert node.terminate() == 0
