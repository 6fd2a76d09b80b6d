/** Sharing, options and ends of clients, without a store. */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { afterEach, beforeEach, test } from 'node:test'
import { close, closeAll, FlectError, kv, Redis } from '@flect/sdk'

beforeEach(() => {
  // Nothing listens on port 1.
  for (const name of ['CACHE', 'SESSION_STORE']) process.env[`${name}_URL`] = 'redis://127.0.0.1:1'
})

afterEach(closeAll)

const code = (code: string) => (error: unknown) =>
  error instanceof FlectError && error.code === code

/** events.once() would fail with the 'error' that comes first. */
const waitsToConnectAgain = (client: Redis) =>
  new Promise((resolve) => client.once('reconnecting', resolve))

test('a binding has one client', () => {
  const cache = kv()
  assert(cache instanceof Redis)
  assert.equal(kv(), cache)
  assert.equal(kv('CACHE'), cache)
  assert.equal(kv(undefined, {}), cache)
  assert.notEqual(kv('SESSION_STORE'), cache)
})

test('the variable is read when the client is made', async () => {
  const cache = kv()
  delete process.env['CACHE_URL']
  assert.equal(kv(), cache)
  await close()
  assert.throws(() => kv(), code('ERR_FLECT_URL_MISSING'))
})

test('equal options are the same client, others are refused', () => {
  const retryStrategy = () => null
  const options = () => ({ connectionName: 'shop', retryStrategy })
  const cache = kv('CACHE', options())
  assert.equal(cache.options.connectionName, 'shop')
  assert.equal(kv(), cache)
  assert.equal(kv('CACHE', options()), cache)
  const refused = code('ERR_FLECT_OPTIONS')
  assert.throws(() => kv('CACHE', {}), refused)
  assert.throws(() => kv('CACHE', { connectionName: 'blog', retryStrategy }), refused)
  assert.throws(() => kv('CACHE', { ...options(), retryStrategy: () => null }), refused)
  assert.throws(() => kv('CACHE', { ...options(), db: 1 }), refused)
})

test('options that change later do not change what the client was made with', () => {
  const options = { connectionName: 'shop' }
  const cache = kv('CACHE', options)
  options.connectionName = 'blog'
  assert.throws(() => kv('CACHE', options), code('ERR_FLECT_OPTIONS'))
  assert.equal(kv('CACHE', { connectionName: 'shop' }), cache)
})

test('options cannot say what the URL says', () => {
  const refused = code('ERR_FLECT_OPTIONS')
  // @ts-expect-error: the types say so too
  assert.throws(() => kv('CACHE', { host: 'elsewhere' }), refused)
  // @ts-expect-error: likewise
  assert.throws(() => kv('CACHE', { password: 'other' }), refused)
  assert.equal(kv('CACHE', { db: 2 }).options.db, 2)
  process.env['SESSION_STORE_URL'] = 'redis://127.0.0.1:1/3'
  assert.throws(() => kv('SESSION_STORE', { db: 2 }), refused)
})

test('options of TLS join those of a rediss URL', () => {
  process.env['CACHE_URL'] = 'rediss://127.0.0.1:1'
  assert.deepEqual(kv('CACHE', { tls: { servername: 'kv' } }).options.tls, { servername: 'kv' })
})

test('an ended client is replaced', async () => {
  const first = kv()
  first.disconnect()
  const second = kv()
  assert.notEqual(second, first)
  void second.quit()
  const third = kv()
  assert.notEqual(third, second)
  await close()
  assert.equal(third.status, 'end')
  assert.notEqual(kv(), third)
})

test('the end of an old client leaves the new one alone', async () => {
  const first = kv()
  const ended = once(first, 'end')
  first.disconnect()
  const second = kv()
  await ended
  first.disconnect()
  assert.equal(kv(), second)
})

test('a client that gives up by itself is replaced', async () => {
  const first = kv('CACHE', { retryStrategy: () => null })
  first.on('error', () => {})
  await assert.rejects(first.get('key'))
  if (first.status !== 'end') await once(first, 'end')
  assert.notEqual(kv(), first)
})

test('a reconnect on purpose does not replace the client', () => {
  const cache = kv()
  cache.disconnect(true)
  assert.equal(kv(), cache)
})

test('a client that waits to connect again is replaced when it is disconnected', async () => {
  const first = kv('CACHE', { retryStrategy: () => 60_000 })
  first.on('error', () => {})
  const pending = first.get('key')
  await waitsToConnectAgain(first)
  first.disconnect()
  assert.notEqual(kv(), first)
  // As in close(), so that the command is not left waiting.
  first.connect().catch(() => {})
  first.disconnect()
  await assert.rejects(pending, /Connection is closed/)
})

test('nothing is there to be closed, and that is fine', async () => {
  await close()
  await close('SESSION_STORE')
  await closeAll()
  await assert.rejects(close('session'), code('ERR_FLECT_BINDING'))
})

async function listen(answer: (socket: Socket) => void): Promise<Server> {
  const server = createServer(answer).listen(0, '127.0.0.1')
  await once(server, 'listening')
  process.env['CACHE_URL'] = `redis://127.0.0.1:${(server.address() as AddressInfo).port}`
  return server
}

test('no connection is made before the first command', async () => {
  let connections = 0
  const server = await listen((socket) => {
    connections += 1
    socket.destroy()
  })
  const cache = kv('CACHE', { retryStrategy: () => null })
  cache.on('error', () => {})
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.equal(connections, 0)
  await assert.rejects(cache.get('key'))
  assert.equal(connections, 1)
  server.close()
})

/** What close() promises, with room for a busy machine. */
const CLOSE_MS = { min: 4_900, max: 15_000 }

test('a store that does not answer holds a close up for 5 s', async () => {
  const sockets: Socket[] = []
  const server = await listen((socket) => sockets.push(socket))
  const cache = kv('CACHE', { disconnectTimeout: 10 })
  const pending = assert.rejects(cache.get('key'), /Connection is closed/)
  await once(server, 'connection')
  const start = performance.now()
  await closeAll()
  const taken = performance.now() - start
  assert(taken > CLOSE_MS.min && taken < CLOSE_MS.max, `${taken} ms`)
  assert.equal(cache.status, 'end')
  await pending
  for (const socket of sockets) socket.destroy()
  server.close()
})

test('a store that is away holds a close up for 5 s, and no command waits for ever', async () => {
  const cache = kv('CACHE', { maxRetriesPerRequest: null })
  cache.on('error', () => {})
  const pending = assert.rejects(cache.get('key'), /Connection is closed/)
  await waitsToConnectAgain(cache)
  const start = performance.now()
  await Promise.all([close(), closeAll()])
  const taken = performance.now() - start
  assert(taken > CLOSE_MS.min && taken < CLOSE_MS.max, `${taken} ms`)
  assert.equal(cache.status, 'end')
  await pending
})

test('a store that is away and was asked nothing does not hold a close up', async () => {
  const cache = kv('CACHE', { retryStrategy: () => 60_000 })
  cache.on('error', () => {})
  cache.connect().catch(() => {})
  await waitsToConnectAgain(cache)
  const start = performance.now()
  await closeAll()
  assert(performance.now() - start < CLOSE_MS.min)
  assert.equal(cache.status, 'end')
})
