//! A receipt in the making: what is known of an answer before it begins, and its tokens as they
//! come. Nothing is hashed before the end.

use super::prepare::{Notes, Prepared};
use super::route::Went;
use super::unused;
use crate::VERSION;
use crate::app::Arrival;
use crate::dialects::Paths;
use crate::receipts::{
    self, AskedRequest, Parameters, PromptTokens, Receipt, ReceiptAnswer, ReceiptBuild,
    ReceiptChoice, ReceiptModel, ReceiptRoute, ReceiptThere, ReceiptTime, finish_word,
};
use engine::{FinishReason, NUMERICS_VERSION, Part, Request, TokenInfo};
use sha2::{Digest, Sha256};

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
    /// Over the texts of an upstream's, of which no tokens are known.
    texts: Option<Sha256>,
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
            route: prepared.notes.went.as_ref().map(Went::receipt),
        };
        Self { receipt, choices: Vec::new() }
    }

    /// Of a request to the model `name` that an upstream answers; `like` has what was asked of it.
    pub(super) fn there(
        arrival: &Arrival,
        asked: AskedRequest,
        name: &str,
        like: &Request,
        notes: &Notes,
        there: ReceiptThere,
    ) -> Self {
        let went = notes.went.as_ref().map(Went::receipt);
        let receipt = Receipt {
            version: receipts::VERSION,
            id: String::new(),
            time: ReceiptTime { unix_us: arrival.at_us, local: arrival.now.to_string() },
            // It carried the answer, and computed nothing.
            engine: ReceiptBuild { build: program(), numerics: 0, kv: String::new(), n_ctx: 0 },
            model: ReceiptModel { name: name.to_owned(), digest: None, lock: None, template: None },
            request: asked,
            parameters: Parameters::of(like),
            adapted: notes.adapted.iter().map(str::to_owned).collect(),
            ignored: list(&notes.ignored),
            unused: list(&notes.unused),
            prompts: Vec::new(),
            choices: Vec::new(),
            route: went.map(|went| ReceiptRoute { there: Some(there), ..went }),
        };
        Self { receipt, choices: Vec::new() }
    }

    /// The same of the answer `id`, whose choices have these seeds.
    pub(super) fn begin(mut self, id: String, seeds: &[u64]) -> Self {
        self.receipt.id = id;
        let is_there = self.receipt.route.as_ref().is_some_and(|route| route.there.is_some());
        let texts = is_there.then(Sha256::new);
        let choice =
            |&seed| Choice { seed, tokens: Vec::new(), texts: texts.clone(), finish: None };
        self.choices = seeds.iter().map(choice).collect();
        self
    }

    /// The answer's id.
    pub(super) fn id(&self) -> &str {
        &self.receipt.id
    }

    /// More of a choice came.
    pub(super) fn push(&mut self, choice_idx: usize, part: &Part, tokens: &[TokenInfo]) {
        let choice = &mut self.choices[choice_idx];
        let Some(texts) = &mut choice.texts else {
            choice.tokens.extend(tokens.iter().map(|token| token.id));
            return;
        };
        match part {
            Part::Text(text)
            | Part::Reasoning(text)
            | Part::CallBegin(text)
            | Part::Arguments(text) => texts.update(text),
            Part::CallEnd => {}
        }
    }

    /// A choice has ended.
    pub(super) fn end(&mut self, choice_idx: usize, reason: &FinishReason) {
        self.choices[choice_idx].finish = finish_word(reason);
    }

    /// The receipt; `cut` is why choices ended that did not come to their end.
    pub(super) fn finish(self, cut: &'static str) -> Receipt {
        let Self { mut receipt, choices } = self;
        let n_choices = choices.len();
        let there = receipt.route.as_mut().and_then(|route| route.there.as_mut());
        if let Some(there) = there {
            let answer = |choice: Choice| ReceiptAnswer {
                finish: choice.finish.unwrap_or(cut).to_owned(),
                sha256: receipts::hex(&choice.texts.unwrap_or_default().finalize()),
            };
            there.answers = choices.into_iter().map(answer).collect();
            return receipt;
        }
        let choice = |Choice { seed, tokens, finish, .. }| {
            ReceiptChoice::new(seed, finish.unwrap_or(cut), &tokens, n_choices)
        };
        let choices = choices.into_iter().map(choice).collect();
        Receipt { choices, ..receipt }
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

/// Paths as their header has them.
fn list(paths: &Paths) -> String {
    let header = unused::list(paths);
    header.map_or_else(String::new, |list| list.to_str().unwrap_or_default().to_owned())
}

/// This program, and the machine that it was built for.
fn program() -> String {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("freehold {VERSION} {arch}-{os}")
}

/// What computes, and how.
fn build<R>(prepared: &Prepared<R>) -> ReceiptBuild {
    let info = prepared.served.engine.info();
    ReceiptBuild {
        build: program(),
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
