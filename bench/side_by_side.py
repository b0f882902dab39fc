#!/usr/bin/env python3
"""Freehold and its peers in turn, on the same file and threads; prints a table and keeps a record.

    bench/side_by_side.py speed       [--model NAME]... [--only CELL]... [--rounds 5]
    bench/side_by_side.py neighbour   the share of its speed that each keeps beside a busy process
    bench/side_by_side.py first-token start of the program to its first token
    bench/side_by_side.py idle        CPU that an idle `freehold serve` uses

The peers come from `bench/peers.sh`, the models of published shapes from

    cargo run --release -p freehold-gguf --example random_model -- FOLDER/models

both in $FREEHOLD_BENCH (default ~/.cache/freehold-bench). A model is a name in FOLDER/models or a
file. Run it on an otherwise idle machine: a round takes one figure of each program for each cell,
one after the other, and the median of the rounds counts. A peer counts with the better of its
modes; a mode that is far behind in the first round is not measured again.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request

import common
from common import FOLDER, Record, cells_of, models, peer_folder

# Runs of one mode differ by less, unless the machine is disturbed.
FAR_BEHIND = 0.75
# Far above the slowest cell: a peer that hangs must not stop the rest.
SECONDS_MAX = 600
PROMPT = "Once upon a time there was"


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is measured: reading a prompt, or else generating in all sequences together."""

    prefill: int = 0
    decode: int = 0
    depth: int = 0
    batch: int = 0  # 0: the single sequence of the peers' plain benchmark


CELLS = {
    "prefill 512": Cell(prefill=512),
    "prefill 2048": Cell(prefill=2048),
    "decode 128": Cell(decode=128),
    "decode at 2048": Cell(decode=64, depth=2048),
    "1 sequence": Cell(decode=64, depth=32, batch=1),
    "4 sequences": Cell(decode=64, depth=32, batch=4),
    "16 sequences": Cell(decode=64, depth=32, batch=16),
}


class Programs:
    """Freehold and the peers that are installed, by name, and how each measures a cell."""

    def __init__(self, args):
        self.freehold = args.freehold
        self.threads = str(args.threads)
        # Each command once, for the record.
        self.commands = {}
        peers = {
            "llama.cpp": ("repack", "no repack"),
            "llama.cpp-noamx": ("repack", "no repack"),
            "ik_llama.cpp": ("as is", "-rtr"),
        }
        missing = [name for name in peers if not peer_folder(name).exists()]
        self.modes = {"freehold": ("",)}
        wanted = args.peer or peers.keys() - missing
        self.modes |= {name: modes for name, modes in peers.items() if name in wanted}

    def measure(self, name, mode, model, cell):
        """Tokens per second."""
        if name == "freehold":
            return self.ours(model, cell)
        flags = {"no repack": ["--repack", "0"], "-rtr": ["-rtr", "1"]}.get(mode, [])
        is_ik = name == "ik_llama.cpp"
        if cell.batch:
            # The flags of this program take no value.
            flags = [{"--repack": "--no-repack"}.get(flag, flag) for flag in flags[:1]]
            # With flash attention it aborts on several sequences: assertion "S > 0".
            return self.batched(name, flags + (["-fa", "off"] if is_ik else []), model, cell)
        return self.single(name, flags + (["-fa", "1"] if is_ik else []), model, cell)

    def ours(self, model, cell):
        command = [self.freehold, "bench", model, "--threads", self.threads, "--repeat", "1"]
        command += ["--prefill", str(cell.prefill), "--decode", str(cell.decode), "--no-limits"]
        command += ["--depth", str(cell.depth), "--batch", str(max(cell.batch, 1)), "--json"]
        figures = json.loads(self.run("freehold", command))
        return figures["prefill_tok_s" if cell.prefill else "decode_tok_s"]

    def single(self, peer, flags, model, cell):
        command = [peer_folder(peer) / "llama-bench", "-m", model, "-t", self.threads, "-r", "1"]
        command += ["-o", "json", *flags]
        # A short test first instead of the program's own warm-up, which reads the prompt twice.
        if peer != "ik_llama.cpp":
            command += ["--no-warmup"]
        if cell.prefill:
            command += ["-p", f"64,{cell.prefill}", "-n", "0"]
        elif not cell.depth:
            command += ["-p", "0", "-n", f"8,{cell.decode}"]
        elif peer == "ik_llama.cpp":
            command += ["-p", "0", "-n", "0", "-gp", f"{cell.depth},{cell.decode}"]
        else:
            command += ["-p", "0", "-n", str(cell.decode), "-d", str(cell.depth)]
        out = self.run(peer, command)
        return json.loads(out[out.index("[\n") :])[-1]["avg_ts"]

    def batched(self, peer, flags, model, cell):
        command = [peer_folder(peer) / "llama-batched-bench", "-m", model, "-t", self.threads]
        command += ["-tb", self.threads, "-c", str(256 * cell.batch), "-b", "2048", "-ub", "512"]
        command += ["-npp", str(cell.depth), "-ntg", str(cell.decode), "-npl", str(cell.batch)]
        out = self.run(peer, command + flags)
        # Columns: PP, TG, B, N_KV, T_PP, S_PP, T_TG, S_TG, T, S.
        row = re.findall(rf"^\| *{cell.depth} \| *{cell.decode} \|.*", out, re.MULTILINE)[-1]
        return float(row.split("|")[8])

    def run(self, name, command):
        command = [str(part) for part in command]
        common.note(self.commands, name, command)
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS_MAX,
            cwd=FOLDER,  # one of them leaves its log where it runs
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command}: exit {done.returncode}\n{done.stderr[-2000:]}")
        # ik_llama.cpp's table goes where its log goes.
        return done.stdout if name == "freehold" else done.stdout + done.stderr


class Figures:
    """Figures of one model: by what was measured, program and mode."""

    def __init__(self):
        self.of = {}

    def add(self, cell, name, mode, figure):
        self.of.setdefault((cell, name, mode), []).append(figure)

    def best(self, cell, name):
        """The figures of the better mode, and that mode."""
        modes = [(v, m) for (c, n, m), v in self.of.items() if (c, n) == (cell, name)]
        return max(modes, key=lambda both: statistics.median(both[0]), default=None)

    def is_worth_it(self, cell, name, mode):
        """False for a mode that the first round showed to be far behind."""
        best, known = self.best(cell, name), self.of.get((cell, name, mode))
        if not best or not known or mode == best[1]:
            return True
        return statistics.median(known) >= FAR_BEHIND * statistics.median(best[0])


def measure(programs, model, cells, rounds, figures, label=""):
    """One round more or several; a figure that cannot be had is reported and left out."""
    for _ in range(rounds):
        for cell in cells:
            for name, modes in programs.modes.items():
                for mode in modes:
                    if not figures.is_worth_it(cell, name, mode):
                        continue
                    try:
                        figure = programs.measure(name, mode, model, CELLS[cell])
                    except (RuntimeError, ValueError, IndexError, subprocess.TimeoutExpired) as e:
                        print(f"{name} {mode}, {cell}: {e}", file=sys.stderr)
                        continue
                    figures.add(cell + label, name, mode, figure)
                    line = f"{model.name} {cell}{label} {name} {mode} {figure:.1f}"
                    print(line, file=sys.stderr, flush=True)


def speed(args, programs, record):
    cells = cells_of(args, CELLS)
    peers = [name for name in programs.modes if name != "freehold"]
    rows = [["model", "", "Freehold", *(f"{p} | ratio" for p in peers)]]
    for model in models(args):
        figures = Figures()
        measure(programs, model, cells, args.rounds, figures)
        record.add(listed(model, figures))
        record.add(limits(model, programs))
        for cell in cells:
            ours = figures.best(cell, "freehold")
            row = [model.stem, cell, rounded(ours)]
            for peer in peers:
                theirs = figures.best(cell, peer)
                ratio = "–"
                if ours and theirs:
                    ratio = f"{statistics.median(ours[0]) / statistics.median(theirs[0]):.2f}"
                row.append(f"{rounded(theirs)} | {ratio}")
            rows.append(row)
    record.table(rows)


def neighbour(args, programs, record):
    """Alone and beside one busy process in turn."""
    cells = args.only or ["prefill 512", "decode 128"]
    rows = [["model", "", "program", "alone", "beside a busy process", "share kept"]]
    for model in models(args):
        figures = Figures()
        for _ in range(args.rounds):
            measure(programs, model, cells, 1, figures)
            with busy_process():
                measure(programs, model, cells, 1, figures, ", neighbour")
        record.add(listed(model, figures))
        for cell in cells:
            for name in programs.modes:
                alone = figures.best(cell, name)
                beside = figures.best(f"{cell}, neighbour", name)
                share = "–"
                if alone and beside:
                    share = statistics.median(beside[0]) / statistics.median(alone[0])
                    share = f"{100 * share:.0f} %"
                rows.append([model.stem, cell, name, rounded(alone), rounded(beside), share])
    record.table(rows)


@contextlib.contextmanager
def busy_process():
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def first_token(args, programs, record):
    """Seconds from the start of the program to the first byte of its answer.

    Freehold reads the prompt in the model's chat template, so a peer is measured doing the same,
    and with the bare prompt too, which is shorter.
    """
    rows = [["model", "program", "s, median (range)"]]
    threads = programs.threads
    for model in models(args):
        model.read_bytes()  # into the page cache
        ours = [args.freehold, "run", "--quiet", "--model", model, "--threads", threads]
        ours += ["--temperature", "0", "--max-tokens", "1", PROMPT]
        commands = {"freehold": ours}
        for peer in ("llama.cpp", "llama.cpp-noamx"):
            program = peer_folder(peer) / "llama-completion"
            if peer in programs.modes and program.exists():
                theirs = [program, "-m", model, "-t", threads, "-p", PROMPT, "-n", "1", "-c", "512"]
                theirs += ["--no-warmup", "--no-display-prompt", "--simple-io"]
                commands[f"{peer}, chat template"] = [*theirs, "-cnv", "--single-turn", "--jinja"]
                commands[peer] = [*theirs, "-no-cnv"]
        figures = {name: [] for name in commands}
        for name, command in commands.items():
            common.note(programs.commands, name, command)
        for _ in range(args.rounds):
            for name, command in commands.items():
                figures[name].append(seconds_to_output(command))
        for name, seconds in figures.items():
            spread = f"{min(seconds):.3f} to {max(seconds):.3f}"
            rows.append([model.stem, name, f"{statistics.median(seconds):.3f} ({spread})"])
    record.table(rows)


def seconds_to_output(command):
    began = time.monotonic()
    with subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        first = None
        while chunk := os.read(process.stdout.fileno(), 4096):
            if first is None and chunk.strip():
                first = time.monotonic() - began
    if process.returncode != 0 or first is None:
        raise SystemExit(f"{command[0]} gave no token (exit {process.returncode})")
    return first


def idle(args, programs, record):
    """CPU time of a server over some seconds in which nobody asks, after one answer."""
    n_seconds = 10
    rows = [["model", "CPU of an idle server"]]
    for model in models(args):
        command = [args.freehold, "serve", "--model", model, "--listen", "127.0.0.1:0"]
        command = list(map(str, command + ["--threads", programs.threads]))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            found = (re.search(r"http://[0-9.]+:\d+", line) for line in process.stdout)
            url = next(filter(None, found)).group()
            body = {"model": model.stem, "prompt": PROMPT, "max_tokens": 16}
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(
                f"{url}/v1/completions", json.dumps(body).encode(), headers
            )
            urllib.request.urlopen(request, timeout=60).read()
            time.sleep(1)
            before = cpu_seconds(process.pid)
            time.sleep(n_seconds)
            share = (cpu_seconds(process.pid) - before) / n_seconds
            process.send_signal(signal.SIGTERM)
        rows.append([model.stem, f"{100 * share:.2f} % of a core over {n_seconds} s"])
    record.table(rows)


def cpu_seconds(pid):
    """User and system time of a process: fields 14 and 15 of its line, after its name."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def listed(model, figures):
    """Each figure of one model."""
    lines = [f"\n{model.name}"]
    for (cell, name, mode), values in figures.of.items():
        median = statistics.median(values)
        spread = f"({min(values):.1f} to {max(values):.1f}, n = {len(values)})"
        lines.append(f"  {cell:24} {name:16} {mode:10} {median:8.1f} {spread}")
    return "\n".join(lines)


def limits(model, programs):
    """Freehold beside what it measures of the machine, once for a model."""
    command = [programs.freehold, "bench", model, "--threads", programs.threads, "--json"]
    figures = json.loads(programs.run("freehold", command + ["--repeat", "1"]))
    keys = ("isa", "numerics", "load_s", "peak_rss_bytes", "read_gb_s", "int8_gmac_s")
    keys += ("prefill_share", "decode_share")
    share = ", ".join(f"{key} {figures.get(key)}" for key in keys)
    return f"  limits: {share}, file {model.stat().st_size} bytes"


def rounded(best):
    return "–" if best is None else f"{statistics.median(best[0]):.1f}"


def main():
    whats = {"speed": speed, "neighbour": neighbour, "first-token": first_token, "idle": idle}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=whats)
    parser.add_argument("--peer", action="append", default=[], help="repeatable; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    common.add_arguments(parser)
    args = common.parse(parser)
    programs = Programs(args)
    whats[args.what](args, programs, Record(args, args.what, programs))


if __name__ == "__main__":
    main()
