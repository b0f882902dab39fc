//! What came back: answers, and what is known of the model that gave them.

use serde::{Deserialize, Serialize};

/// One answer of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// The train of thought before it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    /// Calls of tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// Why it ended, in one word.
    pub finish: String,
    /// Tokens of the prompt.
    pub n_prompt: u64,
    /// Tokens sampled, those of the train of thought included.
    pub n_generated: u64,
    /// From the first step that worked on the prompt to the first token.
    pub prefill_ms: f64,
    /// From the first token to the end.
    pub decode_ms: f64,
    /// What of the request was adapted, or had no effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A call of a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The tool.
    pub name: String,
    /// JSON.
    pub arguments: String,
    /// Whether it came to its end.
    pub is_complete: bool,
}

impl Answer {
    /// Whether both say the same, however long they took.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let said = |answer: &Self| {
            (
                answer.text.clone(),
                answer.reasoning.clone(),
                answer.calls.clone(),
                answer.finish.clone(),
            )
        };
        said(self) == said(other)
    }

    /// All of it as one text: the train of thought, the text, the calls.
    pub(crate) fn transcript(&self) -> String {
        let mut parts = Vec::new();
        if !self.reasoning.is_empty() {
            parts.push(format!("(reasoning) {}", self.reasoning));
        }
        if !self.text.is_empty() {
            parts.push(self.text.clone());
        }
        for call in &self.calls {
            let cut = if call.is_complete { "" } else { " (cut off)" };
            parts.push(format!("(call) {}({}){cut}", call.name, call.arguments));
        }
        if self.finish != "stop" {
            parts.push(format!("(ended by {})", self.finish));
        }
        parts.join("\n")
    }
}

/// What became of one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It was answered.
    Answered(Answer),
    /// It was refused, or broke off, for this reason.
    Failed(String),
}

/// A model's answers to all cases.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What the owner calls it.
    pub name: String,
    /// What is known of it.
    pub facts: Facts,
    /// `[n_cases][n_samples]`; of a record, a case that is not in it or was asked otherwise has
    /// none.
    pub outcomes: Vec<Vec<Outcome>>,
}

/// What is known of a model, and of how it ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Facts {
    /// SHA-256 of its file, where that is known.
    pub digest: Option<String>,
    /// Version of the arithmetic.
    pub numerics: u32,
    /// How its weights are written, and their bytes.
    pub quantization: Option<String>,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// Bytes of its packed weights.
    pub weight_bytes: u64,
    /// Bytes of its cache.
    pub kv_bytes: u64,
    /// How long all answers took.
    pub wall_s: f64,
    /// Sequences that were computed together, on average over the steps that generated.
    pub mean_batch: f64,
    /// Part of the time in which the engine computed.
    pub busy: f64,
    /// When the answers are of a record: what it is called.
    pub record: Option<String>,
}
