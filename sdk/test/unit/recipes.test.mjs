/** The tool that puts README.md into the tests notices what is missing. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fill } from '../recipes.mjs'

const README = '# a\n```ts\none()\n```\n```sh\nls\n```\n## b\n```cjs\ntwo()\n```\n## c\n'

test('blocks come word for word where the frames name them', () => {
  const frames = ['before\n// README: a\nafter', '// README: b\n']
  assert.deepEqual(fill(README, frames), ['before\none()\n\nafter', 'two()\n\n'])
})

test('a block that nothing runs is an error', () => {
  assert.throws(() => fill(README, ['// README: a']), /no file .* runs the code below: b/)
})

test('a block that is not there is an error', () => {
  assert.throws(() => fill(README, ['// README: c']), /no code below 'c'/)
})

test('a second block below a heading is an error', () => {
  assert.throws(() => fill('# a\n```ts\n```\n```ts\n```\n', []), /two blocks of code below 'a'/)
})
