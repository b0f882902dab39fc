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
import { open, show } from "./browser.js";

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
    const problems = seen.problems.filter((one) => !/status of 400/.test(one));
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
  "what left is listed, and a rule says why": (at) => withUpstream(at, leaves),
  "the lock goes back, and is written anew": lock,
};
