// Limits and use: who may ask, for how much, and what was used.
import { post, remove } from "../lib/api.js";
import { count, short } from "../lib/format.js";
import { Asked, Button, Meter, Notice, Section, Table, View } from "../lib/parts.js";
import { html, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";
import { Keys, Projects } from "./keys.js";
import { rowsOf } from "./leaves.js";
import { RentOrOwn } from "./own.js";
import { Usage } from "./usage.js";

export function Limits() {
  return html`<${View} title=${t.limits.title} about=${t.limits.about}>
    <${Keys} /><${Projects} /><${Budgets} /><${Usage} /><${RentOrOwn} />
  </${View}>`;
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
          t.limits.thens[of.then] ?? of.then, html`<${Button} small label=${t.limits.lift}
            onClick=${() => act(() => remove(`/admin/limits/${encodeURIComponent(of.id)}`), asked.again)} />`])} />
    `}</${Asked}>
  </${Section}>`;
}

const WHAT = ["requests", "tokens", "tokens-in", "tokens-out", "money", "energy", "concurrent"];
const PER = ["minute", "hour", "day", "month"];
/** What becomes of a request that is too much; the last needs a name. */
const ALIAS = "alias";
const THEN = ["refuse", "queue", ALIAS];

function NewBudget({ onSet }) {
  const [body, set] = useState({
    subject: "all", what: "tokens", amount: "", per: "day", then: THEN[0], alias: "",
  });
  const field = (name) => (event) => set({ ...body, [name]: event.target.value });
  const pick = (name, all) => html`<select aria-label=${t.limits[name]} value=${body[name]} onChange=${field(name)}>
    ${all.map((one) => html`<option value=${one}>${t.limits.thens[one] ?? one}</option>`)}</select>`;
  return html`<form class="inline" onSubmit=${(event) => {
    event.preventDefault();
    const { subject, what, per, alias } = body;
    const then = body.then === ALIAS ? `alias:${alias.trim()}` : body.then;
    onSet({ subject, what, amount: Number(body.amount), then, ...(what === "concurrent" ? {} : { per }) });
  }}>
    <input type="text" aria-label=${t.limits.subject} value=${body.subject} required onInput=${field("subject")} />
    ${pick("what", WHAT)}
    <input type="number" min="0" step="any" aria-label=${t.limits.amount} placeholder=${t.limits.amount} required
      value=${body.amount} onInput=${field("amount")} />
    ${body.what !== "concurrent" && pick("per", PER)}
    ${pick("then", THEN)}
    ${body.then === ALIAS && html`<input type="text" aria-label=${t.limits.alias} placeholder=${t.limits.alias}
      value=${body.alias} required onInput=${field("alias")} />`}
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
