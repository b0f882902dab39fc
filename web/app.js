// The page: its frame, and which view is in it.
import { perhaps } from "./lib/api.js";
import { Icon, Logo } from "./lib/icons.js";
import { Button, Dialog, Questions, useAsked } from "./lib/parts.js";
import { ownersDays, theme } from "./lib/settings.js";
import { go, html, place, render, signal, useEffect, useRef } from "./lib/ui.js";
import { t } from "./strings.en.js";
import { anyRunning, current, stopAll } from "./chat/ask.js";
import { Sidebar, sweeping } from "./chat/sidebar.js";
import { Chat } from "./chat/view.js";
import { Leaves } from "./views/leaves.js";
import { Limits } from "./views/limits.js";
import { Models } from "./views/models.js";
import { Operate } from "./views/operate.js";
import { Session } from "./views/session.js";

const VIEWS = [
  ["chat", (parts) => html`<${Chat} id=${parts[1]} />`],
  ["models", (parts) => html`<${Models} parts=${parts} />`],
  ["leaves", () => html`<${Leaves} />`],
  ["limits", () => html`<${Limits} />`],
  ["operate", () => html`<${Operate} />`],
];

const STATUS_MS = 15_000;
const THEMES = { auto: "light", light: "dark", dark: "auto" };
const THEME_ICONS = { auto: "auto", light: "sun", dark: "moon" };

/** On small screens, whether the list of conversations lies over the view. */
const isOpen = signal(false);
const isHelping = signal(false);

function Page() {
  const parts = place.value;
  const [name, show] = VIEWS.find(([one]) => one === parts[0]) ?? VIEWS[0];
  const main = useRef(null);
  useEffect(() => {
    document.title = name === "chat" ? "Freehold" : `${t.views[name]} – Freehold`;
    // Who goes by keys or by ear begins where the view does.
    if (name !== "chat") main.current.querySelector("h1")?.focus({ preventScroll: true });
  }, [name]);
  return html`
    <a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      main.current.focus();
    }}>${t.skip}</a>
    <div class="frame ${isOpen.value ? "open" : ""}">
      <${Bar} name=${name} />
      <main id="main" ref=${main} tabindex="-1">${show(parts)}</main>
      <${Tabs} name=${name} />
    </div>
    <${Questions} />
    ${isHelping.value && html`<${Help} />`}`;
}

/** Beside the view: where one can go, and what was said. */
function Bar({ name }) {
  const close = () => (isOpen.value = false);
  return html`
    <header class="top"><${Button} kind="bare" icon="menu" label=${t.menu} onClick=${() => (isOpen.value = true)}
      more=${{ "aria-expanded": isOpen.value, id: "menu" }} /><${Brand} /><${Lock} /></header>
    <div class="shade" onClick=${close}></div>
    <div class="bar">
      <div class="bar-head"><${Brand} />
        <${Button} kind="bare" icon="close" label=${t.close} onClick=${close}
          more=${{ class: "button bare only-small" }} /></div>
      <nav aria-label=${t.nav}><ul>${VIEWS.map(([one]) => html`<li>
        <${Goes} to=${one} name=${name} onGo=${close} /></li>`)}</ul></nav>
      <${Sidebar} onGo=${close} />
      <${Session} />
      <div class="bar-foot"><${Lock} />
        <span class="grow"></span>
        <${Button} kind="bare" small icon="help" label=${t.keys.title} onClick=${() => (isHelping.value = true)} />
        <${Button} kind="bare" small icon=${THEME_ICONS[theme.value]} label=${t.theme[theme.value]}
          onClick=${() => (theme.value = THEMES[theme.value])} more=${{ id: "theme" }} /></div>
    </div>`;
}

const Brand = () => html`<a class="brand" href="#/chat"><${Logo} /><span>Freehold</span></a>`;

function Goes({ to, name, onGo, names = t.views }) {
  return html`<a href="#/${to}" class="goes" aria-current=${to === name ? "page" : undefined} onClick=${onGo}>
    <${Icon} name=${to} /><span>${names[to]}</span></a>`;
}

/** On small screens, at the bottom. */
function Tabs({ name }) {
  return html`<nav class="tabs" aria-label=${t.tabs}>${VIEWS.map(([one]) => html`
    <${Goes} to=${one} name=${name} names=${t.short} />`)}</nav>`;
}

/** The promise, in view everywhere. */
function Lock() {
  const asked = useAsked(() => perhaps("/version"), STATUS_MS);
  useEffect(() => {
    if (asked.value) ownersDays.value = asked.value.keep_contents_days ?? null;
  }, [asked.value]);
  if (asked.error?.status === 401) {
    return html`<a class="lock warn" href="#/operate"><${Icon} name="key" /><span>${t.error.keyNeeded}</span></a>`;
  }
  if (asked.error) return html`<span class="lock bad" role="status">${t.error.unreachableShort}</span>`;
  if (!asked.value) return html`<span class="lock"></span>`;
  const isLocked = asked.value.egress === "locked";
  return html`<a class="lock ${isLocked ? "good" : "warn"}" href="#/leaves">
    <${Icon} name=${isLocked ? "lock" : "unlock"} />
    <span>${isLocked ? t.leaves.lockedShort : t.leaves.openShort}</span></a>`;
}

function Help() {
  return html`<${Dialog} title=${t.keys.title} onClose=${() => (isHelping.value = false)}>
    <dl class="keys">${t.keys.all.map(([key, about]) => html`<div>
      <dt><kbd>${key}</kbd></dt><dd>${about}</dd></div>`)}</dl>
  </${Dialog}>`;
}

/** What keys do wherever one is. */
function onKey(event) {
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  const isAsked = document.querySelector("dialog[open]");
  if (event.key === "Escape" && !isAsked) {
    isOpen.value = false;
    if (current.value && anyRunning(current.value)) stopAll(current.value);
    return;
  }
  if (isAsked) return;
  const focus = (id) => {
    event.preventDefault();
    isOpen.value = id === "search" || isOpen.value;
    document.getElementById(id)?.focus();
  };
  if ((event.ctrlKey || event.metaKey) && event.key === "k") return focus("search");
  if (event.altKey && VIEWS[event.key - 1]) {
    event.preventDefault();
    return go([VIEWS[event.key - 1][0]]);
  }
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") focus("composer");
  else if (event.key === "n") document.getElementById("new-chat")?.click();
  else if (event.key === "?") isHelping.value = true;
}

addEventListener("keydown", onKey);
sweeping();
const page = document.getElementById("page");
// What stood there until the scripts were here.
page.replaceChildren();
render(html`<${Page} />`, page);
