#!/usr/bin/env python3
"""The `anthropic` package against a real `freehold serve` with the real default model.

    python tests/clients/test_anthropic.py target/release/freehold [--model smollm2-135m]

As test_openai.py, whose notes hold here too.
"""

import asyncio
import contextlib
import json
import signal
import sys
import time

import anthropic

import serving
from serving import STOP_SECONDS_MAX, equal

# The package has no name for it any more; the server does.
EXACT = {"temperature": 0}
GREEDY = {"max_tokens": 24, "extra_body": EXACT}
QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
ANSWER = "17 + 25 = 32."
STORY = [{"role": "user", "content": "Tell me a story about a fox."}]
WHERE = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 20},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
}
TIME = {"name": "get_time", "input_schema": {"type": "object", "properties": {}}}
ANY = {"type": "any", "disable_parallel_tool_use": True}
CALLING = {"tools": [WEATHER, TIME], "max_tokens": 120}


class Server(serving.Server):
    """The server, and the client for it."""

    def client(self, **options):
        options = {"max_retries": 0, "timeout": 120, "api_key": "any", **options}
        return anthropic.Anthropic(base_url=self.url, **options)


@contextlib.contextmanager
def refused(kind, type="invalid_request_error", message=""):
    """The block must raise `kind`, with an error of this type whose message begins so."""
    try:
        yield
    except kind as error:
        body = error.body
        equal((body["type"], body["error"]["type"]), ("error", type))
        assert body["error"]["message"].startswith(message), body
        equal(body["request_id"], error.request_id)
        assert error.request_id, error
    else:
        raise AssertionError(f"not refused, expected {kind.__name__}: {message}")


def ask(server, messages=QUESTION, **options):
    options = {**GREEDY, **options}
    return server.client().messages.create(model=server.model, messages=messages, **options)


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def streamed(server, messages=QUESTION, **options):
    """The message that the client makes of a stream."""
    options = {**GREEDY, **options}
    with server.client().messages.stream(
        model=server.model, messages=messages, **options
    ) as stream:
        return stream.get_final_message()


def n_input(usage):
    return usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens


def same(streamed, whole):
    """Both say the same, but for their names and what of the prompt was in the cache."""
    for block, other in zip(streamed.content, whole.content, strict=True):
        differing = {"id"} if block.type == "tool_use" else set()
        equal(block.model_dump(exclude=differing), other.model_dump(exclude=differing))
    equal((streamed.stop_reason, streamed.stop_sequence), (whole.stop_reason, whole.stop_sequence))
    equal(n_input(streamed.usage), n_input(whole.usage), "tokens of the prompt")
    equal(streamed.usage.output_tokens, whole.usage.output_tokens)


def check_models(server):
    models = server.client().models.list().data
    assert server.model in [model.id for model in models], models
    equal([model.id for model in server.client().models.list(limit=1)], [m.id for m in models])
    model = server.client().models.retrieve(server.model)
    equal((model.id, model.type, model.lifecycle), (server.model, "model", "active"))
    assert abs(model.created_at.timestamp() - time.time()) < 3600, model
    assert model.max_input_tokens > 1000, model
    with refused(anthropic.NotFoundError, "not_found_error"):
        server.client().models.retrieve("nobody/nothing")


def check_message(server):
    message = ask(server)
    equal((text_of(message), message.stop_reason), (ANSWER, "end_turn"))
    equal(message.stop_sequence, None)
    equal((message.type, message.role, message.model), ("message", "assistant", server.model))
    assert message.id.startswith("msg_") and message._request_id, message
    assert n_input(message.usage) > 5 and 0 < message.usage.output_tokens <= 24, message.usage


def check_either_key(server):
    bearer = server.client(api_key=None, auth_token="any")
    equal(text_of(bearer.messages.create(model=server.model, messages=QUESTION, **GREEDY)), ANSWER)
    beta = server.client().beta.messages.create(
        model=server.model, messages=QUESTION, betas=["interleaved-thinking-2025-05-14"], **GREEDY
    )
    equal(text_of(beta), ANSWER)


def check_message_forms(server):
    parts = [
        {"type": "text", "text": "What is", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": " 17 + 25?"},
    ]
    equal(text_of(ask(server, [{"role": "user", "content": parts}])), ANSWER)
    system = ask(server, system="Answer briefly.")
    blocks = ask(server, system=[{"type": "text", "text": "Answer briefly."}])
    equal(text_of(blocks), text_of(system))
    history = [*QUESTION, {"role": "assistant", "content": ask(server).content}]
    longer = ask(server, [*history, {"role": "user", "content": "Are you sure? 🙂"}])
    assert n_input(longer.usage) > n_input(system.usage) and text_of(longer)


def check_stream(server):
    same(streamed(server), ask(server))
    with server.client().messages.stream(
        model=server.model, messages=STORY, max_tokens=32, extra_body=EXACT
    ) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    equal("".join(pieces), text_of(final))
    assert len(pieces) > 4, f"{len(pieces)} pieces: not streamed"
    events = list(
        server.client().messages.create(
            model=server.model, messages=QUESTION, stream=True, **GREEDY
        )
    )
    equal((events[0].type, events[-1].type), ("message_start", "message_stop"))


def check_stream_on_the_wire(server):
    body = {"model": server.model, "messages": QUESTION, "stream": True, **GREEDY}
    status, headers, text = server.request("POST", "/v1/messages", json.dumps(body))
    equal(status, 200)
    assert headers["content-type"].startswith("text/event-stream"), headers
    assert "no-cache" in headers["cache-control"] and headers["request-id"], headers
    assert text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n'), text[-200:]
    for event in text.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        equal(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))["type"])


def check_ends(server):
    equal(ask(server, max_tokens=3).stop_reason, "max_tokens")
    equal(ask(server, max_tokens=3).usage.output_tokens, 3)
    text = text_of(ask(server, STORY, max_tokens=48))
    for start in range(4, len(text) - 8, 18):  # some lie inside a token, some across several
        stop = text[start : start + 5]
        options = {"max_tokens": 48, "stop_sequences": ["never in it", stop]}
        stopped = ask(server, STORY, **options)
        equal(text_of(stopped), text[: text.index(stop)], f"stopped at {stop!r}")
        equal((stopped.stop_reason, stopped.stop_sequence), ("stop_sequence", stop))
    same(streamed(server, STORY, **options), stopped)


def check_prefill(server):
    begun = {"role": "assistant", "content": "17 + 25"}
    rest = ask(server, [*QUESTION, begun])
    equal(begun["content"] + text_of(rest), ANSWER)
    with refused(anthropic.BadRequestError, message="messages[1].content: "):
        ask(server, [*QUESTION, {"role": "assistant", "content": "17 "}])


def call_of(message):
    """The only call, which is valid."""
    equal(message.stop_reason, "tool_use")
    (call,) = message.content
    equal(call.type, "tool_use")
    assert call.id.startswith("toolu_"), call
    if call.name == "get_weather":
        equal(set(call.input), {"city", "unit"})
        assert isinstance(call.input["city"], str), call
        assert call.input["unit"] in ("celsius", "fahrenheit"), call
    else:
        equal((call.name, call.input), ("get_time", {}))
    return call


def check_tools(server):
    call_of(ask(server, WHERE, tool_choice=ANY, **CALLING))
    for name in ("get_weather", "get_time"):
        named = {"type": "tool", "name": name, "disable_parallel_tool_use": True}
        equal(call_of(ask(server, WHERE, tool_choice=named, **CALLING)).name, name)
    none = ask(server, WHERE, tool_choice={"type": "none"}, **CALLING)
    assert none.stop_reason != "tool_use" and text_of(none), none
    with refused(anthropic.BadRequestError, message="tool_choice.name: "):
        ask(server, WHERE, tool_choice={"type": "tool", "name": "get_news"}, **CALLING)
    unique = {"type": "object", "properties": {"x": {"type": "array", "uniqueItems": True}}}
    with refused(anthropic.BadRequestError, message="tools[1].input_schema: "):
        ask(server, WHERE, tools=[TIME, {"name": "f", "input_schema": unique, "strict": True}])
    with refused(anthropic.BadRequestError, message="tools[0].type: "):
        ask(server, WHERE, tools=[{"type": "web_search_20250305", "name": "web_search"}])


def check_tools_stream(server):
    same(
        streamed(server, WHERE, tool_choice=ANY, **CALLING),
        ask(server, WHERE, tool_choice=ANY, **CALLING),
    )


def check_tools_over_several_turns(server):
    asked = ask(server, WHERE, tool_choice=ANY, **CALLING)
    result = {"type": "tool_result", "tool_use_id": call_of(asked).id, "content": "21 degrees"}
    history = [
        *WHERE,
        {"role": "assistant", "content": asked.content},
        {"role": "user", "content": [result, {"type": "text", "text": "In one word?"}]},
    ]
    told = ask(server, history, tool_choice={"type": "none"}, **CALLING)
    assert text_of(told), told
    without = ask(server, WHERE, tool_choice={"type": "none"}, **CALLING)
    assert n_input(told.usage) > n_input(without.usage) + 20, told.usage
    failed = [*history[:2], {"role": "user", "content": [{**result, "is_error": True}]}]
    assert text_of(ask(server, failed, tool_choice={"type": "none"}, **CALLING))


def check_tool_runner(server):
    """By itself the runner would send only what is new of a conversation."""
    calls = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        calls.append(city)
        return f"21 degrees in {city}"

    for stream in (False, True):
        calls.clear()
        runner = server.client().beta.messages.tool_runner(
            model=server.model,
            messages=WHERE,
            tools=[get_weather],
            tool_choice=ANY,
            max_tokens=120,
            max_iterations=2,
            stream=stream,
            extra_body=EXACT,
        )
        turns = [turn.get_final_message() if stream else turn for turn in runner]
        equal([turn.stop_reason for turn in turns], ["tool_use"] * 2)
        equal([turn.content[0].input["city"] for turn in turns], calls)
        assert n_input(turns[1].usage) > n_input(turns[0].usage) + 20, "the history was sent"


def check_format(server):
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    config = {"format": {"type": "json_schema", "schema": schema}}
    equal(set(json.loads(text_of(ask(server, output_config=config)))), {"n"})


def check_count_tokens(server):
    cases = [
        {"messages": QUESTION},
        {"messages": QUESTION, "system": "Answer briefly."},
        {"messages": WHERE, "tools": [WEATHER, TIME], "tool_choice": {"type": "none"}},
        {"messages": [*QUESTION, {"role": "assistant", "content": "17 +"}]},
    ]
    for case in cases:
        counted = server.client().messages.count_tokens(model=server.model, **case)
        answered = ask(server, **case)
        equal(counted.input_tokens, n_input(answered.usage), case)


def check_cache(server):
    long = [{"role": "user", "content": "word " * 300}]
    first, again = [ask(server, long, max_tokens=1).usage for _ in range(2)]
    equal(n_input(first), n_input(again))
    assert again.cache_read_input_tokens >= 256, again
    equal(streamed(server, long, max_tokens=1).usage, again, "streamed")


def check_what_has_no_effect_is_told(server):
    raw = server.client().messages.with_raw_response.create(
        model=server.model,
        messages=QUESTION,
        metadata={"user_id": "x"},
        service_tier="auto",
        thinking={"type": "enabled", "budget_tokens": 1024},
        max_tokens=24,
        extra_body={"context_management": {"edits": []}, "frobnicate": 1, **EXACT},
    )
    equal(text_of(raw.parse()), ANSWER)
    # The default model does not reason.
    equal(raw.headers["x-freehold-ignored"], "context_management, frobnicate, thinking")


def check_errors(server):
    with refused(anthropic.NotFoundError, "not_found_error", 'model "nobody/nothing"'):
        server.client().messages.create(model="nobody/nothing", messages=QUESTION, max_tokens=1)
    for field, value in [
        ("temperature", "hot"),
        ("temperature", -1),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("stop_sequences", 7),
        ("top_k", -1),
        ("stream", "yes"),
        ("thinking", {"type": "enabled"}),
        ("mcp_servers", [{"type": "url", "url": "https://x", "name": "x"}]),
    ]:
        with refused(anthropic.BadRequestError, message=field):
            ask(server, extra_body={**EXACT, field: value})
    with refused(anthropic.BadRequestError, message="messages: "):
        ask(server, [])
    with refused(anthropic.BadRequestError, message="messages[0].role: "):
        ask(server, [{"role": "wizard", "content": "x"}])
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
    with refused(anthropic.BadRequestError, message="messages[0].content[0].type: "):
        ask(server, [{"role": "user", "content": [image]}])
    with refused(anthropic.RequestTooLargeError, "request_too_large"):
        ask(server, [{"role": "user", "content": "x" * (5 << 20)}])
    with refused(anthropic.PermissionDeniedError, "permission_error"):
        client = server.client(default_headers={"Origin": "https://evil.example"})
        client.messages.create(model=server.model, messages=QUESTION, max_tokens=1)
    with refused(anthropic.NotFoundError, "not_found_error"):
        server.client().messages.batches.list()
    equal(text_of(ask(server)), ANSWER, "the server goes on")


def check_errors_on_the_wire(server):
    def error(method, path, expected_status, body=None):
        status, headers, text = server.request(method, path, body)
        equal(status, expected_status, f"{method} {path} {body!r:.40}")
        body = json.loads(text)
        assert body["type"] == "error" and body["error"]["message"], body
        equal(body["request_id"], headers["request-id"])
        return headers

    error("POST", "/v1/messages/nothing", 404)
    assert "POST" in error("GET", "/v1/messages", 405)["allow"]
    for body in (b"{", b"[]", b'{"model": "x", "model"', b"\xff", b"[" * 100_000):
        equal(error("POST", "/v1/messages", 400, body)["x-should-retry"], "false")
    for method in ("GET", "HEAD"):
        equal(server.request(method, "/")[0], 200)


def check_prompt_too_long(server):
    long = [{"role": "user", "content": "word " * 20_000}]
    counted = server.client().messages.count_tokens(model=server.model, messages=long).input_tokens
    for stream in (False, True):
        with refused(anthropic.BadRequestError, message=f"prompt is too long: {counted} tokens > "):
            ask(server, long, stream=stream)


def check_too_many_at_once(server):
    """More than the server takes get a 529 that says when to come again."""

    async def ask_all(n, **options):
        options = {"model": server.model, "messages": QUESTION, "extra_body": EXACT, **options}
        async with anthropic.AsyncAnthropic(
            base_url=server.url, api_key="any", timeout=120, max_retries=0
        ) as client:
            asked = (client.messages.create(**options) for _ in range(n))
            return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(ask_all(8, max_tokens=24))
    equal({text_of(answer) for answer in answers}, {ANSWER}, "answers at once")
    crowd = asyncio.run(ask_all(400, max_tokens=1))
    refusals = [answer for answer in crowd if isinstance(answer, Exception)]
    assert refusals and len(refusals) < 400, f"{len(refusals)} refused"
    for refusal in refusals:
        assert isinstance(refusal, anthropic.InternalServerError), repr(refusal)
        equal((refusal.status_code, refusal.body["error"]["type"]), (529, "overloaded_error"))
        assert int(refusal.response.headers["retry-after"]) >= 1


def check_resumed_streams(server):
    """A stream whose connection is cut goes on where it was, with ids that the client passes over."""
    resumable = Server(server.binary, server.source, "--resume-streams", "60s")
    try:
        options = {"max_tokens": 48, "model": server.model, "messages": STORY}
        whole = server.client().messages.create(**options, extra_body=EXACT).content[0].text
        with resumable.client().messages.stream(**options, extra_body=EXACT) as stream:
            equal(stream.get_final_text(), whole)
        body = {**options, **EXACT, "stream": True}
        events, rest = serving.cut_stream(
            f"{resumable.url}/v1/messages", body, {"x-api-key": "any"}, 9
        )
        events += rest.split("\n\n")[:-1]
        ids = [event.split("\n")[0].rpartition(":")[2] for event in events]
        equal(ids, [str(n) for n in range(len(events))], "numbers of the events")
        data = [json.loads(event.split("\ndata: ")[1]) for event in events]
        equal("".join(event.get("delta", {}).get("text", "") for event in data), whole)
        equal(data[-1]["type"], "message_stop")
    finally:
        resumable.stop()


def check_disconnect(server):
    """Streams that are left must not go on: sixteen of them would take the server minutes."""
    for _ in range(16):
        stream = ask(server, STORY, stream=True, max_tokens=1500, extra_body={"temperature": 1})
        for _, _event in zip(range(3), stream):
            pass
        stream.close()
    start = time.monotonic()
    equal(text_of(ask(server)), ANSWER)
    seconds = time.monotonic() - start
    assert seconds < 20, f"{seconds:.1f} s for a short answer after 16 clients left"


def check_graceful_stop(server):
    """The last check: an answer in flight finishes, then the process ends by itself, with 0."""
    stream = iter(ask(server, STORY, stream=True, max_tokens=48))
    events = [next(stream) for _ in range(3)]
    server.process.send_signal(signal.SIGTERM)
    events += list(stream)
    equal(events[-1].type, "message_stop", "the stream was cut")
    equal(server.process.wait(STOP_SECONDS_MAX), 0, "exit status")
    try:
        ask(server)
    except anthropic.APIConnectionError:
        pass
    else:
        raise AssertionError("the server answers after its end")


def main():
    name, description = f"anthropic {anthropic.__version__}", __doc__.splitlines()[0]
    return serving.run(name, description, Server, globals())


if __name__ == "__main__":
    sys.exit(main())
