#!/usr/bin/env python3
"""The `openai` package's Responses against a real `freehold serve` with the real default model.

    python tests/clients/test_openai_responses.py target/release/freehold [--model smollm2-135m]

The server and what goes with it is that of test_openai.py.
"""

import json
import re
import sys
import time

import openai
import pydantic

import serving
from serving import equal
from test_openai import ANSWER, FLAT_CALLING, QUESTION, SHORT, WHERE, Server, chat, refused


def respond(server, input="What is 17 + 25?", **options):
    options = {**SHORT, **options}
    return server.client().responses.create(model=server.model, input=input, **options)


def response_streamed(server, input="What is 17 + 25?", **options):
    """The events of a stream and what the client makes of them."""
    options = {**SHORT, **options}
    with server.client().responses.stream(model=server.model, input=input, **options) as stream:
        events = list(stream)
    equal([event.sequence_number for event in events], list(range(len(events))))
    return events, events[-1].response


def same_response(streamed, whole):
    """Both say the same, but for their names and what of the prompt was in the cache."""
    for item, other in zip(streamed.output, whole.output, strict=True):
        differing = {"id", "call_id", "parsed_arguments", "content"}
        equal(item.model_dump(exclude=differing), other.model_dump(exclude=differing))
    equal(streamed.output_text, whole.output_text)
    equal((streamed.status, streamed.incomplete_details), (whole.status, whole.incomplete_details))
    equal(streamed.usage.total_tokens, whole.usage.total_tokens)


def check_responses(server):
    response = respond(server)
    equal((response.output_text, response.status), (ANSWER, "completed"))
    (message,) = response.output
    equal((message.type, message.role, message.status), ("message", "assistant", "completed"))
    assert response.id.startswith("resp_") and abs(response.created_at - time.time()) < 60
    usage = response.usage
    equal(usage.total_tokens, usage.input_tokens + usage.output_tokens)
    equal(usage.input_tokens, chat(server).usage.prompt_tokens)
    equal((usage.output_tokens_details.reasoning_tokens, response.error), (0, None))
    cut = respond(server, max_output_tokens=3)
    equal((cut.status, cut.incomplete_details.reason), ("incomplete", "max_output_tokens"))
    parts = [{"type": "input_text", "text": "What is"}, {"type": "input_text", "text": "17 + 25?"}]
    system = respond(server, [{"role": "developer", "content": "Be brief."}, *QUESTION])
    equal(respond(server, instructions="Be brief.").output_text, system.output_text)
    assert respond(server, [{"role": "user", "content": parts}]).output_text
    logprobs = respond(server, include=["message.output_text.logprobs"], top_logprobs=2)
    tokens = logprobs.output[0].content[0].logprobs
    equal(b"".join(bytes(token.bytes) for token in tokens).decode(), ANSWER)


def check_responses_stream(server):
    events, response = response_streamed(server)
    same_response(response, respond(server))
    types = [event.type for event in events]
    equal(types[:2], ["response.created", "response.in_progress"])
    equal(types[-2:], ["response.output_item.done", "response.completed"])
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    equal("".join(deltas), ANSWER)
    assert len(deltas) > 4, f"{len(deltas)} pieces: not streamed"
    events, response = response_streamed(server, max_output_tokens=3)
    equal(events[-1].type, "response.incomplete")
    same_response(response, respond(server, max_output_tokens=3))


def function_call_of(response):
    """The only call, which is valid."""
    (call,) = response.output
    equal((call.type, call.status), ("function_call", "completed"))
    if call.name == "get_weather":
        equal(set(json.loads(call.arguments)), {"city", "unit"})
    else:
        equal((call.name, json.loads(call.arguments)), ("get_time", {}))
    return call


def check_responses_tools(server):
    """Over several turns, with all that was said sent again, and with what is kept."""
    where = WHERE[0]["content"]
    asked = respond(server, where, tool_choice="required", **FLAT_CALLING)
    call = function_call_of(asked)
    events, streamed = response_streamed(server, where, tool_choice="required", **FLAT_CALLING)
    same_response(streamed, asked)
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    equal([event.arguments for event in done], [call.arguments])
    for name in ("get_weather", "get_time"):
        named = {"type": "function", "name": name}
        equal(function_call_of(respond(server, where, tool_choice=named, **FLAT_CALLING)).name, name)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}
    options = {**FLAT_CALLING, "tool_choice": "none"}
    told = respond(server, [*WHERE, *asked.output, result], **options)
    assert told.output_text, told
    kept = respond(server, [result], previous_response_id=asked.id, **options)
    equal(kept.output_text, told.output_text)
    equal(kept.usage.input_tokens, told.usage.input_tokens)
    with refused(openai.BadRequestError, param="tool_choice.name"):
        respond(server, tool_choice={"type": "function", "name": "get_news"}, **FLAT_CALLING)


class Sum(pydantic.BaseModel):
    a: int
    b: int


def check_responses_parse(server):
    options = {**SHORT, "max_output_tokens": 100}
    parse = server.client().responses.parse
    parsed = parse(model=server.model, input="What is 17 + 25?", text_format=Sum, **options)
    assert isinstance(parsed.output_parsed, Sum), parsed
    _, streamed = response_streamed(server, text_format=Sum, max_output_tokens=100)
    equal(streamed.output_parsed, parsed.output_parsed)


def check_responses_kept(server):
    responses = server.client().responses
    first = respond(server, "My name is Ada.", instructions="Be brief.", metadata={"a": "b"})
    equal((first.store, first.metadata), (True, {"a": "b"}))
    second = respond(server, "What is my name?", previous_response_id=first.id)
    history = [{"role": "user", "content": "My name is Ada."}, *first.output]
    whole = respond(server, [*history, {"role": "user", "content": "What is my name?"}])
    equal(second.output_text, whole.output_text)
    equal(second.usage.input_tokens, whole.usage.input_tokens)
    equal(responses.retrieve(second.id).model_dump(), second.model_dump())
    items = list(responses.input_items.list(second.id, order="asc", limit=2))
    equal([item.content[0].text for item in items], [
        "My name is Ada.", first.output_text, "What is my name?",
    ])
    reference = {"type": "item_reference", "id": first.output[0].id}
    referred = respond(server, [history[0], reference, {"role": "user", "content": "Go on."}])
    assert referred.output_text, referred
    counted = responses.input_tokens.count(
        model=server.model, input="What is my name?", previous_response_id=first.id
    )
    equal(counted.input_tokens, second.usage.input_tokens)
    with refused(openai.NotFoundError, code="response_not_found"):
        another = openai.OpenAI(base_url=server.base_url, api_key="another", max_retries=0)
        another.responses.retrieve(first.id)
    responses.delete(first.id)
    with refused(openai.NotFoundError, code="response_not_found"):
        responses.retrieve(first.id)
    with refused(openai.BadRequestError, code="previous_response_not_found"):
        respond(server, "So?", previous_response_id=second.id)
    forgotten = respond(server, store=False)
    with refused(openai.NotFoundError, code="response_not_found"):
        responses.retrieve(forgotten.id)


def check_responses_background(server):
    """Made while nobody waits: asked for until they have ended, or cancelled."""
    responses = server.client().responses
    begun = respond(server, background=True)
    equal((begun.status, begun.background, begun.output), ("in_progress", True, []))
    response = begun
    while response.status in ("queued", "in_progress"):
        time.sleep(0.05)
        response = responses.retrieve(begun.id)
    equal((response.status, response.output_text), ("completed", ANSWER))
    equal(responses.cancel(begun.id).model_dump(), response.model_dump())
    long = respond(server, "Tell me a long story.", background=True, max_output_tokens=400)
    cancelled = responses.cancel(long.id)
    equal((cancelled.id, cancelled.status), (long.id, "cancelled"))
    equal(responses.retrieve(long.id).status, "cancelled")
    streamed = list(respond(server, background=True, stream=True))
    equal(streamed[-1].response.output_text, ANSWER)
    equal(responses.retrieve(streamed[0].response.id).output_text, ANSWER)
    with refused(openai.BadRequestError, param="background"):
        respond(server, background=True, store=False)
    with refused(openai.BadRequestError, param="id"):
        responses.cancel(respond(server).id)


def check_responses_custom_tools(server):
    """A tool that takes a text, held to a pattern."""
    format = {"type": "grammar", "syntax": "regex", "definition": "[a-z]{2,6} [0-9]{1,3}"}
    tool = {"type": "custom", "name": "note", "description": "Takes a note.", "format": format}
    options = {"tools": [tool], "max_output_tokens": 60, "parallel_tool_calls": False}
    choice = {"type": "custom", "name": "note"}
    asked = respond(server, "Note: milk 3", tool_choice=choice, **options)
    (call,) = asked.output
    equal((call.type, call.name), ("custom_tool_call", "note"))
    assert re.fullmatch(format["definition"], call.input), call
    events, streamed = response_streamed(server, "Note: milk 3", tool_choice=choice, **options)
    equal(streamed.output[0].input, call.input)
    kind = "response.custom_tool_call_input."
    deltas = [event.delta for event in events if event.type == kind + "delta"]
    equal("".join(deltas), call.input)
    equal([event.input for event in events if event.type == kind + "done"], [call.input])
    result = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "noted"}
    told = respond(server, [result], previous_response_id=asked.id, tool_choice="none", **options)
    assert told.output_text, told


def check_responses_refused(server):
    with refused(openai.NotFoundError, code="model_not_found"):
        server.client().responses.create(model="nobody/nothing", input="x")
    for field, value in [
        ("background", "yes"),
        ("truncation", "always"),
        ("temperature", "hot"),
        ("max_output_tokens", 0),
        ("previous_response_id", "resp_nobody"),
        ("conversation", "conv_1"),
        ("text", {"format": {"type": "yaml"}}),
    ]:
        param = "text.format.type" if field == "text" else field
        with refused(openai.BadRequestError, param=param, type="invalid_request_error"):
            respond(server, extra_body={field: value})
    with refused(openai.BadRequestError, param="input[0].type"):
        respond(server, [{"type": "mcp_call", "id": "x", "status": "completed"}])
    with refused(openai.BadRequestError, code="context_length_exceeded"):
        respond(server, "word " * 20_000, stream=True)


def check_responses_of_codex(server):
    """It always streams, resends all, and brings tools and fields of its vendor."""
    body = {
        "model": server.model,
        "instructions": "You are a coding agent.",
        "input": [
            {"type": "message", "role": "developer", "content": [
                {"type": "input_text", "text": "Be brief."}]},
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "What is in here?"}]},
            {"type": "reasoning", "summary": [], "content": None, "encrypted_content": None},
            {"type": "function_call", "name": "shell", "call_id": "call_1",
             "arguments": '{"command":["ls"]}'},
            {"type": "function_call_output", "call_id": "call_1", "output": "a.txt"},
        ],
        "tools": [
            {"type": "function", "name": "shell", "description": "Runs a command.",
             "strict": False, "parameters": {"type": "object", "properties": {
                 "command": {"type": "array", "items": {"type": "string"}}}}},
            {"type": "web_search"},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "x",
        "client_metadata": {"x": "y"},
        "max_output_tokens": 24,
    }
    status, headers, text = server.request("POST", "/v1/responses", json.dumps(body))
    equal(status, 200, text)
    assert headers["content-type"].startswith("text/event-stream"), headers
    equal(headers["x-freehold-ignored"], "reasoning.summary, tools[1], reasoning.effort")
    names = [line.removeprefix("event: ") for line in text.splitlines() if line[:6] == "event:"]
    equal(names[0], "response.created")
    assert names[-1] in ("response.completed", "response.incomplete"), names
    assert "[DONE]" not in text


def main():
    name, description = f"openai responses {openai.__version__}", __doc__.splitlines()[0]
    return serving.run(name, description, Server, globals())


if __name__ == "__main__":
    sys.exit(main())
