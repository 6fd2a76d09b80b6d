/** README.md, Sessions. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { closeAll } from '@flect/sdk'

// README: Sessions

test('a session is found by its id, and for a day', async () => {
  const id = await createSession('user-7')
  assert.match(id, /^[0-9a-f-]{36}$/)
  assert.equal(await getSession(id), 'user-7')
  assert.equal(await getSession('none'), null)
  const ttl = await store.ttl(`session:${id}`)
  assert(ttl > 86_390 && ttl <= 86_400, `${ttl}`)
  await closeAll()
})
