#!/usr/bin/env python3
"""Mixed load on the real server for a while: nothing is lost, doubled or different, and no memory grows.

    tests/clients/soak.py PATH/TO/freehold [--minutes 30] [--model smollm2-135m]

First each kind of request is asked alone. Then clients ask them in random order, streamed and whole,
while others break off in mid-answer, send what is wrong or too large, or only open connections and
drop them. Every answer must equal the one given alone. Resident memory, sampled each second, must
not grow by more than 3 % after the first third. Needs Python alone.
"""

import argparse
import collections
import http.client
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import threading
import time

N_CLIENTS, N_RUDE, N_DROPPING = 12, 4, 200
GROWTH_MAX = 1.03
# Each answer is one the server has to make; 429 says that it will not now, which is no loss.
SECONDS_MAX = 300
WORDS = "river stone lamp bread cloud winter garden iron music paper horse window ocean candle".split()

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"], "additionalProperties": False}}}


def kinds(model):
    """Requests by name: path and body, each with one right answer."""
    rng = random.Random(1)
    words = lambda n: " ".join(rng.choice(WORDS) for _ in range(n))
    system = {"role": "system", "content": "You know these words: " + words(200)}
    found = {}
    for i in range(6):
        question = {"role": "user", "content": f"Say something about {words(3)}."}
        greedy = {"messages": [question], "temperature": 0, "max_tokens": 24 + 8 * i}
        found[f"greedy {i}"] = ("chat/completions", greedy)
        seeded = {"messages": [question], "temperature": 0.9, "seed": i, "max_tokens": 40}
        found[f"seeded {i}"] = ("chat/completions", seeded)
        shared = {"messages": [system, question], "temperature": 0, "max_tokens": 16}
        found[f"shared prompt {i}"] = ("chat/completions", shared)
    ask = [{"role": "user", "content": "Describe Ada as JSON."}]
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    found |= {
        "schema": ("chat/completions", {
            "messages": ask, "temperature": 0, "max_tokens": 120, "response_format": schema}),
        "schema, seeded": ("chat/completions", {
            "messages": ask, "temperature": 1, "seed": 3, "max_tokens": 120,
            "response_format": schema}),
        "regex": ("completions", {
            "prompt": "A date:", "temperature": 0, "guided_regex": r"\d{4}-\d{2}-\d{2}"}),
        "tool": ("chat/completions", {
            "messages": [{"role": "user", "content": "Weather in Paris?"}], "tools": [TOOL],
            "tool_choice": "required", "temperature": 0, "max_tokens": 80}),
        "stop": ("completions", {
            "prompt": "one, two, three,", "temperature": 0, "max_tokens": 40, "stop": ["seven"]}),
        "two": ("completions", {
            "prompt": "Once", "temperature": 0.8, "seed": 5, "n": 2, "max_tokens": 20}),
        "long prompt": ("completions", {
            "prompt": words(1500), "temperature": 0, "max_tokens": 8}),
        "penalties": ("completions", {
            "prompt": "red green blue", "temperature": 0, "max_tokens": 32,
            "frequency_penalty": 0.5, "presence_penalty": 0.5}),
    }
    return {name: (f"/v1/{path}", {"model": model, **body}) for name, (path, body) in found.items()}


class Failed(Exception):
    pass


class Server:
    def __init__(self, program, model):
        self.process = subprocess.Popen(
            [program, "serve", "--model", model, "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if not found:
            sys.exit(f"the server did not start: {line!r}")
        self.port = int(found[1])
        threading.Thread(target=lambda: collections.deque(self.process.stdout, 0), daemon=True).start()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS_MAX)

    def rss(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


def message_of(choice):
    """What a choice says, whole or gathered from a stream."""
    if "text" in choice:
        return choice["text"]
    message = choice["message"]
    calls = [(c["function"]["name"], c["function"]["arguments"]) for c in message.get("tool_calls") or []]
    return [message.get("content") or "", calls]


def whole(server, path, body):
    connection = server.connect()
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    if response.status == 429:
        return None
    if response.status != 200:
        raise Failed(f"{response.status}: {answer}")
    choices = sorted(answer["choices"], key=lambda choice: choice["index"])
    return answer["id"], [[message_of(c), c["finish_reason"]] for c in choices]


def events(response):
    for line in response:
        if line.startswith(b"data: "):
            data = line[len("data: "):].strip()
            if data == b"[DONE]":
                return
            event = json.loads(data)
            if "error" in event:
                raise Failed(f"error in a stream: {event}")
            yield event
    raise Failed("a stream without its end")


def streamed(server, path, body):
    connection = server.connect()
    body = json.dumps({**body, "stream": True})
    connection.request("POST", path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    if response.status == 429:
        response.read()
        return None
    if response.status != 200:
        raise Failed(f"{response.status}: {response.read()}")
    texts, calls, reasons, answer_id = {}, {}, {}, None
    for event in events(response):
        answer_id = event["id"]
        for choice in event["choices"]:
            index = choice["index"]
            delta = choice.get("delta", {})
            text = choice.get("text", delta.get("content")) or ""
            texts[index] = texts.get(index, "") + text
            for call in delta.get("tool_calls") or []:
                at = calls.setdefault(index, {}).setdefault(call["index"], ["", ""])
                at[0] += call["function"].get("name") or ""
                at[1] += call["function"].get("arguments") or ""
            if choice.get("finish_reason"):
                if index in reasons:
                    raise Failed(f"choice {index} ended twice")
                reasons[index] = choice["finish_reason"]
    connection.close()
    said = lambda i: texts[i] if path == "/v1/completions" else [
        texts[i], [tuple(call) for _, call in sorted(calls.get(i, {}).items())]]
    return answer_id, [[said(i), reasons[i]] for i in sorted(texts)]


def polite(server, kinds, expected, state, rng):
    """Asks, and compares."""
    while time.monotonic() < state["until"]:
        name = rng.choice(list(kinds))
        ask = rng.choice([whole, streamed])
        try:
            answer = ask(server, *kinds[name])
            if answer is None:
                state["count"]["told to come later"] += 1
                time.sleep(1)
                continue
            answer_id, found = answer
            with state["lock"]:
                if answer_id in state["ids"]:
                    raise Failed(f"answer {answer_id} came twice")
                state["ids"].add(answer_id)
            if json.dumps(found) != json.dumps(expected[name]):
                raise Failed(f"{ask.__name__}: {found}, alone {expected[name]}")
            state["count"][ask.__name__] += 1
        except (Failed, OSError, http.client.HTTPException, ValueError, KeyError) as error:
            state["failures"].append(f"{name}: {error!r}")


def rude(server, kinds, state, rng):
    """Breaks off, sends nonsense, sends too much: answered with an error that names it, or not at all."""
    wrong = [
        (b"{", 400), (b'{"model": 7}', 400), (b"\xff\xfe", 400), (b"x" * (5 << 20), 413),
        (b'{"messages": [{"role": "user", "content": "hi"}], "temprature": 1}', 400),
        (json.dumps({"messages": [{"role": "user", "content": "a " * 60_000}]}).encode(), 400),
        (json.dumps({"messages": [{"role": "user", "content": "x"}], "response_format": {
            "type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {}}}}}).encode(), 400),
    ]
    while time.monotonic() < state["until"]:
        try:
            if rng.random() < 0.5:
                path, body = kinds[rng.choice(list(kinds))]
                connection = server.connect()
                body = json.dumps({**body, "stream": True})
                connection.request("POST", path, body, {"content-type": "application/json"})
                if rng.random() < 0.7:
                    connection.getresponse().read(rng.randrange(1, 2000))
                connection.sock.close() if connection.sock else connection.close()
                state["count"]["broken off"] += 1
            else:
                body, status = rng.choice(wrong)
                connection = server.connect()
                try:
                    connection.request("POST", "/v1/chat/completions", body)
                    response = connection.getresponse()
                    if response.status not in (status, 429):
                        raise Failed(f"{body[:80]}: {response.status}, expected {status}")
                    response.read()
                except (BrokenPipeError, ConnectionResetError):
                    # Too large: the server need not read it to its end.
                    if status != 413:
                        raise
                connection.close()
                state["count"]["refused"] += 1
        except (Failed, OSError, http.client.HTTPException) as error:
            state["failures"].append(f"rude: {error!r}")
        time.sleep(0.05)


def dropping(server, state, rng):
    """Opens connections, says nothing or half a head, and drops them."""
    while time.monotonic() < state["until"]:
        held = []
        for _ in range(N_DROPPING):
            try:
                held.append(socket.create_connection(("127.0.0.1", server.port), timeout=5))
                if rng.random() < 0.5:
                    held[-1].sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-le")
            except OSError as error:
                state["failures"].append(f"connecting: {error!r}")
        state["count"]["dropped connections"] += len(held)
        for connection in held:
            connection.close()
        time.sleep(2)


def run(server, model, minutes):
    asked = kinds(model)
    expected = {name: whole(server, path, body)[1] for name, (path, body) in asked.items()}
    print(f"{len(asked)} kinds of requests, each answered alone; {minutes:g} minutes begin", flush=True)
    state = {
        "until": time.monotonic() + 60 * minutes, "count": collections.Counter(), "failures": [],
        "ids": set(), "lock": threading.Lock(),
    }
    work = [(polite, asked, expected)] * N_CLIENTS + [(rude, asked)] * N_RUDE + [(dropping,)]
    threads = [
        threading.Thread(target=f, args=(server, *more, state, random.Random(i)))
        for i, (f, *more) in enumerate(work)]
    for thread in threads:
        thread.start()
    began, samples = time.monotonic(), []
    while any(thread.is_alive() for thread in threads):
        time.sleep(1)
        samples.append((time.monotonic() - began, server.rss()))
        if len(samples) % 60 == 0:
            answers = sum(state["count"].values())
            print(f"{len(samples) // 60} min: {answers} requests, {samples[-1][1] >> 10} MiB", flush=True)
    # Once more, alone: nothing has changed.
    for name, (path, body) in asked.items():
        if whole(server, path, body)[1] != expected[name]:
            state["failures"].append(f"{name}: different afterwards")
    return state, samples


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--model", default="smollm2-135m")
    options = parser.parse_args()
    server = Server(os.path.abspath(options.program), options.model)
    try:
        state, samples = run(server, options.model, options.minutes)
    finally:
        server.process.terminate()
    status = server.process.wait(60)
    third = samples[-1][0] / 3
    warm = max(rss for at, rss in samples if at <= third)
    most = max(rss for _, rss in samples)
    for what, n in sorted(state["count"].items()):
        print(f"{n:8}  {what}")
    print(f"resident memory: {warm >> 10} MiB after a third, {most >> 10} MiB at most, x {most / warm:.3f}")
    failures = state["failures"]
    if most > warm * GROWTH_MAX and options.minutes >= 5:
        failures.append(f"resident memory grew by more than {GROWTH_MAX - 1:.0%}")
    if status != 0:
        failures.append(f"the server ended with status {status}")
    for failure in failures[:20]:
        print(f"FAILED {failure[:600]}")
    if failures:
        sys.exit(f"{len(failures)} failures")
    print("soak: ok, every answer equal to the one given alone")


if __name__ == "__main__":
    main()
