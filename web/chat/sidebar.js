// The list of conversations: found, taken along, and erased.
import * as history from "../lib/history.js";
import { count, when } from "../lib/format.js";
import { Icon } from "../lib/icons.js";
import { Button, Dialog, Field, Notice, confirm } from "../lib/parts.js";
import { daysKept, keepDays, ownersDays, ownersTold } from "../lib/settings.js";
import { effect, go, html, signal, useEffect, useRef, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";
import { current, listed } from "./ask.js";

/** Conversations that are listed until more are asked for. */
const N_LISTED = 100;
/** Most that a search shows. */
const N_FOUND = 200;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** What goes because the owner keeps no longer, before its user was told: { days, n }. */
const going = signal(null);
/** When that was told since the page began. */
let toldAt = 0;

export function Sidebar({ onGo }) {
  const [query, setQuery] = useState("");
  const [heads, setHeads] = useState([]);
  const [limit, setLimit] = useState(N_LISTED);
  const [isOpen, open] = useState(false);
  const changed = listed.value;
  useEffect(() => {
    let isOver = false;
    const load = async () => {
      const found = query.trim() ? await history.search(query, N_FOUND) : await history.list(limit);
      if (!isOver) setHeads(found);
    };
    const timer = setTimeout(() => load().catch(() => setHeads([])), query ? 120 : 0);
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [query, limit, changed]);
  const show = (id) => {
    go(["chat", id]);
    onGo();
  };
  return html`<div class="conversations">
    <${Button} kind="new" icon="plus" label=${t.history.begin} onClick=${() => {
      go(["chat"]);
      current.value = null;
      onGo();
    }} more=${{ id: "new-chat" }} />
    <div class="search"><${Icon} name="search" />
      <input id="search" type="search" placeholder=${t.history.search} aria-label=${t.history.search}
        value=${query} onInput=${(event) => setQuery(event.target.value)} /></div>
    ${going.value && html`<${Going} key=${going.value.days} of=${going.value} />`}
    <ul class="list" aria-label=${t.history.title}>
      ${heads.map((head) => html`<${Head} key=${head.id} head=${head} onShow=${show} />`)}
      ${heads.length === 0 && html`<li class="none">${query ? t.history.noneFound : t.history.none}</li>`}
      ${!query && heads.length === limit && html`<li><${Button} small label=${t.history.more}
        onClick=${() => setLimit(limit + N_LISTED)} /></li>`}
    </ul>
    <${Button} kind="bare-text" small icon="tune" label=${t.history.manage} onClick=${() => open(true)}
      more=${{ id: "manage" }} />
    ${isOpen && html`<${Manage} onClose=${() => open(false)} />`}
  </div>`;
}

function Head({ head, onShow }) {
  const isShown = current.value?.id === head.id;
  return html`<li class=${isShown ? "shown" : ""}>
    <button type="button" class="head" aria-current=${isShown ? "page" : undefined} onClick=${() => onShow(head.id)}>
      <span class="title">${head.title || t.history.untitled}</span>
      <span class="about">${head.around ? head.around : when(head.updated)}</span>
    </button>
    <${Button} kind="bare" small icon="trash" label=${t.history.eraseOne(head.title)}
      onClick=${() => erase(head)} />
  </li>`;
}

async function erase(head) {
  const question = t.history.eraseQuestion(head.title || t.history.untitled);
  if (!(await confirm(question, { about: t.history.eraseAbout, yes: t.history.erase }))) return;
  await history.erase(head.id);
  if (current.value?.id === head.id) {
    current.value = null;
    go(["chat"]);
  }
  listed.value += 1;
}

/** How long conversations may stay, in days; 0: for ever, -1: not at all. */
const DAYS = [0, 365, 90, 30, 7, 1, -1];

/** What there is to choose: no more than the owner keeps, which stands for all that is more. */
function choices() {
  const most = ownersDays.value;
  if (!most) return DAYS;
  return [most, ...DAYS.filter((days) => days !== 0 && days < most)];
}

/** Has the browser save a text as a file. */
export function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** What is kept for how long, and all of it at once. */
function Manage({ onClose }) {
  const [n, setN] = useState(0);
  useEffect(() => {
    history.count().then(setN, () => {});
  }, [listed.value]);
  const exportAll = async () => save("conversations.json", "application/json", JSON.stringify(await history.all()));
  const eraseAll = async () => {
    const question = t.history.eraseAllQuestion(count(n));
    if (!(await confirm(question, { about: t.history.eraseAbout, yes: t.history.eraseAll }))) return;
    await history.eraseAll();
    current.value = null;
    go(["chat"]);
    listed.value += 1;
    onClose();
  };
  return html`<${Dialog} title=${t.history.manage} onClose=${onClose}>
    <p>${ownersDays.value ? t.history.aboutKept(count(n)) : t.history.about(count(n))}</p>
    <${Field} label=${t.history.keep} about=${ownersDays.value && t.history.bounded(ownersDays.value)}>
      <select value=${daysKept()} id="keep-days" onChange=${(event) => (keepDays.value = Number(event.target.value))}>
      ${choices().map((days) => html`<option value=${days}>${t.history.keepFor(days)}</option>`)}
    </select></${Field}>
    <div class="actions">
      <${Button} icon="export" label=${t.history.exportAll} onClick=${exportAll} />
      <${Button} kind="danger" icon="trash" label=${t.history.eraseAll} onClick=${eraseAll} />
    </div>
  </${Dialog}>`;
}

/** Says what goes, and that it was told once it was seen: on a small screen the list is not always there. */
function Going({ of: { days, n } }) {
  const element = useRef(null);
  useEffect(() => {
    const observer = new IntersectionObserver((seen) => {
      if (!seen.some((one) => one.isIntersecting)) return;
      observer.disconnect();
      toldAt = Date.now();
      ownersTold.value = days;
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return html`<div ref=${element} id="going">
    <${Notice} kind="warn">${t.history.going(count(n), days)}</${Notice}></div>`;
}

async function eraseOlder(days) {
  await history.eraseBefore(Date.now() - days * DAY_MS);
  listed.value += 1;
}

/** Erases what is older than the owner of the server keeps, as it says now; but tells it before. */
async function sweepForOwner() {
  const days = ownersDays.value;
  if (!(days > 0)) {
    going.value = null;
  } else if (ownersTold.value !== days) {
    const n = await history.countBefore(Date.now() - days * DAY_MS);
    if (ownersDays.value === days) going.value = n ? { days, n } : null;
  } else if (Date.now() - toldAt >= HOUR_MS) {
    going.value = null;
    await eraseOlder(days);
  }
}

/** Erases what its user keeps no longer when the page begins: what is chosen later may be chosen again until then.
 * What the owner keeps no longer goes once the server has said so, and each hour. */
export function sweeping() {
  const own = keepDays.value;
  if (own > 0) eraseOlder(own).catch(() => {});
  const sweep = () => sweepForOwner().catch(() => {});
  effect(() => {
    ownersDays.value;
    setTimeout(sweep);
  });
  setInterval(sweep, HOUR_MS);
}
