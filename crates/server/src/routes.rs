//! All routes, each with what it declares: the router is made of this list, so there is no route
//! without a declaration, and what is published of them is too.

mod admin;
pub(crate) mod openapi;
mod owner;
#[cfg(test)]
mod page;
mod signin;

use crate::app::{self, App, generate, tokens, vectors};
use crate::dialects::Family;
use crate::dialects::anthropic::{self, CountTokens, Messages};
use crate::dialects::declared::{Field, Unknown};
use crate::dialects::llama::{self, Detokenize, Tokenize};
use crate::dialects::ollama;
use crate::dialects::openai::chat::{self, ApplyTemplate, Chat};
use crate::dialects::openai::completions::{self, Completions};
use crate::dialects::openai::embeddings::{self, Embeddings};
use crate::dialects::openai::responses::{self, CountInput, Responses};
use crate::dialects::openai::{batches, files, settings};
use crate::dialects::rerank::{self, Rerank};
use crate::serve::{CONTENT_TYPE, resume};
use axum::routing::{MethodFilter, MethodRouter, delete, get, head, post};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// One route.
pub(crate) struct Route {
    /// In small letters.
    pub(crate) method: &'static str,
    /// Its path as the router has it, and other names of it.
    pub(crate) paths: &'static [&'static str],
    /// With which others it stands on the page.
    pub(crate) group: &'static str,
    /// What it does.
    pub(crate) summary: &'static str,
    /// In whose shape it refuses.
    pub(crate) family: Family,
    /// Who may use it.
    pub(crate) needs: Needs,
    /// Parameters of the query.
    pub(crate) query: &'static [Field],
    /// What it reads, if it reads a body, and as which media type.
    pub(crate) body: Option<Body>,
    pub(crate) media_type: &'static str,
    /// JSON schema of its answer; `None`: plain text, unless it is always streamed.
    pub(crate) answer: Option<&'static str>,
    /// Where it sends a browser instead of answering, in a few words: by 303, with no body.
    pub(crate) sends_to: Option<&'static str>,
    /// Media type of its answer where it is streamed.
    pub(crate) stream: Option<&'static str>,
    /// Statuses of its refusals.
    pub(crate) statuses: &'static [u16],
    /// What answers it.
    pub(crate) handler: fn() -> MethodRouter<Arc<App>>,
}

/// Who may use a route, besides what the scopes of a key say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Anybody, without a key.
    Nothing,
    /// Who has a key.
    Key,
    /// Who has a key whose scopes name the route, and the owner: it tells of all that there is.
    Named,
    /// The owner.
    Admin,
}

/// A body, which is one JSON object or a form.
pub(crate) struct Body {
    /// The fields that the route knows.
    pub(crate) fields: &'static [&'static [Field]],
    /// The names of those that must be there.
    pub(crate) required: &'static [&'static str],
    /// What becomes of others.
    pub(crate) unknown: Unknown,
    /// A body that is accepted, where a model has its name.
    pub(crate) example: &'static str,
}

impl Route {
    /// Whether its answers are generated, and have receipts: a stream of one that reads a body, but
    /// for changes of models, which some servers do not do.
    pub(crate) fn generates(&self) -> bool {
        self.body.is_some() && self.stream.is_some() && !self.statuses.contains(&501)
    }
}

impl Body {
    /// All fields that the route knows.
    pub(crate) fn all_fields(&self) -> impl Iterator<Item = &'static Field> {
        self.fields.iter().copied().flatten()
    }
}

const RESPONSE: &str = r#"{"model":"smollm2-135m","input":"Hi","max_output_tokens":1}"#;
const OPENAI: &str = "OpenAI";
const VECTORS_OF_TEXTS: &str = "OpenAI, Jina and Cohere: vectors";
const BATCHES: &str = "OpenAI: files and batches";
const ANTHROPIC: &str = "Anthropic";
const OLLAMA: &str = "Ollama";
const OLLAMA_MODELS: &str = "Ollama: models come and go";
const LLAMA: &str = "llama-server";
const MODELS: &str = "Models";
const OWN: &str = "This server";

const EVENTS: Option<&str> = Some("text/event-stream");
const LINES: Option<&str> = Some("application/x-ndjson");

/// A route that answers a GET request at once.
const READ: Route = Route {
    method: "get",
    paths: &[],
    group: OWN,
    summary: "",
    family: Family::OpenAi,
    needs: Needs::Key,
    query: &[],
    body: None,
    media_type: "application/json",
    answer: None,
    sends_to: None,
    stream: None,
    statuses: &[401, 403],
    handler: || get(app::root),
};

/// A route that answers by computing.
const COMPUTE: Route = Route {
    method: "post",
    statuses: &[400, 401, 403, 404, 408, 413, 415, 429, 500, 503, 504],
    ..READ
};

/// The same, with streams of events, which can be resumed.
const GENERATE: Route = Route {
    stream: EVENTS,
    statuses: &[400, 401, 403, 404, 408, 410, 413, 415, 429, 500, 503, 504],
    ..COMPUTE
};

/// A route that changes which models there are, where the owner lets clients on this machine do so;
/// without a library of models it answers 501.
const CHANGE: Route = Route {
    group: OLLAMA_MODELS,
    family: Family::Ollama,
    statuses: &[400, 401, 403, 404, 408, 409, 413, 415, 429, 500, 501, 503, 504],
    ..COMPUTE
};

/// A route about files and batches, which answers 403 where the owner lets nobody have some.
const KEEP: Route = Route { group: BATCHES, statuses: &[401, 403, 404, 500], ..READ };

/// All routes.
pub(crate) fn all() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().chain(admin::ROUTES).chain(owner::ROUTES).chain(signin::ROUTES)
}

/// The route that the router has at a path; of several methods there the first.
pub(crate) fn at(path: &str) -> Option<&'static Route> {
    static BY_PATH: LazyLock<HashMap<&str, &Route>> = LazyLock::new(|| {
        let paths = all().flat_map(|route| route.paths.iter().map(move |path| (*path, route)));
        // Backwards, so that the first one stays.
        paths.collect::<Vec<_>>().into_iter().rev().collect()
    });
    BY_PATH.get(path).copied()
}

/// Those of the families and the plain ones.
const ROUTES: &[Route] = &[
    Route {
        paths: &["/v1/chat/completions"],
        group: OPENAI,
        summary: "Answers a conversation.",
        body: Some(Body {
            fields: &[chat::FIELDS, settings::FIELDS],
            required: &["messages"],
            unknown: Unknown::Refused,
            example: r#"{"model":"smollm2-135m","messages":[{"role":"user","content":"Hi"}],"max_tokens":1}"#,
        }),
        answer: Some(ANSWER),
        handler: || post(generate::<Chat>),
        ..GENERATE
    },
    Route {
        paths: &["/v1/responses"],
        group: OPENAI,
        summary: "Answers items of a conversation, and keeps the answer where the owner wants that.",
        body: Some(Body {
            fields: &[responses::FIELDS],
            required: &["input"],
            unknown: Unknown::Ignored,
            example: RESPONSE,
        }),
        answer: Some(RESPONSE_ANSWER),
        handler: || post(generate::<Responses>),
        ..GENERATE
    },
    Route {
        paths: &["/v1/responses/input_tokens"],
        group: OPENAI,
        summary: "Counts the tokens of such a conversation.",
        body: Some(Body {
            fields: &[responses::FIELDS],
            required: &["input"],
            unknown: Unknown::Ignored,
            example: RESPONSE,
        }),
        answer: Some(INPUT_TOKENS),
        handler: || post(generate::<CountInput>),
        ..COMPUTE
    },
    Route {
        paths: &["/v1/responses/{id}"],
        group: OPENAI,
        summary: "An answer that is kept for the client or made in the background, or its events.",
        query: resume::RESPONSE_QUERY,
        answer: Some(RESPONSE_ANSWER),
        stream: EVENTS,
        statuses: &[400, 401, 403, 404, 410],
        handler: || get(app::responses::kept),
        ..READ
    },
    Route {
        method: "delete",
        paths: &["/v1/responses/{id}"],
        group: OPENAI,
        summary: "Forgets it.",
        answer: Some(DELETED),
        statuses: &[401, 403, 404],
        handler: || delete(app::responses::forget),
        ..READ
    },
    Route {
        method: "post",
        paths: &["/v1/responses/{id}/cancel"],
        group: OPENAI,
        summary: "Has one that is made in the background go no further.",
        answer: Some(RESPONSE_ANSWER),
        statuses: &[400, 401, 403, 404],
        handler: || post(app::responses::cancel),
        ..READ
    },
    Route {
        paths: &["/v1/responses/{id}/input_items"],
        group: OPENAI,
        summary: "The items that it was made from.",
        query: responses::ITEMS_QUERY,
        answer: Some(ITEMS),
        statuses: &[400, 401, 403, 404],
        handler: || get(app::responses::kept_items),
        ..READ
    },
    Route {
        paths: &["/v1/completions"],
        group: OPENAI,
        summary: "Continues texts.",
        body: Some(Body {
            fields: &[completions::FIELDS, settings::FIELDS],
            required: &["prompt"],
            unknown: Unknown::Refused,
            example: r#"{"model":"smollm2-135m","prompt":"Hi","max_tokens":1}"#,
        }),
        answer: Some(ANSWER),
        handler: || post(generate::<Completions>),
        ..GENERATE
    },
    Route {
        paths: &["/v1/embeddings"],
        group: VECTORS_OF_TEXTS,
        summary: "Makes vectors of texts.",
        body: Some(Body {
            fields: &[embeddings::FIELDS],
            required: &["input"],
            unknown: Unknown::Refused,
            example: r#"{"model":"minilm-l6-v2","input":"Hi"}"#,
        }),
        answer: Some(VECTORS),
        handler: || post(vectors::<Embeddings>),
        ..COMPUTE
    },
    Route {
        paths: &["/v1/rerank", "/rerank"],
        group: VECTORS_OF_TEXTS,
        summary: "Sorts documents by how near they are to a query.",
        body: Some(Body {
            fields: &[rerank::FIELDS],
            required: &["query", "documents"],
            unknown: Unknown::Refused,
            example: r#"{"model":"minilm-l6-v2","query":"key","documents":["a lock"]}"#,
        }),
        answer: Some(RANKS),
        handler: || post(vectors::<Rerank>),
        ..COMPUTE
    },
    Route {
        method: "post",
        paths: &["/v1/files"],
        summary: "Keeps a file of requests, until it is deleted.",
        body: Some(Body {
            fields: &[files::FIELDS],
            required: &["file", "purpose"],
            unknown: Unknown::Refused,
            example: r#"{"file":"{}\n","purpose":"batch"}"#,
        }),
        media_type: "multipart/form-data",
        answer: Some(FILE),
        statuses: &[400, 401, 403, 408, 413, 415, 429, 500, 504],
        handler: || post(app::batches::send),
        ..KEEP
    },
    Route {
        paths: &["/v1/files"],
        summary: "Lists the client's files.",
        query: files::LIST_QUERY,
        answer: Some(FILES),
        statuses: &[400, 401, 403, 500],
        handler: || get(app::batches::list),
        ..KEEP
    },
    Route {
        paths: &["/v1/files/{id}"],
        summary: "Describes a file.",
        answer: Some(FILE),
        handler: || get(app::batches::file),
        ..KEEP
    },
    Route {
        method: "delete",
        paths: &["/v1/files/{id}"],
        summary: "Deletes it, unless a batch still reads it.",
        answer: Some(DELETED),
        statuses: &[401, 403, 404, 409, 500],
        handler: || delete(app::batches::delete),
        ..KEEP
    },
    Route {
        paths: &["/v1/files/{id}/content"],
        summary: "The bytes of a file.",
        stream: Some(CONTENT_TYPE),
        statuses: &[401, 403, 404, 429, 500],
        handler: || get(app::batches::content),
        ..KEEP
    },
    Route {
        method: "post",
        paths: &["/v1/batches"],
        summary: "Has the lines of a file answered, each as a request that lets others go first.",
        body: Some(Body {
            fields: &[batches::FIELDS],
            required: &["input_file_id", "endpoint", "completion_window"],
            unknown: Unknown::Refused,
            example: r#"{"input_file_id":"file-1","endpoint":"/v1/chat/completions","completion_window":"24h"}"#,
        }),
        answer: Some(BATCH),
        statuses: &[400, 401, 403, 408, 413, 415, 429, 500, 504],
        handler: || post(app::batches::create),
        ..KEEP
    },
    Route {
        paths: &["/v1/batches"],
        summary: "Lists the client's batches.",
        query: batches::LIST_QUERY,
        answer: Some(BATCH_LIST),
        statuses: &[400, 401, 403, 500],
        handler: || get(app::batches::list_batches),
        ..KEEP
    },
    Route {
        paths: &["/v1/batches/{id}"],
        summary: "Says how far a batch has come.",
        answer: Some(BATCH),
        handler: || get(app::batches::batch),
        ..KEEP
    },
    Route {
        method: "post",
        paths: &["/v1/batches/{id}/cancel"],
        summary: "Has it go no further; what was answered is kept.",
        answer: Some(BATCH),
        statuses: &[401, 403, 404, 409, 500],
        handler: || post(app::batches::cancel),
        ..KEEP
    },
    Route {
        paths: &["/v1/messages"],
        group: ANTHROPIC,
        summary: "Answers a conversation.",
        family: Family::Anthropic,
        body: Some(Body {
            fields: &[anthropic::FIELDS],
            required: &["model", "messages", "max_tokens"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"smollm2-135m","messages":[{"role":"user","content":"Hi"}],"max_tokens":1}"#,
        }),
        answer: Some(MESSAGE),
        handler: || post(generate::<Messages>),
        ..GENERATE
    },
    Route {
        paths: &["/v1/messages/count_tokens"],
        group: ANTHROPIC,
        summary: "Counts the tokens of a conversation.",
        family: Family::Anthropic,
        body: Some(Body {
            fields: &[anthropic::FIELDS],
            required: &["model", "messages"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"smollm2-135m","messages":[{"role":"user","content":"Hi"}]}"#,
        }),
        answer: Some(COUNT),
        handler: || post(generate::<CountTokens>),
        ..COMPUTE
    },
    Route {
        paths: &["/api/chat"],
        group: OLLAMA,
        summary: "Answers a conversation; without messages only opens or closes the model.",
        family: Family::Ollama,
        body: Some(Body {
            fields: &[ollama::chat::FIELDS],
            required: &["model"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"smollm2-135m","messages":[{"role":"user","content":"Hi"}],"stream":false,"options":{"num_predict":1}}"#,
        }),
        answer: Some(OLLAMA_CHAT),
        stream: LINES,
        handler: || post(generate::<ollama::Chat>),
        ..COMPUTE
    },
    Route {
        paths: &["/api/generate"],
        group: OLLAMA,
        summary: "Answers a prompt; without one only opens or closes the model.",
        family: Family::Ollama,
        body: Some(Body {
            fields: &[ollama::generate::FIELDS],
            required: &["model"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"smollm2-135m","prompt":"Hi","stream":false,"options":{"num_predict":1}}"#,
        }),
        answer: Some(OLLAMA_TEXT),
        stream: LINES,
        handler: || post(generate::<ollama::Generate>),
        ..COMPUTE
    },
    Route {
        paths: &["/api/embed"],
        group: OLLAMA,
        summary: "Makes vectors of texts.",
        family: Family::Ollama,
        body: Some(Body {
            fields: &[ollama::embed::FIELDS],
            required: &["model"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"minilm-l6-v2","input":"Hi"}"#,
        }),
        answer: Some(OLLAMA_VECTORS),
        handler: || post(vectors::<ollama::Embed>),
        ..COMPUTE
    },
    Route {
        paths: &["/api/embeddings"],
        group: OLLAMA,
        summary: "Makes a vector of a text; the older form.",
        family: Family::Ollama,
        body: Some(Body {
            fields: &[ollama::embed::OLD_FIELDS],
            required: &["model"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"minilm-l6-v2","prompt":"Hi"}"#,
        }),
        answer: Some(OLLAMA_VECTOR),
        handler: || post(vectors::<ollama::Embeddings>),
        ..COMPUTE
    },
    Route {
        paths: &["/api/show"],
        group: OLLAMA,
        summary: "Says what is known of a model.",
        family: Family::Ollama,
        body: Some(Body {
            fields: &[ollama::changes::SHOW_FIELDS],
            required: &["model"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"smollm2-135m"}"#,
        }),
        answer: Some(OLLAMA_SHOW),
        handler: || post(app::ollama::show_model),
        ..COMPUTE
    },
    Route {
        paths: &["/api/tags"],
        group: OLLAMA,
        summary: "Lists the models.",
        family: Family::Ollama,
        answer: Some(OLLAMA_LIST),
        handler: || get(app::ollama::tags),
        ..READ
    },
    Route {
        paths: &["/api/ps"],
        group: OLLAMA,
        summary: "Lists those that are open.",
        family: Family::Ollama,
        answer: Some(OLLAMA_LIST),
        handler: || get(app::ollama::ps),
        ..READ
    },
    Route {
        paths: &["/api/version"],
        group: OLLAMA,
        summary: "The version of Ollama whose API this is.",
        family: Family::Ollama,
        answer: Some(
            r#"{"type":"object","properties":{"version":{"type":"string"}},"required":["version"]}"#,
        ),
        handler: || get(app::ollama::api_version),
        ..READ
    },
    Route {
        paths: &["/api/pull"],
        summary: "Fetches a model.",
        body: Some(Body {
            fields: &[ollama::changes::PULL_FIELDS],
            required: &["model"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"smollm2-135m"}"#,
        }),
        answer: Some(OLLAMA_STATUS),
        stream: LINES,
        handler: || app::ollama::changes(MethodFilter::POST, ollama::read_pull),
        ..CHANGE
    },
    Route {
        paths: &["/api/create"],
        summary: "Makes a model of another, which is a copy.",
        body: Some(Body {
            fields: &[ollama::changes::CREATE_FIELDS],
            required: &["model", "from"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"mine","from":"smollm2-135m"}"#,
        }),
        answer: Some(OLLAMA_STATUS),
        stream: LINES,
        handler: || app::ollama::changes(MethodFilter::POST, ollama::read_create),
        ..CHANGE
    },
    Route {
        paths: &["/api/copy"],
        summary: "Copies a model to another name.",
        body: Some(Body {
            fields: &[ollama::changes::COPY_FIELDS],
            required: &["source", "destination"],
            unknown: Unknown::Ignored,
            example: r#"{"source":"smollm2-135m","destination":"mine"}"#,
        }),
        handler: || app::ollama::changes(MethodFilter::POST, ollama::read_copy),
        ..CHANGE
    },
    Route {
        method: "delete",
        paths: &["/api/delete"],
        summary: "Removes a model.",
        body: Some(Body {
            fields: &[ollama::changes::DELETE_FIELDS],
            required: &["model"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"mine"}"#,
        }),
        handler: || app::ollama::changes(MethodFilter::DELETE, ollama::read_delete),
        ..CHANGE
    },
    Route {
        paths: &["/api/push"],
        summary: "Refused: this server has no registry.",
        statuses: &[401, 403],
        handler: || post(app::ollama::no_registry),
        ..CHANGE
    },
    Route {
        paths: &["/api/blobs/{digest}"],
        summary: "Refused: files are not taken over HTTP.",
        statuses: &[401, 403],
        handler: || post(app::ollama::no_blobs),
        ..CHANGE
    },
    Route {
        method: "head",
        paths: &["/api/blobs/{digest}"],
        summary: "Whether a file is there: none is.",
        statuses: &[401, 403, 404],
        handler: || head(app::ollama::no_blob),
        ..CHANGE
    },
    Route {
        paths: &["/tokenize"],
        group: LLAMA,
        summary: "Gives the tokens of a text.",
        body: Some(Body {
            fields: &[llama::TOKENIZE],
            required: &["content"],
            unknown: Unknown::Refused,
            example: r#"{"model":"smollm2-135m","content":"Hi"}"#,
        }),
        answer: Some(TOKENS),
        handler: || post(tokens::<Tokenize>),
        ..COMPUTE
    },
    Route {
        paths: &["/detokenize"],
        group: LLAMA,
        summary: "Gives the text of tokens.",
        body: Some(Body {
            fields: &[llama::DETOKENIZE],
            required: &["tokens"],
            unknown: Unknown::Refused,
            example: r#"{"model":"smollm2-135m","tokens":[17,18]}"#,
        }),
        answer: Some(CONTENT),
        handler: || post(tokens::<Detokenize>),
        ..COMPUTE
    },
    Route {
        paths: &["/apply-template"],
        group: LLAMA,
        summary: "Gives the prompt that the model would read. Nothing is generated.",
        body: Some(Body {
            fields: &[chat::FIELDS, settings::FIELDS],
            required: &["messages"],
            unknown: Unknown::Refused,
            example: r#"{"model":"smollm2-135m","messages":[{"role":"user","content":"Hi"}]}"#,
        }),
        answer: Some(PROMPT),
        handler: || post(generate::<ApplyTemplate>),
        ..COMPUTE
    },
    Route {
        paths: &["/v1/models"],
        group: MODELS,
        summary: "Lists the models; with a header `anthropic-version`, in Anthropic's form.",
        query: anthropic::PAGE_FIELDS,
        answer: Some(LIST),
        statuses: &[400, 401, 403],
        handler: || get(app::models),
        ..READ
    },
    Route {
        paths: &["/v1/models/{*id}"],
        group: MODELS,
        summary: "Describes a model; with a header `anthropic-version`, in Anthropic's form.",
        answer: Some(CARD),
        statuses: &[401, 403, 404],
        handler: || get(app::model),
        ..READ
    },
    Route {
        paths: &["/v1/streams/{id}"],
        summary: "The events of a stream that can be resumed, by the id of its answer; with a \
                  header `anthropic-version`, errors in Anthropic's form.",
        query: resume::STREAM_QUERY,
        stream: EVENTS,
        statuses: &[400, 401, 403, 404, 410],
        handler: || get(app::stream),
        ..READ
    },
    Route {
        paths: &["/v1/receipts/{id}"],
        summary: "The receipt of an answer, by its id, for the client that asked for the answer.",
        answer: Some(RECEIPT),
        statuses: &[401, 403, 404, 503],
        handler: || get(app::receipts::receipt),
        ..READ
    },
    Route {
        paths: &["/"],
        needs: Needs::Nothing,
        summary: "The page, to browsers; else says which program this is.",
        statuses: &[403],
        handler: || get(app::root),
        ..READ
    },
    Route {
        paths: &["/health"],
        needs: Needs::Nothing,
        summary: "Whether the server is well: 503 where a model's engine has stopped.",
        answer: Some(STATUS),
        statuses: &[403, 503],
        handler: || get(app::health),
        ..READ
    },
    Route {
        paths: &["/ready"],
        needs: Needs::Nothing,
        summary: "Whether requests are answered: 503 on the way down.",
        answer: Some(STATUS),
        statuses: &[403, 503],
        handler: || get(app::ready),
        ..READ
    },
    Route {
        paths: &["/metrics"],
        needs: Needs::Named,
        summary: "What the server counts, as Prometheus reads it.",
        handler: || get(app::metrics_page),
        ..READ
    },
    Route {
        paths: &["/version"],
        summary: "The program's version, and whether it can open connections of its own.",
        answer: Some(
            r#"{"type":"object","properties":{"version":{"type":"string"},"egress":{"enum":["locked","open"]}},"required":["version","egress"]}"#,
        ),
        handler: || get(app::version),
        ..READ
    },
    Route {
        paths: &["/openapi.json"],
        summary: "What is published of all routes, as an OpenAPI document.",
        answer: Some(r#"{"type":"object","required":["openapi","info","paths"]}"#),
        handler: || get(app::openapi),
        ..READ
    },
];

const ANSWER: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"object":{"type":"string"},"created":{"type":"integer"},"model":{"type":"string"},"system_fingerprint":{"type":"string"},"choices":{"type":"array","items":{"type":"object","required":["index","finish_reason"]}},"usage":{"type":"object"}},"required":["id","object","created","model","choices","usage"]}"#;
const RESPONSE_ANSWER: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"object":{"const":"response"},"created_at":{"type":"integer"},"status":{"enum":["completed","incomplete","failed","cancelled","in_progress"]},"model":{"type":"string"},"output":{"type":"array"},"usage":{"type":["object","null"]}},"required":["id","object","created_at","status","model","output","usage"]}"#;
const INPUT_TOKENS: &str = r#"{"type":"object","properties":{"object":{"const":"response.input_tokens"},"input_tokens":{"type":"integer"}},"required":["object","input_tokens"]}"#;
const DELETED: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"object":{"type":"string"},"deleted":{"const":true}},"required":["id","object","deleted"]}"#;
const ITEMS: &str = r#"{"type":"object","properties":{"object":{"const":"list"},"data":{"type":"array","items":{"type":"object"}},"has_more":{"type":"boolean"}},"required":["object","data","has_more"]}"#;
const FILE: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"object":{"const":"file"},"bytes":{"type":"integer"},"created_at":{"type":"integer"},"filename":{"type":"string"},"purpose":{"enum":["batch","batch_output"]},"status":{"const":"processed"}},"required":["id","object","bytes","created_at","filename","purpose","status"]}"#;
const FILES: &str = r#"{"type":"object","properties":{"object":{"const":"list"},"data":{"type":"array","items":{"type":"object","required":["id","object","bytes","created_at","filename","purpose","status"]}},"has_more":{"type":"boolean"}},"required":["object","data","has_more"]}"#;
const BATCH: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"object":{"const":"batch"},"endpoint":{"type":"string"},"input_file_id":{"type":"string"},"completion_window":{"const":"24h"},"status":{"enum":["validating","failed","in_progress","finalizing","completed","expired","cancelling","cancelled"]},"output_file_id":{"type":["string","null"]},"error_file_id":{"type":["string","null"]},"created_at":{"type":"integer"},"request_counts":{"type":"object","required":["total","completed","failed"]}},"required":["id","object","endpoint","input_file_id","completion_window","status","created_at","request_counts"]}"#;
const BATCH_LIST: &str = r#"{"type":"object","properties":{"object":{"const":"list"},"data":{"type":"array","items":{"type":"object","required":["id","object","status"]}},"has_more":{"type":"boolean"}},"required":["object","data","has_more"]}"#;
const VECTORS: &str = r#"{"type":"object","properties":{"object":{"const":"list"},"data":{"type":"array","items":{"type":"object","properties":{"object":{"const":"embedding"},"index":{"type":"integer"},"embedding":{"type":["array","string"]}},"required":["object","index","embedding"]}},"model":{"type":"string"},"usage":{"type":"object"}},"required":["object","data","model","usage"]}"#;
const RANKS: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"model":{"type":"string"},"results":{"type":"array","items":{"type":"object","properties":{"index":{"type":"integer"},"relevance_score":{"type":"number"}},"required":["index","relevance_score"]}},"usage":{"type":"object"}},"required":["id","model","results","usage"]}"#;
const MESSAGE: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"type":{"const":"message"},"role":{"const":"assistant"},"model":{"type":"string"},"content":{"type":"array"},"stop_reason":{"type":["string","null"]},"usage":{"type":"object"}},"required":["id","type","role","model","content","stop_reason","usage"]}"#;
const COUNT: &str = r#"{"type":"object","properties":{"input_tokens":{"type":"integer"}},"required":["input_tokens"]}"#;
const OLLAMA_CHAT: &str = r#"{"type":"object","properties":{"model":{"type":"string"},"created_at":{"type":"string"},"message":{"type":"object","required":["role","content"]},"done":{"const":true},"done_reason":{"type":"string"}},"required":["model","created_at","message","done","done_reason"]}"#;
const OLLAMA_TEXT: &str = r#"{"type":"object","properties":{"model":{"type":"string"},"created_at":{"type":"string"},"response":{"type":"string"},"done":{"const":true},"done_reason":{"type":"string"}},"required":["model","created_at","response","done","done_reason"]}"#;
const OLLAMA_VECTORS: &str = r#"{"type":"object","properties":{"model":{"type":"string"},"embeddings":{"type":"array","items":{"type":"array","items":{"type":"number"}}}},"required":["model","embeddings"]}"#;
const OLLAMA_VECTOR: &str = r#"{"type":"object","properties":{"embedding":{"type":"array","items":{"type":"number"}}},"required":["embedding"]}"#;
const OLLAMA_SHOW: &str = r#"{"type":"object","properties":{"details":{"type":"object"},"model_info":{"type":"object"},"capabilities":{"type":"array","items":{"type":"string"}}},"required":["details","model_info","capabilities"]}"#;
const OLLAMA_LIST: &str = r#"{"type":"object","properties":{"models":{"type":"array","items":{"type":"object","required":["name","model","size","digest","details"]}}},"required":["models"]}"#;
const OLLAMA_STATUS: &str =
    r#"{"type":"object","properties":{"status":{"type":"string"}},"required":["status"]}"#;
const TOKENS: &str = r#"{"type":"object","properties":{"tokens":{"type":"array","items":{"type":["integer","object"]}}},"required":["tokens"]}"#;
const CONTENT: &str =
    r#"{"type":"object","properties":{"content":{"type":"string"}},"required":["content"]}"#;
const PROMPT: &str =
    r#"{"type":"object","properties":{"prompt":{"type":"string"}},"required":["prompt"]}"#;
const LIST: &str = r#"{"type":"object","properties":{"data":{"type":"array","items":{"type":"object","required":["id"]}}},"required":["data"]}"#;
const CARD: &str = r#"{"type":"object","properties":{"id":{"type":"string"}},"required":["id"]}"#;
const RECEIPT: &str = r#"{"type":"object","properties":{"receipt":{"type":"object","required":["version","id","time","engine","model","request","parameters","prompts","choices"]},"node":{"type":"string"},"checks":{"type":"string"},"signature":{"type":"string"}},"required":["receipt","node","checks","signature"]}"#;
const STATUS: &str =
    r#"{"type":"object","properties":{"status":{"type":"string"}},"required":["status"]}"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_field_is_declared_twice_and_none_is_required_that_is_not_read() {
        for body in all().filter_map(|route| route.body.as_ref()) {
            let mut names = HashSet::new();
            for field in body.all_fields() {
                assert!(names.insert(field.name), "{}", field.name);
            }
            for name in body.required {
                let field = body.all_fields().find(|field| field.name == *name);
                assert!(field.is_some_and(Field::is_read), "{name}");
            }
        }
    }

    /// The check before the router knows the path only.
    #[test]
    fn what_a_route_needs_does_not_depend_on_its_method() {
        for route in all() {
            for path in route.paths {
                let found = at(path).map(|of| (of.needs, of.paths));
                assert_eq!(found, Some((route.needs, route.paths)), "{path}");
            }
        }
        let public: Vec<&str> = all()
            .filter(|route| route.needs == Needs::Nothing)
            .flat_map(|route| route.paths.iter().copied())
            .collect();
        let expected = "/ /health /ready /web/{*id} /login /login/callback /logout /session";
        assert_eq!(public.join(" "), expected);
        let is_admin = |path: &&str| path.starts_with("/admin/");
        let admin = all().filter(|route| route.paths.iter().any(is_admin));
        assert!(admin.into_iter().all(|route| route.needs == Needs::Admin));
    }
}
