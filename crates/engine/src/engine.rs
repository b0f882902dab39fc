//! The handle that callers hold: open a model, hand it requests, ask about it.

use crate::answer::Listener;
use crate::chat::{Chat, ChatEnd};
use crate::check::{check, invalid};
use crate::cores::Member;
use crate::error::EngineError;
use crate::host;
use crate::load::{self, Template};
use crate::options::{EngineOptions, ModelInfo};
use crate::queue::{Queue, Submission};
use crate::request::{Event, Priority, Request};
use crate::stats::EngineStats;
use crate::worker::Worker;
use jiff::civil::DateTime;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Instant;
use text::{
    Banned, ChatTemplate, Constraint, Constraints, Grammar, MAX_BANNED, MAX_BANNED_BYTES, Tokenizer,
};

/// A loaded model and the thread that runs it. Cheap to clone; dropping the last clone (and the
/// last [`Generation`]) stops it and fails what still runs.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Arc<Queue>,
    member: Arc<Member>,
    tokenizer: Arc<Tokenizer>,
    constraints: OnceLock<Constraints>,
    template: Template,
    info: ModelInfo,
    next_id: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Loads the model at `path` and starts its thread.
    ///
    /// # Errors
    /// A damaged or unsupported file, options out of range, or a model that does not fit into
    /// memory ([`EngineError::NotEnoughMemory`] says the arithmetic).
    pub fn open(path: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        let loaded = load::load(path, options)?;
        let queue = Arc::new(Queue::new(loaded.limits.max_waiting_tokens));
        let member = Arc::new(options.join_cores(loaded.info.n_threads));
        let tokenizer = Arc::new(loaded.tokenizer);
        let worker =
            Worker::new(Arc::clone(&queue), Arc::clone(&tokenizer), loaded.runner, loaded.limits)
                .keeping(loaded.keeper)
                .at(Arc::clone(&member));
        let thread = std::thread::Builder::new()
            .name("engine".to_string())
            .spawn(move || worker.run())
            .map_err(EngineError::Thread)?;
        let inner = Inner {
            queue,
            member,
            tokenizer,
            constraints: OnceLock::new(),
            template: loaded.template,
            info: loaded.info,
            next_id: AtomicU64::new(1),
            thread: Some(thread),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// The model's chat template; `None` for base models, and where the template is broken:
    /// [`Engine::chat_prompt`] tells which.
    pub fn template(&self) -> Option<&ChatTemplate> {
        match &self.inner.template {
            Template::Ready(template) => Some(template),
            Template::None | Template::Broken(_) => None,
        }
    }

    /// What runs here.
    pub fn info(&self) -> &ModelInfo {
        &self.inner.info
    }

    /// Renders `messages` (a JSON array of chat messages) with the model's template, ready for an
    /// answer, and encodes the result, special tokens parsed. A BOS token is put in front where
    /// the model wants one and the template did not write it.
    ///
    /// The rendered text is encoded as one, as transformers and llama.cpp do, so the text of a
    /// message that spells a control token (`<|im_end|>`) becomes that token: whoever passes on
    /// text of strangers and minds that must take such spellings out first.
    ///
    /// # Errors
    /// [`EngineError::NoChatTemplate`] for base models, [`EngineError::Template`] when the
    /// template is broken or refuses the messages.
    pub fn chat_prompt(
        &self,
        messages: &serde_json::Value,
        tools: Option<&serde_json::Value>,
        kwargs: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Vec<u32>, EngineError> {
        self.render_chat(&Chat { messages, tools, kwargs, end: ChatEnd::Answer })
    }

    /// As [`Engine::chat_prompt`], with a choice of where the prompt ends.
    ///
    /// # Errors
    /// As there; of a message that cannot be continued too.
    pub fn render_chat(&self, chat: &Chat<'_>) -> Result<Vec<u32>, EngineError> {
        self.render_chat_at(chat, host::local_time())
    }

    /// As [`Engine::render_chat`], for a template that shows the time: it is `now`.
    ///
    /// # Errors
    /// As there.
    pub fn render_chat_at(&self, chat: &Chat<'_>, now: DateTime) -> Result<Vec<u32>, EngineError> {
        let template = self.inner.template.ready()?;
        Ok(load::chat_prompt(self.tokenizer(), template, chat, now)?)
    }

    /// Encodes `text` for plain completion, special tokens parsed, with a BOS token in front
    /// where the model wants one and the text does not begin with it.
    pub fn text_prompt(&self, text: &str) -> Vec<u32> {
        load::with_bos(self.tokenizer(), text)
    }

    /// Compiles what an answer must look like, for [`Request::constraint`], on the caller's thread:
    /// milliseconds, and the first time of an engine tens of them. The latest are kept.
    ///
    /// # Errors
    /// [`EngineError::Constraint`] for a grammar that is malformed, too large or asks for what
    /// cannot be enforced.
    pub fn constraint(&self, grammar: &Grammar) -> Result<Constraint, EngineError> {
        let Inner { constraints, tokenizer, .. } = &*self.inner;
        let constraints = match constraints.get() {
            Some(constraints) => constraints,
            None => {
                // Built twice where two callers come at once; one of them is kept.
                let built = Constraints::new(Arc::clone(tokenizer))?;
                constraints.get_or_init(|| built)
            }
        };
        Ok(constraints.compile(grammar)?)
    }

    /// Looks texts up in the vocabulary, for [`Request::banned`], on the caller's thread.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for too many, empty or too long ones.
    pub fn banned(&self, texts: &[String]) -> Result<Banned, EngineError> {
        Banned::new(self.tokenizer(), texts).ok_or_else(|| {
            let value = format!("{} texts", texts.len());
            let expected = format!("at most {MAX_BANNED}, each of 1 to {MAX_BANNED_BYTES} bytes");
            invalid("banned", value, expected)
        })
    }

    /// Takes a request; its events go to `on_event`, on the engine thread.
    ///
    /// `on_event` must not block: every other request waits for it. A channel without a bound is
    /// fine, since `max_tokens` and the context bound what one request can send. A panic in it
    /// ends its own request, and nothing more is sent to it.
    ///
    /// # Errors
    /// [`EngineError::ContextOverflow`], [`EngineError::Invalid`], [`EngineError::Overloaded`],
    /// [`EngineError::Stopped`]; then nothing runs and no event comes.
    pub fn submit(
        &self,
        request: Request,
        on_event: impl FnMut(Event) + Send + 'static,
    ) -> Result<Handle, EngineError> {
        let (submission, handle) = self.prepare(request, on_event)?;
        self.push(vec![submission])?;
        Ok(handle)
    }

    /// As [`Engine::submit`], for several requests of one caller that are of use together only:
    /// all of them are taken, or none. Where nobody else waits they are not too many tokens.
    ///
    /// # Errors
    /// As [`Engine::submit`], for the first that cannot be taken.
    pub fn submit_all<F: FnMut(Event) + Send + 'static>(
        &self,
        requests: impl IntoIterator<Item = (Request, F)>,
    ) -> Result<Vec<Handle>, EngineError> {
        let prepared = requests.into_iter().map(|(request, f)| self.prepare(request, f));
        let (submissions, handles) =
            prepared.collect::<Result<(Vec<Submission>, Vec<Handle>), _>>()?;
        self.push(submissions)?;
        Ok(handles)
    }

    fn push(&self, submissions: Vec<Submission>) -> Result<(), EngineError> {
        let is_urgent =
            |submission: &Submission| submission.request.priority == Priority::Interactive;
        let is_urgent = submissions.iter().any(is_urgent);
        self.inner.queue.push_all(submissions, || {
            // The step that waits for its turn may be of batch requests.
            if is_urgent {
                self.inner.member.raise();
            }
        })
    }

    fn prepare(
        &self,
        request: Request,
        on_event: impl FnMut(Event) + Send + 'static,
    ) -> Result<(Submission, Handle), EngineError> {
        check(&request, self.info().n_vocab, self.info().n_ctx)?;
        let handle = Handle {
            id: self.inner.next_id.fetch_add(1, Ordering::Relaxed),
            cancelled: Arc::new(AtomicBool::new(false)),
        };
        let submission = Submission {
            seed: request.sampling.seed.unwrap_or_else(host::random_seed),
            request,
            listener: Listener::new(on_event),
            cancelled: Arc::clone(&handle.cancelled),
            submitted_at: Instant::now(),
        };
        Ok((submission, handle))
    }

    /// As [`Engine::submit`], with the events as an iterator that ends after `Done`.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub fn generate(&self, request: Request) -> Result<Generation, EngineError> {
        let (sender, events) = channel();
        let handle = self.submit(request, move |event| {
            // A receiver that is gone has cancelled; the rest is for nobody.
            let _ = sender.send(event);
        })?;
        Ok(Generation { events, handle, _engine: self.clone() })
    }

    /// Whether the engine has ended and takes nothing more: every request is refused with
    /// [`EngineError::Stopped`] from then on.
    pub fn is_stopped(&self) -> bool {
        self.inner.queue.is_stopped()
    }

    /// Whether somebody else holds this engine too.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.inner) > 1
    }

    /// Requests that wait for their first seat now.
    pub fn n_waiting(&self) -> usize {
        self.inner.queue.n_waiting()
    }

    /// What it has at work now, and what it has done since it was opened.
    pub fn stats(&self) -> EngineStats {
        self.inner.queue.counters.stats(self.n_waiting())
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("info", self.info()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
        self.member.retire();
        if let Some(thread) = self.thread.take()
            // A callback that held the last handle drops it on the engine thread itself.
            && thread.thread().id() != std::thread::current().id()
        {
            // Its panics were caught and reported; the memory is free once it has ended.
            let _ = thread.join();
        }
    }
}

/// A running request. Dropping it does not cancel.
#[derive(Debug, Clone)]
pub struct Handle {
    id: u64,
    cancelled: Arc<AtomicBool>,
}

impl Handle {
    /// Ends the request within one step; its `Done` says `Cancelled`. Does nothing once it ended.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Number of this request, unique within its engine, counted from 1.
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// The events of one request, in order. Keeps the engine running; dropping it cancels the
/// request.
#[derive(Debug)]
pub struct Generation {
    events: Receiver<Event>,
    handle: Handle,
    _engine: Engine,
}

impl Generation {
    /// The request's handle, to cancel it from elsewhere.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Iterator for Generation {
    type Item = Event;

    /// Waits for the next event; `None` after `Done`, when the engine has dropped its end.
    fn next(&mut self) -> Option<Event> {
        self.events.recv().ok()
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.handle.cancel();
    }
}
