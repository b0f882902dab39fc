// Nothing leaves: whether anything can, what did, and where the rules are tried.
import { get, perhaps } from "../lib/api.js";
import { bytes, money, moment } from "../lib/format.js";
import { Icon } from "../lib/icons.js";
import { Badge, Button, Command, Empty, Section, Table, View, Waiting, useAsked } from "../lib/parts.js";
import { html } from "../lib/ui.js";
import { t } from "../strings.en.js";
import { Policy } from "./policy.js";

const ASKED_MS = 5000;

export function Leaves() {
  const status = useAsked(() => get("/admin/status"), 0);
  const config = useAsked(() => get("/admin/config"), 0);
  return html`<${View} title=${t.leaves.title} about=${t.leaves.about}>
    ${status.value
      ? html`<${Mode} egress=${status.value.egress} settings=${config.value?.settings ?? []} onAgain=${status.again} />`
      : html`<${Waiting} asked=${status} />`}
    <${Departures} />
    <${Policy} />
  </${View}>`;
}

function Mode({ egress, settings, onAgain }) {
  const isLocked = egress.mode === "locked";
  const why = isLocked ? [] : reasons(settings);
  return html`<div class="card mode ${isLocked ? "good" : "warn"}" data-egress=${egress.mode}>
    <div class="mode-head"><${Icon} name=${isLocked ? "lock" : "unlock"} />
      <div><h2>${isLocked ? t.leaves.locked : t.leaves.open}</h2>
        <p>${isLocked ? t.leaves.lockedAbout : t.leaves.openAbout}</p></div></div>
    ${why.length > 0 && html`<ul>${why.map((reason) => html`<li>${reason}</li>`)}</ul>`}
    <h3>${t.leaves.evidence}</h3>
    <ul class="evidence">${egress.evidence.map((line) => html`<li><code>${line}</code></li>`)}</ul>
    <div class="actions"><${Button} small icon="again" label=${t.leaves.again} onClick=${onAgain} /></div>
    <p class="about">${t.leaves.prove}</p>
    <${Command} text="freehold egress prove" />
  </div>`;
}

/** The settings that need connections, in words. */
function reasons(settings) {
  const of = (name) => settings.find((one) => one.name === name)?.value;
  const found = [];
  if (of("egress") === "open") found.push(t.leaves.bySetting("egress = \"open\""));
  if (of("allow-model-changes") === true) found.push(t.leaves.bySetting("allow-model-changes"));
  if (of("otlp-endpoint")) found.push(t.leaves.bySetting("otlp-endpoint"));
  if (String(of("ledger") ?? "").startsWith("postgres")) found.push(t.leaves.bySetting("ledger"));
  return found;
}

/** What left, and why it might. */
function Departures() {
  const asked = useAsked(() => perhaps("/admin/departures"), ASKED_MS);
  return html`<${Section} title=${t.leaves.departures} about=${t.leaves.departuresAbout}>
    ${asked.value === undefined ? html`<${Waiting} asked=${asked} />`
      : asked.value === null ? html`<${Empty}>${t.leaves.noUpstreams}</${Empty}>`
        : html`<${DepartureTable} rows=${rowsOf(asked.value)} />`}
  </${Section}>`;
}

/** The list in an answer, under whichever name it stands there. */
export const rowsOf = (body) =>
  Array.isArray(body) ? body : Object.values(body ?? {}).find(Array.isArray) ?? [];

function DepartureTable({ rows }) {
  const redacted = (of) => Object.entries(of.redacted ?? {}).map(([kind, n]) => `${n} × ${kind}`).join(", ") || "–";
  const cost = (of) => {
    const known = of.end?.cost ?? of.estimate;
    return known ? `${money(known.micro / 1e6)} ${known.currency ?? ""}` : "–";
  };
  return html`<${Table} caption=${t.leaves.departures} empty=${t.leaves.nothingLeft}
    heads=${[t.leaves.when, t.leaves.where, t.leaves.label, t.leaves.rule, `#${t.leaves.size}`, `#${t.leaves.cost}`,
      t.leaves.redacted, t.leaves.status]}
    rows=${rows.map((of) => [
      moment(of.at_us / 1000), `${of.upstream}${of.model ? ` / ${of.model}` : ""}`,
      html`<${Badge}>${of.label}</${Badge}>`, html`<code>${of.rule}</code>`, bytes(of.n_bytes),
      cost(of), redacted(of), of.end?.outcome ?? of.end?.status ?? "–",
    ])} />`;
}
