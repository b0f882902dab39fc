// Limits and use: who may ask, for how much, and what was used.
import { ask, perhaps, post, remove } from "../lib/api.js";
import { count, money, ms, short, when } from "../lib/format.js";
import {
  Badge, Button, CopyButton, Empty, Field, Meter, Notice, Section, Table, View, Waiting, confirm, useAsked,
} from "../lib/parts.js";
import { html, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";
import { save } from "../chat/sidebar.js";
import { rowsOf } from "./leaves.js";
import { Chart, RentOrOwn } from "./own.js";

const ASKED_MS = 5000;

export function Limits() {
  return html`<${View} title=${t.limits.title} about=${t.limits.about}>
    <${Keys} /><${Budgets} /><${Usage} /><${RentOrOwn} />
  </${View}>`;
}

/** Shows what `path` gives, or a sentence where this server has no such thing. */
function Asked({ path, absent, ms: each = ASKED_MS, children }) {
  const asked = useAsked(() => perhaps(path), each, [path]);
  if (asked.value === undefined) return html`<${Waiting} asked=${asked} />`;
  if (asked.value === null) return html`<${Empty}>${absent}</${Empty}>`;
  return children(asked);
}

function Keys() {
  const [made, setMade] = useState({});
  const make = async (body, again) => {
    try {
      setMade({ key: await post("/admin/keys", body) });
      again();
    } catch (error) {
      setMade({ error });
    }
  };
  const revoke = async (of, again) => {
    const question = t.limits.revokeQuestion(of.name);
    if (!(await confirm(question, { about: t.limits.revokeAbout, yes: t.limits.revoke }))) return;
    await remove(`/admin/keys/${encodeURIComponent(of.id ?? of.name)}`).catch((error) => setMade({ error }));
    again();
  };
  return html`<${Section} title=${t.limits.keys} about=${t.limits.keysAbout}>
    ${made.error && html`<${Notice} kind="bad">${made.error.message}</${Notice}>`}
    ${made.key && html`<${Notice} kind="good">${t.limits.made}
      <div class="command"><code>${made.key.secret}</code>
        <${CopyButton} text=${made.key.secret} /></div></${Notice}>`}
    <${Asked} path="/admin/keys" absent=${t.limits.noKeys}>${(asked) => html`
      <${NewKey} onMake=${(body) => make(body, asked.again)} />
      <${Table} caption=${t.limits.keys} empty=${t.limits.noneYet}
        heads=${[t.limits.name, t.limits.project, t.limits.scope, t.limits.since, t.limits.until, ""]}
        rows=${rowsOf(asked.value).map((of) => [html`<strong>${of.name}</strong> <code>${of.id}</code>`,
          of.project ?? "–", scope(of.scopes), when(of.created_at * 1000),
          of.revoked_at ? html`<${Badge} kind="warn">${t.limits.revoked}</${Badge}>`
            : of.expires_at ? when(of.expires_at * 1000) : t.limits.noEnd,
          !of.revoked_at && html`<${Button} small label=${t.limits.revoke}
            onClick=${() => revoke(of, asked.again)} />`])} />
    `}</${Asked}>
  </${Section}>`;
}

function scope(scopes) {
  if (!scopes) return t.limits.all;
  const parts = [scopes.admin && "admin", scopes.models?.join(", "), scopes.routes?.join(", ")].filter(Boolean);
  return parts.join("; ") || t.limits.all;
}

function NewKey({ onMake }) {
  const [name, setName] = useState("");
  return html`<form class="inline" onSubmit=${(event) => {
    event.preventDefault();
    onMake({ name });
    setName("");
  }}>
    <input type="text" aria-label=${t.limits.keyName} placeholder=${t.limits.keyName} value=${name} required
      onInput=${(event) => setName(event.target.value)} />
    <button class="button primary" disabled=${!name}>${t.limits.make}</button>
  </form>`;
}

function Budgets() {
  const [failed, setFailed] = useState(null);
  const act = async (work, again) => {
    await work().then(() => setFailed(null), setFailed);
    again();
  };
  return html`<${Section} title=${t.limits.budgets} about=${t.limits.budgetsAbout}>
    ${failed && html`<${Notice} kind="bad">${failed.message}</${Notice}>`}
    <${Asked} path="/admin/limits" absent=${t.limits.noBudgets}>${(asked) => html`
      <${NewBudget} onSet=${(body) => act(() => post("/admin/limits", body), asked.again)} />
      <${Table} caption=${t.limits.budgets} empty=${t.limits.noneSet}
        heads=${[t.limits.subject, t.limits.what, `#${t.limits.amount}`, t.limits.left, t.limits.then, ""]}
        rows=${rowsOf(asked.value).map((of) => [html`<code>${of.subject ?? "all"}</code>`,
          `${of.what} / ${of.per ?? t.limits.atOnce}`, count(of.amount), html`<${Left} of=${of} />`,
          of.then ?? "refuse", html`<${Button} small label=${t.limits.lift}
            onClick=${() => act(() => remove(`/admin/limits/${encodeURIComponent(of.id)}`), asked.again)} />`])} />
    `}</${Asked}>
  </${Section}>`;
}

const WHAT = ["requests", "tokens", "tokens-in", "tokens-out", "money", "energy", "concurrent"];
const PER = ["minute", "hour", "day", "month"];

function NewBudget({ onSet }) {
  const [body, set] = useState({ subject: "all", what: "tokens", amount: "", per: "day" });
  const field = (name) => (event) => set({ ...body, [name]: event.target.value });
  const pick = (name, all) => html`<select aria-label=${t.limits[name]} value=${body[name]} onChange=${field(name)}>
    ${all.map((one) => html`<option value=${one}>${one}</option>`)}</select>`;
  return html`<form class="inline" onSubmit=${(event) => {
    event.preventDefault();
    const { per, ...rest } = { ...body, amount: Number(body.amount) };
    onSet(body.what === "concurrent" ? rest : { ...rest, per });
  }}>
    <input type="text" aria-label=${t.limits.subject} value=${body.subject} required onInput=${field("subject")} />
    ${pick("what", WHAT)}
    <input type="number" min="0" step="any" aria-label=${t.limits.amount} placeholder=${t.limits.amount} required
      value=${body.amount} onInput=${field("amount")} />
    ${body.what !== "concurrent" && pick("per", PER)}
    <button class="button primary" disabled=${!body.amount}>${t.limits.set}</button>
  </form>`;
}

function Left({ of }) {
  const used = of.used + (of.reserved ?? 0);
  const isOver = used >= of.amount;
  return html`<span class="left"><${Meter} label=${t.limits.used} value=${used} most=${of.amount}
    kind=${isOver ? "over" : ""} />
    ${isOver ? t.limits.reached : t.limits.leftOf(short(of.left ?? of.amount - used))}</span>`;
}

const RANGES = ["1d", "7d", "30d", "365d"];
const GROUPS = ["day", "model", "key", "project"];

function Usage() {
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

