const Redis = require('ioredis');
const url = process.env.CACHE_URL;
(async () => {
  const r = new Redis(url, { connectionName: 'me' });
  await new Promise(done => r.once('ready', done));
  await r.flushall();
  console.log(r.status, await r.client('GETNAME'), await r.ping());
  console.log(await r.set('a', 'ä', 'EX', 100), await r.get('a'), await r.ttl('a') > 90, await r.get('none'));
  console.log(await r.getBuffer('a'), await r.hset('h', { x: 1, y: 2 }), await r.hgetall('h'));
  const many = await Promise.all(Array.from({ length: 1000 }, (_, i) => r.incrby('n', i)));
  console.log(many.length, many[999]);
  const p = r.pipeline();
  for (let i = 0; i < 2000; i++) p.set(`k:${i}`, 'v'.repeat(500)).get(`k:${i}`);
  const got = await p.exec();
  console.log(got.length, got.every(([error]) => !error), new Set(got.map(([, v]) => v)).size);
  console.log(await r.multi().incr('m').get('none').lpush('l', 1, 2).hgetall('h').exec());
  console.log(await r.multi().set('t', 'x').incr('t').get('t').exec().then(all => all.map(([e, v]) => e ? e.message : v)));
  console.log(await r.multi().set('t', 'x').call('NOSUCH').exec().catch(e => e.message));
  await r.watch('m');
  const other = new Redis(url);
  await other.incr('m');
  console.log(await r.multi().incr('m').exec());

  let seen = 0;
  for await (const keys of r.scanStream({ match: 'k:*', count: 100 })) seen += keys.length;
  console.log(seen >= 2000, (await r.keys('k:199?')).sort(), await r.dbsize());

  setTimeout(() => other.rpush('queue', 'job'), 100);
  console.log(await r.blpop('queue', 'others', 5), await r.blpop('queue', 0.05));

  const sub = new Redis(url);
  const heard = [];
  sub.on('message', (...all) => heard.push(['message', ...all]));
  sub.on('pmessage', (...all) => heard.push(['pmessage', ...all]));
  console.log(await sub.subscribe('news', 'more'), await sub.psubscribe('n*'));
  console.log(await r.publish('news', 'hello'), await sub.get('a').catch(e => e.message.slice(0, 30)));
  while (heard.length < 2) await new Promise(done => setTimeout(done, 10));
  console.log(heard.sort(), await sub.unsubscribe('news'), await sub.punsubscribe('n*'), await sub.unsubscribe('more'));
  console.log(await sub.get('a'));

  r.defineCommand('add', { numberOfKeys: 1, lua: "return server.call('INCRBY', KEYS[1], ARGV[1])" });
  console.log(await r.add('count', 5), await r.add('count', 6), await r.pipeline().add('count', 1).exec());
  console.log(await r.xadd('x', '1-1', 'f', 'v'), JSON.stringify(await r.xread('STREAMS', 'x', 0)));
  const zero = new Redis(url + '/3', { keyPrefix: 'my:' });
  console.log(await zero.set('a', 1), await zero.get('a'), await zero.keys('*'), await r.get('my:a'));
  for (const line of ['GET', 'NOSUCH x', 'LPUSH a x', 'SELECT 99'])
    console.log(await r.call(...line.split(' ')).catch(e => e.name + ' ' + e.message));
  const lazy = new Redis(url, { lazyConnect: true, enableReadyCheck: false });
  await lazy.connect();
  console.log(await lazy.echo('hi'), await lazy.quit());
  for (const one of [r, other, sub, zero]) one.disconnect();
  console.log('end');
})().catch(error => { console.error(error); process.exit(1); });
