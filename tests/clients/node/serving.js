// What the checks of the Node clients share, as serving.py for the Python ones: a running
// `freehold serve`, and running the checks.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import { parseArgs } from "node:util";

const START_MS_MAX = 300_000; // may fetch the model
const STOP_MS_MAX = 60_000;
// Of its diagnostics, shown when a check fails.
const N_LINES_SHOWN = 40;

export const EMBEDDER = "minilm-l6-v2";
export const QUESTION = "What is 17 + 25?";
// What this small model answers with its exact weights, and in other engines. It cannot add.
export const ANSWER = "17 + 25 = 32.";
export const STORY = "Tell me a story about a fox.";
export const WHERE = "What is the weather in Paris?";
export const UNITS = ["celsius", "fahrenheit"];

// A running `freehold serve` of a chat model and the catalogue's encoder, which takes batches.
export class Server {
  constructor(process, model) {
    this.process = process;
    this.model = model;
    this.diagnostics = "";
    process.stderr.on("data", (data) => (this.diagnostics += data));
    this.exit = once(process, "exit");
  }

  // `more` are further arguments of the server.
  static async start(binary, model, more = [], env = {}) {
    const options = { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } };
    const folder = mkdtempSync(join(tmpdir(), "freehold-batches-"));
    const batches = ["--batches", join(folder, "batches")];
    const server = new Server(
      spawn(binary, ["serve", model, EMBEDDER, "--listen", "127.0.0.1:0", ...batches, ...more], options),
      model,
    );
    server.exit.then(() => rmSync(folder, { recursive: true, force: true }));
    const timer = setTimeout(() => server.process.kill("SIGKILL"), START_MS_MAX);
    let printed = "";
    // Keeps reading, so that a full pipe cannot stop the server.
    server.process.stdout.on("data", (data) => {
      if (server.url) return;
      printed += data;
      server.url = /http:\/\/[0-9.]+:\d+(?=\s)/.exec(printed)?.[0];
      if (server.url) server.process.emit("ready");
    });
    await Promise.race([once(server.process, "ready"), server.exit]);
    clearTimeout(timer);
    if (!server.url) throw new Error(`the server printed no address:\n${server.diagnostics}`);
    return server;
  }

  // Asks it to end; its exit status, or null where it had to be killed.
  async stop() {
    if (this.process.exitCode === null) this.process.kill("SIGTERM");
    const timer = setTimeout(() => this.process.kill("SIGKILL"), STOP_MS_MAX);
    const [status] = await this.exit;
    clearTimeout(timer);
    return status;
  }
}

export function equal(got, expected, what = "") {
  if (what) what += ": ";
  const shown = (value) => JSON.stringify(value);
  assert.deepEqual(got, expected, `${what}got ${shown(got)}, expected ${shown(expected)}`);
}

export function holds(condition, found) {
  assert.ok(condition, JSON.stringify(found));
}

// The error that `promise` must be rejected with, which must be of the class `kind`.
export async function rejected(kind, promise) {
  const error = await Promise.resolve(promise).then(
    (value) => assert.fail(`expected ${kind.name}, got ${JSON.stringify(value)}`),
    (error) => error,
  );
  assert.ok(error instanceof kind, `expected ${kind.name}, got ${error?.stack ?? error}`);
  return error;
}

export async function list(iterable) {
  const items = [];
  for await (const item of iterable) items.push(item);
  return items;
}

export function cosine(a, b) {
  return a.reduce((sum, x, idx) => sum + x * b[idx], 0); // of vectors of length 1
}

// A call of the tool that the checks offer, whose arguments are valid.
export function checkWeather(name, args) {
  equal(name, "get_weather");
  equal(Object.keys(args).sort(), ["city", "unit"]);
  holds(typeof args.city === "string" && args.city.length <= 20, args);
  holds(UNITS.includes(args.unit), args);
}

// Answers to a request after many that were left: those must not go on.
export async function checkFreeSoon(ask) {
  const start = performance.now();
  equal(await ask(), ANSWER);
  const seconds = (performance.now() - start) / 1000;
  holds(seconds < 20, `${seconds.toFixed(1)} s for a short answer after clients left`);
}

// Runs the checks (functions of a server, or of what `open` makes of the program and a model, by
// name) in order; sets the exit status.
export async function runChecks(name, checks, open = Server.start) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      model: { type: "string", default: "smollm2-135m" },
      only: { type: "string", default: "" }, // run only checks whose name contains this
    },
  });
  if (positionals.length !== 1) {
    console.error("usage: node FILE BINARY [--model NAME] [--only TEXT]");
    process.exit(2);
  }
  const server = await open(positionals[0], values.model);
  let [nPassed, nFailed] = [0, 0];
  for (const [key, check] of Object.entries(checks)) {
    if (!key.includes(values.only)) continue;
    const start = performance.now();
    let outcome = "ok";
    try {
      await check(server);
      nPassed += 1;
    } catch (error) {
      console.log(error);
      outcome = "FAILED";
      nFailed += 1;
    }
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`${key.padEnd(45)} ${outcome.padEnd(7)} ${seconds.padStart(6)} s`);
  }
  if ((await server.stop()) !== 0) {
    console.log("the server did not end well");
    nFailed += 1;
  }
  if (nFailed) {
    const lines = server.diagnostics.trimEnd().split("\n").slice(-N_LINES_SHOWN);
    console.log(["the server said:", ...lines].join("\n"));
  }
  console.log(`node ${name}: ${nPassed} passed, ${nFailed} failed`);
  process.exitCode = nFailed ? 1 : 0;
}
