// How models come without a copy, and what their sources have by now.
import { get, post } from "../lib/api.js";
import { bytes } from "../lib/format.js";
import { Badge, Button, Command, Notice, Section, Table, Waiting, useAsked } from "../lib/parts.js";
import { html, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";

const SERVE = "freehold serve --allow-model-changes";
/** What needs no network. */
const SERVE_HERE = "freehold serve --allow-lock-changes";

/** What other programs on this machine have, and a button to use it in place. */
export function Adopt({ mayAdopt, onChanged }) {
  const asked = useAsked(() => get("/admin/adoptable"), 0);
  const [state, set] = useState({});
  const adopt = async ({ owner, name }) => {
    set({ working: name });
    try {
      const { told } = await post("/admin/adopt", { owner, model: name });
      set({ told: `${name}: ${told}` });
      onChanged();
    } catch (error) {
      set({ error });
    }
    asked.again();
  };
  return html`<${Section} title=${t.adopt.title} about=${t.adopt.about}>
    <div aria-live="polite" id="adopt-result">
      ${state.working && html`<p class="about">${t.adopt.working(state.working)}</p>`}
      ${state.told && html`<${Notice} kind="good">${state.told}</${Notice}>`}
      ${state.error && html`<${Notice} kind="bad">${state.error.message}</${Notice}>`}
    </div>
    ${asked.value ? html`<${Found} of=${asked.value} isWorking=${Boolean(state.working)} adopt=${mayAdopt && adopt} />`
      : html`<${Waiting} asked=${asked} />`}
  </${Section}>`;
}

function Found({ of, isWorking, adopt }) {
  const words = [...new Set(of.models.filter((one) => !one.is_here && !one.refused).map((one) => one.word))];
  const way = (one) => {
    if (one.is_here) return html`<${Badge} kind="good">${t.adopt.here}</${Badge}>`;
    if (one.refused) return html`<span class="about break">${t.adopt.refused(one.refused)}</span>`;
    if (!adopt) return "";
    return html`<${Button} small label=${t.adopt.adopt} disabled=${isWorking} onClick=${() => adopt(one)}
      more=${{ "aria-label": t.adopt.adoptThis(one.name) }} />`;
  };
  return html`
    ${of.problems.map((problem) => html`<${Notice} kind="warn">${problem}</${Notice}>`)}
    <${Table} caption=${t.adopt.title} empty=${t.adopt.none}
      heads=${[t.adopt.model, t.adopt.owner, `#${t.adopt.size}`, ""]}
      rows=${of.models.map((one) => [html`<span><strong class="break">${one.name}</strong>
        <br /><code class="about break">${one.path}</code>
        ${one.notes.map((note) => html`<br /><span class="about">${note}</span>`)}</span>`,
        html`<span class="whole">${one.owner}</span>`, html`<span class="whole">${bytes(one.n_bytes)}</span>`,
        way(one)])} />
    ${!adopt && words.length > 0 && html`<p class="about">${t.adopt.terminal}</p>
      ${words.map((word) => html`<${Command} text=${`freehold adopt ${word}`} />`)}<${Command} text=${SERVE_HERE} />`}`;
}

/** Whether the sources of locked models have something newer; asked on a click alone. */
export function Outdated({ mayChange }) {
  const [state, set] = useState({});
  const ask = async () => {
    set({ isAsking: true });
    await post("/admin/outdated").then((value) => set({ value }), (error) => set({ error }));
  };
  if (!mayChange) {
    return html`<${Section} title=${t.outdated.title} about=${t.outdated.terminal}>
      <${Command} text="freehold outdated" /><${Command} text=${SERVE} /></${Section}>`;
  }
  return html`<${Section} title=${t.outdated.title} about=${t.outdated.about} action=${html`
      <${Button} small icon="again" label=${t.outdated.ask} disabled=${state.isAsking} onClick=${ask} />`}>
    <div aria-live="polite" id="outdated-result">
      ${state.isAsking && html`<p class="about">${t.outdated.asking}</p>`}
      ${state.error && html`<${Notice} kind="bad">${state.error.message}</${Notice}>`}
      ${state.value && html`<${Standings} of=${state.value.models} />`}
    </div>
  </${Section}>`;
}

const KINDS = { current: "good", fixed: "good", newer: "warn", "not asked": "bad" };

function Standings({ of }) {
  const newer = of.filter((one) => one.state === "newer");
  return html`
    <${Table} caption=${t.outdated.title} empty=${t.outdated.none}
      heads=${[t.outdated.model, t.outdated.state, t.outdated.now, t.outdated.source]}
      rows=${of.map((one) => [html`<strong class="break">${one.name}</strong>`,
        html`<${Badge} kind=${KINDS[one.state] ?? "quiet"}>${t.outdated.states[one.state] ?? one.state}</${Badge}>`,
        html`<span class="break">${one.now}</span>`, html`<code class="break">${one.source}</code>`])} />
    ${newer.map((one) => html`<${Command} text=${`freehold upgrade ${one.name}`} />`)}`;
}
