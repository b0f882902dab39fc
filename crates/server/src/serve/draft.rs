//! A receipt in the making: what is known of an answer before it begins, and its tokens as they
//! come. Nothing is hashed before the end.

use super::prepare::Prepared;
use super::unused;
use crate::VERSION;
use crate::app::Arrival;
use crate::dialects::Paths;
use crate::receipts::{
    self, AskedRequest, Parameters, PromptTokens, Receipt, ReceiptBuild, ReceiptChoice,
    ReceiptModel, ReceiptTime, finish_word,
};
use engine::{FinishReason, NUMERICS_VERSION, Request, TokenInfo};

/// An answer that is or was to have a receipt.
pub(super) struct Draft {
    /// All but the choices.
    receipt: Receipt,
    choices: Vec<Choice>,
}

/// What one alternative has come to.
struct Choice {
    seed: u64,
    tokens: Vec<u32>,
    /// `None`: it goes on.
    finish: Option<&'static str>,
}

impl Draft {
    /// Of a request that is ready, whose choices ask for what is in `like`, each with its seed.
    pub(super) fn new<R>(
        arrival: &Arrival,
        asked: AskedRequest,
        prepared: &Prepared<R>,
        like: &Request,
    ) -> Self {
        let list = |paths: &Paths| {
            let header = unused::list(paths);
            header.map_or_else(String::new, |list| list.to_str().unwrap_or_default().to_owned())
        };
        let notes = &prepared.notes;
        let receipt = Receipt {
            version: receipts::VERSION,
            id: String::new(),
            time: ReceiptTime { unix_us: arrival.at_us, local: arrival.now.to_string() },
            engine: build(prepared),
            model: model(prepared),
            request: asked,
            parameters: Parameters::of(like),
            adapted: notes.adapted.iter().map(str::to_owned).collect(),
            ignored: list(&notes.ignored),
            unused: list(&notes.unused),
            prompts: prepared.prompts.iter().map(|prompt| PromptTokens::new(prompt)).collect(),
            choices: Vec::new(),
        };
        Self { receipt, choices: Vec::new() }
    }

    /// The same of the answer `id`, whose choices have these seeds.
    pub(super) fn begin(mut self, id: String, seeds: &[u64]) -> Self {
        self.receipt.id = id;
        let choice = |&seed| Choice { seed, tokens: Vec::new(), finish: None };
        self.choices = seeds.iter().map(choice).collect();
        self
    }

    /// The answer's id.
    pub(super) fn id(&self) -> &str {
        &self.receipt.id
    }

    /// More of a choice came.
    pub(super) fn push(&mut self, choice_idx: usize, tokens: &[TokenInfo]) {
        self.choices[choice_idx].tokens.extend(tokens.iter().map(|token| token.id));
    }

    /// A choice has ended.
    pub(super) fn end(&mut self, choice_idx: usize, reason: &FinishReason) {
        self.choices[choice_idx].finish = finish_word(reason);
    }

    /// The receipt; `cut` is why choices ended that did not come to their end.
    pub(super) fn finish(self, cut: &'static str) -> Receipt {
        let n_choices = self.choices.len();
        let choice = |Choice { seed, tokens, finish }| {
            ReceiptChoice::new(seed, finish.unwrap_or(cut), &tokens, n_choices)
        };
        let choices = self.choices.into_iter().map(choice).collect();
        Receipt { choices, ..self.receipt }
    }

    /// The receipt of an answer that was to be as that of `other`: choices which were cut off there
    /// are cut there.
    pub(super) fn finish_as(mut self, other: &Receipt) -> Receipt {
        let is_cut = |other: &&ReceiptChoice| !other.is_whole();
        for (own, other) in self.choices.iter_mut().zip(&other.choices) {
            if let Some(cut) = Some(other).filter(is_cut) {
                own.tokens.truncate(usize::try_from(cut.n_tokens).unwrap_or(usize::MAX));
            }
        }
        let mut receipt = self.finish("failed");
        for (own, other) in receipt.choices.iter_mut().zip(&other.choices) {
            if let Some(cut) = Some(other).filter(is_cut) {
                own.finish.clone_from(&cut.finish);
            }
        }
        receipt
    }
}

/// What computes, and how.
fn build<R>(prepared: &Prepared<R>) -> ReceiptBuild {
    let info = prepared.served.engine.info();
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    ReceiptBuild {
        build: format!("freehold {VERSION} {arch}-{os}"),
        numerics: NUMERICS_VERSION,
        kv: info.kv_format.name().to_owned(),
        n_ctx: info.n_ctx,
    }
}

fn model<R>(prepared: &Prepared<R>) -> ReceiptModel {
    let served = &prepared.served;
    let template = served.engine.template();
    ReceiptModel {
        name: served.name.clone(),
        digest: served.digest.clone(),
        lock: served.lock.clone(),
        template: template.map(|template| receipts::sha256(template.source().as_bytes())),
    }
}
