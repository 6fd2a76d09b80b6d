// Rates and percentiles from two looks at the agent's cumulative counters: what
// flect_agent::series does in Rust, and tested to agree with it. Knows no document.

const LISTED_MAX = 20;

/** What happened between two looks at the same agent; null when they are none. */
function between(before, after) {
  const seconds = (after.uptime_ms - before.uptime_ms) / 1000;
  if (!(seconds > 0)) return null;
  const earlier = new Map(before.stores.map((store) => [store.prefix, store]));
  const nothing = { requests: 0, errors: 0, refused: 0, delayed: 0, bytes_in: 0, bytes_out: 0,
    latency_us: { buckets: [] }, commands: [] };
  const stores = after.stores.map((store) => storeRates(earlier.get(store.prefix) ?? nothing, store, seconds));
  return {
    at_ms: after.at_ms,
    seconds,
    node: {
      requests_per_second: stores.reduce((sum, store) => sum + store.requests_per_second, 0),
      latency_p99_us: percentile(merged(stores.map((store) => store.latency)), 0.99),
      cpu_percent: Math.max(0, after.node.cpu_seconds - before.node.cpu_seconds) / seconds * 100,
    },
    stores,
  };
}

function storeRates(before, after, seconds) {
  const rate = (name) => Math.max(0, after[name] - before[name]) / seconds;
  const latency = gained(before.latency_us.buckets, after.latency_us.buckets);
  return {
    name: after.name,
    prefix: after.prefix,
    apps: after.apps,
    requests_per_second: rate("requests"),
    errors_per_second: rate("errors"),
    refused_per_second: rate("refused"),
    delayed_per_second: rate("delayed"),
    bytes_in_per_second: rate("bytes_in"),
    bytes_out_per_second: rate("bytes_out"),
    latency,
    latency_p50_us: percentile(latency, 0.5),
    latency_p99_us: percentile(latency, 0.99),
    memory_bytes: after.memory_bytes,
    key_count: after.key_count,
    sessions: after.sessions,
    limits: after.limits,
    commands: commandRates(before.commands, after.commands, seconds),
    keys: keyShares(after.keys),
  };
}

/** A command that has just come among the listed ones had at most the least of their counts. */
function commandRates(before, after, seconds) {
  const counts = new Map(before.map((command) => [command.name, command.count]));
  const least = before.length >= LISTED_MAX ? Math.min(...counts.values()) : 0;
  return after
    .map(({ name, count }) => ({ name, per_second: Math.max(0, count - (counts.get(name) ?? least)) / seconds }))
    .filter((command) => command.per_second > 0)
    .sort((a, b) => b.per_second - a.per_second);
}

function keyShares(keys) {
  const all = keys.reduce((sum, key) => sum + key.count, 0);
  return keys
    .filter((key) => key.count > 0)
    .map(({ key, count }) => ({ key, share: count / all }))
    .sort((a, b) => b.share - a.share);
}

/** What each bucket gained, in order of the bounds. */
function gained(before, after) {
  const counts = new Map(before);
  return after
    .map(([bound, count]) => [bound, Math.max(0, count - (counts.get(bound) ?? 0))])
    .filter(([, count]) => count > 0)
    .sort((a, b) => a[0] - b[0]);
}

function merged(histograms) {
  const counts = new Map();
  for (const [bound, count] of histograms.flat()) counts.set(bound, (counts.get(bound) ?? 0) + count);
  return [...counts].sort((a, b) => a[0] - b[0]);
}

/** The value that this part of all is at most, those of a bucket spread evenly over it. */
function percentile(buckets, part) {
  let rest = buckets.reduce((sum, [, count]) => sum + count, 0) * part;
  for (const [bound, count] of buckets) {
    if (rest <= count) return bound / 2 + (bound / 2) * (rest / count);
    rest -= count;
  }
  return null;
}
