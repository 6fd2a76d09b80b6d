// The code of the users' documentation, with a check behind each line that returns something.
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import Redis from 'ioredis'
import { closeAll, kv } from '@flect/sdk'

const user = { name: 'Ada' }
const token = 't0ken'
const job = { id: 1 }
const userId = 'u1'

// kv() returns an ioredis client, pre-configured from CACHE_URL
const cache = kv()
console.log(`connected to ${new URL(process.env.CACHE_URL).hostname}`)
// String operations
await cache.set('user:123', JSON.stringify(user))
await cache.set('session:abc', token, 'EX', 3600) // expires in 1h
const val = await cache.get('user:123')
assert.deepEqual(JSON.parse(val), user)
assert.equal(await cache.ttl('session:abc'), 3600)
await cache.del('session:abc')
assert.equal(await cache.exists('session:abc'), 0)
// Counters
await cache.incr('hits:today')
const count = await cache.get('hits:today')
assert.equal(count, '1')
// Lists
await cache.lpush('queue:jobs', JSON.stringify(job))
const next = await cache.rpop('queue:jobs')
assert.deepEqual(JSON.parse(next), job)
// Hash maps
await cache.hset('config', 'theme', 'dark', 'lang', 'tr')
const theme = await cache.hget('config', 'theme')
assert.equal(theme, 'dark')
// Sets
await cache.sadd('active:users', userId)
const isActive = await cache.sismember('active:users', userId)
assert.equal(isActive, 1)
// TTL
await cache.set('temp:key', 'x')
await cache.expire('temp:key', 300) // 5 minutes
const ttl = await cache.ttl('temp:key')
assert.equal(ttl, 300)

// Any client will do: the variable is all there is to it.
const plain = new Redis(process.env['CACHE_URL'])
await plain.set('my-key', 'value') // stored as <prefix>:my-key in Valkey
assert.equal(await cache.get('my-key'), 'value')
plain.disconnect()

const sessions = kv('SESSION_STORE')
async function createSession(userId) {
  const sessionId = crypto.randomUUID()
  await sessions.set(`session:${sessionId}`, userId, 'EX', 86400) // 24h
  return sessionId
}
async function getSession(sessionId) {
  return sessions.get(`session:${sessionId}`)
}
const session = await createSession('u7')
assert.equal(await getSession(session), 'u7')
assert.equal(await getSession('nobody'), null)

const limits = kv('RATE_LIMIT')
async function checkRateLimit(ip, limit = 100) {
  const key = `rl:${ip}:${Math.floor(Date.now() / 60000)}` // per minute
  const count = await limits.incr(key)
  if (count === 1) await limits.expire(key, 60)
  return count <= limit
}
// The minute may end between two calls: then the count begins anew.
const allowed = []
for (let call = 0; call < 3; call++) allowed.push(await checkRateLimit('10.0.0.1', 2))
assert.equal(allowed[0], true)

async function getCached(key, fetch, ttl = 300) {
  const cached = await cache.get(key)
  if (cached) return JSON.parse(cached)
  const data = await fetch()
  await cache.set(key, JSON.stringify(data), 'EX', ttl)
  return data
}
let fetched = 0
const fetch = async () => ({ n: ++fetched })
assert.deepEqual(await getCached('page', fetch), { n: 1 })
assert.deepEqual(await getCached('page', fetch), { n: 1 })

// KEYS * and SCAN only return keys belonging to the store.
const own = ['active:users', 'config', 'hits:today', 'my-key', 'page', 'temp:key', 'user:123']
assert.deepEqual((await cache.keys('*')).sort(), own)
const scanned = new Set()
let cursor = '0'
do {
  const [more, names] = await cache.scan(cursor)
  for (const name of names) scanned.add(name)
  cursor = more
} while (cursor !== '0')
assert.deepEqual([...scanned].sort(), own)
assert.deepEqual(await sessions.keys('*'), [`session:${session}`])

await closeAll()
console.log('all as documented')
