/** README.md, Graceful shutdown. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { kv } from '@flect/sdk'

// README: Graceful shutdown

test('SIGTERM ends the clients after their replies', async () => {
  const cache = kv()
  await cache.ping()
  const reply = cache.set('last', 'words')
  process.kill(process.pid, 'SIGTERM')
  await once(cache, 'end')
  assert.equal(await reply, 'OK')
})
