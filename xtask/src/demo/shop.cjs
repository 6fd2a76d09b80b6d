// An app in Node.js with an unmodified ioredis. It answers each line of stdin, an expression, with
// one line: its value.
const Redis = require('ioredis');
const { inspect } = require('node:util');

const cache = new Redis(process.env.CACHE_URL);
// ioredis connects again by itself; the next command says whether it could.
cache.on('error', () => {});

const lines = require('node:readline').createInterface({ input: process.stdin });
(async () => {
  for await (const line of lines) {
    try {
      const value = await eval(`(async () => ${line})()`);
      console.log(inspect(Array.isArray(value) ? value.sort() : value, { breakLength: Infinity }));
    } catch (error) {
      console.log(error.message);
    }
  }
  cache.disconnect();
})();
