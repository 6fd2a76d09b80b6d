// The page: asks the agent every second, keeps the last minutes, draws. Everything from the agent goes
// into the document as text.

/** As often as people can follow. */
const POLL_MS = 1_000;
/** The agent answers at once; past this it hangs. */
const ANSWER_WITHIN_MS = 5_000;

const $ = (id) => document.getElementById(id);
const state = {
  token: null, before: null, rates: null, status: null, refusals: [], history: new Map(), node: [],
  selected: null, sort: "requests", ascending: false, filter: "", paused: false, asking: false, timer: null, lostAt: null,
};

function say(text) {
  $("spoken").textContent = text;
}

function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

// ---- the conversation with the agent

/** The token stands in the address once; then it is kept for this tab alone and leaves the history. */
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  state.token = given ?? sessionStorage.getItem("token");
}

async function ask(path) {
  const response = await fetch(path, {
    headers: { authorization: `Bearer ${state.token}` }, cache: "no-store", signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
  });
  if (response.status === 401) throw new Locked();
  if (!response.ok) throw new Error(`the agent answers ${response.status}`);
  return response.json();
}

class Locked extends Error {}

async function poll() {
  clearTimeout(state.timer);
  if (state.paused || document.hidden || state.asking || !state.token) return;
  const began = performance.now();
  state.asking = true;
  try {
    const [metrics, status] = await Promise.all([ask("/metrics.json"), ask("/status.json")]);
    take(metrics, status);
  } catch (error) {
    if (error instanceof Locked) return lock();
    lost();
  } finally {
    state.asking = false;
  }
  state.timer = setTimeout(poll, Math.max(100, POLL_MS - (performance.now() - began)));
}

function take(metrics, status) {
  state.status = status;
  state.refusals = metrics.refusals;
  const rates = state.before && between(state.before, metrics);
  // Another agent than before: what was measured of that one says nothing about this one.
  if (state.before && metrics.uptime_ms < state.before.uptime_ms) state.history.clear();
  state.before = metrics;
  if (rates) remember(rates);
  if (state.lostAt !== null) say("The agent answers again.");
  state.lostAt = null;
  $("locked").hidden = true;
  $("main").hidden = false;
  draw();
}

function remember(rates) {
  state.rates = rates;
  const fresh = (points) => points.filter((point) => rates.at_ms - point.at <= WINDOW_MS);
  state.node = [...fresh(state.node), { at: rates.at_ms, requests: rates.node.requests_per_second }];
  const history = new Map();
  for (const store of rates.stores) {
    const points = fresh(state.history.get(store.prefix) ?? []);
    points.push({
      at: rates.at_ms, requests: store.requests_per_second, p50: store.latency_p50_us, p99: store.latency_p99_us,
      memory: store.memory_bytes, sessions: store.sessions, limits: store.limits,
    });
    history.set(store.prefix, points);
  }
  state.history = history;
}

function lost() {
  state.lostAt ??= Date.now();
  state.status ??= { valkey: { reachable: true } };
  drawBanner();
}

function lock() {
  const had = state.before !== null;
  state.token = null;
  sessionStorage.removeItem("token");
  state.before = null;
  $("main").hidden = true;
  $("locked").hidden = false;
  health("bad", "locked");
  if (had) banner("The agent was started anew, and with it this page’s address changed.");
}

// ---- drawing

function health(kind, words) {
  $("health").dataset.state = kind;
  text($("health-text"), words);
  document.title = kind === "good" ? "Flect KV" : `${words} – Flect KV`;
}

function banner(words, mild = false) {
  $("banner").hidden = !words;
  $("banner").classList.toggle("mild", mild);
  if (words) text($("banner"), words);
}

function drawBanner() {
  const { status } = state;
  if (state.lostAt !== null) {
    health("bad", "agent gone");
    banner(`The agent has not answered since ${figures.time(state.lostAt)}. Figures are from then; it is asked again every second.`);
  } else if (state.paused) {
    health("wait", "paused");
    banner("");
  } else if (!status.valkey.reachable) {
    health("bad", "Valkey gone");
    banner(`Valkey at ${status.valkey.address} does not answer the agent. Apps’ requests fail until it does.`);
  } else {
    health(status.ready ? "good" : "wait", status.ready ? "serving" : "starting");
    banner("");
  }
}

function draw() {
  drawBanner();
  drawNode();
  drawApps();
  drawRefusals();
  if (state.rates) {
    drawStores();
    drawDetail();
  }
}

function drawNode() {
  const { status, before, rates } = state;
  const node = before.node;
  text($("environment"), status.environment ?? "");
  $("environment").hidden = !status.environment;
  text($("uptime"), `up ${figures.age(before.uptime_ms)}`);
  text($("node-requests"), rates ? figures.rate(rates.node.requests_per_second) : "–");
  text($("node-p99"), figures.latency(rates?.node.latency_p99_us));
  text($("node-cpu"), rates ? figures.percent(rates.node.cpu_percent) : "–");
  text($("node-sessions"), figures.count(node.sessions));
  text($("node-upstreams"), figures.count(node.upstreams));
  text($("node-rss"), figures.size(node.rss_bytes));
  spark($("node-spark"), state.node, (point) => point.requests, 300, 60);
  const { valkey, acceleration } = status;
  $("valkey").replaceChildren(
    element("span", { class: valkey.reachable ? "good" : "bad" }, valkey.reachable ? "reachable" : "not reachable"),
    ` at ${valkey.address}${valkey.version ? `, version ${valkey.version}` : ""}`);
  const way = (name) => (acceleration[name] ? "on" : "off");
  $("acceleration").replaceChildren(...(acceleration
    ? [element("span", { class: acceleration.client_to_agent && acceleration.agent_to_client ? "good" : "" },
      `app to agent ${way("client_to_agent")}, agent to app ${way("agent_to_client")}`),
      acceleration.reason ? `: ${acceleration.reason}` : ""]
    : ["not used"]));
  text($("agent"), `version ${status.version}, process ${status.pid}, ${node.workers} workers`);
}

const columns = [
  { id: "name", head: "Store", left: true, value: (store) => store.name },
  { id: "apps", head: "Apps", left: true, value: (store) => store.apps.join(", ") },
  { id: "requests", head: "Requests/s", value: (store) => store.requests_per_second, show: (store) => figures.rate(store.requests_per_second) },
  { id: "p50", head: "p50", value: (store) => store.latency_p50_us ?? -1, show: (store) => figures.latency(store.latency_p50_us) },
  { id: "p99", head: "p99", value: (store) => store.latency_p99_us ?? -1, show: (store) => figures.latency(store.latency_p99_us) },
  { id: "errors", head: "Errors/s", trouble: true, value: (store) => store.errors_per_second, show: (store) => figures.rate(store.errors_per_second) },
  { id: "refused", head: "Refused/s", trouble: true, value: (store) => store.refused_per_second, show: (store) => figures.rate(store.refused_per_second) },
  { id: "memory", head: "Memory", value: (store) => store.memory_bytes ?? -1, show: (store) => figures.size(store.memory_bytes), of: (store) => store.limits.memory_bytes && figures.size(store.limits.memory_bytes) },
  { id: "connections", head: "Connections", value: (store) => store.sessions, show: (store) => figures.count(store.sessions), of: (store) => store.limits.connections && figures.count(store.limits.connections) },
];
const rows = new Map();

function buildHeads() {
  for (const column of columns) {
    const button = element("button", { type: "button" }, column.head);
    const head = element("th", { scope: "col", class: column.left ? "left" : "" }, button);
    button.addEventListener("click", () => sortBy(column));
    column.cell = head;
    $("heads").append(head);
  }
  $("heads").append(element("th", { scope: "col" }, element("span", {}, "Last minute")));
  markSort();
}

function sortBy(column) {
  state.ascending = state.sort === column.id ? !state.ascending : Boolean(column.left);
  state.sort = column.id;
  markSort();
  say(`Sorted by ${column.head}, ${state.ascending ? "ascending" : "descending"}.`);
  if (state.rates) drawStores(true);
}

function markSort() {
  for (const column of columns) {
    if (column.id === state.sort) column.cell.setAttribute("aria-sort", state.ascending ? "ascending" : "descending");
    else column.cell.removeAttribute("aria-sort");
  }
}

function buildRow(store) {
  const name = element("button", { type: "button", tabindex: "-1" });
  const row = element("tr", {}, element("th", { scope: "row", class: "left" }, name));
  const cells = columns.slice(1).map((column) => element("td", { class: column.left ? "left apps-cell" : "" }));
  const trend = element("svg:svg", { "aria-hidden": "true" });
  row.append(...cells, element("td", { class: "trend" }, trend));
  row.addEventListener("click", () => select(store.prefix, true));
  name.addEventListener("keydown", (event) => rowKey(event, row));
  return { row, name, cells, trend, prefix: store.prefix };
}

function rowKey(event, row) {
  const all = [...$("rows").children];
  const at = all.indexOf(row);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const next = all[Math.min(all.length - 1, Math.max(0, to))];
  const made = [...rows.values()].find((entry) => entry.row === next);
  select(made.prefix, true);
}

function select(prefix, focus) {
  state.selected = prefix;
  drawStores();
  drawDetail();
  if (focus) rows.get(prefix)?.name.focus();
}

function visibleStores() {
  const wanted = state.filter.trim().toLowerCase();
  const column = columns.find((entry) => entry.id === state.sort);
  const order = (a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    const way = typeof x === "string" ? x.localeCompare(y) : x - y;
    return (state.ascending ? way : -way) || a.name.localeCompare(b.name);
  };
  return state.rates.stores
    .filter((store) => `${store.name} ${store.apps.join(" ")}`.toLowerCase().includes(wanted))
    .sort(order);
}

function drawStores(anew = false) {
  const body = $("rows");
  const stores = visibleStores();
  const held = !anew && body.matches(":hover, :focus-within");
  if (held) {
    // Rows must not move away under the pointer or the focus; new ones come at the end.
    const place = new Map([...body.children].map((row, i) => [row, i]));
    const at = (store) => place.get(rows.get(store.prefix)?.row) ?? Infinity;
    stores.sort((a, b) => at(a) - at(b) || 0);
  }
  if (!stores.some((store) => store.prefix === state.selected)) state.selected = stores[0]?.prefix ?? null;
  const focused = body.contains(document.activeElement) ? document.activeElement : null;
  const wanted = stores.map((store) => {
    if (!rows.has(store.prefix)) rows.set(store.prefix, buildRow(store));
    drawRow(rows.get(store.prefix), store);
    return rows.get(store.prefix).row;
  });
  if (wanted.length !== body.children.length || wanted.some((row, i) => body.children[i] !== row)) {
    body.replaceChildren(...wanted);
    if (focused?.isConnected) focused.focus({ preventScroll: true });
  }
  const known = new Set(state.rates.stores.map((store) => store.prefix));
  for (const prefix of rows.keys()) if (!known.has(prefix)) rows.delete(prefix);
  const all = state.rates.stores.length;
  text($("stores-count"), stores.length === all ? `${all}` : `${stores.length} of ${all}`);
  $("none").hidden = stores.length > 0;
  text($("none"), all ? `No store or app has “${state.filter}” in its name.` : "No stores yet: make one with flect kv create NAME.");
}

function drawRow(made, store) {
  const selected = store.prefix === state.selected;
  text(made.name, store.name);
  made.name.setAttribute("tabindex", selected ? "0" : "-1");
  made.name.setAttribute("aria-pressed", String(selected));
  made.row.toggleAttribute("data-selected", selected);
  columns.slice(1).forEach((column, i) => {
    const cell = made.cells[i];
    const value = column.show ? column.show(store) : column.value(store);
    const limit = column.of?.(store);
    if (limit) {
      if (cell.textContent !== `${value} / ${limit}`) cell.replaceChildren(value, element("span", { class: "of" }, ` / ${limit}`));
    } else text(cell, value);
    if (column.trouble) cell.className = column.value(store) > 0 ? "bad" : "zero";
  });
  spark(made.trend, state.history.get(store.prefix) ?? [], (point) => point.requests, 100, 24);
}

let charts = [];

function buildCharts() {
  charts = [
    new Chart({ title: "Requests per second", lines: [{ name: "requests", style: "", get: (p) => p.requests }], format: figures.rate, limit: (p) => p.limits.commands_per_second }),
    new Chart({ title: "Latency", lines: [{ name: "p50", style: "", get: (p) => p.p50 }, { name: "p99", style: "p99", get: (p) => p.p99 }], format: figures.latency }),
    new Chart({ title: "Memory of keys and values", lines: [{ name: "memory", style: "", get: (p) => p.memory }], format: figures.size, base: 1024, limit: (p) => p.limits.memory_bytes }),
    new Chart({ title: "Connections", lines: [{ name: "connections", style: "", get: (p) => p.sessions }], format: figures.count, limit: (p) => p.limits.connections }),
  ];
  $("charts").replaceChildren(...charts.map((chart) => chart.figure));
}

function drawDetail() {
  const store = state.rates.stores.find((entry) => entry.prefix === state.selected);
  $("detail").hidden = !store;
  if (!store) return;
  text($("detail-name"), store.name);
  const { limits } = store;
  const limit = [
    limits.memory_bytes && `memory ${figures.size(limits.memory_bytes)}`,
    limits.connections && `${figures.count(limits.connections)} connections`,
    limits.commands_per_second && `${figures.count(limits.commands_per_second)} commands/s`,
  ].filter(Boolean).join(", ");
  const facts = [
    ["Prefix", store.prefix], ["Apps", store.apps.join(", ") || "none on this node"], ["Keys", figures.count(store.key_count)],
    ["In", `${figures.size(store.bytes_in_per_second)}/s`], ["Out", `${figures.size(store.bytes_out_per_second)}/s`],
    ["Waiting for its rate", `${figures.rate(store.delayed_per_second)}/s`], ["Limits", limit || "none"],
  ];
  $("detail-facts").replaceChildren(...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  const points = state.history.get(store.prefix) ?? [];
  for (const chart of charts) chart.show(points);
  const most = store.commands[0]?.per_second;
  bars($("commands"), store.commands.slice(0, 8).map((c) => [c.name, c.per_second / most, `${figures.rate(c.per_second)}/s`]), "none in the last second");
  bars($("keys"), store.keys.slice(0, 8).map((k) => [k.key, k.share / store.keys[0].share, figures.percent(k.share * 100)]), "none seen yet");
}

function bars(list, entries, nothing) {
  const items = entries.map(([name, part, figure]) => element("li", {},
    element("span", { class: "key", title: name }, name),
    element("svg:svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" }, element("svg:rect", { width: 100 * part, height: 8 })),
    element("span", { class: "figure" }, figure)));
  list.replaceChildren(...(items.length ? items : [element("li", { class: "nothing" }, nothing)]));
}

/** Lists that seldom change are left alone, so that reading them is not disturbed. */
const drawn = new WeakMap();
function onChange(list, value, build) {
  const now = JSON.stringify(value);
  if (drawn.get(list) === now) return;
  drawn.set(list, now);
  list.replaceChildren(...build());
}

function drawApps() {
  const apps = state.status.apps ?? [];
  onChange($("apps"), apps, () => apps.length ? apps.map((app) => element("li", {}, element("b", {}, app.name),
    ...app.stores.map((store, i) => element("span", { class: "chip" }, store, i === 0 && app.stores.length > 1 ? element("small", {}, " default") : "")),
    ...(app.missing ?? []).map((store) => element("span", { class: "chip bad" }, `${store} does not exist`)),
  )) : [element("li", { class: "faint" }, "No apps in agent.toml yet.")]);
}

function drawRefusals() {
  const refusals = [...state.refusals].sort((a, b) => b.at_ms - a.at_ms);
  text($("refusals-count"), refusals.length ? `${refusals.length}` : "");
  onChange($("refusals"), refusals, () => refusals.length ? refusals.map((refusal) => element("li", {},
    element("time", { datetime: new Date(refusal.at_ms).toISOString() }, figures.time(refusal.at_ms)), refusal.reason,
    element("span", { class: "key" }, refusal.cgroup))) : [element("li", { class: "faint" }, "None since the agent’s start.")]);
}

// ---- controls

function theme(next) {
  const words = ["auto", "light", "dark"];
  let now = localStorage.getItem("theme") ?? "auto";
  if (next) now = words[(words.indexOf(now) + 1) % words.length];
  localStorage.setItem("theme", now);
  document.documentElement.dataset.theme = now;
  text($("theme"), `Theme: ${now}`);
}

function start() {
  buildHeads();
  buildCharts();
  theme(false);
  $("theme").addEventListener("click", () => theme(true));
  $("pause").addEventListener("click", () => {
    state.paused = !state.paused;
    $("pause").setAttribute("aria-pressed", String(state.paused));
    text($("pause"), state.paused ? "Go on" : "Pause");
    if (state.paused && state.status) drawBanner();
    poll();
  });
  $("filter").addEventListener("input", (event) => {
    state.filter = event.target.value;
    if (!state.rates) return;
    drawStores(true);
    drawDetail();
    say(`${$("rows").children.length} stores match.`);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== $("filter")) {
      event.preventDefault();
      $("filter").focus();
    }
  });
  document.addEventListener("visibilitychange", poll);
  addEventListener("hashchange", begin);
  begin();
}

function begin() {
  takeToken();
  banner("");
  if (state.token) poll();
  else lock();
}

start();
