"""Locks of Redis libraries as they are: redis-py's Lock, redlock for Node.js' scripts; and what is said of any other script."""
import hashlib

from harness import SLOW, Cluster, Skip, wait_for
from resp import RespError
from test_drivers import run

PYTHON_LOCK = '''
import redis, sys
r = redis.Redis(port=int(sys.argv[1]))
other = redis.Redis(port=int(sys.argv[2]))
lock = r.lock("lock:py", timeout=20)
assert lock.acquire(blocking=False)
assert not other.lock("lock:py", timeout=20).acquire(blocking=False)
assert lock.extend(40) and r.pttl("lock:py") > 40_000
assert lock.extend(30, replace_ttl=True) and r.pttl("lock:py") <= 30_000
assert lock.reacquire() and r.pttl("lock:py") <= 20_000
assert lock.owned()
lock.release()
assert other.lock("lock:py", timeout=20).acquire(blocking=False)
try:
    lock.local.token = b"mine"
    lock.release()
    raise SystemExit("released what it does not hold")
except redis.exceptions.LockError:
    pass
with r.lock("lock:with", timeout=5):
    assert other.get("lock:with")
assert other.get("lock:with") is None
print("ok")
'''

REDLOCK = {
    'acquire': '''
  -- Return 0 if an entry already exists.
  for i, key in ipairs(KEYS) do
    if redis.call("exists", key) == 1 then
      return 0
    end
  end

  -- Create an entry for each provided key.
  for i, key in ipairs(KEYS) do
    redis.call("set", key, ARGV[1], "PX", ARGV[2])
  end

  -- Return the number of entries added.
  return #KEYS
''',
    'extend': '''
  -- Return 0 if an entry exists with a *different* lock value.
  for i, key in ipairs(KEYS) do
    if redis.call("get", key) ~= ARGV[1] then
      return 0
    end
  end

  -- Update the entry for each provided key.
  for i, key in ipairs(KEYS) do
    redis.call("set", key, ARGV[1], "PX", ARGV[2])
  end

  -- Return the number of entries updated.
  return #KEYS
''',
    'release': '''
  local count = 0
  for i, key in ipairs(KEYS) do
    -- Only remove entries for *this* lock value.
    if redis.call("get", key) == ARGV[1] then
      redis.pcall("del", key)
      count = count + 1
    end
  end

  -- Return the number of entries removed.
  return count
'''}


def error_of(client, *words):
    try:
        return client.cmd(*words)
    except RespError as e:
        return e.text


def test_redis_py_locks_run_unchanged():
    if run('/usr/bin/python3', '-c', 'import redis').returncode:
        raise Skip('python3-redis is not installed')
    with Cluster(3) as cluster:
        done = run('/usr/bin/python3', '-c', PYTHON_LOCK, cluster.nodes[0].resp, cluster.nodes[1].resp)
        assert done.returncode == 0 and 'ok' in done.stdout, done.stderr[-800:]


def test_redlock_scripts_do_what_they_say():
    with Cluster(3) as cluster, cluster.nodes[0].client() as one, cluster.nodes[2].client() as two:
        assert one.cmd('EVAL', REDLOCK['acquire'], 1, 'r', 'token', 20_000) == 1
        assert two.cmd('EVAL', REDLOCK['acquire'], 1, 'r', 'other', 20_000) == 0
        assert two.cmd('EVAL', REDLOCK['extend'], 1, 'r', 'other', 60_000) == 0
        assert one.cmd('EVAL', REDLOCK['extend'], 1, 'r', 'token', 60_000) == 1 and two.cmd('PTTL', 'r') > 20_000
        assert two.cmd('EVAL', REDLOCK['release'], 1, 'r', 'other') == 0
        sha = hashlib.sha1(REDLOCK['release'].encode()).hexdigest()
        assert two.cmd('EVALSHA', sha, 1, 'r', 'token') == 1 and one.cmd('GET', 'r') is None
        assert 'LOCK.ACQUIREALL' in error_of(one, 'EVAL', REDLOCK['acquire'], 2, 'a', 'b', 'token', 1000)
        assert one.cmd('EVAL', REDLOCK['release'], 2, 'a', 'b', 'token') == 0


def test_scripts_are_known_by_what_they_say():
    text = 'if redis.call("get", KEYS[1]) == ARGV[1] then\n  return redis.call("del", KEYS[1])\nelse\n  return 0\nend'
    with Cluster(1) as cluster, cluster.nodes[0].client() as client:
        sha = hashlib.sha1(text.encode()).hexdigest()
        assert 'NOSCRIPT' in error_of(client, 'EVALSHA', sha, 1, 'k', 'v')
        assert client.cmd('SCRIPT', 'LOAD', text) == sha and client.cmd('SCRIPT', 'EXISTS', sha, 'f' * 40) == [1, 0]
        client.cmd('SET', 'k', 'v')
        assert client.cmd('EVALSHA', sha, 1, 'k', 'w') == 0 and client.cmd('EVALSHA', sha, 1, 'k', 'v') == 1
        for script in ('return 1', '', text + ' return 2', 'x' * 10_000):
            assert 'DELEX' in error_of(client, 'EVAL', script, 0), script[:40]
        assert 'Number of keys' in error_of(client, 'EVAL', text, 5, 'k')
        assert 'one key' in error_of(client, 'EVAL', text, 0)


def test_a_lock_renewed_by_value_and_not_by_another():
    with Cluster(1) as cluster, cluster.nodes[0].client() as client:
        client.cmd('SET', 'k', 'mine', 'PX', 5000)
        assert client.cmd('PEXPIRE', 'k', 60_000, 'IFEQ', 'other') == 0 and client.cmd('PTTL', 'k') <= 5000
        assert client.cmd('PEXPIRE', 'k', 60_000, 'IFEQ', 'mine') == 1 and client.cmd('PTTL', 'k') > 5000
        assert client.cmd('PEXPIRE', 'k', 60_000, 'IFEQ', 'mine', 'ADD') == 1 and client.cmd('PTTL', 'k') > 60_000
        assert client.cmd('DELEX', 'k', 'IFEQ', 'other') == 0 and client.cmd('DELEX', 'k', 'IFEQ', 'mine') == 1
        client.cmd('SET', 'short', 'mine', 'PX', int(200 * SLOW))
        wait_for('the key to go', lambda: client.cmd('GET', 'short') is None)
        assert client.cmd('PEXPIRE', 'short', 1000, 'IFEQ', 'mine') == 0
