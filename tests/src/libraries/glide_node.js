// valkey-glide for Node.js: batches, scripts, pub/sub by configuration, scanning, functions of strings.
const {
  Batch, ClosingError, Decoder, GlideClient, GlideClientConfiguration, Logger, ProtocolVersion, RequestError, Script, TimeUnit,
} = require('@valkey/valkey-glide');

const addresses = [{ host: process.env.VALKEY_HOST, port: Number(process.env.VALKEY_PORT) }];
const say = (...words) => console.log(words.map(word => JSON.stringify(word)).join(' '));
const open = (protocol, more) => GlideClient.createClient({ addresses, protocol, requestTimeout: 10000, ...more });

// Its log goes to standard output, with the time.
Logger.setLoggerConfig('off');

async function run(protocol) {
  const client = await open(protocol, { clientName: 'glide' });
  const other = await open(protocol);
  await client.flushall();
  say(await client.ping(), await client.clientGetName(), await client.set('a', 'ä', { expiry: { type: TimeUnit.Seconds, count: 100 } }));
  say(await client.get('a'), await client.ttl('a') > 90, await client.get('none'), (await client.get('a', { decoder: Decoder.Bytes })).toString('hex'));
  say(await client.hset('h', { x: '1', y: '2' }), await client.hgetall('h'), await client.lpush('l', ['1', '2']), await client.lrange('l', 0, -1));
  say(await client.zadd('z', { m: 1.5, n: 2 }), await client.zrangeWithScores('z', { start: 0, end: -1 }), await client.zpopmax('z'));
  const values = await Promise.all(Array.from({ length: 300 }, (_, i) => client.incrBy('n', i)));
  say(values.length, Math.max(...values));
  await client.mset(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`k:${i}`, String(i)])));
  const names = new Set();
  let [cursor, page] = await client.scan('0', { match: 'k:*', count: 20 });
  for (;;) {
    page.forEach(name => names.add(name));
    if (cursor === '0') break;
    [cursor, page] = await client.scan(cursor, { match: 'k:*', count: 20 });
  }
  say(names.size, await client.dbsize());
  say(await client.exec(new Batch(true).incr('t').get('none').hgetall('h'), true));
  say((await client.exec(new Batch(false).set('s1', 'text').incr('s1').get('s1'), false)).map(String));
  await client.watch(['t']);
  await other.incr('t');
  say(await client.exec(new Batch(true).get('t'), true));
  const script = new Script("return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1])}");
  say(await client.invokeScript(script, { keys: ['count'], args: ['5'] }), await client.scriptExists([script.getHash()]), await client.scriptFlush());
  say(await client.invokeScript(script, { keys: ['count'], args: ['6'] }));
  for (const words of [['GET'], ['NOSUCH', 'x'], ['LPUSH', 'a', 'x']]) {
    say(words, await client.customCommand(words).catch(error => error instanceof RequestError && error.message));
  }
  say(await client.xadd('x', [['f', 'v']], { id: '1-1' }), await client.xread({ x: '0' }));
  setTimeout(() => other.rpush('queue', ['job']), 50);
  say(await client.blpop(['queue', 'others'], 5), await client.blpop(['queue'], 0.02));
  if (protocol === ProtocolVersion.RESP3) {
    const modes = GlideClientConfiguration.PubSubChannelModes;
    const heard = [];
    const listener = await open(protocol, {
      pubsubSubscriptions: {
        channelsAndPatterns: { [modes.Exact]: new Set(['news']), [modes.Pattern]: new Set(['n*']) },
        callback: message => heard.push([message.channel, message.message, message.pattern ?? '']),
      },
    });
    for (let i = 0; i < 500 && (await client.pubsubNumPat() < 1 || (await client.pubsubNumSub(['news']))[0].numSub < 1); i++) {
      await new Promise(done => setTimeout(done, 10));
    }
    say(await client.publish('hello', 'news'), await client.pubsubChannels());
    for (let i = 0; i < 500 && heard.length < 2; i++) await new Promise(done => setTimeout(done, 10));
    say(heard.sort());
    listener.close();
  }
  say(await client.select(3), await client.get('a'), await client.select(0), (await client.info()).includes('redis_version:'));
  other.close();
  client.close();
  say(await client.get('a').catch(error => error instanceof ClosingError));
}

(async () => {
  for (const protocol of [ProtocolVersion.RESP2, ProtocolVersion.RESP3]) await run(protocol);
  console.log('end');
})().catch(error => { console.error(error); process.exit(1); });
