// BullMQ's rarer sides: repeated jobs, prefixes, events, priorities, deduplication, dead workers.
const { Queue, Worker, QueueEvents, FlowProducer, UnrecoverableError, DelayedError } = require('bullmq');

const { hostname: host, port } = new URL(process.env.CACHE_URL);
const connection = { host, port: Number(port), maxRetriesPerRequest: null };
const say = (...words) => console.log(words.map(word => JSON.stringify(word)).join(' '));
const sleep = milliseconds => new Promise(done => setTimeout(done, milliseconds));
const until = async (what, test) => {
  for (let i = 0; i < 1000; i++) {
    if (await test()) return;
    await sleep(10);
  }
  throw new Error(`waited in vain: ${what}`);
};

async function repeating() {
  const queue = new Queue('tick', { connection, prefix: 'my{app}' });
  let ticks = 0;
  const worker = new Worker('tick', async job => { ticks += 1; return job.name; }, { connection, prefix: 'my{app}' });
  await queue.upsertJobScheduler('fast', { every: 60, limit: 4 }, { name: 'tick', data: { n: 1 } });
  await queue.upsertJobScheduler('cron', { pattern: '0 0 1 1 *' }, { name: 'yearly' });
  await until('ticks', () => ticks >= 3);
  say((await queue.getJobSchedulers()).map(one => one.key).sort().includes('cron'), (await queue.getDelayedCount()) >= 1);
  await queue.removeJobScheduler('cron');
  await queue.removeJobScheduler('fast').catch(() => {});
  say((await queue.getWorkers()).length, (await queue.getJobSchedulersCount()));
  await worker.close();
  await queue.obliterate({ force: true });
  await queue.close();
}

async function events() {
  const queue = new Queue('events', { connection, defaultJobOptions: { removeOnComplete: { count: 5 } } });
  const listener = new QueueEvents('events', { connection, lastEventId: '0' });
  const seen = [];
  for (const name of ['added', 'active', 'completed', 'failed', 'progress', 'delayed', 'deduplicated', 'stalled', 'drained', 'paused', 'resumed', 'removed']) {
    listener.on(name, what => seen.push(`${name} ${what?.jobId ?? ''}`));
  }
  await listener.waitUntilReady();
  const order = [];
  const worker = new Worker('events', async (job, token) => {
    order.push(job.name);
    if (job.name === 'final') throw new UnrecoverableError('give up');
    if (job.name === 'later' && !job.data.moved) {
      await job.updateData({ moved: true });
      await job.moveToDelayed(Date.now() + 60, token);
      throw new DelayedError();
    }
    await job.updateProgress({ half: true });
    return job.name;
  }, { connection, autorun: false });
  await queue.add('low', {}, { priority: 10, jobId: 'j-low' });
  await queue.add('high', {}, { priority: 1, jobId: 'j-high' });
  await queue.add('first', {}, { jobId: 'j-first' });
  await queue.add('lifo', {}, { lifo: true, jobId: 'j-lifo' });
  say((await queue.getJobs(['waiting', 'prioritized'])).map(job => job.name).sort(), await queue.getCountsPerPriority([1, 10]));
  await queue.add('once', {}, { deduplication: { id: 'd' }, jobId: 'j-once' });
  await queue.add('once', {}, { deduplication: { id: 'd' }, jobId: 'j-twice' });
  worker.run();
  await until('five jobs', () => order.length >= 5);
  await queue.add('final', {}, { attempts: 5, jobId: 'j-final' });
  await queue.add('later', {}, { jobId: 'j-later' });
  await until('the delayed', async () => await (await queue.getJob('j-later'))?.isCompleted());
  say(order, await queue.getDeduplicationJobId('d'));
  await until('the failure', () => seen.includes('failed j-final'));
  await queue.pause();
  await queue.resume();
  await queue.remove('j-final');
  await until('events', () => seen.some(one => one.startsWith('removed')) && seen.some(one => one.startsWith('resumed')));
  say([...new Set(seen)].filter(one => !one.startsWith('drained') && one !== 'removed j-low').sort());
  say(await queue.getMetrics('completed').then(metrics => metrics.count), await queue.trimEvents(0) >= 0, await queue.getVersion().then(Boolean));
  await queue.setGlobalConcurrency(3);
  say(await queue.getGlobalConcurrency(), (await queue.clean(0, 100, 'completed')).length);
  await worker.close();
  await listener.close();
  await queue.obliterate({ force: true });
  await queue.close();
}

/** A worker dies in the middle: another takes the job when its lock has run out. */
async function stalled() {
  const queue = new Queue('stalled', { connection });
  const dead = new Worker('stalled', () => new Promise(() => {}), { connection, lockDuration: 300, skipLockRenewal: true, skipStalledCheck: true });
  dead.on('error', () => {});
  const job = await queue.add('heavy', {});
  await until('it is active', () => job.isActive());
  await dead.close(true);
  const listener = new QueueEvents('stalled', { connection });
  await listener.waitUntilReady();
  const heir = new Worker('stalled', async () => 'done', { connection, stalledInterval: 150, lockDuration: 300 });
  say(await job.waitUntilFinished(listener), await queue.getJobCounts('completed', 'active', 'wait'));
  await heir.close();
  await listener.close();
  await queue.obliterate({ force: true });
  await queue.close();
}

async function flows() {
  const flow = new FlowProducer({ connection });
  const listener = new QueueEvents('top', { connection });
  await listener.waitUntilReady();
  const leaves = new Worker('leaf', async job => { if (job.data.fail) throw new Error('leaf'); return job.data.n; }, { connection });
  const tops = new Worker('top', async job => [Object.values(await job.getChildrenValues()).sort(), Object.values(await job.getIgnoredChildrenFailures())], { connection });
  const tree = await flow.add({
    name: 'top', queueName: 'top', children: [
      { name: 'leaf', queueName: 'leaf', data: { n: 1 } },
      { name: 'bad', queueName: 'leaf', data: { fail: true }, opts: { ignoreDependencyOnFailure: true } },
      { name: 'inner', queueName: 'top', children: [{ name: 'leaf', queueName: 'leaf', data: { n: 2 } }] },
    ],
  });
  say(await tree.job.waitUntilFinished(listener));
  say((await flow.getFlow({ id: tree.job.id, queueName: 'top' })).children.length, await tree.job.getDependenciesCount());
  await Promise.all([leaves, tops, listener, flow].map(one => one.close()));
}

(async () => {
  await repeating();
  await events();
  await stalled();
  await flows();
  console.log('end');
})().catch(error => { console.error(error); process.exit(1); });
