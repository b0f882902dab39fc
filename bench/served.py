#!/usr/bin/env python3
"""Freehold's server and llama.cpp's under load, in turn, on the same file, prompts and threads.

    bench/served.py [--model NAME]... [--only CELL]... [--server NAME]... [--rounds 1]

For each cell each server is started with its best flags for that many clients, asked once to warm
up, loaded and stopped. Prints a table and keeps a record. llama-server comes from `bench/peers.sh`,
models lie where `bench/side_by_side.py` says. Run it on an otherwise idle machine.

Every client sends its next request when its last one has ended. Prompts are random words from a
seed, the same for each server and different in each request. Answers are streamed, greedy and all
of the same length: one that fails or has another number of tokens is counted as failed and named.
Times between tokens are times between pieces of text: a server that guesses several tokens at once
sends them as one piece or close together. Models without a chat template are asked to complete.

In "a greedy client" one client (one key) keeps many streams going while another sends one request
after the other: what of its times the greedy one moves is told beside its times alone. "after a
restart" asks Freehold the same long prompt before and after one, with a folder for what was read.
"""

import argparse
import contextlib
import dataclasses
import http.client
import json
import pathlib
import queue
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import common
from common import Record, cells_of, models, peer_folder

WORDS = (
    "apple bridge candle desert engine forest garden harbour island jacket kitchen ladder market "
    "needle ocean pencil quarter river silver table umbrella village window yellow anchor basket "
    "castle dragon eagle feather glass hammer iron journey king lemon mirror north orange paper "
    "queen road stone tower under valley winter young arrow bread cloud drum earth field green "
    "horse ink jump key light moon"
).split()
# Far above the slowest request: a server that hangs must not stop the rest.
SECONDS_MAX = 300
# How long streams run undisturbed before a prompt is read beside them, and on after it.
SECONDS_ALONE, SECONDS_AFTER = 3, 0.5


@dataclasses.dataclass(frozen=True)
class Cell:
    """A load: clients with requests, or streams beside which one long prompt is read."""

    clients: int = 0
    requests: int = 0
    streams: int = 0
    restarts: bool = False
    greedy: int = 0  # streams of another client, which send the next request at once
    shared: int = 0  # tokens of a system prompt that all have in common
    prompt: int = 128  # tokens of each prompt, without the shared ones
    generated: int = 128

    def slots(self):
        return self.clients or self.streams + self.greedy + 1

    def context(self):
        """Positions that one sequence needs, with room for the template and rounding."""
        return (self.shared + self.prompt + self.generated) * 9 // 8 + 64


CELLS = {
    "1 client": Cell(clients=1, requests=8),
    "4 clients": Cell(clients=4, requests=16),
    "16 clients": Cell(clients=16, requests=32),
    "shared prompt": Cell(clients=4, requests=16, shared=1000, prompt=32, generated=64),
    "1 stream, long prompt": Cell(streams=1, prompt=4000, generated=3000),
    "4 streams, long prompt": Cell(streams=4, prompt=4000, generated=3000),
    "after a restart": Cell(restarts=True, prompt=2000, generated=1),
    "a greedy client": Cell(greedy=16, requests=16, prompt=128, generated=64),
    "a greedy client, all seats": Cell(greedy=48, requests=16, prompt=128, generated=64),
}
# Kept in the record only: they say what was measured, not how well.
NOT_IN_TABLE = ("prompt tokens", "of them reused", "tokens a piece")
# Name: program and its flags beside the usual ones. The first is what the others are compared with.
SERVERS = {
    "freehold": ("freehold", []),
    "freehold, no speculation": ("freehold", ["--no-speculation"]),
    "llama.cpp": ("llama.cpp", []),
    "llama.cpp, speculating": ("llama.cpp", ["--spec-default"]),
}


class Server:
    """A running server."""

    def __init__(self, args, name, model, cell, commands, more=()):
        program, flags = SERVERS[name]
        self.model = model.stem
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        if program == "freehold":
            command = [args.freehold, "serve", "--model", model, "--threads", args.threads]
            flags = flags + ["--listen", f"127.0.0.1:{self.port}", *more]
        else:
            slots = cell.slots()
            command = [peer_folder(program) / "llama-server", "-m", model, "-t", args.threads]
            command += ["-np", slots, "-c", slots * cell.context(), "-fa", "on"]
            flags = flags + ["--host", "127.0.0.1", "--port", self.port]
        shown = [str(part).replace(str(self.port), "PORT") for part in command + flags]
        common.note(commands, name, shown)
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            list(map(str, command + flags)),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def wait_until_ready(self):
        deadline = time.monotonic() + SECONDS_MAX
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), contextlib.closing(self.connect()) as connection:
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.05)
        self.log.seek(0)
        log = self.log.read().decode(errors="replace")
        raise SystemExit(f"{self.process.args} does not get ready\n{log[-2000:]}")

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS_MAX)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Answer:
    """A request's stream: what came when. Taken apart after the load, not to disturb it."""

    def __init__(self, server, text, generated, chats, until=None, key=None):
        self.generated = generated
        self.key = key
        self.sent = time.monotonic()
        self.reads = []
        self.failure = None
        try:
            self.read(server, text, chats, until)
        except (OSError, http.client.HTTPException) as error:
            self.failure = repr(error)
        self.ended = time.monotonic()

    def read(self, server, text, chats, until):
        body = {
            "model": server.model,
            "max_tokens": self.generated,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if chats:
            roles = ("system", "user")[-len(text) :]
            body["messages"] = [{"role": r, "content": c} for r, c in zip(roles, text)]
        else:
            body["prompt"] = " ".join(text)
        path = "/v1/chat/completions" if chats else "/v1/completions"
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        with contextlib.closing(server.connect()) as connection:
            connection.request("POST", path, json.dumps(body).encode(), headers)
            response = connection.getresponse()
            if response.status != 200:
                self.failure = f"status {response.status}: {response.read(500).decode()}"
                return
            while piece := response.read1():
                self.reads.append((time.monotonic(), piece))
                if until is not None and until.is_set():
                    return

    def take_apart(self):
        """Sets the times of the pieces of text and the usage."""
        self.times, self.usage, rest = [], {}, b""
        for when, piece in self.reads:
            *events, rest = (rest + piece).split(b"\n\n")
            for event in events:
                if event.startswith(b"data: {"):
                    self.take_event(when, json.loads(event[len("data: ") :]))
        return self

    def take_event(self, when, event):
        if "error" in event:
            self.failure = str(event["error"])
        self.usage = event.get("usage") or self.usage
        for choice in event.get("choices", ()):
            delta = choice.get("delta", choice)
            if delta.get("content") or delta.get("text"):
                self.times.append(when)

    def check(self):
        """The failure of an answer that had to come whole."""
        n_tokens = self.usage.get("completion_tokens")
        if self.failure is None and n_tokens != self.generated:
            self.failure = f"{n_tokens} tokens instead of {self.generated}"
        # A single token may be half a character.
        if self.failure is None and not self.times and self.generated > 1:
            self.failure = "no text"
        return self.failure

    def gaps(self):
        """Starts and ends of the times between pieces."""
        return list(zip(self.times, self.times[1:]))


class Texts:
    """Prompts of a wanted number of tokens, for one model."""

    def __init__(self, server):
        # Template and words count linearly; two lengths tell how.
        self.chats, self.per_word, self.fixed = True, 1, 0
        few, many = 40, 240
        if self.count(server, few) is None:
            self.chats = False
        n_few, n_many = self.count(server, few), self.count(server, many)
        if not n_few or not n_many:
            raise SystemExit(f"{server.process.args}: no answer to a first prompt")
        self.per_word = (n_many - n_few) / (many - few)
        self.fixed = n_few - few * self.per_word

    def count(self, server, n_words):
        text = [words(random.Random(n_words), n_words)]
        answer = Answer(server, text, 1, self.chats).take_apart()
        return answer.usage.get("prompt_tokens")

    def make(self, seed, n_tokens, shared=0):
        """One prompt; with a system prompt in front that depends on the number of tokens only."""
        rng = random.Random(seed)
        own = words(rng, round((n_tokens - self.fixed) / self.per_word))
        if not shared:
            return [own]
        own = words(rng, round(n_tokens / self.per_word))
        return [words(random.Random(shared), round((shared - self.fixed) / self.per_word)), own]


def words(rng, n):
    return " ".join(rng.choices(WORDS, k=max(n, 1)))


def load(server, texts, cell, seed):
    """All requests by the clients; figures by what they are."""
    todo = queue.SimpleQueue()
    for i in range(cell.requests):
        todo.put(texts.make(f"{seed} {i}", cell.prompt, cell.shared))
    answers = []

    def client():
        with contextlib.suppress(queue.Empty):
            while True:
                text = todo.get_nowait()
                answers.append(Answer(server, text, cell.generated, texts.chats))

    in_threads(client for _ in range(cell.clients))
    good = kept([answer.take_apart() for answer in answers], len(answers))
    seconds = max(a.ended for a in answers) - min(a.sent for a in answers)
    first = [1e3 * (a.times[0] - a.sent) for a in good]
    gaps = [1e3 * (end - start) for a in good for start, end in a.gaps()]
    n_prompt = sum(a.usage["prompt_tokens"] for a in good)
    n_pieces = sum(len(a.times) for a in good)
    cached = (a.usage.get("prompt_tokens_details") or {} for a in good)
    return {
        "tokens/s": len(good) * cell.generated / seconds,
        "first token p50, ms": percentile(first, 50),
        "first token p95, ms": percentile(first, 95),
        "between tokens p95, ms": percentile(gaps, 95),
        "failed": cell.requests - len(good),
        "prompt tokens": n_prompt / max(len(good), 1),
        "of them reused": sum(c.get("cached_tokens", 0) for c in cached) / max(len(good), 1),
        "tokens a piece": len(good) * cell.generated / max(n_pieces, 1),
    }


def disturb(server, texts, cell, seed):
    """Streams alone, then beside a long prompt that is read."""
    until, streams, prompts, starts = threading.Event(), [], [], []

    def stream(i):
        text = texts.make(f"{seed} {i}", 128)
        streams.append(Answer(server, text, cell.generated, texts.chats, until))

    def prompt():
        # Warmed up, a first token is there by then.
        time.sleep(SECONDS_ALONE + 1)
        starts.append(time.monotonic() - SECONDS_ALONE)
        text = texts.make(f"{seed} long", cell.prompt)
        prompts.append(Answer(server, text, 1, texts.chats).take_apart())
        time.sleep(SECONDS_AFTER)
        until.set()

    in_threads([prompt, *(lambda i=i: stream(i) for i in range(cell.streams))])
    read = prompts[0]
    n_failed = len(prompts) - len(kept(prompts, 1))
    for answer in streams:
        answer.take_apart()
        if answer.failure or not answer.times or answer.ended < read.ended:
            print(f"stream: {answer.failure or 'ended before the prompt'}", file=sys.stderr)
            n_failed += 1
    gaps = [gap for answer in streams for gap in answer.gaps()]
    alone = [1e3 * (b - a) for a, b in gaps if a >= starts[0] and b <= read.sent]
    beside = [1e3 * (b - a) for a, b in gaps if a < read.ended and b > read.sent]
    before, during = percentile(alone, 95), percentile(beside, 95)
    return {
        "between tokens p95 alone, ms": before,
        "between tokens p95 beside the prompt, ms": during,
        "times as long": during / before,
        "longest, ms": max(beside, default=float("nan")),
        "the prompt's first token, ms": 1e3 * (read.ended - read.sent),
        "failed": n_failed,
    }


def crowd(server, texts, cell, seed):
    """One client's requests in turn, alone and then beside a client that wants all there is."""
    until, alone, beside, others = threading.Event(), [], [], []

    def quiet(answers, part):
        for i in range(cell.requests):
            text = texts.make(f"{seed} {part} {i}", cell.prompt)
            answers.append(Answer(server, text, cell.generated, texts.chats, key="quiet"))

    def greedy(i):
        for turn in range(10**6):
            if until.is_set():
                return
            text = texts.make(f"{seed} greedy {i} {turn}", cell.prompt)
            # Longer answers than the quiet one's, so that seats do not become free by themselves.
            answer = Answer(server, text, 4 * cell.generated, texts.chats, until, key="greedy")
            others.append(answer)

    def both():
        time.sleep(SECONDS_ALONE)
        quiet(beside, "beside")
        until.set()

    quiet(alone, "alone")
    began = time.monotonic()
    in_threads([both, *(lambda i=i: greedy(i) for i in range(cell.greedy))])
    seconds = time.monotonic() - began
    n_pieces = sum(len(answer.take_apart().times) for answer in others)
    figures, good = {"failed": 0}, {}
    for what, answers in (("alone", alone), ("beside", beside)):
        good[what] = kept([answer.take_apart() for answer in answers], cell.requests)
        figures["failed"] += cell.requests - len(good[what])
    measures = {
        "first token p95": lambda a: [a.times[0] - a.sent],
        "between tokens p95": lambda a: [end - start for start, end in a.gaps()],
        "whole answer p95": lambda a: [a.times[-1] - a.sent],
    }
    for what, times in measures.items():
        each = {
            part: percentile([1e3 * time for a in answers for time in times(a)], 95)
            for part, answers in good.items()
        }
        figures[f"{what} alone, ms"] = each["alone"]
        figures[f"{what} beside, ms"] = each["beside"]
        figures[f"{what}, times as long"] = each["beside"] / each["alone"]
    figures["pieces/s of the greedy one"] = n_pieces / seconds
    return figures


def in_threads(functions):
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def kept(answers, n_wanted):
    """The answers that came whole; says what was wrong with the others."""
    failures = [failure for answer in answers if (failure := answer.check())]
    for failure in sorted(set(failures)):
        print(f"{failures.count(failure)} of {n_wanted} failed: {failure}", file=sys.stderr)
    return [answer for answer in answers if answer.failure is None]


def percentile(values, percent):
    """The least value that at least so many percent do not exceed."""
    values = sorted(values)
    return values[-(-len(values) * percent // 100) - 1] if values else float("nan")


class Bench:
    """The servers that are measured, what each was started with, and the prompts by model."""

    def __init__(self, args):
        self.args = args
        self.servers = args.server or list(SERVERS)
        self.modes = {SERVERS[name][0]: () for name in self.servers}
        self.commands = {}
        self.texts = {}

    def measure(self, name, model, cell, seed):
        if cell.restarts:
            return self.restart(name, model, cell, seed)
        server = Server(self.args, name, model, cell, self.commands)
        try:
            server.wait_until_ready()
            if model not in self.texts:
                self.texts[model] = Texts(server)
            texts = self.texts[model]
            # As many at once as later, with prompts that nothing later shares.
            warm = dataclasses.replace(
                cell, clients=cell.slots(), requests=cell.slots(), shared=0, prompt=64, generated=16
            )
            load(server, texts, warm, "warm-up")
            how = crowd if cell.greedy else disturb if cell.streams else load
            return how(server, texts, cell, seed)
        finally:
            server.stop()


    def restart(self, name, model, cell, seed):
        """First tokens of one prompt: computed, from memory, and from disk after a restart."""
        if SERVERS[name][0] != "freehold":
            raise SystemExit(f"{name}: keeps nothing over restarts, expected a freehold")
        figures, counts = {}, {}
        with tempfile.TemporaryDirectory() as folder:
            for whats in (("computed", "in memory"), ("after a restart",)):
                more = ["--cache-dir", folder]
                server = Server(self.args, name, model, cell, self.commands, more)
                try:
                    server.wait_until_ready()
                    texts = Texts(server)
                    for what in whats:
                        text = texts.make(seed, cell.prompt)
                        answer = Answer(server, text, cell.generated, texts.chats).take_apart()
                        counts["failed"] = counts.get("failed", 0) + (answer.check() is not None)
                        figures[f"first token {what}, ms"] = 1e3 * (answer.ended - answer.sent)
                        cached = answer.usage["prompt_tokens_details"]["cached_tokens"]
                        counts[f"of them reused, {what}"] = cached
                        counts["prompt tokens"] = answer.usage["prompt_tokens"]
                finally:
                    server.stop()
            kept_bytes = sum(file.stat().st_size for file in pathlib.Path(folder).iterdir())
            counts["files, MB"] = kept_bytes / 1e6
        return figures | counts


def table(model, cells, bench, figures):
    """A row for each measure of each cell."""
    first, *others = bench.servers
    for cell in cells:
        for what in figures[cell, first][0]:
            if what in NOT_IN_TABLE:
                continue
            median = {
                name: statistics.median(run[what] for run in figures[cell, name])
                for name in bench.servers
            }
            row = [model.stem, cell, what, f"{median[first]:.4g}"]
            for name in others:
                ratio = f"{median[first] / median[name]:.2f}" if median[name] else "–"
                row.append(f"{median[name]:.4g} | {ratio}")
            yield row


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--server", action="append", default=[], choices=SERVERS)
    parser.add_argument("--rounds", type=int, default=1)
    common.add_arguments(parser)
    args = common.parse(parser)
    bench = Bench(args)
    record = Record(args, "served", bench)
    rows = [["model", "load", "", bench.servers[0], *(f"{s} | ratio" for s in bench.servers[1:])]]
    cells = cells_of(args, CELLS)
    for model in models(args):
        figures = {}
        for i in range(args.rounds):
            for cell in cells:
                for name in bench.servers:
                    run = bench.measure(name, model, CELLS[cell], f"{model.stem} {cell} {i}")
                    figures.setdefault((cell, name), []).append(run)
                    shown = ", ".join(f"{what} {value:.4g}" for what, value in run.items())
                    line = f"{model.stem}, {cell}, {name}: {shown}"
                    record.add(line)
                    print(line, file=sys.stderr, flush=True)
        rows += table(model, cells, bench, figures)
    record.table(rows)


if __name__ == "__main__":
    main()
