//! Encoders of the BERT family (Devlin et al. 2018): texts become vectors, `[n_texts, n_embd]`.
//!
//! Tokens, positions and types are embedded, then each layer attends over the whole text and norms
//! behind both blocks; the rows of a text are pooled (Reimers and Gurevych 2019) and the vector
//! gets length 1. Texts are batched by their tokens, without padding. The kernels are those of the
//! decoders: a row never sees another but through the keys and values of its own text, so a
//! vector's bits depend on its text alone, not on the batch, the threads or the instruction set.

mod config;
pub(crate) mod reference;
mod weights;

pub use config::{EncoderConfig, Pooling, is_encoder};

use crate::ModelError;
use crate::forward::project;
use crate::weights::PackedLinear;
use gguf::Gguf;
use kernels::{Activations, AttentionSpec, Cpu, KvPool, Needs, OutMode, PAGE_LEN, Product, Query};
use std::sync::Arc;
use weights::{Norm, Packed, PackedLayer};

/// A loaded encoder. Shared by reference; all state of a pass is in its arguments.
pub struct Encoder {
    config: EncoderConfig,
    weights: Packed,
    weight_bytes: u64,
    cpu: Arc<Cpu>,
}

/// What an encoder will take in memory, known before anything is allocated.
#[derive(Clone, Debug)]
pub struct EncoderPlan {
    /// The encoder's dimensions.
    pub config: EncoderConfig,
    /// Bytes of the packed weights.
    pub weight_bytes: u64,
}

/// Buffers of a pass, kept between passes. Grow to the largest batch seen.
#[derive(Default)]
pub struct EncoderScratch {
    activations: Activations,
    floats: Vec<f32>,
    /// Keys and values of one layer.
    kv: Option<KvPool>,
}

/// The buffers of one pass, cut to its batch. `n` is its count of tokens.
struct Buffers<'s> {
    /// Input of the next matrix product.
    activations: &'s mut Activations,
    kv: &'s mut KvPool,
    /// `[n_texts, n_embd]`.
    vectors: &'s mut [f32],
    /// The residual stream, `[n, n_embd]`.
    hidden: &'s mut [f32],
    /// `[n, n_heads, head_dim]` each.
    q: &'s mut [f32],
    k: &'s mut [f32],
    v: &'s mut [f32],
    /// `[n, n_ff]`.
    up: &'s mut [f32],
}

/// The tokens of a batch: where each is written and how far it sees.
struct Rows<'a> {
    own: Vec<Query<'a>>,
    /// All of a text see up to its last.
    seen: Vec<Query<'a>>,
}

impl Encoder {
    /// Checks `gguf` and packs its weights for `cpu`.
    ///
    /// # Errors
    /// Names the first key or tensor that is missing, out of bounds or not supported.
    pub fn load(gguf: &Gguf, cpu: Arc<Cpu>) -> Result<Self, ModelError> {
        let EncoderPlan { config, weight_bytes } = Self::plan(gguf)?;
        let weights = weights::pack(gguf, &config, &cpu)?;
        Ok(Self { config, weights, weight_bytes, cpu })
    }

    /// What [`Encoder::load`] would take, with all its checks and without its allocations.
    ///
    /// # Errors
    /// As [`Encoder::load`], but for what only packing finds.
    pub fn plan(gguf: &Gguf) -> Result<EncoderPlan, ModelError> {
        let config = EncoderConfig::from_gguf(gguf)?;
        Ok(EncoderPlan { weight_bytes: weights::check(gguf, &config)?, config })
    }

    /// The encoder's dimensions.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Bytes that the packed weights take.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// The instruction set and threads that run this encoder.
    pub fn cpu(&self) -> &Arc<Cpu> {
        &self.cpu
    }

    /// The vectors of some texts (their token ids, `[CLS]` and `[SEP]` included), each of length
    /// 1: `[n_texts, n_embd]`.
    ///
    /// # Panics
    /// If a text is empty or longer than `n_ctx`, or a token is not below `n_vocab`: the caller
    /// checks requests, so reaching this is a bug.
    pub fn encode<'s>(&self, texts: &[&[u32]], scratch: &'s mut EncoderScratch) -> &'s [f32] {
        for text in texts {
            let EncoderConfig { n_ctx, n_vocab, .. } = self.config;
            let n_tokens = text.len();
            assert!((1..=n_ctx).contains(&n_tokens), "encode: {n_tokens} tokens of {n_ctx}");
            let is_known = text.iter().all(|&token| (token as usize) < n_vocab);
            assert!(is_known, "encode: a token beyond the {n_vocab} of the vocabulary");
        }
        if texts.is_empty() {
            return &[];
        }
        let n_pages: usize = texts.iter().map(|text| n_pages(text.len())).sum();
        let pages: Vec<u32> = (0..n_pages as u32).collect();
        let rows = Rows::new(texts, &pages);
        let b = &mut scratch.buffers(&self.config, rows.own.len(), texts.len(), n_pages);
        self.embed(texts, b.hidden);
        for layer in &self.weights.layers {
            self.attend(layer, &rows, b);
            self.feed_forward(layer, b);
        }
        self.pool(texts, b);
        &scratch.floats[..texts.len() * self.config.n_embd]
    }

    /// `hidden = norm(token + position + type)`.
    fn embed(&self, texts: &[&[u32]], hidden: &mut [f32]) {
        let n_embd = self.config.n_embd;
        let types = &self.weights.token_types;
        let mut rest = &mut *hidden;
        for text in texts {
            let (rows, others) = rest.split_at_mut(text.len() * n_embd);
            rest = others;
            let positions = self.weights.position_embd.chunks_exact(n_embd);
            for ((row, &token), position) in rows.chunks_exact_mut(n_embd).zip(*text).zip(positions)
            {
                self.weights.token_embd.dequantize_row(token as usize, row);
                for ((x, position), ty) in row.iter_mut().zip(position).zip(types) {
                    *x += position + ty;
                }
            }
        }
        self.norm(&self.weights.embd_norm, hidden);
    }

    /// `hidden = norm(hidden + W_o attention(W_q x, W_k x, W_v x))`, `x = hidden`.
    fn attend(&self, layer: &PackedLayer, rows: &Rows<'_>, b: &mut Buffers<'_>) {
        let EncoderConfig { n_embd, n_heads, head_dim, .. } = self.config;
        let n_tokens = rows.own.len();
        b.activations.set(n_tokens, n_embd).copy_from_slice(b.hidden);
        project(
            &self.cpu,
            self.config.precision(),
            b.activations,
            [(&layer.q, &mut *b.q), (&layer.k, &mut *b.k), (&layer.v, &mut *b.v)],
        );
        self.cpu.kv_write(b.kv, 0, &rows.own, b.k, b.v);
        let scale = (1.0 / (head_dim as f64).sqrt()) as f32;
        let spec = AttentionSpec { n_heads, scale, soft_cap: None, window: None };
        let x = b.activations.set(n_tokens, n_embd);
        self.cpu.attention(b.kv, 0, &spec, &rows.seen, b.q, x);
        self.add(&layer.attn_output, b);
        self.norm(&layer.attn_norm, b.hidden);
    }

    /// `hidden = norm(hidden + W_down gelu(W_up x))`, `x = hidden`.
    fn feed_forward(&self, layer: &PackedLayer, b: &mut Buffers<'_>) {
        let n_tokens = b.hidden.len() / self.config.n_embd;
        b.activations.set(n_tokens, self.config.n_embd).copy_from_slice(b.hidden);
        let up = [(&layer.up, &mut *b.up)];
        project(&self.cpu, self.config.precision(), b.activations, up);
        self.cpu.gelu(b.up, b.activations.set(n_tokens, self.config.n_ff));
        self.add(&layer.down, b);
        self.norm(&layer.ffn_norm, b.hidden);
    }

    /// `hidden += W x + bias`.
    fn add(&self, linear: &PackedLinear, b: &mut Buffers<'_>) {
        let weight = &linear.weight;
        self.cpu.quantise(b.activations, Needs::of(&[weight], self.config.precision()));
        let work = Product { weight, out: &mut *b.hidden, mode: OutMode::Add };
        self.cpu.matmul(b.activations, &mut [work]);
        if let Some(bias) = &linear.bias {
            self.cpu.add_bias(b.hidden, bias);
        }
    }

    fn norm(&self, norm: &Norm<Vec<f32>>, hidden: &mut [f32]) {
        self.cpu.layer_norm_in_place(hidden, &norm.weight, &norm.bias, self.config.norm_eps);
    }

    /// One vector of length 1 for each text. Sums go in the order of the rows and elements.
    fn pool(&self, texts: &[&[u32]], b: &mut Buffers<'_>) {
        let n_embd = self.config.n_embd;
        let mut hidden = &*b.hidden;
        for (text, vector) in texts.iter().zip(b.vectors.chunks_exact_mut(n_embd)) {
            let (rows, rest) = hidden.split_at(text.len() * n_embd);
            hidden = rest;
            vector.copy_from_slice(&rows[..n_embd]);
            if self.config.pooling == Pooling::Mean {
                // The sum: its length is of no matter to what follows.
                for row in rows.chunks_exact(n_embd).skip(1) {
                    vector.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                }
            }
            let square: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            // All zeros stay zeros.
            let factor = if square > 0.0 { 1.0 / square.sqrt() } else { 0.0 };
            vector.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
        }
    }
}

impl EncoderPlan {
    /// Bytes of scratch that a pass over `n_texts` texts of `n_tokens` tokens takes beside the keys
    /// and values, within a few percent.
    pub fn scratch_bytes(&self, n_tokens: usize, n_texts: usize) -> u64 {
        let n_floats: usize = lens(&self.config, n_tokens, n_texts).iter().sum();
        let widest = self.config.n_ff.max(self.config.n_embd);
        let rows = 2 * size_of::<Query<'static>>() * n_tokens;
        (4 * n_floats + rows) as u64 + crate::scratch::activation_bytes(widest, n_tokens)
    }

    /// Bytes of a page of keys and values: each text of a pass takes one for every
    /// [`kernels::PAGE_LEN`] of its tokens.
    pub fn kv_page_bytes(&self) -> u64 {
        self.config.kv_shape().page_bytes() as u64
    }
}

impl EncoderScratch {
    /// Empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    fn buffers(
        &mut self,
        config: &EncoderConfig,
        n_tokens: usize,
        n_texts: usize,
        n_pages: usize,
    ) -> Buffers<'_> {
        let lens = lens(config, n_tokens, n_texts);
        let n_floats = lens.iter().sum();
        if self.floats.len() < n_floats {
            self.floats.resize(n_floats, 0.0);
        }
        // What another text left in a page is never looked at, and what another encoder made is of
        // another shape.
        let shape = config.kv_shape();
        let fits = |kv: &KvPool| kv.shape() == shape && kv.n_pages() >= n_pages;
        let kv = match self.kv.take_if(|kv| fits(kv)) {
            Some(kv) => kv,
            None => KvPool::new(shape, n_pages),
        };
        let mut rest = self.floats.as_mut_slice();
        let [vectors, hidden, q, k, v, up] = lens.map(|len| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(len);
            rest = tail;
            head
        });
        let kv = self.kv.insert(kv);
        Buffers { activations: &mut self.activations, kv, vectors, hidden, q, k, v, up }
    }
}

/// Lengths of the buffers, in the order in which they lie.
fn lens(config: &EncoderConfig, n_tokens: usize, n_texts: usize) -> [usize; 6] {
    let wide = config.n_embd * n_tokens;
    [config.n_embd * n_texts, wide, wide, wide, wide, config.n_ff * n_tokens]
}

/// Pages of keys and values that a text takes.
fn n_pages(n_tokens: usize) -> usize {
    n_tokens.div_ceil(PAGE_LEN)
}

impl<'a> Rows<'a> {
    /// The rows of `texts`, which take `pages` one after the other.
    fn new(texts: &[&[u32]], pages: &'a [u32]) -> Self {
        let (mut own, mut seen) = (Vec::new(), Vec::new());
        let mut rest = pages;
        for text in texts {
            let (pages, others) = rest.split_at(n_pages(text.len()));
            rest = others;
            let last = text.len() as u32 - 1;
            own.extend((0..=last).map(|pos| Query { pos, pages }));
            seen.extend((0..=last).map(|_| Query { pos: last, pages }));
        }
        Self { own, seen }
    }
}
