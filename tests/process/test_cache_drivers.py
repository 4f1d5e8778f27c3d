"""The cache by unmodified clients of others: redis-py and ioredis see of a cluster what they see of Redis; redis-benchmark and redis-cli run as they are."""
import os
import re

from harness import ROOT, Cluster, Skip
from test_drivers import need, node_modules, run
from test_streams import both_run


def test_cache_by_a_python_program():
    if run('/usr/bin/python3', '-c', 'import redis').returncode:
        raise Skip('python3-redis is not installed')
    both_run('/usr/bin/python3', os.path.join(ROOT, 'tests', 'process', 'cache_program.py'))


def test_cache_by_a_node_program():
    both_run('node', 'cache.mjs', cwd=node_modules())


def benchmark(env):
    need('redis-benchmark')
    with Cluster(3, env=env) as cluster:
        for node in cluster.nodes:
            done = run('redis-benchmark', '-p', node.resp, '-q', '-t', 'set,get,incr,mset', '-P', 16, '-c', 50, '-n', 20_000, '-r', 1000)
            assert done.returncode == 0, done.stdout[-300:] + done.stderr[-300:]
            for test in ('SET', 'GET', 'INCR', 'MSET (10 keys)'):
                assert re.search(rf'{re.escape(test)}: [\d.]+ requests per second', done.stdout), (test, done.stdout[-600:])
        with cluster.nodes[0].client() as client:
            assert len(client.cmd('GET', client.cmd('RANDOMKEY'))) > 0
            total = sum(int(client.cmd('GET', f'counter:{i:012d}') or 0) for i in range(1000))
            assert total == 60_000, f'INCR was answered 60000 times, counters have {total}'


def test_cache_by_redis_benchmark():
    benchmark({})


def test_cache_by_redis_benchmark_back():
    benchmark({'CACHE_WRITE_POLICY': 'back'})


def test_cache_by_redis_cli():
    need('redis-cli')
    with Cluster(3) as cluster:
        ports = [node.resp for node in cluster.nodes]
        lines = ''.join(f'SET key:{i} value:{i}\r\n' for i in range(1500))
        piped = run('redis-cli', '-p', ports[0], '--pipe', input=lines)
        assert 'errors: 0, replies: 1500' in piped.stdout, piped
        assert sorted(run('redis-cli', '-p', ports[1], '--scan').stdout.split()) == sorted(f'key:{i}' for i in range(1500))
        assert sorted(run('redis-cli', '-p', ports[2], '--scan', '--pattern', 'key:1[0-2]').stdout.split()) == ['key:10', 'key:11', 'key:12']
        assert run('redis-cli', '-p', ports[2], 'GET', 'key:77').stdout.strip() == 'value:77'
        batch = run('redis-cli', '-p', ports[1], input='INCR n\nEXPIRE n 100\nTTL n\nGET none\n').stdout.split()
        assert batch == ['1', '1', '100'], batch
