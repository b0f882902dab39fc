#!/usr/bin/env python3
"""The published OpenAPI document against a real `freehold serve` with the real default model.

    python tests/clients/test_openapi.py target/release/freehold [--model smollm2-135m]

What the clients' packages can send must be in the document, and what schemathesis makes of the
document (examples, edges of every schema, random bodies) must be answered as it says.
"""

import inspect
import json
import pathlib
import subprocess
import sys
import tempfile

import anthropic
import openai

import serving

# The packages' own, which no server sees.
NOT_SENT = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
]
SCHEMATHESIS_SECONDS = 30


def document(server):
    status, _, text = server.request("GET", "/openapi.json")
    assert status == 200, text
    return json.loads(text)


def check_packages(server):
    """No parameter of the packages is one that the table has never heard of."""
    paths = document(server)["paths"]
    client = openai.OpenAI(base_url=server.url, api_key="none")
    other = anthropic.Anthropic(base_url=server.url, api_key="none")
    for path, function in {
        "/v1/chat/completions": client.chat.completions.create,
        "/v1/completions": client.completions.create,
        "/v1/embeddings": client.embeddings.create,
        "/v1/batches": client.batches.create,
        "/v1/files": client.files.create,
        "/v1/messages": other.messages.create,
        "/v1/messages/count_tokens": other.messages.count_tokens,
    }.items():
        (content,) = paths[path]["post"]["requestBody"]["content"].values()
        body = content["schema"]
        sent = set(inspect.signature(function).parameters) - NOT_SENT
        assert sent, path
        unknown = sent - set(body["properties"])
        assert not unknown, f"{path}: {sorted(unknown)}"


def check_schemathesis(server):
    """No 5xx and no status, header or body that is not in the document."""
    command = [
        str(pathlib.Path(sys.executable).parent / "schemathesis"),
        f"--config-file={pathlib.Path(__file__).with_name('schemathesis.toml')}",
        "run",
        f"{server.url}/openapi.json",
        "--phases=examples,coverage,fuzzing",
        f"--checks={','.join(CHECKS)}",
        "--max-examples=8",
        "--seed=1",
        f"--max-time={SCHEMATHESIS_SECONDS}",
        "--request-timeout=30",
        "--suppress-health-check=all",
        "--warnings=off",
    ]
    seconds_max = 10 * SCHEMATHESIS_SECONDS
    # It leaves files where it runs.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds_max, cwd=folder
        )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def start(binary, model):
    # Answers of requests that do not bound them are short, and long prompts are refused.
    # Keys and limits are made too: they must not lock out the other requests, nor whoever has the
    # usual ledger later.
    ledger = pathlib.Path(tempfile.mkdtemp()) / "ledger.sqlite"
    settings = ["--ctx", "256", "--local-access", "open", "--ledger", str(ledger)]
    return serving.Server(binary, model, *settings)


if __name__ == "__main__":
    sys.exit(serving.run("openapi document", __doc__.splitlines()[0], start, globals()))
