/** README.md, Rate limit. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { closeAll } from '@flect/sdk'

// README: Rate limit

test('a client is let through as often as the limit says', async (context) => {
  // The minute must not end within the test.
  const minute = 29_000_000
  context.mock.method(Date, 'now', () => minute * 60_000)
  const allowed = []
  for (let call = 0; call < 5; call++) allowed.push(await checkRateLimit('10.0.0.1', 3))
  assert.deepEqual(allowed, [true, true, true, false, false])
  assert.equal(await checkRateLimit('10.0.0.2', 3), true)
  const ttl = await store.ttl(`rl:10.0.0.1:${minute}`)
  assert(ttl > 50 && ttl <= 60, `${ttl}`)
  context.mock.restoreAll()
  assert.equal(await checkRateLimit('10.0.0.1'), true)
  await closeAll()
})
