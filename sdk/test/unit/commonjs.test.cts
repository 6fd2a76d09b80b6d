/** The types and the code as a CommonJS app sees them. */

import assert = require('node:assert/strict')
import nodeTest = require('node:test')
import sdk = require('@flect/sdk')
import { kv, type FlectErrorCode, type KvOptions, type Redis } from '@flect/sdk'

nodeTest.test('a CommonJS app has code and types', async () => {
  process.env['CACHE_URL'] = 'redis://127.0.0.1:1'
  const options: KvOptions = { enableAutoPipelining: true }
  const cache: Redis = kv('CACHE', options)
  assert.equal(sdk.kv(), cache)
  await sdk.closeAll()
  delete process.env['CACHE_URL']
  try {
    kv()
    assert.fail('nothing was thrown')
  } catch (error) {
    assert(error instanceof sdk.FlectError)
    const code: FlectErrorCode = error.code
    assert.equal(code, 'ERR_FLECT_URL_MISSING')
  }
})
