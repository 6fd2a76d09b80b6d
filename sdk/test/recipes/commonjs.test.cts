/** README.md, CommonJS. */

import assert = require('node:assert/strict')
import nodeTest = require('node:test')
import sdk = require('@flect/sdk')

// README: CommonJS

nodeTest.test('visits are counted', async () => {
  await sdk.kv().del('visits')
  assert.equal(await countVisit(), 1)
  assert.equal(await countVisit(), 2)
  await sdk.closeAll()
})
