// Rent or own: what the tokens of this server would cost elsewhere, against what owning costs.
import { metrics } from "../lib/api.js";
import { count, money, short, span, time, when } from "../lib/format.js";
import { Field, Figures, Section, Waiting, useAsked } from "../lib/parts.js";
import { costs } from "../lib/settings.js";
import { html, useEffect, useRef } from "../lib/ui.js";
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

/** What a custom property is as a colour here and now: a canvas knows no properties. */
function colours(frame) {
  const probe = document.createElement("span");
  frame.append(probe);
  const found = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const all = Object.fromEntries(["--accent", "--warn", "--quiet", "--line"].map((name) => [name, found(name)]));
  probe.remove();
  return (name) => all[name];
}

/** Steps of an axis of time that is short. */
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 900, 1800, 3600, 7200, 14400, 43200];

/** Lines over a common axis, with what they are under the pointer. */
export function Chart({ label, x, series, isTime = true, xName = t.limits.time }) {
  const element = useRef(null);
  const text = JSON.stringify([x, series.map(({ values }) => values)]);
  useEffect(() => {
    const frame = element.current;
    let plot = null;
    let isOver = false;
    const draw = async () => {
      const { default: UPlot } = await import("../vendor/uplot.js");
      // One point is no line.
      if (isOver || x.length < 2) return;
      const colour = colours(frame);
      const isLong = x.at(-1) - x[0] > 2 * 86_400;
      const clock = (at) => (isLong ? when(at * 1000) : time(at * 1000));
      const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
      const size = () => ({ width: frame.clientWidth, height: 220 });
      plot?.destroy();
      plot = new UPlot({
        ...size(),
        scales: { x: { time: isTime }, y: { range: (_, least, most) => [Math.min(0, least), most * 1.1 || 1] } },
        axes: [
          {
            ...axis, space: 80, incrs: isTime && !isLong ? SECONDS : undefined,
            values: (_, all) => all.map((at) => (isTime ? clock(at) : at)),
          },
          { ...axis, size: 56, values: (_, all) => all.map((n) => short(n)) },
        ],
        series: [{
          label: xName, value: (_, n) => (n === null ? "–" : isTime ? clock(n) : n),
        }, ...series.map((one) => ({
          label: one.label, stroke: colour(one.colour), width: 2, points: { show: false },
          value: (_, n) => (n === null || n === undefined ? "–" : short(n)),
        }))],
      }, [x, ...series.map(({ values }) => values)], frame);
    };
    draw();
    const observer = new ResizeObserver(() => plot?.setSize({ width: frame.clientWidth, height: 220 }));
    observer.observe(frame);
    const media = matchMedia("(prefers-color-scheme: dark)");
    media.addEventListener("change", draw);
    return () => {
      isOver = true;
      observer.disconnect();
      media.removeEventListener("change", draw);
      plot?.destroy();
    };
  }, [text, document.documentElement.dataset.theme]);
  return html`<div class="chart" role="img" aria-label=${label} ref=${element}></div>`;
}
