/** From the name of a binding to the URL in its variable. */

import { FlectError } from './error.js'

/** The binding of `kv()` without a name, as the documentation's first flect.toml has it. */
export const DEFAULT_BINDING = 'CACHE'

/** What flect.toml accepts as a binding: so every variable can be set by every shell. */
const NAME = /^[A-Z][A-Z0-9_]*$/

/** How many other bindings a message lists: enough to find a slip of the pen. */
const LISTED_MAX = 8

/** The variable of a binding: `CACHE` has `CACHE_URL`. */
export function variableOf(binding: string): string {
  if (typeof binding === 'string' && NAME.test(binding)) return `${binding}_URL`
  const given = typeof binding === 'string' ? `'${binding}'` : `a value of type ${typeof binding}`
  throw new FlectError(
    'ERR_FLECT_BINDING',
    String(binding),
    `kv() was given ${given}, which is not the name of a binding. Write the name as flect.toml ` +
      `has it: capital letters, digits and '_', a letter first.${meant(binding)}`,
  )
}

function meant(binding: unknown): string {
  if (typeof binding === 'object') return " Options are the second argument: kv('CACHE', { ... })"
  const name = String(binding)
    .toUpperCase()
    .replace(/[^A-Z0-9]+/g, '_')
  return NAME.test(name) ? ` Did you mean kv('${name}')?` : ''
}

/** The URL of a binding's store, known to be one that ioredis reads as it was meant. */
export function urlOf(binding: string): URL {
  const variable = variableOf(binding)
  const value = process.env[variable]?.trim()
  if (!value) throw missing(binding, variable)
  const reason = flaw(value)
  if (reason === undefined) return new URL(value)
  throw new FlectError(
    'ERR_FLECT_URL_INVALID',
    binding,
    `${variable} is not the address of a store: ${reason}. It should look like ` +
      `redis://HOST:PORT, or redis://NAME:TOKEN@HOST:PORT where a store is named; ` +
      `\`flect run -- COMMAND\` sets it so.`,
  )
}

/** Why a text is no address of a store; the text itself is not repeated. */
function flaw(text: string): string | undefined {
  if (!/^rediss?:\/\//i.test(text)) return 'it does not begin with redis:// or rediss://'
  if (!URL.canParse(text)) {
    return "it cannot be read as a URL (in a token, '/', '#', '?' and '@' are written %2F, %23, %3F and %40)"
  }
  const url = new URL(text)
  if (url.hostname === '') return 'it names no host'
  if (!/^\/?\d*$/.test(url.pathname)) return 'what follows the host is not the number of a database'
  try {
    decodeURIComponent(url.username + url.password)
  } catch {
    return "its user or token has a '%' that is not written %25"
  }
  return undefined
}

function missing(binding: string, variable: string): FlectError {
  const call = binding === DEFAULT_BINDING ? 'kv()' : `kv('${binding}')`
  const others = bindingsThatAreSet()
  const known = others.length === 0 ? '' : ` Bindings that are set: ${others.join(', ')}.`
  return new FlectError(
    'ERR_FLECT_URL_MISSING',
    binding,
    `${variable} is not set, so ${call} has no store to connect to.${known}

On the platform the variable comes from flect.toml, with the name of a store of \`flect kv list\`:

    [[kv]]
    binding = "${binding}"
    name = "my-store"

On your own machine, write ${variable}=redis://localhost:6379 into .env.local. Either way start the
app with \`flect run -- COMMAND\`, which reads both files (plain Node.js reads the latter with
\`node --env-file=.env.local\`).`,
  )
}

function bindingsThatAreSet(): string[] {
  const names = Object.entries(process.env)
    .filter(([name, value]) => /^[A-Z][A-Z0-9_]*_URL$/.test(name) && !flaw(value?.trim() ?? ''))
    .map(([name]) => name.slice(0, -'_URL'.length))
    .sort()
  return names.length > LISTED_MAX ? [...names.slice(0, LISTED_MAX), '...'] : names
}
