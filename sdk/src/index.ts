/**
 * `@flect/sdk`: the app's side of Flect KV.
 *
 * The package is this CommonJS build; `index.mts` hands the same objects to `import`, so both ways
 * of loading it share everything.
 */

import type { Redis } from 'ioredis'
import { DEFAULT_BINDING } from './binding.js'
import { clientOf, closeEvery, closeOne, type KvOptions } from './clients.js'

export { Redis } from 'ioredis'
export type {
  Callback,
  ChainableCommander,
  RedisKey,
  RedisOptions,
  RedisStatus,
  RedisValue,
} from 'ioredis'
export type { KvOptions } from './clients.js'
export { FlectError, type FlectErrorCode } from './error.js'

/**
 * The client of a binding in flect.toml: an ioredis client, configured from the binding's variable
 * and shared by everyone in this process who asks for the binding.
 *
 * It is made by the first call and connects with its first command. After it has been ended, by
 * `close()`, `quit()` or `disconnect()`, the next call makes a new one.
 *
 * @param binding Its name as in flect.toml; `CACHE` where it is left out, which has `CACHE_URL`.
 * @param options For ioredis. Calls without options get the client as it is; a call with other
 *   options than the ones it was made with throws.
 * @throws {@link FlectError} When the name, the variable or the options cannot be used.
 */
export function kv(binding: string = DEFAULT_BINDING, options?: KvOptions): Redis {
  return clientOf(binding, options)
}

/**
 * Ends the client of a binding, if there is one: waits for the replies to what it has sent (at most
 * 5 seconds), then disconnects.
 *
 * @param binding As for {@link kv}.
 */
export async function close(binding: string = DEFAULT_BINDING): Promise<void> {
  await closeOne(binding)
}

/** Ends all clients that `kv()` made, each as {@link close} does; for a graceful shutdown. */
export function closeAll(): Promise<void> {
  return closeEvery()
}
