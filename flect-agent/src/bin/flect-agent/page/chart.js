// Lines over the last minutes, as SVG. A chart can be read with the pointer, with the arrow keys and
// as a sentence.

const SVG = "http://www.w3.org/2000/svg";
/** How far back charts go; before that there is so much, they show a minute or two. */
const WINDOW_MS = 180_000;
const MINUTE_MS = 60_000;
/** The floor of an axis in decades: no request takes less than some microseconds. */
const DECADES_FROM = 10;
/** Looks further apart than this are not joined: nobody looked in between. */
const GAP_MS = 3_500;

/** Makes an element with attributes; text goes in as text, never as markup. */
function element(name, attributes = {}, ...children) {
  const made = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** The least of 1, 2, 5 times a power of ten (of two, for sizes) that is not below. */
function ceiling(value, base) {
  if (!(value > 0)) return 1;
  const power = base ** Math.floor(Math.log(value) / Math.log(base));
  const steps = base === 10 ? [1, 2, 4, 5, 8, 10] : [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
  return power * steps.find((step) => step * power >= value * 0.9999);
}

/** Points of a line, parted where there are gaps. */
function runs(points, get) {
  const all = [];
  let last = null;
  for (const point of points) {
    const value = get(point);
    if (value === null || value === undefined) { last = null; continue; }
    if (last === null || point.at - last > GAP_MS) all.push([]);
    all.at(-1).push([point.at, value]);
    last = point.at;
  }
  return all;
}

/** A small line without axes. */
function spark(svg, points, get, width, height) {
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const now = points.at(-1)?.at ?? 0;
  const top = Math.max(...points.map((point) => get(point) ?? 0), 1e-9);
  const x = (at) => width - ((now - at) / MINUTE_MS) * width;
  const y = (value) => height - 2 - (value / top) * (height - 5);
  const shown = points.filter((point) => now - point.at <= MINUTE_MS);
  svg.replaceChildren(...paths(runs(shown, get), x, y, height, "", true));
}

function paths(parts, x, y, floor, style, filled) {
  return parts.flatMap((part) => {
    const line = part.map(([at, value], i) => `${i ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    const [first, last] = [x(part[0][0]).toFixed(1), x(part.at(-1)[0]).toFixed(1)];
    const made = [element("svg:path", { class: `line ${style}`, d: line, "vector-effect": "non-scaling-stroke" })];
    if (filled) made.unshift(element("svg:path", { class: "area", d: `${line}L${last} ${floor}L${first} ${floor}Z` }));
    return made;
  });
}

class Chart {
  /**
   * `lines`: [{name, style, get}], `format`: a value in words, `least`: the top of an axis with next to
   * nothing on it, `decades`: each power of ten takes the same height, `limit`: of the newest point.
   */
  constructor({ title, lines, format, least, base = 10, decades = false, limit = () => null }) {
    Object.assign(this, { title, lines, format, least, base, decades, limit, points: [], cursor: null });
    this.svg = element("svg:svg", { role: "img", tabindex: "0" });
    this.values = lines.map(() => element("b"));
    const legend = lines.map((line, i) => lines.length > 1
      ? element("span", {}, element("span", { class: `swatch ${line.style}` }), `${line.name} `, this.values[i])
      : this.values[i]);
    this.when = element("span", { class: "name" }, title);
    this.figure = element("figure", {}, element("figcaption", {}, this.when, ...legend), this.svg);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.at(null));
    this.svg.addEventListener("blur", () => this.at(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  show(points) {
    this.points = points;
    this.draw();
  }

  at(cursor) {
    this.cursor = cursor;
    this.draw();
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    const at = this.now() - (1 - (event.clientX - box.left - 4) / (box.width - 8)) * this.span();
    const distance = (point) => Math.abs(point.at - at);
    const nearest = this.points.reduce((best, point) => (!best || distance(point) < distance(best) ? point : best), null);
    this.at(nearest?.at ?? null);
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") this.at(null);
    if (!step || this.points.length === 0) return;
    event.preventDefault();
    const last = this.points.length - 1;
    const found = this.points.findIndex((point) => point.at === this.cursor);
    const to = Math.min(last, Math.max(0, (found < 0 ? last + 1 : found) + step));
    this.at(this.points[to].at);
    const { at } = this.points[to];
    say(`${this.ago(at)}: ${this.lines.map((line, i) => `${line.name} ${this.values[i].textContent}`).join(", ")}`);
  }

  now() {
    return this.points.at(-1)?.at ?? 0;
  }

  /** The time that the chart shows: whole minutes. */
  span() {
    const all = this.now() - (this.points[0]?.at ?? 0);
    return Math.min(WINDOW_MS, Math.max(1, Math.ceil(all / MINUTE_MS)) * MINUTE_MS);
  }

  /** The values that have a line, and how high a value is, from 0 to 1. */
  axis(highest) {
    if (!this.decades) {
      const top = ceiling(highest, this.base);
      return { values: [0, top / 2, top], height: (value) => value / top };
    }
    const tens = Math.ceil(Math.log10(highest / DECADES_FROM) - 1e-9);
    const values = Array.from({ length: tens + 1 }, (_, power) => DECADES_FROM * 10 ** power);
    return { values, height: (value) => Math.max(0, Math.log10(value / DECADES_FROM)) / tens };
  }

  ago(at) {
    const seconds = Math.round((this.now() - at) / 1000);
    return seconds === 0 ? "now" : `${figures.age(seconds * 1000)} ago`;
  }

  draw() {
    const width = this.svg.clientWidth || 400;
    const height = 132;
    const [left, right, upper, floor] = [4, width - 4, 18, height - 20];
    const now = this.now();
    const limit = this.points.length ? this.limit(this.points.at(-1)) : null;
    const all = this.points.flatMap((point) => this.lines.map((line) => line.get(point))).filter((v) => v !== null && v !== undefined);
    const highest = Math.max(0, ...all);
    // A limit far above would press the line to the floor.
    const limitShown = limit !== null && limit !== undefined && limit <= highest * 4 ? limit : null;
    const { values, height: part } = this.axis(Math.max(highest, limitShown ?? 0, this.least));
    const span = this.points.length ? this.span() : MINUTE_MS;
    const x = (at) => right - ((now - at) / span) * (right - left);
    const y = (value) => floor - part(value) * (floor - upper);
    const parts = [];
    const labels = [];
    for (const value of values) {
      const at = Math.round(y(value)) + 0.5;
      parts.push(element("svg:line", { class: "grid", x1: left, x2: right, y1: at, y2: at }));
      if (value !== values[0]) labels.push(element("svg:text", { x: left, y: at - 5 }, this.format(value)));
    }
    const ticks = span / MINUTE_MS > 1 ? [0, 1, 2, 3].filter((tick) => tick * MINUTE_MS <= span) : [0, 0.5, 1];
    for (const tick of ticks) {
      const anchor = tick * MINUTE_MS === span ? "start" : tick === 0 ? "end" : "middle";
      const words = tick === 0 ? "now" : tick < 1 ? "−30 s" : `−${tick} min`;
      labels.push(element("svg:text", { x: x(now - tick * MINUTE_MS), y: height - 5, "text-anchor": anchor }, words));
    }
    if (limitShown !== null) parts.push(element("svg:line", { class: "line limit", x1: left, x2: right, y1: y(limitShown), y2: y(limitShown) }));
    this.lines.forEach((line, i) => parts.push(...paths(runs(this.points, line.get), x, y, floor, line.style ?? "", i === 0)));
    const shown = this.points.find((point) => point.at === this.cursor) ?? this.points.at(-1);
    if (this.cursor !== null && shown) {
      parts.push(element("svg:line", { class: "cursor", x1: x(shown.at), x2: x(shown.at), y1: upper, y2: floor }));
      for (const line of this.lines) {
        const value = line.get(shown);
        if (value !== null && value !== undefined) parts.push(element("svg:circle", { class: `knob ${line.style ?? ""}`, cx: x(shown.at), cy: y(value), r: 4 }));
      }
    }
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren(...parts, ...labels);
    this.words(shown, limit);
  }

  /** The caption, and the sentence for who cannot see the line. */
  words(shown, limit) {
    this.when.textContent = this.cursor !== null && shown ? `${this.title}, ${this.ago(shown.at)}` : this.title;
    const sentences = this.lines.map((line, i) => {
      this.values[i].textContent = shown ? this.format(line.get(shown)) : "–";
      const values = this.points.map(line.get).filter((v) => v !== null && v !== undefined);
      if (values.length === 0) return `${line.name}: nothing yet`;
      const [low, high] = [Math.min(...values), Math.max(...values)].map(this.format);
      return `${line.name}: now ${this.format(line.get(this.points.at(-1)))}, from ${low} to ${high} in the last ${this.points.length} looks`;
    });
    if (limit !== null && limit !== undefined) sentences.push(`limit ${this.format(limit)}`);
    this.svg.setAttribute("aria-label", `${this.title}. ${sentences.join("; ")}. Arrow keys read single values.`);
  }
}
