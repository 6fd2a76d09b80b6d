/** README.md, Quick start. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { closeAll, kv as own } from '@flect/sdk'

const user = { name: 'Ada' }
const token = 't0ken'
const job = { id: 1 }
const userId = '7'

await own().flushall()
await own().set('temp:key', 'x')

// README: Quick start

test('the quick start does what it says', async () => {
  assert.equal(val, '{"name":"Ada"}')
  assert.equal(await cache.exists('session:abc'), 0)
  assert.equal(count, '1')
  assert.equal(next, '{"id":1}')
  assert.equal(theme, 'dark')
  assert.equal(await cache.hget('config', 'lang'), 'tr')
  assert.equal(isActive, 1)
  assert(ttl > 290 && ttl <= 300, `${ttl}`)
  assert.deepEqual((await cache.keys('*')).sort(), [
    'active:users',
    'config',
    'hits:today',
    'temp:key',
    'user:123',
  ])
  await closeAll()
})
