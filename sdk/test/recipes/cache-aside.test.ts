/** README.md, Cache-aside. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { closeAll } from '@flect/sdk'

// README: Cache-aside

test('what was fetched once is taken from the cache', async () => {
  await store.del('page:1')
  let fetched = 0
  const page = async () => ({ number: ++fetched })
  for (let call = 0; call < 3; call++) {
    const got: { number: number } = await getCached('page:1', page, 60)
    assert.deepEqual(got, { number: 1 })
  }
  assert.equal(fetched, 1)
  const ttl = await store.ttl('page:1')
  assert(ttl > 50 && ttl <= 60, `${ttl}`)
  await store.del('page:1')
  assert.deepEqual(await getCached('page:1', page), { number: 2 })
  await closeAll()
})
