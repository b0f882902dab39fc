// The small parts that all views are made of.
import { html, signal, useEffect, useRef, useState } from "./ui.js";
import { perhaps } from "./api.js";
import { Icon } from "./icons.js";
import { key } from "./settings.js";
import { t } from "../strings.en.js";

/** A button; with an icon alone its label is what is read out. */
export function Button({ icon, label, kind = "plain", small, onClick, disabled, pressed, more = {} }) {
  const isBare = kind === "bare";
  return html`<button type="button" class="button ${kind} ${small ? "small" : ""}" onClick=${onClick}
    disabled=${disabled} aria-pressed=${pressed} aria-label=${isBare ? label : undefined}
    title=${isBare ? label : undefined} ...${more}>
    ${icon && html`<${Icon} name=${icon} />`}${!isBare && html`<span>${label}</span>`}
  </button>`;
}

/** Puts a text on the clipboard, and says so. */
export function CopyButton({ text, label = t.copy, kind = "bare" }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await writeClipboard(typeof text === "function" ? text() : text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<${Button} kind=${kind} small icon=${done ? "check" : "copy"}
    label=${done ? t.copied : label} onClick=${copy} />`;
}

export async function writeClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without a secure origin there is no such clipboard; the old way is.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/** A command to be pasted into a terminal. */
export function Command({ text }) {
  return html`<div class="command"><code tabindex="0">${text}</code><${CopyButton} text=${text} /></div>`;
}

export function Badge({ kind = "quiet", children }) {
  return html`<span class="badge ${kind}">${children}</span>`;
}

/** A sentence that stands out: "info", "good", "warn" or "bad". */
export function Notice({ kind = "info", children }) {
  return html`<div class="notice ${kind}" role=${kind === "bad" ? "alert" : undefined}>${children}</div>`;
}

export function Section({ title, about, action, children }) {
  return html`<section class="section">
    <header><div><h2>${title}</h2>${about && html`<p class="about">${about}</p>`}</div>${action}</header>
    ${children}
  </section>`;
}

/** The head of a view, and what is in it. */
export function View({ title, about, action, children }) {
  return html`<div class="view"><div class="view-in">
    <header class="view-head"><div><h1 tabindex="-1">${title}</h1><p class="lead">${about}</p></div>${action}</header>
    ${children}
  </div></div>`;
}

export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

/** Names and values. */
export function Facts({ of }) {
  const shown = of.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return html`<dl class="facts">
    ${shown.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

/** Big numbers in a row. */
export function Figures({ of }) {
  return html`<div class="figures">
    ${of.map(([name, value, about]) => html`<div class="figure">
      <span class="name">${name}</span><span class="value">${value}</span>
      ${about && html`<span class="about">${about}</span>`}
    </div>`)}
  </div>`;
}

/** Rows under headings, scrolled sideways where they are wider than the screen. */
export function Table({ caption, heads, rows, empty }) {
  if (rows.length === 0) return html`<${Empty}>${empty}</${Empty}>`;
  return html`<div class="table" tabindex="0" role="group" aria-label=${caption}><table>
    <caption class="unseen">${caption}</caption>
    <thead><tr>${heads.map((head) => html`<th scope="col" class=${head.startsWith("#") ? "number" : ""}>
      ${head.replace("#", "")}</th>`)}</tr></thead>
    <tbody>${rows.map((cells) => html`<tr>${cells.map((cell, idx) => html`
      <td class=${heads[idx].startsWith("#") ? "number" : ""}>${cell}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}

export function Field({ label, about, children }) {
  return html`<label class="field"><span class="label">${label}</span>${children}
    ${about && html`<span class="about">${about}</span>`}</label>`;
}

/** How much of something is taken. */
export function Meter({ label, value, most, kind = "" }) {
  const part = most > 0 ? Math.min(1, value / most) : 0;
  return html`<div class="meter ${kind}" role="meter" aria-label=${label} aria-valuemin="0"
    aria-valuemax=${most} aria-valuenow=${Math.min(value, most)}>
    <span style=${{ width: `${part * 100}%` }}></span></div>`;
}

/** What is asked before something cannot be taken back. */
const asking = signal(null);

/** Asks; resolves to whether the answer was yes. */
export function confirm(question, { about, yes, kind = "danger" }) {
  return new Promise((resolve) => {
    asking.value = { question, about, yes, kind, resolve };
  });
}

/** The place where questions are shown; once in the page. */
export function Questions() {
  const asked = asking.value;
  const end = (answer) => {
    asking.value = null;
    asked.resolve(answer);
  };
  if (!asked) return null;
  return html`<${Dialog} title=${asked.question} onClose=${() => end(false)}>
    ${asked.about && html`<p>${asked.about}</p>`}
    <div class="actions">
      <${Button} label=${t.no} onClick=${() => end(false)} />
      <${Button} kind=${asked.kind} label=${asked.yes} onClick=${() => end(true)} />
    </div>
  </${Dialog}>`;
}

/** A window over the page, which Escape closes. */
export function Dialog({ title, onClose, wide, children }) {
  const element = useRef(null);
  useEffect(() => {
    element.current.showModal();
  }, []);
  const onClick = (event) => event.target === element.current && onClose();
  return html`<dialog ref=${element} class=${wide ? "wide" : ""} aria-label=${title} onClick=${onClick}
    onClose=${onClose}>
    <div class="dialog-in">
      <header><h2>${title}</h2><${Button} kind="bare" icon="close" label=${t.close} onClick=${onClose} /></header>
      ${children}
    </div>
  </dialog>`;
}

/** What `load` gives, asked for each `ms` while the page is seen: { value, error, again }. */
export function useAsked(load, ms, inputs = []) {
  const [state, set] = useState({ value: undefined, error: null });
  const [n, setN] = useState(0);
  useEffect(() => {
    let isOver = false;
    let isAsking = false;
    const ask = async () => {
      if (isAsking || document.visibilityState !== "visible") return;
      isAsking = true;
      try {
        const value = await load();
        if (!isOver) set({ value, error: null });
      } catch (error) {
        if (!isOver) set((before) => ({ value: before.value, error }));
      }
      isAsking = false;
    };
    ask();
    const timer = ms ? setInterval(ask, ms) : null;
    return () => {
      isOver = true;
      clearInterval(timer);
    };
  }, [n, key.value, ...inputs]);
  return { ...state, again: () => setN((before) => before + 1) };
}

/** The place for the key that this page sends. */
export function KeyField() {
  return html`<${Field} label=${t.operate.key}><input type="password" autocomplete="off" value=${key.value} id="key"
    placeholder=${t.operate.noKey} onChange=${(event) => (key.value = event.target.value.trim())} /></${Field}>`;
}

/** What stands where something is still on its way, or did not come. */
export function Waiting({ asked }) {
  if (asked.error) return html`<${Notice} kind="bad">${asked.error.message}</${Notice}>`;
  return html`<p class="empty" role="status">${t.loading}</p>`;
}

/** Between two times that a view asks again. */
export const ASKED_MS = 5000;

/** Shows what `path` gives, or a sentence where this server has no such thing. */
export function Asked({ path, absent, ms = ASKED_MS, children }) {
  const asked = useAsked(() => perhaps(path), ms, [path]);
  if (asked.value === undefined) return html`<${Waiting} asked=${asked} />`;
  if (asked.value === null) return html`<${Empty}>${absent}</${Empty}>`;
  // What was there before is shown still, and that it may be so no more.
  return html`${asked.error && html`<${Notice} kind="bad">${asked.error.message}</${Notice}>`}${children(asked)}`;
}
