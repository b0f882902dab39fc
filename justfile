# The commands of daily work. `just` alone lists them; `just check` is what a commit must pass.

# Lists the recipes
default:
    @just --list --unsorted

# Format, lints, tests, documentation: what every commit must pass
check: lint test doc

# All that the gate runs, from a clean slate: slow tests, clients and fuzzing too
check-all: test-slow
    .ci/run

# Formats the code
fmt:
    cargo fmt --all

# Format and lints, warnings as errors
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# All tests but the slow ones; the real model is fetched once
test *ARGS:
    cargo test --workspace {{ARGS}}

# The slow tests, optimised
test-slow:
    cargo test --workspace --release -- --ignored

# The thread pool's protocol in every order of events (loom)
loom:
    RUSTFLAGS="--cfg loom" cargo test --manifest-path crates/kernels/loom/Cargo.toml --locked --release --target-dir target/loom

# Only the rules of the house: floors, sizes, words, licences, links
tidy:
    cargo test --package freehold-cli --test tidy

# Renews the list of crates and their licences, after a change of Cargo.lock
licences:
    UPDATE=1 cargo test --package freehold-cli --test it licences::the_list

# The documentation of the libraries, warnings as errors
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --lib --no-deps --locked

# The packages that products use, from pip and npm, and schemathesis, against the real server
clients:
    cargo build --release
    python3 -m venv target/venv
    target/venv/bin/pip install --quiet --requirement tests/clients/requirements.txt
    PATH="$PWD/target/venv/bin:$PATH" npm ci --loglevel=error --prefix tests/clients/node
    target/venv/bin/python tests/clients/test_openai.py target/release/freehold
    target/venv/bin/python tests/clients/test_openai_responses.py target/release/freehold
    target/venv/bin/python tests/clients/test_anthropic.py target/release/freehold
    target/venv/bin/python tests/clients/test_ollama.py target/release/freehold
    target/venv/bin/python tests/clients/test_langchain.py target/release/freehold
    target/venv/bin/python tests/clients/test_litellm.py target/release/freehold
    target/venv/bin/python tests/clients/test_upstream.py target/release/freehold
    target/venv/bin/node tests/clients/node/test_openai.js target/release/freehold
    target/venv/bin/node tests/clients/node/test_anthropic.js target/release/freehold
    target/venv/bin/node tests/clients/node/test_ai.js target/release/freehold
    target/venv/bin/node tests/clients/node/test_oidc.js target/release/freehold
    target/venv/bin/python tests/clients/test_openapi.py target/release/freehold

# The page in chromium, against the real server and model
page:
    cargo build --release
    npm ci --loglevel=error --prefix tests/page
    node tests/page/test_page.js target/release/freehold

# Mixed and hostile load on the real server: every answer as alone, no memory that grows
soak MINUTES="30":
    cargo build --release
    tests/clients/soak.py target/release/freehold --minutes {{MINUTES}}

# Tries to get out of a locked process, and records the packets of a day of use
egress:
    cargo build --release
    target/release/freehold egress prove
    target/release/freehold egress prove --broker
    python3 tests/clients/egress.py target/release/freehold

# Fuzzes one target (gguf, tokenizer, template, constraint, gbnf, answer_parts, openai_request, responses_request, anthropic_request, ollama_request, batch_file, broker_frames, bundle, policy) for some seconds
fuzz TARGET SECONDS="60":
    mkdir -p fuzz/corpus/{{TARGET}}
    RUSTC_BOOTSTRAP=1 cargo fuzz run {{TARGET}} fuzz/corpus/{{TARGET}} \
        {{ if TARGET == "gguf" { "crates/gguf/attacks" } else { "fuzz/seeds/" + TARGET } }} \
        -- -max_total_time={{SECONDS}} -timeout=20

# Speed on this machine: prefill and decode of an installed model or file
bench MODEL="smollm2-135m" *ARGS:
    cargo run --release -- bench {{MODEL}} {{ARGS}}

# Installs `freehold` for this user
install:
    cargo install --path crates/cli --locked
