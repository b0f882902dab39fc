// A browser that is watched: what it asks for, what it complains about.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { chromium } from "playwright-core";

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
const BINARIES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const PHONE = { width: 390, height: 844 };
export const DESKTOP = { width: 1440, height: 900 };

export async function launch() {
  const executablePath = process.env.CHROMIUM ?? BINARIES.find((path) => existsSync(path));
  if (!executablePath) return null;
  return chromium.launch({ executablePath, args: FLAGS });
}

// A page of the server at `url`, in a browser that knows nothing yet. `seen.foreign` are addresses
// of other origins that it asked for, `seen.problems` what it complained about.
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: DESKTOP, acceptDownloads: true, ...options });
  const seen = { foreign: [], problems: [] };
  context.on("request", (request) => {
    const asked = request.url();
    if (!asked.startsWith(`${url}/`) && !/^(data|blob):/.test(asked)) seen.foreign.push(asked);
  });
  const page = await context.newPage();
  page.on("console", (message) => {
    // A browser says of each 404 that it is one; that a server has no keys is none of its business.
    const isAbsent = /status of 404/.test(message.text()) && /\/admin\//.test(message.location().url);
    if (message.type() === "error" && !isAbsent) {
      seen.problems.push(`${message.text()} (${message.location().url})`);
    }
  });
  page.on("pageerror", (error) => seen.problems.push(String(error.stack ?? error)));
  page.setDefaultTimeout(30_000);
  return { context, page, seen };
}

// Goes to a view and waits until it has asked what it shows.
export async function show(page, url, view) {
  await page.goto(`${url}/#/${view}`);
  await page.waitForSelector(view.startsWith("chat") ? "#composer" : ".view h1");
  await page.waitForFunction((text) => ![...document.querySelectorAll(".empty")]
    .some((one) => one.textContent.trim() === text), "One moment …");
}

// Nothing is wider than the screen, but for what scrolls by itself.
export async function fits(page, where) {
  const wide = await page.evaluate(() => {
    const found = [];
    for (const element of document.querySelectorAll("html, body, .frame, main, .view, .view-in, .thread, .chat-main, .options-in")) {
      if (element.scrollWidth > element.clientWidth + 1) found.push(element.className || element.tagName);
    }
    return found;
  });
  assert.deepEqual(wide, [], where);
}

// What axe finds that keeps somebody out.
export async function judged(page, where) {
  await page.evaluate(AXE);
  const found = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    return violations.filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
  });
  assert.deepEqual(found, [], where);
}

// The same in light and in dark, of what is filled.
export async function judgedTwice(page, where) {
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await judged(page, `${where}, ${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
}
