// The models: what each is, by which hash, what it needs and whether it is as the lock says.
import { get, remove } from "../lib/api.js";
import { bytes, short, span, when } from "../lib/format.js";
import { Icon } from "../lib/icons.js";
import {
  Badge, Button, Command, CopyButton, Facts, Meter, Notice, Section, Table, View, Waiting, confirm, useAsked,
} from "../lib/parts.js";
import { html, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";
import { GateReport, GateReports } from "./gate.js";
import { Lock } from "./lock.js";
import { DEFAULT_MODEL, Pulling, usePull } from "./pull.js";
import { Adopt, Outdated } from "./upkeep.js";

const ASKED_MS = 5000;

/** All of them, or what the gate found of one. */
export function Models({ parts }) {
  return parts[1] === "gate" && parts[2] ? html`<${GateReport} id=${parts[2]} />` : html`<${All} />`;
}

function All() {
  const asked = useAsked(() => get("/admin/models"), ASKED_MS);
  const status = useAsked(() => get("/admin/status"), 0);
  const { model_changes: mayChange, lock_changes: mayMove } = status.value ?? {};
  return html`<${View} title=${t.models.title} about=${t.models.about}>
    ${asked.value ? html`
      <${Memory} machine=${asked.value.machine} models=${asked.value.models} />
      ${asked.value.models.map((model) => html`<${Model} key=${model.name} model=${model}
        machine=${asked.value.machine} mayChange=${mayChange} onChanged=${asked.again} />`)}
      <${Aliases} aliases=${asked.value.aliases} />
      <${Lock} models=${asked.value.models} mayMove=${mayMove} />
    ` : html`<${Waiting} asked=${asked} />`}
    <${GateReports} />
    <${Pull} mayChange=${mayChange} onChanged=${asked.again} />
    <${Adopt} mayAdopt=${mayMove} onChanged=${asked.again} />
    <${Outdated} mayChange=${mayChange} />
    <${Upgrades} />
  </${View}>`;
}

function Memory({ machine, models }) {
  const taken = models.reduce((sum, model) => sum + (model.open?.planned_bytes ?? 0), 0);
  const most = taken + (machine.free_bytes ?? 0);
  return html`<div class="card memory">
    <div class="row"><strong>${t.models.memory(bytes(taken), bytes(machine.free_bytes))}</strong>
      <span class="about">${machine.cpu}${machine.cpu && ", "}${t.models.cores(machine.cores)}</span></div>
    <${Meter} label=${t.models.memoryTaken} value=${taken} most=${most} />
  </div>`;
}

function Model({ model, machine, mayChange, onChanged }) {
  const isBad = Boolean(model.refused);
  const needs = model.open?.planned_bytes ?? model.n_bytes;
  const fits = model.open || machine.free_bytes === null || needs <= machine.free_bytes;
  return html`<article class="card model ${isBad ? "drifted" : ""}" data-model=${model.name}>
    <header class="row">
      <h2>${model.name}</h2>
      <span class="badges"><${State} model=${model} /><${Pin} model=${model} />
        ${model.task === "embed" && html`<${Badge}>${t.models.embeds}</${Badge}>`}</span>
    </header>
    ${isBad && html`<${Notice} kind="bad"><strong>${t.models.drifted}</strong> ${model.refused}</${Notice}>`}
    <${Facts} of=${[
      [t.models.size, `${bytes(model.n_bytes)}${model.quantization ? `, ${model.quantization}` : ""}`],
      [t.models.needs, html`<span class=${fits ? "" : "bad"}>${model.open ? bytes(needs)
        : t.models.atLeast(bytes(needs))}${fits ? "" : ` – ${t.models.tooLarge}`}</span>`],
      [t.models.parameters, model.n_parameters > 0 && `${short(model.n_parameters)} ${model.architecture}`],
      [t.models.context, (model.open?.n_ctx ?? model.n_ctx) && t.models.tokens(model.open?.n_ctx ?? model.n_ctx)],
      [t.models.licence, html`<span title=${model.licence}>${model.licence.split(" (")[0] || t.models.unknown}</span>`],
      [t.models.installed, model.installed && when(model.installed)],
    ]} />
    <${Hash} name=${t.models.source} value=${model.source.split("#")[0]} />
    <${Hash} name=${t.models.digest} value=${model.digest} none=${t.models.noDigest} />
    <${Hash} name=${t.models.lock} value=${model.lock} />
    ${mayChange && html`<div class="actions"><${Button} small icon="trash" label=${t.models.remove}
      onClick=${() => removeModel(model, onChanged)} /></div>`}
  </article>`;
}

function Hash({ name, value, none }) {
  if (!value && !none) return null;
  return html`<div class="hash"><span class="name">${name}</span>
    ${value ? html`<code>${value}</code><${CopyButton} text=${value} />` : html`<span class="about">${none}</span>`}
  </div>`;
}

function State({ model }) {
  if (model.refused) return html`<${Badge} kind="bad">${t.models.refused}</${Badge}>`;
  if (!model.open) return html`<${Badge}>${t.models.closed}</${Badge}>`;
  const { keep_s: keep, idle_s: idle } = model.open;
  const closes = keep === null ? t.models.stays : t.models.closesIn(span(Math.max(0, keep - idle)));
  return html`<${Badge} kind="good">${t.models.open}</${Badge}><${Badge}>${closes}</${Badge}>`;
}

function Pin({ model }) {
  const kind = model.refused ? "quiet" : "good";
  if (model.lock) return html`<${Badge} kind=${kind}><${Icon} name="lock" /> ${t.models.locked}</${Badge}>`;
  return html`<${Badge}>${model.digest ? t.models.hashed : t.models.unpinned}</${Badge}>`;
}

async function removeModel(model, onChanged) {
  const question = t.models.removeQuestion(model.name);
  if (!(await confirm(question, { about: t.models.removeAbout(bytes(model.n_bytes)), yes: t.models.remove }))) return;
  try {
    await remove("/api/delete", { model: model.name });
  } catch (error) {
    await confirm(error.message, { yes: t.close, kind: "plain" });
  }
  onChanged();
}

function Aliases({ aliases }) {
  if (aliases.length === 0) return null;
  return html`<${Section} title=${t.models.aliases} about=${t.models.aliasesAbout}>
    <${Table} caption=${t.models.aliases} heads=${[t.models.alias, t.models.model, t.models.state]}
      rows=${aliases.map((alias) => [html`<code>${alias.name}</code>`, alias.model,
        alias.refused ? html`<span class="bad">${alias.refused}</span>` : t.models.asLocked])} />
  </${Section}>`;
}

/** Fetches a model and shows how far that is. */
function Pull({ mayChange, onChanged }) {
  const [name, setName] = useState("");
  const { state, pull, abort } = usePull(onChanged);
  if (!mayChange) {
    return html`<${Section} title=${t.models.pull} about=${t.models.pullTerminal}>
      <${Command} text=${`freehold pull ${DEFAULT_MODEL}`} /><${Command} text="freehold serve --allow-model-changes" />
    </${Section}>`;
  }
  return html`<${Section} title=${t.models.pull} about=${t.models.pullAbout}>
    <form class="inline" onSubmit=${(event) => {
      event.preventDefault();
      pull(name);
    }}>
      <input type="text" aria-label=${t.models.pullName} placeholder=${DEFAULT_MODEL} value=${name} required
        onInput=${(event) => setName(event.target.value)} />
      <button class="button primary" disabled=${state.isPulling || !name}>${t.models.pullDo}</button>
      ${state.isPulling && html`<${Button} label=${t.no} onClick=${abort} />`}
    </form>
    <${Pulling} of=${state} />
  </${Section}>`;
}

/** What is done where the owner's files are. */
function Upgrades() {
  return html`<${Section} title=${t.models.upgrades} about=${t.models.upgradesAbout}>
    ${t.models.commands.map(([command, about]) => html`<div class="deed"><p>${about}</p>
      <${Command} text=${command} /></div>`)}
  </${Section}>`;
}
