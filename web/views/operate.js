// The server at work: is it well, what does it do, and what is it told.
import { get, metrics, post, remove } from "../lib/api.js";
import { Chart } from "../lib/chart.js";
import { bytes, count, ms, span, time } from "../lib/format.js";
import {
  Badge, Button, Empty, Figures, KeyField, Notice, Section, Table, View, Waiting, confirm, useAsked,
} from "../lib/parts.js";
import { html, signal, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";

const ASKED_MS = 2000;
/** Points of the live curve. */
const N_POINTS = 150;

/** What was seen since the page began: seconds, requests at work, tokens a second. */
const seen = signal([]);
let before = null;

export function Operate() {
  const asked = useAsked(look, ASKED_MS);
  return html`<${View} title=${t.operate.title} about=${t.operate.about}>
    ${asked.value ? html`<${Health} of=${asked.value} />` : html`<${Waiting} asked=${asked} />`}
    <${Running} asked=${asked} />
    <${LedgerCheck} of=${asked.value?.status.ledger} />
    <${Access} />
    <${Config} mayReload=${asked.value?.status.reload} />
  </${View}>`;
}

async function look() {
  const [status, health, running, found] = await Promise.all([
    get("/admin/status"), get("/health").catch((error) => ({ status: error.message })), get("/admin/running"),
    metrics(),
  ]);
  const total = (name) => (found[name] ?? []).reduce((sum, line) => sum + line.value, 0);
  const now = Date.now() / 1000;
  // Those at work are not counted yet where the server counts at the end.
  const tokens = total("freehold_step_decode_tokens_total");
  const rate = before ? Math.max(0, (tokens - before.tokens) / (now - before.now)) : 0;
  before = { now, tokens };
  seen.value = [...seen.value, [now, status.requests_at_work, rate]].slice(-N_POINTS);
  return { status, health, running, total, rate, found };
}

/** The value under which `part` of the requests were, by a histogram of seconds. */
export function quantile(lines = [], part) {
  const sums = new Map();
  for (const { labels, value } of lines) {
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    sums.set(bound, (sums.get(bound) ?? 0) + value);
  }
  const all = [...sums].sort(([one], [other]) => one - other);
  const n = all.at(-1)?.[1] ?? 0;
  if (n === 0) return null;
  const found = all.find(([, value]) => value >= part * n);
  return found[0] === Infinity ? null : found[0] * 1000;
}

function Health({ of }) {
  const { status, health, total, rate, found } = of;
  const isWell = health.status === "ok";
  const ttft = (part) => ms(quantile(found.freehold_time_to_first_token_seconds_bucket, part));
  return html`<${Section} title=${t.operate.health} about=${t.operate.version(status.version, status.numerics)}
    action=${html`<${Badge} kind=${isWell ? "good" : "bad"}>${isWell ? t.operate.well : health.status}</${Badge}>`}>
    <${Figures} of=${[
      [t.operate.up, span(Date.now() / 1000 - status.started)],
      [t.operate.atWork, count(status.requests_at_work), t.operate.waiting(total("freehold_requests_waiting"))],
      [t.operate.rate, rate.toFixed(1), t.operate.rateAbout],
      [t.operate.ttft, ttft(0.5), t.operate.p95(ttft(0.95))],
      [t.operate.memory, bytes(status.machine.process_bytes), t.operate.free(bytes(status.machine.free_bytes))],
      [t.operate.cache, cacheShare(total), t.operate.cacheAbout],
    ]} />
    <${Chart} label=${t.operate.chart} x=${seen.value.map(([at]) => at)} series=${[
      { label: t.operate.rate, values: seen.value.map(([, , n]) => n), colour: "--accent" },
      { label: t.operate.atWork, values: seen.value.map(([, n]) => n), colour: "--warn" },
    ]} />
  </${Section}>`;
}

function cacheShare(total) {
  const prompt = total("freehold_prompt_tokens_total");
  return prompt > 0 ? `${Math.round((total("freehold_cached_tokens_total") / prompt) * 100)} %` : "–";
}

function Running({ asked }) {
  if (!asked.value) return null;
  const { running, ended } = asked.value.running;
  const cancel = async (one) => {
    if (!(await confirm(t.operate.cancelQuestion(one.model), { about: one.id, yes: t.operate.cancel }))) return;
    await remove(`/admin/running/${encodeURIComponent(one.id)}`).catch(() => {});
    asked.again();
  };
  return html`<${Section} title=${t.operate.running} about=${t.operate.runningAbout}>
    <${Table} caption=${t.operate.running} empty=${t.operate.noneRunning}
      heads=${[t.operate.route, t.operate.model, `#${t.operate.prompt}`, `#${t.operate.answer}`,
        `#${t.operate.age}`, ""]}
      rows=${running.map((one) => [html`<code>${one.route}</code>`, one.model || "–", count(one.n_prompt),
        count(one.n_generated), ms(one.age_ms),
        html`<${Button} small icon="stop" label=${t.operate.cancel} onClick=${() => cancel(one)} />`])} />
    <h3>${t.operate.ended}</h3>
    <${Table} caption=${t.operate.ended} empty=${t.operate.noneEnded}
      heads=${[t.operate.at, t.operate.route, t.operate.model, `#${t.operate.prompt}`, `#${t.operate.answer}`,
        `#${t.operate.ttft}`, `#${t.operate.took}`, t.operate.outcome]}
      rows=${ended.slice(0, 50).map((one) => [time(one.at_us / 1000), html`<code>${one.route}</code>`,
        one.model || "–", count(one.n_prompt), count(one.n_generated), ms(one.ttft_ms), ms(one.age_ms),
        html`<${Badge} kind=${one.outcome === "done" ? "quiet" : "warn"}>${one.error ?? one.outcome}</${Badge}>`])} />
  </${Section}>`;
}

function LedgerCheck({ of }) {
  const [state, set] = useState({});
  const verify = async () => {
    set({ isAsking: true });
    try {
      set({ found: await post("/admin/ledger/verify") });
    } catch (error) {
      set({ error });
    }
  };
  const { found, error, isAsking } = state;
  return html`<${Section} title=${t.operate.ledger} about=${t.operate.ledgerAbout}
    action=${of && of !== "none" && html`<${Button} icon="check" disabled=${isAsking}
      label=${isAsking ? t.operate.verifying : t.operate.verify} onClick=${verify} />`}>
    ${of === "none" && html`<${Empty}>${t.operate.noLedger}</${Empty}>`}
    ${of === "unavailable" && html`<${Notice} kind="bad">${t.operate.ledgerUnavailable}</${Notice}>`}
    <div aria-live="polite" id="ledger-result">
      ${error && html`<${Notice} kind="bad">${error.message}</${Notice}>`}
      ${found?.intact && html`<${Notice} kind="good">${t.operate.intact(count(found.rows), found.signed)}
        ${found.head && html`<code class="break">${found.head.hash}</code>`}</${Notice}>`}
      ${found && !found.intact && html`<${Notice} kind="bad">${t.operate.notIntact(found.first_bad?.seq)}
        ${found.first_bad?.reason ?? found.counters}</${Notice}>`}
    </div>
  </${Section}>`;
}

/** The key that this page sends. */
function Access() {
  return html`<${Section} title=${t.operate.access} about=${t.operate.accessAbout}>
    <${KeyField} />
  </${Section}>`;
}

function Config({ mayReload }) {
  const asked = useAsked(() => get("/admin/config"), 0);
  const [report, setReport] = useState(null);
  const [isAll, showAll] = useState(false);
  const reload = async () => {
    try {
      setReport({ value: await post("/admin/reload") });
    } catch (error) {
      setReport({ error });
    }
    asked.again();
  };
  const settings = (asked.value?.settings ?? []).filter((one) => isAll || one.origin !== "default");
  return html`<${Section} title=${t.operate.config} about=${t.operate.configAbout}
    action=${mayReload && html`<${Button} icon="again" label=${t.operate.reload} onClick=${reload} />`}>
    ${report?.error && html`<${Notice} kind="bad">${report.error.message}</${Notice}>`}
    ${report?.value && html`<${Notice} kind="good">${t.operate.reloaded(report.value)}</${Notice}>`}
    ${asked.error && html`<${Waiting} asked=${asked} />`}
    <${Table} caption=${t.operate.config} empty=${t.operate.allDefault}
      heads=${[t.operate.setting, t.operate.value, t.operate.origin, ""]}
      rows=${settings.map((one) => [html`<code>${one.name}</code>`,
        html`<code class="break">${one.value === null ? "–" : shown(one.value)}</code>`, one.origin,
        one.is_reloadable ? html`<${Badge}>${t.operate.reloadable}</${Badge}>` : ""])} />
    <${Button} small label=${isAll ? t.operate.showSet : t.operate.showAll} onClick=${() => showAll(!isAll)} />
  </${Section}>`;
}

const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));
