// What the behaviour gate found with the owner's prompts: the last report of each model, and all of
// one. What stands in it models have said: it is shown as text, and nothing else.
import { get } from "../lib/api.js";
import { bytes, count, moment, when } from "../lib/format.js";
import { Icon } from "../lib/icons.js";
import {
  Badge, Command, Empty, Facts, Figures, Notice, Section, Table, View, Waiting, useAsked,
} from "../lib/parts.js";
import { html, useEffect } from "../lib/ui.js";
import { t } from "../strings.en.js";
import { Cases, Gain, Rates } from "./plots.js";

/** Changes that are open from the start, where they were lost. */
const N_OPEN = 5;

/** Marks that turn the direction of text around, and controls, would show something else. */
const MARKS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;
const plain = (text) => String(text ?? "").replace(MARKS, "\ufffd");

/** 0.9234 → "92.3 %", and half an answer is no answer. */
const part = (n) => (Number.isFinite(n) ? `${(100 * n).toFixed(1)} %` : "–");
const points = (n) => `${n < 0 ? "−" : "+"}${Math.abs(100 * n).toFixed(1)}`;

const Verdict = ({ passed }) => html`<${Badge} kind=${passed ? "good" : "bad"}>
  ${passed ? t.gate.passed : t.gate.refused}</${Badge}>`;

/** Models view: the last report of each model or alias, and those before. */
export function GateReports() {
  const asked = useAsked(() => get("/admin/gate/reports"), 0);
  return html`<${Section} title=${t.gate.title} about=${t.gate.about}>
    ${asked.value ? html`<${Listed} of=${asked.value} />` : html`<${Waiting} asked=${asked} />`}
  </${Section}>`;
}

function Listed({ of }) {
  const last = of.reports.filter((one, idx) => of.reports.findIndex(({ subject }) => subject === one.subject) === idx);
  const earlier = of.reports.filter((one) => !last.includes(one));
  return html`<div id="gate-reports">
    ${of.damaged.length > 0 && html`<${Notice} kind="warn">${t.gate.damaged(of.damaged.join(", "))}</${Notice}>`}
    ${last.length === 0 ? html`<${Empty}>${t.gate.none}</${Empty}>${t.gate.commands.map(([command, about]) => html`
        <div class="deed"><p>${about}</p><${Command} text=${command} /></div>`)}`
      : html`<${Reports} of=${last} caption=${t.gate.last} />`}
    ${earlier.length > 0 && html`<details><summary>${t.gate.earlier(earlier.length)}</summary>
      <${Reports} of=${earlier} caption=${t.gate.earlier(earlier.length)} /></details>`}
  </div>`;
}

function Reports({ of, caption }) {
  return html`<${Table} caption=${caption} heads=${[
    t.gate.subject, t.gate.verdict, t.gate.candidate, t.gate.rate, t.gate.changed, t.gate.made, "",
  ]} rows=${of.map((one) => [html`<strong class="break">${plain(one.subject)}</strong>`,
    html`<${Verdict} passed=${one.passed} />`, html`<span class="break">${plain(one.new.name)}</span>`,
    html`<${Rate} of=${one} />`, one.comparison ? t.gate.ofAnswers(count(one.comparison.n_answers_changed),
      count(one.comparison.n_answers)) : "–", html`<span title=${moment(one.made)}>${when(one.made)}</span>`,
    html`<a class="button small" href=${`#/models/gate/${one.id}`}
      aria-label=${t.gate.lookAt(plain(one.subject), moment(one.made))}>${t.gate.look}</a>`])} />`;
}

function Rate({ of }) {
  return html`<span>${part(of.new.pass_rate)}${of.old && ` (${t.gate.was(part(of.old.pass_rate))})`}</span>
    <br /><span class="about">${interval(of.new)}</span>`;
}

const interval = ({ pass_rate_interval: [low, high] }) => t.gate.interval(part(low), part(high));

/** One report. */
export function GateReport({ id }) {
  const asked = useAsked(() => get(`/admin/gate/reports/${encodeURIComponent(id)}`), 0, [id]);
  const of = asked.value;
  // The link that led here is gone, and with it where one was.
  useEffect(() => document.querySelector(".view h1")?.focus({ preventScroll: true }), [id, Boolean(of)]);
  const back = html`<a class="button" href="#/models"><${Icon} name="left" /><span>${t.gate.back}</span></a>`;
  if (!of) return html`<${View} title=${t.gate.title} action=${back}><${Waiting} asked=${asked} /></${View}>`;
  const { summary, report } = of;
  return html`<${View} title=${plain(summary.subject)} action=${back}
      about=${t.gate.reportAbout(summary.step, plain(report.new.name), report.old && plain(report.old.name),
        moment(summary.made))}>
    <div class="card" id="gate-verdict">
      <div class="row"><${Verdict} passed=${report.passed} /></div>
      ${report.reasons.length > 0 && html`<ul>${report.reasons.map((why) => html`<li>${plain(why)}</li>`)}</ul>`}
    </div>
    <${Numbers} report=${report} />
    ${report.comparison && html`<${Changes} report=${report} />`}
    <${Each} report=${report} />
  </${View}>`;
}

function Numbers({ report }) {
  const { comparison: of } = report;
  const sides = [report.old, report.new].filter(Boolean)
    .map((side, idx, all) => ({ ...side, name: plain(side.name), isOld: idx === 0 && all.length === 2 }));
  const figures = [[t.gate.rate, part(report.new.pass_rate), interval(report.new)]];
  if (of) {
    figures.push(
      [t.gate.before, part(report.old.pass_rate), interval(report.old)],
      [t.gate.lostWon, `${count(of.n_lost)} / ${count(of.n_won)}`, t.gate.chance(of.p_worse.toPrecision(2))],
      [t.gate.changed, count(of.n_answers_changed), t.gate.ofAll(count(of.n_answers))],
    );
  }
  return html`<${Section} title=${t.gate.numbers}>
    <${Figures} of=${figures} />
    <${Rates} sides=${sides} words=${(side) => `${part(side.pass_rate)}, ${interval(side)}`} />
    ${of?.gain_interval && html`<${Gain} gain=${of.gain} interval=${of.gain_interval}
      words=${t.gate.gain(points(of.gain), ...of.gain_interval.map(points))} />`}
    <${Cases} cases=${report.cases} words=${(one) => `${plain(one.id)}: ${t.gate.fates[one.fate] ?? one.fate}`} />
    ${sides.map((side) => html`<h3>${side.name}</h3><${Facts} of=${[
      [t.gate.cases, t.gate.ofCases(count(side.n_passed), count(side.n_cases))],
      [t.gate.speed, t.gate.perSecond(count(side.tokens_per_s))],
      [t.gate.written, t.gate.tokens(count(side.n_generated))],
      [t.gate.weights, `${bytes(side.facts?.weight_bytes)}${side.facts?.quantization
        ? `, ${plain(side.facts.quantization)}` : ""}`],
    ]} />`)}
  </${Section}>`;
}

function Changes({ report }) {
  const n = report.comparison.n_answers_changed;
  return html`<${Section} title=${t.gate.changes(count(n))} about=${t.gate.changesAbout}>
    ${n === 0 && html`<${Empty}>${t.gate.noChanges}</${Empty}>`}
    ${report.changes.map((one, idx) => html`<details class="change" open=${one.fate === "lost" && idx < N_OPEN}>
      <summary><span class="break">${plain(one.id)}</span> <span class="about">${t.gate.seed(one.seed)}</span>${" "}
        ${(one.fate === "lost" || one.fate === "won") && html`<${Fate} of=${one.fate} />`}</summary>
      <p class="asked">${plain(one.asked)}</p>
      <div class="two">
        <${Side} name=${report.old.name} runs=${one.old} mark="del" />
        <${Side} name=${report.new.name} runs=${one.new} mark="ins" />
      </div>
      ${one.is_cut && html`<p class="about">${t.gate.cut}</p>`}
    </details>`)}
    ${report.n_changes_left_out > 0 && html`<p class="about">${t.gate.more(count(report.n_changes_left_out))}</p>`}
  </${Section}>`;
}

/** An answer; what the other has not is marked. */
function Side({ name, runs, mark }) {
  return html`<figure><figcaption>${plain(name)}</figcaption><pre class="plain" tabindex="0">${runs.map(
    ([text, isCommon]) => (isCommon ? plain(text) : html`<${mark}>${plain(text)}</${mark}>`))}</pre></figure>`;
}

const KINDS = { lost: "bad", fail: "warn", won: "good", pass: "good" };
const Fate = ({ of }) => html`<${Badge} kind=${KINDS[of] ?? "quiet"}>${t.gate.fates[of] ?? plain(of)}</${Badge}>`;

function Each({ report }) {
  const left = report.n_cases_left_out;
  return html`<${Section} title=${t.gate.each} about=${t.gate.eachAbout}>
    <${Table} caption=${t.gate.each} empty=${t.gate.noCases}
      heads=${[t.gate.case, "", `#${t.gate.answers}`, t.gate.why]}
      rows=${report.cases.map((one) => [html`<span class="break">${plain(one.id)}</span>`,
        html`<${Fate} of=${one.fate} />`, `${one.n_passed} / ${one.n_answers}`,
        html`<span class="break">${one.why ? plain(one.why) : "–"}</span>`])} />
    ${left > 0 && html`<p class="about">${t.gate.more(count(left))}</p>`}
  </${Section}>`;
}
