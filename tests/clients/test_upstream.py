"""Real servers as upstreams: llama-server and a second `freehold`, through the broker of a locked one.

`llama-server` is the one of LLAMA_SERVER, of the PATH, or what bench/peers.sh has built; where
there is none, the second `freehold` is the only upstream, and one line says so: the package of
llama-server has to be compiled.
"""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import serving
from serving import equal

WAIT_SECONDS_MAX = 120
QUESTION = {"messages": [{"role": "user", "content": "Count from one to fifty."}], "temperature": 0}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
UPSTREAM = """
[upstream.{name}]
kind = "openai"
url = [{urls}]
[[rule]]
name = "to {name}"
label = "public"
alias = "to-{name}"
outcome = "there"
upstream = "{name}"
"""
ALIASES = """
[alias]
"to-llama" = "llama/small"
"to-second" = "second/one"
"""


def llama_server():
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    built = os.environ.get("FREEHOLD_BENCH") or pathlib.Path(cache) / "freehold-bench"
    own = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
    path = pathlib.Path(own or pathlib.Path(built) / "bin/llama.cpp/llama-server")
    return path if path.is_file() else None


def model_file(model):
    """The file of the model, for the servers that have no store."""
    if model.endswith(".gguf"):
        return model
    home = pathlib.Path(os.environ["FREEHOLD_HOME"])
    files = [path for path in home.glob("models/**/*") if path.is_file() and model in str(path)]
    return str(max(files, key=lambda path: path.stat().st_size))


def until(is_so, what):
    begin = time.monotonic()
    while not is_so():
        assert time.monotonic() - begin < WAIT_SECONDS_MAX, f"waited in vain for {what}"
        time.sleep(0.05)


class Llama:
    """A running llama-server."""

    def __init__(self, binary, model):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [binary, "--model", model, "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--ctx-size", "2048", "--parallel", "1", "--threads", "2", "--jinja", "--slots"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        until(lambda: self.get("/health")[0] == 200, "llama-server")

    def get(self, path):
        assert self.process.poll() is None, "llama-server has ended"
        try:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port)) as asked:
                asked.request("GET", path)
                answer = asked.getresponse()
                return answer.status, answer.read()
        except OSError:
            return 0, b""

    def is_at_work(self):
        return any(slot["is_processing"] for slot in json.loads(self.get("/slots")[1]))


class World(contextlib.ExitStack):
    """The server that is asked, and those that it asks."""

    def __init__(self, binary, model, llama):
        super().__init__()
        self.binary = binary
        file = model_file(model)
        self.llamas, self.n_left = [], 0
        for _ in range(2 if llama else 0):
            one = Llama(llama, file)
            self.callback(one.process.kill)
            self.llamas.append(one)
        self.seconds = [self.serve({}, file) for _ in range(2)]
        self.upstreams = {"second": [second.url for second in self.seconds]}
        if llama:
            self.upstreams["llama"] = [f"http://127.0.0.1:{one.port}" for one in self.llamas]
        settings = "".join(
            UPSTREAM.format(name=name, urls=", ".join(f'"{url}"' for url in urls))
            for name, urls in self.upstreams.items()
        )
        aliases = "\n".join(
            line for line in ALIASES.splitlines() if llama or "llama" not in line
        )
        self.server = self.serve({"freehold.toml": settings + aliases}, file)

    def serve(self, files, model):
        """A server in a home of its own."""
        home = self.enter_context(tempfile.TemporaryDirectory())
        for name, text in files.items():
            pathlib.Path(home, name).write_text(text)
        os.environ["FREEHOLD_HOME"] = home
        self.run("add", model, "--name", "one")
        if files:
            self.key = self.run("key", "create", "open", "--label", "public").strip()
        server = serving.Server(self.binary, "one")
        self.callback(server.stop)
        return server

    def run(self, *arguments):
        command, pipe = [self.binary, *arguments], subprocess.PIPE
        done = subprocess.run(command, text=True, stdout=pipe, stderr=pipe)
        equal(done.returncode, 0, done.stderr)
        return done.stdout

    def ask(self, model, **more):
        """Status, headers and text of an answer to the question."""
        body = json.dumps({"model": model, **QUESTION, **more})
        headers = {"Authorization": f"Bearer {self.key}"}
        self.n_left += 1
        return self.server.request("POST", "/v1/chat/completions", body, headers)

    def departures(self):
        return json.loads(self.run("departures", "--json"))

    def diagnostics(self):
        return self.server.diagnostics()

    def stop(self):
        self.close()


def check_whole(world):
    for upstream in world.upstreams:
        status, headers, text = world.ask(f"to-{upstream}", max_tokens=12)
        equal(status, 200, text)
        equal(headers["x-freehold-route"], "there")
        equal(headers["x-freehold-upstream"], upstream)
        answer = json.loads(text)
        assert answer["choices"][0]["message"]["content"], text
        assert 0 < answer["usage"]["completion_tokens"] <= 12, text


def check_streamed(world):
    for upstream in world.upstreams:
        status, _, text = world.ask(f"to-{upstream}", max_tokens=12, stream=True)
        equal(status, 200, text)
        events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
        equal(events[-1], "[DONE]")
        choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
        assert "".join(choice["delta"].get("content") or "" for choice in choices), text
        equal([choice["finish_reason"] for choice in choices][-1], "length")


def check_tools(world):
    """A call that must come does; llama-server, of a template without tools, may answer with text."""
    for upstream in world.upstreams:
        more = {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 60}
        status, _, text = world.ask(f"to-{upstream}", **more)
        equal(status, 200, text)
        message = json.loads(text)["choices"][0]["message"]
        calls = message.get("tool_calls") or []
        assert calls or (upstream == "llama" and message["content"]), text
        for call in calls:
            equal(call["function"]["name"], "get_weather")
            assert isinstance(json.loads(call["function"]["arguments"])["city"], str), text


def check_embeddings_stay_here(world):
    """Only what is generated is answered elsewhere, and a name of there is none of here."""
    headers = {"Authorization": f"Bearer {world.key}"}
    body = json.dumps({"model": "to-second", "input": "a"})
    status, _, text = world.server.request("POST", "/v1/embeddings", body, headers)
    assert 400 <= status < 500, (status, text)
    assert "to-second" in text or "second/one" in text, text


def killed_in_the_middle(world, upstream, kill):
    """The client is told that its answer broke off, and the next one comes from the other server."""
    connection = http.client.HTTPConnection(world.server.url.removeprefix("http://"), timeout=120)
    with contextlib.closing(connection):
        model = f"to-{upstream}"
        world.n_left += 1
        body = json.dumps({"model": model, **QUESTION, "max_tokens": 1500, "stream": True})
        connection.request(
            "POST",
            "/v1/chat/completions",
            body,
            {"Content-Type": "application/json", "Authorization": f"Bearer {world.key}"},
        )
        answer = connection.getresponse()
        equal(answer.status, 200)
        assert answer.readline().startswith((b"data: ", b"id: ", b": ")), "no event"
        kill()
        rest = answer.read().decode()
    assert '"error"' in rest and "broke off" in rest, rest[-500:]
    assert '"finish_reason":"' not in rest, rest[-500:]
    for _ in range(3):
        status, _, text = world.ask(model, max_tokens=5)
        equal(status, 200, text)


def check_llama_killed_in_the_middle(world):
    def kill():
        [at_work] = [llama for llama in world.llamas if llama.is_at_work()]
        at_work.process.send_signal(signal.SIGKILL)

    if not world.llamas:
        return serving.SKIPPED
    killed_in_the_middle(world, "llama", kill)


def check_second_killed_in_the_middle(world):
    def kill():
        is_at_work = lambda one: json.loads(one.request("GET", "/admin/running")[2])["running"]
        [at_work] = [second for second in world.seconds if is_at_work(second)]
        at_work.process.send_signal(signal.SIGKILL)

    killed_in_the_middle(world, "second", kill)


def check_departures(world):
    """Each that left is in the ledger, with its end; the one that broke off says so."""
    until(lambda: all(one["end"] for one in world.departures()), "the ends of all departures")
    listed = world.departures()
    equal(len(listed), world.n_left)
    equal({one["upstream"] for one in listed}, set(world.upstreams))
    ends = [one["end"]["outcome"] for one in listed]
    equal(ends.count("done"), world.n_left - len(world.upstreams))
    world.run("ledger", "verify")


def start(binary, model):
    llama = llama_server()
    if llama is None:
        print("upstream: without llama-server (LLAMA_SERVER, or bench/peers.sh builds one)")
    return World(str(pathlib.Path(binary).resolve()), model, llama)


if __name__ == "__main__":
    sys.exit(serving.run("upstream", __doc__, start, globals()))
