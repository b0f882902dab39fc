// The rules as people read them, and a request to try them with.
import { get, post } from "../lib/api.js";
import {
  Badge, Button, Command, Empty, Field, Notice, Section, Table, Waiting, useAsked,
} from "../lib/parts.js";
import { html, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";

/** What can be said of a request, and the values of those that have few. */
const LABELS = ["public", "internal", "private"];
const FACTS = [
  ["key_label", LABELS], ["header_label", LABELS], ["key"], ["project"], ["alias"], ["route"], ["tokens"], ["context"],
  ["needs", ["none", "tools", "images", "json_schema"]], ["time"],
  ["weekday", ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]], ["detected", ["none"]],
];
const KINDS = { here: "good", refuse: "bad" };

export function Policy() {
  const asked = useAsked(() => get("/admin/policy"), 0);
  const [found, setFound] = useState(null);
  return html`<${Section} title=${t.policy.title} about=${t.policy.about}>
    ${asked.value ? html`<${Rules} of=${asked.value} decided=${found?.value} />
      <${Try} found=${found} onFound=${setFound} />` : html`<${Waiting} asked=${asked} />`}
    ${t.policy.commands.map(([command, about]) => html`<div class="deed"><p>${about}</p>
      <${Command} text=${command} /></div>`)}
  </${Section}>`;
}

function Rules({ of, decided }) {
  const { rules, raises } = of;
  return html`
    ${rules.length === 0 ? html`<${Empty}>${t.policy.none}</${Empty}>` : html`<${Table} caption=${t.policy.title}
      heads=${[`#${t.policy.number}`, t.policy.rule, t.policy.where, t.policy.then]}
      rows=${rules.map((rule, idx) => [idx + 1, html`<strong>${rule.rule}</strong>
        ${decided?.rule === rule.rule && html` <${Badge} kind="good">${t.policy.decides}</${Badge}>`}`,
        rule.conditions.length === 0 ? t.policy.always : html`<ul class="bare-list">${rule.conditions.map((one) =>
          html`<li><code>${one.name}</code> ${one.value}</li>`)}</ul>`, rule.outcome])} />`}
    ${raises.length > 0 && html`<p class="about">${t.policy.raises(
      raises.map((one) => `${one.class} → ${one.label}`).join(", "))}</p>`}`;
}

function Try({ found, onFound }) {
  const [facts, set] = useState({});
  const [text, setText] = useState("");
  const ask = async () => {
    const request = Object.fromEntries(Object.entries(facts).filter(([, value]) => value.trim()));
    try {
      onFound({ value: await post("/admin/policy/explain", { request, ...(text ? { text } : {}) }) });
    } catch (error) {
      onFound({ error });
    }
  };
  const change = (name) => (event) => set({ ...facts, [name]: event.target.value });
  return html`<h3>${t.policy.try}</h3>
    <p class="about">${t.policy.tryAbout}</p>
    <form class="try" id="try" onSubmit=${(event) => {
      event.preventDefault();
      ask();
    }}>
      <div class="pairs wide">${FACTS.map(([name, words]) => html`<${Field} label=${name}>
        ${words ? html`<select name=${name} value=${facts[name] ?? ""} onChange=${change(name)}>
            <option value="">${t.policy.unknown}</option>${words.map((one) => html`<option>${one}</option>`)}</select>`
          : html`<input type="text" name=${name} value=${facts[name] ?? ""} placeholder=${t.policy.unknown}
              onInput=${change(name)} />`}</${Field}>`)}</div>
      <div class="pairs all"><${Field} label=${t.policy.text} about=${t.policy.textAbout}>
        <textarea name="text" rows="2" value=${text} onInput=${(event) => setText(event.target.value)}></textarea>
      </${Field}></div>
      <${Button} kind="primary" label=${t.policy.ask} onClick=${ask} more=${{ id: "explain" }} />
    </form>
    <div aria-live="polite" id="decision">
      ${found?.error && html`<${Notice} kind="bad">${found.error.message}</${Notice}>`}
      ${found?.value && html`<${Decision} of=${found.value} />`}
    </div>`;
}

/** The decision first, then how it came about, in the words of `freehold policy explain`. */
function Decision({ of }) {
  const { upstream, reason, considered } = of;
  const more = [upstream, of.redacted && "redacted", reason].filter(Boolean).join(", ");
  const rule = considered.find((one) => one.rule === of.rule);
  const lines = (all, note = "") => all.map((line) => html`<li>${line}${note}</li>`);
  const passed = considered.filter((one) => one.why_not.length > 0);
  return html`<dl class="facts decision">
    <div><dt>${t.policy.outcome}</dt><dd><${Badge} kind=${KINDS[of.outcome] ?? "warn"}>${of.outcome}</${Badge}>
      ${more && html` <span>${more}</span>`}<ul class="bare-list">${lines(of.notes)}</ul></dd></div>
    <div><dt>${t.policy.rule}</dt><dd>${rule ? t.policy.line(rule.rule, rule.line) : t.policy.noneFits}
      <ul class="bare-list">${rule && lines(rule.assumed, t.policy.assumed)}</ul></dd></div>
    <div><dt>${t.policy.label}</dt><dd>${of.label}<ul class="bare-list">${lines(of.label_because)}</ul></dd></div>
    ${passed.map((one) => html`<div class="not"><dt>${t.policy.not}</dt><dd>${t.policy.line(one.rule, one.line)}
      <ul class="bare-list">${lines(one.why_not)}</ul></dd></div>`)}
  </dl>`;
}
