// The lock: in what the models differ from it, what it said before, and the way back.
import { get, post } from "../lib/api.js";
import { count, moment } from "../lib/format.js";
import { Badge, Button, Command, Empty, Notice, Section, Table, Waiting, confirm, useAsked } from "../lib/parts.js";
import { html, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";

export function Lock({ models, mayMove }) {
  const asked = useAsked(() => get("/admin/lock"), 0);
  const [done, setDone] = useState({});
  const act = async (path, body) => {
    await post(`/admin/lock/${path}`, body).then((value) => setDone({ value }), (error) => setDone({ error }));
    asked.again();
  };
  return html`<${Section} title=${t.lock.title} about=${t.lock.about}>
    <div aria-live="polite" id="lock-result">
      ${done.error && html`<${Notice} kind="bad">${done.error.message}</${Notice}>`}
      ${done.value && html`<${Notice} kind="good">${done.value.told}</${Notice}>`}
    </div>
    ${!asked.value ? html`<${Waiting} asked=${asked} />`
      : asked.value.file === null ? html`<${Empty}>${t.lock.none}</${Empty}><${Command} text="freehold lock" />`
        : html`<${Standing} lock=${asked.value} models=${models} act=${mayMove && act} />`}
  </${Section}>`;
}

function Standing({ lock, models, act }) {
  const isIn = (name) => lock.models.some((one) => one.name === name);
  const others = models.filter((one) => !isIn(one.name));
  return html`
    <p class="about"><code>${lock.file}</code></p>
    ${lock.has_changed && html`<${Notice} kind="warn">${t.lock.changed}</${Notice}>`}
    ${lock.changes.length === 0 ? html`<p>${t.lock.same}</p>`
      : lock.changes.map((change) => html`<${Change} of=${change} act=${act} />`)}
    ${lock.models.filter((one) => one.versions.length > 1).map((one) => html`<${Versions} of=${one} act=${act} />`)}
    ${others.map((one) => html`<div class="row deed"><span><strong>${one.name}</strong> ${t.lock.notIn}</span>
      ${act ? html`<${Button} small icon="lock" label=${t.lock.pin} onClick=${() => act(one.name, {})} />`
        : html`<${Command} text=${`freehold lock ${one.name}`} />`}</div>`)}`;
}

/** What is otherwise, in the words of `freehold diff`. */
function Change({ of, act }) {
  const isEntry = of.change === "changed" && !of.name.includes(" ");
  const take = async () => {
    if (await confirm(t.lock.takeQuestion(of.name), { about: t.lock.takeAbout, yes: t.lock.take })) {
      act(of.name, { update: true });
    }
  };
  return html`<div class="notice bad drift" data-drift=${of.name}>
    <strong>${of.name}</strong> ${t.lock.words[of.change]}
    <ul>${(of.differences ?? []).map((one) => html`<li>${one.item}: ${one.old} → ${one.new}</li>`)}</ul>
    ${of.template && html`<pre class="plain" tabindex="0">${of.template}</pre>`}
    ${isEntry && (act ? html`<${Button} small label=${t.lock.take} onClick=${take} />`
      : html`<${Command} text=${`freehold lock ${of.name} --update`} />`)}
  </div>`;
}

/** What stood for a name, with what the gate found, and the way there. */
function Versions({ of, act }) {
  const go = async (to) => {
    const question = t.lock.backQuestion(of.name, to);
    if (await confirm(question, { about: t.lock.backAbout, yes: t.lock.goBack, kind: "primary" })) {
      act(`${of.name}/rollback`, { to });
    }
  };
  const way = (version, number) => {
    if (number === of.now) return html`<${Badge} kind="good">${t.lock.now}</${Badge}>`;
    if (!version.installed) return t.lock.gone;
    return act ? html`<${Button} small label=${t.lock.goBack} onClick=${() => go(number)} />` : null;
  };
  return html`<h3>${t.lock.versions(of.name)}</h3>
    <${Table} caption=${t.lock.versions(of.name)}
      heads=${[`#${t.lock.version}`, t.lock.installed, t.lock.since, t.lock.gate, t.lock.why, ""]}
      rows=${of.versions.map((one, idx) => [idx + 1,
        html`<span>${one.installed ?? "–"}</span> <code title=${one.digest}>${one.digest.slice(0, 12)}</code>`,
        one.since ? moment(one.since) : t.lock.before, html`<${Gate} of=${one.gate} />`, one.why ?? "–",
        way(one, idx + 1)])} />
    ${!act && of.back && html`<${Command} text=${`freehold rollback ${of.name}`} />`}`;
}

/** The numbers by which a version was let in, or not. */
function Gate({ of }) {
  if (!of) return "–";
  const { n_cases: n, n_passed_old: old, n_passed_new: now, n_lost: lost, n_won: won } = of;
  const [kind, verdict] = of.passed ? ["good", t.lock.passed] : ["bad", t.lock.notPassed];
  const counts = [old, now, n, lost, won].map(count);
  return html`<div class="gate"><${Badge} kind=${kind}>${verdict}</${Badge}><span class="about">
    ${" "}${t.lock.gateAbout(...counts, of.p_worse.toPrecision(2))}
    ${" "}${t.lock.answers(count(of.n_answers_changed), count(of.n_answers))}</span></div>`;
}
