/** README.md, Publish and subscribe. */

import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { closeAll } from '@flect/sdk'

const log = mock.method(console, 'log', () => {})

// README: Publish and subscribe

test('a message reaches the subscriber', async () => {
  const late = Date.now() + 10_000
  while (log.mock.callCount() === 0 && Date.now() < late) {
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  assert.deepEqual(log.mock.calls[0]?.arguments, ['news', 'hello'])
  log.mock.restore()
  subscriber.disconnect()
  await closeAll()
})
