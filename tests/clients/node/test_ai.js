// Vercel's `ai` package with its providers for either dialect against a real `freehold serve` with
// the real default model.
//
//     node tests/clients/node/test_ai.js target/release/freehold [--model smollm2-135m]
//
// As test_openai.js, whose notes hold here too. Each check runs with each provider that can do it.

import { createRequire } from "node:module";

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  APICallError,
  NoObjectGeneratedError,
  Output,
  RetryError,
  embed,
  embedMany,
  generateObject,
  generateText,
  isStepCount,
  streamObject,
  streamText,
  tool,
} from "ai";
import { z } from "zod";

import { ANSWER, EMBEDDER, QUESTION, STORY, UNITS, WHERE } from "./serving.js";
import { checkFreeSoon, checkWeather, cosine, equal, holds } from "./serving.js";
import { list, rejected, runChecks } from "./serving.js";

const { version } = createRequire(import.meta.url)("ai/package.json");

// Warnings are looked at in the answers.
globalThis.AI_SDK_LOG_WARNINGS = false;

function compatible(server) {
  return createOpenAICompatible({
    name: "freehold",
    baseURL: `${server.url}/v1`,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
}

function openai(server) {
  return createOpenAI({ baseURL: `${server.url}/v1`, apiKey: "any" });
}

function anthropic(server) {
  return createAnthropic({ baseURL: `${server.url}/v1`, apiKey: "any" });
}

// The chat model of each provider, by name.
function modelsOf(server, name = server.model) {
  return {
    compatible: compatible(server)(name),
    openai: openai(server).chat(name),
    anthropic: anthropic(server)(name),
  };
}

// Runs `check` with the chat model of each provider; says which one failed.
function withEach(check) {
  return async (server) => {
    for (const [provider, model] of Object.entries(modelsOf(server))) {
      await check(model, server, provider).catch((error) => {
        throw new Error(`with ${provider}`, { cause: error });
      });
    }
  };
}

// The parameters of a request.
function asking(model, prompt = QUESTION, options = {}) {
  return { model, prompt, temperature: 0, maxOutputTokens: 24, maxRetries: 0, ...options };
}

function totals({ inputTokens, outputTokens, totalTokens }) {
  return [inputTokens, outputTokens, totalTokens];
}

const whole = withEach(async (model, server) => {
  const answer = await generateText(asking(model));
  equal([answer.text, answer.finishReason], [ANSWER, "stop"]);
  equal(answer.warnings ?? [], []);
  equal(answer.response.modelId, server.model);
  const [nInput, nOutput, nTotal] = totals(answer.usage);
  equal(nTotal, nInput + nOutput);
  holds(nInput > 5 && nOutput > 0 && nOutput <= 24, answer.usage);
  const cut = await generateText(asking(model, QUESTION, { maxOutputTokens: 3 }));
  equal([cut.finishReason, cut.usage.outputTokens], ["length", 3]);
  const brief = await generateText(asking(model, QUESTION, { instructions: "Answer briefly." }));
  holds(brief.text && brief.usage.inputTokens !== nInput, brief.usage);
  const stop = { stopSequences: [" = "] };
  equal((await generateText(asking(model, QUESTION, stop))).text, "17 + 25");
});

const stream = withEach(async (model) => {
  const answer = await generateText(asking(model));
  const result = streamText(asking(model));
  const pieces = await list(result.textStream);
  equal(pieces.join(""), ANSWER);
  holds(pieces.length > 4, `${pieces.length} pieces: not streamed`);
  equal([await result.text, await result.finishReason], [ANSWER, "stop"]);
  equal(totals(await result.usage), totals(answer.usage), "usage");
  const parts = await list(streamText(asking(model)).stream);
  const shape = ["start", "start-step", "text-start", "text-end", "finish-step", "finish"];
  const kinds = parts.map((part) => part.type);
  // "custom" is what a provider adds of its own.
  equal(kinds.filter((kind) => !["text-delta", "custom"].includes(kind)), shape);
});

// The tool, and the calls of it.
function weather() {
  const calls = [];
  const get_weather = tool({
    description: "The weather in a city.",
    inputSchema: z.object({ city: z.string().max(20), unit: z.enum(UNITS) }),
    execute: async (args) => {
      calls.push(args);
      return { degrees: 21, ...args };
    },
  });
  return { tools: { get_weather }, calls };
}

// Each provider's own name for it.
const ONE_CALL = {
  freehold: { parallel_tool_calls: false },
  openai: { parallelToolCalls: false },
  anthropic: { disableParallelToolUse: true },
};
// A call in the first step, and words in the second, in which the result is known.
const CALLING = {
  toolChoice: "required",
  maxOutputTokens: 120,
  providerOptions: ONE_CALL,
  stopWhen: isStepCount(2),
  prepareStep: ({ stepNumber }) => (stepNumber === 1 ? { toolChoice: "none" } : {}),
};

function checkSteps([first, second], calls) {
  equal([first.finishReason, first.toolCalls.length], ["tool-calls", calls.length]);
  equal(first.toolCalls.map((call) => call.input), calls);
  equal(first.toolResults.map((result) => result.output.degrees), calls.map(() => 21));
  for (const call of first.toolCalls) checkWeather(call.toolName, call.input);
  holds(second.text && second.toolCalls.length === 0, second);
  holds(second.usage.inputTokens > first.usage.inputTokens + 20, second.usage);
}

const tools = withEach(async (model) => {
  const asked = weather();
  const answer = await generateText(asking(model, WHERE, { tools: asked.tools, ...CALLING }));
  equal(asked.calls.length, 1);
  checkSteps(answer.steps, asked.calls);
  const again = weather();
  const result = streamText(asking(model, WHERE, { tools: again.tools, ...CALLING }));
  const parts = await list(result.stream);
  checkSteps(await result.steps, again.calls);
  equal(again.calls, asked.calls, "streamed");
  equal(await result.text, answer.text, "streamed");
  const typed = parts.filter((part) => part.type === "tool-input-delta");
  equal(JSON.parse(typed.map((part) => part.delta).join("")), again.calls[0]);
  const toolChoice = { type: "tool", toolName: "get_weather" };
  const named = { ...CALLING, toolChoice, stopWhen: isStepCount(1) };
  const third = weather();
  await generateText(asking(model, WHERE, { tools: third.tools, ...named }));
  equal(third.calls, asked.calls, "named");
});

const Animal = z.object({
  kind: z.enum(["fox", "hen", "dog"]),
  legs: z.int().min(0).max(8),
  wild: z.boolean(),
  name: z.string().max(12).nullable(),
});
const DESCRIBE = "Describe a fox.";

const objects = withEach(async (model) => {
  const options = asking(model, DESCRIBE, { schema: Animal, maxOutputTokens: 200 });
  const { object } = await generateObject(options);
  equal(Animal.parse(object), object);
  const streamed = streamObject(options);
  const partial = await list(streamed.partialObjectStream);
  equal(await streamed.object, object, "streamed");
  equal(partial.at(-1), object);
  holds(partial.length > 3, `${partial.length} partial objects: not streamed`);
  const { schema, ...rest } = options;
  const output = Output.object({ schema });
  equal((await generateText({ ...rest, output })).output, object, "as output");
  const choice = Output.choice({ options: ["fox", "hen"] });
  holds(["fox", "hen"].includes((await generateText({ ...rest, output: choice })).output), choice);
  const array = Output.array({ element: z.object({ legs: z.int().min(0).max(8) }) });
  const cut = generateText({ ...rest, output: array, maxOutputTokens: 2 }).then((r) => r.output);
  holds(NoObjectGeneratedError.isInstance(await rejected(Error, cut)), "cut");
});

async function embeddings(server) {
  const values = ["How do I reset my password?", "Change a forgotten password.", "Yellow bananas."];
  for (const provider of [compatible(server), openai(server)]) {
    const model = provider.embeddingModel(EMBEDDER);
    const { embeddings, usage } = await embedMany({ model, values, maxRetries: 0 });
    equal(embeddings.map((vector) => vector.length), [384, 384, 384]);
    holds(cosine(embeddings[0], embeddings[1]) > 0.5, "near texts");
    holds(cosine(embeddings[0], embeddings[2]) < 0.5, "far texts");
    holds(usage.tokens > 15, usage);
    const one = await embed({ model, value: values[0], maxRetries: 0 });
    equal(one.embedding, embeddings[0]);
    const long = await rejected(Error, embed({ model, value: "word ".repeat(600), maxRetries: 0 }));
    holds(long.message.includes("maximum context length is 512"), long.message);
  }
}

const errors = withEach(async (model, server, provider) => {
  const bad = await rejected(APICallError, generateText(asking(model, QUESTION, { topP: 7 })));
  equal([bad.statusCode, bad.isRetryable], [400, false]);
  holds(bad.message.startsWith("top_p: 7"), bad.message);
  const long = asking(model, "word ".repeat(20_000));
  const overflow = await rejected(APICallError, generateText(long));
  holds(/prompt is too long|maximum context length/.test(overflow.message), overflow.message);
  let told;
  const result = streamText({ ...long, onError: ({ error }) => (told = error) });
  await rejected(Error, result.text);
  equal([told.statusCode, told.isRetryable], [400, false]);
  const unknown = asking(modelsOf(server, "nobody")[provider]);
  const absent = await rejected(APICallError, generateText(unknown));
  equal([absent.statusCode, absent.isRetryable], [404, false]);
  holds(absent.message.startsWith('model "nobody" does not exist'), absent.message);
  equal((await generateText(asking(model))).text, ANSWER, "the server goes on");
});

// Answers that are left must not go on.
const abort = withEach(async (model) => {
  for (let n = 0; n < 4; n++) {
    const controller = new AbortController();
    const options = { temperature: 1, maxOutputTokens: 1500, abortSignal: controller.signal };
    const result = streamText(asking(model, STORY, options));
    let aborted = false;
    for await (const part of result.stream) {
      if (part.type === "text-delta") controller.abort();
      aborted ||= part.type === "abort";
    }
    holds(aborted, "no abort in the stream");
    const whole = new AbortController();
    setTimeout(() => whole.abort(), 20);
    const asked = generateText(asking(model, STORY, { ...options, abortSignal: whole.signal }));
    equal((await rejected(Error, asked)).name, "AbortError");
  }
  await checkFreeSoon(async () => (await generateText(asking(model))).text);
});

// The last check: after the server's end, a client that retries says so at last.
async function gracefulStop(server) {
  const result = streamText(asking(modelsOf(server).openai, STORY, { maxOutputTokens: 48 }));
  let sent = false;
  for await (const _ of result.textStream) {
    if (!sent) sent = server.process.kill("SIGTERM");
  }
  holds(["stop", "length"].includes(await result.finishReason), "the stream was cut");
  equal(await server.stop(), 0, "exit status");
  const after = generateText(asking(modelsOf(server).openai, QUESTION, { maxRetries: 1 }));
  await rejected(RetryError, after);
}

await runChecks(`ai ${version}`, {
  whole,
  stream,
  tools,
  objects,
  embeddings,
  errors,
  abort,
  gracefulStop,
});
