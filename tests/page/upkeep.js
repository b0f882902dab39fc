// Checks of how models are kept up from the page, each with a data directory of its own: reports of
// the gate, what other programs have, and what sources have by now.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";

import { Server } from "../clients/node/serving.js";
import { DESKTOP, PHONE, judgedTwice, open, show } from "./browser.js";
import { HOSTILE } from "./hostile.js";

const MODEL = "smollm2-135m";
const CASES = `
[[case]]
id = "a colour"
prompt = "Name a colour."
parameters = { max_tokens = 6, temperature = 0 }
expect = [{ length = { min_chars = 1 } }]

[[case]]
id = "<img src=x onerror=window.__hit=1>"
prompt = "Name a tree."
parameters = { max_tokens = 6, temperature = 0 }
expect = [{ contains = "no such answer" }]
`;

// A data directory with the models of the real one, in a folder that is the user's own.
function house(binary) {
  const folder = mkdtempSync(join(tmpdir(), "freehold-upkeep-"));
  const home = join(folder, "home");
  const nowhere = { HF_HOME: "", HF_HUB_CACHE: "", XDG_CACHE_HOME: "", OLLAMA_MODELS: "" };
  const env = { ...process.env, ...nowhere, HOME: folder, FREEHOLD_HOME: home, FREEHOLD_OFFLINE: "1" };
  const run = (args, own = env) => execFileSync(resolve(binary), args, { cwd: folder, stdio: "pipe", env: own });
  const path = (name) => JSON.parse(run(["show", name, "--json"], process.env)).path;
  cpSync(resolve(dirname(path(MODEL)), "../.."), join(home, "models"), { recursive: true });
  return { folder, home, env, run, path };
}

async function withHouse({ binary, browser }, more, check) {
  const at = house(binary);
  try {
    await check.before?.(at);
    const server = await Server.start(binary, MODEL, more(at), at.env);
    const { context, page, seen } = await open(browser, server.url);
    try {
      await check.look({ ...at, url: server.url, page });
      assert.deepEqual([seen.foreign, seen.problems], [[], []]);
    } finally {
      await context.close();
      await server.stop();
    }
  } finally {
    rmSync(at.folder, { recursive: true });
  }
}

// The recorded answers are made to say everything that could get out of a report.
const reports = {
  before({ folder, run }) {
    mkdirSync(join(folder, "tests"));
    writeFileSync(join(folder, "tests", "cases.toml"), CASES);
    const refused = (args) => assert.throws(() => run(args), (error) => error.status === 9);
    refused(["test", MODEL, "--record", "answers.jsonl"]);
    const path = join(folder, "answers.jsonl");
    const lines = readFileSync(path, "utf8").trim().split("\n").map((line) => JSON.parse(line));
    for (const line of lines.slice(1)) line.answer.text = HOSTILE.join("\n");
    writeFileSync(path, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
    // Nothing is worse than that.
    run(["test", MODEL, "--baseline", "answers.jsonl"]);
  },

  async look({ url, page, home }) {
    await show(page, url, "models");
    const list = page.locator("#gate-reports");
    const row = list.locator("tbody tr").first();
    await row.waitFor();
    assert.match(await row.textContent(), new RegExp(`passed.*${MODEL}.*50\\.0 %.*95 % interval.*2 of 2`, "s"));
    const earlier = list.locator("details", { hasText: "1 earlier report" });
    assert.match(await earlier.textContent(), /refused/);
    await row.getByRole("link", { name: /Look at the report/ }).click();
    await page.locator("#gate-verdict .badge.good", { hasText: "passed" }).waitFor();
    assert.equal(await page.locator("figure.plot svg").count(), 3);
    assert.equal(await page.locator(".cell").count(), 2);
    const change = page.locator("details.change").first();
    await change.locator("summary").click();
    const [old, now] = await change.locator("pre").allTextContents();
    // What was said is there, as text, but for marks and controls that would hide something.
    assert.ok(old.includes("<script>window.__hit=1</script>") && !/[\u202a-\u202e\u0000]/.test(old));
    assert.ok(now.length > 0 && await change.locator("del").count() > 0);
    assert.equal(await page.evaluate(() => window.__hit), undefined);
    assert.equal(await page.locator(".view iframe, .view img, .view script, .view form").count(), 0);
    await page.locator("td", { hasText: "<img src=x onerror=window.__hit=1>" }).waitFor();

    await judgedTwice(page, "a report of the gate");

    await page.setViewportSize(PHONE);
    const wide = await page.evaluate(() => [...document.querySelectorAll("html, .view, .view-in, .section, .two")]
      .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.className || one.tagName));
    assert.deepEqual(wide, [], "nothing is wider than a phone");
    await page.setViewportSize(DESKTOP);

    // What is damaged is told, and keeps nobody from the others.
    writeFileSync(join(home, "gate", "0000000000000001.jsonl"), "{");
    await page.locator(".view-head a.button").click();
    await list.getByText("0000000000000001").waitFor();
  },
};

const adoption = {
  before({ folder, run, path }) {
    const models = join(folder, ".lmstudio", "models", "acme", "tiny-GGUF");
    mkdirSync(models, { recursive: true });
    cpSync(path("minilm-l6-v2"), join(models, "tiny.gguf"));
    run(["lock", MODEL]);
  },

  async look({ url, page, folder, home, run }) {
    await show(page, url, "models");
    const row = page.locator("tr", { hasText: "acme/tiny" });
    await row.waitFor();
    assert.match(await row.textContent(), /LM Studio/);
    await row.getByRole("button", { name: "Adopt acme/tiny" }).click();
    await page.locator("#adopt-result .notice.good", { hasText: "no byte was copied" }).waitFor();
    await row.getByText("is here").waitFor();
    const listed = JSON.parse(run(["list", "--json"]));
    assert.ok(listed.some((one) => one.name === "tiny"), JSON.stringify(listed));
    const rows = run(["ledger", "export", "--kind", "audit", "--ledger", join(folder, "ledger.sqlite")]).toString();
    assert.match(rows, /model adopt.*acme\/tiny/);
    assert.ok(readFileSync(join(folder, ".lmstudio/models/acme/tiny-GGUF/tiny.gguf")).length > 0 && home);

    // The network is forbidden here, which is an answer too.
    await page.getByRole("button", { name: "Ask now" }).click();
    const standing = page.locator("#outdated-result tbody tr", { hasText: MODEL });
    await standing.waitFor();
    assert.match(await standing.textContent(), /no answer.*FREEHOLD_OFFLINE/s);
    const { departures } = await (await fetch(`${url}/admin/departures`)).json();
    assert.deepEqual(departures.map((one) => [one.rule, one.end.outcome]), [["outdated", "failed"]]);
  },
};

// Where clients may change nothing, the page says what does.
const told = {
  before: adoption.before,

  async look({ url, page }) {
    await show(page, url, "models");
    await page.locator("tr", { hasText: "acme/tiny" }).waitFor();
    assert.equal(await page.getByRole("button", { name: /Adopt/ }).count(), 0);
    for (const command of ["freehold adopt lmstudio", "freehold outdated", "freehold serve --allow-lock-changes"]) {
      await page.locator(".command code", { hasText: command }).first().waitFor();
    }
  },
};

// Whoever has no model fetches the small one in the first step. The network is not asked: what the
// server would say is said for it.
const first = {
  async look({ url, page }) {
    let isHere = false;
    const asked = [];
    await page.route("**/v1/models", async (route) => {
      if (isHere) return route.continue();
      return route.fulfill({ json: { object: "list", data: [] } });
    });
    await page.route("**/api/pull", async (route) => {
      asked.push(route.request().postDataJSON());
      if (asked.length === 1) return route.fulfill({ body: '{"error":"no route to host"}\n' });
      isHere = true;
      return route.fulfill({ body: '{"status":"pulling","total":4,"completed":2}\n{"status":"success"}\n' });
    });
    await show(page, url, "chat");
    await page.click("#first-model");
    await page.locator(".steps .notice.bad", { hasText: "no route to host" }).waitFor();
    assert.equal(await page.locator("#first-answer").isDisabled(), true);
    await judgedTwice(page, "the first steps without a model");
    await page.click("#first-model");
    await page.locator(".steps li.done", { hasText: `${MODEL} is here` }).waitFor();
    assert.deepEqual(asked, [{ model: MODEL }, { model: MODEL }]);
    assert.equal(await page.locator("#first-answer").isDisabled(), false);
  },
};

const ledger = ({ folder }) => ["--ledger", join(folder, "ledger.sqlite")];
const lock = ({ folder }) => ["--lock", join(folder, "freehold.lock")];

export const UPKEEP = {
  "reports of the gate are shown, and nothing in them is done": (at) => withHouse(at, () => [], reports),
  "a model is adopted, and sources are asked, with a record of both": (at) =>
    withHouse(at, (of) => [...lock(of), ...ledger(of), "--allow-model-changes"], adoption),
  "the first step fetches a model": (at) => withHouse(at, () => ["--allow-model-changes"], first),
  "where no page may, the commands are told": (at) => withHouse(at, lock, told),
};
