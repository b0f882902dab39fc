// The page in a browser, against a real `freehold serve` with the real default model.
//
//     node tests/page/test_page.js target/release/freehold [--only NAME] [--shots FOLDER] [--at URL]
//
// `--at` looks at a server that runs already (with --resume-streams, and an alias `other`).
// Without chromium nothing is looked at, and that is said.

import assert from "node:assert/strict";
import { createServer, request as httpRequest } from "node:http";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { once } from "node:events";
import { parseArgs } from "node:util";

import { Server } from "../clients/node/serving.js";
import { DESKTOP, PHONE, fits, judged, launch, open, show } from "./browser.js";
import { FILLED } from "./filled.js";
import { HOSTILE } from "./hostile.js";
import { ALONE } from "./own.js";
import { UPKEEP } from "./upkeep.js";

const MODEL = "smollm2-135m";
const ALIAS = "other";
const VIEWS = ["chat", "models", "leaves", "limits", "operate"];
// Times that a page is opened to know when it is painted.
const N_PAINTS = 7;
// Long enough that a person could stop it, or leave.
const LONG = "Tell me a very long story about a fox and a river, with many chapters.";

const last = (page) => page.locator(".message.assistant").last();

async function say(page, text) {
  await page.fill("#composer", text);
  await page.press("#composer", "Enter");
}

// Waits until the newest answer has come to such an end.
async function ended(page, state = "done") {
  await page.waitForFunction((state) => {
    const all = document.querySelectorAll(".message.assistant");
    return all.length && all[all.length - 1].dataset.state === state;
  }, state, { timeout: 120_000 });
}

async function begun(page, nChars = 1) {
  await page.waitForFunction((n) => {
    const all = document.querySelectorAll(".message.assistant .prose");
    return all.length && all[all.length - 1].textContent.length >= n;
  }, nChars, { timeout: 60_000 });
}

// Parameters by which answers are short, and the same each time.
async function shorten(page, nTokens) {
  await page.click("#tune");
  await page.fill('[name="max_tokens"]', String(nTokens));
  await page.fill('[name="temperature"]', "0");
  await page.click("#tune");
}

async function skipSteps(page, url) {
  await show(page, url, "chat");
  await page.click("#skip-steps");
}

async function running(url) {
  return (await (await fetch(`${url}/admin/running`)).json()).running;
}

// Until nothing is at work for the server.
async function idle(url) {
  for (let n = 0; n < 100; n += 1) {
    if ((await running(url)).length === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail("requests are still at work");
}

const CHECKS = {
  async "first run, an answer and its receipt"({ url, page }) {
    // A small model does not always find an end.
    await page.addInitScript(() => localStorage.setItem("freehold.options", '{"max_tokens":"40"}'));
    await show(page, url, "chat");
    assert.equal(await page.locator(".steps li").count(), 3);
    await page.waitForSelector(".steps li.done");
    // Looked for before the click: the answer is short, and its end takes the button away.
    await Promise.all([page.waitForSelector("#stop"), page.click("#first-answer")]);
    await ended(page);
    assert.match(await last(page).locator(".stats").textContent(), /tokens · .*tokens\/s · first after/);
    await last(page).getByRole("button", { name: "Receipt" }).click();
    await page.getByRole("button", { name: "Verify now" }).click();
    await page.waitForSelector(".notice.good", { timeout: 120_000 });
    assert.match(await page.locator(".verify").textContent(), /Bit-equal/);
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("dialog").count(), 0);
  },

  async "stop ends the answer for the server too"({ url, page }) {
    await skipSteps(page, url);
    await say(page, LONG);
    await begun(page, 20);
    assert.equal((await running(url)).length, 1);
    await page.keyboard.press("Escape");
    await ended(page, "stopped");
    await idle(url);
  },

  async "a reload in mid-answer goes on"({ url, page }) {
    await skipSteps(page, url);
    await shorten(page, 300);
    await say(page, LONG);
    await begun(page, 120);
    const before = await last(page).locator(".prose").textContent();
    await page.reload();
    await ended(page);
    const after = await last(page).locator(".prose").textContent();
    assert.ok(after.length > before.length, `${before.length} ${after.length}`);
    const body = {
      model: MODEL, messages: [{ role: "user", content: LONG }], max_tokens: 300, temperature: 0,
    };
    const headers = { "content-type": "application/json" };
    const whole = await fetch(`${url}/v1/chat/completions`, { method: "POST", headers, body: JSON.stringify(body) });
    const { content } = (await whole.json()).choices[0].message;
    const shown = await page.evaluate(async (text) => {
      const { rendered } = await import("/web/lib/markdown.js");
      return rendered(text).textContent;
    }, content);
    assert.equal(after, shown, "nothing is lost and nothing comes twice");
  },

  async "edit, branches, and another alias side by side"({ url, page }) {
    await skipSteps(page, url);
    await shorten(page, 12);
    await say(page, "Name a colour.");
    await ended(page);
    await page.press("#composer", "ArrowUp");
    await page.fill(".editing textarea", "Name a tree.");
    await page.press(".editing textarea", "Enter");
    await page.waitForSelector(".message.user .branches");
    await ended(page);
    await page.locator(".message.user p", { hasText: /^Name a tree\.$/ }).waitFor();
    await page.locator(".message.user .branches").getByRole("button").first().click();
    await page.locator(".message.user p", { hasText: /^Name a colour\.$/ }).waitFor();
    await last(page).locator("select").selectOption(ALIAS);
    await page.waitForSelector(".besides");
    await page.waitForFunction(() => {
      const all = [...document.querySelectorAll(".side .message")];
      return all.length === 2 && all.every((one) => one.dataset.state === "done");
    });
    assert.deepEqual(await page.locator(".side .who").allTextContents(), [MODEL, ALIAS]);
    const [one, other] = await page.locator(".side .prose").allTextContents();
    assert.equal(one, other, "an alias is the same model, at temperature 0 the same answer");
  },

  async "an answer of a schema"({ url, page }) {
    await skipSteps(page, url);
    await page.click("#tune");
    await page.fill('[name="max_tokens"]', "80");
    await page.getByLabel("The answer must be").selectOption("schema");
    await page.click("#tune");
    await say(page, "A book, as JSON.");
    await ended(page);
    const { title, year } = JSON.parse(await last(page).locator(".prose").textContent());
    assert.ok(typeof title === "string" && Number.isInteger(year));
  },

  async "history is searched, taken along and erased"({ url, page }) {
    await skipSteps(page, url);
    await shorten(page, 4);
    for (const text of ["Say pomegranate.", "Say hawthorn."]) {
      await page.click("#new-chat");
      await say(page, text);
      await ended(page);
    }
    const titles = () => page.locator(".list .title").allTextContents();
    await page.waitForFunction(() => document.querySelectorAll(".list .title").length === 2);
    assert.deepEqual(await titles(), ["Say hawthorn.", "Say pomegranate."]);
    await page.fill("#search", "POMEGRANATE");
    await page.waitForFunction(() => document.querySelectorAll(".list .title").length === 1);
    assert.deepEqual(await titles(), ["Say pomegranate."]);
    await page.fill("#search", "no such word");
    await page.waitForSelector(".list .none");
    await page.fill("#search", "");
    await page.click("#manage");
    const [download] = await Promise.all([
      page.waitForEvent("download"), page.getByRole("button", { name: "Save all as JSON" }).click(),
    ]);
    const saved = JSON.parse(readFileSync(await download.path(), "utf8"));
    assert.deepEqual(saved.map((one) => one.title).sort(), ["Say hawthorn.", "Say pomegranate."]);
    await page.getByRole("button", { name: "Erase all" }).click();
    await page.locator("dialog").last().getByRole("button", { name: "Erase all" }).click();
    await page.waitForSelector(".list .none");
    await page.reload();
    await page.waitForSelector(".list .none");
    await page.waitForTimeout(300);
    assert.deepEqual(await titles(), []);
  },

  async "a running request is cancelled, the ledger verified"({ url, page }) {
    const headers = { "content-type": "application/json" };
    const messages = [{ role: "user", content: LONG }];
    const body = JSON.stringify({ messages, max_tokens: 4000, ignore_eos: true });
    const asked = fetch(`${url}/v1/chat/completions`, { method: "POST", headers, body });
    await show(page, url, "operate");
    await page.locator(".section tbody").getByRole("button", { name: "Cancel" }).first().click();
    await page.locator("dialog").getByRole("button", { name: "Cancel" }).last().click();
    const response = await asked;
    assert.equal(response.status, 503);
    assert.equal((await response.json()).error.code, "cancelled");
    await page.getByRole("button", { name: "Verify the ledger" }).click();
    await page.waitForSelector("#ledger-result .notice.good");
    assert.match(await page.locator("#ledger-result").textContent(), /Intact/);
    assert.match(await page.locator("main").textContent(), /resume-streams/);
  },

  async "nothing can leave, and the page says so"({ url, page }) {
    await show(page, url, "leaves");
    await page.waitForSelector("[data-egress]");
    const { egress } = await (await fetch(`${url}/version`)).json();
    assert.equal(await page.locator("[data-egress]").getAttribute("data-egress"), egress);
    const evidence = await page.locator(".evidence").textContent();
    assert.match(evidence, egress === "locked" ? /the kernel refused it/ : /the kernel gave one/);
  },

  async "every view fits phone and desktop, light and dark, and everybody"({ url, browser }) {
    for (const [name, viewport] of Object.entries({ phone: PHONE, desktop: DESKTOP })) {
      for (const colorScheme of ["light", "dark"]) {
        const { context, page, seen } = await open(browser, url, { viewport, colorScheme, reducedMotion: "reduce" });
        for (const view of VIEWS) {
          await show(page, url, view);
          await page.waitForTimeout(400);
          await fits(page, `${view} on ${name}`);
          if (view === "chat") await skipIfThere(page);
          await judged(page, `${view} on ${name}, ${colorScheme}`);
        }
        clean(seen, `${name} ${colorScheme}`);
        await context.close();
      }
    }
  },

  async "a chat fits and is for everybody"({ url, browser }) {
    for (const viewport of [PHONE, DESKTOP]) {
      const { context, page, seen } = await open(browser, url, { viewport, reducedMotion: "reduce" });
      await skipSteps(page, url);
      await say(page, "x".repeat(400));
      await begun(page);
      await page.keyboard.press("Escape");
      await fits(page, "a long word");
      await page.click("#tune");
      await fits(page, "parameters");
      await judged(page, "a chat with its parameters");
      clean(seen, "chat");
      await context.close();
    }
  },

  async "hostile answers do nothing"({ url, page, seen }) {
    await show(page, url, "chat");
    assert.ok(HOSTILE.length >= 50);
    for (const text of HOSTILE) {
      const found = await page.evaluate(looked, text);
      assert.deepEqual(found, [], text.slice(0, 200));
    }
    await page.waitForTimeout(500);
    assert.equal(await page.evaluate(() => window.__hit), undefined);
    assert.deepEqual(seen.foreign, []);
    // What the policy of the page would have stopped was not there to be stopped.
    assert.deepEqual(seen.problems, []);
  },

  async "hostile titles, names and results do nothing"({ url, page, seen }) {
    await show(page, url, "chat");
    const ids = await page.evaluate(async (texts) => {
      const history = await import("/web/lib/history.js");
      const tree = await import("/web/chat/conversation.js");
      const ids = [];
      for (const text of texts) {
        const conversation = tree.create(text, { system: text, stop: text });
        const user = tree.add(conversation, tree.ROOT, { role: "user", text });
        const call = { id: text, type: "function", function: { name: text, arguments: text } };
        const said = {
          role: "assistant", model: text, served: `${text} `, text, reasoning: text, calls: [call], error: text,
          state: "failed", stats: {}, notes: { adapted: text }, finish: "stop",
        };
        const answer = tree.add(conversation, user.id, said);
        tree.add(conversation, answer.id, { role: "tool", text, callId: text });
        conversation.title = text;
        ids.push(conversation.id);
        await history.save(conversation);
      }
      return ids;
    }, HOSTILE.filter((text) => text.length < 1000));
    await page.reload();
    for (const id of ids) {
      await page.goto(`${url}/#/chat/${id}`);
      await page.waitForSelector(".message.tool");
    }
    assert.ok(await page.locator(".list .title").count() >= 50);
    assert.equal(await page.evaluate(() => window.__hit), undefined);
    assert.equal(await page.locator("main script, main iframe, .list img, main object").count(), 0);
    assert.deepEqual(seen.foreign, []);
    assert.equal(new URL(page.url()).origin, url);
  },

  async "other pages can neither ask nor show"({ url, browser, port }) {
    const asked = (method, path, headers) => new Promise((resolve, reject) => {
      const sent = httpRequest(`${url}${path}`, { method, headers }, (response) => {
        response.resume();
        resolve(response);
      });
      sent.on("error", reject);
      sent.end();
    });
    const evil = { origin: "http://evil.example" };
    for (const [method, path] of [
      ["POST", "/v1/chat/completions"], ["POST", "/admin/ledger/verify"], ["POST", "/admin/reload"],
      ["DELETE", "/admin/running/x"], ["DELETE", "/api/delete"], ["POST", "/api/pull"], ["GET", "/admin/status"],
      ["POST", "/v1/receipts/x/verify"],
    ]) {
      assert.equal((await asked(method, path, evil)).statusCode, 403, path);
      assert.equal((await asked(method, path, { origin: "null" })).statusCode, 403, path);
      assert.equal((await asked(method, path, { host: `evil.example:${port}` })).statusCode, 403, path);
    }
    const own = await asked("GET", "/", { accept: "text/html" });
    assert.match(own.headers["content-security-policy"], /frame-ancestors 'none'/);
    assert.equal(own.headers["x-frame-options"], "DENY");
    const other = createServer((_, response) => {
      response.setHeader("content-type", "text/html");
      response.end(`<iframe src="${url}/"></iframe><script>
        fetch("${url}/admin/status").then((r) => r.text()).then((t) => (window.read = t), () => (window.read = "no"));
      </script>`);
    });
    other.listen(0, "127.0.0.1");
    await once(other, "listening");
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`http://localhost:${other.address().port}/`);
    await page.waitForFunction(() => window.read);
    assert.equal(await page.evaluate(() => window.read), "no");
    await page.waitForTimeout(500);
    assert.equal(await page.frames()[1].locator("#page").count(), 0);
    await context.close();
    other.close();
  },

  async "the first paint waits for no script"({ url, browser }) {
    // What a browser takes for a page in which there is nothing to wait for is no fault of ours.
    const floor = createServer((_, response) => {
      response.setHeader("content-type", "text/html");
      response.end("<!doctype html><title>floor</title><p>Painted.");
    });
    floor.listen(0, "127.0.0.1");
    await once(floor, "listening");
    const places = { page: url, floor: `http://127.0.0.1:${floor.address().port}/` };
    const found = { page: [], floor: [] };
    for (let n = 0; n < N_PAINTS; n += 1) {
      for (const [name, at] of Object.entries(places)) found[name].push(await paints(browser, at));
    }
    floor.close();
    const median = (name, which) => {
      const all = found[name].map((paints) => paints[which]).sort((a, b) => a - b);
      return `${Math.round(all[Math.floor(N_PAINTS / 2)])} ms`;
    };
    console.log(`first contentful paint after ${median("page", 0)}, once more after ${median("page", 1)}; `
      + `of an empty page ${median("floor", 0)}, ${median("floor", 1)} (medians of ${N_PAINTS})`);
    // What is painted does not wait for scripts: without any, it is there too.
    const context = await browser.newContext({ javaScriptEnabled: false });
    const plain = await context.newPage();
    await plain.goto(url);
    assert.equal(await plain.locator(".bar .goes").count(), VIEWS.length);
    assert.equal(await plain.locator("textarea").isVisible(), true);
    await context.close();
  },
};

// When the first of a page was painted, in a browser that knows nothing yet, and once more.
async function paints(browser, at) {
  const context = await browser.newContext({ viewport: DESKTOP });
  const page = await context.newPage();
  const times = [];
  for (let n = 0; n < 2; n += 1) {
    await page.goto(at);
    const time = await page.waitForFunction(() =>
      performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
    times.push(await time.jsonValue());
    await page.waitForTimeout(300);
  }
  await context.close();
  return times;
}

async function skipIfThere(page) {
  if (await page.locator("#skip-steps").count()) await page.click("#skip-steps");
}

function clean(seen, where) {
  assert.deepEqual(seen.foreign, [], where);
  assert.deepEqual(seen.problems, [], where);
}

// In the page: renders a text and says what of it should not be there.
async function looked(text) {
  const { rendered } = await import("/web/lib/markdown.js");
  const frame = document.createElement("div");
  frame.className = "prose";
  frame.append(rendered(text));
  document.body.append(frame);
  const found = [];
  const known = /^(A|BLOCKQUOTE|BR|BUTTON|CODE|DEL|DIV|EM|H[1-6]|HR|LI|OL|P|PRE|SPAN|STRONG|TABLE|TBODY|TD|TH|THEAD|TR|UL)$/;
  for (const element of frame.querySelectorAll("*")) {
    if (!known.test(element.tagName)) found.push(element.tagName);
    for (const { name, value } of element.attributes) {
      const isKnown = /^(align|class|href|rel|start|tabindex|target|title|type)$/.test(name);
      if (!isKnown) found.push(`${element.tagName} ${name}=${value}`);
      if (name === "href" && !/^(https?:|mailto:)/.test(element.href)) found.push(value);
    }
    if (element.tagName === "A" && element.href && !/noopener.*noreferrer/.test(element.rel)) found.push("rel");
  }
  frame.querySelectorAll("a:not([href])").forEach((link) => link.click());
  await new Promise((resolve) => setTimeout(resolve, 5));
  frame.remove();
  return found;
}

// A model that is not what the lock says is red. A server of its own, in a folder with such a lock.
async function drifted({ binary, browser }) {
  const folder = mkdtempSync(join(tmpdir(), "freehold-drift-"));
  execFileSync(resolve(binary), ["lock", MODEL], { cwd: folder, stdio: "pipe" });
  const path = join(folder, "freehold.lock");
  const text = readFileSync(path, "utf8");
  const changed = text.replace(/(tokenizer = ")[0-9a-f]{8}/, "$100000000");
  assert.notEqual(changed, text);
  writeFileSync(path, changed);
  const server = await Server.start(binary, MODEL, ["--lock", path]);
  try {
    const { context, page, seen } = await open(browser, server.url);
    await show(page, server.url, "models");
    const card = page.locator(`[data-model="${MODEL}"].drifted`);
    await card.waitFor();
    assert.match(await card.textContent(), /not what the lock says.*tokenizer/s);
    const colour = await card.locator(".notice.bad").evaluate((element) => getComputedStyle(element).color);
    assert.equal(colour, "rgb(156, 43, 38)");
    clean(seen, "drifted");
    await context.close();
  } finally {
    await server.stop();
    rmSync(folder, { recursive: true });
  }
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { only: { type: "string" }, shots: { type: "string" }, at: { type: "string" } },
  });
  const [binary] = positionals;
  const browser = await launch();
  if (!browser) return console.log("page: skipped, there is no chromium (CHROMIUM says where one is)");
  const more = ["--resume-streams", "60s", "--alias", `${ALIAS}=${MODEL}`];
  const server = values.at ? { url: values.at, stop: () => 0 } : await Server.start(binary, MODEL, more);
  const port = new URL(server.url).port;
  const failed = [];
  let nPassed = 0;
  const names = Object.keys(CHECKS).filter((name) => !values.only || name.includes(values.only));
  for (const name of names) {
    const { context, page, seen } = await open(browser, server.url);
    try {
      await CHECKS[name]({ url: server.url, port, browser, page, seen });
      clean(seen, name);
      console.log(`ok      ${name}`);
      nPassed += 1;
    } catch (error) {
      failed.push(name);
      console.log(`FAILED  ${name}\n${error.stack}\n${JSON.stringify(seen)}`);
      if (values.shots) {
        mkdirSync(values.shots, { recursive: true });
        await page.screenshot({ path: join(values.shots, `${name.replace(/\W+/g, "-")}.png`) }).catch(() => {});
      }
    }
    await context.close();
    // What goes on without its page is not the next one's.
    for (const { id } of await running(server.url)) {
      await fetch(`${server.url}/admin/running/${encodeURIComponent(id)}`, { method: "DELETE" });
    }
    await idle(server.url).catch(() => failed.push(`${name}: requests are left`));
  }
  if (await server.stop() !== 0) failed.push("the server's end");
  const alone = { "a drifted model is red": drifted, ...ALONE, ...UPKEEP, ...FILLED };
  for (const name of Object.keys(alone).filter((name) => !values.at && name.includes(values.only ?? ""))) {
    await alone[name]({ binary, browser }).then(() => {
      console.log(`ok      ${name}`);
      nPassed += 1;
    }, (error) => {
      failed.push(name);
      console.log(`FAILED  ${name}\n${error.stack}`);
    });
  }
  await browser.close();
  console.log(failed.length ? `page: FAILED: ${failed.join("; ")}` : `page: ${nPassed} checks passed`);
  process.exitCode = failed.length ? 1 : 0;
}

await main();
