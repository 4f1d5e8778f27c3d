"""Unmodified clients of others: redis-cli, redis-benchmark, redis-py, hiredis, ioredis, node-redis; RESP2 and RESP3."""
import fcntl
import os
import pty
import select
import shutil
import subprocess
import tempfile
import time

from harness import SLOW, Cluster, Skip

HERE = os.path.dirname(os.path.abspath(__file__))


def need(tool):
    path = shutil.which(tool)
    if not path:
        raise Skip(f'{tool} is not installed')
    return path


def run(*words, timeout=60, **options):
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=timeout * SLOW, check=False, **options)


def test_redis_cli_knows_our_commands():
    """COMMAND DOCS: redis-cli's interactive HELP explains LOCK.ACQUIRE."""
    need('redis-cli')
    with Cluster(1) as cluster:
        port = cluster.nodes[0].resp
        docs = run('redis-cli', '-p', port, 'COMMAND', 'DOCS', 'LOCK.ACQUIRE').stdout
        assert 'summary' in docs and 'arguments' in docs, docs[:300]
        for words in (['COMMAND'], ['COMMAND', 'COUNT'], ['COMMAND', 'LIST'], ['COMMAND', 'INFO', 'LOCK.ACQUIRE'], ['COMMAND', 'DOCS']):
            done = run('redis-cli', '-p', port, *words)
            assert done.returncode == 0 and 'ERR' not in done.stdout[:4], (words, done.stdout[:200])
        assert 'LOCK.ACQUIRE' in interactive_redis_cli(port, 'HELP LOCK.ACQUIRE\n')


def interactive_redis_cli(port, typed):
    """What redis-cli on a terminal prints for what is typed."""
    controller, terminal = pty.openpty()
    child = subprocess.Popen(['redis-cli', '-p', str(port)], stdin=terminal, stdout=terminal, stderr=terminal,
                             env={**os.environ, 'TERM': 'dumb', 'HOME': tempfile.gettempdir()})
    os.close(terminal)
    fcntl.fcntl(controller, fcntl.F_SETFL, os.O_NONBLOCK)
    os.write(controller, typed.encode() + b'QUIT\n')
    out, deadline = b'', time.monotonic() + 10 * SLOW
    while time.monotonic() < deadline and child.poll() is None:
        if select.select([controller], [], [], 0.1)[0]:
            try:
                out += os.read(controller, 65536)
            except OSError:
                break
    child.kill()
    child.wait()
    os.close(controller)
    return out.decode('utf-8', 'replace')


def test_redis_cli_modes():
    need('redis-cli')
    with Cluster(1) as cluster:
        port = cluster.nodes[0].resp
        assert run('redis-cli', '-p', port, 'PING').stdout.strip() == 'PONG'
        assert run('redis-cli', '-3', '-p', port, 'PING').stdout.strip() == 'PONG'
        assert 'synaxis_version' in run('redis-cli', '-p', port, 'INFO').stdout
        assert 'redis_version:7.2.4' in run('redis-cli', '-p', port, 'INFO', 'server').stdout
        piped = run('redis-cli', '-p', port, '--pipe', input='PING\r\n' * 1000)
        assert 'errors: 0, replies: 1000' in piped.stdout, piped
        batch = run('redis-cli', '-p', port, input='PING\nECHO two\n')
        assert batch.stdout.split() == ['PONG', 'two'], batch


def test_redis_benchmark_runs_lock_commands():
    need('redis-benchmark')
    with Cluster(3) as cluster:
        port = cluster.nodes[1].resp
        for words in (['-t', 'ping', '-n', 20000], ['-n', 2000, '-r', 1000000, 'LOCK.ACQUIRE', 'l:__rand_int__', 'SHARED', 'TTL', '5000'],
                      ['-n', 5000, '-P', 16, 'LOCK.INFO', 'l:1'], ['-3', '-t', 'ping', '-n', 2000]):
            done = run('redis-benchmark', '-p', port, '-q', '-c', 20, *words, timeout=100)
            assert done.returncode == 0 and 'requests per second' in done.stdout, (words, done.stdout[-300:], done.stderr[-300:])


PYTHON_REDIS = '''
import redis, sys
r = redis.Redis(port=int(sys.argv[1]), client_name="synaxis-test", health_check_interval=1)
assert r.ping()
held = r.execute_command("LOCK.ACQUIRE", "py", "EXCLUSIVE", "OWNER", "a", "TTL", 60000)
held = dict(zip(held[0::2], held[1::2]))
try:
    r.execute_command("LOCK.ACQUIRE", "py", "EXCLUSIVE", "OWNER", "b")
    raise SystemExit("granted twice")
except redis.exceptions.ResponseError as e:
    assert "LOCKED" in str(e), e
pipe = r.pipeline(transaction=False)
for i in range(1000):
    pipe.echo(str(i))
assert [int(x) for x in pipe.execute()] == list(range(1000))
assert r.execute_command("LOCK.RELEASE", "py", held[b"lock_id"]) == 1
assert r.client_getname() in (b"synaxis-test", "synaxis-test"), r.client_getname()
assert r.info()["loading"] == 0 and r.client_id() > 0 and isinstance(r.config_get("save"), dict) and r.client_list()
print("redis-py", redis.__version__, "ok")
'''


def test_redis_py():
    python = '/usr/bin/python3'
    if run(python, '-c', 'import redis').returncode:
        raise Skip('python3-redis is not installed')
    with Cluster(3) as cluster:
        done = run(python, '-c', PYTHON_REDIS, cluster.nodes[2].resp)
        assert done.returncode == 0 and 'ok' in done.stdout, done.stderr[-600:]


def test_hiredis():
    compiler = need('gcc')
    if not os.path.exists('/usr/include/hiredis/hiredis.h'):
        raise Skip('libhiredis-dev is not installed')
    with Cluster(3) as cluster:
        client = os.path.join(cluster.base, 'hiredis_client')
        built = run(compiler, '-O1', '-o', client, os.path.join(HERE, 'hiredis_client.c'), '-lhiredis')
        assert built.returncode == 0, built.stderr
        done = run(client, cluster.nodes[0].resp)
        assert done.returncode == 0, done.stderr


def node_modules():
    """Installs the drivers once, from the lock file; skips when there is no registry."""
    need('node')
    need('npm')
    folder = os.path.join(HERE, 'node')
    with open(os.path.join(folder, 'package-lock.json'), encoding='utf-8') as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not os.path.isdir(os.path.join(folder, 'node_modules', 'redis')):
            done = run('npm', 'ci', '--no-audit', '--no-fund', '--ignore-scripts', '--fetch-retries=1', cwd=folder, timeout=120)
            if done.returncode:
                raise Skip('npm cannot fetch the drivers: ' + (done.stderr.strip().splitlines() or ['no reason given'])[-1])
    return folder


def node_driver(name, proto):
    folder = node_modules()
    major = int(run('node', '--version').stdout.strip().lstrip('v').split('.')[0])
    if major < 20 and not name.endswith('5'):
        raise Skip(f'this generation of {name} needs Node.js 20, here is {major}')
    with Cluster(3) as cluster:
        done = run('node', 'drivers.mjs', name, proto, cluster.nodes[1].resp, cwd=folder)
        assert done.returncode == 0 and 'ok' in done.stdout, done.stdout[-300:] + done.stderr[-800:]


def test_ioredis_resp3():
    node_driver('ioredis', 3)


def test_ioredis_resp2():
    node_driver('ioredis', 2)


def test_ioredis_5():
    node_driver('ioredis5', 2)


def test_node_redis_resp3():
    node_driver('redis', 3)


def test_node_redis_resp2():
    node_driver('redis', 2)


def test_node_redis_5_resp3():
    node_driver('redis5', 3)
