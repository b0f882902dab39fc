//! From a file to a model ready to run: checks first, allocations last.

use crate::chat::{Chat, ChatEnd};
use crate::check::invalid;
use crate::draft::StepCost;
use crate::error::EngineError;
use crate::host;
use crate::keeper::Keeper;
use crate::memory::{Sizes, plan_pages};
use crate::options::{EngineOptions, ModelInfo};
use crate::page_file::{Origin, model_digest};
use crate::recommended::Recommended;
use crate::scheduler::{PREFILL_CHUNK, SCORED_CHUNK};
use crate::worker::{Limits, Runner};
use gguf::{Gguf, Metadata};
use jiff::civil::DateTime;
use kernels::{Cpu, Isa, KvPool, KvShape, PAGE_LEN};
use model::{Model, Plan, Scratch};
use sha2::{Digest as _, Sha256};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Instant;
use text::{ChatTemplate, TemplateError, Tokenizer};

/// The parts of an engine.
pub(crate) struct Loaded {
    pub(crate) runner: Runner,
    pub(crate) limits: Limits,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: Template,
    pub(crate) info: ModelInfo,
    pub(crate) keeper: Option<Keeper>,
}

/// The model's chat template. A broken one must not keep the model from completing text, so its
/// error waits for the first chat.
pub(crate) enum Template {
    None,
    Ready(Box<ChatTemplate>),
    /// The source; compiling it again tells what is wrong with it.
    Broken(String),
}

/// Loads the model at `path`.
pub(crate) fn load(path: &Path, options: &EngineOptions) -> Result<Loaded, EngineError> {
    let began = Instant::now();
    let n_threads = options.resolve_n_threads()?;
    let isa = options.resolve_isa()?;
    let gguf = Gguf::open(path)?;
    let tokenizer = Tokenizer::from_gguf(gguf.metadata())?;
    let template = read_template(gguf.metadata())?;
    let plan = Model::plan(&gguf)?;
    let limits = plan_limits(&plan, &tokenizer, options, isa)?;

    let kv_shape = kv_shape(&plan, options);
    let keeper = keeper(options, &gguf, kv_shape, n_threads);
    let cpu = Arc::new(Cpu::new(isa, n_threads));
    // A system short of threads gives fewer than asked for.
    let n_threads = cpu.n_threads();
    let (model, digest) = hashed(options, &gguf, || Model::load(&gguf, cpu));
    let model = Arc::new(model?);
    let config = model.config();
    let info = ModelInfo {
        architecture: config.architecture.to_string(),
        name: gguf.metadata().str("general.name")?.map(str::to_string),
        digest,
        n_ctx: limits.n_ctx as u32,
        n_ctx_train: config.n_ctx_train as u32,
        n_vocab: limits.n_vocab,
        n_layers: config.n_layers,
        weight_bytes: model.weight_bytes(),
        kv_bytes: u64::from(limits.n_pages) * plan.kv_page_bytes(options.kv_format),
        kv_format: options.kv_format,
        scratch_bytes: scratch_bytes(&plan, limits.max_sequences, &limits.cost, options),
        max_sequences: limits.max_sequences,
        isa,
        n_threads,
        recommended: Recommended::of(gguf.metadata()),
        load_time: began.elapsed(),
    };
    let kv = KvPool::new(kv_shape, limits.n_pages as usize);
    let runner = Runner { model, kv, scratch: Scratch::new() };
    Ok(Loaded { runner, limits, tokenizer, template, info, keeper })
}

/// What keeps pages over restarts, where that is wanted. The bytes that are loaded name the model,
/// not what bears the file's name by then.
fn keeper(
    options: &EngineOptions,
    gguf: &Gguf,
    shape: KvShape,
    n_threads: usize,
) -> Option<Keeper> {
    let store = options.prefix_store.clone()?;
    let parts: Vec<&[u8]> = gguf.parts().collect();
    let model = model_digest(options.model_digest.as_deref(), &parts, n_threads);
    Some(Keeper::new(store, Origin { model, shape }))
}

/// What `load` gives, and what tells the files from all others: where that is not known and wanted,
/// it is found out beside it.
fn hashed<T>(
    options: &EngineOptions,
    gguf: &Gguf,
    load: impl FnOnce() -> T,
) -> (T, Option<String>) {
    if options.model_digest.is_some() || !options.is_hashed {
        return (load(), options.model_digest.clone());
    }
    let hash = move || gguf.parts().map(sha256).collect::<String>();
    thread::scope(|scope| {
        match thread::Builder::new().name("hash".to_string()).spawn_scoped(scope, hash) {
            Ok(hashing) => {
                let loaded = load();
                (loaded, Some(hashing.join().unwrap_or_else(|panic| resume_unwind(panic))))
            }
            // A system short of threads does one after the other.
            Err(_) => (load(), Some(hash())),
        }
    })
}

/// In hexadecimal digits.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_template(metadata: &Metadata) -> Result<Template, EngineError> {
    Ok(match metadata.str("tokenizer.chat_template")? {
        None => Template::None,
        Some(source) => match ChatTemplate::new(source) {
            Ok(template) => Template::Ready(Box::new(template)),
            Err(_) => Template::Broken(source.to_string()),
        },
    })
}

impl Template {
    /// The template, or why there is none to chat with.
    pub(crate) fn ready(&self) -> Result<&ChatTemplate, EngineError> {
        match self {
            Self::Ready(template) => Ok(template),
            Self::None => Err(EngineError::NoChatTemplate),
            Self::Broken(source) => match ChatTemplate::new(source) {
                Err(error) => Err(EngineError::Template(error)),
                Ok(_) => unreachable!("the same source did not compile when the model was opened"),
            },
        }
    }
}

/// Of the largest step that the scheduler makes, and of pages on their way to the disk and back.
fn scratch_bytes(
    plan: &Plan,
    max_sequences: usize,
    cost: &StepCost,
    options: &EngineOptions,
) -> u64 {
    let n_outputs = max_sequences.max(cost.max_rows) + SCORED_CHUNK;
    let buffer_bytes = match options.prefix_store {
        Some(_) => Keeper::buffer_bytes(kv_shape(plan, options)),
        None => 0,
    };
    plan.scratch_bytes(PREFILL_CHUNK + max_sequences, n_outputs).saturating_add(buffer_bytes)
}

fn kv_shape(plan: &Plan, options: &EngineOptions) -> KvShape {
    KvShape { format: options.kv_format, ..plan.config.kv_shape() }
}

/// The worker's bounds, the memory check included.
fn plan_limits(
    plan: &Plan,
    tokenizer: &Tokenizer,
    options: &EngineOptions,
    isa: Isa,
) -> Result<Limits, EngineError> {
    let cost = options.step_cost(isa);
    let max_sequences = options.resolve_max_sequences()?;
    let n_ctx = options.resolve_n_ctx(plan.config.n_ctx_train)?;
    let sizes = Sizes {
        weight_bytes: plan.weight_bytes,
        scratch_bytes: scratch_bytes(plan, max_sequences, &cost, options),
        kv_page_bytes: plan.kv_page_bytes(options.kv_format),
        n_pages_ctx: n_ctx.div_ceil(PAGE_LEN) as u64,
        max_sequences: max_sequences as u64,
    };
    let n_pages = plan_pages(sizes, options, host::available_memory())?;
    // Rows of the embedding are often padded beyond the tokens that exist.
    let n_vocab = plan.config.n_vocab.min(tokenizer.n_vocab());
    if n_vocab == 0 {
        return Err(invalid("tokenizer", "no tokens", "at least one token".to_string()));
    }
    let max_waiting_tokens = options.resolve_max_waiting_tokens(n_ctx)?;
    Ok(Limits { n_ctx, n_vocab, max_sequences, max_waiting_tokens, n_pages, cost })
}

/// Renders and encodes a conversation; see [`Engine::chat_prompt`](crate::Engine::chat_prompt).
pub(crate) fn chat_prompt(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    chat: &Chat<'_>,
    now: DateTime,
) -> Result<Vec<u32>, TemplateError> {
    let text_of = |id: Option<u32>| id.map_or("", |id| tokenizer.token_text(id));
    let input = text::ChatInput {
        messages: chat.messages,
        tools: chat.tools,
        add_generation_prompt: true,
        kwargs: chat.kwargs,
        bos_token: text_of(tokenizer.bos()),
        eos_token: text_of(tokenizer.eos()),
        now,
    };
    let text = match chat.end {
        ChatEnd::Answer => template.render(&input)?,
        ChatEnd::Continue => template.render_open(&input)?,
    };
    Ok(with_bos(tokenizer, &text))
}

/// Encodes `text`, special tokens parsed, with a BOS in front where the model wants one and the
/// text does not begin with it.
pub(crate) fn with_bos(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut ids = tokenizer.encode(text, text::Special::Parse);
    if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.adds_bos())
        && ids.first() != Some(&bos)
    {
        ids.insert(0, bos);
    }
    ids
}
