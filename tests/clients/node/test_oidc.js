// People sign in on a real `freehold serve`, whose broker asks a real provider on this machine: the
// certified `oidc-provider`. Between them stands a forger, which hands everything on, unless a check
// has it put another ID token into the provider's answer.
//
//     node tests/clients/node/test_oidc.js target/release/freehold [--model smollm2-135m]

import { execFileSync, spawn } from "node:child_process";
import { createHmac, generateKeyPairSync, sign } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

import Provider from "oidc-provider";

import { Server, equal, holds, runChecks } from "./serving.js";

const START_MS_MAX = 300_000; // may fetch the model
const SECRET = "a secret: of 100% & more"; // what a form has to escape

// Whom the provider knows, by the name that they sign in with.
const PEOPLE = {
  olga: { email: "olga@example.com", email_verified: true, groups: ["all", "ops"] },
  adam: { email: "adam@example.com", email_verified: true, groups: ["audit"] },
  // Says that an owner's address is theirs, which nobody has verified.
  mallory: { email: "boss@example.com", email_verified: false, groups: [] },
  boss: { email: "boss@example.com", email_verified: true, groups: [] },
};

async function listening(handler) {
  const server = createServer(handler).listen(0, "127.0.0.1");
  await once(server, "listening");
  return [server, `http://127.0.0.1:${server.address().port}`];
}

async function freePort() {
  const [server, url] = await listening(() => {});
  server.close();
  return new URL(url).port;
}

function provider(issuer, redirect) {
  const provider = new Provider(issuer, {
    clients: [{ client_id: "freehold", client_secret: SECRET, redirect_uris: [redirect] }],
    claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"] },
    scopes: ["openid", "email", "groups"],
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    cookies: { keys: ["of this test"] },
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, ...PEOPLE[sub] }) }),
  });
  // What it would say of its development pages belongs to no check.
  provider.on("server_error", (_, error) => console.error("the provider:", error));
  return provider;
}

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const read = (token, idx) => JSON.parse(Buffer.from(token.split(".")[idx], "base64url"));

// Hands on what the broker asks, and forges what the provider answers. Its own key is among the
// provider's, so that what it changes is signed.
class Forger {
  constructor(issuer) {
    this.issuer = issuer;
    this.forge = null;
    this.asked = [];
    this.key = generateKeyPairSync("ec", { namedCurve: "P-256" });
    this.stranger = generateKeyPairSync("ec", { namedCurve: "P-256" });
    this.listed = { ...this.key.publicKey.export({ format: "jwk" }), kid: "forger" };
  }

  async answer(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const { method, url } = request;
    const { authorization } = request.headers;
    this.asked.push({ method, url, authorization, body: Buffer.concat(chunks).toString() });
    const headers = { "content-type": request.headers["content-type"] ?? "" };
    if (authorization) headers.authorization = authorization;
    const body = method === "POST" ? Buffer.concat(chunks) : undefined;
    const answer = await fetch(this.issuer + url, { method, headers, body });
    const said = await answer.json();
    if (url === "/jwks") said.keys.push(this.listed);
    if (this.forge && said.id_token) said.id_token = this.forge(said.id_token, this);
    response.writeHead(answer.status, { "content-type": "application/json" });
    response.end(JSON.stringify(said));
  }

  // The claims of a token with some changed, signed with a key that is listed.
  signed(token, change, key = this.key, kid = "forger") {
    const message = `${part({ alg: "ES256", kid })}.${part({ ...read(token, 1), ...change })}`;
    const form = { key: key.privateKey, dsaEncoding: "ieee-p1363" };
    return `${message}.${sign("sha256", Buffer.from(message), form).toString("base64url")}`;
  }
}

// A browser, as far as it goes: cookies by port, redirections one by one.
class Browser {
  cookies = new Map();
  last = [];

  async ask(url, { method = "GET", form, headers = {} } = {}) {
    const { host } = new URL(url);
    const own = this.cookies.get(host) ?? new Map();
    this.cookies.set(host, own);
    const cookie = [...own].map(([name, value]) => `${name}=${value}`).join("; ");
    const body = form && new URLSearchParams(form);
    const all = { ...(cookie ? { cookie } : {}), ...headers };
    const response = await fetch(url, { method, body, headers: all, redirect: "manual" });
    this.last = response.headers.getSetCookie();
    for (const line of this.last) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      if (/max-age=0/i.test(line) || value === "") own.delete(name);
      else own.set(name, value);
    }
    return response;
  }

  // Goes on until it comes to an address that begins so, which it does not ask.
  async follow(url, until) {
    for (let n = 0; n < 20; n += 1) {
      if (url.startsWith(until)) return url;
      const response = await this.ask(url);
      const to = response.headers.get("location");
      if (!to) {
        // One of the provider's pages: its form.
        const page = await response.text();
        const action = /action="([^"]+)"/.exec(page)?.[1];
        holds(response.status === 200 && action, page.slice(0, 2000));
        const prompt = /name="prompt" value="([^"]+)"/.exec(page)[1];
        const form = { prompt, ...(prompt === "login" ? { login: this.name, password: "x" } : {}) };
        const sent = await this.ask(new URL(action, url).href, { method: "POST", form });
        url = new URL(sent.headers.get("location"), url).href;
      } else {
        url = new URL(to, url).href;
      }
    }
    throw new Error(`${url}: too many redirections`);
  }
}

class House {
  static async open(binary, model) {
    const house = new House();
    Object.assign(house, { binary, model, folder: mkdtempSync(join(tmpdir(), "freehold-oidc-")) });
    house.url = `http://127.0.0.1:${await freePort()}`;
    let handler = (_, response) => response.end();
    const [atProvider, issuer] = await listening((...both) => handler(...both));
    handler = provider(issuer, `${house.url}/login/callback`).callback();
    house.forger = new Forger(issuer);
    const [atForger, forged] = await listening((request, response) => {
      house.forger.answer(request, response).catch((error) => {
        console.error("the forger:", error);
        response.writeHead(500).end();
      });
    });
    Object.assign(house, { issuer, forged, servers: [atProvider, atForger] });
    writeFileSync(join(house.folder, "secret"), SECRET, { mode: 0o600 });
    await house.start("8h");
    return house;
  }

  async start(session) {
    const { issuer, forged, folder, url } = this;
    const ledger = join(folder, "ledger.sqlite");
    const args = [
      "serve", this.model, "--listen", new URL(url).host, "--ledger", ledger,
      "--local-access", "key", "--oidc-issuer", issuer, "--oidc-client-id", "freehold",
      "--oidc-secret-file", join(folder, "secret"), "--oidc-authorize-url", `${issuer}/auth`,
      "--oidc-token-url", `${forged}/token`, "--oidc-keys-url", `${forged}/jwks`,
      "--oidc-redirect-url", `${url}/login/callback`, "--oidc-scopes", "openid email groups",
      "--oidc-role", "groups ops=operator", "--oidc-role", "groups audit=auditor",
      "--oidc-role", "email boss@example.com=owner", "--oidc-session", session,
    ];
    const process = spawn(this.binary, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.server = new Server(process, this.model);
    process.stdout.resume();
    const began = performance.now();
    for (;;) {
      const is = await fetch(`${url}/ready`).catch(() => null);
      if (is?.ok) return;
      const over = performance.now() - began > START_MS_MAX || process.exitCode !== null;
      if (over) throw new Error(`the server does not start:\n${this.server.diagnostics}`);
      await new Promise((done) => setTimeout(done, 100));
    }
  }

  // What the server says, of its last start.
  get diagnostics() {
    return this.server.diagnostics;
  }

  async stop() {
    const status = await this.server.stop();
    for (const server of this.servers) server.close().closeAllConnections();
    rmSync(this.folder, { recursive: true, force: true });
    return status;
  }

  // Somebody goes as far as to the way back, whose address is given.
  async come(name) {
    const browser = new Browser();
    browser.name = name;
    const back = await browser.follow(`${this.url}/login`, `${this.url}/login/callback`);
    return [browser, back];
  }

  async signIn(name) {
    const [browser, back] = await this.come(name);
    return [browser, await browser.ask(back)];
  }

  // The status of what a page in this browser asks.
  async status(browser, path, method = "GET", origin = this.url) {
    const headers = method === "GET" ? {} : { origin };
    const response = await browser.ask(this.url + path, { method, headers });
    await response.text();
    return response.status;
  }

  // The audit entries of sign-ins, as they are in the ledger.
  audit() {
    const args = ["ledger", "export", "--ledger", join(this.folder, "ledger.sqlite")];
    const lines = execFileSync(this.binary, [...args, "--kind", "audit"]).toString().trim();
    const rows = lines.split("\n").map((line) => JSON.parse(line).row).filter((row) => row);
    return rows.map((row) => JSON.parse(row.body));
  }
}

const CHECKS = {
  async "a person signs in"(house) {
    const [browser, response] = await house.signIn("olga");
    equal([response.status, response.headers.get("location")], [303, "/"], await response.text());
    const line = browser.last.find((one) => one.startsWith("freehold="));
    for (const word of ["HttpOnly", "SameSite=Strict", "Path=/"]) holds(line.includes(word), line);
    const { session } = await (await browser.ask(`${house.url}/session`)).json();
    equal([session.name, session.role], ["oidc.olga@example.com", "operator"]);
    // The secret goes to the token endpoint alone, as RFC 6749 has it; the code with its verifier.
    const { asked } = house.forger;
    const form = asked.find((one) => one.url === "/token");
    const shown = Buffer.from(form.authorization.split(" ")[1], "base64").toString();
    equal(decodeURIComponent(shown.split(":")[1]), SECRET);
    holds(new URLSearchParams(form.body).get("code_verifier").length === 43, form.body);
    equal(asked.filter((one) => one.url === "/jwks").map((one) => one.authorization), [undefined]);
  },

  async "roles are what the claims say"(house) {
    const expected = {
      olga: { "/admin/status": 200, "/admin/keys": 403, "/metrics": 200, "/v1/models": 200 },
      adam: { "/admin/status": 200, "/admin/keys": 200, "/metrics": 200, "/v1/streams/x": 403 },
      boss: { "/admin/status": 200, "/admin/keys": 200, "/admin/sessions": 200 },
    };
    for (const [name, paths] of Object.entries(expected)) {
      const [browser] = await house.signIn(name);
      for (const [path, status] of Object.entries(paths)) {
        equal(await house.status(browser, path), status, `${name} ${path}`);
      }
      const verified = await house.status(browser, "/admin/ledger/verify", "POST");
      equal(verified, 200, `${name} has the ledger verified`);
      const reloaded = await house.status(browser, "/admin/reload", "POST");
      equal(reloaded, name === "adam" ? 403 : 200, `${name} reloads`);
    }
  },

  async "who has no role is refused"(house) {
    const [browser, response] = await house.signIn("mallory");
    equal(response.status, 403);
    holds((await response.text()).includes("no role here"), "says so");
    equal(await house.status(browser, "/v1/models"), 401);
  },

  async "nobody comes in without"(house) {
    equal(await house.status(new Browser(), "/v1/models"), 401);
    const forged = new Browser();
    forged.cookies.set(new URL(house.url).host, new Map([["freehold", `fh_aaaaaaaaaa_${"A".repeat(43)}`]]));
    equal(await house.status(forged, "/v1/models"), 401);
  },

  async "another page's requests are nobody's"(house) {
    const [browser] = await house.signIn("boss");
    equal(await house.status(browser, "/logout", "POST", "http://127.0.0.1:1"), 403);
    const alone = await browser.ask(`${house.url}/logout`, { method: "POST" });
    equal(alone.status, 401, "without an origin");
    const cross = await browser.ask(`${house.url}/admin/keys`, { headers: { "sec-fetch-site": "same-site" } });
    equal(cross.status, 401, "of another port");
    equal(await house.status(browser, "/admin/keys"), 200);
  },

  async "a way back is of its own browser and used once"(house) {
    const [browser, back] = await house.come("olga");
    const [other] = await house.come("olga");
    equal((await other.ask(back)).status, 400, "in another browser");
    const changed = new URL(back);
    changed.searchParams.set("state", "A".repeat(43));
    const { cookies } = browser;
    const kept = new Map([...cookies].map(([host, own]) => [host, new Map(own)]));
    equal((await browser.ask(changed.href)).status, 400, "of another state");
    browser.cookies = new Map([...kept].map(([host, own]) => [host, new Map(own)]));
    equal((await browser.ask(back)).status, 303);
    browser.cookies = kept;
    equal((await browser.ask(back)).status, 400, "the issuer takes a code once");
  },

  async "what the issuer refuses is told"(house) {
    const [browser, back] = await house.come("olga");
    const refused = new URL(back);
    refused.searchParams.delete("code");
    refused.searchParams.set("error", "access_denied");
    const response = await browser.ask(refused.href);
    equal(response.status, 403);
    holds((await response.text()).includes("access_denied"), "the issuer's word");
  },

  async "what is no ID token of the issuer's is not taken"(house) {
    const now = Math.floor(Date.now() / 1000);
    const publicKey = house.forger.key.publicKey.export({ type: "spki", format: "pem" });
    const forgeries = {
      "alg: expected": (token) => `${part({ alg: "none" })}.${token.split(".")[1]}.`,
      "one of RS256": (token) => {
        const message = `${part({ alg: "HS256", kid: "forger" })}.${token.split(".")[1]}`;
        return `${message}.${createHmac("sha256", publicKey).update(message).digest("base64url")}`;
      },
      "aud: ": (token, of) => of.signed(token, { aud: "another" }),
      "azp: ": (token, of) => of.signed(token, { azp: "another" }),
      "iss: ": (token, of) => of.signed(token, { iss: "http://127.0.0.1:1" }),
      "exp: ": (token, of) => of.signed(token, { exp: now - 3600 }),
      "iat: ": (token, of) => of.signed(token, { iat: now - 7200 }),
      "nonce: ": (token, of) => of.signed(token, { nonce: "another" }),
      "signature is none": (token, of) => of.signed(token, {}, of.stranger),
      "lists no key": (token, of) => of.signed(token, {}, of.stranger, "unknown"),
      "base64url": (token) => `${token}=`,
    };
    try {
      for (const [expected, forge] of Object.entries(forgeries)) {
        house.forger.forge = forge;
        const [browser, response] = await house.signIn("boss");
        const text = await response.text();
        equal(response.status, 403, `${expected}: ${text}`);
        holds(text.includes(expected), [expected, text]);
        equal(await house.status(browser, "/v1/models"), 401, expected);
      }
      // What the forger only signs is one: the refusals above are of what it changed.
      house.forger.forge = (token, of) => of.signed(token, {});
      equal((await house.signIn("boss"))[1].status, 303);
    } finally {
      // The checks behind this one sign in too, whatever became of it.
      house.forger.forge = null;
    }
    const nKeys = house.forger.asked.filter((one) => one.url === "/jwks").length;
    holds(nKeys <= 2, `keys were asked for ${nKeys} times`);
  },

  async "who signs out is out"(house) {
    const [browser] = await house.signIn("adam");
    const stolen = new Browser();
    stolen.cookies = new Map([...browser.cookies].map(([host, own]) => [host, new Map(own)]));
    equal(await house.status(browser, "/logout", "POST"), 200);
    for (const one of [browser, stolen]) equal(await house.status(one, "/v1/models"), 401);
    // The owner ends those of others.
    const [boss] = await house.signIn("boss");
    const [olga] = await house.signIn("olga");
    const { session } = await (await olga.ask(`${house.url}/session`)).json();
    equal(await house.status(olga, `/admin/sessions/${session.id}`, "DELETE"), 403);
    equal(await house.status(boss, `/admin/sessions/${session.id}`, "DELETE"), 200);
    equal(await house.status(olga, "/v1/models"), 401);
  },

  async "the ledger has it all and no token"(house) {
    const rows = house.audit();
    const of = (act) => rows.filter((row) => row.act === act);
    holds(of("sign_in").some((row) => row.name === "oidc.olga@example.com" && row.role === "operator"), rows);
    holds(of("sign_in.refused").some((row) => row.why.includes("no role here")), rows);
    holds(of("sign_out").some((row) => row.name === "oidc.adam@example.com"), rows);
    const text = JSON.stringify(rows) + house.server.diagnostics;
    for (const secret of ["eyJ", "fh_", SECRET]) holds(!text.includes(secret), secret);
    for (const { url, body } of house.forger.asked) {
      const code = url === "/token" && new URLSearchParams(body).get("code");
      holds(!code || !text.includes(code), "a code");
    }
  },

  async "sessions end by themselves, and with the server"(house) {
    const [before] = await house.signIn("olga");
    await house.server.stop();
    await house.start("2s");
    equal(await house.status(before, "/v1/models"), 401, "after a restart");
    const [browser] = await house.signIn("olga");
    equal(await house.status(browser, "/v1/models"), 200);
    const until = performance.now() + 10_000;
    while ((await house.status(browser, "/v1/models")) === 200) {
      holds(performance.now() < until, "it does not end");
      await new Promise((done) => setTimeout(done, 100));
    }
    equal(await house.status(browser, "/v1/models"), 401);
  },
};

await runChecks("oidc", CHECKS, House.open);
