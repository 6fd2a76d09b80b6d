/** How the package is loaded: by import, by require, twice, and in a thread. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { afterEach, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import Original from 'ioredis'
import * as imported from '@flect/sdk'

const require = createRequire(import.meta.url)
const manifest = require('@flect/sdk/package.json') as { version: string }
const installed = join(require.resolve('@flect/sdk/package.json'), '..')

process.env['CACHE_URL'] = 'redis://127.0.0.1:1'
afterEach(imported.closeAll)

test('import and require give the same objects', () => {
  const required = require('@flect/sdk') as typeof imported
  for (const name of ['kv', 'close', 'closeAll', 'FlectError', 'Redis'] as const) {
    assert.equal(required[name], imported[name], name)
  }
  assert.deepEqual(Object.keys(imported).sort(), Object.keys(required).sort())
  assert.equal(imported.Redis, Original)
})

test('two copies of the package share their clients', () => {
  const copy = mkdtempSync(join(installed, '../../copy-'))
  try {
    cpSync(installed, copy, { recursive: true })
    const other = require(copy) as typeof imported
    assert.notEqual(other.kv, imported.kv)
    assert.equal(other.kv(), imported.kv())
  } finally {
    rmSync(copy, { recursive: true })
  }
})

test('the shared state is named after the version that keeps its form', () => {
  const [major, minor] = manifest.version.split('.')
  const part = major === '0' ? `0.${minor}` : major
  imported.kv()
  const symbols = Object.getOwnPropertySymbols(globalThis).map((symbol) => symbol.description)
  assert(symbols.includes(`@flect/sdk@${part}`), String(symbols))
})

test('a thread has clients of its own', async () => {
  const script = `
    const { kv } = require(${JSON.stringify(installed)})
    require('node:worker_threads').parentPort.postMessage(kv().status)
    kv().disconnect()`
  const main = imported.kv()
  const worker = new Worker(script, { eval: true })
  const status = await new Promise((resolve, reject) => {
    worker.on('message', resolve).on('error', reject)
  })
  assert.equal(status, 'wait')
  assert.equal(imported.kv(), main)
})

test('a process with an unused client ends by itself', () => {
  const script = `require(${JSON.stringify(installed)}).kv()`
  execFileSync(process.execPath, ['-e', script], { timeout: 60_000 })
})

test('the package holds what it should and nothing else', () => {
  const { files } = JSON.parse(readFileSync(join(installed, '../../../files.json'), 'utf8')) as {
    files: string[]
  }
  assert.deepEqual(
    files.filter((path) => !path.startsWith('dist/')),
    ['LICENSE', 'README.md', 'package.json'],
  )
})
