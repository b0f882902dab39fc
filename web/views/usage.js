// What was used: over time, by what, and how long it took.
import { ask, perhaps } from "../lib/api.js";
import { COLOURS, Chart } from "../lib/chart.js";
import { count, day, energy, MJ_A_WH, money, ms } from "../lib/format.js";
import { ASKED_MS, Asked, Button, Section, Table, useAsked } from "../lib/parts.js";
import { html, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";
import { save } from "../chat/sidebar.js";
import { rowsOf } from "./leaves.js";

const RANGES = ["1d", "7d", "30d", "365d"];
const GROUPS = ["day", "model", "key", "project"];
/** What of it is drawn. */
const MEASURES = {
  tokens: (row) => row.n_prompt + row.n_answer,
  requests: (row) => row.n_requests,
  energy: (row) => row.energy_mj / MJ_A_WH,
  money: (row) => row.money_micro / 1e6,
};
const TIMES = ["first_p50_us", "first_p95_us", "total_p50_us", "total_p95_us"];
/** Lines of a chart; what is behind them is one line more. */
const N_LINES = COLOURS.length - 1;
/** Sums that the server tells at most. */
const N_SUMS = 10_000;
/** Between two times that the chart is asked for: days do not change that fast. */
const DRAWN_MS = 30_000;
const DAY_S = 86_400;

export function Usage() {
  const [since, setSince] = useState("30d");
  const [by, setBy] = useState("day");
  const [measure, setMeasure] = useState("tokens");
  const [hasTimes, withTimes] = useState(false);
  // All rows are read for the times, so they are told when they are asked for, and not again and again.
  const path = `/admin/usage?by=${by}&since=${since}${hasTimes ? "&times=true" : ""}`;
  const csv = async () => save("usage.csv", "text/csv", await (await ask("GET", `${path}&format=csv`)).text());
  const pick = (label, all, value, set) => html`<select aria-label=${label} value=${value}
    onChange=${(event) => set(event.target.value)}>
    ${all.map((one) => html`<option value=${one}>${t.limits.words[one]}</option>`)}</select>`;
  return html`<${Section} title=${t.limits.usage} about=${t.limits.usageAbout}>
    <${Asked} path=${path} absent=${t.limits.noUsage} ms=${hasTimes ? 0 : ASKED_MS}>${(asked) => html`
      <div class="inline">${pick(t.limits.range, RANGES, since, setSince)}${pick(t.limits.by, GROUPS, by, setBy)}
        ${pick(t.limits.drawn, Object.keys(MEASURES), measure, setMeasure)}
        <${Button} icon="receipt" label=${t.limits.times} pressed=${hasTimes} onClick=${() => withTimes(!hasTimes)} />
        <${Button} icon="export" label="CSV" onClick=${csv} /></div>
      <${Drawn} by=${by} since=${since} measure=${measure} />
      <${Sums} of=${asked.value} />
    `}</${Asked}>
  </${Section}>`;
}

/** The sums, with times where those were asked for. */
function Sums({ of }) {
  const rows = rowsOf(of);
  const times = rows.some((row) => TIMES[0] in row) ? TIMES : [];
  return html`<${Table} caption=${t.limits.usage} empty=${t.limits.noneUsed}
    heads=${[t.limits.words[of.by], `#${t.limits.requests}`, `#${t.limits.prompt}`, `#${t.limits.answer}`,
      `#${t.limits.energy}`, `#${t.limits.cost}`, ...times.map((name) => `#${t.limits.timesOf[name]}`)]}
    rows=${rows.map((row) => [row.day ? day(row.day) : row[of.by] || "–",
      count(row.n_requests), count(row.n_prompt), count(row.n_answer),
      energy(row.energy_mj), money(row.money_micro / 1e6),
      ...times.map((name) => (row[name] ? ms(row[name] / 1000) : "–"))])} />`;
}

/** The same over the days, a line for each model, key or project that has the most. */
function Drawn({ by, since, measure }) {
  const path = `/admin/usage?by=${by === "day" ? by : `day,${by}`}&since=${since}`;
  const asked = useAsked(() => perhaps(path), DRAWN_MS, [path]);
  const rows = rowsOf(asked.value);
  const days = daysOf(rows);
  if (days.length < 2) return null;
  const [, group] = asked.value.by.split(",");
  const x = days.map((day) => Date.parse(day) / 1000);
  return html`
    <${Chart} label=${t.limits.drawing(t.limits.words[measure], t.limits.words[group ?? "day"])} x=${x}
      series=${linesOf(rows, days, group, measure)} />
    ${rows.length >= N_SUMS && html`<p class="about">${t.limits.tooMany(count(N_SUMS))}</p>`}`;
}

/** All days from the first to the last, those on which nothing was used too. */
function daysOf(rows) {
  const seen = rows.map((row) => row.day).filter(Boolean).sort();
  if (seen.length === 0) return [];
  const [first, last] = [seen[0], seen.at(-1)].map((day) => Date.parse(day) / 1000);
  const n = Math.round((last - first) / DAY_S) + 1;
  return Array.from({ length: n }, (_, idx) => new Date((first + idx * DAY_S) * 1000).toISOString().slice(0, 10));
}

function linesOf(rows, days, group, measure) {
  const at = new Map(days.map((day, idx) => [day, idx]));
  const lines = new Map();
  const add = (label, idx, value) => {
    if (!lines.has(label)) lines.set(label, days.map(() => 0));
    lines.get(label)[idx] += value;
  };
  for (const row of rows) {
    const idx = at.get(row.day);
    if (group) {
      add(row[group] || "–", idx, MEASURES[measure](row));
    } else if (measure === "tokens") {
      add(t.limits.prompt, idx, row.n_prompt);
      add(t.limits.answer, idx, row.n_answer);
    } else {
      add(t.limits.words[measure], idx, MEASURES[measure](row));
    }
  }
  const sum = ([, values]) => values.reduce((all, value) => all + value, 0);
  const sorted = [...lines].sort((one, other) => sum(other) - sum(one));
  const rest = sorted.splice(N_LINES).map(([, values]) => values);
  if (rest.length > 0) {
    sorted.push([t.limits.others(rest.length), days.map((_, idx) => rest.reduce((all, one) => all + one[idx], 0))]);
  }
  return sorted.map(([label, values], idx) => ({
    // Colours are not all that tells lines apart.
    label, values, colour: COLOURS[idx], dash: idx > 1 ? [idx * 3, 3] : undefined,
  }));
}
