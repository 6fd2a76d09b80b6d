/**
 * `npm run stage`: lays out `staged/`, an app that has the package installed as npm would, and
 * compiles the tests in it.
 *
 *     staged/node_modules/@flect/sdk    exactly the files that would be published
 *     staged/node_modules/...           what it depends on, without what only building needs
 *     staged/test/                      the tests, type-checked against the published types
 *
 * So a file missing from the package fails the tests, and `staged/` alone is enough to run them.
 */

import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { fill } from '../test/recipes.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const staged = join(root, 'staged')

function npm(...args) {
  const stdio = ['ignore', 'pipe', 'inherit']
  return execFileSync('npm', args, { cwd: root, encoding: 'utf8', stdio })
}

function copy(from, to) {
  mkdirSync(dirname(to), { recursive: true })
  cpSync(from, to, { recursive: true })
}

rmSync(staged, { recursive: true, force: true })
const [packed] = JSON.parse(npm('pack', '--dry-run', '--json', '--ignore-scripts'))
for (const { path } of packed.files) {
  copy(join(root, path), join(staged, 'node_modules', packed.name, path))
}
const files = packed.files.map(({ path }) => path).sort()
writeFileSync(join(staged, 'files.json'), JSON.stringify({ files }))
const installed = npm('ls', '--omit=dev', '--all', '--parseable').trim().split('\n').slice(1)
for (const folder of installed) copy(folder, join(staged, relative(root, folder)))

writeFileSync(join(staged, 'package.json'), JSON.stringify({ private: true, type: 'module' }))
copy(join(root, 'test'), join(staged, 'test'))
const recipes = join(staged, 'test/recipes')
const frames = readdirSync(recipes).map((name) => join(recipes, name))
const filled = fill(
  readFileSync(join(root, 'README.md'), 'utf8'),
  frames.map((path) => readFileSync(path, 'utf8')),
)
frames.forEach((path, index) => writeFileSync(path, filled[index]))
process.exitCode =
  spawnSync('tsc', ['--project', join(staged, 'test')], {
    stdio: 'inherit',
  }).status ?? 1
