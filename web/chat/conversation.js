// A conversation: a tree of messages, of which one path is shown. It knows no server and no page.

/** Where the first messages hang. */
export const ROOT = "root";

export const newId = () => crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))]
  .map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** A new one, of nothing; `options` are its system prompt and parameters. */
export function create(model, options) {
  const now = Date.now();
  return {
    id: newId(), title: "", created: now, updated: now, model, options: structuredClone(options),
    nodes: {}, children: { [ROOT]: [] }, chosen: {},
  };
}

/** Hangs a message behind `parent` and shows it. Roles are those of chat completions. */
export function add(conversation, parent, node) {
  const added = { id: newId(), parent, at: Date.now(), text: "", ...node };
  conversation.nodes[added.id] = added;
  conversation.children[added.id] = [];
  conversation.children[parent].push(added.id);
  conversation.chosen[parent] = added.id;
  conversation.updated = added.at;
  if (!conversation.title && added.role === "user") conversation.title = titleOf(added.text);
  return added;
}

export function titleOf(text) {
  const line = text.trim().split("\n")[0];
  return line.length > 60 ? `${line.slice(0, 57).trimEnd()}…` : line;
}

/** The messages that are shown, from the first on. */
export function path(conversation) {
  const shown = [];
  for (let at = ROOT; conversation.chosen[at]; at = conversation.chosen[at]) {
    shown.push(conversation.nodes[conversation.chosen[at]]);
  }
  return shown;
}

/** All that hang where this one does, itself among them. */
export function siblings(conversation, node) {
  return conversation.children[node.parent].map((id) => conversation.nodes[id]);
}

export function choose(conversation, node) {
  conversation.chosen[node.parent] = node.id;
}

/** The message before, if there is one. */
export const before = (conversation, node) => conversation.nodes[node.parent] ?? null;

/** What is sent to have an answer behind `node`. */
export function messages(conversation, node) {
  const found = [];
  for (let at = node; at; at = before(conversation, at)) found.unshift(message(at));
  const { system } = conversation.options;
  return system ? [{ role: "system", content: system }, ...found] : found;
}

function message(node) {
  switch (node.role) {
    case "user":
      return { role: "user", content: node.images?.length ? parts(node) : node.text };
    case "tool":
      return { role: "tool", tool_call_id: node.callId, content: node.text };
    default:
      return node.calls?.length
        ? { role: "assistant", content: node.text, tool_calls: node.calls }
        : { role: "assistant", content: node.text };
  }
}

function parts(node) {
  const images = node.images.map((url) => ({ type: "image_url", image_url: { url } }));
  return [{ type: "text", text: node.text }, ...images];
}

/** The parameters that `options` ask for, in words of chat completions. */
export function parameters(options) {
  const asked = {};
  for (const name of NUMBERS) {
    const value = options[name];
    if (value !== undefined && value !== "" && !Number.isNaN(Number(value))) asked[name] = Number(value);
  }
  const stops = (options.stop ?? "").split("\n").filter(Boolean);
  if (stops.length) asked.stop = stops;
  if (options.effort) asked.reasoning_effort = options.effort;
  if (options.tools?.trim()) asked.tools = JSON.parse(options.tools);
  if (options.form && options.form !== "free") FORMS[options.form](options.formText ?? "", asked);
  return asked;
}

export const NUMBERS = [
  "temperature", "top_p", "top_k", "min_p", "max_tokens", "seed", "repetition_penalty",
  "presence_penalty", "frequency_penalty",
];

/** What an answer must look like, each in its parameter. */
export const FORMS = {
  free: () => {},
  json: (_, asked) => (asked.response_format = { type: "json_object" }),
  schema: (text, asked) => {
    const schema = JSON.parse(text);
    asked.response_format = { type: "json_schema", json_schema: { name: "answer", schema, strict: true } };
  },
  choice: (text, asked) => (asked.guided_choice = text.split("\n").filter(Boolean)),
  regex: (text, asked) => (asked.guided_regex = text),
  grammar: (text, asked) => (asked.guided_grammar = text),
};

/** The path that is shown, for people. */
export function asMarkdown(conversation) {
  const { system } = conversation.options;
  const said = path(conversation).map((node) => `## ${node.role}\n\n${node.text}`);
  return [`# ${conversation.title}`, ...(system ? [`## system\n\n${system}`] : []), ...said].join("\n\n");
}
