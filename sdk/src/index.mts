/** The same for `import`: nothing but names, so that there is only one of everything. */

export { close, closeAll, FlectError, kv, Redis } from './index.js'
export type {
  Callback,
  ChainableCommander,
  FlectErrorCode,
  KvOptions,
  RedisKey,
  RedisOptions,
  RedisStatus,
  RedisValue,
} from './index.js'
