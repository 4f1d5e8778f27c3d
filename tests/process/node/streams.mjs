// node streams.mjs PORT: a stream with a consumer group, written for any Redis server with ioredis' own calls; prints what it saw as JSON.
// It knows nothing of Synaxis; test_streams.py runs it against Redis and against a cluster and compares what it prints.
import Redis from 'ioredis';

const open = () => new Redis({ port: Number(process.argv[2]), host: '127.0.0.1' });
const redis = open();
const [stream, group, jobs] = ['jobs', 'resize', 120];
const said = {};
const object = (flat) => Object.fromEntries(Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]));
const numbers = (entries) => entries.map(([, fields]) => Number(object(fields).number));

said.made = await redis.xgroup('CREATE', stream, group, '$', 'MKSTREAM');
said.again = await redis.xgroup('CREATE', stream, group, '$').catch((error) => error.message);

const pipeline = redis.pipeline();
for (let number = 0; number < jobs; number++) pipeline.xadd(stream, '*', 'number', number, 'kind', number % 2 ? 'odd' : 'even');
const ids = (await pipeline.exec()).map(([error, id]) => { if (error) throw error; return id; });
said.distinct = new Set(ids).size;

// Three consumers on connections of their own share the stream; the first gives up in the middle and acknowledges nothing more.
const seen = new Map();
async function consume(name, stopAfter) {
  const own = open();
  let mine = 0;
  for (;;) {
    const reply = await own.xreadgroup('GROUP', group, name, 'COUNT', 4, 'BLOCK', 300, 'STREAMS', stream, '>');
    if (reply === null || mine >= stopAfter) break;
    for (const [id, fields] of reply[0][1]) {
      mine += 1;
      if (mine > stopAfter) continue;
      seen.set(Number(object(fields).number), (seen.get(Number(object(fields).number)) ?? 0) + 1);
      await own.xack(stream, group, id);
    }
    if (mine >= stopAfter) break;
  }
  own.disconnect();
}
await Promise.all([consume('a', 10), consume('b', Infinity), consume('c', Infinity)]);
const pending = await redis.xpending(stream, group, '-', '+', 100);
said.left = pending.length;
said.leftWith = [...new Set(pending.map(([, consumer, , times]) => `${consumer} ${times}`))];
const claimed = await redis.xclaim(stream, group, 'b', 0, ...pending.map(([id]) => id));
for (const [id, fields] of claimed) {
  seen.set(Number(object(fields).number), (seen.get(Number(object(fields).number)) ?? 0) + 1);
  await redis.xack(stream, group, id);
}
said.once = seen.size === jobs && [...seen.values()].every((times) => times === 1);
said.pending = await redis.xpending(stream, group);

said.range = numbers(await redis.xrange(stream, ids[5], ids[9]));
said.newest = numbers(await redis.xrevrange(stream, '+', '-', 'COUNT', 3));
said.capped = await redis.xadd(stream, 'MAXLEN', '=', 20, '*', 'number', jobs, 'kind', 'even') > ids[jobs - 1];
said.length = await redis.xlen(stream);
const info = object(await redis.xinfo('STREAM', stream));
said.info = [info.length, info.groups, numbers([info['first-entry'], info['last-entry']])];
said.groups = (await redis.xinfo('GROUPS', stream)).map(object).map(({ name, pending: waits }) => [name, waits]);
const reader = open();
const waiting = reader.xread('BLOCK', 10000, 'STREAMS', stream, '$');
const writer = setInterval(() => redis.xadd(stream, '*', 'number', 777, 'kind', 'odd'), 100);
said.woken = numbers((await waiting)[0][1])[0];
clearInterval(writer);
said.destroyed = await redis.xgroup('DESTROY', stream, group);
said.gone = [await redis.xtrim(stream, 'MAXLEN', '=', 0) > 0, await redis.xlen(stream)];
console.log(JSON.stringify(said, null, 1));
reader.disconnect();
redis.disconnect();
