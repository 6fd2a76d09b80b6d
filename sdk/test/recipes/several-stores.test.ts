/** README.md, Several stores. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { closeAll } from '@flect/sdk'

// README: Several stores

test('each is a store of its own', async () => {
  await sessions.set('several', 'sessions')
  await limits.set('several', 'limits')
  assert.equal(await sessions.get('several'), 'sessions')
  assert.equal(await limits.get('several'), 'limits')
  await closeAll()
})
