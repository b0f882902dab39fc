// The chat: a conversation with its models.
import { get, perhaps } from "../lib/api.js";
import * as history from "../lib/history.js";
import { Button, KeyField, Notice, useAsked } from "../lib/parts.js";
import { lastModel, lastOptions, welcomed } from "../lib/settings.js";
import { go, html, useEffect, useLayoutEffect, useRef, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";
import { Welcome } from "../views/welcome.js";
import { answer, anyRunning, current, isRunning, keep, resume, stopAll, touch, version } from "./ask.js";
import { Composer } from "./composer.js";
import { ROOT, add, asMarkdown, before, choose, create, path, siblings } from "./conversation.js";
import { AssistantMessage, ToolMessage, UserMessage } from "./message.js";
import { Options } from "./options.js";
import { save } from "./sidebar.js";

const CHAT_ASKED_MS = 30_000;

/** Models that can chat, by name; of one that is not open it is not known yet. */
const chats = (card) => card.meta?.chat !== false && !card.meta?.n_embd && card.status?.value !== "refused";

export function Chat({ id }) {
  const models = useAsked(() => get("/v1/models"), CHAT_ASKED_MS);
  const status = useAsked(() => perhaps("/admin/status").catch(() => null), CHAT_ASKED_MS);
  const [isTuning, tune] = useState(false);
  const shown = useShown(id);
  version.value;
  const cards = (models.value?.data ?? []).filter(chats);
  const names = cards.map((card) => card.id);
  const model = modelOf(shown, names);
  const card = cards.find((one) => one.id === model);
  const acts = actsOf(shown, model);
  return html`<div class="chat ${isTuning ? "tuning" : ""}">
    <div class="chat-main">
      <header class="chat-head">
        <label class="model"><span class="unseen">${t.chat.model}</span>
          <select id="model" value=${model} onChange=${(event) => acts.setModel(event.target.value)}>
            ${names.map((name) => html`<option value=${name}>${name}</option>`)}
          </select></label>
        <span class="title">${shown?.title}</span>
        ${shown?.title && html`<${Button} kind="bare" icon="export" label=${t.chat.exportOne}
          onClick=${() => save("conversation.md", "text/markdown", asMarkdown(shown))} />`}
        <${Button} kind="bare" icon="tune" label=${t.options.title} pressed=${isTuning}
          onClick=${() => tune(!isTuning)} more=${{ id: "tune" }} />
      </header>
      ${models.error && html`<${Notice} kind="bad">${models.error.message}
        ${models.error.status === 401 && html`<${KeyField} />`}</${Notice}>`}
      <${Thread} conversation=${shown} acts=${acts} names=${names} model=${model} status=${status.value}
        onFetched=${models.again} />
      <${Composer} conversationId=${shown?.id} runs=${shown && anyRunning(shown)}
        takesImages=${card?.meta?.images} onSend=${acts.send} onStop=${() => stopAll(shown)}
        onEditLast=${() => editLast(shown)} />
    </div>
    ${isTuning && html`<${Options} conversation=${shown ?? acts.begin()} defaults=${status.value?.defaults}
      onChange=${touch} onClose=${() => tune(false)} />`}
  </div>`;
}

/** The conversation of the address, or none. */
function useShown(id) {
  useEffect(() => {
    if (!id) {
      if (current.value && current.value.title) current.value = null;
      return;
    }
    if (current.value?.id === id) return;
    history.load(id).then((found) => {
      if (!found) return go(["chat"], { replace: true });
      current.value = found;
      resume(found);
      touch();
    }, () => go(["chat"], { replace: true }));
  }, [id]);
  const shown = current.value;
  return id && shown?.id !== id ? null : shown;
}

function modelOf(conversation, names) {
  const wanted = [conversation?.model, lastModel.value].find((name) => names.includes(name));
  return wanted ?? names[0] ?? "";
}

/** What can be done in a conversation. */
function actsOf(shown, model) {
  const begin = () => {
    current.value = create(model, lastOptions.value);
    return current.value;
  };
  const of = () => shown ?? begin();
  const asked = async (conversation, parent, name) => {
    lastModel.value = name;
    conversation.model = name;
    go(["chat", conversation.id], { replace: true });
    await keep(conversation).catch(() => {});
    const done = answer(conversation, parent, name);
    welcomed.value ||= "answered";
    touch();
    await done;
  };
  return {
    begin,
    setModel: (name) => {
      lastModel.value = name;
      if (shown) shown.model = name;
      touch();
    },
    send: (text, images = []) => {
      const conversation = of();
      const last = path(conversation).at(-1);
      const node = add(conversation, last?.id ?? ROOT, { role: "user", text, images });
      return asked(conversation, node, model);
    },
    resend: (node, text) => {
      const again = add(shown, node.parent, { role: "user", text, images: node.images });
      return asked(shown, again, model);
    },
    again: (node, name) => asked(shown, before(shown, node), name),
    beside: (node, name) => {
      if (!name) return undefined;
      const parent = before(shown, node);
      parent.isBeside = true;
      return asked(shown, parent, name);
    },
    choose: (node) => {
      choose(shown, node);
      keep(shown).catch(() => {});
      touch();
    },
    toolResult: (node, call, text) => {
      const result = add(shown, node.id, { role: "tool", text, callId: call.id });
      return asked(shown, result, node.model);
    },
    fold: (parent) => {
      parent.isBeside = false;
      keep(shown).catch(() => {});
      touch();
    },
  };
}

function editLast(conversation) {
  const last = conversation && path(conversation).findLast((node) => node.role === "user");
  if (last) document.querySelector(`[data-edit="${last.id}"]`)?.click();
}

function Thread({ conversation, acts, names, model, status, onFetched }) {
  const element = useRef(null);
  const follows = useRef(true);
  const nodes = conversation ? path(conversation) : [];
  const last = nodes.at(-1);
  useLayoutEffect(() => {
    const { current: thread } = element;
    if (follows.current) thread.scrollTop = thread.scrollHeight;
  });
  useEffect(() => {
    follows.current = true;
  }, [conversation?.id, nodes.length]);
  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = element.current;
    follows.current = scrollHeight - scrollTop - clientHeight < 80;
  };
  if (nodes.length === 0) {
    return html`<div class="thread empty" ref=${element}><${Welcome} model=${model} status=${status}
      onAsk=${acts.send} onFetched=${onFetched} /></div>`;
  }
  const isDone = last.state && !isRunning(last);
  return html`<div class="thread" ref=${element} onScroll=${onScroll} tabindex="0" aria-label=${t.chat.thread}>
    <div class="thread-in">${nodes.map((node, idx) => html`<${Message} key=${node.id} node=${node}
      conversation=${conversation} acts=${acts} names=${names} isLast=${idx === nodes.length - 1} />`)}</div>
    <p class="unseen" role="status">${isDone ? t.chat.done : ""}</p>
  </div>`;
}

function Message({ conversation, node, acts, names, isLast }) {
  if (node.role === "user") {
    return html`<${UserMessage} conversation=${conversation} node=${node} acts=${acts} />`;
  }
  if (node.role === "tool") return html`<${ToolMessage} node=${node} />`;
  const parent = before(conversation, node);
  const shared = { conversation, acts, models: names, isLast };
  if (!parent?.isBeside) return html`<${AssistantMessage} ...${shared} node=${node} />`;
  const all = siblings(conversation, node);
  return html`<div class="besides">
    <div class="besides-head"><span>${t.chat.besides(all.length)}</span>
      <${Button} small label=${t.chat.fold} onClick=${() => acts.fold(parent)} /></div>
    <div class="besides-in">${all.map((one) => html`<div key=${one.id} class="side ${one === node ? "chosen" : ""}">
      <${AssistantMessage} ...${shared} node=${one} isBeside />
      <${Button} small kind=${one === node ? "primary" : "plain"} pressed=${one === node}
        label=${one === node ? t.chat.goesOn : t.chat.goOnHere} onClick=${() => acts.choose(one)} />
    </div>`)}</div>
  </div>`;
}
