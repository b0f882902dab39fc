// The `openai` package of Node against a real `freehold serve` with the real default model.
//
//     node tests/clients/node/test_openai.js target/release/freehold [--model smollm2-135m]
//
// As test_openai.py, whose notes hold here too, above all for what this package has of its own:
// accumulators, runners, its own decoding.

import OpenAI, { toFile } from "openai";
import { LengthFinishReasonError } from "openai/error";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { ChatCompletionStream } from "openai/lib/ChatCompletionStream";
import { VERSION } from "openai/version";
import { z } from "zod";

import { ANSWER, EMBEDDER, QUESTION, STORY, UNITS, WHERE } from "./serving.js";
import { checkFreeSoon, checkWeather, cosine, equal, holds } from "./serving.js";
import { list, rejected, runChecks } from "./serving.js";

const GREEDY = { temperature: 0, max_tokens: 24 };

function client(server, options) {
  const all = { baseURL: `${server.url}/v1`, apiKey: "any", maxRetries: 0, ...options };
  return new OpenAI({ timeout: 120_000, ...all });
}

// The parameters of a request.
function asking(server, content = QUESTION, options = {}) {
  return { model: server.model, messages: [{ role: "user", content }], ...GREEDY, ...options };
}

function chat(server, content, options) {
  return client(server).chat.completions.create(asking(server, content, options));
}

const textOf = (completion) => completion.choices[0].message.content;

// An error of the class `kind` with these fields.
async function refused(kind, promise, expected = {}) {
  const error = await rejected(kind, promise);
  for (const [name, value] of Object.entries(expected)) equal(error[name], value, name);
  holds(typeof error.error.message === "string" && error.error.message, error.error);
  holds(error.message.includes(error.error.message), error.message);
  holds(typeof error.type === "string", error.error);
  return error;
}

async function models(server) {
  const found = await list(client(server).models.list());
  holds(found.map((model) => model.id).includes(server.model), found);
  equal((await client(server).models.retrieve(server.model)).id, server.model);
  const unknown = client(server).models.retrieve("nobody/nothing");
  await refused(OpenAI.NotFoundError, unknown, { code: "model_not_found" });
}

async function whole(server) {
  const completion = await chat(server);
  const [choice] = completion.choices;
  equal([choice.message.content, choice.finish_reason], [ANSWER, "stop"]);
  equal([choice.message.role, choice.index], ["assistant", 0]);
  const { prompt_tokens, completion_tokens, total_tokens } = completion.usage;
  equal(total_tokens, prompt_tokens + completion_tokens);
  const raw = await chat(server).asResponse();
  equal(raw.headers.get("content-type"), "application/json");
}

async function stream(server) {
  const answer = await chat(server);
  const options = { stream: true, stream_options: { include_usage: true } };
  const chunks = await list(await chat(server, QUESTION, options));
  const deltas = chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.delta));
  equal(deltas.map((delta) => delta.content ?? "").join(""), ANSWER);
  equal(deltas[0].role, "assistant");
  holds(chunks.length > 4, `${chunks.length} chunks: not streamed`);
  equal(chunks.at(-1).choices, []);
  equal(chunks.at(-1).usage.total_tokens, answer.usage.total_tokens);
}

// What the client's accumulation makes of the chunks is the whole answer.
async function streamHelper(server) {
  const options = { logprobs: true, top_logprobs: 2, stream_options: { include_usage: true } };
  const answer = await chat(server, QUESTION, { logprobs: true, top_logprobs: 2 });
  const stream = client(server).chat.completions.stream(asking(server, QUESTION, options));
  const [pieces, seen] = [[], {}];
  stream.on("content", (delta, snapshot) => {
    pieces.push(delta);
    equal(snapshot, pieces.join(""), "snapshot");
  });
  stream.on("content.done", ({ content }) => (seen.content = content));
  stream.on("logprobs.content.done", ({ content }) => (seen.logprobs = content));
  equal(await stream.finalContent(), ANSWER);
  holds(pieces.length > 4, `${pieces.length} pieces: not streamed`);
  equal(seen.content, ANSWER);
  equal(seen.logprobs, answer.choices[0].logprobs.content);
  const final = await stream.finalChatCompletion();
  equal(final.choices[0].finish_reason, answer.choices[0].finish_reason);
  equal(final.choices[0].logprobs.content, answer.choices[0].logprobs.content);
  const usage = await stream.totalUsage();
  equal(usage.total_tokens, answer.usage.total_tokens);
}

// As a page in a browser gets it from a server in between.
async function streamHandedOn(server) {
  const inner = client(server).chat.completions.stream(asking(server));
  const outer = ChatCompletionStream.fromReadableStream(inner.toReadableStream());
  equal(await outer.finalContent(), ANSWER);
}

async function severalChoices(server) {
  const options = { n: 3, temperature: 1.2, seed: 5, max_tokens: 16 };
  const answer = await chat(server, STORY, options);
  const texts = answer.choices.map((choice) => choice.message.content);
  holds(new Set(texts).size > 1, texts);
  const stream = client(server).chat.completions.stream(asking(server, STORY, options));
  const { choices } = await stream.finalChatCompletion();
  equal(choices.map((choice) => choice.message.content), texts);
  equal(choices.map((choice) => choice.index), [0, 1, 2]);
}

const WeatherOf = z.object({ city: z.string().max(20), unit: z.enum(UNITS) });
const DESCRIPTION = "The weather in a city.";

// The tool, and the calls of it.
function weather() {
  const calls = [];
  const run = (args) => {
    calls.push(args);
    return `21 degrees ${args.unit} in ${args.city}`;
  };
  const tool = zodFunction({
    name: "get_weather",
    description: DESCRIPTION,
    parameters: WeatherOf,
    function: run,
  });
  return { tool, calls };
}

const CALLING = { tool_choice: "required", parallel_tool_calls: false, max_tokens: 120 };

async function tools(server) {
  const { tool } = weather();
  const answer = await chat(server, WHERE, { tools: [tool], ...CALLING });
  const [{ message, finish_reason }] = answer.choices;
  equal([finish_reason, message.content, message.tool_calls.length], ["tool_calls", null, 1]);
  const called = message.tool_calls[0].function;
  checkWeather(called.name, JSON.parse(called.arguments));

  const options = asking(server, WHERE, { tools: [tool], ...CALLING });
  const stream = client(server).chat.completions.stream(options);
  const [pieces, done] = [[], []];
  stream.on("tool_calls.function.arguments.delta", (event) => pieces.push(event.arguments_delta));
  stream.on("tool_calls.function.arguments.done", (event) => done.push(event));
  const final = await stream.finalChatCompletion();
  const [call] = final.choices[0].message.tool_calls;
  equal([call.function.name, call.function.arguments], [called.name, called.arguments]);
  equal(call.function.parsed_arguments, JSON.parse(called.arguments));
  equal(pieces.join(""), called.arguments);
  equal(done.map((event) => event.name), ["get_weather"]);
  equal(final.choices[0].finish_reason, "tool_calls");
  const none = await chat(server, WHERE, { tools: [tool], tool_choice: "none" });
  holds(textOf(none) && !none.choices[0].message.tool_calls, none);
}

// A tool that takes a text, held to a pattern; the helper joins its deltas to the same text.
async function customTools(server) {
  const grammar = { syntax: "regex", definition: "[a-z]{2,6} [0-9]{1,3}" };
  const format = { type: "grammar", grammar };
  const custom = { name: "note", description: "Takes a note.", format };
  const tool_choice = { type: "custom", custom: { name: "note" } };
  const more = { ...CALLING, tools: [{ type: "custom", custom }], tool_choice };
  const asked = "Note: milk 3";
  const [{ message, finish_reason }] = (await chat(server, asked, more)).choices;
  const [call] = message.tool_calls;
  equal([call.type, call.custom.name, finish_reason], ["custom", "note", "tool_calls"]);
  holds(new RegExp(`^${grammar.definition}$`).test(call.custom.input), call);
  const stream = client(server).chat.completions.stream(asking(server, asked, more));
  const final = (await stream.finalChatCompletion()).choices[0];
  equal(final.message.tool_calls.map(({ type, custom }) => [type, custom]), [["custom", call.custom]]);
  equal(final.finish_reason, "tool_calls");
  const result = { role: "tool", tool_call_id: call.id, content: "noted" };
  const messages = [{ role: "user", content: asked }, message, result];
  const told = await chat(server, asked, { messages, tools: more.tools, tool_choice: "none" });
  holds(textOf(told), told);
}

// The runner calls the function and asks again with what it said.
async function runTools(server) {
  for (const stream of [false, true]) {
    const { tool, calls } = weather();
    const options = asking(server, WHERE, { tools: [tool], ...CALLING, stream });
    const runner = client(server).chat.completions.runTools(options, { maxChatCompletions: 2 });
    const results = [];
    runner.on("functionToolCallResult", (content) => results.push(content));
    await runner.done();
    equal(calls.length, 2, "calls");
    for (const args of calls) checkWeather("get_weather", args);
    equal(results, calls.map((args) => `21 degrees ${args.unit} in ${args.city}`));
    const roles = ["user", "assistant", "tool", "assistant", "tool"];
    equal(runner.messages.map((message) => message.role), roles);
    const [first, second] = runner.allChatCompletions();
    holds(first.id !== second.id, first);
    const told = asking(server, WHERE, { tools: [tool], tool_choice: "none" });
    const answer = await client(server).chat.completions.create({
      ...told,
      messages: runner.messages,
    });
    holds(textOf(answer), answer);
  }
  const { tool, calls } = weather();
  const named = { type: "function", function: { name: "get_weather" } };
  const options = asking(server, WHERE, { tools: [tool], ...CALLING, tool_choice: named });
  await client(server).chat.completions.runTools(options).done();
  equal(calls.length, 1, "calls of the only function");
}

const Animal = z.object({
  kind: z.enum(["fox", "hen", "dog"]),
  legs: z.int().min(0).max(8),
  wild: z.boolean(),
  name: z.string().max(12).nullable(),
  weights: z.array(z.number()).max(2),
});
const DESCRIBE = "Describe a fox as JSON.";

async function structuredOutputs(server) {
  const format = zodResponseFormat(Animal, "animal");
  const options = asking(server, DESCRIBE, { response_format: format, max_tokens: 200 });
  const parsed = (await client(server).chat.completions.parse(options)).choices[0].message.parsed;
  equal(Animal.parse(parsed), parsed);
  const stream = client(server).chat.completions.stream(options);
  let done;
  stream.on("content.done", (event) => (done = event));
  equal((await stream.finalChatCompletion()).choices[0].message.parsed, parsed, "streamed");
  equal(done.parsed, parsed);
  const cut = { ...options, max_tokens: 2 };
  await rejected(LengthFinishReasonError, client(server).chat.completions.parse(cut));
  const object = { response_format: { type: "json_object" }, max_tokens: 200 };
  const free = await chat(server, "Describe a fox as a JSON object.", object);
  const [{ message, finish_reason }] = free.choices;
  if (finish_reason === "stop") equal(JSON.parse(message.content).constructor, Object);
  else holds(finish_reason === "length" && message.content.startsWith("{"), free);
}

async function completions(server) {
  const options = { model: server.model, prompt: "The capital of France is", ...GREEDY };
  const one = await client(server).completions.create(options);
  holds(one.choices[0].text.includes("Paris"), one);
  const chunks = await list(await client(server).completions.create({ ...options, stream: true }));
  equal(chunks.map((chunk) => chunk.choices[0].text).join(""), one.choices[0].text);
}

// The client asks for base64 where nobody says otherwise, and decodes it.
async function embeddings(server) {
  const embed = (options) => client(server).embeddings.create({ model: EMBEDDER, ...options });
  const input = ["How do I reset my password?", "Change a forgotten password.", "Yellow bananas."];
  const answer = await embed({ input });
  const vectors = answer.data.map((datum) => datum.embedding);
  equal(vectors.map((vector) => vector.length), [384, 384, 384]);
  holds(Math.abs(cosine(vectors[0], vectors[0]) - 1) < 1e-5, vectors[0]);
  holds(cosine(vectors[0], vectors[1]) > 0.5, "near texts");
  holds(cosine(vectors[0], vectors[2]) < 0.5, "far texts");
  const floats = await embed({ input: input[0], encoding_format: "float" });
  const differences = floats.data[0].embedding.map((x, idx) => Math.abs(x - vectors[0][idx]));
  holds(Math.max(...differences) < 1e-7, differences);
  const base64 = await embed({ input: input[0], encoding_format: "base64" });
  equal(typeof base64.data[0].embedding, "string");
  const long = embed({ input: "word ".repeat(600) });
  await refused(OpenAI.BadRequestError, long, { param: "input", code: "context_length_exceeded" });
}

async function errors(server) {
  const unknown = client(server).chat.completions.create({ ...asking(server), model: "nobody" });
  await refused(OpenAI.NotFoundError, unknown, { status: 404, code: "model_not_found" });
  for (const [field, value] of [["temperature", -1], ["n", 0], ["stop", 7], ["frobnicate", 1]]) {
    const expected = { status: 400, param: field, type: "invalid_request_error" };
    await refused(OpenAI.BadRequestError, chat(server, QUESTION, { [field]: value }), expected);
  }
  for (const stream of [false, true]) {
    const long = chat(server, "word ".repeat(20_000), { stream });
    await refused(OpenAI.BadRequestError, long, { code: "context_length_exceeded" });
  }
  const helped = client(server).chat.completions.stream(asking(server, QUESTION, { n: 0 }));
  await refused(OpenAI.BadRequestError, helped.finalContent(), { param: "n" });
  const foreign = client(server, { defaultHeaders: { Origin: "https://evil.example" } });
  const forbidden = foreign.chat.completions.create(asking(server));
  await refused(OpenAI.PermissionDeniedError, forbidden, { status: 403 });
  const nowhere = new OpenAI({ baseURL: "http://127.0.0.1:9/v1", apiKey: "any", maxRetries: 0 });
  await rejected(OpenAI.APIConnectionError, nowhere.models.list());
  equal(textOf(await chat(server)), ANSWER, "the server goes on");
}

async function manyAtOnce(server) {
  const colours = ["red", "green", "blue", "white"];
  const ask = async (colour) => textOf(await chat(server, `Name something ${colour}.`));
  const alone = [];
  for (const colour of colours) alone.push(await ask(colour));
  equal(await Promise.all(colours.map(ask)), alone);
}

// Answers that are left in each of the client's ways must not go on.
async function abort(server) {
  const long = { temperature: 1, max_tokens: 1500 };
  for (let n = 0; n < 8; n++) {
    const stream = await chat(server, STORY, { ...long, stream: true });
    for await (const _ of stream) break;
    const helper = client(server).chat.completions.stream(asking(server, STORY, long));
    helper.once("content", () => helper.abort());
    await rejected(OpenAI.APIUserAbortError, helper.finalContent());
    const controller = new AbortController();
    const options = { signal: controller.signal };
    const asked = client(server).chat.completions.create(asking(server, STORY, long), options);
    setTimeout(() => controller.abort(), 20);
    await rejected(OpenAI.APIUserAbortError, asked);
  }
  const hasty = client(server, { timeout: 50 }).chat.completions.create(
    asking(server, STORY, long),
  );
  await rejected(OpenAI.APIConnectionTimeoutError, hasty);
  await checkFreeSoon(async () => textOf(await chat(server)));
}

async function batches(server) {
  const { files, batches } = client(server);
  const line = { custom_id: "q", method: "POST", url: "/v1/chat/completions", body: asking(server) };
  const file = await toFile(Buffer.from(`${JSON.stringify(line)}\n`), "lines.jsonl");
  const { id } = await files.create({ file, purpose: "batch" });
  const asked = { input_file_id: id, endpoint: line.url, completion_window: "24h" };
  let batch = await batches.create(asked);
  while (batch.status !== "completed") {
    holds(["validating", "in_progress", "finalizing"].includes(batch.status), batch);
    await new Promise((resolve) => setTimeout(resolve, 100));
    batch = await batches.retrieve(batch.id);
  }
  const answer = JSON.parse(await (await files.content(batch.output_file_id)).text());
  equal(textOf(answer.response.body), ANSWER);
  equal((await list(batches.list())).map((one) => one.id), [batch.id]);
  for (const one of await list(files.list())) equal((await files.delete(one.id)).deleted, true);
}

// The last check: an answer in flight finishes, then the process ends by itself, with 0.
async function gracefulStop(server) {
  const stream = await chat(server, STORY, { stream: true, max_tokens: 48 });
  let last;
  for await (const chunk of stream) {
    if (!last) server.process.kill("SIGTERM");
    last = chunk;
  }
  holds(["stop", "length"].includes(last.choices[0].finish_reason), last);
  equal(await server.stop(), 0, "exit status");
  await rejected(OpenAI.APIConnectionError, chat(server));
}

await runChecks(`openai ${VERSION}`, {
  models,
  whole,
  stream,
  streamHelper,
  streamHandedOn,
  severalChoices,
  tools,
  customTools,
  runTools,
  structuredOutputs,
  completions,
  embeddings,
  errors,
  manyAtOnce,
  abort,
  batches,
  gracefulStop,
});
