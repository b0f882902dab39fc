//! Sequences, sampler, the step loop and its events: the embeddable library.
//!
//! [`Engine::open`] loads a GGUF file and starts one thread; [`Engine::submit`] hands it a
//! [`Request`] and a callback for its [`Event`]s, [`Engine::generate`] gives them as an iterator.
//! Token ids and text go through here, never HTTP, and nothing is async. Several requests run at
//! once, each with the very tokens that it would get alone. A [`Fleet`] holds several models under
//! one budget of memory. `examples/` has small programs: completion and cancelling, chat, JSON of a
//! fixed shape, several models, a model that is held to a lock.
//!
//! ```no_run
//! use freehold_engine::{Engine, EngineOptions, Event, Request};
//! use std::path::Path;
//!
//! let engine = Engine::open(Path::new("model.gguf"), &EngineOptions::default())?;
//! let prompt = engine.text_prompt("Owning a tool means");
//! for event in engine.generate(Request { prompt, max_tokens: Some(64), ..Request::default() })? {
//!     match event {
//!         Event::Text { text, .. } => print!("{text}"),
//!         Event::Prompt { .. } | Event::Part { .. } => {} // Only where the request asks for them.
//!         Event::Done(done) => println!("\n{:?}, {} tokens", done.reason, done.n_generated),
//!     }
//! }
//! # Ok::<(), freehold_engine::EngineError>(())
//! ```
//!
//! That opens a file by its path, whatever is in it. A model can be opened by the owner's lock too:
//! as `freehold.lock` says that it is, every byte of it hashed while it loads, or not at all. What
//! is not so is refused with the item, what was expected and what was found. The crate that keeps
//! models (`freehold-store`) does that, of which this one knows nothing:
//!
//! ```no_run
//! use freehold_engine::{Engine, EngineOptions, NUMERICS_VERSION};
//! use std::error::Error;
//! use std::path::Path;
//! use store::{Lock, Store};
//!
//! let lock = Lock::read(Path::new("freehold.lock"))?;
//! let store = Store::open(&Store::default_home())?;
//! let engine = lock.open(&store, "smollm2-135m", NUMERICS_VERSION, |path| {
//!     Ok::<_, Box<dyn Error>>(Engine::open(path, &EngineOptions::default())?)
//! })?;
//! # Ok::<(), Box<dyn Error>>(())
//! ```
//!
//! An [`Embedder`] makes vectors of texts instead:
//!
//! ```no_run
//! use freehold_engine::{Embedder, EngineOptions, similarity};
//! use std::path::Path;
//!
//! let embedder = Embedder::open(Path::new("minilm.gguf"), &EngineOptions::default())?;
//! let texts = ["Own your tools.", "Keep what you work with."].map(|text| embedder.tokens(text));
//! let vectors = embedder.embed(&texts)?;
//! println!("{}", similarity(&vectors[0], &vectors[1]));
//! # Ok::<(), freehold_engine::EngineError>(())
//! ```
#![forbid(unsafe_code)]

mod answer;
mod chat;
mod check;
mod constrain;
mod cores;
mod draft;
mod dry;
mod embedder;
mod engine;
mod error;
mod fleet;
mod host;
mod keeper;
mod load;
mod memory;
mod opened;
mod options;
mod pace;
mod page_file;
mod pages;
mod philox;
mod preamble;
mod prefix_store;
mod private_folder;
mod queue;
mod recommended;
mod request;
mod rota;
mod sampler;
mod scheduler;
mod seating;
mod sequence;
mod slots;
mod stats;
mod stop;
mod waiting;
mod weights;
mod worker;

pub use chat::{Chat, ChatEnd};
pub use cores::Cores;
pub use embedder::{Embedder, similarity};
pub use engine::{Engine, Generation, Handle};
pub use error::{EngineError, MemoryNeed, MemoryShortage};
pub use fleet::{
    Fleet, FleetError, FleetModel, FleetState, FleetStatus, Keep, Kept, Opener, Replaced,
};
pub use host::{
    AvailableMemory, Machine, local_time, n_cores, peak_rss_bytes, random_seed, rss_bytes,
};
pub use jiff::civil::DateTime;
pub use kernels::NUMERICS_VERSION;
pub use model::Pooling;
pub use opened::{Opened, Task};
pub use options::{
    DEFAULT_N_CTX, EngineOptions, MAX_SEQUENCES, MAX_THREADS, ModelInfo, Speculation,
};
pub use prefix_store::PrefixStore;
pub use private_folder::PrivateFolder;
pub use queue::MAX_WAITING;
pub use recommended::Recommended;
pub use request::{
    CacheScope, Done, Dry, Event, FinishReason, MAX_DRY_BREAKERS, MAX_LOGIT_BIAS, MAX_LOGPROBS,
    MAX_STOP_BYTES, MAX_STOP_STRINGS, MAX_STOP_TOKENS, Mirostat, Priority, Request, Sampling,
    TokenInfo,
};
pub use scheduler::PREFILL_CHUNK;
pub use stats::EngineStats;
pub use text::{
    Banned, CallGrammar, Calls, Channels, Constraint, ConstraintError, Grammar, LeftOut, MAX_TOOLS,
    Mark, Part, Preamble, Tool, ToolChoice, ToolFormat,
};
pub use weights::greedy;
