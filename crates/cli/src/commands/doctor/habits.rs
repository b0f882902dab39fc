//! How common clients talk: requests in the form of their SDKs and applications, with the headers
//! and fields that these send uninvited, and what of an answer they read, as of late 2026. Answers
//! are kept short, since it is their form that counts.

use serde_json::{Value, json};

/// Whom a client talks to, and as whom.
pub(super) struct Setup {
    /// `http://HOST:PORT`.
    pub(super) base: String,
    /// `HOST:PORT`.
    pub(super) host: String,
    pub(super) key: String,
    pub(super) model: String,
    /// A model that makes embeddings.
    pub(super) embedder: Option<String>,
}

/// A client: what it does in turn, and the lines that set it up.
pub(super) struct Client {
    pub(super) name: &'static str,
    pub(super) steps: fn(&Setup) -> Vec<Step>,
    pub(super) paste: fn(&Setup) -> String,
}

/// One request of a client's.
pub(super) struct Step {
    pub(super) does: &'static str,
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
    pub(super) shape: Shape,
    pub(super) needs_embedder: bool,
    /// What would make it work where it does not.
    pub(super) setting: Option<String>,
}

/// What a client reads of an answer.
pub(super) enum Shape {
    /// Nothing.
    Any,
    /// These places of a JSON body, by JSON pointer.
    Json(&'static [&'static str]),
    /// Server-sent events: parts of the first and of the last one's data.
    Events { first: &'static str, last: &'static str },
    /// A JSON object a line, with these places in the last.
    Lines(&'static [&'static str]),
}

impl Step {
    pub(super) fn get(does: &'static str, path: &str, places: &'static [&'static str]) -> Self {
        Self {
            method: "GET",
            body: None,
            shape: Shape::Json(places),
            ..Self::post(does, path, json!({}))
        }
    }

    pub(super) fn post(does: &'static str, path: &str, body: Value) -> Self {
        Self {
            does,
            method: "POST",
            path: path.to_owned(),
            headers: Vec::new(),
            body: Some(body),
            shape: Shape::Any,
            needs_embedder: false,
            setting: None,
        }
    }

    fn reads(self, places: &'static [&'static str]) -> Self {
        Self { shape: Shape::Json(places), ..self }
    }

    fn streams(self, first: &'static str, last: &'static str) -> Self {
        Self { shape: Shape::Events { first, last }, ..self }
    }

    fn reads_lines(self, places: &'static [&'static str]) -> Self {
        Self { shape: Shape::Lines(places), ..self }
    }

    fn embeds(self) -> Self {
        Self { needs_embedder: true, ..self }
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn or_with(self, setting: String) -> Self {
        Self { setting: Some(setting), ..self }
    }
}

/// Every client that is tried.
pub(super) const CLIENTS: &[Client] = &[
    Client { name: "openai (Python)", steps: openai_python, paste: openai_python_lines },
    Client { name: "openai (Node)", steps: openai_node, paste: openai_node_lines },
    Client { name: "anthropic (Python)", steps: anthropic_python, paste: anthropic_python_lines },
    Client { name: "ollama (Python)", steps: ollama_python, paste: ollama_python_lines },
    Client { name: "LangChain", steps: langchain, paste: langchain_lines },
    Client { name: "LiteLLM", steps: litellm, paste: litellm_lines },
    Client { name: "Continue", steps: continue_dev, paste: continue_lines },
    Client { name: "Open WebUI", steps: open_webui, paste: open_webui_lines },
    Client { name: "Codex CLI", steps: codex, paste: codex_lines },
    Client { name: "Claude Code", steps: claude_code, paste: claude_code_lines },
];

const CHAT: &[&str] =
    &["/id", "/choices/0/message/role", "/choices/0/finish_reason", "/usage/total_tokens"];
const VECTORS: &[&str] = &["/object", "/data/0/embedding", "/usage/prompt_tokens"];

fn question() -> Value {
    json!([{"role": "user", "content": "Say hello."}])
}

/// A tool without which nothing is asked of it: the city of a question.
fn weather(name: &str) -> Value {
    json!({
        "name": name,
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
            "additionalProperties": false,
        },
    })
}

fn openai_tool() -> Value {
    json!([{"type": "function", "function": weather("get_weather")}])
}

/// The headers that OpenAI's SDKs send, which Stainless generates.
fn stainless(step: Step, setup: &Setup, language: &str, agent: &str) -> Step {
    step.header("Authorization", format!("Bearer {}", setup.key))
        .header("User-Agent", agent)
        .header("Accept", "application/json")
        .header("X-Stainless-Lang", language)
        .header("X-Stainless-Retry-Count", "0")
        .header("X-Stainless-Raw-Response", "false")
}

fn chat(setup: &Setup, more: Value) -> Value {
    let mut body = json!({"model": setup.model, "messages": question(), "max_tokens": 12});
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

const COMPLETIONS: &str = "/v1/chat/completions";

fn openai_python(setup: &Setup) -> Vec<Step> {
    let post = |does, more| Step::post(does, COMPLETIONS, chat(setup, more));
    let schema = json!({
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": false,
    });
    let named = json!({"name": "Answer", "schema": schema, "strict": true});
    let format = json!({"type": "json_schema", "json_schema": named});
    let stream = json!({"stream": true, "stream_options": {"include_usage": true}});
    let tools = json!({"tools": openai_tool(), "tool_choice": "required", "max_tokens": 64});
    let vectors =
        json!({"model": setup.embedder, "input": ["a", "b"], "encoding_format": "base64"});
    let response = json!({"model": setup.model, "input": "Say hello.", "max_output_tokens": 16});
    let places = &[
        "/choices/0/message/tool_calls/0/function/arguments",
        "/choices/0/message/tool_calls/0/id",
    ];
    let steps = vec![
        post("chat", json!({})).reads(CHAT),
        post("stream", stream).streams("\"role\":\"assistant\"", "[DONE]"),
        post("parse into a model", json!({"response_format": format, "max_tokens": 64}))
            .reads(CHAT),
        post("call a tool", tools).reads(places),
        Step::post("embeddings", "/v1/embeddings", vectors).reads(VECTORS).embeds(),
        Step::post("responses", "/v1/responses", response).reads(&[
            "/id",
            "/output",
            "/usage/input_tokens",
        ]),
        Step::get("list models", "/v1/models", &["/object", "/data/0/id", "/data/0/created"]),
    ];
    let agent = "OpenAI/Python 3.54.0";
    steps.into_iter().map(|step| stainless(step, setup, "python", agent)).collect()
}

fn openai_python_lines(setup: &Setup) -> String {
    format!("OpenAI(base_url=\"{}/v1\", api_key=\"{}\")", setup.base, setup.key)
}

fn openai_node(setup: &Setup) -> Vec<Step> {
    let post = |does, more| Step::post(does, COMPLETIONS, chat(setup, more));
    let tools = json!({"tools": openai_tool(), "tool_choice": "auto", "stream": true});
    let steps = vec![
        post("stream with tools", tools).streams("\"role\":\"assistant\"", "[DONE]"),
        post(
            "chat with the newer names",
            json!({
                "max_completion_tokens": 12,
                "messages": [
                    {"role": "developer", "content": "Be brief."},
                    {"role": "user", "content": [{"type": "text", "text": "Say hello."}]},
                ],
                "user": "somebody",
            }),
        )
        .reads(CHAT),
    ];
    steps.into_iter().map(|step| stainless(step, setup, "js", "OpenAI/JS 6.9.0")).collect()
}

fn openai_node_lines(setup: &Setup) -> String {
    format!("new OpenAI({{ baseURL: \"{}/v1\", apiKey: \"{}\" }})", setup.base, setup.key)
}

fn message(setup: &Setup, more: Value) -> Value {
    chat(setup, more)
}

fn anthropic_tool() -> Value {
    let Value::Object(mut tool) = weather("get_weather") else { return Value::Null };
    let schema = tool.remove("parameters");
    json!([{"name": tool["name"], "description": tool["description"], "input_schema": schema}])
}

fn anthropic_python(setup: &Setup) -> Vec<Step> {
    let post = |does, path: &str, more| Step::post(does, path, message(setup, more));
    let places =
        &["/id", "/content", "/stop_reason", "/usage/input_tokens", "/usage/output_tokens"];
    let tools =
        json!({"tools": anthropic_tool(), "tool_choice": {"type": "any"}, "max_tokens": 64});
    let count = json!({"model": setup.model, "messages": question()});
    let steps = vec![
        post("messages", "/v1/messages", json!({})).reads(places),
        post("stream", "/v1/messages", json!({"stream": true}))
            .streams("message_start", "message_stop"),
        post("call a tool", "/v1/messages", tools).reads(&["/content/0/input", "/stop_reason"]),
        Step::post("count tokens", "/v1/messages/count_tokens", count).reads(&["/input_tokens"]),
    ];
    let with_headers = |step: Step| {
        step.header("x-api-key", setup.key.clone())
            .header("anthropic-version", "2023-06-01")
            .header("User-Agent", "Anthropic/Python 2.14.0")
    };
    steps.into_iter().map(with_headers).collect()
}

fn anthropic_python_lines(setup: &Setup) -> String {
    format!("Anthropic(base_url=\"{}\", api_key=\"{}\")", setup.base, setup.key)
}

const OLLAMA_CHAT: &[&str] =
    &["/message/role", "/done", "/done_reason", "/eval_count", "/total_duration"];

fn ollama_python(setup: &Setup) -> Vec<Step> {
    let options = json!({"num_predict": 8, "temperature": 0});
    let chat = json!({
        "model": setup.model, "messages": question(), "tools": [], "stream": true,
        "options": options,
    });
    let generate = json!({
        "model": setup.model, "prompt": "Hello", "stream": false, "options": options,
    });
    let embed = json!({"model": setup.embedder, "input": ["a", "b"]});
    vec![
        Step::get("list", "/api/tags", &["/models/0/name", "/models/0/model", "/models/0/digest"]),
        Step::post("show", "/api/show", json!({"model": setup.model})).reads(&[
            "/details/format",
            "/model_info",
            "/capabilities/0",
        ]),
        Step::post("chat", "/api/chat", chat).reads_lines(OLLAMA_CHAT),
        Step::post("generate", "/api/generate", generate).reads(&[
            "/response",
            "/done_reason",
            "/eval_count",
        ]),
        Step::post("embed", "/api/embed", embed)
            .reads(&["/embeddings/0/0", "/prompt_eval_count"])
            .embeds(),
        Step::get("ps", "/api/ps", &["/models"]),
    ]
}

fn ollama_python_lines(setup: &Setup) -> String {
    format!("Client(host=\"{}\")", setup.base)
}

fn langchain(setup: &Setup) -> Vec<Step> {
    let stream = json!({
        "model": setup.model, "messages": question(), "stream": true, "temperature": 0.7,
        "max_completion_tokens": 12,
    });
    let tools = json!({
        "tools": openai_tool(), "max_tokens": 64, "parallel_tool_calls": false,
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    });
    let vectors = json!({"model": setup.embedder, "input": ["a"]});
    let steps = vec![
        Step::post("stream", COMPLETIONS, stream).streams("\"role\":\"assistant\"", "[DONE]"),
        Step::post("structured output by a tool", COMPLETIONS, chat(setup, tools))
            .reads(&["/choices/0/message/tool_calls/0/function/arguments"]),
        Step::post("embeddings", "/v1/embeddings", vectors).reads(VECTORS).embeds(),
    ];
    let agent = "OpenAI/Python 3.54.0";
    steps.into_iter().map(|step| stainless(step, setup, "python", agent)).collect()
}

fn langchain_lines(setup: &Setup) -> String {
    let Setup { base, key, model, .. } = setup;
    format!(
        "ChatOpenAI(base_url=\"{base}/v1\", api_key=\"{key}\", model=\"{model}\")\n\
         OpenAIEmbeddings(base_url=\"{base}/v1\", api_key=\"{key}\", \
         check_embedding_ctx_length=False)\n\
         ChatOllama(base_url=\"{base}\", model=\"{model}\")"
    )
}

fn litellm(setup: &Setup) -> Vec<Step> {
    let more = json!({"temperature": 0, "stream": true, "stream_options": {"include_usage": true}});
    let stream = Step::post("stream", COMPLETIONS, chat(setup, more));
    let whole = Step::post("completion", COMPLETIONS, chat(setup, json!({})));
    let messages = Step::post("anthropic/ models", "/v1/messages", message(setup, json!({})))
        .reads(&["/content", "/usage/input_tokens"])
        .header("x-api-key", setup.key.clone())
        .header("anthropic-version", "2023-06-01");
    let agent = "litellm/1.90.0";
    vec![
        stainless(whole.reads(CHAT), setup, "python", agent),
        stainless(stream.streams("\"role\":\"assistant\"", "[DONE]"), setup, "python", agent),
        messages,
    ]
}

fn litellm_lines(setup: &Setup) -> String {
    format!(
        "completion(model=\"openai/{}\", api_base=\"{}/v1\", api_key=\"{}\", messages=...)",
        setup.model, setup.base, setup.key
    )
}

fn continue_dev(setup: &Setup) -> Vec<Step> {
    let body = json!({
        "model": setup.model, "messages": question(), "stream": true, "keep_alive": 1800,
        "options": {
            "temperature": 0.01, "top_p": 1, "top_k": 40, "num_predict": 8, "stop": [],
            "num_ctx": 2048, "mirostat": 0,
        },
    });
    vec![
        Step::post("look at the model", "/api/show", json!({"name": setup.model}))
            .reads(&["/template", "/details"]),
        Step::post("chat", "/api/chat", body).reads_lines(OLLAMA_CHAT),
    ]
}

fn continue_lines(setup: &Setup) -> String {
    format!(
        "models:\n  - name: {0}\n    provider: ollama\n    model: {0}\n    apiBase: {1}",
        setup.model, setup.base
    )
}

fn open_webui(setup: &Setup) -> Vec<Step> {
    let body = json!({
        "model": setup.model, "messages": question(), "stream": true, "options": {"num_predict": 8},
    });
    let openai = json!({"stream": true, "stream_options": {"include_usage": true}});
    let bearer = format!("Bearer {}", setup.key);
    let user = |step: Step| {
        step.header("X-OpenWebUI-User-Name", "somebody").header("Authorization", bearer.clone())
    };
    vec![
        user(Step::get("check the connection", "/api/version", &["/version"])),
        user(Step::get("list", "/api/tags", &["/models/0/model", "/models/0/details"])),
        user(Step::get("list what is loaded", "/api/ps", &["/models"])),
        user(Step::post("chat as Ollama's", "/api/chat", body).reads_lines(OLLAMA_CHAT)),
        user(Step::get("list as OpenAI's", "/v1/models", &["/data/0/id"])),
        user(
            Step::post("chat as OpenAI's", COMPLETIONS, chat(setup, openai))
                .streams("assistant", "[DONE]"),
        ),
    ]
}

fn open_webui_lines(setup: &Setup) -> String {
    format!(
        "OLLAMA_BASE_URL={0}\nOPENAI_API_BASE_URL={0}/v1 OPENAI_API_KEY={1}",
        setup.base, setup.key
    )
}

fn codex(setup: &Setup) -> Vec<Step> {
    let Value::Object(mut tool) = weather("shell") else { return Vec::new() };
    tool.insert("type".into(), "function".into());
    tool.insert("strict".into(), false.into());
    let said = |role: &str, text: &str| {
        let parts = json!([{"type": "input_text", "text": text}]);
        json!({"type": "message", "role": role, "content": parts})
    };
    let body = json!({
        "model": setup.model,
        "instructions": "You are a coding agent.",
        "input": [
            said("developer", "Be brief."),
            said("user", "Say hello."),
        ],
        "tools": [tool, {"type": "web_search"}, {"type": "local_shell"}],
        "tool_choice": "auto",
        "parallel_tool_calls": false,
        "reasoning": null,
        "store": false,
        "stream": true,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199f3c0",
        "client_metadata": {"x-codex-installation-id": "0"},
        "max_output_tokens": 24,
    });
    vec![
        Step::post("a turn with tools", "/v1/responses", body)
            .streams("response.created", "usage")
            .header("Authorization", format!("Bearer {}", setup.key))
            .header("originator", "codex_cli_rs")
            .header("session_id", "0199f3c0")
            .header("Accept", "text/event-stream"),
    ]
}

fn codex_lines(setup: &Setup) -> String {
    format!(
        "# ~/.codex/config.toml\nmodel = \"{}\"\nmodel_provider = \"freehold\"\n\
         [model_providers.freehold]\nname = \"Freehold\"\nbase_url = \"{}/v1\"\n\
         wire_api = \"responses\"",
        setup.model, setup.base
    )
}

fn claude_code(setup: &Setup) -> Vec<Step> {
    let cache = json!({"type": "ephemeral"});
    let body = |model: &str| {
        json!({
            "model": model,
            "max_tokens": 24,
            "stream": true,
            "system": [
                {"type": "text", "text": "You are Claude Code.", "cache_control": cache},
            ],
            "messages": [{"role": "user", "content": [
                {"type": "text", "text": "Say hello.", "cache_control": cache},
            ]}],
            "tools": anthropic_tool(),
            "metadata": {"user_id": "user_0"},
            "thinking": {"type": "adaptive"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "output_config": {"effort": "medium"},
        })
    };
    let headers = |step: Step| {
        step.header("Authorization", format!("Bearer {}", setup.key))
            .header("anthropic-version", "2023-06-01")
            .header("anthropic-beta", "claude-code-20250219,interleaved-thinking-2025-05-14")
            .header("User-Agent", "claude-cli/2.1.180 (external, cli)")
            .header("X-App", "cli")
    };
    let path = "/v1/messages?beta=true";
    let turn =
        |does, model| Step::post(does, path, body(model)).streams("message_start", "message_stop");
    let count = json!({"model": setup.model, "messages": question(), "tools": anthropic_tool()});
    let reach =
        Step { method: "HEAD", body: None, ..Step::post("reach the server", "/", json!({})) };
    let alias = format!("freehold serve {0} --alias 'claude-*={0}'", setup.model);
    let steps = vec![
        reach,
        turn("a turn with tools", &setup.model),
        Step::post("count tokens", "/v1/messages/count_tokens?beta=true", count)
            .reads(&["/input_tokens"]),
        turn("its vendor's models", "claude-haiku-4-5-20251001").or_with(alias),
    ];
    steps.into_iter().map(headers).collect()
}

fn claude_code_lines(setup: &Setup) -> String {
    format!(
        "ANTHROPIC_BASE_URL={} ANTHROPIC_AUTH_TOKEN={} ANTHROPIC_MODEL={} \
         CLAUDE_CODE_ATTRIBUTION_HEADER=0 claude",
        setup.base, setup.key, setup.model
    )
}
