// The `@anthropic-ai/sdk` package against a real `freehold serve` with the real default model.
//
//     node tests/clients/node/test_anthropic.js target/release/freehold [--model smollm2-135m]
//
// As test_anthropic.py, whose notes hold here too, above all for what this package has of its own:
// accumulators, runners, its own decoding.

import Anthropic from "@anthropic-ai/sdk";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { MessageStream } from "@anthropic-ai/sdk/lib/MessageStream";
import { VERSION } from "@anthropic-ai/sdk/version";
import { z } from "zod";

import { ANSWER, QUESTION, STORY, UNITS, WHERE } from "./serving.js";
import { checkFreeSoon, checkWeather, equal, holds, list, rejected, runChecks } from "./serving.js";

const GREEDY = { temperature: 0, max_tokens: 24 };

function client(server, options) {
  return new Anthropic({
    baseURL: server.url,
    apiKey: "any",
    maxRetries: 0,
    timeout: 120_000,
    ...options,
  });
}

// The parameters of a request.
function asking(server, content = QUESTION, options = {}) {
  return { model: server.model, messages: [{ role: "user", content }], ...GREEDY, ...options };
}

function ask(server, content, options) {
  return client(server).messages.create(asking(server, content, options));
}

function streaming(server, content, options) {
  return client(server).messages.stream(asking(server, content, options));
}

function textOf(message) {
  return message.content.map((block) => block.text ?? "").join("");
}

// The tokens of a prompt, those from the cache included.
function nInput({ input_tokens, cache_read_input_tokens, cache_creation_input_tokens }) {
  return input_tokens + (cache_read_input_tokens ?? 0) + (cache_creation_input_tokens ?? 0);
}

// Two answers to one request, but for names and for how much of the prompt was in the cache.
function same(streamed, whole) {
  const said = (message) => message.content.map(({ id, ...block }) => block);
  equal(said(streamed), said(whole));
  equal(streamed.stop_reason, whole.stop_reason);
  equal(streamed.stop_sequence, whole.stop_sequence);
  equal(nInput(streamed.usage), nInput(whole.usage), "tokens of the prompt");
  equal(streamed.usage.output_tokens, whole.usage.output_tokens);
}

// An error of the class `kind` and of this type, whose message begins so.
async function refused(kind, promise, type = "invalid_request_error", message = "") {
  const error = await rejected(kind, promise);
  const { type: outer, error: inner, request_id } = error.error;
  equal([outer, inner.type, error.type], ["error", type, type]);
  holds(inner.message.startsWith(message), inner);
  equal(error.apiMessage, inner.message);
  equal(request_id, error.requestID);
  holds(request_id, error.error);
}

async function models(server) {
  const found = await list(client(server).models.list());
  holds(found.map((model) => model.id).includes(server.model), found);
  const one = await list(client(server).models.list({ limit: 1 }));
  equal(one.map((model) => model.id), found.map((model) => model.id), "page by page");
  equal((await client(server).models.retrieve(server.model)).id, server.model);
  const unknown = client(server).models.retrieve("nobody/nothing");
  await refused(Anthropic.NotFoundError, unknown, "not_found_error");
}

async function whole(server) {
  const message = await ask(server);
  equal([textOf(message), message.stop_reason], [ANSWER, "end_turn"]);
  equal([message.type, message.role, message.model], ["message", "assistant", server.model]);
  holds(message._request_id && message.id.startsWith("msg_"), message);
  const bearer = client(server, { apiKey: null, authToken: "any" });
  equal(textOf(await bearer.messages.create(asking(server))), ANSWER);
  equal(textOf(await client(server).beta.messages.create(asking(server))), ANSWER);
}

async function stream(server) {
  const events = await list(await ask(server, QUESTION, { stream: true }));
  equal([events[0].type, events.at(-1).type], ["message_start", "message_stop"]);
  const texts = events.map((event) => event.delta?.text ?? "");
  equal(texts.join(""), ANSWER);
}

// What the client's accumulation makes of the events is the whole answer.
async function streamHelper(server) {
  const stream = streaming(server);
  const [pieces, blocks, kinds] = [[], [], []];
  stream.on("text", (delta, snapshot) => {
    pieces.push(delta);
    equal(snapshot, pieces.join(""), "snapshot");
  });
  stream.on("contentBlock", (block) => blocks.push(block));
  stream.on("streamEvent", (event) => kinds.push(event.type));
  const final = await stream.finalMessage();
  same(final, await ask(server));
  equal(await stream.finalText(), ANSWER);
  holds(pieces.length > 4, `${pieces.length} pieces: not streamed`);
  equal(blocks, final.content);
  const shape = ["message_start", "content_block_start", "content_block_stop"];
  equal(kinds.filter((kind) => shape.includes(kind)), shape);
  equal(kinds.slice(-2), ["message_delta", "message_stop"]);
  const { response, request_id } = await streaming(server).withResponse();
  equal(response.headers.get("request-id"), request_id);
  const beta = client(server).beta.messages.stream(asking(server));
  equal(await beta.finalText(), ANSWER);
}

// As a page in a browser gets it from a server in between.
async function streamHandedOn(server) {
  const outer = MessageStream.fromReadableStream(streaming(server).toReadableStream());
  equal(await outer.finalText(), ANSWER);
}

async function ends(server) {
  const cut = await ask(server, QUESTION, { max_tokens: 3 });
  equal([cut.stop_reason, cut.usage.output_tokens], ["max_tokens", 3]);
  const text = textOf(await ask(server, STORY, { max_tokens: 48 }));
  const stop = text.slice(22, 27);
  const options = { max_tokens: 48, stop_sequences: ["never in it", stop] };
  const stopped = await ask(server, STORY, options);
  equal(textOf(stopped), text.slice(0, text.indexOf(stop)));
  equal([stopped.stop_reason, stopped.stop_sequence], ["stop_sequence", stop]);
  same(await streaming(server, STORY, options).finalMessage(), stopped);
}

async function prefill(server) {
  const begun = { role: "assistant", content: "17 + 25" };
  const { messages, ...options } = asking(server);
  const rest = await client(server).messages.create({ ...options, messages: [...messages, begun] });
  equal(begun.content + textOf(rest), ANSWER);
}

// The tool, and the calls of it.
function weather() {
  const calls = [];
  const tool = betaZodTool({
    name: "get_weather",
    description: "The weather in a city.",
    inputSchema: z.object({ city: z.string().max(20), unit: z.enum(UNITS) }),
    run: (args) => {
      calls.push(args);
      return `21 degrees ${args.unit} in ${args.city}`;
    },
  });
  return { tool, calls };
}

const CALLING = { tool_choice: { type: "any", disable_parallel_tool_use: true }, max_tokens: 120 };

async function tools(server) {
  const { tool } = weather();
  const { name, description, input_schema } = tool;
  const options = { tools: [{ name, description, input_schema }], ...CALLING };
  const answer = await ask(server, WHERE, options);
  equal([answer.stop_reason, answer.content.length], ["tool_use", 1]);
  const [call] = answer.content;
  checkWeather(call.name, call.input);

  const stream = streaming(server, WHERE, options);
  const pieces = [];
  stream.on("inputJson", (piece) => pieces.push(piece));
  same(await stream.finalMessage(), answer);
  equal(JSON.parse(pieces.join("")), call.input);

  const none = { ...options, tool_choice: { type: "none" } };
  const result = { type: "tool_result", tool_use_id: call.id, content: "21 degrees" };
  const told = await client(server).messages.create({
    ...asking(server, WHERE, none),
    messages: [
      { role: "user", content: WHERE },
      { role: "assistant", content: answer.content },
      { role: "user", content: [result] },
    ],
  });
  holds(textOf(told) && told.stop_reason !== "tool_use", told);
  const without = await ask(server, WHERE, none);
  holds(nInput(told.usage) > nInput(without.usage) + 20, told.usage);
}

// The runner calls the function and asks again with what it said.
async function toolRunner(server) {
  for (const stream of [false, true]) {
    const { tool, calls } = weather();
    const runner = client(server).beta.messages.toolRunner({
      ...asking(server, WHERE, { tools: [tool], ...CALLING, stream }),
      max_iterations: 2,
    });
    const answers = [];
    for await (const turn of runner) answers.push(stream ? await turn.finalMessage() : turn);
    equal(answers.map((message) => message.stop_reason), ["tool_use", "tool_use"]);
    equal(calls, answers.map((message) => message.content[0].input));
    for (const args of calls) checkWeather("get_weather", args);
    const roles = runner.params.messages.map((message) => message.role);
    equal(roles, ["user", "assistant", "user", "assistant", "user"]);
    const [result] = runner.params.messages[2].content;
    equal(result.tool_use_id, answers[0].content[0].id);
    const [{ unit, city }] = calls;
    equal(result.content, `21 degrees ${unit} in ${city}`);
  }
}

const Animal = z.object({
  kind: z.enum(["fox", "hen", "dog"]),
  legs: z.int(),
  wild: z.boolean().nullable(),
});

async function format(server) {
  const output_config = { format: zodOutputFormat(Animal) };
  const options = asking(server, "Describe a fox.", { output_config, max_tokens: 120 });
  const parsed = (await client(server).messages.parse(options)).parsed_output;
  equal(Animal.parse(parsed), parsed);
  const streamed = await client(server).messages.stream(options).finalMessage();
  equal(streamed.parsed_output, parsed, "streamed");
}

async function countTokens(server) {
  const { tool } = weather();
  const { name, description, input_schema } = tool;
  const tools = [{ name, description, input_schema }];
  for (const [content, options] of [
    [QUESTION, {}],
    [QUESTION, { system: "Answer briefly." }],
    [[{ type: "text", text: "What is" }, { type: "text", text: "17 + 25?" }], {}],
    [WHERE, { tools, tool_choice: { type: "none" } }],
  ]) {
    const messages = [{ role: "user", content }];
    const asked = { model: server.model, messages, ...options };
    const counted = await client(server).messages.countTokens(asked);
    const answered = await ask(server, content, options);
    equal(counted.input_tokens, nInput(answered.usage), content);
  }
}

async function errors(server) {
  const unknown = client(server).messages.create({ ...asking(server), model: "nobody" });
  await refused(Anthropic.NotFoundError, unknown, "not_found_error", 'model "nobody"');
  for (const [field, value] of [["temperature", -1], ["max_tokens", 0], ["stop_sequences", 7]]) {
    const bad = ask(server, QUESTION, { [field]: value });
    await refused(Anthropic.BadRequestError, bad, "invalid_request_error", field);
  }
  const helped = streaming(server, QUESTION, { top_k: -1 }).finalMessage();
  await refused(Anthropic.BadRequestError, helped, "invalid_request_error", "top_k");
  for (const stream of [false, true]) {
    const long = ask(server, "word ".repeat(20_000), { stream });
    const begin = "prompt is too long: ";
    await refused(Anthropic.BadRequestError, long, "invalid_request_error", begin);
  }
  const large = ask(server, "x".repeat(5 << 20));
  await refused(Anthropic.APIError, large, "request_too_large");
  const foreign = client(server, { defaultHeaders: { Origin: "https://evil.example" } });
  const forbidden = foreign.messages.create(asking(server));
  await refused(Anthropic.PermissionDeniedError, forbidden, "permission_error");
  const nowhere = client(server, { baseURL: "http://127.0.0.1:9" });
  await rejected(Anthropic.APIConnectionError, nowhere.models.list());
  equal(textOf(await ask(server)), ANSWER, "the server goes on");
}

// Answers that are left in each of the client's ways must not go on.
async function abort(server) {
  const long = { temperature: 1, max_tokens: 1500 };
  for (let n = 0; n < 8; n++) {
    for await (const _ of await ask(server, STORY, { ...long, stream: true })) break;
    const helper = streaming(server, STORY, long);
    helper.once("text", () => helper.abort());
    await rejected(Anthropic.APIUserAbortError, helper.finalMessage());
    const controller = new AbortController();
    const options = { signal: controller.signal };
    const asked = client(server).messages.create(asking(server, STORY, long), options);
    setTimeout(() => controller.abort(), 20);
    await rejected(Anthropic.APIUserAbortError, asked);
  }
  await checkFreeSoon(async () => textOf(await ask(server)));
}

// The last check: an answer in flight finishes, then the process ends by itself, with 0.
async function gracefulStop(server) {
  const stream = streaming(server, STORY, { max_tokens: 48 });
  stream.once("text", () => server.process.kill("SIGTERM"));
  const final = await stream.finalMessage();
  holds(["end_turn", "max_tokens"].includes(final.stop_reason), final);
  equal(await server.stop(), 0, "exit status");
  await rejected(Anthropic.APIConnectionError, ask(server));
}

await runChecks(`anthropic ${VERSION}`, {
  models,
  whole,
  stream,
  streamHelper,
  streamHandedOn,
  ends,
  prefill,
  tools,
  toolRunner,
  format,
  countTokens,
  errors,
  abort,
  gracefulStop,
});
