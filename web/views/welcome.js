// The first steps: a model, an answer, a key. Behind them, ways to begin.
import { perhaps, post } from "../lib/api.js";
import { bytes } from "../lib/format.js";
import { Icon } from "../lib/icons.js";
import { Button, Command, CopyButton, Notice, useAsked } from "../lib/parts.js";
import { welcomed } from "../lib/settings.js";
import { html, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";
import { DEFAULT_MODEL, Pulling, usePull } from "./pull.js";

export function Welcome({ model, status, onAsk, onFetched }) {
  if (welcomed.value === true) return html`<${Begin} model=${model} onAsk=${onAsk} />`;
  return html`<${Steps} model=${model} status=${status} onAsk=${onAsk} onFetched=${onFetched} />`;
}

/** Questions to begin with. */
function Begin({ onAsk }) {
  return html`<div class="begin">
    <h1 tabindex="-1">${t.welcome.hello}</h1>
    <ul class="suggestions">${t.welcome.suggestions.map((text) => html`<li>
      <button type="button" onClick=${() => onAsk(text)}>${text}</button></li>`)}</ul>
  </div>`;
}

function Steps({ model, status, onAsk, onFetched }) {
  const isAnswered = welcomed.value === "answered";
  return html`<div class="begin steps">
    <h1 tabindex="-1">${t.welcome.title}</h1>
    <p class="lead">${t.welcome.lead}</p>
    <ol>
      <${Step} n="1" isDone=${Boolean(model)} title=${t.welcome.model}>
        <${ModelStep} name=${model} mayChange=${status?.model_changes} onFetched=${onFetched} /></${Step}>
      <${Step} n="2" isDone=${isAnswered} title=${t.welcome.answer}>
        <p>${t.welcome.answerAbout}</p>
        <${Button} kind="primary" label=${t.welcome.suggestions[0]} disabled=${!model}
          onClick=${() => onAsk(t.welcome.suggestions[0])} more=${{ id: "first-answer" }} />
      </${Step}>
      <${Step} n="3" title=${t.welcome.key}><${KeyStep} /></${Step}>
    </ol>
    <${Button} kind="bare-text" label=${isAnswered ? t.welcome.ready : t.welcome.skip}
      onClick=${() => (welcomed.value = true)} more=${{ id: "skip-steps" }} />
    ${status?.egress?.mode === "locked" && html`<p class="calm"><${Icon} name="lock" /> ${t.leaves.lockedShort}</p>`}
  </div>`;
}

function Step({ n, isDone, title, children }) {
  return html`<li class=${isDone ? "done" : ""}>
    <span class="n" aria-hidden="true">${isDone ? html`<${Icon} name="check" />` : n}</span>
    <div><h2>${title}${isDone && html`<span class="unseen"> ${t.welcome.done}</span>`}</h2>${children}</div>
  </li>`;
}

function ModelStep({ name, mayChange, onFetched }) {
  const asked = useAsked(() => perhaps("/admin/models").catch(() => null), 0, [name]);
  const found = asked.value?.models.find((one) => one.name === name);
  if (!name && mayChange) return html`<${PullStep} onFetched=${onFetched} />`;
  if (!name) return html`<p>${t.welcome.modelNone}</p><${Command} text=${`freehold pull ${DEFAULT_MODEL}`} />`;
  return html`<p>${t.welcome.modelHere(name, found && bytes(found.n_bytes), found?.licence)}</p>`;
}

/** Where the server may fetch models, it fetches the small one. */
function PullStep({ onFetched }) {
  const { state, pull, abort } = usePull(onFetched);
  return html`<p>${t.welcome.modelNone}</p>
    <div class="inline">
      <${Button} kind="primary" label=${t.welcome.modelFetch(DEFAULT_MODEL)} disabled=${state.isPulling || state.isDone}
        onClick=${() => pull(DEFAULT_MODEL)} more=${{ id: "first-model" }} />
      ${state.isPulling && html`<${Button} label=${t.no} onClick=${abort} />`}
    </div>
    <${Pulling} of=${state} />`;
}

/** A key for an application, where this server keeps keys. */
function KeyStep() {
  const asked = useAsked(() => perhaps("/admin/keys").catch(() => null), 0);
  const [made, set] = useState({});
  if (asked.value === null) return html`<p>${t.welcome.keyLater}</p>`;
  const make = async () => {
    try {
      set({ secret: (await post("/admin/keys", { name: "first" })).secret });
    } catch (error) {
      set({ error });
    }
  };
  return html`<p>${t.welcome.keyAbout}</p>
    ${made.error && html`<${Notice} kind="bad">${made.error.message}</${Notice}>`}
    ${made.secret ? html`<div class="command"><code>${made.secret}</code><${CopyButton} text=${made.secret} /></div>`
      : html`<${Button} icon="key" label=${t.welcome.keyMake} onClick=${make} />`}`;
}

