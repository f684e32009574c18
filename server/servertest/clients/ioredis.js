// What an application does with ioredis, against HOST:PORT (an empty server). ioredis asks INFO before its first command.
import assert from 'node:assert/strict';
import { Redis } from 'ioredis';

const [host, port] = process.argv[2].split(':');
const client = new Redis({ host, port: Number(port), retryStrategy: null, connectionName: 'io' });
client.on('error', (err) => { throw err; });
await client.flushall();

assert.equal(await client.set('s', 'v', 'EX', 100, 'NX'), 'OK');
assert.equal(await client.set('s', 'w', 'NX'), null);
assert.equal(await client.get('s'), 'v');
const blob = Buffer.from(Array.from({ length: 4096 }, (_, i) => i % 256));
await client.set('blob', blob);
assert.deepEqual(await client.getBuffer('blob'), blob);

assert.deepEqual(await client.pipeline().incr('n').incr('n').lpush('s', 'x').get('n').exec()
  .then((r) => r.map(([err, v]) => (err ? err.message.split(' ')[0] : v))), [1, 2, 'WRONGTYPE', '2']);
assert.deepEqual(await client.multi().hset('h', { a: 1, b: 2 }).hgetall('h').exec(), [[null, 2], [null, { a: '1', b: '2' }]]);
assert.equal(await client.zadd('z', 1, 'one', 2, 'two'), 2);
assert.deepEqual(await client.zrange('z', 0, -1, 'WITHSCORES'), ['one', '1', 'two', '2']);
assert.deepEqual(await client.zrangebyscore('z', '(1', '+inf'), ['two']);
assert.equal(await client.sadd('t', 'a', 'b'), 2);
assert.deepEqual((await client.smembers('t')).sort(), ['a', 'b']);

const fill = client.pipeline();
for (let i = 0; i < 700; i++) fill.hset('big', `f${i}`, `v${i}`);
await fill.exec();
const fields = new Map();
for await (const part of client.hscanStream('big', { count: 100 })) {
  for (let i = 0; i < part.length; i += 2) fields.set(part[i], part[i + 1]);
}
assert.equal(fields.size, 700);
assert.equal(fields.get('f699'), 'v699');

const rival = client.duplicate();
const waiting = rival.blmove('from', 'to', 'LEFT', 'RIGHT', 30);
while (!/blocked_clients:1/.test(await client.info('clients')));
await client.rpush('from', 'job');
assert.equal(await waiting, 'job');
assert.deepEqual(await client.lrange('to', 0, -1), ['job']);

assert.equal(await client.client('GETNAME'), 'io');
await assert.rejects(client.call('NOSUCH'), /unknown command/);
assert.equal((await client.call('COMMAND', 'COUNT')) > 100, true);
await client.select(2);
assert.equal(await client.dbsize(), 0);
await rival.quit();
await client.quit();
console.log('ioredis passed');
