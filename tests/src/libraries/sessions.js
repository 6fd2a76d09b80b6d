// express with express-session and connect-redis, on node-redis: what a shop's login does.
const assert = require('node:assert');
const express = require('express');
const session = require('express-session');
const { RedisStore } = require('connect-redis');
const { createClient } = require('redis');
const { RateLimiterRedis, BurstyRateLimiter, RateLimiterQueue } = require('rate-limiter-flexible');
const Redis = require('ioredis');

const say = (...words) => console.log(words.map(word => JSON.stringify(word)).join(' '));

async function serve(client) {
  const limits = new RateLimiterRedis({ storeClient: client, useRedisPackage: true, keyPrefix: 'login', points: 3, duration: 60 });
  const store = new RedisStore({ client, prefix: 'shop:', ttl: 100 });
  const app = express();
  app.use(session({ store, secret: 'of the test', resave: false, saveUninitialized: false, cookie: { maxAge: 100000 } }));
  app.post('/login/:name', async (request, response) => {
    try { await limits.consume(request.params.name); } catch (rejected) { return response.status(429).send('later'); }
    request.session.user = request.params.name;
    request.session.views = 0;
    response.send('in');
  });
  app.get('/', (request, response) => {
    if (!request.session.user) return response.status(401).send('who?');
    request.session.views += 1;
    response.send(`${request.session.user} ${request.session.views}`);
  });
  app.post('/logout', (request, response) => request.session.destroy(() => response.send('out')));
  const server = await new Promise(done => { const one = app.listen(0, '127.0.0.1', () => done(one)); });
  return { server, store };
}

(async () => {
  const client = createClient({ url: process.env.CACHE_URL, RESP: 3 });
  await client.connect();
  await client.flushAll();
  const { server, store } = await serve(client);
  const base = `http://127.0.0.1:${server.address().port}`;
  const ask = async (path, cookie, method = 'GET') => {
    const response = await fetch(base + path, { method, headers: { cookie: cookie ?? '', connection: 'close' } });
    return [response.status, await response.text(), response.headers.get('set-cookie')?.split(';')[0]];
  };
  say((await ask('/')).slice(0, 2));
  const [, , ada] = await ask('/login/ada', '', 'POST');
  const [, , bob] = await ask('/login/bob', '', 'POST');
  for (let i = 0; i < 3; i++) say((await ask('/', ada))[1], (await ask('/', bob))[1]);
  const id = decodeURIComponent(ada.split('=')[1]).slice(2).split('.')[0];
  say((await client.keys('shop:*')).length, await client.ttl(`shop:${id}`) > 90, JSON.parse(await client.get(`shop:${id}`)).views);
  say(await store.length(), (await store.ids()).includes(id), (await store.all()).map(one => one.user).sort());
  await store.touch(id, { cookie: { maxAge: 50000 } });
  say((await ask('/logout', ada, 'POST'))[1], (await ask('/', ada)).slice(0, 2), await store.length());
  for (let i = 0; i < 3; i++) say((await ask('/login/eve', '', 'POST')).slice(0, 2));
  say((await ask('/login/eve', '', 'POST')).slice(0, 2));
  await store.clear();
  say((await ask('/', bob)).slice(0, 2), await store.length());
  server.close();

  const storeClient = new Redis(process.env.CACHE_URL);
  const bursty = new BurstyRateLimiter(
    new RateLimiterRedis({ storeClient, keyPrefix: 'slow', points: 1, duration: 30 }),
    new RateLimiterRedis({ storeClient, keyPrefix: 'burst', points: 2, duration: 30 }),
  );
  for (let i = 0; i < 4; i++) say(await bursty.consume('x').then(() => 'taken', () => 'refused'));
  const queue = new RateLimiterQueue(new RateLimiterRedis({ storeClient, keyPrefix: 'q', points: 2, duration: 1 }));
  const start = Date.now();
  say(await Promise.all([1, 2, 3].map(() => queue.removeTokens(1).then(() => 'one'))), Date.now() - start >= 500);
  const block = new RateLimiterRedis({ storeClient, keyPrefix: 'block', points: 1, duration: 5, blockDuration: 20 });
  const rejected = await block.penalty('y', 3).then(() => block.consume('y')).catch(one => one);
  say(rejected.msBeforeNext > 15000, (await block.reward('y', 1)).consumedPoints, await block.block('z', 9).then(one => one.msBeforeNext > 8000));
  const insurance = await block.set('w', 5, 10);
  say(insurance.consumedPoints, (await block.get('w')).remainingPoints, await block.delete('w'), await block.get('w'));
  assert.ok((await storeClient.keys('*')).length > 0);
  storeClient.disconnect();
  client.destroy();
  console.log('end');
})().catch(error => { console.error(error); process.exit(1); });
