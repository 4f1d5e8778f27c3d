// node cache.mjs PORT: a cache as any program has one, with ioredis' own calls; prints what it saw as JSON.
// It knows nothing of Synaxis; test_cache_drivers.py runs it against Redis and against a cluster and compares what it prints.
import Redis from 'ioredis';

const redis = new Redis({ port: Number(process.argv[2]), host: '127.0.0.1' });
const said = {};

said.set = [await redis.set('a', 1), await redis.get('a'), await redis.get('none'), await redis.set('a', 2, 'NX'), await redis.set('a', 3, 'EX', 100, 'GET'), await redis.ttl('a')];
said.setnx = [await redis.setnx('n', 1), await redis.setnx('n', 2), await redis.getex('n', 'EX', 100), await redis.ttl('n'), await redis.getdel('n')];
said.many = [await redis.mset({ '{m}1': 1, '{m}2': 2 }), await redis.mget('{m}1', 'none', '{m}2'), await redis.msetnx('{m}3', 3, '{m}1', 1), await redis.exists('{m}1', '{m}3')];

// As many at once as an event loop likes: the driver sends them pipelined by itself.
const counted = await Promise.all(Array.from({ length: 2000 }, () => redis.incr('count')));
said.counted = [new Set(counted).size, Math.max(...counted)];
const pipeline = redis.pipeline();
for (let i = 0; i < 300; i++) pipeline.set(`p:${i}`, i).get(`p:${i}`).expire(`p:${i}`, 500);
const replies = await pipeline.exec();
said.pipeline = [replies.length, replies.slice(0, 6), replies.every(([error]) => error === null)];

const seen = new Set();
for await (const keys of redis.scanStream({ match: 'p:*', count: 20 })) keys.forEach((key) => seen.add(key));
said.scan = [seen.size, (await redis.keys('{m}*')).sort(), await redis.dbsize()];

said.buffer = [await redis.set('bin', Buffer.from([0, 255, 13, 10])), [...await redis.getBuffer('bin')], await redis.append('bin', 'x'), await redis.strlen('bin')];
said.errors = [];
for (const call of [['incr', 'bin'], ['set', 'a', 'b', 'c'], ['expire', 'a', 'soon']]) {
  said.errors.push(await redis.call(...call).catch((error) => error.message));
}
said.gone = [await redis.del('a', 'bin', 'none'), await redis.flushall(), await redis.dbsize()];
console.log(JSON.stringify(said));
redis.disconnect();
