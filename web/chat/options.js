// System prompt and parameters of a conversation, and the playground for schemas and tools.
import { Button, Field, Notice } from "../lib/parts.js";
import { lastOptions } from "../lib/settings.js";
import { html } from "../lib/ui.js";
import { t } from "../strings.en.js";
import { FORMS, NUMBERS, parameters } from "./conversation.js";

const RANGES = {
  temperature: [0, 2, 0.1], top_p: [0, 1, 0.05], top_k: [0, 1000, 1], min_p: [0, 1, 0.01],
  max_tokens: [1, 131072, 1], seed: [0, 2 ** 53 - 1, 1], repetition_penalty: [0.1, 2, 0.05],
  presence_penalty: [-2, 2, 0.1], frequency_penalty: [-2, 2, 0.1],
};

const SCHEMA = `{
  "type": "object",
  "properties": {
    "title": { "type": "string" },
    "year": { "type": "integer" }
  },
  "required": ["title", "year"],
  "additionalProperties": false
}`;

const TOOLS = `[
  {
    "type": "function",
    "function": {
      "name": "weather",
      "description": "The weather of a town",
      "parameters": {
        "type": "object",
        "properties": { "town": { "type": "string" } },
        "required": ["town"]
      }
    }
  }
]`;

/** What a form of answers begins with. */
const BEGINNINGS = {
  schema: SCHEMA, choice: "yes\nno", regex: "[0-9]{4}-[0-9]{2}-[0-9]{2}", grammar: 'root ::= "yes" | "no"',
};

export function Options({ conversation, defaults, onChange, onClose }) {
  const { options } = conversation;
  const set = (name, value) => {
    options[name] = value;
    if (value === "" || value === undefined) delete options[name];
    lastOptions.value = { ...options };
    onChange();
  };
  const onInput = (name) => (event) => set(name, event.target.value);
  const setForm = (event) => {
    const form = event.target.value;
    options.formText = BEGINNINGS[form] ?? "";
    set("form", form === "free" ? "" : form);
  };
  const form = options.form ?? "free";
  return html`<aside class="options" aria-label=${t.options.title}>
    <header><h2>${t.options.title}</h2>
      <${Button} kind="bare" icon="close" label=${t.close} onClick=${onClose} /></header>
    <div class="options-in">
      <${Field} label=${t.options.system}><textarea rows="4" value=${options.system ?? ""}
        placeholder=${t.options.systemPlaceholder} onInput=${onInput("system")}></textarea></${Field}>
      <div class="pairs">${NUMBERS.map((name) => html`<${Field} label=${t.options.names[name]}>
        <input type="number" inputmode="decimal" min=${RANGES[name][0]} max=${RANGES[name][1]}
          step=${RANGES[name][2]} value=${options[name] ?? ""} name=${name}
          placeholder=${defaults?.[name] === undefined ? t.options.unset : round(defaults[name])}
          onInput=${onInput(name)} /></${Field}>`)}
        <${Field} label=${t.options.effort}><select value=${options.effort ?? ""} onChange=${onInput("effort")}>
          <option value="">${t.options.unset}</option>
          ${["none", "low", "medium", "high"].map((word) => html`<option value=${word}>${word}</option>`)}
        </select></${Field}>
      </div>
      <${Field} label=${t.options.stop} about=${t.options.onePerLine}><textarea rows="1"
        value=${options.stop ?? ""} onInput=${onInput("stop")}></textarea></${Field}>
      <h3>${t.options.playground}</h3>
      <${Field} label=${t.options.form}><select value=${form} onChange=${setForm}>
        ${Object.keys(FORMS).map((one) => html`<option value=${one}>${t.options.forms[one]}</option>`)}
      </select></${Field}>
      ${form in BEGINNINGS && html`<${Field} label=${t.options.formText[form]}><textarea class="mono" rows="8"
        spellcheck="false" value=${options.formText} onInput=${onInput("formText")}></textarea></${Field}>`}
      <${Field} label=${t.options.tools} about=${t.options.toolsAbout}><textarea class="mono" rows="6"
        spellcheck="false" value=${options.tools ?? ""} onInput=${onInput("tools")}></textarea></${Field}>
      ${!options.tools && html`<${Button} small label=${t.options.toolsExample}
        onClick=${() => set("tools", TOOLS)} />`}
      <${Asked} options=${options} />
      <p class="about">${t.options.inEffect}</p>
    </div>
  </aside>`;
}

const round = (n) => String(Math.round(n * 1000) / 1000);

/** What of all this is sent. */
function Asked({ options }) {
  try {
    const asked = parameters(options);
    if (Object.keys(asked).length === 0) return null;
    return html`<details><summary>${t.options.sent}</summary>
      <pre class="plain" tabindex="0">${JSON.stringify(asked, null, 2)}</pre></details>`;
  } catch (error) {
    return html`<${Notice} kind="bad">${t.chat.notJson(error.message)}</${Notice}>`;
  }
}
