// The server's public API, as any program has it.
import { key } from "./settings.js";
import { t } from "../strings.en.js";

/** What the server refused, in its words. */
export class ApiError extends Error {
  constructor(status, message, code) {
    super(message);
    this.status = status;
    this.code = code;
  }

  /** Whether this server has no such thing. */
  get isAbsent() {
    return this.status === 404 || this.status === 405 || this.status === 501;
  }
}

function headersOf(more) {
  const own = key.value ? { authorization: `Bearer ${key.value}` } : {};
  return { ...own, ...more };
}

/** Asks, and gives the response if the server answered well. */
export async function ask(method, path, { body, headers, signal } = {}) {
  const json = body === undefined ? {} : { "content-type": "application/json" };
  let response;
  try {
    response = await fetch(path, {
      method, signal, body: typeof body === "object" ? JSON.stringify(body) : body,
      headers: headersOf({ ...json, ...headers }), cache: "no-store", credentials: "same-origin",
      redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, t.error.unreachable, "unreachable");
  }
  if (response.ok) return response;
  throw await refusal(response);
}

async function refusal(response) {
  const text = await response.text().catch(() => "");
  let error;
  try {
    error = JSON.parse(text).error;
  } catch {
    error = text.slice(0, 500);
  }
  const message = typeof error === "string" ? error : error?.message;
  return new ApiError(response.status, message || t.error.status(response.status), error?.code);
}

async function json(method, path, body, options) {
  const response = await ask(method, path, { body, ...options });
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

export const get = (path, options) => json("GET", path, undefined, options);
export const post = (path, body = undefined, options) => json("POST", path, body, options);
export const remove = (path, body = undefined, options) => json("DELETE", path, body, options);

/** A plain text. */
export async function text(path) {
  return (await ask("GET", path)).text();
}

/** The value of `get(path)`, or null where this server has no such thing. */
export async function perhaps(path) {
  try {
    return await get(path);
  } catch (error) {
    if (error.isAbsent) return null;
    throw error;
  }
}

async function* textLines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      yield* lines;
    }
    if (rest) yield rest;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The objects of a stream of JSON lines. */
export async function* objects(response) {
  for await (const line of textLines(response)) if (line.trim()) yield JSON.parse(line);
}

/** The events of a stream (text/event-stream): id and data of each. */
export async function* events(response) {
  let event = { id: null, data: "" };
  for await (const raw of textLines(response)) {
    const line = raw.replace(/\r$/, "");
    if (line === "") {
      if (event.data) yield event;
      event = { id: null, data: "" };
    } else if (line.startsWith("data:")) {
      event.data += (event.data ? "\n" : "") + line.slice(5).replace(/^ /, "");
    } else if (line.startsWith("id:")) {
      event.id = line.slice(3).trim();
    }
  }
}

/** Numbers of /metrics by name: [{labels, value}]. */
export async function metrics() {
  const found = {};
  for (const line of (await text("/metrics")).split("\n")) {
    const match = /^([a-z_]+)(?:\{(.*)\})? ([-+.\deE]+|NaN|\+Inf)$/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[name] = value;
    }
    (found[match[1]] ??= []).push({ labels, value: Number(match[3]) });
  }
  return found;
}
