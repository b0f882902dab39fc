// What a model wrote, made safe to look at. Its output is hostile: markup in it is text, and what
// markdown becomes goes through a sanitizer that knows a few elements and no address but of links.
import { Marked } from "../vendor/marked.js";
import DOMPurify from "../vendor/purify.js";
import hljs from "../vendor/highlight.js";
import * as languages from "../vendor/languages.js";
import { t } from "../strings.en.js";
import { writeClipboard } from "./parts.js";

for (const [name, language] of Object.entries(languages)) hljs.registerLanguage(name, language);

/** Beyond this a text is shown as it is: nobody reads it, and parsing would hold up the page. */
const N_CHARS_MAX = 400_000;
/** Longest block of code that is coloured. */
const N_CODE_CHARS_MAX = 40_000;

const escaped = (text) =>
  text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    // Markup is shown, not done; but for line breaks, which models write into tables.
    html: ({ text }) => (/^<br\s*\/?>$/i.test(text.trim()) ? "<br>" : escaped(text)),
    // An image would be asked for from wherever the model says, with whatever it puts there.
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(t.chat.imageAt(text || href))}</a>`,
  },
});

const RULES = {
  ALLOWED_TAGS: [
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "input",
    "li", "ol", "p", "pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["align", "checked", "class", "disabled", "href", "start", "type"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/** The text as a fragment of the document. */
export function rendered(text) {
  const parsed = text.length > N_CHARS_MAX ? null : parse(text);
  if (parsed === null) {
    const whole = document.createDocumentFragment();
    whole.append(text);
    return whole;
  }
  const fragment = DOMPurify.sanitize(parsed, RULES);
  fragment.querySelectorAll("input").forEach(asBox);
  fragment.querySelectorAll("pre > code").forEach(asCode);
  fragment.querySelectorAll("[class]").forEach((element) => {
    if (!element.closest(".code")) element.removeAttribute("class");
  });
  fragment.querySelectorAll("a").forEach(asLink);
  fragment.querySelectorAll("table").forEach((table) => {
    const frame = document.createElement("div");
    frame.className = "table";
    table.replaceWith(frame);
    frame.append(table);
  });
  return fragment;
}

/** Markup, or null for a text that is made to be too deep: the parser goes down into it. */
function parse(text) {
  try {
    return marked.parse(text);
  } catch {
    return null;
  }
}

/** A box of a list of tasks, and nothing else that can be typed into. */
function asBox(input) {
  const isChecked = input.hasAttribute("checked");
  input.replaceWith(isChecked ? "☑ " : "☐ ");
}

/** A link says where it leads, and takes nothing there with it. */
function asLink(link) {
  if (!link.hasAttribute("href")) return;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  link.title = t.chat.leads(link.href);
}

function asCode(code) {
  const language = /(?:^|\s)language-([\w+#-]+)/.exec(code.className)?.[1] ?? "";
  const text = code.textContent.replace(/\n$/, "");
  const block = document.createElement("div");
  block.className = "code";
  const head = document.createElement("div");
  head.className = "code-head";
  const name = document.createElement("span");
  name.textContent = language || t.chat.code;
  const copy = document.createElement("button");
  copy.type = "button";
  copy.className = "button bare small";
  copy.textContent = t.copy;
  copy.addEventListener("click", async () => {
    await writeClipboard(text);
    copy.textContent = t.copied;
    setTimeout(() => (copy.textContent = t.copy), 1500);
  });
  head.append(name, copy);
  const pre = document.createElement("pre");
  pre.tabIndex = 0;
  pre.append(coloured(text, language));
  code.parentElement.replaceWith(block);
  block.append(head, pre);
}

/** A text of a language, coloured where that is known. */
export function coloured(text, language) {
  const code = document.createElement("code");
  if (!hljs.getLanguage(language) || text.length > N_CODE_CHARS_MAX) {
    code.textContent = text;
    return code;
  }
  const { value } = hljs.highlight(text, { language, ignoreIllegals: true });
  const rules = { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true };
  code.append(DOMPurify.sanitize(value, rules));
  return code;
}
