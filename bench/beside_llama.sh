#!/usr/bin/env bash
# Freehold and llama.cpp in turn, on the same file and threads; prints the medians and their ratios.
#   LLAMA_BENCH=path/to/llama-bench bench/beside_llama.sh MODEL.gguf [RUNS] [THREADS]
# Prefill: about 512 tokens. Decode: 128 tokens after a short prompt. llama.cpp runs as it is by default
# (repacking on). Build it for this machine: cmake -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON.
set -euo pipefail
MODEL=$1 RUNS=${2:-7} THREADS=${3:-2}
: "${LLAMA_BENCH:?set LLAMA_BENCH to the llama-bench binary}"
FREEHOLD=${FREEHOLD:-$(dirname "$0")/../target/release/freehold}

exec python3 - "$FREEHOLD" "$LLAMA_BENCH" "$MODEL" "$RUNS" "$THREADS" <<'PY'
import json, statistics, subprocess, sys

freehold, llama, model, runs, threads = sys.argv[1:]
long_prompt = " ".join(str(n) for n in range(150, 298))


def ours(prompt, n):
    command = [freehold, "run", "--quiet", "--json", "--model", model, "--threads", threads]
    command += ["--temperature", "0", "--max-tokens", str(n), prompt]
    return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def theirs(n_prompt, n_generated):
    command = [llama, "-m", model, "-t", threads, "-r", "1", "-o", "json"]
    command += ["-p", str(n_prompt), "-n", str(n_generated)]
    out = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return {"decode" if row["n_gen"] else "prefill": row["avg_ts"] for row in json.loads(out)}


n_prompt = ours(long_prompt, 1)["n_prompt"]
figures = {name: [] for name in ["our prefill", "our decode", "their prefill", "their decode"]}
for _ in range(int(runs)):
    them = theirs(n_prompt, 128)
    figures["their prefill"].append(them["prefill"])
    figures["their decode"].append(them["decode"])
    figures["our prefill"].append(ours(long_prompt, 1)["prefill_tokens_per_s"])
    figures["our decode"].append(ours("Tell me a story.", 128)["decode_tokens_per_s"])

for kind in ["prefill", "decode"]:
    us, them = figures[f"our {kind}"], figures[f"their {kind}"]
    ratio = statistics.median(a / b for a, b in zip(us, them))
    spread = lambda x: f"{statistics.median(x):7.1f} ({min(x):.0f} to {max(x):.0f})"
    tokens = n_prompt if kind == "prefill" else 128
    print(f"{kind:8s} {tokens:4d} tokens  freehold {spread(us)}  llama.cpp {spread(them)}  ratio {ratio:.2f}")
PY
