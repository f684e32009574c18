// What an application does with node-redis, in RESP2 and RESP3, against HOST:PORT (an empty server).
import assert from 'node:assert/strict';
import { createClient } from 'redis';

const [host, port] = process.argv[2].split(':');

for (const RESP of [2, 3]) {
  const client = createClient({ socket: { host, port: Number(port), reconnectStrategy: false }, RESP });
  client.on('error', (err) => { throw err; });
  await client.connect();
  await client.flushAll();

  assert.equal(await client.set('s', 'wert ß'), 'OK');
  assert.equal(await client.get('s'), 'wert ß');
  assert.equal(await client.get('absent'), null);
  assert.equal(await client.incrBy('n', 42), 42);
  assert.deepEqual(await client.mGet(['n', 'absent']), ['42', null]);
  assert.equal(await client.set('e', 'v', { expiration: { type: 'EX', value: 100 } }), 'OK');
  const ttl = await client.ttl('e');
  assert.ok(ttl > 90 && ttl <= 100);

  assert.equal(await client.rPush('l', ['a', 'b', 'c']), 3);
  assert.deepEqual(await client.lRange('l', 0, -1), ['a', 'b', 'c']);
  assert.equal(await client.hSet('h', { f: '1', g: '2' }), 2);
  assert.deepEqual({ ...(await client.hGetAll('h')) }, { f: '1', g: '2' });
  assert.equal(await client.sAdd('t', ['x', 'y']), 2);
  assert.deepEqual([...(await client.sMembers('t'))].sort(), ['x', 'y']);
  assert.equal(await client.sIsMember('t', 'x') == true, true);
  assert.equal(await client.zAdd('z', [{ score: 1.5, value: 'm' }, { score: -1, value: 'n' }]), 2);
  assert.deepEqual((await client.zRangeWithScores('z', 0, -1)).map((e) => ({ ...e })),
    [{ value: 'n', score: -1 }, { value: 'm', score: 1.5 }]);
  assert.equal(await client.zScore('z', 'm'), 1.5);

  // Commands of one tick go out as one pipeline.
  const many = await Promise.all(Array.from({ length: 500 }, (_, i) => client.set(`k${i}`, String(i))));
  assert.ok(many.every((r) => r === 'OK'));
  const seen = new Set();
  for await (const keys of client.scanIterator({ MATCH: 'k*', COUNT: 50 })) {
    for (const k of [].concat(keys)) seen.add(k);
  }
  assert.equal(seen.size, 500);

  assert.deepEqual(await client.multi().set('tx', '1').incr('tx').get('tx').exec(), ['OK', 2, '2']);
  const rival = await client.duplicate().connect();
  await client.watch('tx');
  await rival.set('tx', 'rival');
  await assert.rejects(client.multi().set('tx', 'mine').exec(), /watch/i);
  assert.equal(await client.get('tx'), 'rival');

  const waiting = rival.blPop('queue', 30);
  while (!/blocked_clients:1/.test(await client.info('clients')));
  await client.rPush('queue', 'job');
  assert.deepEqual({ ...(await waiting) }, { key: 'queue', element: 'job' });

  const listener = await client.duplicate().connect();
  const heard = [];
  const first = new Promise((resolve) => {
    listener.subscribe('news', (message, channel) => { heard.push([channel, message]); if (heard.length === 2) resolve(); });
    listener.pSubscribe('n*', (message, channel) => { heard.push([channel, message]); if (heard.length === 2) resolve(); });
  });
  while ((await client.pubSubNumPat()) < 1);
  assert.equal(await client.publish('news', 'wert ß'), 2);
  await first;
  assert.deepEqual(heard, [['news', 'wert ß'], ['news', 'wert ß']]);
  await listener.unsubscribe();
  await listener.pUnsubscribe();
  assert.equal(await client.publish('news', 'x'), 0);
  assert.equal(String(await listener.get('s')), 'wert ß');
  await listener.close();

  await assert.rejects(client.lPush('s', 'x'), /WRONGTYPE/);
  await assert.rejects(client.sendCommand(['NOSUCH']), /unknown command/);
  assert.deepEqual({ ...(await client.configGet('maxmemory-policy')) }, { 'maxmemory-policy': 'noeviction' });
  await client.select(5);
  assert.equal(await client.dbSize(), 0);
  await rival.close();
  await client.close();
}
console.log('node-redis: RESP2 and RESP3 passed');
