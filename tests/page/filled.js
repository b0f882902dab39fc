// A ledger in which much is kept, and checks of what the page shows of it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";

import { Server } from "../clients/node/serving.js";
import { PHONE, fits, judgedTwice, open, show } from "./browser.js";

const MODEL = "smollm2-135m";
const DAY_US = 86_400_000_000;
// A hundred requests a day.
const N_ROWS = 36_500;

// Writes rows of usage and kept contents into the ledger at `path`.
export function fill(path, nRows, nConversations) {
  const database = new DatabaseSync(path);
  const now = Date.now() * 1000;
  // A year of traffic of 40 keys of 8 projects, by 3 models.
  database.exec(`
    BEGIN;
    WITH RECURSIVE of(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM of WHERE n < ${nRows})
    INSERT INTO ledger_usage (instance, n, id, at_us, key, project, person, alias, model, route, label, upstream,
      n_prompt, n_cached, n_answer, queue_us, first_us, total_us, outcome, money_micro, energy_mj, energy_source, receipt)
    SELECT 77, n, 'req_' || n, ${now} - ${365 * DAY_US} + n * (${365 * DAY_US} / ${nRows}), 'key-' || (n * 7 % 40),
      'project-' || (n * 7 % 8), '', '', 'model-' || (n % 3), '/v1/chat/completions', 'private', '',
      n % 900, n % 300, n % 400, n % 1000, 20000 + n % 90000, 400000 + n % 5000000, 'done', n % 50, n % 7000, 'estimated',
      'chatcmpl-' || n FROM of;
    INSERT INTO ledger_usage_days (day_us, key, project, model, upstream, n_requests, n_prompt, n_cached, n_answer,
      money_micro, energy_mj)
    SELECT at_us / ${DAY_US} * ${DAY_US}, key, project, model, upstream, count(*), sum(n_prompt), sum(n_cached),
      sum(n_answer), sum(money_micro), sum(energy_mj) FROM ledger_usage GROUP BY 1, 2, 3, 4, 5;
    INSERT INTO ledger_content_keys (id, person, node, made_us, erased_us)
      SELECT 'scale', 'owner', x'00', ${now}, 0;
    WITH RECURSIVE of(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM of WHERE n < ${nConversations})
    INSERT INTO ledger_contents (id, person, key, at_us, until_us, sealed)
    SELECT 'resp_' || n, 'owner', 'scale', ${now}, ${now} + ${30 * DAY_US}, randomblob(4000) FROM of;
    COMMIT;`);
  database.close();
}

// Runs `check` against a server whose ledger has a year of use.
async function withYear({ binary, browser }, check, prices) {
  const folder = mkdtempSync(join(tmpdir(), "freehold-filled-"));
  const ledger = join(folder, "ledger.sqlite");
  const more = ["--ledger", ledger, "--local-access", "open"];
  // Once, so that the tables are there.
  await (await Server.start(binary, MODEL, more)).stop();
  fill(ledger, N_ROWS, 10);
  const path = join(folder, "prices.toml");
  if (prices) writeFileSync(path, prices);
  const server = await Server.start(binary, MODEL, [...more, ...(prices ? ["--prices", path] : [])]);
  const { context, page, seen } = await open(browser, server.url);
  try {
    await check({ url: server.url, page, binary, ledger, prices: path });
    assert.deepEqual([seen.foreign, seen.problems], [[], []]);
  } finally {
    await context.close();
    await server.stop();
    rmSync(folder, { recursive: true });
  }
}

// Sums with energy and times, and a line for each of those that have the most.
async function usage({ url, page }) {
  await show(page, url, "limits");
  const table = page.locator('table:has(caption:text-is("Use"))');
  await table.locator("tbody tr").nth(29).waitFor();
  assert.match(await table.locator("thead").textContent(), /Requests.*Read.*Written.*Energy.*Cost/s);
  assert.match(await table.locator("tbody tr").nth(5).textContent(), /\d m?Wh/);
  const lines = (label) => page.locator(`.chart[aria-label="${label}, day by day"] .u-legend .u-series`);
  // The first is that of the days.
  const drawn = async (label, names) => {
    // What is drawn anew is gone for a moment where the page is slow: until it is as it must be.
    let told = [];
    const isDrawn = () => told.length === names.length && names.every((name, idx) => told[idx].includes(name));
    for (const until = Date.now() + 10_000; !isDrawn() && Date.now() < until;) {
      told = (await lines(label).allTextContents()).slice(1);
      if (!isDrawn()) await page.waitForTimeout(50);
    }
    assert.ok(isDrawn(), `${label}: ${names} are not ${told}`);
  };
  await drawn("Tokens, by day", ["Read", "Written"]);
  const by = page.getByLabel("By", { exact: true });
  await by.selectOption("key");
  await drawn("Tokens, by key", ["key-", "key-", "key-", "key-", "key-", "35 others"]);
  await by.selectOption("model");
  await drawn("Tokens, by model", ["model-", "model-", "model-"]);
  await page.getByLabel("Drawn", { exact: true }).selectOption("energy");
  await drawn("Energy, Wh, by model", ["model-", "model-", "model-"]);
  assert.equal(await table.locator("tbody tr").count(), 3);

  await page.getByRole("button", { name: "How long they took" }).click();
  const last = table.locator("thead th").nth(9);
  await last.waitFor();
  assert.match(await table.locator("thead").textContent(), /First token, median.*95 %.*All of it, median.*95 %/s);
  const cells = (await table.locator("tbody tr").first().locator("td").allTextContents()).slice(6);
  assert.equal(cells.length, 4);
  cells.forEach((cell) => assert.match(cell, /^\d[\d.]* m?s$/));
  assert.match(await page.locator("#no-prices").textContent(), /--prices/);
  await page.locator(".command code", { hasText: "freehold serve --prices prices.toml" }).waitFor();
  await judgedTwice(page, "use of a year");
  await page.setViewportSize(PHONE);
  await fits(page, "use of a year on a phone");
}

const price = (model, prompt, answer) => `[[price]]
vendor = "vendor"
model = "${model}"
in = ${prompt}
out = ${answer}
currency = "EUR"
since = 2020-01-01
`;

// Bought a hundred days ago.
const BOUGHT = new Date(Date.now() - 100 * 86_400_000).toISOString().slice(0, 10);
export const PRICES = `${price("large", 300, 1500)}${price("small one", 0.2, 0.8)}
[own]
currency = "EUR"
hardware = 1800.00
since = ${BOUGHT}
years = 5
energy = 0.30
watts-idle = 40
watts-busy = 150
`;

// The page, the server and the command say the same of renting and owning.
async function renting({ url, page, binary, ledger, prices }) {
  const told = (...more) => JSON.parse(execFileSync(resolve(binary),
    ["usage", "--prices", prices, "--ledger", ledger, "--json", ...more], { stdio: "pipe" }));
  const asked = async (rent) =>
    (await (await fetch(`${url}/admin/usage?rent=${encodeURIComponent(rent)}`)).json()).compared;
  const all = await asked("all");
  assert.deepEqual(all, told().compared);
  assert.deepEqual(all.map((one) => one.rented), ["vendor/large", "vendor/small one"]);
  assert.deepEqual(await asked("vendor/small one"), [told("--rent", "vendor/small one")]);
  assert.ok(all[0].rent_micro > 0 && all[0].break_even.is === "reached", JSON.stringify(all[0]));

  await show(page, url, "limits");
  const figure = (name) => page.locator(".figure", { has: page.locator(`.name:text-is("${name}")`) });
  const paid = new Date(all[0].break_even.day)
    .toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
  await figure("Owning has paid").getByText(`since ${paid}`).waitFor();
  const shown = (micro) => `${(micro / 1e6).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })} EUR`;
  for (const [name, micro] of [["Renting", all[0].rent_micro], ["Owning", all[0].own_micro], ["Paid", all[0].paid_micro]]) {
    assert.equal(await figure(name).locator(".value").textContent(), shown(micro), name);
  }
  await page.locator('.chart[aria-label^="What renting would have cost"] canvas').waitFor();
  await page.locator("#rented").selectOption("vendor/small one");
  await figure("Renting").getByText("as vendor/small one").waitFor();
  assert.equal(await figure("Renting").locator(".value").textContent(), shown(all[1].rent_micro));
  assert.equal(await page.locator("#no-prices").count(), 0);
  await judgedTwice(page, "renting and owning");
}

export const FILLED = {
  "renting and owning are as the command tells them": (at) => withYear(at, renting, PRICES),
  "use is drawn by day, key and model, with energy and times": (at) => withYear(at, usage),
};
