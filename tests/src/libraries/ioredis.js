// What users of ioredis do beyond single commands: autopipelining, prefixes, transformers, reconnecting.
const assert = require('node:assert');
const Redis = require('ioredis');

const url = process.env.CACHE_URL;
const say = (...words) => console.log(words.map(word => JSON.stringify(word)).join(' '));
const sleep = milliseconds => new Promise(done => setTimeout(done, milliseconds));
const until = async (what, test) => {
  for (let i = 0; i < 500; i++) {
    if (await test()) return;
    await sleep(10);
  }
  throw new Error(`waited in vain: ${what}`);
};
const lines = {
  add: { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" },
  names: { lua: "local all = {} for i, key in ipairs(KEYS) do all[i] = redis.call('GET', key) end return all" },
  peek: { numberOfKeys: 1, readOnly: true, lua: "return redis.call('GET', KEYS[1])" },
};

async function autopipelining(protocol) {
  const auto = new Redis(url, { enableAutoPipelining: true, keyPrefix: 'auto:', scripts: lines, protocol });
  const values = await Promise.all(Array.from({ length: 500 }, (_, i) => auto.incr(`n:${i % 5}`)));
  say(values.length, Math.max(...values), await auto.mget('n:0', 'n:4', 'n:5'));
  const failing = await Promise.allSettled([auto.set('s', 'x'), auto.incr('s'), auto.get('s')]);
  say(failing.map(one => one.value ?? one.reason.message));
  say(await Promise.all([auto.add('c', 1), auto.add('c', 2), auto.peek('c'), auto.names(2, 'n:0', 'c')]));
  const raw = new Redis(url);
  say((await raw.keys('auto:*')).sort(), (await auto.keys('auto:c')), await auto.sort('l', 'BY', 'w_*', 'GET', 'w_*'));
  await auto.zadd('z1', 1, 'a');
  say(await auto.zunionstore('z2', 1, 'z1'), await raw.zrange('auto:z2', 0, -1), await auto.eval('return KEYS', 1, 'k'));
  auto.disconnect();
  raw.disconnect();
}

async function transformers() {
  const redis = new Redis(url, { stringNumbers: true });
  say(await redis.incr('big'), await redis.hset('m', new Map([['a', 1], ['b', 2]])), await redis.hgetall('m'));
  Redis.Command.setReplyTransformer('hgetall', result => Array.isArray(result) ? result.length : Object.keys(result).length);
  say(await redis.hgetall('m'));
  redis.disconnect();
}

async function streams(protocol) {
  const redis = new Redis(url, { protocol });
  await redis.mset(Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`scan:${i}`, i])));
  await redis.sadd('sscan', Array.from({ length: 300 }, (_, i) => `m${i}`));
  await redis.hset('hscan', { x: 1, y: 2 });
  await redis.zadd('zscan', 1, 'm');
  for (const [name, stream] of [
    ['scan', redis.scanStream({ match: 'scan:*', count: 30 })], ['type', redis.scanStream({ type: 'zset', count: 1000 })],
    ['sscan', redis.sscanStream('sscan', { count: 30 })], ['hscan', redis.hscanStream('hscan')], ['zscan', redis.zscanStream('zscan')],
  ]) {
    const seen = new Set();
    for await (const page of stream) page.forEach(one => seen.add(one));
    say(name, seen.size);
  }
  await redis.xgroup('CREATE', 'jobs', 'workers', '$', 'MKSTREAM');
  const reader = redis.duplicate();
  const reading = reader.xreadgroup('GROUP', 'workers', 'one', 'BLOCK', 5000, 'COUNT', 2, 'STREAMS', 'jobs', '>');
  await sleep(30);
  await redis.xadd('jobs', '7-1', 'task', 'first');
  say(await reading, await redis.xpending('jobs', 'workers', '-', '+', 10).then(all => all.map(one => [one[0], one[1], one[3]])));
  say(await redis.xclaim('jobs', 'workers', 'two', 0, '7-1'), await redis.xautoclaim('jobs', 'workers', 'three', 0, '0'));
  say(await redis.xack('jobs', 'workers', '7-1'), await redis.xinfo('GROUPS', 'jobs'), await redis.xlen('jobs'));
  say(await redis.xreadgroup('GROUP', 'none', 'x', 'STREAMS', 'jobs', '>').catch(error => error.message));
  reader.disconnect();
  redis.disconnect();
}

async function subscribers(protocol) {
  const redis = new Redis(url, { protocol });
  const one = redis.duplicate();
  const two = new Redis(url, { autoResubscribe: true, retryStrategy: () => 10, protocol });
  two.on('error', () => {});
  const heard = [];
  one.on('messageBuffer', (channel, message) => heard.push(['b', channel.toString(), message.toString('hex')]));
  two.on('message', (channel, message) => heard.push(['s', channel, message]));
  two.on('pmessage', (pattern, channel, message) => heard.push(['p', pattern, channel, message]));
  two.on('smessage', (channel, message) => heard.push(['ss', channel, message]));
  say(await one.subscribe('bytes'), await two.subscribe('a', 'b'), await two.psubscribe('?', 'a*'), await two.ssubscribe('shard'));
  say(await redis.publish('bytes', Buffer.from([1, 0, 255])), await redis.publish('a', 'x'), await redis.spublish('shard', 'y'));
  await until('messages', () => heard.length === 5);
  say(heard.splice(0).sort(), await redis.pubsub('NUMSUB', 'a', 'bytes', 'none'), (await redis.pubsub('CHANNELS')).sort());
  // The connection goes; channels and patterns come back by themselves.
  say(await redis.call('CLIENT', 'KILL', 'TYPE', 'PUBSUB') >= 2);
  await until('subscribing again', async () => await redis.publish('a', 'again') >= 3);
  await until('the other', async () => (await redis.pubsub('NUMSUB', 'bytes'))[1] === 1);
  await until('messages', () => heard.length >= 3);
  say([...new Set(heard.map(one => one.join(' ')))].sort());
  for (const client of [redis, one, two]) client.disconnect();
}

async function reconnecting(protocol) {
  const redis = new Redis(url, { retryStrategy: () => 10, connectionName: 'again', db: 2, maxRetriesPerRequest: 5, protocol });
  const other = new Redis(url, { protocol });
  const events = [];
  for (const name of ['connect', 'ready', 'close', 'reconnecting']) redis.on(name, () => events.push(name));
  redis.on('error', () => {});
  await redis.set('here', 'two');
  const id = await redis.client('ID');
  const waiting = redis.blpop('never', 0);
  const sent = waiting.then(() => 'popped', error => error.constructor.name);
  await sleep(20);
  say(await other.client('KILL', 'ID', id));
  await until('the second connection', () => events.filter(one => one === 'ready').length === 2);
  await other.select(2);
  await other.rpush('never', 'now');
  say(await sent, await redis.get('here'), await redis.client('GETNAME'), await redis.client('ID') !== id, events);
  const reconnectOnError = new Redis(url, { reconnectOnError: error => error.message.includes('WRONGTYPE') && 1, retryStrategy: () => 10, protocol });
  await reconnectOnError.set('text', 'x');
  const before = await reconnectOnError.client('ID');
  say(await reconnectOnError.lpush('text', 'x').catch(error => error.message));
  await until('a new connection', async () => await reconnectOnError.client('ID').catch(() => before) !== before);
  reconnectOnError.disconnect();
  const bounded = new Redis(url, { commandTimeout: 50, protocol });
  say(await bounded.blpop('none', 1).catch(error => error.message));
  bounded.disconnect();
  redis.disconnect();
  other.disconnect();
}

(async () => {
  for (const protocol of [2, 3]) {
    const redis = new Redis(url, { protocol });
    await redis.flushall();
    say('protocol', protocol, (await redis.client('INFO')).match(/resp=(\d)/)[1]);
    redis.disconnect();
    await autopipelining(protocol);
    await streams(protocol);
    await subscribers(protocol);
    await reconnecting(protocol);
  }
  await transformers();
  const closing = new Redis(url);
  assert.equal(await closing.quit(), 'OK');
  console.log('end');
})().catch(error => { console.error(error); process.exit(1); });
