/** README.md, Without the SDK. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import Default from 'ioredis'

// README: Without the SDK

test('ioredis alone reaches the same store', async () => {
  assert.equal(await cache.get('my-key'), 'value')
  cache.disconnect()
  assert.equal(Default, Redis)
})
