// Numbers as people read them at a glance, in the user's own notation.

const figures = {
  rate(perSecond) {
    if (perSecond < 0.05) return "0";
    if (perSecond < 9.95) return decimals(perSecond, 1);
    if (perSecond < 99950) return decimals(perSecond, 0);
    if (perSecond < 999500) return `${decimals(perSecond / 1e3, 0)}k`;
    return `${decimals(perSecond / 1e6, 2)}M`;
  },
  latency(microseconds) {
    if (microseconds === null || microseconds === undefined) return "–";
    if (microseconds < 999.5) return `${decimals(microseconds, 0)} µs`;
    if (microseconds < 9950) return `${decimals(microseconds / 1e3, 1)} ms`;
    if (microseconds < 999500) return `${decimals(microseconds / 1e3, 0)} ms`;
    return `${decimals(microseconds / 1e6, 1)} s`;
  },
  size(bytes) {
    if (bytes === null || bytes === undefined) return "–";
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = 0;
    while (bytes >= 1023.5 && power < units.length - 1) { bytes /= 1024; power += 1; }
    return `${decimals(bytes, power > 0 && bytes < 99.95 ? 1 : 0)} ${units[power]}`;
  },
  count(number) {
    return number === null || number === undefined ? "–" : decimals(number, 0);
  },
  percent(part) {
    return `${decimals(part, part < 9.95 && part > 0 ? 1 : 0)} %`;
  },
  age(milliseconds) {
    const seconds = Math.floor(milliseconds / 1000);
    const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.floor(seconds / unit));
    if (days > 0) return `${days} d ${hours % 24} h`;
    if (hours > 0) return `${hours} h ${minutes % 60} min`;
    return minutes > 0 ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
  },
  time(atMs) {
    return new Date(atMs).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  },
};

function decimals(number, digits) {
  return number.toLocaleString(undefined, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
