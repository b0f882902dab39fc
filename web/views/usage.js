// What was used: over time, by what, and how long it took.
import { ask } from "../lib/api.js";
import { count, money, ms } from "../lib/format.js";
import { ASKED_MS, Asked, Button, Section, Table } from "../lib/parts.js";
import { html, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";
import { save } from "../chat/sidebar.js";
import { rowsOf } from "./leaves.js";
import { Chart } from "./own.js";

const RANGES = ["1d", "7d", "30d", "365d"];
const GROUPS = ["day", "model", "key", "project"];

export function Usage() {
  const [since, setSince] = useState("30d");
  const [by, setBy] = useState("day");
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
        <${Button} icon="receipt" label=${t.limits.times} pressed=${hasTimes} onClick=${() => withTimes(!hasTimes)} />
        <${Button} icon="export" label="CSV" onClick=${csv} /></div>
      <${UsageOf} rows=${rowsOf(asked.value)} by=${by} hasTimes=${hasTimes} />
    `}</${Asked}>
  </${Section}>`;
}

function UsageOf({ rows, by, hasTimes }) {
  const name = (row) => row[by] || "–";
  const chart = by === "day" && rows.length > 1;
  return html`
    ${chart && html`<${Chart} label=${t.limits.usage} x=${rows.map((row) => Date.parse(name(row)) / 1000)} series=${[
      { label: t.limits.prompt, values: rows.map((row) => row.n_prompt), colour: "--warn" },
      { label: t.limits.answer, values: rows.map((row) => row.n_answer), colour: "--accent" },
    ]} />`}
    <${Table} caption=${t.limits.usage} empty=${t.limits.noneUsed}
      heads=${[t.limits.words[by], `#${t.limits.requests}`, `#${t.limits.prompt}`, `#${t.limits.answer}`,
        `#${t.limits.cost}`, ...(hasTimes ? [`#${t.limits.median}`] : [])]}
      rows=${rows.map((row) => [name(row), count(row.n_requests), count(row.n_prompt),
        count(row.n_answer), money((row.money_micro ?? 0) / 1e6),
        ...(hasTimes ? [ms((row.total_p50_us ?? null) && row.total_p50_us / 1000)] : [])])} />`;
}
