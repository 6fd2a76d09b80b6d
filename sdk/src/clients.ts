/**
 * The clients of this process: one per binding, made when first asked for.
 *
 * They are kept on `globalThis`, not in this module, so that a process which loads the package
 * twice (two copies below node_modules, a development server that reloads modules) still has one
 * client per binding. Worker threads have clients of their own.
 */

import { isDeepStrictEqual } from 'node:util'
import { Redis, type RedisOptions } from 'ioredis'
import { urlOf, variableOf } from './binding.js'
import { FlectError } from './error.js'

/** What the URL says, and options therefore must not. */
const FROM_URL = ['host', 'port', 'path', 'username', 'password', 'sentinels', 'name'] as const

/** The options of ioredis, but for the ones that the URL in the environment holds. */
export type KvOptions = RedisOptions & { [Name in (typeof FROM_URL)[number]]?: never }

/** How long a closing client waits for the replies of commands it has sent, before it gives them
 * up: half of the 10 s that process managers commonly grant between SIGTERM and SIGKILL. */
const CLOSE_MS_MAX = 5_000

/** Where the state is: the part of the version in which its form does not change. A test compares
 * it with package.json. */
const STATE = Symbol.for('@flect/sdk@0.1')

interface Shared {
  client: Redis
  options: KvOptions
}

interface State {
  shared: Map<string, Shared>
  closing: Set<Promise<void>>
}

function state(): State {
  const world = globalThis as { [STATE]?: State }
  return (world[STATE] ??= { shared: new Map(), closing: new Set() })
}

/** The client of a binding. */
export function clientOf(binding: string, options: KvOptions | undefined): Redis {
  const found = state().shared.get(binding)
  if (found === undefined || found.client.status === 'end') return create(binding, options ?? {})
  if (options !== undefined && !isDeepStrictEqual(options, found.options)) {
    throw new FlectError(
      'ERR_FLECT_OPTIONS',
      binding,
      `kv('${binding}') has a client already, made with other options, and is shared. Give the ` +
        `options in one place, leave them out where the client is only used, or make a client ` +
        `of your own with kv('${binding}').duplicate(options).`,
    )
  }
  return found.client
}

function create(binding: string, options: KvOptions): Redis {
  const url = urlOf(binding)
  refuseWhatTheUrlSays(binding, options, url)
  // Connecting with the first command lets a build or a test load a module that calls kv().
  const client = new Redis(url.href, { lazyConnect: true, ...options })
  const shared = { client, options: { ...options } }
  state().shared.set(binding, shared)
  const forget = () => {
    if (state().shared.get(binding) === shared) state().shared.delete(binding)
  }
  client.once('end', forget)
  // 'end' comes late (after the last replies) or never (while ioredis waits to connect again), and
  // until then kv() must not hand out a client that is about to refuse commands.
  const { quit, disconnect } = client
  client.quit = function (this: Redis, ...given) {
    forget()
    return quit.apply(this, given)
  }
  client.disconnect = function (this: Redis, reconnect) {
    if (!reconnect) forget()
    disconnect.call(this, reconnect)
  }
  return client
}

function refuseWhatTheUrlSays(binding: string, options: object, url: URL): void {
  const variable = variableOf(binding)
  const twice = FROM_URL.find((name) => name in options)
  // ioredis would take the URL's database and say nothing.
  const database = 'db' in options && /\d/.test(url.pathname) ? 'db' : undefined
  const name = twice ?? database
  if (name === undefined) return
  throw new FlectError(
    'ERR_FLECT_OPTIONS',
    binding,
    `kv('${binding}') was given the option '${name}', which is for ${variable} to say. Change the ` +
      `variable instead, or make a client without it: new Redis(options).`,
  )
}

/** Ends the client of a binding, if there is one. */
export function closeOne(binding: string): Promise<void> {
  variableOf(binding)
  const { shared, closing } = state()
  const found = shared.get(binding)
  if (found === undefined) return Promise.resolve()
  shared.delete(binding)
  const ended = end(found.client).finally(() => closing.delete(ended))
  closing.add(ended)
  return ended
}

/** Ends all clients, and waits for those that are being ended already. */
export async function closeEvery(): Promise<void> {
  const { shared, closing } = state()
  for (const binding of shared.keys()) void closeOne(binding)
  await Promise.all(closing)
}

async function end(client: Redis): Promise<void> {
  // What automatic pipelining holds back is sent at the end of this turn.
  if (client.autoPipelineQueueSize > 0) await new Promise(setImmediate)
  if (client.status === 'end') return
  const ended = new Promise((resolve) => client.once('end', resolve))
  if (client.status !== 'wait') await withReplies(client)
  client.disconnect()
  if (client.status === 'reconnecting') {
    // There is no connection whose end would be noticed, and commands would wait for ever; an
    // attempt that is given up at once makes ioredis reject them.
    client.connect().catch(() => {})
    client.disconnect()
  }
  await ended
}

/** QUIT is answered after everything sent before it. */
async function withReplies(client: Redis): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, CLOSE_MS_MAX)
  })
  // That the connection broke is no news to one who closes it.
  const replied = client.quit().catch(() => {})
  await Promise.race([replied, late])
  clearTimeout(timer)
}
