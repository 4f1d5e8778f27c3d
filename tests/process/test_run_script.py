"""./run itself: up, ready, stopped by Ctrl-C and by SIGTERM, ports in use, the tour; on ports of the test's own."""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile

from harness import BINARY, CALM, ROOT, SLOW, Skip, free_port, wait_for
from resp import Client


@contextlib.contextmanager
def place():
    """Environment of a ./run of our own; whatever it leaves behind is stopped."""
    if not shutil.which('redis-cli') or not shutil.which('curl'):
        raise Skip('./run needs redis-cli and curl')
    base = tempfile.mkdtemp(prefix='synaxis-run-')
    env = {**os.environ, 'SYNAXIS': BINARY, 'RUN_DIR': base, 'RESP_PORT': str(ports_in_row(10)), 'PEER_PORT': str(ports_in_row(10)),
           'NODE_PORT': str(ports_in_row(1))}
    try:
        yield env
    finally:
        subprocess.run(['./run', 'stop'], cwd=ROOT, env=env, stdout=subprocess.DEVNULL, check=False)
    shutil.rmtree(base, ignore_errors=True)


def ports_in_row(step):
    """A first port such that it and the two that ./run derives from it are free."""
    while True:
        first = free_port()
        try:
            for port in (first + step, first + 2 * step):
                with socket.socket() as probe:
                    probe.bind(('127.0.0.1', port))
            return first
        except OSError:
            continue


def up(env, *words):
    child = subprocess.Popen(['./run', *words], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in child.stdout:
        lines.append(line)
        if 'Ctrl-C stops' in line:
            return child, ''.join(lines)
    raise AssertionError(f'./run ended with {child.wait()}: {"".join(lines)}')


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(('127.0.0.1', port)) == 0


def test_run_brings_up_three_nodes_and_ctrl_c_stops_them():
    with place() as env:
        for number in (signal.SIGINT, signal.SIGTERM):
            child, said = up(env)
            first = int(env['RESP_PORT'])
            assert f'127.0.0.1:{first}' in said and 'leader n' in said, said
            for port in (first, first + 10, first + 20):
                assert Client(port).cmd('PING') == 'PONG'
            child.send_signal(number)
            assert child.wait(20 * SLOW) == 0
            assert 'killed' not in child.stdout.read()
            assert not any(is_open(port) for port in (first, first + 10, first + 20))


def test_run_keeps_its_data_and_fresh_forgets_it():
    with place() as env:
        port = int(env['RESP_PORT'])
        for words, kept in (([], False), ([], True), (['--fresh'], False)):
            child, _ = up(env, *words)
            client = Client(port)
            assert ('kept' in str(client.cmd('LOCK.LIST'))) == kept
            if not kept:
                client.cmd('LOCK.ACQUIRE', 'kept', 'EXCLUSIVE', 'OWNER', 'a', 'TTL', '600000')
            child.send_signal(signal.SIGTERM)
            assert child.wait(20 * SLOW) == 0


def test_run_names_a_port_in_use():
    with place() as env, socket.create_server(('127.0.0.1', int(env['RESP_PORT']) + 10)):
        done = subprocess.run(['./run'], cwd=ROOT, env=env, capture_output=True, text=True, timeout=30 * SLOW, check=False)
        assert done.returncode == 1 and f"port {int(env['RESP_PORT']) + 10} (n2) is in use" in done.stderr, done


def test_run_says_when_a_node_dies_and_stays_up():
    with place() as env:
        child, _ = up(env)
        with open(os.path.join(env['RUN_DIR'], 'n2.pid'), encoding='ascii') as stream:
            os.kill(int(stream.read()), signal.SIGKILL)
        said = child.stdout.readline()
        assert 'n2 has ended' in said, said
        wait_for('the others to answer', lambda: Client(int(env['RESP_PORT'])).cmd('PING') == 'PONG')
        child.send_signal(signal.SIGINT)
        assert child.wait(20 * SLOW) == 0


def test_the_tour_goes_as_its_text_says():
    with place() as env:
        done = subprocess.run(['./run', 'demo'], cwd=ROOT, env={**env, **CALM}, capture_output=True, text=True, timeout=100 * SLOW, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-500:]
        assert 'expected:' not in done.stdout and 'DEADLOCK' in done.stdout, done.stdout
