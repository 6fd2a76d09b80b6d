/** Names, variables and URLs: what is refused, and what the messages say. */

import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import { closeAll, FlectError, kv } from '@flect/sdk'

const kept = { ...process.env }

beforeEach(() => {
  for (const name of Object.keys(process.env)) {
    if (name.endsWith('_URL')) delete process.env[name]
  }
})

afterEach(async () => {
  await closeAll()
  process.env = { ...kept }
})

function refused(call: () => unknown): FlectError {
  try {
    call()
  } catch (error) {
    assert(error instanceof FlectError)
    assert(error instanceof Error)
    assert.equal(error.name, 'FlectError')
    return error
  }
  assert.fail('nothing was thrown')
}

test('a missing variable is explained', () => {
  const error = refused(() => kv())
  assert.equal(error.code, 'ERR_FLECT_URL_MISSING')
  assert.equal(error.binding, 'CACHE')
  assert.match(error.message, /^CACHE_URL is not set, so kv\(\) has no store/)
  assert.match(error.message, /binding = "CACHE"/)
  assert.match(error.message, /CACHE_URL=redis:\/\/localhost:6379 into \.env\.local/)
  assert.match(error.message, /flect run -- COMMAND/)
  assert.doesNotMatch(error.message, /Bindings that are set/)
})

test('a missing variable of a named binding is explained for that one', () => {
  const error = refused(() => kv('SESSION_STORE'))
  assert.equal(error.binding, 'SESSION_STORE')
  assert.match(
    error.message,
    /^SESSION_STORE_URL is not set, so kv\('SESSION_STORE'\) has no store/,
  )
  assert.match(error.message, /binding = "SESSION_STORE"/)
})

test('an empty variable counts as missing', () => {
  process.env['CACHE_URL'] = '  '
  assert.equal(refused(() => kv()).code, 'ERR_FLECT_URL_MISSING')
})

test('the bindings that are set are named, without their values', () => {
  process.env['SESSIONS_URL'] = 'redis://sessions:s3cret@127.0.0.1:1'
  process.env['LIMITS_URL'] = 'rediss://127.0.0.1:1'
  process.env['HOMEPAGE_URL'] = 'https://example.org'
  const { message } = refused(() => kv('SESSION'))
  assert.match(message, /Bindings that are set: LIMITS, SESSIONS\./)
  assert.doesNotMatch(message, /s3cret|127\.0\.0\.1/)
})

test('many bindings are not all listed', () => {
  for (let number = 10; number < 30; number++) process.env[`B${number}_URL`] = 'redis://h'
  assert.match(refused(() => kv()).message, /B10, B11, B12, B13, B14, B15, B16, B17, \.\.\.\./)
})

for (const [name, suggestion] of [
  ['cache', 'CACHE'],
  ['session-store', 'SESSION_STORE'],
  ['Rate Limit', 'RATE_LIMIT'],
  ['CACHÉ', 'CACH_'],
  ['', undefined],
  ['_CACHE', undefined],
  ['1ST', undefined],
  ['CACHE\n', 'CACHE_'],
] as const) {
  test(`${JSON.stringify(name)} is not the name of a binding`, () => {
    const error = refused(() => kv(name))
    assert.equal(error.code, 'ERR_FLECT_BINDING')
    assert.equal(error.binding, name)
    if (suggestion === undefined) assert.doesNotMatch(error.message, /Did you mean/)
    else assert(error.message.endsWith(`Did you mean kv('${suggestion}')?`), error.message)
  })
}

test('what is no text is not the name of a binding', () => {
  // @ts-expect-error: options are not the first argument
  const error = refused(() => kv({ db: 1 }))
  assert.equal(error.code, 'ERR_FLECT_BINDING')
  assert.match(error.message, /Options are the second argument/)
  // @ts-expect-error: nor is a number a name
  assert.equal(refused(() => kv(7)).code, 'ERR_FLECT_BINDING')
  // @ts-expect-error: nor null
  assert.equal(refused(() => kv(null)).code, 'ERR_FLECT_BINDING')
})

for (const [url, reason] of [
  ['localhost:6379', /does not begin with redis:/],
  ['http://localhost:6379', /does not begin with redis:/],
  ['s3cret', /does not begin with redis:/],
  ['/run/s3cret.sock', /does not begin with redis:/],
  ['redis://', /cannot be read as a URL|names no host/],
  ['redis:///0', /names no host/],
  ['redis://user:s3cret#1@host:6379', /cannot be read as a URL/],
  ['redis://host:s3cret', /cannot be read as a URL/],
  ['redis://host:65536', /cannot be read as a URL/],
  ['redis://host/s3cret', /not the number of a database/],
  ['redis://user:s3cret%zz@host', /written %25/],
] as const) {
  test(`${url} is not the address of a store`, () => {
    process.env['CACHE_URL'] = url
    const error = refused(() => kv())
    assert.equal(error.code, 'ERR_FLECT_URL_INVALID')
    assert.match(error.message, /^CACHE_URL is not the address of a store: /)
    assert.match(error.message, reason)
    assert.doesNotMatch(error.message, /s3cret/)
  })
}

for (const [url, expect] of [
  ['redis://localhost', { host: 'localhost', port: 6379, username: null, password: null, db: 0 }],
  ['redis://10.0.0.5:7000/', { host: '10.0.0.5', port: 7000, db: 0 }],
  ['redis://[::1]:7000/3', { host: '::1', port: 7000, db: 3 }],
  ['redis://store2:store2@h:1', { host: 'h', username: 'store2', password: 'store2' }],
  ['redis://a:p%40s%25s@h', { username: 'a', password: 'p@s%s' }],
  ['rediss://h', { host: 'h', tls: true }],
  ['REDIS://h:1', { host: 'h', port: 1 }],
  [' redis://h:1\n', { host: 'h', port: 1 }],
] as const) {
  test(`${JSON.stringify(url)} is read as it is meant`, () => {
    process.env['CACHE_URL'] = url
    const options = kv().options as Record<string, unknown>
    const got = Object.fromEntries(Object.keys(expect).map((name) => [name, options[name]]))
    assert.deepEqual(got, expect)
  })
}
