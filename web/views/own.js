// Rent or own: what the tokens of this server would cost elsewhere, against what owning costs.
import { metrics } from "../lib/api.js";
import { Chart } from "../lib/chart.js";
import { count, money, short, span } from "../lib/format.js";
import { Field, Figures, Section, Waiting, useAsked } from "../lib/parts.js";
import { costs } from "../lib/settings.js";
import { html } from "../lib/ui.js";
import { t } from "../strings.en.js";

const HOURS_A_MONTH = 730;
const MONTH_S = HOURS_A_MONTH * 3600;
const ASKED_MS = 10_000;
/** Months that the curve shows. */
const N_MONTHS = 60;

const sum = (lines = []) => lines.reduce((all, line) => all + line.value, 0);

/** Tokens since the server's start, and how long that was. */
export async function traffic() {
  const found = await metrics();
  const started = found.process_start_time_seconds?.[0]?.value ?? 0;
  return {
    prompt: sum(found.freehold_prompt_tokens_total),
    generated: sum(found.freehold_generated_tokens_total),
    requests: sum(found.freehold_requests_total),
    seconds: Math.max(1, Date.now() / 1000 - started),
  };
}

/** Money a month, rented and owned, at this traffic; `own` without what was paid for the machine. */
export function monthly(of, at) {
  const months = at.seconds / MONTH_S;
  const rent = ((at.prompt / 1e6) * of.rentIn + (at.generated / 1e6) * of.rentOut) / months;
  const energy = (of.watts / 1000) * HOURS_A_MONTH * of.energy;
  return { rent, energy, hardware: of.hardware / (of.years * 12) };
}

/** Months after which owning has cost less than renting; null where it never does. */
export const breakEven = (of, { rent, energy }) => (rent > energy ? of.hardware / (rent - energy) : null);

export function RentOrOwn() {
  const asked = useAsked(traffic, ASKED_MS);
  const of = costs.value;
  const set = (name) => (event) => {
    const value = Number(event.target.value);
    if (Number.isFinite(value) && value >= 0) costs.value = { ...of, [name]: value };
  };
  const at = asked.value;
  if (!at) return html`<${Section} title=${t.own.title}><${Waiting} asked=${asked} /></${Section}>`;
  const a = monthly(of, at);
  const even = breakEven(of, a);
  return html`<${Section} title=${t.own.title} about=${t.own.about(span(at.seconds))}>
    <${Figures} of=${[
      [t.own.traffic, short(((at.prompt + at.generated) / at.seconds) * MONTH_S),
        t.own.trafficAbout(count(at.prompt), count(at.generated))],
      [t.own.rent, money(a.rent), t.own.aMonth],
      [t.own.own, money(a.energy + a.hardware), t.own.ownAbout(money(a.energy), money(a.hardware))],
      [t.own.even, even === null ? t.own.never : t.own.months(even < 100 ? even.toFixed(1) : count(even)),
        t.own.evenAbout],
    ]} />
    <${Curve} of=${of} a=${a} />
    <div class="pairs">${Object.keys(t.own.fields).map((name) => html`<${Field} label=${t.own.fields[name]}>
      <input type="number" min="0" step="any" name=${name} value=${of[name]} onInput=${set(name)} /></${Field}>`)}</div>
  </${Section}>`;
}

/** What both have cost in all, month by month. */
function Curve({ of, a }) {
  const months = Array.from({ length: N_MONTHS + 1 }, (_, month) => month);
  const rent = months.map((month) => month * a.rent);
  const own = months.map((month) => of.hardware * Math.ceil(Math.max(1, month) / (of.years * 12)) + month * a.energy);
  return html`<${Chart} label=${t.own.chart} x=${months} isTime=${false} xName=${t.own.month} series=${[
    { label: t.own.rent, values: rent, colour: "--warn" }, { label: t.own.own, values: own, colour: "--accent" },
  ]} />`;
}
