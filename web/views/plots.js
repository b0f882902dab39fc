// The drawings of a report of the gate. Each says in words too what it shows.
import { html } from "../lib/ui.js";
import { t } from "../strings.en.js";

const WIDTH = 640;
/** Names stand before, numbers behind. */
const LEFT = 150;
const RIGHT = 60;
const ROW = 34;
/** Side of the square of a case, and how many stand in a row. */
const CELL = 14;
const N_A_ROW = 45;
const N_NAME = 20;

const bound = (n, least, most) => Math.min(most, Math.max(least, Number(n) || 0));
const short = (name) => (name.length > N_NAME ? `${name.slice(0, N_NAME)}…` : name);

function Plot({ title, height, words, children }) {
  return html`<figure class="plot"><figcaption>${title}</figcaption>
    <svg viewBox=${`0 0 ${WIDTH} ${height}`} role="img" aria-label=${`${title}: ${words}`}>${children}</svg></figure>`;
}

/** A line from end to end of an interval. */
function Interval({ x, at: [low, high], y }) {
  const [from, to] = [x(low), x(high)];
  return html`<path class="error" d=${`M${from} ${y}H${to}M${from} ${y - 5}v10M${to} ${y - 5}v10`} />`;
}

/** Pass rates as bars, with their intervals. */
export function Rates({ sides, words }) {
  const height = ROW * sides.length + 24;
  const x = (rate) => LEFT + bound(rate, 0, 1) * (WIDTH - LEFT - RIGHT);
  return html`<${Plot} title=${t.gate.ratesPlot} height=${height}
      words=${sides.map((side) => `${side.name} ${words(side)}`).join("; ")}>
    ${[0, 0.25, 0.5, 0.75, 1].map((tick) => html`
      <line class="grid" x1=${x(tick)} x2=${x(tick)} y1="0" y2=${height - 20} />
      <text class="tick" x=${x(tick)} y=${height - 4}>${100 * tick} %</text>`)}
    ${sides.map((side, idx) => html`<text class="name" x=${LEFT - 8} y=${ROW * idx + 19}>${short(side.name)}</text>
      <rect class=${side.isOld ? "rate old" : "rate"} x=${LEFT} y=${ROW * idx + 6}
        width=${x(side.pass_rate) - LEFT} height="18" />
      <${Interval} x=${x} at=${side.pass_rate_interval} y=${ROW * idx + 15} />`)}
  </${Plot}>`;
}

/** By how much the mean pass rate changed, with its interval. */
export function Gain({ gain, interval, words }) {
  const x = (n) => LEFT + ((bound(n, -1, 1) + 1) / 2) * (WIDTH - LEFT - RIGHT);
  const y = ROW / 2;
  return html`<${Plot} title=${t.gate.gainPlot} height=${ROW + 24} words=${words}>
    ${[-1, -0.5, 0, 0.5, 1].map((tick) => html`
      <line class=${tick ? "grid" : "mark"} x1=${x(tick)} x2=${x(tick)} y1="0" y2=${ROW} />
      <text class="tick" x=${x(tick)} y=${ROW + 20}>${tick > 0 ? "+" : ""}${100 * tick}</text>`)}
    <text class="name" x=${LEFT - 8} y=${y + 4}>${t.gate.points}</text>
    <${Interval} x=${x} at=${interval} y=${y} />
    <circle class="rate" cx=${x(gain)} cy=${y} r="5" />
  </${Plot}>`;
}

/** One square for each case. What is lost has a mark too, for whoever does not see the colours. */
export function Cases({ cases, words }) {
  const height = Math.max(1, Math.ceil(cases.length / N_A_ROW)) * CELL;
  const counts = Object.keys(t.gate.fates).map((fate) => [fate, cases.filter((one) => one.fate === fate).length]);
  const told = counts.filter(([, n]) => n > 0).map(([fate, n]) => `${n} ${t.gate.fates[fate]}`).join(", ");
  return html`<${Plot} title=${t.gate.casesPlot(told)} height=${height} words=${told}>
    ${cases.map((one, idx) => {
      const [left, top] = [(idx % N_A_ROW) * CELL, Math.floor(idx / N_A_ROW) * CELL];
      const mark = { lost: "l6 6m0-6l-6 6", fail: "l6 6m0-6l-6 6", won: "m0 3h6m-3-3v6" }[one.fate];
      return html`<g class=${`cell ${t.gate.fates[one.fate] ? one.fate : ""}`}><title>${words(one)}</title>
        <rect x=${left + 0.5} y=${top + 0.5} width="12" height="12" rx="2" />
        ${mark && html`<path d=${`M${left + 3.5} ${top + 3.5}${mark}`} />`}</g>`;
    })}
  </${Plot}>`;
}
