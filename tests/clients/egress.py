#!/usr/bin/env python3
"""A day of use of the real server with every packet of its network recorded: none goes anywhere but to it.

    tests/clients/egress.py PATH/TO/freehold [--model smollm2-135m] [--embedder minilm-l6-v2]

The server runs in a network of its own that has a way out, at whose end everything is recorded, and
is asked on every route that it publishes: whole and streamed, with tools, embeddings, files and
batches, a reload, a stream resumed. Once it is locked, which is the default, and once open: what
does not call home does not do so either where it could. Then it has an upstream, a second server,
which gets packets for each request that has a departure and for nothing else. Needs no package of Python's, but the programs
`ip` (iproute2) and `unshare` (util-linux), and a system that lets its user make networks; else it says
so, and nothing is tested. Where IPv6 is switched off, IPv4 is tested alone.
"""

import argparse
import http.client
import ipaddress
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from serving import equal

# Where packets would go that leave: documentation's own addresses (RFC 5737, RFC 3849).
OUTSIDE_V4, OUTSIDE_V6 = "203.0.113.7", "2001:db8::7"
NETWORK = """
ip link set lo up
ip link add out type veth peer name wire
ip addr add 10.77.0.2/24 dev out
ip link set out up
ip link set wire up
ip neigh add 10.77.0.1 lladdr 02:00:00:00:00:01 dev out nud permanent
ip route add default via 10.77.0.1 dev out
"""
NETWORK_V6 = """
ip addr add fd77::2/64 dev out nodad
ip neigh add fd77::1 lladdr 02:00:00:00:00:01 dev out nud permanent
ip -6 route add default via fd77::1 dev out
"""
# Kernels ask for routers and neighbours and join groups by themselves (RFC 4861, RFC 3810).
KERNELS_OWN = {130, 131, 132, 133, 134, 135, 136, 143}
ETH_P_ALL, TCP, UDP, ICMPV6 = 3, 6, 17, 58
START_SECONDS_MAX = 120
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"], "additionalProperties": False}}}


UPSTREAM = """
[upstream.second]
kind = "openai"
url = "http://127.0.0.1:{port}"
[alias]
"elsewhere" = "second/{model}"
[[rule]]
name = "to the second"
label = "public"
alias = "elsewhere"
outcome = "there"
upstream = "second"
"""


class Recorder:
    """Every packet of every device, as words, but for those between clients and the server, and
    those to and from its upstream, which are counted."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.found, self.server_port, self.n_served = [], None, 0
        self.upstream_port, self.n_upstream = None, 0
        threading.Thread(target=self.record, daemon=True).start()

    def record(self):
        while True:
            data, (device, protocol, *_) = self.socket.recvfrom(65536)
            said = self.describe(data[14:], device, protocol)
            if said:
                self.found.append(said)

    def describe(self, packet, device, protocol):
        if protocol == 0x0800:
            head, kind = (packet[0] & 15) * 4, packet[9]
            source, to = packet[12:16], packet[16:20]
        elif protocol == 0x86DD:
            head, kind = 40, packet[6]
            source, to = packet[8:24], packet[24:40]
            # Reports of groups have a header of options before them.
            inner = packet[40] if kind == 0 else kind
            at = head + (8 if kind == 0 else 0)
            if inner == ICMPV6 and packet[at] in KERNELS_OWN:
                return None
        else:
            return f"{device}: protocol {protocol:#x}"
        ports = struct.unpack("!HH", packet[head:head + 4]) if kind in (TCP, UDP) else ()
        to = ipaddress.ip_address(to)
        if device == "lo" and to.is_loopback and kind == TCP and self.server_port in ports:
            self.n_served += 1
            return None
        if device == "lo" and to.is_loopback and kind == TCP and self.upstream_port in ports:
            self.n_upstream += 1
            return None
        return f"{device}: {ipaddress.ip_address(source)} to {to}, protocol {kind}, ports {ports}"

    def settle(self):
        """Gives what was recorded, once nothing more comes."""
        n = -1
        while n != (n := len(self.found) + self.n_served + self.n_upstream):
            time.sleep(0.2)
        found, self.found = self.found, []
        return found


def has_v6():
    """Whether a network of this process can have addresses of IPv6."""
    switch = pathlib.Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
    return switch.exists() and switch.read_text().strip() == "0"


def check_recorder(recorder):
    """The way out is one, and what takes it is seen."""
    v6 = [(socket.AF_INET6, OUTSIDE_V6)] if has_v6() else []
    for family, to in [(socket.AF_INET, OUTSIDE_V4), *v6]:
        socket.socket(family, socket.SOCK_DGRAM).sendto(b"out", (to, 53))
        found = recorder.settle()
        assert any(to in said and "53" in said for said in found), f"{to} was not seen: {found}"


class Server:
    def __init__(self, options, folder, *flags, more=""):
        self.settings = pathlib.Path(folder, "freehold.toml")
        self.settings.write_text(f'models = ["{options.model}", "{options.embedder}"]\n{more}')
        command = [
            options.binary, "serve", "--config", self.settings, "--listen", "127.0.0.1:0",
            "--batches", f"{folder}/batches", "--cache-dir", f"{folder}/cache",
            "--keep-responses", "1h", "--resume-streams", "60s", "--keep-contents", "1",
            # Keys are made, which must lock out neither this day nor who has the usual ledger later.
            "--ledger", f"{folder}/ledger.sqlite", "--local-access", "open", *flags,
        ]
        self.stderr = open(f"{folder}/stderr", "w+")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.stderr, text=True)
        timer = threading.Timer(START_SECONDS_MAX, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        assert line.startswith("listening on http://127.0.0.1:"), self.said()
        self.port = int(line.rsplit(":", 1)[1])
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def said(self):
        self.stderr.seek(0)
        return self.stderr.read()

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        if isinstance(body, dict):
            body, headers = json.dumps(body), {"Content-Type": "application/json", **(headers or {})}
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        equal(self.process.wait(60), 0, self.said())

    def answer(self, method, path, body=None, headers=None):
        status, text = self.ask(method, path, body, headers)
        equal(status, 200, f"{method} {path}: {text}")
        return text


def a_day(server, chat, vectors):
    """Asks on every route; gives the routes that were asked."""
    asked = set()

    def ask(method, route, body=None, expected=200, headers=None, **names):
        asked.add((method.lower(), route))
        status, text = server.ask(method, route.format(**names), body, headers)
        equal(status, expected, f"{method} {route}: {text}")
        try:
            return json.loads(text)
        except ValueError:  # a stream, or no JSON
            return text

    say = [{"role": "user", "content": "Say hello."}]
    few = {"model": chat, "max_tokens": 8}
    for more in [{}, {"stream": True}, {"tools": [TOOL], "tool_choice": "required", "max_tokens": 60}]:
        ask("POST", "/v1/chat/completions", {**few, "messages": say, **more})
        ask("POST", "/v1/messages", {**few, "messages": say, **(more if "stream" in more else {})})
    for stream in [False, True]:
        ask("POST", "/v1/completions", {**few, "prompt": "Once", "stream": stream})
        for route, what in [("/api/chat", {"messages": say}), ("/api/generate", {"prompt": "Hi"})]:
            options = {"num_predict": 8}
            ask("POST", route, {"model": chat, "stream": stream, "options": options, **what})
    response = {"model": chat, "input": "Hi", "max_output_tokens": 8}
    kept = ask("POST", "/v1/responses", response)
    ask("POST", "/v1/responses", {**response, "previous_response_id": kept["id"], "stream": True})
    ask("POST", "/v1/responses/input_tokens", {"model": chat, "input": "Hi"})
    ask("GET", "/v1/responses/{id}", id=kept["id"])
    ask("GET", "/v1/responses/{id}/input_items", id=kept["id"])
    ask("DELETE", "/v1/responses/{id}", id=kept["id"])
    ask("POST", "/v1/responses/{id}/cancel", expected=404, id=kept["id"])
    ask("GET", "/v1/receipts/{id}", expected=404, id="none")
    resume(server, ask, chat, say)
    ask("POST", "/v1/messages/count_tokens", {"model": chat, "messages": say})
    ask("POST", "/v1/embeddings", {"model": vectors, "input": ["a", "b"]})
    for route in ["/v1/rerank", "/rerank"]:
        ask("POST", route, {"model": vectors, "query": "key", "documents": ["a lock", "a cat"]})
    ask("POST", "/api/embed", {"model": vectors, "input": "a"})
    ask("POST", "/api/embeddings", {"model": vectors, "prompt": "a"})
    batches(ask, chat, say)
    ask("POST", "/api/show", {"model": chat})
    ask("POST", "/tokenize", {"model": chat, "content": "Hi"})
    ask("POST", "/detokenize", {"model": chat, "tokens": [17, 18]})
    ask("POST", "/apply-template", {"model": chat, "messages": say})
    ask("GET", "/v1/models/{id}", id=chat)
    for route in ["/", "/health", "/ready", "/metrics", "/version", "/openapi.json", "/v1/models",
                  "/api/tags", "/api/ps", "/api/version"]:
        ask("GET", route)
    # What clients may not do, with names that lead elsewhere.
    elsewhere = {"model": "hf.co/nobody/nothing"}
    ask("POST", "/api/pull", elsewhere, expected=403)
    ask("POST", "/api/create", {"model": "mine", "from": chat}, expected=403)
    ask("POST", "/api/copy", {"source": chat, "destination": "mine"}, expected=403)
    ask("DELETE", "/api/delete", {"model": chat}, expected=403)
    ask("POST", "/api/push", elsewhere, expected=501)
    for method in ["POST", "HEAD"]:
        ask(method, "/api/blobs/{digest}", expected=403 if method == "POST" else 404, digest="sha256:00")
    # URLs in a conversation are text, or are refused; nothing fetches them.
    image = {"type": "image_url", "image_url": {"url": f"http://{OUTSIDE_V4}/a.png"}}
    ask("POST", "/v1/chat/completions", {
        **few, "messages": [{"role": "user", "content": [image]}]}, expected=400)
    administration(ask, chat, say)
    server.settings.write_text(server.settings.read_text() + 'allow-host = ["example.org"]\n')
    reloaded = ask("POST", "/admin/reload")
    equal(reloaded["changed"], ["allow-host"])
    server.process.send_signal(signal.SIGHUP)
    return asked


def resume(server, ask, chat, say):
    """A stream is read to its end, and its events once more by its id."""
    body = {"model": chat, "messages": say, "max_tokens": 8, "stream": True}
    text = server.answer("POST", "/v1/chat/completions", body)
    first = text.split("\n")[0].removeprefix("id: ")
    rest = ask("GET", "/v1/streams/{id}", headers={"Last-Event-ID": first},
               id=first.rsplit(":", 1)[0])
    assert text.endswith(rest), (text, rest)


def administration(ask, chat, say):
    """The owner looks at everything, makes what can be made and takes it away again."""
    body = json.dumps({"model": chat, "messages": say, "max_tokens": 8})
    head = {"Content-Type": "application/json"}
    answer = ask("POST", "/v1/chat/completions", body, headers=head)
    verified = ask("POST", "/v1/receipts/{id}/verify", {"request": body}, id=answer["id"])
    equal(verified["equal"], True)
    ask("POST", "/admin/projects", {"name": "house"})
    ask("POST", "/admin/keys", {"name": "day", "project": "house"})
    ask("POST", "/admin/keys/{key}/rotate", {}, key="day")
    ask("POST", "/admin/limits", {"subject": "all", "what": "tokens", "amount": 10**9, "per": "day"})
    for route in ["status", "models", "config", "running", "departures", "usage", "usage/rows",
                  "keys", "projects", "limits", "persons", "policy", "lock", "gate/reports",
                  "adoptable"]:
        ask("GET", f"/admin/{route}")
    ask("POST", "/admin/policy/explain", {"request": {"key_label": "public"}, "text": "a fox"})
    ask("POST", "/admin/lock/{model}", {}, expected=403, model=chat)
    ask("POST", "/admin/lock/{model}/rollback", {}, expected=403, model=chat)
    ask("GET", "/admin/gate/reports/{id}", expected=404, id="none")
    ask("POST", "/admin/adopt", {"owner": "Ollama", "model": "library/none"}, expected=403)
    ask("POST", "/admin/outdated", expected=403)
    ask("GET", "/web/{id}", id="app.js")
    for route in ["/session", "/admin/sessions"]:
        ask("GET", route)
    for method, route in [("GET", "/login"), ("GET", "/login/callback"), ("POST", "/logout")]:
        ask(method, route, expected=404)  # nobody signs in here
    ask("DELETE", "/admin/sessions/{id}", expected=404, id="none")
    ask("POST", "/admin/ledger/verify")
    ask("DELETE", "/admin/running/{id}", expected=404, id="none")
    ask("DELETE", "/admin/limits/{id}", id="all%20tokens/day")
    ask("DELETE", "/admin/keys/{key}", key="day")
    ask("DELETE", "/admin/projects/{project}", project="house")
    ask("GET", "/admin/persons/{person}", person="owner")
    ask("DELETE", "/admin/persons/{person}", person="owner")


def batches(ask, chat, say):
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions",
            "body": {"model": chat, "messages": say, "max_tokens": 8}}
    mark = "----of-this-form"
    head = {"Content-Type": f"multipart/form-data; boundary={mark}"}
    part = 'Content-Disposition: form-data; name="{}"'
    form = (f"--{mark}\r\n{part.format('purpose')}\r\n\r\nbatch\r\n"
            f"--{mark}\r\n{part.format('file')}; filename=\"a.jsonl\"\r\n\r\n"
            f"{json.dumps(line)}\n\r\n--{mark}--\r\n")
    file = ask("POST", "/v1/files", form, headers=head)["id"]
    order = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = ask("POST", "/v1/batches", order)["id"]
    until = time.monotonic() + 60
    while (now := ask("GET", "/v1/batches/{id}", id=batch))["status"] != "completed":
        assert time.monotonic() < until, now
        time.sleep(0.1)
    for route in ["/v1/batches", "/v1/files"]:
        ask("GET", route)
    ask("GET", "/v1/files/{id}", id=file)
    ask("GET", "/v1/files/{id}/content", id=now["output_file_id"])
    ask("POST", "/v1/batches/{id}/cancel", expected=409, id=batch)
    ask("DELETE", "/v1/files/{id}", id=file)


def n_filters(status):
    """Filters of system calls that a thread has; a container may have set some."""
    return int(re.search(r"Seccomp_filters:\s*(\d+)", pathlib.Path(status).read_text())[1])


def check_day(recorder, options, flags, mode):
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options, folder, *flags)
        recorder.server_port = server.port
        name = lambda model: pathlib.Path(model).stem if model.endswith(".gguf") else model
        try:
            asked = a_day(server, name(options.model), name(options.embedder))
            equal(json.loads(server.answer("GET", "/version"))["egress"], mode, server.said())
            paths = json.loads(server.answer("GET", "/openapi.json"))["paths"]
            published = {(method, path) for path, item in paths.items() for method in item}
            equal(published - asked, set(), "routes that were not asked")
            threads = pathlib.Path(f"/proc/{server.process.pid}/task").glob("*/status")
            more = {n_filters(status) - n_filters("/proc/self/status") for status in threads}
            equal(more, {1 if mode == "locked" else 0}, "filters of the threads")
        finally:
            server.stop()
        equal(recorder.settle(), [], "packets that did not go to the server")
        assert recorder.n_served > 100, recorder.n_served


def check_upstream(recorder, options):
    """The broker opens one way, and only a request that the rules let out takes it."""
    name = pathlib.Path(options.model).stem if options.model.endswith(".gguf") else options.model
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        second = Server(options, there)
        settings = UPSTREAM.format(port=second.port, model=name)
        server = Server(options, here, more=settings)
        recorder.server_port, recorder.upstream_port = server.port, second.port
        try:
            equal(json.loads(server.answer("GET", "/version"))["egress"], "locked", server.said())
            made = [{"name": "open", "label": "public"}, {"name": "closed"}]
            secrets = [json.loads(server.ask("POST", "/admin/keys", key)[1])["secret"] for key in made]
            public, private = [{"Authorization": f"Bearer {secret}"} for secret in secrets]
            body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}
            for model, key, expected in [
                (name, public, 200), (name, private, 200), ("elsewhere", private, 403),
            ]:
                status, text = server.ask(
                    "POST", "/v1/chat/completions", {**body, "model": model}, key)
                equal(status, expected, text)
            equal(recorder.settle(), [], "packets of requests that stay here")
            equal(recorder.n_upstream, 0, "packets to the upstream without a departure")
            for stream in [False, True]:
                more = {"model": "elsewhere", "stream": stream}
                server.answer("POST", "/v1/chat/completions", {**body, **more}, public)
            equal(recorder.settle(), [], "packets that went to neither server")
            assert recorder.n_upstream > 10, recorder.n_upstream
            left = json.loads(server.answer("GET", "/admin/departures"))["departures"]
            equal([one["upstream"] for one in left], ["second"] * 2)
        finally:
            server.stop()
            second.stop()
        equal(recorder.settle(), [], "packets that went to neither server")


def check_commands(recorder, options):
    """What answers without a server sends nothing either."""
    recorder.server_port = recorder.upstream_port = None
    for command in [
        ["run", "--model", options.model, "--max-tokens", "4", "Hi"],
        ["embed", "--model", options.embedder, "a text"],
        ["list"],
        ["doctor"],
    ]:
        done = subprocess.run(
            [options.binary, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        equal(done.returncode, 0, done.stderr)
        equal(recorder.settle(), [], f"packets of {command[0]}")


def inside(options):
    for line in (NETWORK + (NETWORK_V6 if has_v6() else "")).split("\n"):
        subprocess.run(line.split(), check=True) if line else None
    recorder = Recorder()
    recorder.settle()
    check_recorder(recorder)
    check_day(recorder, options, [], "locked")
    check_day(recorder, options, ["--egress", "open"], "open")
    check_upstream(recorder, options)
    check_commands(recorder, options)
    print(f"egress: 5 passed, 0 failed ({recorder.n_served} packets to and from the server)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--embedder", default="minilm-l6-v2")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return inside(options)
    for program in ["ip", "unshare"]:
        if not shutil.which(program):
            print(f"egress: skipped, no {program} here")
            return 0
    # While there is a network.
    for model in [options.model, options.embedder]:
        if not model.endswith(".gguf"):
            subprocess.run([options.binary, "pull", model, "--quiet"], check=True)
    own = ["unshare", "--map-root-user", "--net"]
    made = subprocess.run([*own, "true"], capture_output=True, text=True)
    if made.returncode != 0:
        print(f"egress: skipped, no network of its own can be made here: {made.stderr.strip()}")
        return 0
    return subprocess.run([*own, sys.executable, *sys.argv, "--inside"]).returncode


if __name__ == "__main__":
    os.environ.pop("FREEHOLD_OFFLINE", None)
    sys.exit(main())
