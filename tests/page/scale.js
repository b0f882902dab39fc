// How long the page's questions take where much has been kept: a ledger with 1,000,000 rows of
// usage and 10,000 kept contents, a browser with 10,000 conversations. Prints the medians, and fails
// where the server takes longer than 300 ms for one of them.
//
//     node tests/page/scale.js target/release/freehold [--rows 1000000] [--conversations 10000]

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { Server } from "../clients/node/serving.js";
import { launch, open, show } from "./browser.js";
import { PRICES, fill } from "./filled.js";

const MODEL = "smollm2-135m";
const N_TIMES = 7;
// What nobody waits for.
const MS_MAX = 300;
// What the views ask for.
const ASKED = [
  ["chat", "/v1/models"], ["chat", "/admin/status"],
  ["models", "/admin/models"], ["models", "/admin/lock"],
  ["leaves", "/admin/departures"], ["leaves", "/admin/policy"],
  ["limits", "/admin/keys"], ["limits", "/admin/limits"],
  ...["day", "model", "key", "project"].flatMap((by) =>
    ["30d", "365d"].map((since) => ["limits", `/admin/usage?by=${by}&since=${since}`])),
  ...["model", "key", "project"].flatMap((by) =>
    ["30d", "365d"].map((since) => ["limits", `/admin/usage?by=day,${by}&since=${since}`])),
  ["limits", "/admin/projects"], ["limits", "/admin/usage?since=0d&rent=all"],
  ["limits", "/admin/usage?since=0d&rent=vendor%2Fsmall%20one"], ["every view", "/version"],
  ["limits, on a click", "/admin/usage?by=day&since=1d&times=true"],
  ["limits, on a click", "/admin/usage?by=day&since=30d&times=true"],
  ["operate", "/admin/running"], ["operate", "/metrics"], ["operate", "/admin/config"], ["operate", "/health"],
  ["by script", "/admin/persons"], ["by script", "/admin/usage/rows?limit=1000"],
];

const median = (all) => all.sort((one, other) => one - other)[all.length >> 1];

async function timed(work) {
  const all = [];
  for (let n = 0; n < N_TIMES; n += 1) {
    const begun = performance.now();
    await work();
    all.push(performance.now() - begun);
  }
  return median(all);
}

// Conversations of a question and an answer each, in the page's own store.
async function converse(page, n) {
  await page.evaluate(async (n) => {
    const { save } = await import("/web/lib/history.js");
    const { ROOT, add, create } = await import("/web/chat/conversation.js");
    for (let idx = 0; idx < n; idx += 1) {
      const one = create("smollm2-135m", {});
      const asked = add(one, ROOT, { role: "user", text: `Question ${idx} about pomegranates` });
      add(one, asked.id, { role: "assistant", text: "An answer of some words. ".repeat(20), state: "done" });
      one.title = `Question ${idx}`;
      const done = save(one);
      if (idx % 500 === 499) await done;
    }
  }, n);
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { rows: { type: "string", default: "1000000" }, conversations: { type: "string", default: "10000" } },
  });
  const [nRows, nConversations] = [Number(values.rows), Number(values.conversations)];
  const folder = mkdtempSync(join(tmpdir(), "freehold-scale-"));
  const more = ["--ledger", join(folder, "ledger.sqlite"), "--keep-contents", "30", "--local-access", "open"];
  // Once, so that the tables are there.
  await (await Server.start(positionals[0], MODEL, more)).stop();
  fill(join(folder, "ledger.sqlite"), nRows, nConversations);
  const prices = join(folder, "prices.toml");
  writeFileSync(prices, PRICES);
  const server = await Server.start(positionals[0], MODEL, [...more, "--prices", prices]);
  const headers = { "content-type": "application/json" };
  const post = (path, body) => fetch(`${server.url}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  for (const per of ["day", "month"]) {
    await post("/admin/limits", { subject: "all", what: "tokens", amount: 1e9, per });
    await post("/admin/limits", { subject: "key:key-7", what: "requests", amount: 1e6, per });
  }
  console.log(`${cpus().length} cores of ${cpus()[0].model}, ${new Date().toISOString().slice(0, 10)}`);
  console.log(`${nRows} rows of usage, ${nConversations} conversations; medians of ${N_TIMES}\n`);
  const slow = [];
  for (const [view, path] of ASKED) {
    const ms = await timed(async () => {
      const response = await fetch(`${server.url}${path}`);
      await response.arrayBuffer();
      if (!response.ok) throw new Error(`${path}: ${response.status}`);
    });
    if (ms > MS_MAX) slow.push(`${path}: ${ms.toFixed(0)} ms`);
    console.log(`${view.padEnd(20)} ${path.padEnd(44)} ${ms.toFixed(1).padStart(8)} ms`);
  }
  const browser = await launch();
  if (browser) {
    const { page } = await open(browser, server.url);
    await show(page, server.url, "chat");
    await converse(page, nConversations);
    const told = await page.evaluate(async () => {
      const { list, search } = await import("/web/lib/history.js");
      const timed = async (work) => {
        const begun = performance.now();
        await work();
        return performance.now() - begun;
      };
      return [await timed(() => list(100)), await timed(() => search("pomegranates 77", 200))];
    });
    console.log(`\nin the browser: the list ${told[0].toFixed(0)} ms, a search through all ${told[1].toFixed(0)} ms`);
    await browser.close();
  }
  await server.stop();
  rmSync(folder, { recursive: true });
  if (slow.length > 0) {
    console.log(`scale: FAILED, longer than ${MS_MAX} ms: ${slow.join("; ")}`);
    process.exitCode = 1;
  }
}

await main();
