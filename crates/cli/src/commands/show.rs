//! `freehold show`: what a model file says, and what running it takes.
//!
//! Everything in a file is hostile text, so it is escaped and cut before a terminal sees it.

use engine::Recommended;
use gguf::{Array, Gguf, Value as GgufValue};
use kernels::{KvFormat, PAGE_LEN};
use model::{Encoder, Model, is_encoder};
use serde_json::{Map, Value, json};

use crate::commands::Subcommand;
use crate::commands::list;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::locate::{self, Chosen, Missing};
use crate::numbers;
use crate::terminal;

/// The context that memory is said for, as `run` chooses it when nothing is asked for.
const N_CTX_DEFAULT: usize = 8192;
/// Longest text value shown.
const MAX_SHOWN_CHARS: usize = 100;
pub(crate) const TEMPLATE_KEY: &str = "tokenizer.chat_template";

/// Show a model: metadata, tensors, licence, memory needed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold show smollm2-135m
  freehold show ./my.gguf --ctx 2048
  freehold show smollm2-135m --template
  freehold show ./my.gguf --json")]
pub(crate) struct Show {
    /// Installed name or GGUF file
    #[arg(value_name = "NAME|FILE")]
    model: String,
    /// Print the chat template and nothing else
    #[arg(long, conflicts_with = "json")]
    template: bool,
    /// Positions of the context that memory is computed for (default: the model's, at most 8192)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ctx: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for Show {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let chosen = locate::model(context, &self.model, Missing::Fail)?;
        let file = Gguf::open(&chosen.path).map_err(|error| chosen.blame(error))?;
        let template = file.metadata().str(TEMPLATE_KEY)?;
        if self.template {
            let Some(template) = template else {
                let kind = if is_encoder(&file) { "makes embeddings" } else { "is a base model" };
                let message = format!("{}: no chat template, it {kind}", chosen.name);
                return Err(Failure::new(Exit::NotFound, message).into());
            };
            return terminal::print(template);
        }
        let memory = Memory::of(&file, self.ctx);
        if self.json {
            return terminal::print_json(&to_json(&chosen, &file, &memory));
        }
        terminal::print(&to_text(&chosen, &file, &memory))
    }
}

/// What running the model takes, or why it cannot be run.
struct Memory(Result<Need, String>);

struct Need {
    n_ctx: usize,
    n_ctx_train: usize,
    weight_bytes: u64,
    kv_bytes: u64,
}

impl Memory {
    fn of(file: &Gguf, n_ctx: Option<u32>) -> Self {
        if is_encoder(file) {
            return Self(Encoder::plan(file).map_err(|error| error.to_string()).map(|plan| {
                let n_ctx = plan.config.n_ctx;
                // A text's keys and values are gone with it.
                Need { n_ctx, n_ctx_train: n_ctx, weight_bytes: plan.weight_bytes, kv_bytes: 0 }
            }));
        }
        Self(Model::plan(file).map_err(|error| error.to_string()).map(|plan| {
            let n_ctx_train = plan.config.n_ctx_train;
            let n_ctx = n_ctx.map_or(n_ctx_train.min(N_CTX_DEFAULT), |n| n as usize);
            let n_pages = n_ctx.div_ceil(PAGE_LEN) as u64;
            Need {
                n_ctx,
                n_ctx_train,
                weight_bytes: plan.weight_bytes,
                kv_bytes: plan.kv_page_bytes(KvFormat::default()).saturating_mul(n_pages),
            }
        }))
    }

    fn to_json(&self) -> Value {
        match &self.0 {
            Ok(need) => json!({
                "n_ctx": need.n_ctx,
                "n_ctx_train": need.n_ctx_train,
                "weight_bytes": need.weight_bytes,
                "kv_bytes": need.kv_bytes,
            }),
            Err(reason) => json!({ "cannot_run": reason }),
        }
    }
}

/// Bytes and tensors of each block format, in file order of their first use.
pub(crate) fn formats(file: &Gguf) -> Vec<(&'static str, usize, u64)> {
    let mut formats: Vec<(&'static str, usize, u64)> = Vec::new();
    for tensor in file.tensors() {
        let name = tensor.ty.name();
        let idx = formats.iter().position(|(known, ..)| *known == name).unwrap_or_else(|| {
            formats.push((name, 0, 0));
            formats.len() - 1
        });
        formats[idx].1 += 1;
        formats[idx].2 += tensor.n_bytes() as u64;
    }
    formats
}

/// Elements of all tensors.
pub(crate) fn n_parameters(file: &Gguf) -> u64 {
    file.tensors().iter().map(|tensor| tensor.n_elements() as u64).fold(0, u64::saturating_add)
}

fn to_json(chosen: &Chosen, file: &Gguf, memory: &Memory) -> Value {
    let metadata: Map<String, Value> =
        file.metadata().iter().map(|(key, value)| (key.to_owned(), json_of(value))).collect();
    let formats: Vec<Value> = formats(file)
        .into_iter()
        .map(|(name, n_tensors, n_bytes)| {
            json!({ "format": name, "tensors": n_tensors, "bytes": n_bytes })
        })
        .collect();
    json!({
        "name": chosen.name,
        "path": chosen.path.display().to_string(),
        "bytes": file.n_bytes(),
        "gguf_version": file.version(),
        "installed": chosen.installed.as_ref().map(list::to_json),
        "n_parameters": n_parameters(file),
        "tensors": file.tensors().len(),
        "formats": formats,
        "memory": memory.to_json(),
        "metadata": metadata,
    })
}

fn to_text(chosen: &Chosen, file: &Gguf, memory: &Memory) -> String {
    let mut out = Lines::default();
    out.line("name", &shown(&chosen.name));
    out.line("file", &chosen.path.display().to_string());
    out.line("size", &format!("{} bytes", numbers::grouped(file.n_bytes())));
    if let Some(installed) = &chosen.installed {
        out.line("sha256", &installed.files[0].sha256.to_string());
        out.line("source", &installed.source);
        if let Some(key) = &installed.signed_by {
            out.line("signed by", key);
        }
    }
    out.line("licence", &licence(chosen, file));
    out.line("parameters", &numbers::grouped(n_parameters(file)));
    let formats: Vec<String> = formats(file)
        .into_iter()
        .map(|(name, n, n_bytes)| format!("{name} ({n} tensors, {})", numbers::bytes(n_bytes)))
        .collect();
    out.line("formats", &formats.join(", "));
    match &memory.0 {
        Ok(need) => {
            out.line("context", &format!("{} trained", numbers::grouped(need.n_ctx_train as u64)));
            out.line(
                "memory",
                &format!(
                    "{} (weights {} + kv cache of {} positions {}), and scratch",
                    numbers::bytes(need.weight_bytes.saturating_add(need.kv_bytes)),
                    numbers::bytes(need.weight_bytes),
                    numbers::grouped(need.n_ctx as u64),
                    numbers::bytes(need.kv_bytes),
                ),
            );
        }
        Err(reason) => out.line("cannot run", reason),
    }
    match file.metadata().str(TEMPLATE_KEY) {
        Ok(Some(template)) => out.line(
            "template",
            &format!("{} bytes (--template prints it)", numbers::grouped(template.len() as u64)),
        ),
        _ if is_encoder(file) => out.line("template", "none: it makes embeddings"),
        _ => out.line("template", "none: a base model, it continues text"),
    }
    let recommended = Recommended::of(file.metadata());
    if !recommended.is_empty() {
        let told = format!("{recommended} (for requests to the server that do not say)");
        out.line("sampling", &told);
    }
    for why in &recommended.unused {
        out.line("not followed", &shown(why));
    }
    out.text.push_str("metadata\n");
    for (key, value) in file.metadata().iter().filter(|(key, _)| *key != TEMPLATE_KEY) {
        out.text.push_str(&format!("  {} = {}\n", shown(key), text_of(value)));
    }
    out.text
}

/// The store's word first, then the file's own.
pub(crate) fn licence(chosen: &Chosen, file: &Gguf) -> String {
    if let Some(installed) = &chosen.installed {
        let url = installed.licence.url.as_ref().map(|url| format!(" ({url})"));
        return format!("{}{}", installed.licence.id, url.unwrap_or_default());
    }
    match file.metadata().str("general.license") {
        Ok(Some(id)) => format!("{} (says the file)", shown(id)),
        _ => store::Licence::UNKNOWN.to_owned(),
    }
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn line(&mut self, name: &str, value: &str) {
        self.text.push_str(&format!("{name:<11} {value}\n"));
    }
}

/// Text from a file, fit for a terminal: control characters escaped, cut to a readable length.
fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(MAX_SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN_CHARS).is_some() {
        out.push('…');
    }
    out
}

fn text_of(value: &GgufValue) -> String {
    match value {
        GgufValue::String(text) => shown(text),
        GgufValue::Array(array) => summary(array),
        scalar => match json_of(scalar) {
            Value::Null => "not a number".to_owned(),
            value => value.to_string(),
        },
    }
}

fn summary(array: &Array) -> String {
    format!("array of {}", numbers::grouped(array.len() as u64))
}

/// Scalars as they are; of arrays (vocabularies of 100,000 tokens) the length.
pub(crate) fn json_of(value: &GgufValue) -> Value {
    match value {
        GgufValue::String(text) => json!(text),
        GgufValue::Bool(value) => json!(value),
        GgufValue::U8(value) => json!(value),
        GgufValue::I8(value) => json!(value),
        GgufValue::U16(value) => json!(value),
        GgufValue::I16(value) => json!(value),
        GgufValue::U32(value) => json!(value),
        GgufValue::I32(value) => json!(value),
        // By way of its shortest text, so that 0.00001 does not become 9.999999747378752e-6.
        GgufValue::F32(value) => json!(value.to_string().parse::<f64>().unwrap_or(f64::NAN)),
        GgufValue::U64(value) => json!(value),
        GgufValue::I64(value) => json!(value),
        GgufValue::F64(value) => json!(value),
        GgufValue::Array(array) => json!({ "array_len": array.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_short_form() {
        assert_eq!(text_of(&GgufValue::F32(1e-5)), "0.00001");
        assert_eq!(text_of(&GgufValue::F32(f32::NAN)), "not a number");
        assert_eq!(text_of(&GgufValue::U64(u64::MAX)), "18446744073709551615");
    }

    #[test]
    fn hostile_text_cannot_steer_a_terminal() {
        assert_eq!(shown("a\x1b[31mb\n"), "a\\u{1b}[31mb\\n");
        let long = "x".repeat(1000);
        assert_eq!(shown(&long).chars().count(), MAX_SHOWN_CHARS + 1);
    }
}
