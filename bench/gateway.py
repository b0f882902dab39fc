#!/usr/bin/env python3
"""Freehold's server and LiteLLM's proxy before the same server, in turn: requests a second.

    bench/gateway.py [--clients 16] [--seconds 10] [--rounds 3] [--model MODEL.gguf]

The server is the example `gateway` of freehold-server: the real one with a model whose passes take
next to no time. It is asked by the load of the same example, straight and through LiteLLM's proxy
(one worker, from pip, in a folder of its own beside the other peers), with the same requests: a
conversation of two messages and two tokens of answer, not streamed. Load, proxy and server share
the machine's cores. Prints a table and keeps a record.
"""

import argparse
import contextlib
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import common
from common import FOLDER, ROOT, Record

LITELLM = "litellm[proxy]==1.108.7"
GATEWAY = ROOT / "target/release/examples/gateway"
CONFIG = """\
model_list:
  - model_name: nothing
    litellm_params: {{model: openai/nothing, api_base: "http://{server}/v1", api_key: x}}
"""
# Asks nobody for prices, and lets anybody in, as the server behind it does.
LITELLM_SETTINGS = {
    "LITELLM_LOG": "ERROR",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}
SECONDS_START = 120


class Programs:
    """What the record says of the programs."""

    def __init__(self):
        self.modes = {}
        self.commands = {}


def install():
    """LiteLLM's own folder; what is there stays."""
    folder = FOLDER / "litellm"
    program = folder / "bin/litellm"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin/pip", "install", "-q", LITELLM], check=True)
    return program


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextlib.contextmanager
def started(programs, name, command, address, path):
    """The program, once it answers."""
    common.note(programs.commands, name, command)
    environment = os.environ | LITELLM_SETTINGS
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            until = time.monotonic() + SECONDS_START
            while not is_up(f"http://{address}{path}"):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    text = log.read().decode(errors="replace")
                    raise SystemExit(f"{command[0]} did not start\n{text[-2000:]}")
                time.sleep(0.2)
            yield process
        finally:
            process.terminate()
            process.wait()


def is_up(url):
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except OSError:
        return False
    return True


def load(programs, address, args):
    """Requests a second, and the median and 99th percentile of their times in ms."""
    command = [GATEWAY, "load", address, args.clients, args.seconds]
    common.note(programs.commands, "load", command)
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"load of {address}: {done.stderr}")
    return [float(part) for part in re.findall(r"[0-9.]+(?= requests/s| ms)", done.stdout)]


def resident_mb(pid):
    """Resident memory of a process, in MB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+)", status).group(1)) * 1024 / 1e6


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    common.add_arguments(parser)
    args = common.parse(parser)
    args.model = args.model or ["smollm2-135m"]
    model = common.models(args)[0]
    build = ["cargo", "build", "--release", "-p", "freehold-server", "--example", "gateway"]
    subprocess.run(build, cwd=ROOT, check=True)
    litellm, programs = install(), Programs()
    server, proxy = free_address(), free_address()
    figures, memory = {"Freehold": [], "LiteLLM": []}, {}
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "litellm.yaml"
        config.write_text(CONFIG.format(server=server))
        port = proxy.rpartition(":")[2]
        serve = [GATEWAY, "serve", model, server]
        before = [litellm, "--config", config, "--host", "127.0.0.1", "--port", port]
        with (
            started(programs, "server", serve, server, "/health") as own,
            started(programs, "LiteLLM", before, proxy, "/health/liveliness") as theirs,
        ):
            for _ in range(args.rounds):
                for name, address in (("Freehold", server), ("LiteLLM", proxy)):
                    figures[name].append(load(programs, address, args))
                    print(name, figures[name][-1], file=sys.stderr, flush=True)
            memory = {"Freehold": resident_mb(own.pid), "LiteLLM": resident_mb(theirs.pid)}
    record = Record(args, "gateway", programs)
    version = common.output([litellm.parent / "pip", "show", "litellm"]).splitlines()[1]
    record.add(f"LiteLLM {version}; {args.clients} clients, {args.seconds} s a round")
    rows = [["", "requests/s", "p50, ms", "p99, ms", "resident, MB"]]
    for name, rounds in figures.items():
        record.add(f"  {name:10} {rounds}")
        middle = [statistics.median(column) for column in zip(*rounds)]
        cells = [f"{middle[0]:.0f}", f"{middle[1]:.2f}", f"{middle[2]:.2f}"]
        rows.append([name, *cells, f"{memory[name]:.0f}"])
    ours, theirs = (statistics.median(r[0] for r in figures[n]) for n in ("Freehold", "LiteLLM"))
    rows.append(["ratio", f"{ours / theirs:.1f}", "", "", ""])
    record.table(rows)


if __name__ == "__main__":
    main()
