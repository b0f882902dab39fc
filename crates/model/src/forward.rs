//! The forward pass: one for all architectures, written once, in the order of the papers.
//!
//! Per layer it hands five pieces of work to the threads when decoding: q, k and v in one;
//! attention; the output projection onto the residual; gate and up in one; down onto the residual.
//! A row of the batch never sees another but through the kv cache of its own sequence, so its bits
//! depend on its sequence alone.

use crate::arch::Activation;
use crate::scratch::{Angles, Buffers};
use crate::weights::{PackedLayer, PackedLinear};
use crate::{Config, Model, Scratch};
use kernels::{
    Activations, AttentionSpec, Cpu, HeadShape, KvPool, KvShape, Needs, OutMode, PAGE_LEN,
    Precision, Product, Query, STRIP_ROWS,
};

/// One sequence's next tokens in a batch.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    /// The token ids, each below `n_vocab`.
    pub tokens: &'a [u32],
    /// The position of the first one; all before it are in the kv cache already.
    pub start_pos: u32,
    /// The sequence's page table; covers `start_pos + tokens.len()` positions.
    pub pages: &'a [u32],
    /// For which of the tokens logits are wanted.
    pub logits: LogitsFor,
}

/// For which tokens of a slice logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitsFor {
    /// For none: a slice of a prompt that goes on.
    None,
    /// For the last one.
    Last,
    /// For all of them.
    All,
    /// For all behind the first so many.
    From(usize),
}

/// Of which ids logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitsOf<'a> {
    /// Of all.
    All,
    /// Of these, each below `n_vocab`.
    Ids(&'a [u32]),
}

impl Model {
    /// One pass over a batch. Writes the kv cache and returns logits `[n_outputs, n_vocab]`, the
    /// outputs in the order of the slices and their tokens.
    ///
    /// The bits of a row depend on its sequence alone: not on the batch, the split of a prompt
    /// into slices, the threads or the instruction set.
    ///
    /// # Panics
    /// If a token is not below `n_vocab`, `pages` does not cover the slice's positions or `kv` was
    /// made for another shape: the caller checks requests, so reaching this is a bug.
    pub fn forward<'s>(
        &self,
        batch: &[Slice<'_>],
        kv: &mut KvPool,
        scratch: &'s mut Scratch,
    ) -> &'s [f32] {
        self.forward_layers(batch, kv, scratch);
        self.forward_output(LogitsOf::All, scratch)
    }

    /// As [`Model::forward`], without logits. Those of the same outputs are what
    /// [`Model::forward_output`] gives next; so what is wanted of them may be found meanwhile.
    ///
    /// # Panics
    /// As [`Model::forward`].
    pub fn forward_layers(&self, batch: &[Slice<'_>], kv: &mut KvPool, scratch: &mut Scratch) {
        let shape = KvShape { format: kv.shape().format, ..self.kv_shape() };
        assert_eq!(kv.shape(), shape, "forward: kv cache of another model");
        let mut rows = scratch.take_rows();
        for slice in batch {
            slice.check(self.config.n_vocab);
            let positions = (slice.start_pos..).take(slice.tokens.len());
            rows.extend(positions.map(|pos| Query { pos, pages: slice.pages }));
        }
        let n_outputs = batch.iter().map(Slice::n_outputs).sum();
        scratch.begin_pass(rows.len(), n_outputs);
        if !rows.is_empty() {
            let b = &mut scratch.buffers(&self.config);
            self.embed(batch, b.hidden);
            self.find_angles(&rows, b);
            for (layer_idx, layer) in self.weights.layers.iter().enumerate() {
                self.attend(layer_idx, layer, &rows, kv, b);
                self.feed_forward(layer, b);
            }
            self.take_outputs(batch, b);
        }
        scratch.put_rows(rows);
    }

    /// The logits `[n_outputs, n_vocab]` of the last [`Model::forward_layers`]. Where they are
    /// wanted of few ids, those of others are zero, or have their value.
    ///
    /// # Panics
    /// If an id is not below `n_vocab`.
    pub fn forward_output<'s>(&self, of: LogitsOf<'_>, scratch: &'s mut Scratch) -> &'s [f32] {
        let mut strips = std::mem::take(&mut scratch.strips);
        let b = &mut scratch.buffers(&self.config);
        let n_logits = b.logits.len();
        if n_logits > 0 {
            self.find_logits(of, &mut strips, b);
        }
        scratch.strips = strips;
        scratch.logits(n_logits)
    }

    /// `hidden = embedding[token] * scale`.
    fn embed(&self, batch: &[Slice<'_>], hidden: &mut [f32]) {
        let tokens = batch.iter().flat_map(|slice| slice.tokens);
        for (row, &token) in hidden.chunks_exact_mut(self.config.n_embd).zip(tokens) {
            self.weights.token_embd.dequantize_row(token as usize, row);
        }
        if let Some(scale) = self.config.embedding_scale {
            self.cpu.scale(hidden, scale);
        }
    }

    /// The angles by which rope turns each row, once for all layers.
    fn find_angles(&self, rows: &[Query<'_>], b: &mut Buffers<'_>) {
        let positions = || rows.iter().map(|row| row.pos);
        self.rope.fill(positions(), b.angles.cos, b.angles.sin);
        if let Some(rope) = &self.rope_windowed {
            rope.fill(positions(), b.angles_windowed.cos, b.angles_windowed.sin);
        }
    }

    /// `hidden += W_o attention(rope(norm(W_q x)), rope(norm(W_k x)), W_v x)`, `x = norm(hidden)`.
    fn attend(
        &self,
        layer_idx: usize,
        layer: &PackedLayer,
        rows: &[Query<'_>],
        kv: &mut KvPool,
        b: &mut Buffers<'_>,
    ) {
        let Config { n_embd, n_heads, n_kv_heads, head_dim, rms_eps, .. } = self.config;
        let cpu = &*self.cpu;
        let window = self.config.window(layer_idx);
        let Angles { cos, sin } = if window.is_some() { &b.angles_windowed } else { &b.angles };

        let x = b.activations.set(rows.len(), n_embd);
        cpu.rms_norm(b.hidden, &layer.attn_norm, rms_eps, x);
        self.project(
            b.activations,
            [(&layer.q, &mut *b.q), (&layer.k, &mut *b.k), (&layer.v, &mut *b.v)],
        );
        for (x, norm, n_heads) in
            [(&mut *b.q, &layer.q_norm, n_heads), (&mut *b.k, &layer.k_norm, n_kv_heads)]
        {
            if let Some(norm) = norm {
                cpu.rms_norm_in_place(x, norm, rms_eps);
            }
            let heads = HeadShape { n_heads, head_dim };
            cpu.rope(x, heads, self.config.spec.rope_pairing, cos, sin);
        }
        cpu.kv_write(kv, layer_idx, rows, b.k, b.v);
        let spec = AttentionSpec {
            n_heads,
            scale: self.config.attention_scale,
            soft_cap: self.config.attention_soft_cap,
            window,
        };
        let x = b.activations.set(rows.len(), n_heads * head_dim);
        cpu.attention(kv, layer_idx, &spec, rows, b.q, x);
        self.add_block(&layer.attn_output, layer.attn_post_norm.as_deref(), b);
    }

    /// `hidden += W_down (act(W_gate x) * W_up x)`, `x = norm(hidden)`.
    fn feed_forward(&self, layer: &PackedLayer, b: &mut Buffers<'_>) {
        let n_tokens = b.hidden.len() / self.config.n_embd;
        let cpu = &*self.cpu;
        let x = b.activations.set(n_tokens, self.config.n_embd);
        cpu.rms_norm(b.hidden, &layer.ffn_norm, self.config.rms_eps, x);
        self.project(b.activations, [(&layer.gate, &mut *b.gate), (&layer.up, &mut *b.up)]);
        let x = b.activations.set(n_tokens, self.config.n_ff);
        match self.config.spec.activation {
            Activation::Silu => cpu.silu_mul(b.gate, b.up, x),
            Activation::GeluTanh => cpu.gelu_tanh_mul(b.gate, b.up, x),
        }
        self.add_block(&layer.down, layer.ffn_post_norm.as_deref(), b);
    }

    fn project<const N: usize>(
        &self,
        x: &mut Activations,
        products: [(&PackedLinear, &mut [f32]); N],
    ) {
        project(&self.cpu, self.precision(), x, products);
    }

    /// The end of a block: `hidden += post_norm(W x + bias)`.
    fn add_block(&self, linear: &PackedLinear, post_norm: Option<&[f32]>, b: &mut Buffers<'_>) {
        let Some(post_norm) = post_norm else {
            // Nothing stands between the product and the residual: one piece of work does both.
            let weight = &linear.weight;
            self.cpu.quantise(b.activations, Needs::of(&[weight], self.precision()));
            let work = Product { weight, out: &mut *b.hidden, mode: OutMode::Add };
            self.cpu.matmul(b.activations, &mut [work]);
            if let Some(bias) = &linear.bias {
                self.cpu.add_bias(b.hidden, bias);
            }
            return;
        };
        self.project(b.activations, [(linear, &mut *b.block)]);
        self.cpu.rms_norm_in_place(b.block, post_norm, self.config.rms_eps);
        self.cpu.add(b.hidden, b.block);
    }

    /// Puts the rows of which logits are wanted side by side.
    fn take_outputs(&self, batch: &[Slice<'_>], b: &mut Buffers<'_>) {
        let n_embd = self.config.n_embd;
        let mut outputs = b.output_rows.chunks_exact_mut(n_embd);
        let mut rows = b.hidden.chunks_exact(n_embd);
        for slice in batch {
            let rows = rows.by_ref().take(slice.tokens.len());
            for (row, output) in rows.skip(slice.tokens.len() - slice.n_outputs()).zip(&mut outputs)
            {
                output.copy_from_slice(row);
            }
        }
    }

    /// `logits = cap(W_output norm(hidden))`.
    ///
    /// The matrix is a good part of a small model. Its strips that have a wanted id are computed
    /// alone where they are few, so that what is saved is much more than the order of reading
    /// costs.
    fn find_logits(&self, of: LogitsOf<'_>, strips: &mut Vec<u32>, b: &mut Buffers<'_>) {
        const PART_MAX: usize = 4;
        let Config { n_embd, n_vocab, rms_eps, .. } = self.config;
        let x = b.activations.set(b.output_rows.len() / n_embd, n_embd);
        self.cpu.rms_norm(b.output_rows, &self.weights.output_norm, rms_eps, x);
        let weight = self.weights.output.as_ref().unwrap_or(&self.weights.token_embd);
        self.cpu.quantise(b.activations, Needs::of(&[weight], self.precision()));
        let mut is_few = false;
        if let LogitsOf::Ids(ids) = of {
            strips.clear();
            strips.extend(ids.iter().map(|id| id / STRIP_ROWS as u32));
            strips.sort_unstable();
            strips.dedup();
            is_few = strips.len() * PART_MAX * STRIP_ROWS <= n_vocab;
        }
        if is_few {
            b.logits.fill(0.0);
        }
        let work = Product { weight, out: &mut *b.logits, mode: OutMode::Store };
        match is_few {
            true => self.cpu.matmul_strips(b.activations, work, strips),
            false => self.cpu.matmul(b.activations, &mut [work]),
        }
        if let Some(cap) = self.config.logit_soft_cap {
            self.cpu.soft_cap(b.logits, cap);
        }
    }
}

/// Products of matrices that share their input, in one piece of work: `out = W x + bias`.
pub(crate) fn project<const N: usize>(
    cpu: &Cpu,
    precision: Precision,
    x: &mut Activations,
    mut products: [(&PackedLinear, &mut [f32]); N],
) {
    let needs = Needs::of(&products.each_ref().map(|(linear, _)| &linear.weight), precision);
    cpu.quantise(x, needs);
    let mut work = products.each_mut().map(|(linear, out)| Product {
        weight: &linear.weight,
        out,
        mode: OutMode::Store,
    });
    cpu.matmul(x, &mut work);
    for (linear, out) in products {
        if let Some(bias) = &linear.bias {
            cpu.add_bias(out, bias);
        }
    }
}

impl Slice<'_> {
    fn n_outputs(&self) -> usize {
        match self.logits {
            LogitsFor::None => 0,
            LogitsFor::Last => 1.min(self.tokens.len()),
            LogitsFor::All => self.tokens.len(),
            LogitsFor::From(first) => self.tokens.len().saturating_sub(first),
        }
    }

    fn check(&self, n_vocab: usize) {
        let n_positions = self.start_pos as usize + self.tokens.len();
        assert!(
            n_positions <= self.pages.len() * PAGE_LEN,
            "forward: {n_positions} positions in {} pages",
            self.pages.len()
        );
        for &token in self.tokens {
            assert!((token as usize) < n_vocab, "forward: token {token} of {n_vocab}");
        }
    }
}
