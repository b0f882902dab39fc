// Lines over time, or over another axis.
import { short, time, when } from "./format.js";
import { html, useLayoutEffect, useRef } from "./ui.js";
import { t } from "../strings.en.js";

/** Colours that lines may have. */
export const COLOURS = ["--accent", "--warn", "--bad", "--ink", "--edge", "--quiet"];

/** What a custom property is as a colour here and now: a canvas knows no properties. */
function colours(frame) {
  const probe = document.createElement("span");
  frame.append(probe);
  const found = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const all = Object.fromEntries([...COLOURS, "--line"].map((name) => [name, found(name)]));
  probe.remove();
  return (name) => all[name];
}

/** Steps of an axis of time that is short. */
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 900, 1800, 3600, 7200, 14400, 43200];

// The library, once it is there: what is drawn anew then is there with what is said of it, without a
// moment in which nothing is drawn.
let UPlot = null;

/** Lines over a common axis, with what they are under the pointer. */
export function Chart({ label, x, series, isTime = true, xName = t.limits.time }) {
  const element = useRef(null);
  const text = JSON.stringify([x, series.map(({ label: name, values }) => [name, values])]);
  useLayoutEffect(() => {
    const frame = element.current;
    let plot = null;
    let isOver = false;
    const draw = async () => {
      if (!UPlot) ({ default: UPlot } = await import("../vendor/uplot.js"));
      // One point is no line.
      if (isOver || x.length < 2) return;
      const colour = colours(frame);
      const isLong = x.at(-1) - x[0] >= 86_400;
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
          label: one.label, stroke: colour(one.colour), dash: one.dash, width: 2, points: { show: false },
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
