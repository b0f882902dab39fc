// Numbers and times as people read them.

const N = new Intl.NumberFormat("en");

/** Millijoules of a watt hour. */
export const MJ_A_WH = 3.6e6;

export const count = (n) => N.format(Math.round(n));

/** 1234 → "1.2 k". */
export function short(n) {
  if (Math.abs(n) < 1000) return `${Math.round(n * 100) / 100}`;
  for (const [unit, size] of [["k", 1e3], ["M", 1e6], ["G", 1e9]]) {
    if (Math.abs(n) < size * 1000 || unit === "G") return `${trim(n / size)} ${unit}`;
  }
}

const trim = (n) => (Math.abs(n) >= 100 ? n.toFixed(0) : n.toFixed(1).replace(/\.0$/, ""));

export function bytes(n) {
  if (n === null || n === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? n : trim(n)} ${units[unit]}`;
}

/** Milliseconds, as short as can be. */
export function ms(n) {
  if (n === null || n === undefined) return "–";
  if (n < 1000) return `${Math.round(n)} ms`;
  if (n < 60_000) return `${trim(n / 1000)} s`;
  return span(n / 1000);
}

/** Seconds as "2 d 3 h". */
export function span(seconds) {
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const shown = [];
  for (const [unit, size] of parts) {
    const n = Math.floor(seconds / size);
    if (n > 0 && shown.length < 2) shown.push(`${n} ${unit}`);
    seconds -= n * size;
    if (shown.length && unit === "min") break;
  }
  return shown.join(" ") || "0 s";
}

/** When, short: the time today, the day before that. */
export function when(at) {
  const date = new Date(at);
  const today = new Date();
  const isToday = date.toDateString() === today.toDateString();
  const isThisYear = date.getFullYear() === today.getFullYear();
  if (isToday) return date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const day = { day: "numeric", month: "short" };
  return date.toLocaleDateString("en-GB", isThisYear ? day : { ...day, year: "numeric" });
}

/** A day as it is counted by, 2026-09-29, as people read it; it does not break. */
export const day = (of) => new Date(of)
  .toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" })
  .replaceAll(" ", "\u00a0");

export const time = (at) => new Date(at).toLocaleTimeString("en-GB");
export const moment = (at) => new Date(at).toLocaleString("en-GB");

export function money(n) {
  return n.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: n < 0.1 && n > 0 ? 4 : 2 });
}

/** Millijoules, as watt hours; nothing where nothing was measured or estimated. */
export function energy(mj) {
  if (!mj) return "–";
  const wh = mj / MJ_A_WH;
  if (wh >= 1000) return `${trim(wh / 1000)} kWh`;
  return wh >= 1 ? `${trim(wh)} Wh` : `${trim(wh * 1000)} mWh`;
}

export function percent(n) {
  return `${Math.round(n * 100)} %`;
}
