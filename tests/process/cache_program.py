"""A cache as any program has one, with redis-py's own calls; prints what it saw as JSON. It knows nothing of Synaxis: test_cache_drivers.py runs it against a
Redis server and against a cluster and compares what it prints."""
import json
import sys
import time

import redis

r = redis.Redis(port=int(sys.argv[1]), decode_responses=True)
said = {}
said['set'] = [r.set('a', 1), r.get('a'), r.get('none'), r.set('a', 2, nx=True), r.set('a', 3, xx=True), r.set('a', 4, get=True), r.set('t', 'v', ex=1000), r.ttl('t')]
said['setnx'] = [r.setnx('n', 1), r.setnx('n', 2), r.get('n')]
said['setex'] = [r.setex('e', 100, 'v'), r.ttl('e'), r.psetex('p', 100000, 'v'), r.ttl('p'), r.getex('e', persist=True), r.ttl('e'), r.getex('e', ex=50), r.ttl('e')]
said['counters'] = [r.incr('c'), r.incr('c', 41), r.decr('c', 2), r.incrbyfloat('f', 0.5), r.getset('c', 0), r.getdel('c'), r.get('c')]
said['many'] = [r.mset({f'{{m}}{i}': i for i in range(50)}), r.mget([f'{{m}}{i}' for i in range(0, 60, 7)]), r.msetnx({'{m}x': 1, '{m}0': 2}), r.exists('{m}1', '{m}2', 'none')]
said['strings'] = [r.append('s', 'hello'), r.strlen('s'), r.getrange('s', 1, 3), r.setrange('s', 1, 'EL'), r.get('s'), r.setbit('b', 9, 1), r.getbit('b', 9), r.bitcount('b')]

pipe = r.pipeline(transaction=False)
for i in range(500):
    pipe.set(f'pipe:{i}', i).incr('pipe:count').get(f'pipe:{i}').expire(f'pipe:{i}', 500)
replies = pipe.execute()
said['pipeline'] = [len(replies), replies[:8], replies[-4:], r.get('pipe:count')]

said['scan'] = [len(set(r.scan_iter('pipe:*', count=50))), sorted(r.scan_iter('{m}1*')), sorted(r.keys('?')), r.dbsize()]
said['generic'] = [r.rename('{m}1', '{m}one'), r.get('{m}one'), r.copy('{m}one', '{m}two'), r.type('a'), r.type('none'), r.delete('a', 'n', 'none'), r.unlink('t'), r.touch('s')]
said['expiry'] = [r.expire('s', 100), r.ttl('s'), r.persist('s'), r.ttl('s'), r.pexpire('s', 30), r.expire('none', 10)]
time.sleep(0.2)
said['expired'] = [r.get('s'), r.ttl('s'), r.exists('s')]
for what, call in {'number': lambda: r.incr('e'), 'syntax': lambda: r.execute_command('SET', 'x', 'y', 'z'), 'arity': lambda: r.execute_command('GET')}.items():
    try:
        said[what] = call()
    except redis.exceptions.ResponseError as error:
        said[what] = str(error)
big = 'x' * 500_000
said['big'] = [r.set('big', big), r.get('big') == big, r.flushall(), r.dbsize(), r.get('big')]
print(json.dumps(said))
