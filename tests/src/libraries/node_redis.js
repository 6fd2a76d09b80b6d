// What users of node-redis do, in RESP2 and RESP3: pools, scripts, functions, client-side caching.
const assert = require('node:assert');
const {
  createClient, createClientPool, defineScript, RESP_TYPES, WatchError, commandOptions,
} = require('redis');

const url = process.env.CACHE_URL;
const say = (...words) => console.log(words.map(word => JSON.stringify(word)).join(' '));
const until = async (what, test) => {
  for (let i = 0; i < 500; i++) {
    if (await test()) return;
    await new Promise(done => setTimeout(done, 10));
  }
  throw new Error(`waited in vain: ${what}`);
};
const scripts = {
  add: defineScript({
    SCRIPT: "return redis.call('INCRBY', KEYS[1], ARGV[1])",
    NUMBER_OF_KEYS: 1,
    FIRST_KEY_INDEX: 1,
    parseCommand(parser, key, by) { parser.pushKey(key); parser.push(String(by)); },
    transformReply: reply => reply,
  }),
};
const open = async more => {
  const client = createClient({ url, scripts, ...more });
  client.on('error', error => say('client error', error.message));
  return client.connect();
};

async function commands(client) {
  say(await client.ping(), await client.set('a', 'ä', { EX: 100 }), await client.get('a'), await client.ttl('a') > 90);
  say(await client.hSet('h', { x: '1', y: '2' }), await client.hGetAll('h'), await client.hmGet('h', ['x', 'z']));
  say(await client.zAdd('z', [{ score: 1.5, value: 'm' }, { score: 2, value: 'n' }]), await client.zRangeWithScores('z', 0, -1));
  say(await client.lPush('l', ['1', '2']), await client.lPopCount('l', 2), await client.sAdd('s', ['p', 'q']));
  say(await client.geoAdd('g', { longitude: 13.36, latitude: 38.11, member: 'Palermo' }), await client.geoDist('g', 'Palermo', 'Palermo'));
  say(await client.xAdd('x', '1-1', { f: 'v' }), await client.xRead({ key: 'x', id: '0' }), await client.xGroupCreate('x', 'gr', '0'));
  say(await client.xReadGroup('gr', 'c', { key: 'x', id: '>' }), await client.xAck('x', 'gr', '1-1'), await client.xInfoGroups('x'));
  say(await client.mSet({ m1: '1', m2: '2' }), await client.mGet(['m1', 'm2', 'm3']), await client.type('h'), await client.exists(['a', 'b']));
  say(await client.sort('l', { BY: 'w_*' }), await client.object?.call, await client.objectEncoding('h'), await client.copy('a', 'copy'));
  const many = await Promise.all(Array.from({ length: 1000 }, (_, i) => client.incrBy('n', i)));
  say(many.length, many[999]);
  const keys = Array.from({ length: 300 }, (_, i) => [`k:${i}`, 'v'.repeat(200)]).flat();
  say(await client.mSet(keys), await client.dbSize());
  let seen = new Set();
  for await (const found of client.scanIterator({ MATCH: 'k:*', COUNT: 50 })) found.forEach(key => seen.add(key));
  say(seen.size, (await client.keys('k:29?')).sort());
  for await (const found of client.hScanIterator('h')) say(found);
  for await (const found of client.sScanIterator('s')) say([...found].sort());
  for await (const found of client.zScanIterator('z')) say(found);
  for (const line of ['GET', 'NOSUCH x', 'LPUSH a x', 'SELECT 99', 'SET a', 'OBJECT NONE x']) {
    say(line, await client.sendCommand(line.split(' ')).catch(error => `${error.constructor.name} ${error.message}`));
  }
  const bytes = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  say((await bytes.get('a')).toString('hex'));
}

async function transactions(client, other) {
  say(await client.multi().incr('t').get('none').hGetAll('h').exec());
  const errors = await client.multi().set('t', 'x').incr('t').get('t').exec().catch(error => error);
  say(errors.constructor.name, errors.replies.map(String), errors.errorIndexes);
  say(await client.multi().set('t', '1').addCommand(['NOSUCH']).exec().catch(error => error.message));
  say(await client.multi().set('p', '1').get('p').execAsPipeline());
  await client.watch('t');
  await other.set('t', '5');
  say(await client.multi().get('t').exec().catch(error => error instanceof WatchError && error.message));
  await client.watch('t');
  say(await client.multi().incr('t').exec());
}

async function blocking(client, other) {
  setTimeout(() => other.rPush('queue', 'job'), 50);
  const waiting = client.duplicate();
  await waiting.connect();
  say(await waiting.blPop(['queue', 'others'], 5), await waiting.blPop('queue', 0.02));
  setTimeout(() => other.zAdd('zq', { score: 1, value: 'm' }), 50);
  say(await waiting.bzPopMin('zq', 5), await client.lmPop(['none', 'l2'], 'LEFT'));
  setTimeout(() => other.xAdd('sx', '5-5', { f: 'v' }), 50);
  say(await waiting.xRead({ key: 'sx', id: '$' }, { BLOCK: 5000 }));
  await waiting.close();
}

async function pubsub(client) {
  const subscriber = client.duplicate();
  await subscriber.connect();
  const heard = [];
  await subscriber.subscribe(['news', 'more'], (message, channel) => heard.push(['s', channel, message]));
  await subscriber.pSubscribe('n[ae]*', (message, channel) => heard.push(['p', channel, message]));
  await subscriber.sSubscribe('shard', (message, channel) => heard.push(['ss', channel, message]));
  await subscriber.subscribe('bytes', (message, channel) => heard.push(['b', channel.toString(), message.toString('hex')]), true);
  say(await client.publish('news', 'hello'), await client.publish('none', 'x'), await client.sPublish('shard', 'there'));
  say(await client.publish('bytes', Buffer.from([0, 255, 10])));
  await until('messages', () => heard.length === 4);
  say(heard.sort(), (await client.pubSubChannels()).sort(), await client.pubSubNumSub(['news', 'none']), await client.pubSubNumPat());
  say(await client.pubSubShardChannels());
  await subscriber.unsubscribe('news');
  await subscriber.pUnsubscribe('n[ae]*');
  say(await client.publish('news', 'gone'), (await client.pubSubChannels()).sort());
  await subscriber.close();
}

async function code(client) {
  say(await client.add('count', 5), await client.add('count', 6), await client.multi().add('count', 1).exec());
  await client.scriptFlush();
  say(await client.add('count', 1));
  const sha = await client.scriptLoad("return {KEYS[1], ARGV[1], redis.call('EXISTS', KEYS[1] .. ARGV[1])}");
  say(sha, await client.scriptExists([sha]), await client.evalSha(sha, { keys: ['coun'], arguments: ['t'] }));
  say(await client.eval('return nope', {}).catch(error => error.message));
  const text = "#!lua name=lib\nredis.register_function{function_name='hi', callback=function(keys, args) "
    + "return redis.call('GET', keys[1]) .. args[1] end, flags={'no-writes'}}";
  say(await client.functionLoad(text, { REPLACE: true }));
  say(await client.fCall('hi', { keys: ['count'], arguments: ['!'] }), await client.fCallRo('hi', { keys: ['count'], arguments: ['?'] }));
  say(await client.functionList());
  const dump = await client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }).functionDump();
  await client.functionFlush();
  await client.functionRestore(dump);
  say((await client.functionList()).map(library => library.library_name), await client.functionDelete('lib'));
}

async function pool() {
  const pool = createClientPool({ url }, { minimum: 2, maximum: 4 });
  pool.on('error', error => say('pool error', error.message));
  await pool.connect();
  const all = await Promise.all(Array.from({ length: 200 }, (_, i) => pool.set(`p:${i}`, String(i)).then(() => pool.get(`p:${i}`))));
  say(all.length, all.every((value, i) => value === String(i)));
  say(await pool.execute(async client => {
    await client.watch('p:1');
    return client.multi().get('p:1').incr('p:1').exec();
  }));
  say(await pool.multi().get('p:2').exec());
  await pool.close();
}

async function cache(other) {
  const client = await open({ RESP: 3, clientSideCache: { ttl: 0, maxEntries: 100, evictPolicy: 'LRU' } });
  await other.mSet({ c1: 'one', c2: 'two' });
  const stats = () => { const s = client.stats ? client.stats() : client.clientSideCache?.stats?.(); return s && [s.hitCount, s.missCount]; };
  say(await client.get('c1'), await client.get('c1'), await client.get('c1'), await client.hGetAll('h'), await client.hGetAll('h'));
  await other.set('c1', 'changed');
  await until('an invalidation', async () => await client.get('c1') === 'changed');
  await other.del('h');
  await until('another', async () => (await client.hGetAll('h')).x === undefined);
  await other.flushDb();
  await until('the flush', async () => await client.get('c1') === null);
  say(await client.get('c1'), await client.clientTrackingInfo());
  await client.close();
}

async function connection(client) {
  const named = await open({ name: 'me', database: 3, RESP: 3 });
  say(await named.clientGetName(), await named.set('a', '1'), await client.get('a'), await named.dbSize(), await named.move('a', 0).catch(e => e.message));
  await named.select(0);
  const info = await named.clientInfo();
  say(info.name, info.db, info.resp, info.libName, typeof info.id, info.user);
  say((await named.clientList()).some(one => one.name === 'me'), (await named.info('server')).includes('redis_version:'));
  const before = await named.clientId();
  await client.sendCommand(['CLIENT', 'KILL', 'ID', String(before)]);
  await until('reconnecting', async () => named.isReady && await named.ping().catch(() => '') === 'PONG');
  say(await named.clientGetName(), await named.clientId() !== before, await named.quit());
}

(async () => {
  for (const RESP of [2, 3]) {
    const client = await open({ RESP });
    const other = await open({ RESP });
    await client.flushAll();
    say('RESP', RESP);
    await commands(client);
    await transactions(client, other);
    await blocking(client, other);
    await pubsub(client);
    await code(client);
    if (RESP === 3) await cache(other);
    await other.close();
    client.destroy();
  }
  await pool();
  const client = await open({});
  await connection(client).catch(error => { throw error; });
  await client.close();
  assert.ok(!client.isOpen);
  console.log('end');
})().catch(error => { console.error(error); process.exit(1); });
