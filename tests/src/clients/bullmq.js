// What users of BullMQ and of rate-limiter-flexible do. Their scripts make up names of keys as they go.
const { Queue, Worker, QueueEvents, FlowProducer } = require('bullmq');
const { RateLimiterRedis } = require('rate-limiter-flexible');
const Redis = require('ioredis');

const { hostname: host, port } = new URL(process.env.CACHE_URL);
const connection = { host, port: Number(port), maxRetriesPerRequest: null };
const say = (...words) => console.log(words.map(word => JSON.stringify(word)).join(' '));

async function queue() {
  const queue = new Queue('mail', { connection });
  const events = new QueueEvents('mail', { connection });
  await events.waitUntilReady();
  let failures = 0;
  const worker = new Worker('mail', async job => {
    if (job.name === 'flaky' && failures++ < 2) throw new Error('not yet');
    if (job.name === 'bad') throw new Error('never');
    await job.updateProgress(50);
    await job.log('a line');
    return { to: job.data.to, doubled: job.data.n * 2 };
  }, { connection, concurrency: 2, lockDuration: 5000 });
  const jobs = await queue.addBulk([1, 2, 3].map(n => ({ name: 'plain', data: { to: 'x', n } })));
  for (const job of jobs) say('done', job.id, await job.waitUntilFinished(events));
  const delayed = await queue.add('later', { to: 'y', n: 4 }, { delay: 2000, priority: 2 });
  say('state', await delayed.getState());
  say('delayed', await delayed.waitUntilFinished(events));
  const flaky = await queue.add('flaky', { to: 'z', n: 5 }, { attempts: 3, backoff: 20 });
  say('flaky', await flaky.waitUntilFinished(events), failures);
  const bad = await queue.add('bad', { n: 6 }, { removeOnFail: false });
  say('bad', await bad.waitUntilFinished(events).catch(error => error.message));
  const big = await queue.add('plain', { to: 'big', n: 7, text: 'x'.repeat(200000) });
  say('big', await big.waitUntilFinished(events));
  await queue.upsertJobScheduler('each', { every: 100000 }, { name: 'plain', data: { to: 's', n: 8 } });
  say('schedulers', (await queue.getJobSchedulers()).map(each => each.key));
  await queue.removeJobScheduler('each');
  say('logs', await queue.getJobLogs(jobs[0].id));
  say('failed', (await queue.getFailed()).map(job => [job.name, job.failedReason]));
  await bad.retry().catch(error => say('retry', error.message));
  await bad.waitUntilFinished(events).catch(() => {});
  await worker.pause();
  await queue.pause();
  await queue.add('waiting', { n: 9 });
  say('paused', await queue.isPaused(), await queue.getJobCounts('paused', 'delayed', 'failed'));
  await queue.resume();
  await queue.drain(true);
  say('drained', await queue.getJobCounts('wait', 'paused', 'delayed', 'failed'));
  await worker.close();
  await events.close();
  await queue.obliterate({ force: true });
  await queue.close();
}

async function limited() {
  const queue = new Queue('slow', { connection });
  const times = [];
  let finish;
  const finished = new Promise(resolve => { finish = resolve; });
  const worker = new Worker('slow', async job => {
    times.push(Date.now());
    if (times.length === 6) finish();
  }, { connection, limiter: { max: 2, duration: 300 } });
  await queue.addBulk(Array.from({ length: 6 }, (_, n) => ({ name: 'n', data: { n } })));
  await finished;
  say('limited', times.length, times[5] - times[0] >= 500);
  await worker.close();
  await queue.obliterate({ force: true });
  await queue.close();
}

async function flow() {
  const producer = new FlowProducer({ connection });
  const events = new QueueEvents('parents', { connection });
  await events.waitUntilReady();
  const children = new Worker('children', async job => job.data.n + 1, { connection });
  const parents = new Worker('parents', async job => Object.values(await job.getChildrenValues()).sort(), { connection });
  const tree = await producer.add({
    name: 'sum', queueName: 'parents', children: [1, 2].map(n => ({ name: 'add', queueName: 'children', data: { n } })),
  });
  say('flow', await tree.job.waitUntilFinished(events));
  await Promise.all([children.close(), parents.close(), events.close(), producer.close()]);
}

async function limiter() {
  const client = new Redis(connection);
  const limiter = new RateLimiterRedis({ storeClient: client, points: 3, duration: 60, keyPrefix: 'rl', blockDuration: 30 });
  const one = () => limiter.consume('user').then(result => result.remainingPoints, rejected => -rejected.consumedPoints);
  say('points', await one(), await one(), await one(), await one());
  say('limiter', (await limiter.get('user')).consumedPoints, await limiter.delete('user'));
  say('keys', (await client.keys('rl*')).length, await client.dbsize() >= 0);
  client.disconnect();
}

(async () => {
  await queue();
  await limited();
  await flow();
  await limiter();
  console.log('end');
})().catch(error => { console.error(error); process.exit(1); });
