// Asking for answers: streams that are followed, stopped, and found again after a reload.
import { ask, events, remove } from "../lib/api.js";
import * as history from "../lib/history.js";
import { keepDays } from "../lib/settings.js";
import { signal } from "../lib/ui.js";
import { t } from "../strings.en.js";
import { begun, fail, take } from "./answer.js";
import { ROOT, add, messages, newId, parameters, path } from "./conversation.js";

/** Milliseconds between two notes of an answer that goes on: what a reload loses at most of its text. */
const NOTE_MS = 400;
/** Longest request that is kept, so that its receipt can be verified. */
const N_REQUEST_CHARS = 1 << 20;

/** The conversation that is shown, and how often it has changed. */
export const current = signal(null);
export const version = signal(0);
/** Answers at work, by the id of their message. */
const running = new Map();
/** Told when the list of conversations has changed. */
export const listed = signal(0);

let isDrawn = true;

/** Has the page shown anew, at most once a frame. */
export function touch() {
  if (!isDrawn) return;
  isDrawn = false;
  requestAnimationFrame(() => {
    isDrawn = true;
    version.value += 1;
  });
}

export const isRunning = (node) => running.has(node.id);
export const anyRunning = (conversation) =>
  [...running.values()].some((run) => run.conversation === conversation);

/** Keeps a conversation, where conversations are kept. */
export async function keep(conversation) {
  if (keepDays.value < 0) return;
  await history.save(conversation);
  listed.value += 1;
}

/** Asks for an answer behind `parent` by `model`, with `options` where they differ from the conversation's. */
export async function answer(conversation, parent, model) {
  const node = add(conversation, parent?.id ?? ROOT, begun(model));
  node.requestId = `page-${newId()}`;
  let body;
  try {
    body = {
      model,
      messages: messages(conversation, parent),
      ...parameters(conversation.options),
      stream: true,
      stream_options: { include_usage: true },
    };
  } catch (error) {
    fail(node, t.chat.notJson(error.message));
    touch();
    return node;
  }
  const text = JSON.stringify(body);
  if (text.length <= N_REQUEST_CHARS) node.request = text;
  node.stats.asked = performance.now();
  const headers = { "x-request-id": node.requestId };
  await follow(conversation, node, (signal) =>
    ask("POST", "/v1/chat/completions", { body: text, headers, signal }));
  return node;
}

/** Goes on with answers that a reload of the page has cut from it. */
export function resume(conversation) {
  for (const node of Object.values(conversation.nodes)) {
    if (node.state !== "running" || running.has(node.id)) continue;
    if (!node.stream) {
      fail(node, t.chat.cut);
      continue;
    }
    const headers = { "last-event-id": node.stream.after };
    // Its times were of another page.
    node.stats = { ...node.stats, asked: null, first: null, last: null, isResumed: true };
    follow(conversation, node, (signal) =>
      ask("GET", `/v1/streams/${encodeURIComponent(node.stream.id)}`, { headers, signal }));
  }
}

async function follow(conversation, node, begin) {
  const controller = new AbortController();
  running.set(node.id, { conversation, controller });
  touch();
  let noted = 0;
  try {
    const response = await begin(controller.signal);
    takeHeaders(node, response.headers);
    for await (const event of events(response)) {
      const now = performance.now();
      if (take(node, event, now)) break;
      touch();
      if (node.stream && now - noted > NOTE_MS) {
        noted = now;
        keep(conversation).catch(() => {});
      }
    }
    if (node.state === "running") node.state = node.finish ? "done" : "failed";
    if (node.state === "failed") node.error ??= t.chat.brokenOff;
  } catch (error) {
    takeError(node, error);
  } finally {
    running.delete(node.id);
    delete node.stream;
    conversation.updated = Date.now();
    touch();
    await keep(conversation).catch(() => {});
  }
}

function takeHeaders(node, headers) {
  node.receipt = headers.get("x-freehold-receipt") ?? node.receipt;
  for (const name of ["adapted", "ignored", "unused"]) {
    const value = headers.get(`x-freehold-${name}`);
    if (value) (node.notes ??= {})[name] = value;
  }
}

function takeError(node, error) {
  if (error.name === "AbortError" || node.isStopped) node.state = "stopped";
  else if (node.stats.isResumed && error.isAbsent) fail(node, t.chat.cut);
  else fail(node, error.message);
}

/** Ends an answer: for this page at once, and for the server too. */
export function stop(node) {
  const run = running.get(node.id);
  if (!run) return;
  node.isStopped = true;
  run.controller.abort();
  // Where streams can be resumed, going away is not enough.
  remove(`/admin/running/${encodeURIComponent(node.requestId)}`).catch(() => {});
}

export function stopAll(conversation) {
  for (const node of path(conversation)) if (isRunning(node)) stop(node);
  for (const node of Object.values(conversation.nodes)) if (isRunning(node)) stop(node);
}
