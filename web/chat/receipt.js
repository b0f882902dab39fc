// The receipt of an answer, and whether it holds.
import { get, post } from "../lib/api.js";
import { moment } from "../lib/format.js";
import { Button, Dialog, Facts, Notice, Waiting, useAsked } from "../lib/parts.js";
import { html, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";

export function Receipt({ node, onClose }) {
  const path = `/v1/receipts/${encodeURIComponent(node.receipt)}`;
  const asked = useAsked(() => get(path), 0, [node.receipt]);
  return html`<${Dialog} wide title=${t.receipt.title} onClose=${onClose}>
    <p>${t.receipt.about}</p>
    ${asked.value ? html`<${Shown} node=${node} signed=${asked.value} path=${path} />`
      : html`<${Waiting} asked=${asked} />`}
  </${Dialog}>`;
}

function Shown({ node, signed, path }) {
  const { receipt } = signed;
  const choice = receipt.choices[0] ?? {};
  return html`
    <${Verify} node=${node} path=${path} />
    <${Facts} of=${[
      [t.receipt.id, html`<code>${receipt.id}</code>`],
      [t.receipt.when, moment(receipt.time.unix_us / 1000)],
      [t.receipt.model, receipt.model.name],
      [t.receipt.digest, receipt.model.digest && html`<code>${receipt.model.digest}</code>`],
      [t.receipt.lock, receipt.model.lock && html`<code>${receipt.model.lock}</code>`],
      [t.receipt.engine, `${receipt.engine.build}, ${t.receipt.numerics(receipt.engine.numerics)}, ` +
        `${receipt.engine.kv}, ${t.receipt.context(receipt.engine.n_ctx)}`],
      [t.receipt.tokens, t.receipt.ofTokens(receipt.prompts[0]?.n_tokens, choice.n_tokens)],
      [t.receipt.seed, choice.seed],
      [t.receipt.ended, choice.finish],
      [t.receipt.node, html`<code>${signed.node}</code>`],
    ]} />
    <h3>${t.receipt.inEffect}</h3>
    <${Facts} of=${parametersOf(receipt.parameters)} />
    <details><summary>${t.receipt.whole}</summary><pre class="plain" tabindex="0">${
      JSON.stringify(signed, null, 2)}</pre></details>`;
}

/** What the request came to, as it was in effect; what is off is left out. */
function parametersOf(parameters) {
  const shown = ([, value]) => value !== null && !(Array.isArray(value) && value.length === 0);
  return Object.entries(parameters).filter(shown).map(([name, value]) =>
    [name, typeof value === "object" ? JSON.stringify(value) : String(value)]);
}

function Verify({ node, path }) {
  const [state, set] = useState({});
  const verify = async () => {
    set({ isAsking: true });
    try {
      set({ result: await post(`${path}/verify`, { request: node.request }) });
    } catch (error) {
      set({ error });
    }
  };
  const { result, error, isAsking } = state;
  if (!node.request) return html`<${Notice}>${t.receipt.noRequest}</${Notice}>`;
  return html`<div class="verify" aria-live="polite">
    ${!result && html`<${Button} kind="primary" icon="check" disabled=${isAsking}
      label=${isAsking ? t.receipt.verifying : t.receipt.verify} onClick=${verify} />`}
    ${error && html`<${Notice} kind="bad">${error.message}</${Notice}>`}
    ${result?.equal && html`<${Notice} kind="good">${t.receipt.equal(result.n_tokens)}</${Notice}>`}
    ${result && !result.equal && html`<${Notice} kind="bad">
      <strong>${t.receipt.differs}</strong>
      <ul>${result.differences.map((one) => html`<li>${one}</li>`)}</ul></${Notice}>`}
  </div>`;
}
