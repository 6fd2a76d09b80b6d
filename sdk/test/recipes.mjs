/**
 * The code of README.md, put word for word into the tests that run it.
 *
 * A frame is a test with a line `// README: HEADING`, which becomes the code block below that
 * heading. Every block of TypeScript or JavaScript must be in some frame.
 */

/** A fenced block of code that Node.js can run. */
const BLOCK = /^```(?:ts|cjs)\n(.*?)^```$/gms
const PLACE = /^\/\/ README: (.+)$/gm

/** The blocks by their headings. */
export function blocks(readme) {
  const found = new Map()
  for (const section of readme.split(/^#+ /m).slice(1)) {
    const heading = section.slice(0, section.indexOf('\n'))
    const codes = [...section.matchAll(BLOCK)].map(([, code]) => code)
    if (codes.length === 0) continue
    if (codes.length > 1 || found.has(heading)) {
      throw new Error(`README.md has two blocks of code below '${heading}'`)
    }
    found.set(heading, codes[0])
  }
  return found
}

/** The frames with the blocks in their places. */
export function fill(readme, frames) {
  const code = blocks(readme)
  const unused = new Set(code.keys())
  const filled = frames.map((frame) =>
    frame.replace(PLACE, (_, heading) => {
      unused.delete(heading)
      if (code.has(heading)) return code.get(heading)
      throw new Error(`README.md has no code below '${heading}', which a test wants to run`)
    }),
  )
  if (unused.size > 0) {
    throw new Error(`no file in test/recipes/ runs the code below: ${[...unused].join(', ')}`)
  }
  return filled
}
