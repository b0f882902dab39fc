#!/usr/bin/env python3
"""The `langchain-openai` and `langchain-anthropic` packages against a real `freehold serve`.

    python tests/clients/test_langchain.py target/release/freehold [--model smollm2-135m]

As test_openai.py, whose notes hold here too. Each check of chat runs with both packages.
"""

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import os
import pathlib
import signal
import sys
import time
import warnings
from typing import Literal

# LangChain cuts texts into another model's tokens with tiktoken, which would fetch its table:
# litellm brings it along.
LITELLM = pathlib.Path(importlib.util.find_spec("litellm").origin).parent
os.environ["TIKTOKEN_CACHE_DIR"] = str(LITELLM / "litellm_core_utils/tokenizers")
os.environ["LANGSMITH_TRACING"] = "false"

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

import serving
from serving import STOP_SECONDS_MAX, equal

# LangChain's own, about what the openai package parsed for it.
warnings.filterwarnings("ignore", "Pydantic serializer warnings")

EMBEDDER = "minilm-l6-v2"
CONNECTION = {"api_key": "any", "max_retries": 0, "timeout": 120}
GREEDY = {"temperature": 0, "max_tokens": 24}
QUESTION = "What is 17 + 25?"
ANSWER = "17 + 25 = 32."
STORY = "Tell me a story about a fox."
WHERE = "What is the weather in Paris?"


class Server(serving.Server):
    """The server, and the chat models and vectors of LangChain for it."""

    def __init__(self, binary, model):
        super().__init__(binary, model, EMBEDDER)

    def openai(self, **options):
        options = {**GREEDY, "model": self.model, "stream_usage": True, **options}
        return ChatOpenAI(base_url=f"{self.url}/v1", **CONNECTION, **options)

    def anthropic(self, **options):
        options = {**GREEDY, "model": self.model, **options}
        return ChatAnthropic(base_url=self.url, **CONNECTION, **options)

    def both(self, **options):
        return [self.openai(**options), self.anthropic(**options)]

    def embeddings(self, **options):
        return OpenAIEmbeddings(
            model=EMBEDDER, base_url=f"{self.url}/v1", **CONNECTION, **options
        )


@contextlib.contextmanager
def refused(kind, *expected):
    """The block must raise `kind`, with a message that holds these words."""
    try:
        yield
    except kind as error:
        for words in expected:
            assert words in str(error), f"{words!r} is not in {error}"
    else:
        raise AssertionError(f"not refused, expected {kind}: {expected}")


def totals(message):
    usage = message.usage_metadata
    return usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]


def end_of(message):
    metadata = message.response_metadata
    return metadata.get("finish_reason") or metadata.get("stop_reason")


def joined(chunks):
    """What LangChain's own sum of the chunks is."""
    chunks = list(chunks)
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    return total, len(chunks)


def check_invoke(server):
    for model in server.both():
        message = model.invoke(QUESTION)
        assert isinstance(message, AIMessage), message
        equal(message.text, ANSWER)
        assert end_of(message) in ("stop", "end_turn"), message
        equal(message.response_metadata["model_name"], server.model)
        n_input, n_output, n_total = totals(message)
        equal(n_total, n_input + n_output)
        assert n_input > 5 and 0 < n_output <= 24, message.usage_metadata
        history = [
            SystemMessage("Answer briefly."),
            HumanMessage(QUESTION),
            message,
            HumanMessage([{"type": "text", "text": "Are you sure? 🙂"}]),
        ]
        longer = model.invoke(history)
        assert longer.text and totals(longer)[0] > n_input + 10, longer
        equal(model.invoke(QUESTION, stop=[" = "]).text, "17 + 25")
    for model in server.both(max_tokens=3):
        message = model.invoke(QUESTION)
        assert end_of(message) in ("length", "max_tokens"), message
        equal(totals(message)[1], 3)


def check_stream(server):
    for model in server.both():
        total, n_chunks = joined(model.stream(QUESTION))
        equal(total.text, ANSWER)
        assert n_chunks > 4, f"{n_chunks} chunks: not streamed"
        whole = model.invoke(QUESTION)
        equal(totals(total), totals(whole), "usage")
        equal(end_of(total), end_of(whole))

        async def streamed(model=model):
            return [chunk async for chunk in model.astream(QUESTION)]

        equal(joined(asyncio.run(streamed()))[0].text, ANSWER)


def check_batch(server):
    prompts = [f"Name something {colour}." for colour in ("red", "green")]
    for model in server.both():
        alone = [model.invoke(prompt).text for prompt in prompts]
        equal([message.text for message in model.batch(prompts)], alone)


def check_logprobs(server):
    message = server.openai().bind(logprobs=True, top_logprobs=2).invoke(QUESTION)
    content = message.response_metadata["logprobs"]["content"]
    equal(b"".join(bytes(token["bytes"]) for token in content).decode(), ANSWER)


class Weather(BaseModel):
    """Arguments of the tool."""

    city: str = Field(max_length=20)
    unit: Literal["celsius", "fahrenheit"]


@tool(args_schema=Weather)
def get_weather(city: str, unit: str) -> str:
    """The weather in a city."""
    return f"21 degrees {unit} in {city}"


def with_tool(model, choice):
    return model.bind_tools([get_weather], tool_choice=choice, parallel_tool_calls=False)


def none_of(model):
    """No tool, in the words of the model's package."""
    return {"type": "none"} if isinstance(model, ChatAnthropic) else "none"


def check_tools(server):
    for model in server.both(max_tokens=120):
        # "any" is LangChain's word, which each package turns into its dialect's.
        for choice in ("any", "get_weather"):
            message = with_tool(model, choice).invoke(WHERE)
            (call,) = message.tool_calls
            equal((call["name"], message.invalid_tool_calls), ("get_weather", []))
            Weather.model_validate(call["args"])
            assert end_of(message) in ("tool_calls", "tool_use", "stop"), message
            total, n_chunks = joined(with_tool(model, choice).stream(WHERE))
            (streamed,) = total.tool_calls
            equal((streamed["name"], streamed["args"]), (call["name"], call["args"]), "streamed")
            equal(total.invalid_tool_calls, [])
            assert n_chunks > 2, f"{n_chunks} chunks: not streamed"
        without = with_tool(model, none_of(model)).invoke(WHERE)
        assert without.text and not without.tool_calls, without
        result = get_weather.invoke(call)
        assert isinstance(result, ToolMessage), result
        equal(result.content, f"21 degrees {call['args']['unit']} in {call['args']['city']}")
        # A streamed answer goes back as well as a whole one.
        for asked in (message, total):
            call_id = asked.tool_calls[0]["id"]
            result = ToolMessage(result.content, tool_call_id=call_id)
            history = [HumanMessage(WHERE), asked, result]
            told = with_tool(model, none_of(model)).invoke(history)
            assert told.text and not told.tool_calls, told
            assert totals(told)[0] > totals(without)[0] + 20, told.usage_metadata


class Animal(BaseModel):
    """An animal."""

    model_config = {"extra": "forbid"}
    kind: Literal["fox", "hen", "dog"]
    legs: int = Field(ge=0, le=8)
    wild: bool
    name: str | None = Field(max_length=12)


DESCRIBE = "Describe a fox."


def check_structured_output(server):
    for model in server.both(max_tokens=200):
        for method in ("json_schema", "function_calling"):
            held = model.with_structured_output(Animal, method=method)
            animal = held.invoke(DESCRIBE)
            assert isinstance(animal, Animal), f"{method}: {animal!r}"
            equal(list(held.stream(DESCRIBE))[-1], animal, f"{method}, streamed")
            schema = Animal.model_json_schema()
            plain = model.with_structured_output(schema, method=method).invoke(DESCRIBE)
            Animal.model_validate(plain)


def check_count_tokens(server):
    model = server.anthropic()
    messages = [SystemMessage("Answer briefly."), HumanMessage(QUESTION)]
    equal(model.get_num_tokens_from_messages(messages), totals(model.invoke(messages))[0])


def cosine(a, b):
    """Of vectors of length 1."""
    return sum(x * y for x, y in zip(a, b))


def check_embeddings(server):
    embeddings = server.embeddings(check_embedding_ctx_length=False)
    texts = ["How do I reset my password?", "Change a forgotten password.", "Bananas are yellow."]
    vectors = embeddings.embed_documents(texts)
    equal([len(vector) for vector in vectors], [384] * 3)
    assert cosine(vectors[0], vectors[1]) > 0.5 > cosine(vectors[0], vectors[2])
    equal(embeddings.embed_query(texts[0]), vectors[0])
    equal(asyncio.run(embeddings.aembed_documents(texts)), vectors)


def check_tokens_of_another_model_are_refused(server):
    """By default LangChain sends token ids of OpenAI's vocabulary, whose vectors would be of some
    other text. The refusal says what to do."""
    embeddings = server.embeddings()
    told = ("input", "this model's own tokenizer", "check_embedding_ctx_length=False")
    for text in ("How do I reset my password?", "Hello", "naïve 🦊 " * 20):
        with refused(openai.BadRequestError, *told):
            embeddings.embed_query(text)


def check_errors(server):
    for model in server.both():
        with refused((openai.BadRequestError, anthropic.BadRequestError), "temperature"):
            model.invoke(QUESTION, temperature=-1)
        for ask in (model.invoke, lambda text, model=model: list(model.stream(text))):
            with refused(ContextOverflowError):
                ask("word " * 20_000)
        equal(model.invoke(QUESTION).text, ANSWER, "the server goes on")
    for unknown in server.both(model="nobody"):
        with refused((openai.NotFoundError, anthropic.NotFoundError), "nobody"):
            unknown.invoke(QUESTION)


def check_disconnect(server):
    """Streams that are left must not go on."""
    for _ in range(4):
        for model in server.both(temperature=1, max_tokens=1500):
            stream = model.stream(STORY)
            for _, _chunk in zip(range(3), stream):
                pass
            stream.close()
    start = time.monotonic()
    for model in server.both():
        equal(model.invoke(QUESTION).text, ANSWER)
    seconds = time.monotonic() - start
    assert seconds < 20, f"{seconds:.1f} s for short answers after the streams were left"


def check_graceful_stop(server):
    """The last check: an answer in flight finishes, then the process ends by itself, with 0."""
    stream = iter(server.openai(max_tokens=48).stream(STORY))
    chunks = [next(stream) for _ in range(3)]
    server.process.send_signal(signal.SIGTERM)
    chunks += list(stream)
    assert end_of(joined(chunks)[0]) in ("stop", "length"), "the stream was cut"
    equal(server.process.wait(STOP_SECONDS_MAX), 0, "exit status")
    for model in server.both():
        with refused((openai.APIConnectionError, anthropic.APIConnectionError)):
            model.invoke(QUESTION)


def main():
    version = importlib.metadata.version
    name = f"langchain {version('langchain-openai')}+{version('langchain-anthropic')}"
    return serving.run(name, __doc__.splitlines()[0], Server, globals())


if __name__ == "__main__":
    sys.exit(main())
