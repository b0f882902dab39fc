#!/usr/bin/env python3
"""The `litellm` package as a client of a real `freehold serve` with the real default model.

    python tests/clients/test_litellm.py target/release/freehold [--model smollm2-135m]

As test_openai.py, whose notes hold here too. Each check of chat runs with both prefixes: `openai/`,
which goes through the openai package, and `anthropic/`, which litellm writes itself.
"""

import asyncio
import contextlib
import importlib.metadata
import json
import os
import signal
import sys
import time

# Prices and the like come from the package itself.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["LITELLM_OFFLINE_MODE"] = "true"

import litellm

import serving
from serving import STOP_SECONDS_MAX, equal

EMBEDDER = "minilm-l6-v2"
QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
ANSWER = "17 + 25 = 32."
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]
WHERE = [{"role": "user", "content": "What is the weather in Paris?"}]
PREFIXES = ("openai", "anthropic")

litellm.suppress_debug_info = True


class Server(serving.Server):
    """The server, and what litellm has to know of it."""

    def __init__(self, binary, model):
        super().__init__(binary, model, EMBEDDER)

    def of(self, prefix):
        base = {"openai": f"{self.url}/v1", "anthropic": self.url}[prefix]
        return {"api_base": base, "api_key": "any", "timeout": 120, "max_retries": 0}

    def asking(self, prefix, messages=QUESTION, **options):
        options = {"temperature": 0, "max_tokens": 24, **options}
        model = f"{prefix}/{options.pop('model', self.model)}"
        return {"model": model, "messages": messages, **self.of(prefix), **options}


def chat(server, prefix, messages=QUESTION, **options):
    return litellm.completion(**server.asking(prefix, messages, **options))


def text_of(completion):
    return completion.choices[0].message.content


def streamed(server, prefix, messages=QUESTION, **options):
    """What litellm's own builder makes of the chunks of a stream."""
    options = {"stream": True, "stream_options": {"include_usage": True}, **options}
    chunks = list(chat(server, prefix, messages, **options))
    assert len(chunks) > 3, f"{len(chunks)} chunks: not streamed"
    return litellm.stream_chunk_builder(chunks, messages=messages)


@contextlib.contextmanager
def refused(kind, words):
    """The block must raise `kind` and no kind derived from it, with these words in its message."""
    try:
        yield
    except litellm.exceptions.APIError as error:
        raise AssertionError(f"expected {kind.__name__}, got {error!r}") from error
    except kind as error:
        equal(type(error), kind, str(error))
        assert words in str(error), f"{words!r} is not in {error}"
    else:
        raise AssertionError(f"not refused, expected {kind.__name__}: {words}")


def check_chat(server):
    for prefix in PREFIXES:
        completion = chat(server, prefix)
        choice = completion.choices[0]
        equal((choice.message.content, choice.finish_reason), (ANSWER, "stop"))
        equal(choice.message.role, "assistant")
        usage = completion.usage
        equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        assert usage.prompt_tokens > 5 and 0 < usage.completion_tokens <= 24, usage
        equal(chat(server, prefix, max_tokens=3).choices[0].finish_reason, "length")
        equal(text_of(chat(server, prefix, stop=[" = "])), "17 + 25")
        briefly = [{"role": "system", "content": "Answer briefly."}, *QUESTION]
        history = [*briefly, {"role": "assistant", "content": ANSWER}, *QUESTION]
        longer = chat(server, prefix, history)
        assert text_of(longer) and longer.usage.prompt_tokens > usage.prompt_tokens + 10, longer


def check_stream(server):
    for prefix in PREFIXES:
        whole, built = chat(server, prefix), streamed(server, prefix)
        equal(text_of(built), ANSWER)
        equal(built.choices[0].finish_reason, "stop")
        equal(built.usage.total_tokens, whole.usage.total_tokens)


def check_many_at_once(server):
    colours = ["red", "green", "blue", "white"]
    prompts = [[{"role": "user", "content": f"Name something {colour}."}] for colour in colours]

    async def ask_all(prefix):
        asked = (litellm.acompletion(**server.asking(prefix, prompt)) for prompt in prompts)
        return [text_of(completion) for completion in await asyncio.gather(*asked)]

    alone = [text_of(chat(server, "openai", prompt)) for prompt in prompts]
    for prefix in PREFIXES:
        equal(asyncio.run(ask_all(prefix)), alone, prefix)


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 20},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
CALLING = {"tools": [WEATHER], "max_tokens": 120, "parallel_tool_calls": False}


def call_of(completion):
    """The arguments of the only call, which is valid."""
    choice = completion.choices[0]
    equal(choice.finish_reason, "tool_calls")
    (call,) = choice.message.tool_calls
    arguments = json.loads(call.function.arguments)
    equal((call.function.name, set(arguments)), ("get_weather", {"city", "unit"}))
    assert isinstance(arguments["city"], str) and len(arguments["city"]) <= 20, arguments
    assert arguments["unit"] in ("celsius", "fahrenheit"), arguments
    return arguments


def check_tools(server):
    for prefix in PREFIXES:
        whole = chat(server, prefix, WHERE, tool_choice="required", **CALLING)
        built = streamed(server, prefix, WHERE, tool_choice="required", **CALLING)
        equal(call_of(built), call_of(whole), "streamed")
        none = {**CALLING, "tool_choice": "none"}
        without = chat(server, prefix, WHERE, **none)
        assert text_of(without) and not without.choices[0].message.tool_calls, without
        for answer in (whole, built):
            asked = answer.choices[0].message
            call_id = asked.tool_calls[0].id
            result = {"role": "tool", "tool_call_id": call_id, "content": "21 degrees, sunny"}
            told = chat(server, prefix, [*WHERE, asked, result], **none)
            assert text_of(told), told
            assert told.usage.prompt_tokens > without.usage.prompt_tokens + 20, told.usage


SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "enum": ["fox", "hen", "dog"]},
        "legs": {"type": "integer"},
        "wild": {"type": "boolean"},
    },
    "required": ["kind", "legs", "wild"],
    "additionalProperties": False,
}


def check_response_format(server):
    named = {"name": "animal", "schema": SCHEMA, "strict": True}
    options = {"response_format": {"type": "json_schema", "json_schema": named}, "max_tokens": 120}
    fox = [{"role": "user", "content": "Describe a fox."}]
    for prefix in PREFIXES:
        whole = chat(server, prefix, fox, **options)
        animal = json.loads(text_of(whole))
        equal(set(animal), set(SCHEMA["required"]), prefix)
        assert animal["kind"] in ("fox", "hen", "dog"), animal
        equal((type(animal["legs"]), type(animal["wild"])), (int, bool))
        equal(json.loads(text_of(streamed(server, prefix, fox, **options))), animal, "streamed")


def cosine(a, b):
    """Of vectors of length 1."""
    return sum(x * y for x, y in zip(a, b))


def check_embedding(server):
    texts = ["How do I reset my password?", "Change a forgotten password.", "Bananas are yellow."]
    options = {"model": f"openai/{EMBEDDER}", **server.of("openai")}
    answer = litellm.embedding(input=texts, **options)
    vectors = [datum["embedding"] for datum in answer.data]
    equal([len(vector) for vector in vectors], [384] * 3)
    assert cosine(vectors[0], vectors[1]) > 0.5 > cosine(vectors[0], vectors[2])
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 15, answer.usage
    with refused(litellm.ContextWindowExceededError, "512"):
        litellm.embedding(input="word " * 600, **options)


TOO_LONG = {"openai": "maximum context length", "anthropic": "prompt is too long"}


def check_errors(server):
    long = [{"role": "user", "content": "word " * 20_000}]
    for prefix in PREFIXES:
        for stream in (False, True):
            with refused(litellm.ContextWindowExceededError, TOO_LONG[prefix]):
                list(chat(server, prefix, long, stream=stream))
        with refused(litellm.NotFoundError, "nobody"):
            chat(server, prefix, model="nobody")
        with refused(litellm.BadRequestError, "temperature"):
            chat(server, prefix, temperature=-1)
        equal(text_of(chat(server, prefix)), ANSWER, "the server goes on")


def check_disconnect(server):
    """Streams that are left must not go on."""
    for _ in range(4):
        for prefix in PREFIXES:
            options = {"stream": True, "temperature": 1, "max_tokens": 1500}
            stream = chat(server, prefix, STORY, **options)
            for _, _chunk in zip(range(3), stream):
                pass
            stream.close()
    start = time.monotonic()
    for prefix in PREFIXES:
        equal(text_of(chat(server, prefix)), ANSWER)
    seconds = time.monotonic() - start
    assert seconds < 20, f"{seconds:.1f} s for short answers after the streams were left"


def check_graceful_stop(server):
    """The last check: an answer in flight finishes, then the process ends by itself, with 0."""
    stream = iter(chat(server, "openai", STORY, stream=True, max_tokens=48))
    chunks = [next(stream) for _ in range(3)]
    server.process.send_signal(signal.SIGTERM)
    chunks += list(stream)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length"), "the stream was cut"
    equal(server.process.wait(STOP_SECONDS_MAX), 0, "exit status")
    for prefix in PREFIXES:
        try:
            chat(server, prefix)
        except (litellm.APIConnectionError, litellm.InternalServerError):
            pass
        else:
            raise AssertionError("the server answers after its end")


def main():
    name = f"litellm {importlib.metadata.version('litellm')}"
    return serving.run(name, __doc__.splitlines()[0], Server, globals())


if __name__ == "__main__":
    sys.exit(main())
