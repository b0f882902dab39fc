// One message as it is shown, and what can be done with it.
import { count, ms } from "../lib/format.js";
import { Icon } from "../lib/icons.js";
import { rendered } from "../lib/markdown.js";
import { Badge, Button, CopyButton, Notice } from "../lib/parts.js";
import { html, useLayoutEffect, useRef, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";
import { speed } from "./answer.js";
import { isRunning, stop } from "./ask.js";
import { siblings } from "./conversation.js";
import { Receipt } from "./receipt.js";

/** What a model wrote. */
export function Markdown({ text }) {
  const element = useRef(null);
  useLayoutEffect(() => {
    element.current.replaceChildren(rendered(text));
  }, [text]);
  return html`<div class="prose" ref=${element}></div>`;
}

export function UserMessage({ conversation, node, acts }) {
  const [isEditing, edit] = useState(false);
  if (isEditing) {
    const send = (text) => {
      edit(false);
      if (text.trim()) acts.resend(node, text);
    };
    return html`<${Editor} text=${node.text} onEnd=${() => edit(false)} onSend=${send} />`;
  }
  return html`<article class="message user" aria-label=${t.chat.you} data-node=${node.id}>
    <div class="bubble">
      ${node.images?.map((url) => html`<img src=${url} alt=${t.chat.sentImage} />`)}
      <p>${node.text}</p>
    </div>
    <div class="acts">
      <${Branches} conversation=${conversation} node=${node} onChoose=${acts.choose} />
      <${CopyButton} text=${node.text} />
      <${Button} kind="bare" small icon="edit" label=${t.chat.edit} onClick=${() => edit(true)}
        more=${{ "data-edit": node.id }} />
    </div>
  </article>`;
}

function Editor({ text, onEnd, onSend }) {
  const area = useRef(null);
  useLayoutEffect(() => {
    area.current.focus();
    area.current.setSelectionRange(text.length, text.length);
  }, []);
  const onKey = (event) => {
    if (event.key === "Escape") onEnd();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      onSend(area.current.value);
    }
    event.stopPropagation();
  };
  return html`<div class="message user editing">
    <textarea ref=${area} rows="4" aria-label=${t.chat.edit} onKeyDown=${onKey} defaultValue=${text}></textarea>
    <div class="actions">
      <${Button} label=${t.no} onClick=${onEnd} />
      <${Button} kind="primary" label=${t.chat.resend} onClick=${() => onSend(area.current.value)} />
    </div>
  </div>`;
}

/** A result of a tool, as it was given. */
export function ToolMessage({ node }) {
  return html`<article class="message tool" aria-label=${t.chat.toolResult}>
    <span class="who">${t.chat.toolResult}</span><pre class="plain" tabindex="0">${node.text}</pre>
  </article>`;
}

export function AssistantMessage({ conversation, node, acts, models, isLast, isBeside }) {
  const [isShown, show] = useState(false);
  const runs = isRunning(node);
  return html`<article class="message assistant ${isBeside ? "beside" : ""}" aria-label=${node.model}
    aria-busy=${runs} data-node=${node.id} data-state=${node.state}>
    <header><span class="who">${node.model}</span>
      ${node.served && node.served !== node.model && html`<span class="served">${node.served}</span>`}
    </header>
    ${node.reasoning && html`<${Reasoning} node=${node} runs=${runs} />`}
    ${node.text ? html`<${Markdown} text=${node.text} />` : runs && !node.reasoning && html`
      <p class="thinking" role="status"><span class="unseen">${t.chat.waiting}</span><i /><i /><i /></p>`}
    ${node.calls?.map((call, idx) => html`<${Call} call=${call} runs=${runs}
      onResult=${isLast && idx === node.calls.length - 1 ? (text) => acts.toolResult(node, call, text) : null} />`)}
    ${node.error && html`<${Notice} kind="bad">${node.error}</${Notice}>`}
    ${node.state === "stopped" && html`<p class="ended">${t.chat.stopped}</p>`}
    ${node.finish === "length" && html`<p class="ended">${t.chat.lengthEnd}</p>`}
    <${Notes} notes=${node.notes} />
    <div class="acts">
      ${runs ? html`<${Button} small icon="stop" label=${t.chat.stop} onClick=${() => stop(node)} />` : html`
        <${Branches} conversation=${conversation} node=${node} onChoose=${acts.choose} />
        <${CopyButton} text=${node.text} />
        <${Again} node=${node} models=${models} acts=${acts} />
        ${node.receipt && html`<${Button} kind="bare" small icon="receipt" label=${t.receipt.title}
          onClick=${() => show(true)} />`}`}
      <${Stats} node=${node} runs=${runs} />
    </div>
    ${isShown && html`<${Receipt} node=${node} onClose=${() => show(false)} />`}
  </article>`;
}

function Reasoning({ node, runs }) {
  const isOpen = runs && !node.text;
  return html`<details class="reasoning" open=${isOpen}>
    <summary>${isOpen ? t.chat.reasoningNow : t.chat.reasoning}</summary><p>${node.reasoning}</p>
  </details>`;
}

function Stats({ node, runs }) {
  const { ttft, rate, n } = speed(node);
  const parts = [];
  if (n) parts.push(t.chat.tokens(count(n)));
  if (rate) parts.push(t.chat.rate(rate.toFixed(1)));
  if (ttft !== null) parts.push(t.chat.ttft(ms(ttft)));
  if (runs && !parts.length) return null;
  return html`<span class="stats">${parts.join(" · ")}</span>`;
}

/** What the server did to the request, so that nothing is done in silence. */
function Notes({ notes }) {
  if (!notes) return null;
  return html`<ul class="notes">${Object.entries(notes).map(([name, value]) =>
    html`<li><${Badge}>${t.chat.notes[name]}</${Badge}> <code>${value}</code></li>`)}</ul>`;
}

/** Which of several versions this is. */
function Branches({ conversation, node, onChoose }) {
  const all = siblings(conversation, node);
  const idx = all.indexOf(node);
  if (all.length < 2) return null;
  const step = (by) => onChoose(all[(idx + by + all.length) % all.length]);
  return html`<span class="branches">
    <${Button} kind="bare" small icon="left" label=${t.chat.branchBefore} onClick=${() => step(-1)} />
    <span>${idx + 1}/${all.length}</span>
    <${Button} kind="bare" small icon="right" label=${t.chat.branchAfter} onClick=${() => step(1)} />
  </span>`;
}

/** Once more, by the same model or by another one beside it. */
function Again({ node, models, acts }) {
  const others = models.filter((name) => name !== node.model);
  return html`
    <${Button} kind="bare" small icon="again" label=${t.chat.again} onClick=${() => acts.again(node, node.model)} />
    <label class="bare-select" title=${t.chat.againBy}><${Icon} name="columns" />
      <span class="unseen">${t.chat.againBy}</span>
      <select value="" onChange=${(event) => {
        acts.beside(node, event.target.value);
        event.target.value = "";
      }}>
        <option value="">${t.chat.againBy}</option>
        <option value=${node.model}>${t.chat.sameModel(node.model)}</option>
        ${others.map((name) => html`<option value=${name}>${name}</option>`)}
      </select></label>`;
}

/** A call of a tool, and the place for what it gave. */
function Call({ call, runs, onResult }) {
  const [text, set] = useState("");
  let shown = call.function.arguments;
  try {
    shown = JSON.stringify(JSON.parse(shown), null, 2);
  } catch {
    // It is on its way, or was cut off.
  }
  return html`<div class="call">
    <span class="who">${t.chat.calls} <code>${call.function.name}</code></span>
    <pre class="plain" tabindex="0">${shown}</pre>
    ${onResult && !runs && html`<div class="call-result">
      <textarea rows="2" aria-label=${t.chat.toolResult} placeholder=${t.chat.toolPlaceholder} value=${text}
        onInput=${(event) => set(event.target.value)}></textarea>
      <${Button} kind="primary" small label=${t.chat.giveResult} disabled=${!text}
        onClick=${() => onResult(text)} />
    </div>`}
  </div>`;
}
