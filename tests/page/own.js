// Checks that need a server of their own: one with an upstream and keys, and one whose lock has a
// history. The upstream is a server of a few lines on this machine, which the real broker asks.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { once } from "node:events";

import { Server } from "../clients/node/serving.js";
import { judgedTwice, open, show } from "./browser.js";

const MODEL = "smollm2-135m";
const RULE = "public work may go out";
const REFUSED = "no keys in prompts";

function folderOf(name) {
  return mkdtempSync(join(tmpdir(), `freehold-${name}-`));
}

// Answers every conversation with one word, as OpenAI does.
async function upstream() {
  const asked = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    asked.push(JSON.parse(body));
    const { model, stream } = asked.at(-1);
    const head = { id: "x", created: 1, model };
    const usage = { prompt_tokens: 5, completion_tokens: 1, total_tokens: 6 };
    if (stream) {
      response.setHeader("content-type", "text/event-stream");
      const event = (more) => response.write(`data: ${JSON.stringify({ ...head, object: "chat.completion.chunk", ...more })}\n\n`);
      event({ choices: [{ index: 0, delta: { role: "assistant", content: "There." }, finish_reason: null }] });
      event({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] });
      event({ choices: [], usage });
      return response.end("data: [DONE]\n\n");
    }
    response.setHeader("content-type", "application/json");
    const message = { role: "assistant", content: "There." };
    const choices = [{ index: 0, message, finish_reason: "stop" }];
    response.end(JSON.stringify({ ...head, object: "chat.completion", choices, usage }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { asked, port: server.address().port, close: () => server.close() };
}

const CONFIG = (port) => `
[upstream.tiny]
kind = "openai"
url = "http://127.0.0.1:${port}"

[upstream-model]
tiny = "large"

[detect]
raise = { personal = "private" }

[[rule]]
name = "${REFUSED}"
detected = "secret"
outcome = "refuse"
reason = "there is a key in the prompt"

[[rule]]
name = "${RULE}"
label = "public"
outcome = "there"
upstream = "tiny"
`;

async function api(url, method, path, body, key) {
  const headers = { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(`${url}${path}`, { method, headers, body: body && JSON.stringify(body) });
  return { status: response.status, body: await response.json() };
}

const say = (url, key) => api(url, "POST", "/v1/chat/completions", {
  messages: [{ role: "user", content: "Name a colour." }], max_tokens: 3, temperature: 0,
}, key);

async function confirm(page, name) {
  await page.locator("dialog").last().getByRole("button", { name }).last().click();
}

// A key is made, used, capped and revoked, all from the page.
async function keys({ url, page }) {
  await show(page, url, "limits");
  await page.getByLabel("Name of the new key").fill("app");
  await page.getByRole("button", { name: "Make a key" }).click();
  const secret = await page.locator(".notice.good code").textContent();
  const row = page.locator("tr", { has: page.locator("strong", { hasText: /^app$/ }) });
  await row.waitFor();
  assert.equal((await say(url, secret)).status, 200);
  await page.getByLabel("By", { exact: true }).selectOption("key");
  await page.locator("td", { hasText: /^app$/ }).waitFor();

  await page.getByLabel("Whose", { exact: true }).fill("key:app");
  await page.getByLabel("What", { exact: true }).selectOption("requests");
  await page.getByLabel("Limit", { exact: true }).fill("2");
  await page.getByRole("button", { name: "Set" }).click();
  const budget = page.locator("tr", { has: page.locator("code", { hasText: /^key:app$/ }) });
  await budget.waitFor();
  const statuses = [];
  for (let n = 0; n < 3; n += 1) statuses.push((await say(url, secret)).status);
  assert.deepEqual(statuses.slice(-1), [429], `${statuses}`);
  await budget.getByText("reached").waitFor();
  await budget.getByRole("button", { name: "Lift" }).click();
  await budget.waitFor({ state: "detached" });
  assert.equal((await say(url, secret)).status, 200);

  await row.getByRole("button", { name: "Revoke" }).click();
  await confirm(page, "Revoke");
  await row.waitFor({ state: "detached" });
  assert.equal((await say(url, secret)).status, 401);
}

// A key of a project that may do little, and ends; its secret is changed, twice. A budget that waits.
async function scoped({ url, page }) {
  await show(page, url, "limits");
  await page.getByLabel("Name of the new project").fill("shop");
  await page.getByLabel("Contents kept, days").fill("none");
  await page.getByRole("button", { name: "Make a project" }).click();
  await page.locator(".notice.bad", { hasText: "keep" }).waitFor();
  await page.getByLabel("Contents kept, days").fill("5");
  await page.getByRole("button", { name: "Make a project" }).click();
  const project = page.locator('table:has(caption:text("Projects")) tbody tr', { hasText: "shop" });
  await project.waitFor();
  assert.match(await project.textContent(), /shop\s*5 days/);
  // Where a key does not say, its project does.
  const clerk = (await api(url, "POST", "/admin/keys", { name: "clerk", project: "shop" })).body;
  await page.locator("tr", { hasText: /clerk.*contents kept 5 days by its project/s }).waitFor();
  await api(url, "DELETE", `/admin/keys/${clerk.id}`);

  const field = (name) => page.locator(`#new-key [name="${name}"]`);
  await page.getByLabel("Name of the new key").fill("till");
  await page.locator("#new-key summary").click();
  await field("project").locator("option", { hasText: "shop" }).waitFor({ state: "attached" });
  await field("project").selectOption("shop");
  await field("models").fill(`${MODEL}, none*`);
  await field("label").selectOption("internal");
  await field("expires").fill("soon");
  await field("keep").fill("3");
  // A role says which routes, so that no others are sent.
  await field("routes").fill("/metrics");
  await field("role").selectOption("user");
  assert.equal(await field("routes").isDisabled(), true);
  await page.getByRole("button", { name: "Make a key" }).click();
  await page.locator(".notice.bad", { hasText: "expires_in" }).waitFor();
  await field("expires").fill("2");
  await page.getByRole("button", { name: "Make a key" }).click();
  const secret = await page.locator(".notice.good code").textContent();
  assert.equal(await field("models").inputValue(), "", "the form is empty behind it");
  const listed = (await api(url, "GET", "/admin/keys")).body.keys.find((one) => one.name === "till");
  assert.deepEqual([listed.project, listed.scopes.models, listed.scopes.role, listed.scopes.routes],
    ["shop", [MODEL, "none*"], "user", undefined]);
  assert.deepEqual([listed.defaults.label, listed.defaults.keep], ["internal", 3]);
  assert.ok(Math.abs(listed.expires_at - listed.created_at - 2 * 86_400) <= 1, JSON.stringify(listed));
  const row = page.locator("tr", { has: page.locator("strong", { hasText: /^till$/ }) });
  assert.match(await row.textContent(), /shop.*user; smollm2-135m, none\*; internal; contents kept 3 days/s);

  const turned = async (overlap, before) => {
    await row.getByRole("button", { name: "Rotate" }).click();
    await page.locator('dialog [name="overlap"]').selectOption(overlap);
    await confirm(page, "Rotate");
    const shown = page.locator(".notice.good", { hasText: "new secret of till" }).locator("code");
    await page.waitForFunction((old) => {
      const code = document.querySelector(".notice.good code");
      return code && code.textContent !== old;
    }, before);
    return shown.textContent();
  };
  const second = await turned("3600", secret);
  assert.deepEqual([(await say(url, secret)).status, (await say(url, second)).status], [200, 200]);
  const third = await turned("0", second);
  const statuses = await Promise.all([secret, second, third].map(async (one) => (await say(url, one)).status));
  assert.deepEqual(statuses, [401, 401, 200]);

  await page.getByLabel("Whose", { exact: true }).fill(`project:shop,model:${MODEL}`);
  await page.getByLabel("Limit", { exact: true }).fill("1000000");
  await page.getByLabel("Then", { exact: true }).selectOption("alias");
  await page.getByLabel("The other model").fill("small");
  await page.getByRole("button", { name: "Set" }).click();
  const budget = page.locator("tr", { has: page.locator("code", { hasText: "project:shop" }) });
  await budget.getByText("alias:small").waitFor();
  await page.getByLabel("Then", { exact: true }).selectOption("queue");
  await page.getByRole("button", { name: "Set" }).click();
  await budget.getByText("wait", { exact: true }).waitFor();
  const { limits } = (await api(url, "GET", "/admin/limits")).body;
  assert.deepEqual(limits.map((one) => [one.what, one.per, one.then]), [["tokens", "day", "queue"]]);
  await judgedTwice(page, "keys, projects and budgets");
  await budget.getByRole("button", { name: "Lift" }).click();

  // It goes when nobody is in it any more.
  const drop = async () => {
    await project.getByRole("button", { name: "Remove" }).click();
    await confirm(page, "Remove");
  };
  await drop();
  await page.locator(".notice.bad", { hasText: "shop" }).waitFor();
  await row.getByRole("button", { name: "Revoke" }).click();
  await confirm(page, "Revoke");
  await row.waitFor({ state: "detached" });
  await drop();
  await project.waitFor({ state: "detached" });
}

// What leaves by a rule stands in the list, and the page says which rule would decide and why.
async function leaves({ url, page, binary, config, asked }) {
  const made = await api(url, "POST", "/admin/keys", { name: "public", label: "public" });
  const answered = await say(url, made.body.secret);
  assert.deepEqual([answered.status, answered.body.choices?.[0].message.content], [200, "There."], JSON.stringify(answered));
  assert.equal(asked.length, 1);
  await show(page, url, "leaves");
  const row = page.locator("tr", { hasText: "tiny / large" });
  await row.waitFor();
  assert.match(await row.textContent(), new RegExp(`public.*${RULE}`));

  const rules = page.locator("table", { hasText: REFUSED });
  assert.match(await rules.textContent(), /detected secret.*refuse: there is a key in the prompt.*label public.*there: tiny/s);
  const said = {};
  const explained = async (facts, text) => {
    Object.assign(said, facts);
    for (const [name, value] of Object.entries(facts)) {
      const field = page.locator(`#try [name="${name}"]`);
      await (name === "alias" ? field.fill(value) : field.selectOption(value));
    }
    await page.fill('#try [name="text"]', text);
    const [answer] = await Promise.all([
      page.waitForResponse(`${url}/admin/policy/explain`), page.click("#explain"),
    ]);
    // The command says the same of the same rules.
    const request = Object.entries(said).filter(([, value]) => value).map((pair) => pair.join("="));
    const words = [...(request.length ? ["--request", ...request] : []), ...(text ? ["--text", text] : [])];
    const told = execFileSync(resolve(binary), ["policy", "explain", config, ...words, "--json"], { stdio: "pipe" });
    assert.deepEqual(await answer.json(), JSON.parse(told));
    return page.locator("#decision").textContent();
  };
  assert.match(await explained({ key_label: "public", alias: "gpt-4o" }, "a fox"), new RegExp(`there.*tiny.*“${RULE}”`, "s"));
  assert.match(await explained({ key_label: "public" }, "mail ada@example.org"), /none fits.*private.*email was detected/s);
  assert.match(await explained({ key_label: "internal" }, "key AKIAQ3EGRZ7LXPWN5T2B"), /refuse.*there is a key in the prompt/s);
  assert.match(await explained({ key_label: "" }, ""), /refuse.*detected is not known, which holds in a rule that sends nothing/s);
  await page.fill('#try [name="tokens"]', "many");
  // A browser says of a refusal that it is one.
  await Promise.all([page.waitForResponse((one) => one.status() === 400), page.click("#explain")]);
  await page.locator("#decision .notice.bad", { hasText: 'tokens: "many", expected a whole number' }).waitFor();
  await judgedTwice(page, "departures and rules");
}

// What was written into the lock before is there again, and what differs is written down anew.
async function lock({ binary, browser }) {
  const folder = folderOf("lock");
  const home = join(folder, "home");
  const own = { ...process.env, FREEHOLD_HOME: home };
  const run = (args, env) => execFileSync(resolve(binary), args, { cwd: folder, stdio: "pipe", env });
  const file = JSON.parse(run(["show", MODEL, "--json"], process.env)).path;
  cpSync(resolve(dirname(file), "../.."), join(home, "models"), { recursive: true });
  run(["lock", MODEL], own);
  const path = join(folder, "freehold.lock");
  const before = readFileSync(path, "utf8");
  const bytes = readFileSync(file);
  bytes[bytes.length - 1] ^= 1;
  writeFileSync(join(folder, "new.gguf"), bytes);
  run(["upgrade", MODEL, "--from-file", "new.gguf", "--force", "--yes", "--why", "a trial"], own);
  assert.notEqual(readFileSync(path, "utf8"), before);
  const server = await Server.start(binary, MODEL, ["--lock", path, "--allow-model-changes"], own);
  const { context, page, seen } = await open(browser, server.url);
  try {
    await show(page, server.url, "models");
    const rows = page.locator(`table:has(caption:text("Versions of ${MODEL}")) tbody tr`);
    await rows.nth(1).waitFor();
    assert.match(await rows.nth(1).textContent(), /smollm2-135m-v2.*a trial.*now/s);
    await rows.nth(0).getByRole("button", { name: "Go there" }).click();
    await confirm(page, "Go there");
    await page.locator("#lock-result .notice.good", { hasText: "again (version 1 of 2)" }).waitFor();
    assert.equal(readFileSync(path, "utf8"), before);
    await page.locator("#lock-result .notice.good", { hasText: "goes by the lock as it is now" }).waitFor();
    const history = readFileSync(`${path}.history`, "utf8").trim().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(history.map((move) => move.step), ["upgrade", "rollback"]);

    writeFileSync(path, before.replace(/(tokenizer = ")[0-9a-f]{8}/, "$100000000"));
    await show(page, server.url, "chat");
    await show(page, server.url, "models");
    const drift = page.locator(`[data-drift="${MODEL}"]`);
    await drift.waitFor();
    assert.match(await drift.textContent(), /is not what the lock says.*tokenizer: .*00000000/s);
    await drift.getByRole("button", { name: "Take what is here now" }).click();
    await confirm(page, "Take what is here now");
    await page.locator("#lock-result .notice.good", { hasText: "0 new, 1 changed" }).waitFor();
    assert.equal(readFileSync(path, "utf8"), before);
    await page.getByText("What is installed is what the lock says.").waitFor();
    await page.getByText(`minilm-l6-v2 is not in the lock.`).waitFor();
    await page.getByRole("button", { name: "Write it into the lock" }).click();
    await page.locator("#lock-result .notice.good", { hasText: "1 new, 0 changed" }).waitFor();
    assert.match(readFileSync(path, "utf8"), /\[model\.minilm-l6-v2\]/);
    assert.deepEqual([seen.foreign, seen.problems], [[], []]);
  } finally {
    await context.close();
    await server.stop();
    rmSync(folder, { recursive: true });
  }
}

// Where nobody may do anything without a key, one is entered under *Access*, and all views go by it.
async function keyed({ binary, browser }) {
  const folder = folderOf("keyed");
  const ledger = join(folder, "ledger.sqlite");
  const server = await Server.start(binary, MODEL, ["--ledger", ledger, "--local-access", "key"]);
  const { url } = server;
  const made = execFileSync(resolve(binary), ["key", "create", "boss", "--admin", "--ledger", ledger], { stdio: "pipe" });
  const secret = made.toString().trim();
  // A server takes up what the command made within about a second.
  const isTaken = async () => (await api(url, "GET", "/v1/models", undefined, secret)).status === 200;
  for (let n = 0; n < 100 && !(await isTaken()); n += 1) await new Promise((done) => setTimeout(done, 100));
  const { context, page, seen } = await open(browser, url);
  try {
    await page.addInitScript(() => localStorage.setItem("freehold.options", '{"max_tokens":"8"}'));
    await page.goto(`${url}/#/operate`);
    const refused = page.locator(".view .notice.bad").first();
    await refused.waitFor();
    await page.locator(".bar .lock", { hasText: "A key is needed" }).waitFor();
    await judgedTwice(page, "a page without a key");
    const enter = async (key) => {
      await page.fill("#key", key);
      await page.press("#key", "Enter");
    };
    await enter("fh_aaaaaaaaaa_none");
    await refused.waitFor();
    await enter(secret);
    await page.locator(".badge.good", { hasText: "Well" }).waitFor();
    await refused.waitFor({ state: "detached" });
    await page.locator(".bar .lock", { hasText: /Nothing leaves|Network open/ }).waitFor();

    await show(page, url, "chat");
    await page.click("#skip-steps");
    await page.fill("#composer", "Name a colour.");
    await page.press("#composer", "Enter");
    await page.locator('.message.assistant[data-state="done"]').waitFor({ timeout: 120_000 });
    await show(page, url, "models");
    await page.locator(`[data-model="${MODEL}"]`).waitFor();
    await show(page, url, "leaves");
    await page.locator("[data-egress]").waitFor();
    await show(page, url, "limits");
    await page.getByLabel("By", { exact: true }).selectOption("key");
    await page.locator("td", { hasText: /^boss$/ }).waitFor();
    // It is there when the page comes again, and opens nothing once it is revoked.
    await page.reload();
    const row = page.locator("tr", { has: page.locator("strong", { hasText: /^boss$/ }) });
    await row.getByRole("button", { name: "Revoke" }).click();
    await confirm(page, "Revoke");
    await refused.waitFor();
    assert.equal((await api(url, "GET", "/admin/keys", undefined, secret)).status, 401);
    // A browser says of each refusal that it is one.
    assert.deepEqual([seen.foreign, seen.problems.filter((one) => !/status of 401/.test(one))], [[], []]);
  } finally {
    await context.close();
    await server.stop();
    rmSync(folder, { recursive: true });
  }
}

// What the owner keeps for a week stays in no browser for longer, and the page says so.
async function kept({ binary, browser }) {
  const folder = folderOf("kept");
  const more = ["--ledger", join(folder, "ledger.sqlite"), "--keep-contents", "7", "--local-access", "open"];
  const server = await Server.start(binary, MODEL, more);
  const { context, page, seen } = await open(browser, server.url);
  try {
    await show(page, server.url, "chat");
    await page.evaluate(async () => {
      const { save } = await import("/web/lib/history.js");
      const { create } = await import("/web/chat/conversation.js");
      for (const [title, days] of [["Of last week", 8], ["Of yesterday", 1]]) {
        await save(Object.assign(create("none", {}), { title, updated: Date.now() - days * 86_400_000 }));
      }
    });
    const yesterday = page.locator(".list .title", { hasText: "Of yesterday" });
    const lastWeek = page.locator(".list .title", { hasText: "Of last week" });
    // It is told before anything goes.
    await page.reload();
    await page.locator("#going", { hasText: /7 days.*1 conversation is older/s }).waitFor();
    await page.waitForFunction(() => localStorage.getItem("freehold.owners-told") === "7");
    await lastWeek.waitFor();
    await judgedTwice(page, "what goes");
    // Nothing goes before the server has said anew for how long it keeps, whatever was known of another visit.
    let answer;
    const held = new Promise((resolve) => (answer = resolve));
    await page.route("**/version", async (route) => {
      await held;
      await route.continue();
    });
    await page.reload();
    await lastWeek.waitFor();
    await page.waitForTimeout(500);
    assert.equal(await lastWeek.count(), 1);
    answer();
    await lastWeek.waitFor({ state: "detached" });
    await yesterday.waitFor();
    assert.equal(await page.locator("#going").count(), 0);
    await page.click("#manage");
    const days = await page.locator("#keep-days option").evaluateAll((all) => all.map((one) => one.value));
    assert.deepEqual(days, ["7", "1", "-1"]);
    assert.equal(await page.locator("#keep-days").inputValue(), "7");
    assert.match(await page.locator("dialog").textContent(), /keeps contents for 7 days; this browser keeps them no longer/);
    await judgedTwice(page, "what is kept");
    assert.deepEqual([seen.foreign, seen.problems], [[], []]);
  } finally {
    await context.close();
    await server.stop();
    rmSync(folder, { recursive: true });
  }
}

// Runs `check` against a server with keys, rules and an upstream.
async function withUpstream({ binary, browser }, check) {
  const folder = folderOf("upstream");
  const tiny = await upstream();
  const config = join(folder, "freehold.toml");
  writeFileSync(config, CONFIG(tiny.port));
  const more = ["--config", config, "--ledger", join(folder, "ledger.sqlite"), "--local-access", "open"];
  const server = await Server.start(binary, MODEL, more);
  const { context, page, seen } = await open(browser, server.url);
  try {
    await check({ url: server.url, page, binary, config, asked: tiny.asked });
    // A browser says of each refusal that it is one.
    const problems = seen.problems.filter((one) => !/status of (400|409)/.test(one));
    assert.deepEqual([seen.foreign, problems], [[], []]);
  } finally {
    await context.close();
    await server.stop();
    tiny.close();
    rmSync(folder, { recursive: true });
  }
}

export const ALONE = {
  "a key is made, used, capped and revoked": (at) => withUpstream(at, keys),
  "a key of a project may do what was said, and is rotated": (at) => withUpstream(at, scoped),
  "what left is listed, and a rule says why": (at) => withUpstream(at, leaves),
  "the lock goes back, and is written anew": lock,
  "no browser keeps more than the owner": kept,
  "a key is entered, and all of the page goes by it": keyed,
};
