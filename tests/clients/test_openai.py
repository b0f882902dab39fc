#!/usr/bin/env python3
"""The `openai` package against a real `freehold serve` with the real default model.

    python tests/clients/test_openai.py target/release/freehold [--model smollm2-135m]

Beside the chat model it serves the catalogue's encoder, for embeddings, keeps responses, and takes batches.

It starts the server on a free port of the loopback address, reads the printed address, runs every
function below whose name begins with `check_`, in order, and ends the server with SIGTERM. The model
has to be installed or in the catalogue (FREEHOLD_HOME is passed on). Exit status 0 if all passed.
"""

import asyncio
import contextlib
import json
import re
import signal
import sys
import tempfile
import time

import openai
from openai.lib.streaming.chat import ChatCompletionStreamState

import serving
from serving import STOP_SECONDS_MAX, equal

EMBEDDER = "minilm-l6-v2"
GREEDY = {"temperature": 0, "max_tokens": 24}
# What this small model answers with its exact weights, and in other engines. It cannot add.
QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
ANSWER = "17 + 25 = 32."
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]


class Server(serving.Server):
    """The server, and the client for it."""

    def __init__(self, binary, model, *more):
        self.folder = tempfile.TemporaryDirectory(prefix="freehold-batches-")
        batches = f"{self.folder.name}/batches"
        options = ["--keep-responses", "10m", "--batches", batches]
        super().__init__(binary, model, EMBEDDER, *options, *more)
        self.base_url = f"{self.url}/v1"

    def client(self, **options):
        options = {"max_retries": 0, "timeout": 120, **options}
        return openai.OpenAI(base_url=self.base_url, api_key="any", **options)


@contextlib.contextmanager
def refused(kind, **expected):
    """The block must raise `kind`, with these fields in the error's body."""
    try:
        yield
    except kind as error:
        body = error.body or {}
        for name, value in expected.items():
            equal(body.get(name), value, f"{name} of {body}")
        assert isinstance(body.get("message"), str) and body["message"], body
        assert isinstance(body.get("type"), str), body
        assert body.get("code") is None or isinstance(body["code"], str), body
    else:
        raise AssertionError(f"not refused, expected {kind.__name__} with {expected}")


def chat(server, messages=QUESTION, **options):
    options = {**GREEDY, **options}
    return server.client().chat.completions.create(
        model=server.model, messages=messages, **options
    )


def text_of(completion):
    return completion.choices[0].message.content


def streamed(server, messages=QUESTION, **options):
    """The chunks of a streamed chat, checked for what holds for every stream."""
    chunks = list(chat(server, messages, stream=True, **options))
    equal(len({chunk.id for chunk in chunks}), 1, "ids of one stream")
    equal({chunk.object for chunk in chunks}, {"chat.completion.chunk"})
    equal(len({chunk.created for chunk in chunks}), 1, "created times of one stream")
    with_choice = [chunk for chunk in chunks if chunk.choices]
    for index in {chunk.choices[0].index for chunk in with_choice}:
        own = [chunk.choices[0] for chunk in with_choice if chunk.choices[0].index == index]
        equal(own[0].delta.role, "assistant", "role of the first chunk")
        assert not own[0].delta.content, f"content in the first chunk: {own[0]}"
        reasons = [choice.finish_reason for choice in own]
        assert reasons[-1] is not None and set(reasons[:-1]) <= {None}, reasons
    return chunks


def joined(chunks, index=0):
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    return "".join(choice.delta.content or "" for choice in choices if choice.index == index)


def reason(chunks):
    return [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1]


def check_models(server):
    models = server.client().models.list().data
    assert server.model in [model.id for model in models], models
    equal(models[0].object, "model")
    assert isinstance(models[0].created, int) and models[0].owned_by
    equal(server.client().models.retrieve(server.model).id, server.model)
    with refused(openai.NotFoundError, code="model_not_found"):
        server.client().models.retrieve("nobody/nothing")


def check_chat(server):
    completion = chat(server)
    choice = completion.choices[0]
    equal((choice.message.content, choice.finish_reason), (ANSWER, "stop"))
    equal(choice.message.role, "assistant")
    equal((choice.index, completion.object), (0, "chat.completion"))
    assert choice.logprobs is None and completion.id.startswith("chatcmpl-")
    assert abs(completion.created - time.time()) < 60, completion.created
    usage = completion.usage
    equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
    assert usage.prompt_tokens > 5 and 0 < usage.completion_tokens <= 24, usage


def check_message_forms(server):
    parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": " 17 + 25?"}]
    equal(text_of(chat(server, [{"role": "user", "content": parts}])), ANSWER)
    system = chat(server, [{"role": "system", "content": "Answer briefly."}, *QUESTION])
    developer = chat(server, [{"role": "developer", "content": "Answer briefly."}, *QUESTION])
    equal(text_of(developer), text_of(system))
    history = [*QUESTION, {"role": "assistant", "content": ANSWER}]
    longer = chat(server, [*history, {"role": "user", "content": "Are you sure? 🙂"}])
    assert longer.usage.prompt_tokens > system.usage.prompt_tokens and text_of(longer)


def check_stream(server):
    whole = chat(server)
    chunks = streamed(server)
    equal(joined(chunks), text_of(whole), "streamed text")
    equal(reason(chunks), whole.choices[0].finish_reason)
    assert all(chunk.choices for chunk in chunks), "a chunk without choices, and no usage asked"
    assert all(chunk.usage is None for chunk in chunks)
    assert len(chunks) > 4, f"{len(chunks)} chunks: not streamed"
    with_usage = streamed(server, stream_options={"include_usage": True})
    equal(with_usage[-1].choices, [], "choices of the last chunk")
    equal(with_usage[-1].usage.total_tokens, whole.usage.total_tokens)
    assert all(chunk.usage is None for chunk in with_usage[:-1])


def check_stream_on_the_wire(server):
    body = {"model": server.model, "messages": QUESTION, "stream": True, **GREEDY}
    status, headers, text = server.request("POST", "/v1/chat/completions", json.dumps(body))
    equal(status, 200)
    assert headers["content-type"].startswith("text/event-stream"), headers
    assert "no-cache" in headers["cache-control"], headers
    assert text.endswith("data: [DONE]\n\n"), text[-200:]
    equal(text.count("[DONE]"), 1)
    for event in text.removesuffix("\n\n").split("\n\n"):
        assert event.startswith(("data: ", ": ")) and "\n" not in event, event


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
        "strict": True,
    },
}
TIME = {"type": "function", "function": {"name": "get_time", "strict": True}}
CALLING = {"tools": [WEATHER, TIME], "max_tokens": 120, "parallel_tool_calls": False}
WHERE = [{"role": "user", "content": "What is the weather in Paris?"}]


def call_of(message):
    """Name and arguments of the only call, which is valid."""
    equal(len(message.tool_calls), 1)
    call = message.tool_calls[0]
    equal(call.type, "function")
    arguments = json.loads(call.function.arguments)
    if call.function.name == "get_weather":
        equal(set(arguments), {"city", "unit"})
        assert isinstance(arguments["city"], str), arguments
        assert arguments["unit"] in ("celsius", "fahrenheit"), arguments
    else:
        equal((call.function.name, arguments), ("get_time", {}))
    return call.function.name, arguments


def check_tools(server):
    completion = chat(server, WHERE, tool_choice="required", **CALLING)
    choice = completion.choices[0]
    call_of(choice.message)
    equal((choice.finish_reason, choice.message.content), ("tool_calls", None))
    for name in ("get_weather", "get_time"):
        named = {"type": "function", "function": {"name": name}}
        message = chat(server, WHERE, tool_choice=named, **CALLING).choices[0].message
        equal(call_of(message)[0], name)
    none = chat(server, WHERE, tool_choice="none", **CALLING).choices[0]
    assert none.message.tool_calls is None and none.message.content, none
    with refused(openai.BadRequestError, param="tool_choice.function.name"):
        unknown = {"type": "function", "function": {"name": "get_news"}}
        chat(server, WHERE, tool_choice=unknown, **CALLING)
    unique = {"type": "object", "properties": {"x": {"type": "array", "uniqueItems": True}}}
    strange = {"type": "function", "function": {"name": "f", "parameters": unique, "strict": True}}
    with refused(openai.BadRequestError, param="tools[1].function.parameters"):
        chat(server, WHERE, tools=[TIME, strange])


def check_tools_stream(server):
    """What the client's own accumulation makes of the deltas is the whole answer."""
    whole = chat(server, WHERE, tool_choice="required", **CALLING).choices[0].message
    options = {**GREEDY, **CALLING}
    client = server.client()
    with client.chat.completions.stream(
        model=server.model, messages=WHERE, tool_choice="required", **options
    ) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion().choices[0]
    equal(call_of(final.message), call_of(whole))
    equal((final.finish_reason, final.message.content), ("tool_calls", None))
    equal([event.name for event in done], [whole.tool_calls[0].function.name])


def check_tools_over_several_turns(server):
    asked = chat(server, WHERE, tool_choice="required", **CALLING).choices[0].message
    history = [
        *WHERE,
        asked,
        {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": "21 degrees, sunny"},
    ]
    told = chat(server, history, tool_choice="none", **CALLING)
    assert told.choices[0].message.content, told
    without = chat(server, WHERE, tool_choice="none", **CALLING)
    assert told.usage.prompt_tokens > without.usage.prompt_tokens + 20, told.usage


def check_custom_tools(server):
    """A tool that takes a text, held to a pattern; its deltas are joined to the same text."""
    grammar = {"syntax": "regex", "definition": "[a-z]{2,6} [0-9]{1,3}"}
    custom = {"name": "note", "description": "Takes a note."}
    custom["format"] = {"type": "grammar", "grammar": grammar}
    tools = [TIME, {"type": "custom", "custom": custom}]
    options = {"tools": tools, "max_tokens": 60, "parallel_tool_calls": False}
    options["tool_choice"] = {"type": "custom", "custom": {"name": "note"}}
    asked = [{"role": "user", "content": "Note: milk 3"}]
    choice = chat(server, asked, **options).choices[0]
    (call,) = choice.message.tool_calls
    equal((call.type, call.custom.name, choice.finish_reason), ("custom", "note", "tool_calls"))
    assert re.fullmatch(grammar["definition"], call.custom.input), call
    chunks = streamed(server, asked, **options)
    equal(reason(chunks), "tool_calls")
    deltas = [chunk.choices[0].delta.tool_calls for chunk in chunks if chunk.choices]
    deltas = [delta[0].to_dict() for delta in deltas if delta]
    equal({delta["index"] for delta in deltas}, {0})
    equal((deltas[0]["type"], deltas[0]["custom"]["name"]), ("custom", "note"))
    equal("".join(delta["custom"]["input"] for delta in deltas), call.custom.input)
    result = {"role": "tool", "tool_call_id": call.id, "content": "noted"}
    options["tool_choice"] = "none"
    told = chat(server, [*asked, choice.message, result], **options)
    assert told.choices[0].message.content, told
    custom["format"] = {"type": "grammar", "grammar": {**grammar, "definition": "[a"}}
    options["tool_choice"] = "auto"
    path = "tools[1].custom.format.grammar.definition"
    with refused(openai.BadRequestError, param=path):
        chat(server, asked, **options)


def check_custom_tools_in_the_helper(server):
    """What the client's own accumulation makes of the deltas of such a call is the whole answer."""
    tool = {"type": "custom", "custom": {"name": "note", "description": "Takes a note."}}
    options = {**GREEDY, "tools": [tool], "max_tokens": 40, "parallel_tool_calls": False}
    options["tool_choice"] = {"type": "custom", "custom": {"name": "note"}}
    asked = [{"role": "user", "content": "Note: milk 3"}]
    whole = chat(server, asked, **options).choices[0]
    state = ChatCompletionStreamState()
    for chunk in streamed(server, asked, **options):
        state.handle_chunk(chunk)
    last = state.current_completion_snapshot.choices[0]
    equal(last.finish_reason, whole.finish_reason)
    (call,) = (call.to_dict() for call in last.message.tool_calls)
    (expected,) = whole.message.tool_calls
    equal((call["type"], call["custom"]), ("custom", expected.custom.to_dict()))


def check_length(server):
    for options in ({"max_tokens": 3}, {"max_tokens": openai.omit, "max_completion_tokens": 3}):
        completion = chat(server, **options)
        equal(completion.choices[0].finish_reason, "length")
        equal(completion.usage.completion_tokens, 3)
        equal(reason(streamed(server, **options)), "length")


def check_stop_strings(server):
    text = text_of(chat(server, STORY, max_tokens=48))
    for start in range(4, len(text) - 8, 18):  # some lie inside a token, some across several
        stop = text[start : start + 5]
        expected = text[: text.index(stop)]
        completion = chat(server, STORY, max_tokens=48, stop=["never in it", stop])
        equal(text_of(completion), expected, f"stopped at {stop!r}")
        equal(completion.choices[0].finish_reason, "stop")
    chunks = streamed(server, STORY, max_tokens=48, stop=stop)
    equal((joined(chunks), reason(chunks)), (expected, "stop"))


def check_seed(server):
    def draw(seed, **options):
        options = {"temperature": 1.2, "seed": seed, "max_tokens": 32, **options}
        return text_of(chat(server, STORY, **options))

    equal(draw(7), draw(7), "the same seed twice")
    chunks = streamed(server, STORY, temperature=1.2, seed=7, max_tokens=32)
    equal(joined(chunks), draw(7), "streamed")
    assert draw(7) != draw(8), "two seeds, one answer"
    equal(draw(7, top_p=1e-9), draw(8, temperature=0), "top_p near 0 is greedy")


def check_logprobs(server):
    completion = chat(server, logprobs=True, top_logprobs=2)
    content = completion.choices[0].logprobs.content
    equal(b"".join(bytes(token.bytes) for token in content).decode(), text_of(completion))
    for token in content:
        equal(len(token.top_logprobs), 2)
        assert token.logprob <= 0 and token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob
        equal(token.token, token.top_logprobs[0].token, "a greedy token")


def check_several_choices(server):
    completion = chat(server, STORY, n=3, temperature=1.2, seed=5, max_tokens=16)
    equal([choice.index for choice in completion.choices], [0, 1, 2])
    texts = [choice.message.content for choice in completion.choices]
    assert len(set(texts)) > 1, texts
    chunks = streamed(server, STORY, n=3, temperature=1.2, seed=5, max_tokens=16)
    equal([joined(chunks, index) for index in range(3)], texts, "streamed")


def check_completions(server):
    client = server.client()
    options = {"model": server.model, "temperature": 0, "max_tokens": 8}
    one = client.completions.create(prompt="The capital of France is", **options)
    equal((one.object, one.choices[0].index), ("text_completion", 0))
    assert "Paris" in one.choices[0].text, one
    equal(one.usage.completion_tokens, 8)
    chunks = list(client.completions.create(prompt="The capital of France is", stream=True, **options))
    equal("".join(chunk.choices[0].text for chunk in chunks), one.choices[0].text, "streamed")
    equal(chunks[-1].choices[0].finish_reason, "length")
    prompts = ["The capital of France is", "One, two, three,"]
    several = client.completions.create(prompt=prompts, **options)
    equal([choice.index for choice in several.choices], [0, 1])
    equal(several.choices[0].text, one.choices[0].text)
    ids = client.completions.create(prompt=[100, 200, 300], **options)
    equal(ids.usage.prompt_tokens, 3)


def check_errors(server):
    with refused(openai.NotFoundError, code="model_not_found"):
        server.client().chat.completions.create(model="nobody/nothing", messages=QUESTION)
    for field, value in [
        ("temperature", "hot"),
        ("temperature", -1),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("n", 0),
        ("stop", 7),
        ("seed", "x"),
        ("stream", "yes"),
        ("top_logprobs", 2),
        ("frobnicate", 1),
    ]:
        with refused(openai.BadRequestError, param=field, type="invalid_request_error"):
            chat(server, extra_body={field: value})
    with refused(openai.BadRequestError):
        chat(server, [])
    with refused(openai.BadRequestError):
        chat(server, [{"role": "wizard", "content": "x"}])
    equal(text_of(chat(server)), ANSWER, "the server goes on")


def check_errors_on_the_wire(server):
    def error(method, path, expected_status, body=None):
        status, headers, text = server.request(method, path, body)
        equal(status, expected_status, f"{method} {path} {body!r:.40}")
        error = json.loads(text)["error"]
        assert error["message"] and error["type"], error
        return headers, error

    error("POST", "/v1/nothing", 404)
    headers, _ = error("GET", "/v1/chat/completions", 405)
    assert "POST" in headers["allow"], headers
    for body in (b"{", b"[]", b'{"model": "x", "model"', b"\xff", b"[" * 100_000):
        _, refusal = error("POST", "/v1/chat/completions", 400, body)
        equal(refusal["type"], "invalid_request_error")
    equal(server.request("GET", "/health")[0], 200)


def check_context_overflow(server):
    long = [{"role": "user", "content": "word " * 20_000}]
    for stream in (False, True):
        try:
            chat(server, long, stream=stream)
        except openai.BadRequestError as error:
            equal(error.code, "context_length_exceeded")
            numbers = [int(number) for number in re.findall(r"\d{3,}", error.body["message"])]
            assert len(numbers) >= 2 and max(numbers) > 20_000, error.body
        else:
            raise AssertionError(f"a prompt longer than the context was taken (stream={stream})")


def check_many_at_once(server):
    colours = ["red", "green", "blue", "white", "black", "yellow", "brown", "grey"]
    prompts = [[{"role": "user", "content": f"Name something {colour}."}] for colour in colours]
    alone = [text_of(chat(server, prompt)) for prompt in prompts]

    async def ask_all():
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="any") as client:
            asked = (
                client.chat.completions.create(model=server.model, messages=prompt, **GREEDY)
                for prompt in prompts
            )
            return [text_of(completion) for completion in await asyncio.gather(*asked)]

    equal(asyncio.run(ask_all()), alone, "answers at once and one by one")


def cosine(a, b):
    """Of vectors of length 1."""
    return sum(x * y for x, y in zip(a, b))


def check_embeddings(server):
    """The client asks for base64 where nobody says otherwise, and decodes it."""
    texts = ["How do I reset my password?", "Change a forgotten password.", "Bananas are yellow."]
    embed = server.client().embeddings.create
    answer = embed(model=EMBEDDER, input=texts)
    vectors = [datum.embedding for datum in answer.data]
    equal([datum.index for datum in answer.data], [0, 1, 2])
    equal([len(vector) for vector in vectors], [384] * 3)
    equal((answer.object, answer.model), ("list", EMBEDDER))
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 15, answer.usage
    assert abs(cosine(vectors[0], vectors[0]) - 1) < 1e-5
    assert cosine(vectors[0], vectors[1]) > 0.5 > cosine(vectors[0], vectors[2])
    floats = embed(model=EMBEDDER, input=texts[0], encoding_format="float")
    assert max(abs(x - y) for x, y in zip(floats.data[0].embedding, vectors[0])) < 1e-7
    single = embed(model=EMBEDDER, input=[101, 2129, 2079, 1045, 25141, 2026, 20786, 1029, 102])
    equal(single.data[0].embedding, vectors[0], "token ids")
    equal(single.usage.prompt_tokens, 9)


def check_embeddings_refused(server):
    embed = server.client().embeddings.create
    with refused(openai.BadRequestError, param="input", code="context_length_exceeded"):
        embed(model=EMBEDDER, input="word " * 600)
    cut = embed(model=EMBEDDER, input="word " * 600, extra_body={"truncate": True})
    equal(cut.usage.prompt_tokens, 512)
    with refused(openai.BadRequestError, param="dimensions", code="unsupported_parameter"):
        embed(model=EMBEDDER, input="a", dimensions=64)
    with refused(openai.BadRequestError, param="input", code="invalid_value"):
        embed(model=EMBEDDER, input="")
    with refused(openai.BadRequestError, param="model", code="invalid_value"):
        embed(model=server.model, input="a")
    with refused(openai.BadRequestError, param="model", code="invalid_value"):
        server.client().chat.completions.create(model=EMBEDDER, messages=QUESTION)


SHORT = {"temperature": 0, "max_output_tokens": 24}
FLAT_WEATHER = {"type": "function", **WEATHER["function"]}
FLAT_TIME = {"type": "function", "name": "get_time", "parameters": None, "strict": True}
FLAT_CALLING = {
    "tools": [FLAT_WEATHER, FLAT_TIME],
    "max_output_tokens": 120,
    "parallel_tool_calls": False,
}


def check_disconnect(server):
    """Streams that are left must not go on: sixteen of them would take the server minutes."""
    for _ in range(16):
        stream = chat(server, STORY, stream=True, temperature=1, max_tokens=1500)
        for _, _chunk in zip(range(3), stream):
            pass
        stream.close()
    start = time.monotonic()
    equal(text_of(chat(server)), ANSWER)
    seconds = time.monotonic() - start
    assert seconds < 20, f"{seconds:.1f} s for a short answer after 16 clients left"


def batch_of(server, lines, endpoint="/v1/chat/completions"):
    """A batch of these requests, once it is over, and its file."""
    client = server.client()
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    file = client.files.create(file=("lines.jsonl", text.encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint=endpoint,
        completion_window="24h",
        metadata={"night": "1"},
    )
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    return batch, file


def line_of(custom_id, url="/v1/chat/completions", **body):
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def entries_of(server, file_id):
    text = server.client().files.content(file_id).text
    entries = [json.loads(line) for line in text.splitlines()]
    return {entry["custom_id"]: entry for entry in entries}


def check_batches(server):
    client = server.client()
    body = {"model": server.model, "messages": QUESTION, **GREEDY}
    lines = [line_of(f"q{n}", **body) for n in range(5)]
    batch, file = batch_of(server, [*lines, line_of("bad", **body, temprature=1)])
    equal((file.filename, file.purpose, file.status), ("lines.jsonl", "batch", "processed"))
    equal((batch.status, batch.errors, batch.metadata), ("completed", None, {"night": "1"}))
    counts = batch.request_counts
    equal((counts.total, counts.completed, counts.failed), (6, 5, 1))
    answers = entries_of(server, batch.output_file_id)
    equal(sorted(answers), [f"q{n}" for n in range(5)])
    for answer in answers.values():
        equal((answer["response"]["status_code"], answer["error"]), (200, None))
        completion = openai.types.chat.ChatCompletion.model_validate(answer["response"]["body"])
        equal(text_of(completion), ANSWER)
    (bad,) = entries_of(server, batch.error_file_id).values()
    equal(bad["response"]["status_code"], 400)
    equal(bad["response"]["body"]["error"]["param"], "temprature")
    failed, _ = batch_of(server, [lines[0], lines[0]])
    equal([(error.code, error.line) for error in failed.errors.data], [("duplicate_custom_id", 2)])
    vectors = line_of("v", "/v1/embeddings", model=EMBEDDER, input="own it")
    embedded, _ = batch_of(server, [vectors], "/v1/embeddings")
    (answer,) = entries_of(server, embedded.output_file_id).values()
    vector = client.embeddings.create(model=EMBEDDER, input="own it", encoding_format="float")
    equal(answer["response"]["body"]["data"][0]["embedding"], vector.data[0].embedding)
    equal([one.id for one in client.batches.list(limit=1)], [embedded.id, failed.id, batch.id])
    with refused(openai.ConflictError):
        client.batches.cancel(batch.id)
    with refused(openai.BadRequestError, param="purpose"):
        client.files.create(file=("a.txt", b"a"), purpose="user_data")
    ids = [one.id for one in client.files.list(purpose="batch_output")]
    assert batch.output_file_id in ids and file.id not in ids, ids
    equal(client.files.retrieve(file.id).bytes, file.bytes)
    for one in client.files.list():
        assert client.files.delete(one.id).deleted
    equal((list(client.files.list()), list(client.batches.list())), ([], []))
    with refused(openai.NotFoundError):
        client.files.content(file.id)


def check_resumed_streams(server):
    """Streams whose connection is cut go on where they were, with ids that no client minds."""
    resumable = Server(server.binary, server.source, "--resume-streams", "60s")
    try:
        equal(joined(streamed(resumable)), text_of(chat(server)))
        options = {**GREEDY, "max_tokens": 48}
        body = {"model": server.model, "messages": STORY, "stream": True, **options}
        key = {"Authorization": "Bearer any"}
        url = f"{resumable.base_url}/chat/completions"
        events, rest = serving.cut_stream(url, body, key, 9)
        events += rest.split("\n\n")[:-1]
        ids = [event.split("\n")[0].rpartition(":")[2] for event in events]
        equal(ids, [str(n) for n in range(len(events))], "numbers of the events")
        equal(events[-1].split("\n")[1], "data: [DONE]")
        chunks = [json.loads(event.split("\ndata: ")[1]) for event in events[:-1]]
        deltas = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
        equal("".join(filter(None, deltas)), text_of(chat(server, STORY, max_tokens=48)))

        responses = resumable.client().responses
        stream = responses.create(model=server.model, input="Hi", stream=True, max_output_tokens=24)
        begin = [next(stream) for _ in range(6)]
        stream.close()
        id, number = begin[0].response.id, begin[-1].sequence_number
        rest = list(responses.retrieve(id, stream=True, starting_after=number))
        equal([event.sequence_number for event in begin + rest], list(range(6 + len(rest))))
        text = "".join(event.delta for event in begin + rest if event.type[-6:] == ".delta")
        equal(text, rest[-1].response.output_text)
        equal(responses.retrieve(id).output_text, text)
        with refused(openai.NotFoundError, code="stream_not_found"):
            another = openai.OpenAI(base_url=resumable.base_url, api_key="b", max_retries=0)
            another.responses.retrieve(id, stream=True)
    finally:
        resumable.stop()


def check_graceful_stop(server):
    """The last check: an answer in flight finishes, then the process ends by itself, with 0."""
    stream = iter(chat(server, STORY, stream=True, max_tokens=48))
    chunks = [next(stream) for _ in range(3)]
    server.process.send_signal(signal.SIGTERM)
    chunks += list(stream)
    assert reason(chunks) in ("stop", "length"), "the stream was cut"
    equal(server.process.wait(STOP_SECONDS_MAX), 0, "exit status")
    try:
        chat(server)
    except openai.APIConnectionError:
        pass
    else:
        raise AssertionError("the server answers after its end")


def main():
    name, description = f"openai {openai.__version__}", __doc__.splitlines()[0]
    return serving.run(name, description, Server, globals())


if __name__ == "__main__":
    sys.exit(main())
