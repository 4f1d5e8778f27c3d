// node drivers.mjs DRIVER PROTO PORT: one Node.js driver takes, checks, is refused and releases a lock on a live node.
import assert from 'node:assert/strict';

const [driver, proto, port] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];

async function open() {
  if (driver.startsWith('ioredis')) {
    const { default: Redis } = await import(driver);
    const client = new Redis({ port, host: '127.0.0.1', protocol: proto, maxRetriesPerRequest: 2 });
    client.on('error', () => {});
    return { send: (...args) => client.call(...args), close: () => client.quit() };
  }
  const { createClient } = await import(driver);
  const client = createClient({ RESP: proto, socket: { port, host: '127.0.0.1', reconnectStrategy: false } });
  client.on('error', (error) => { throw error; });
  await client.connect();
  return { send: (...args) => client.sendCommand(args), close: () => client.close() };
}

// A map comes flat under RESP2, as an object or a Map under RESP3, each driver in its own way.
function asObject(reply) {
  if (reply instanceof Map) return Object.fromEntries(reply);
  if (!Array.isArray(reply)) return reply;
  const object = {};
  for (let i = 0; i < reply.length; i += 2) object[reply[i]] = reply[i + 1];
  return object;
}

const client = await open();
assert.equal(await client.send('PING'), 'PONG');
const held = asObject(await client.send('LOCK.ACQUIRE', 'js', 'EXCLUSIVE', 'OWNER', 'node', 'TTL', '60000'));
assert.ok(held.lock_id && held.token, JSON.stringify(held));
await assert.rejects(client.send('LOCK.ACQUIRE', 'js', 'EXCLUSIVE', 'OWNER', 'other'), /LOCKED/);
assert.equal(Number(await client.send('LOCK.CHECK', 'js', String(held.token))), 1);
const many = await Promise.all(Array.from({ length: 1000 }, (_, i) => client.send('ECHO', String(i))));
assert.deepEqual(many.map(Number), Array.from({ length: 1000 }, (_, i) => i));
assert.equal(Number(await client.send('LOCK.RELEASE', 'js', String(held.lock_id))), 1);
await client.close();
console.log(`${driver} RESP${proto}: ok`);
process.exit(0);
