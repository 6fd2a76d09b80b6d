// The table of stores, and one store in detail.
//
// Rows are kept from look to look: whoever is in the table keeps focus, place and selection.

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
    new Chart({ title: "Requests per second", lines: [{ name: "requests", style: "", get: (p) => p.requests }], format: figures.rate, least: 1, limit: (p) => p.limits.commands_per_second }),
    new Chart({ title: "Latency", lines: [{ name: "p50", style: "", get: (p) => p.p50 }, { name: "p99", style: "p99", get: (p) => p.p99 }], format: figures.latency, least: 1_000, decades: true }),
    new Chart({ title: "Memory of keys and values", lines: [{ name: "memory", style: "", get: (p) => p.memory }], format: figures.size, base: 1024, least: 1 << 20, limit: (p) => p.limits.memory_bytes }),
    new Chart({ title: "Connections", lines: [{ name: "connections", style: "", get: (p) => p.sessions }], format: figures.count, least: 4, limit: (p) => p.limits.connections }),
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
