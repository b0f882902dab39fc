"""What the checks of the real clients share: a running `freehold serve`, and running the checks."""

import argparse
import contextlib
import http.client
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

START_SECONDS_MAX = 300  # may fetch the model
STOP_SECONDS_MAX = 60
SKIPPED = "skipped"  # what a check gives that cannot be made here


class Server:
    """A running `freehold serve`; its diagnostics go to a file that is shown when a check fails."""

    def __init__(self, binary, model, *more_models):
        self.binary, self.source = binary, model
        self.model = model if not model.endswith(".gguf") else pathlib.Path(model).stem
        self.stderr = tempfile.TemporaryFile(mode="w+")
        command = [binary, "serve", model, *more_models, "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.stderr, text=True
        )
        timer = threading.Timer(START_SECONDS_MAX, self.process.kill)
        timer.start()
        self.url = None
        for line in self.process.stdout:
            found = re.search(r"http://[0-9.]+:\d+", line)
            if found:
                self.url = found.group()
                break
        timer.cancel()
        if self.url is None:
            raise SystemExit(f"the server printed no address:\n{self.diagnostics()}")
        # Keep reading, so that a full pipe cannot stop the server.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def request(self, method, path, body=None, headers=None):
        """Status, headers and text of a plain HTTP request, past the client's own reading."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=120)
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json", **(headers or {})}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()

    def diagnostics(self):
        self.stderr.seek(0)
        return self.stderr.read()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return None


def cut_stream(url, body, headers, n_events):
    """A raw stream of which so many events were read before its connection was cut, and the rest.

    Gives the events, and what the same request with `Last-Event-ID` got behind them.
    """
    import httpx  # of the clients' own; not everybody here has one

    with httpx.Client(timeout=120, headers=headers) as client:
        text = ""
        with client.stream("POST", url, json=body) as response:
            equal(response.status_code, 200)
            equal(response.headers["x-freehold-resumable"], "60")
            for piece in response.iter_text():
                text += piece
                if text.count("\n\n") >= n_events:
                    break
        events = text.split("\n\n")[:n_events]
        last = events[-1].split("\n")[0].removeprefix("id: ")
        response = client.post(url, json=body, headers={"Last-Event-ID": last})
        equal(response.status_code, 200, response.text)
    return events, response.text


def equal(got, expected, what=""):
    assert got == expected, f"{what}: got {got!r}, expected {expected!r}"


def run(name, description, start, checks):
    """Runs the checks (a mapping of names to functions of a server) in order; the exit status.

    `start` makes the server of a binary and the model's name.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("binary")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--only", default="", help="run only checks whose name contains this")
    arguments = parser.parse_args()
    server = start(arguments.binary, arguments.model)
    checks = [check for key, check in checks.items() if key.startswith("check_")]
    checks = [check for check in checks if arguments.only in check.__name__]
    n_failed = n_skipped = 0
    try:
        for check in checks:
            begin = time.monotonic()
            try:
                outcome = SKIPPED if check(server) == SKIPPED else "ok"
                n_skipped += outcome == SKIPPED
            except Exception:
                traceback.print_exc(file=sys.stdout)
                outcome = "FAILED"
                n_failed += 1
            print(f"{check.__name__:28} {outcome:7} {time.monotonic() - begin:6.1f} s", flush=True)
    finally:
        server.stop()
    if n_failed:
        print("the server said:", *server.diagnostics().splitlines()[-40:], sep="\n")
    n_passed = len(checks) - n_failed - n_skipped
    skipped = f", {n_skipped} skipped" if n_skipped else ""
    print(f"{name}: {n_passed} passed, {n_failed} failed{skipped}")
    return 1 if n_failed else 0
