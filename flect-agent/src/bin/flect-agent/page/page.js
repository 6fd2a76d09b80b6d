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
  $("environment").hidden = true;
  text($("uptime"), "");
  health("wait", "locked");
  banner(had ? "The agent was started anew, and with it this page’s address changed." : "", true);
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
