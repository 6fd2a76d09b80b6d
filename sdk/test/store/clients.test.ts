/** Clients of real stores: CACHE_URL, SESSION_STORE_URL and RATE_LIMIT_URL name three. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { after, beforeEach, test } from 'node:test'
import { close, closeAll, kv } from '@flect/sdk'

const BINDINGS = ['CACHE', 'SESSION_STORE', 'RATE_LIMIT']

beforeEach(async () => {
  for (const binding of BINDINGS) await kv(binding).flushall()
})

after(closeAll)

test('each binding is a store of its own', async () => {
  for (const binding of BINDINGS) await kv(binding).set('whose', binding)
  for (const binding of BINDINGS) {
    assert.equal(await kv(binding).get('whose'), binding)
    assert.deepEqual(await kv(binding).keys('*'), ['whose'])
  }
})

test('callers at the same time share one connection', async () => {
  const ids = await Promise.all(Array.from({ length: 20 }, () => kv().client('ID')))
  assert.equal(new Set(ids).size, 1)
})

test('options reach ioredis', async () => {
  await close()
  const cache = kv('CACHE', { connectionName: 'shop', keyPrefix: 'v2:', db: 1 })
  assert.equal(await cache.client('GETNAME'), 'shop')
  await cache.set('a', '1')
  assert.equal(await kv().get('a'), '1')
  await close()
  assert.equal(await kv().get('v2:a'), null)
  const one = kv().duplicate({ db: 1 })
  assert.equal(await one.get('v2:a'), '1')
  one.disconnect()
})

test('scripts, pipelines and transactions work as in ioredis', async () => {
  const cache = kv()
  const replies = await cache.pipeline().set('a', '1').incr('a').get('a').exec()
  assert.deepEqual(replies, [
    [null, 'OK'],
    [null, 2],
    [null, '2'],
  ])
  assert.deepEqual(await cache.multi().incr('a').incr('a').exec(), [
    [null, 3],
    [null, 4],
  ])
  assert.equal(await cache.eval("return redis.call('incr', KEYS[1])", 1, 'a'), 5)
})

test('scanStream returns the keys of the store', async () => {
  const expect = Array.from({ length: 50 }, (_, number) => `user:${number}`).sort()
  await kv().mset(Object.fromEntries(expect.map((key) => [key, 'x'])))
  const found = new Set<string>()
  for await (const keys of kv().scanStream({ match: 'user:*' })) {
    for (const key of keys as string[]) found.add(key)
  }
  assert.deepEqual([...found].sort(), expect)
})

test('close waits for what was sent', async () => {
  const cache = kv()
  const replies = Promise.all(Array.from({ length: 500 }, () => cache.incr('count')))
  await close()
  assert.equal((await replies).at(-1), 500)
  assert.equal(cache.status, 'end')
  assert.equal(await kv().get('count'), '500')
})

test('close waits for what was sent before the connection stood', async () => {
  await closeAll()
  const reply = kv().set('early', 'yes')
  await closeAll()
  assert.equal(await reply, 'OK')
})

test('close waits for what automatic pipelining holds back', async () => {
  await close()
  const cache = kv('CACHE', { enableAutoPipelining: true })
  await cache.get('a')
  const replies = Promise.all([cache.incr('auto'), cache.incr('auto')])
  await close()
  assert.deepEqual(await replies, [1, 2])
})

test('close gives up a blocked command after 5 s', async () => {
  const cache = kv()
  const blocked = assert.rejects(cache.blpop('nothing', 0), /Connection is closed/)
  await close()
  assert.equal(cache.status, 'end')
  await blocked
})

test('after quit there is a fresh client at once', async () => {
  const first = kv()
  await first.get('a')
  const quitting = first.quit()
  const second = kv()
  assert.notEqual(second, first)
  assert.equal(await second.ping(), 'PONG')
  assert.equal(await quitting, 'OK')
})

test('after a QUIT that was sent by other means there is a fresh client', async () => {
  const first = kv()
  await first.call('QUIT')
  if (first.status !== 'end') await once(first, 'end')
  assert.notEqual(kv(), first)
  assert.equal(await kv().ping(), 'PONG')
})

test('a lost connection is made anew by the same client', async () => {
  const cache = kv()
  await cache.set('a', 'kept')
  cache.disconnect(true)
  await once(cache, 'ready')
  assert.equal(kv(), cache)
  assert.equal(await cache.get('a'), 'kept')
})

test('a process ends by itself after closeAll', () => {
  const sdk = createRequire(import.meta.url).resolve('@flect/sdk')
  const script = `
    const { kv, closeAll } = require(${JSON.stringify(sdk)})
    process.once('SIGTERM', () => closeAll())
    kv().set('a', 'b')
      .then(() => kv('SESSION_STORE').get('a'))
      .then((value) => { console.log(value); process.kill(process.pid, 'SIGTERM') })`
  const output = execFileSync(process.execPath, ['-e', script], { timeout: 60_000 })
  assert.equal(output.toString(), 'null\n')
})
