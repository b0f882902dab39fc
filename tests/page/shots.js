// Screenshots of every view, in light and dark, on a desktop and a phone, of a server in which a year
// of use is kept. They are written into the folder that is named, for the README and for whoever
// wants to see what a change does.
//
//     node tests/page/shots.js target/release/freehold FOLDER

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

import { Server } from "../clients/node/serving.js";
import { DESKTOP, PHONE, launch, open, show } from "./browser.js";
import { PRICES, fill } from "./filled.js";

const MODEL = "smollm2-135m";
const EMBEDDING_MODEL = "minilm-l6-v2";
const N_ROWS = 36_500;
// What each is drawn with, beside the addresses of the views: the place in the view that is shown.
const SHOTS = [
  ["chat"], ["models"], ["leaves"], ["limits"], ["use", "limits", "Use"], ["own", "limits", "Rent or own"], ["operate"],
];
const MADE = [
  ["/admin/projects", { name: "shop" }],
  ["/admin/keys", { name: "support", project: "shop", models: [MODEL], label: "internal", keep: 30 }],
  ["/admin/keys", { name: "books", role: "auditor", expires_in: 90 * 86_400 }],
  ["/admin/limits", { subject: "project:shop", what: "tokens", amount: 2_000_000, per: "month" }],
  ["/admin/limits", { subject: "all", what: "concurrent", amount: 8, then: "queue" }],
];

async function started(binary, folder) {
  const ledger = join(folder, "ledger.sqlite");
  const prices = join(folder, "prices.toml");
  writeFileSync(prices, PRICES);
  // The model that is first in the lock, the one for embeddings, is not what it says.
  const lock = join(folder, "freehold.lock");
  execFileSync(resolve(binary), ["lock", MODEL, EMBEDDING_MODEL], { cwd: folder, stdio: "pipe" });
  writeFileSync(lock, readFileSync(lock, "utf8").replace(/(tokenizer = ")[0-9a-f]{8}/, "$100000000"));
  const more = ["--ledger", ledger, "--local-access", "open", "--prices", prices, "--lock", lock];
  // Once, so that the tables are there.
  await (await Server.start(binary, MODEL, more)).stop();
  fill(ledger, N_ROWS, 0);
  const server = await Server.start(binary, MODEL, more);
  const headers = { "content-type": "application/json" };
  for (const [path, body] of MADE) {
    const made = await fetch(`${server.url}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
    if (!made.ok) throw new Error(`${path}: ${await made.text()}`);
  }
  return server;
}

async function talk(page, url) {
  await show(page, url, "chat");
  await page.fill("#composer", "Explain how a hash chain works, in three sentences.");
  await page.press("#composer", "Enter");
  await page.locator('.message.assistant[data-state="done"]').waitFor({ timeout: 120_000 });
}

async function shoot(browser, url, into, device, options) {
  const { context, page } = await open(browser, url, { reducedMotion: "reduce", deviceScaleFactor: 2, ...options });
  await page.addInitScript(() => {
    localStorage.setItem("freehold.welcomed", "true");
    localStorage.setItem("freehold.options", '{"max_tokens":"160","temperature":"0"}');
  });
  await talk(page, url);
  for (const [name, view = name, title] of SHOTS) {
    // The conversation stays in its view.
    if (name !== "chat") await show(page, url, view);
    if (title) {
      const section = page.locator(".section", { has: page.locator("h2", { hasText: new RegExp(`^${title}$`) }) });
      await section.evaluate((element) => element.scrollIntoView({ block: "start" }));
    }
    // Charts are drawn when their library is here, and that of the server at work from its second reading on.
    await page.waitForTimeout(800);
    if (view === "operate") await page.locator(".chart canvas").waitFor();
    await page.screenshot({ path: join(into, `${name}-${options.colorScheme}-${device}.png`) });
  }
  await context.close();
}

async function main() {
  const [binary, into] = process.argv.slice(2);
  if (!binary || !into) {
    console.log("usage: node tests/page/shots.js BINARY FOLDER");
    process.exitCode = 2;
    return;
  }
  const browser = await launch();
  if (!browser) return console.log("shots: skipped, there is no chromium (CHROMIUM says where one is)");
  mkdirSync(into, { recursive: true });
  const folder = mkdtempSync(join(tmpdir(), "freehold-shots-"));
  const server = await started(binary, folder);
  try {
    for (const [device, viewport] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
      for (const colorScheme of ["light", "dark"]) await shoot(browser, server.url, into, device, { viewport, colorScheme });
    }
  } finally {
    await server.stop();
    await browser.close();
    rmSync(folder, { recursive: true });
  }
  console.log(`shots: ${4 * SHOTS.length} images in ${into}`);
}

await main();
