//! Models that make vectors of texts: open one, embed texts, compare them.
//!
//! An [`Embedder`] has no thread and no queue: it computes on the caller's thread (and the workers
//! of its own pool), one batch at a time. Texts are batched by their tokens within fixed bounds,
//! and callers who come together take turns batch by batch, as do models that share
//! [`Cores`](crate::Cores). A vector depends on its text alone.

use crate::cores::Member;
use crate::error::EngineError;
use crate::host;
use crate::memory::{Sizes, plan_pages};
use crate::options::{EngineOptions, ModelInfo};
use crate::recommended::Recommended;
use crate::request::Priority;
use gguf::Gguf;
use kernels::{Cpu, KvFormat, PAGE_LEN};
use model::{Encoder, EncoderPlan, EncoderScratch, Pooling};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;
use text::{Special, Tokenizer};

/// Tokens of a batch, unless one text alone has more: enough to keep the products at full speed,
/// and few enough that a caller waits some tenths of a second for another's batch.
const MAX_BATCH_TOKENS: usize = 1024;
/// Pages of keys and values of a batch, unless one text alone takes more: a short text takes a
/// whole page, so this bounds the short texts of a batch.
const MAX_BATCH_PAGES: usize = 64;
/// As [`MAX_BATCH_TOKENS`], for a batch that had to wait for other models, which wait for it then.
/// A choice, as for prompts.
const BATCH_TOKENS_BESIDE: usize = MAX_BATCH_TOKENS / 4;

/// A loaded encoder. Cheap to clone; dropping the last clone frees it.
#[derive(Clone)]
pub struct Embedder {
    inner: Arc<Inner>,
}

struct Inner {
    encoder: Encoder,
    tokenizer: Tokenizer,
    info: ModelInfo,
    /// Held for one batch.
    scratch: Mutex<EncoderScratch>,
    /// Whose batch is next.
    turns: Turns,
    /// The model's place at the cores.
    member: Arc<Member>,
}

impl Embedder {
    /// Loads the encoder at `path`. Of the options those of threads, instruction set and memory
    /// count; the others are about sequences, which an encoder has none of.
    ///
    /// # Errors
    /// As [`Engine::open`](crate::Engine::open); a model that writes text is refused.
    pub fn open(path: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        let began = Instant::now();
        let n_threads = options.resolve_n_threads()?;
        let isa = options.resolve_isa()?;
        let gguf = Gguf::open(path)?;
        let tokenizer = Tokenizer::from_gguf(gguf.metadata())?;
        let plan = Encoder::plan(&gguf)?;
        let n_pages = max_batch_pages(plan.config.n_ctx);
        let scratch_bytes = scratch_bytes(&plan);
        let sizes = Sizes {
            weight_bytes: plan.weight_bytes,
            scratch_bytes,
            kv_page_bytes: plan.kv_page_bytes(),
            n_pages_ctx: n_pages as u64,
            max_sequences: 1,
        };
        plan_pages(sizes, options, host::available_memory())?;
        let encoder = Encoder::load(&gguf, Arc::new(Cpu::new(isa, n_threads)))?;
        let config = encoder.config();
        let info = ModelInfo {
            architecture: config.architecture.to_owned(),
            name: gguf.metadata().str("general.name")?.map(str::to_owned),
            digest: options.model_digest.clone(),
            n_ctx: config.n_ctx as u32,
            n_ctx_train: config.n_ctx as u32,
            // Rows of the embedding may be padded beyond the tokens that exist.
            n_vocab: config.n_vocab.min(tokenizer.n_vocab()),
            n_layers: config.n_layers,
            weight_bytes: encoder.weight_bytes(),
            kv_bytes: plan.kv_page_bytes().saturating_mul(n_pages as u64),
            kv_format: KvFormat::F16,
            scratch_bytes,
            max_sequences: 1,
            isa,
            n_threads: encoder.cpu().n_threads(),
            recommended: Recommended::default(),
            load_time: began.elapsed(),
        };
        let (scratch, turns) = (Mutex::default(), Turns::default());
        let member = Arc::new(options.join_cores(info.n_threads));
        Ok(Self { inner: Arc::new(Inner { encoder, tokenizer, info, scratch, turns, member }) })
    }

    /// What runs here.
    pub fn info(&self) -> &ModelInfo {
        &self.inner.info
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// Elements of a vector.
    pub fn n_embd(&self) -> usize {
        self.inner.encoder.config().n_embd
    }

    /// How the tokens of a text become its one vector.
    pub fn pooling(&self) -> Pooling {
        self.inner.encoder.config().pooling
    }

    /// The tokens of a text between those that begin and end one (`[CLS]` and `[SEP]`). Control
    /// tokens written out in the text are text.
    pub fn tokens(&self, text: &str) -> Vec<u32> {
        let tokenizer = self.tokenizer();
        let mut tokens = tokenizer.encode(text, Special::Plain);
        if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.adds_bos()) {
            tokens.insert(0, bos);
        }
        tokens.extend(tokenizer.eos().filter(|_| tokenizer.adds_eos()));
        tokens
    }

    /// Cuts a text to the model's context, where it is longer; its last token (`[SEP]`) stays
    /// last.
    pub fn truncate(&self, tokens: &mut Vec<u32>) {
        let n_ctx = self.info().n_ctx as usize;
        if tokens.len() > n_ctx {
            tokens.drain(n_ctx - 1..tokens.len() - 1);
        }
    }

    /// Whether [`Embedder::embed`] would take these texts.
    ///
    /// # Errors
    /// [`EngineError::TextTooLong`] and [`EngineError::Invalid`] name the first text that it would
    /// not, counted from 0.
    pub fn check(&self, texts: &[Vec<u32>]) -> Result<(), EngineError> {
        let &ModelInfo { n_ctx, n_vocab, .. } = self.info();
        for (text_idx, text) in texts.iter().enumerate() {
            let n_tokens = text.len();
            if n_tokens > n_ctx as usize {
                return Err(EngineError::TextTooLong { text_idx, n_tokens, n_ctx });
            }
            let unknown = text.iter().find(|&&token| token as usize >= n_vocab);
            let (value, expected) = match unknown {
                Some(token) => {
                    (format!("token {token} of text {text_idx}"), format!("ids below {n_vocab}"))
                }
                None if n_tokens == 0 => {
                    (format!("text {text_idx} without tokens"), "at least one token".to_owned())
                }
                None => continue,
            };
            return Err(EngineError::Invalid { field: "texts", value, expected });
        }
        Ok(())
    }

    /// The vectors of some texts (see [`Embedder::tokens`]) in their order, each
    /// [`Embedder::n_embd`] long and of length 1.
    ///
    /// # Errors
    /// As [`Embedder::check`]; nothing is cut unasked.
    pub fn embed(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, EngineError> {
        self.embed_while(texts, Priority::Interactive, || true)
    }

    /// As [`Embedder::embed`], at the cores with this priority, and asks before each batch whether
    /// to go on.
    ///
    /// # Errors
    /// As [`Embedder::embed`]; [`EngineError::Stopped`] where the answer was no.
    pub fn embed_while(
        &self,
        texts: &[Vec<u32>],
        priority: Priority,
        go_on: impl Fn() -> bool,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        self.check(texts)?;
        let _rest = Rest(&self.inner);
        let mut vectors = Vec::with_capacity(texts.len());
        let mut rest = texts;
        while !rest.is_empty() {
            let _turn = self.inner.turns.take();
            let at_cores = self.inner.member.take(priority);
            let at_cores = at_cores.expect("an embedder takes turns as long as it is here");
            if !go_on() {
                return Err(EngineError::Stopped { reason: "nobody waits any more".to_owned() });
            }
            let n_most = match at_cores.has_waited {
                true => BATCH_TOKENS_BESIDE,
                false => MAX_BATCH_TOKENS,
            };
            let (batch, others) = rest.split_at(batch_len(rest, n_most));
            rest = others;
            let batch: Vec<&[u32]> = batch.iter().map(Vec::as_slice).collect();
            let mut scratch = self.inner.scratch.lock().unwrap_or_else(PoisonError::into_inner);
            let found = self.inner.encoder.encode(&batch, &mut scratch);
            vectors.extend(found.chunks_exact(self.n_embd()).map(<[f32]>::to_vec));
        }
        let is_broken = |vector: &Vec<f32>| vector.iter().any(|x| !x.is_finite());
        match vectors.iter().position(is_broken) {
            Some(text_idx) => Err(EngineError::NoNumbers { text_idx }),
            None => Ok(vectors),
        }
    }

    /// How near some documents are to a query: the cosines of their vectors, -1 to 1.
    ///
    /// # Errors
    /// As [`Embedder::embed`]; the query is text 0, the documents follow.
    pub fn rerank(&self, query: &[u32], documents: &[Vec<u32>]) -> Result<Vec<f32>, EngineError> {
        let texts: Vec<Vec<u32>> =
            [query.to_vec()].into_iter().chain(documents.iter().cloned()).collect();
        let vectors = self.embed(&texts)?;
        let (query, documents) = vectors.split_first().expect("the query is one");
        Ok(documents.iter().map(|document| similarity(query, document)).collect())
    }

    /// Whether somebody else holds this embedder too.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.inner) > 1
    }
}

/// A lock that is given in the order in which it was asked for, which the system's is not: whoever
/// has many batches would have them all before another has one.
#[derive(Default)]
struct Turns {
    state: Mutex<Queue>,
    over: Condvar,
}

#[derive(Default)]
struct Queue {
    n_taken: u64,
    n_over: u64,
}

struct Turn<'a>(&'a Turns);

/// Behind a caller's last batch nobody need wait for the model, unless others have batches for it.
struct Rest<'a>(&'a Inner);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        if !self.0.turns.is_taken() {
            self.0.member.rest();
        }
    }
}

impl Turns {
    fn take(&self) -> Turn<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = state.n_taken;
        state.n_taken += 1;
        while state.n_over < mine {
            state = self.over.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Turn(self)
    }

    fn is_taken(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.n_over < state.n_taken
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).n_over += 1;
        self.0.over.notify_all();
    }
}

impl fmt::Debug for Embedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedder").field("info", self.info()).finish_non_exhaustive()
    }
}

/// The cosine of two vectors of length 1; summed in the order of their elements.
///
/// # Panics
/// If they differ in length.
pub fn similarity(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "similarity: vectors of different models");
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    // Rounding may leave it a little outside; a zero has no sign.
    sum.clamp(-1.0, 1.0) as f32 + 0.0
}

/// How many of the first texts make a batch of at most `n_most` tokens; at least one.
fn batch_len(texts: &[Vec<u32>], n_most: usize) -> usize {
    let (mut n_tokens, mut n_pages) = (0, 0);
    let fits = |text: &&Vec<u32>| {
        n_tokens += text.len();
        n_pages += text.len().div_ceil(PAGE_LEN);
        n_tokens <= n_most && n_pages <= MAX_BATCH_PAGES
    };
    texts.iter().take_while(fits).count().max(1)
}

fn max_batch_pages(n_ctx: usize) -> usize {
    MAX_BATCH_PAGES.max(n_ctx.div_ceil(PAGE_LEN))
}

/// Of the largest batch, its keys and values left out.
fn scratch_bytes(plan: &EncoderPlan) -> u64 {
    plan.scratch_bytes(MAX_BATCH_TOKENS.max(plan.config.n_ctx), MAX_BATCH_PAGES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Embedder {
        let options = EngineOptions { n_threads: Some(2), ..EngineOptions::default() };
        Embedder::open(&testkit::minilm_q8_0(), &options).unwrap()
    }

    #[test]
    fn batches_are_bounded_by_tokens_and_pages() {
        let texts = |lens: &[usize]| lens.iter().map(|&n| vec![7; n]).collect::<Vec<_>>();
        for (lens, expected) in [
            (vec![1], 1),
            (vec![5000, 1], 1),
            (vec![1000, 24, 1], 2),
            (vec![1; 100], MAX_BATCH_PAGES),
            (vec![65; 40], 15),
        ] {
            assert_eq!(batch_len(&texts(&lens), MAX_BATCH_TOKENS), expected, "{lens:?}");
        }
    }

    #[test]
    fn texts_are_refused_by_number_and_never_cut_unasked() {
        let embedder = open();
        let long = embedder.tokens(&"word ".repeat(600));
        let error = embedder.embed(&[vec![101, 102], long.clone()]).unwrap_err().to_string();
        assert_eq!(error, "text 1 has 602 tokens, expected at most the 512 of the model's context");
        let error = embedder.embed(&[vec![101, 99_999]]).unwrap_err().to_string();
        assert_eq!(error, "texts: token 99999 of text 0, expected ids below 30522");
        let error = embedder.embed(&[vec![]]).unwrap_err().to_string();
        assert_eq!(error, "texts: text 0 without tokens, expected at least one token");
        let mut cut = long.clone();
        embedder.truncate(&mut cut);
        assert_eq!((cut.len(), cut[510], cut[511]), (512, long[510], long[601]));
        assert_eq!(embedder.embed(&[cut.clone()]).unwrap()[0].len(), embedder.n_embd());
        let same = cut.clone();
        embedder.truncate(&mut cut);
        assert_eq!(cut, same);
        let stopped = embedder.embed_while(&[cut], Priority::Batch, || false).unwrap_err();
        assert!(matches!(stopped, EngineError::Stopped { .. }), "{stopped}");
    }

    #[test]
    fn callers_and_batches_change_no_bit() {
        let embedder = open();
        let words = ["own", "rent", "tool", "a longer text of several words", "x"];
        let text = |idx: usize| embedder.tokens(&format!("{} {idx}", words[idx % words.len()]));
        let texts: Vec<Vec<u32>> = (0..150).map(text).collect();
        let expected = embedder.embed(&texts).unwrap();
        let alone =
            texts[40..45].iter().map(|text| embedder.embed(std::slice::from_ref(text)).unwrap());
        assert_eq!(alone.collect::<Vec<_>>().concat(), expected[40..45]);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert_eq!(embedder.embed(&texts).unwrap(), expected));
            }
        });
    }

    #[test]
    fn what_answers_the_query_comes_nearest() {
        let embedder = open();
        let documents = [
            "Bananas are rich in potassium.",
            "To change your password, open the settings and choose security.",
            "The fox jumps over the dog.",
        ]
        .map(|text| embedder.tokens(text));
        let query = embedder.tokens("How do I reset my password?");
        let scores = embedder.rerank(&query, &documents).unwrap();
        assert!(scores[1] > 0.5 && scores[0] < 0.3 && scores[2] < 0.3, "{scores:?}");
        assert!(embedder.rerank(&query, &[]).unwrap().is_empty());
        assert_eq!(embedder.rerank(&query, std::slice::from_ref(&query)).unwrap(), [1.0]);
    }

    #[test]
    fn each_kind_of_model_is_opened_as_what_it_is() {
        let options =
            EngineOptions { memory_limit_bytes: Some(1 << 20), ..EngineOptions::default() };
        let short = Embedder::open(&testkit::minilm_q8_0(), &options).unwrap_err();
        assert!(matches!(short, EngineError::NotEnoughMemory(_)), "{short}");
        let error = Embedder::open(&testkit::smollm2(), &EngineOptions::default()).unwrap_err();
        assert!(error.to_string().contains("makes no embeddings"), "{error}");
        let error = crate::Engine::open(&testkit::minilm_q8_0(), &EngineOptions::default());
        assert!(error.unwrap_err().to_string().contains("makes embeddings and writes no text"));
    }
}
