/** The one error class of the package, told apart by `code`. */

/** What went wrong:
 *
 * - `ERR_FLECT_BINDING`: what was given is no name of a binding;
 * - `ERR_FLECT_URL_MISSING`: the binding's variable is not set;
 * - `ERR_FLECT_URL_INVALID`: the variable holds no address of a store;
 * - `ERR_FLECT_OPTIONS`: options that say what the URL says, or other ones than the shared client's.
 */
export type FlectErrorCode =
  'ERR_FLECT_BINDING' | 'ERR_FLECT_URL_MISSING' | 'ERR_FLECT_URL_INVALID' | 'ERR_FLECT_OPTIONS'

/**
 * Thrown by `kv()` before there is a client. What the store or the connection says later comes from
 * ioredis. The message never holds the value of a variable, which may have a token in it.
 */
export class FlectError extends Error {
  override readonly name = 'FlectError'
  readonly code: FlectErrorCode
  /** The binding as it was asked for. */
  readonly binding: string

  /** @internal */
  constructor(code: FlectErrorCode, binding: string, message: string) {
    super(message)
    this.code = code
    this.binding = binding
  }
}
