/** `npm run build`: src/ to dist/, from nothing, so that no file outlives its source. */

import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
rmSync(`${root}/dist`, { recursive: true, force: true })
process.exitCode = spawnSync('tsc', ['--project', root], { stdio: 'inherit' }).status ?? 1
