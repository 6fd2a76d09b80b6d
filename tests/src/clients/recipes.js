const Redis = require('ioredis');
const crypto = require('crypto');
(async () => {
  const cache = new Redis(process.env['CACHE_URL']);
  await cache.flushall();
  const user = { name: 'Ada' }, token = 't', userId = '7';
  // String operations
  await cache.set('user:123', JSON.stringify(user));
  await cache.set('session:abc', token, 'EX', 3600);
  console.log(await cache.get('user:123'), await cache.ttl('session:abc') > 3590);
  console.log(await cache.del('session:abc'), await cache.get('session:abc'));
  // Counters
  await cache.incr('hits:today');
  console.log(await cache.get('hits:today'));
  // Lists
  await cache.lpush('queue:jobs', JSON.stringify({ id: 1 }));
  console.log(await cache.rpop('queue:jobs'));
  // Hash maps
  await cache.hset('config', 'theme', 'dark', 'lang', 'tr');
  console.log(await cache.hget('config', 'theme'));
  // Sets
  await cache.sadd('active:users', userId);
  console.log(await cache.sismember('active:users', userId));
  // TTL
  await cache.set('temp:key', 1);
  await cache.expire('temp:key', 300);
  console.log(await cache.ttl('temp:key') > 290);

  const store = cache;
  async function createSession(userId) {
    const sessionId = crypto.randomUUID();
    await store.set(`session:${sessionId}`, userId, 'EX', 86400);
    return sessionId;
  }
  async function getSession(sessionId) { return store.get(`session:${sessionId}`); }
  async function checkRateLimit(ip, limit = 100) {
    const key = `rl:${ip}`;
    const count = await store.incr(key);
    if (count === 1) await store.expire(key, 60);
    return count <= limit;
  }
  async function getCached(key, fetch, ttl = 300) {
    const cached = await store.get(key);
    if (cached) return JSON.parse(cached);
    const data = await fetch();
    await store.set(key, JSON.stringify(data), 'EX', ttl);
    return data;
  }
  console.log(await getSession(await createSession(userId)), await getSession('none'));
  const allowed = [];
  for (let i = 0; i < 5; i++) allowed.push(await checkRateLimit('10.0.0.1', 3));
  console.log(allowed, await store.ttl('rl:10.0.0.1') > 50);
  let fetched = 0;
  for (let i = 0; i < 3; i++) console.log(await getCached('page', async () => { fetched++; return { n: 1 }; }));
  console.log(fetched, (await store.keys('user:*')).sort(), await store.dbsize());
  let cursor = '0', all = [];
  do { const [next, keys] = await store.scan(cursor); cursor = next; all.push(...keys); } while (cursor !== '0');
  console.log(new Set(all).size);
  cache.disconnect();
  console.log('end');
})().catch(error => { console.error(error); process.exit(1); });
