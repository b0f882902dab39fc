// Rent or own: what was answered here would have cost so much elsewhere, and did cost so much. The server
// computes it, from its ledger and from the prices that it was started with.
import { get } from "../lib/api.js";
import { Chart } from "../lib/chart.js";
import { count, day, money } from "../lib/format.js";
import { Command, Empty, Field, Figures, Notice, Section, Table, Waiting, useAsked } from "../lib/parts.js";
import { html, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";

const ASKED_MS = 60_000;

/** The comparisons with what could be rented, or why there are none here. */
async function compared(rent) {
  try {
    const told = await get(`/admin/usage?since=0d&rent=${encodeURIComponent(rent)}`);
    return told.compared ?? { hasNoPrices: true };
  } catch (error) {
    if (error.isAbsent) return { absent: error.message };
    throw error;
  }
}

const cost = (of, name) => `${money(of[`${name}_micro`] / 1e6)} ${of.currency}`;
const even = ({ break_even: { is, day: of } }) => (t.own.even[is] ?? t.own.even.unknown)(of && day(of));

export function RentOrOwn() {
  const asked = useAsked(() => compared("all"), ASKED_MS);
  const [rented, rent] = useState(null);
  const all = asked.value;
  if (!all) return html`<${Section} title=${t.own.title}><${Waiting} asked=${asked} /></${Section}>`;
  if (all.absent) {
    return html`<${Section} title=${t.own.title}><${Empty}>${all.absent}</${Empty}></${Section}>`;
  }
  if (all.hasNoPrices) {
    return html`<${Section} title=${t.own.title} about=${t.own.none}>
      <div id="no-prices"><${Command} text="freehold serve --prices prices.toml" /></div></${Section}>`;
  }
  const of = all.find((one) => one.rented === rented) ?? all[0];
  if (!of) return html`<${Section} title=${t.own.title}><${Empty}>${t.own.empty}</${Empty}></${Section}>`;
  return html`<${Section} title=${t.own.title} about=${t.own.about}>
    ${all.length > 1 && html`<div class="pairs"><${Field} label=${t.own.rented}>
      <select id="rented" value=${of.rented} onChange=${(event) => rent(event.target.value)}>
        ${all.map((one) => html`<option value=${one.rented}>${one.rented}</option>`)}
      </select></${Field}></div>`}
    <${Figures} of=${[
      [t.own.rent, cost(of, "rent"), t.own.rentAbout(of.rented)],
      [t.own.own, cost(of, "own"), t.own.ownAbout],
      [t.own.paid, cost(of, "paid"), t.own.paidAbout],
      [t.own.pays, even(of), t.own.paysAbout],
    ]} />
    ${of.days_without_price > 0
      && html`<${Notice} kind="warn">${t.own.unpriced(count(of.days_without_price))}</${Notice}>`}
    <${Curve} rented=${of.rented} />
    ${all.length > 1 && html`<${Table} caption=${t.own.all}
      heads=${[t.own.rented, `#${t.own.rent}`, `#${t.own.own}`, `#${t.own.paid}`, t.own.pays]}
      rows=${all.map((one) => [one.rented, cost(one, "rent"), cost(one, "own"), cost(one, "paid"), even(one)])} />`}
  </${Section}>`;
}

/** What each had cost by the end of each day. */
function Curve({ rented }) {
  const asked = useAsked(() => compared(rented), ASKED_MS, [rented]);
  if (asked.error) return html`<${Waiting} asked=${asked} />`;
  const days = asked.value?.[0]?.days ?? [];
  if (days.length < 2) return null;
  const line = (label, name, colour, dash) =>
    ({ label, colour, dash, values: days.map((day) => day[`${name}_sum_micro`] / 1e6) });
  return html`<${Chart} label=${t.own.chart} x=${days.map((one) => Date.parse(one.day) / 1000)} series=${[
    line(t.own.rent, "rent", "--warn"), line(t.own.own, "own", "--accent"), line(t.own.paid, "paid", "--ink", [6, 3]),
  ]} />`;
}
