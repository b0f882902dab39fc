//! Turns a published encoder (sentence-transformers: safetensors, `config.json`, `vocab.txt`) into
//! one GGUF file, as llama.cpp's converter names and types its parts.
//!
//! The same files give the same bytes, so the catalogue can pin the result by its hash. Everything
//! that comes in is hostile: sizes are checked before anything is made of them, and what would
//! change the vectors and is not known here (another activation, a further module) is refused.

mod blocks;
mod safetensors;

use std::collections::BTreeMap;
use std::fmt;

use gguf::write::Writer;
use gguf::{TensorType, Value};
use serde_json::Value as Json;

use safetensors::SafeTensors;

/// Longest safetensors file that is read, into memory: more than any encoder of this family has.
pub(crate) const WEIGHTS_BYTES_MAX: u64 = 4 << 30;
/// Longest of the other files; a vocabulary of 250,000 tokens has 5 MB.
pub(crate) const TEXT_BYTES_MAX: u64 = 16 << 20;
/// Most layers; published encoders have up to 48.
const N_LAYERS_MAX: u64 = 1024;

/// How the matrices of an imported model are written; vectors, positions and types stay `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportFormat {
    /// IEEE-754 binary16.
    F16,
    /// Blocks of 32 codes of 8 bits with one scale.
    Q8_0,
}

impl ImportFormat {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::F16, Self::Q8_0];

    /// The word behind the `@` of a source.
    pub fn word(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }

    /// The word in a file's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::Q8_0 => "Q8_0",
        }
    }

    /// `general.file_type`.
    fn file_type(self) -> u32 {
        match self {
            Self::F16 => 1,
            Self::Q8_0 => 7,
        }
    }
}

impl fmt::Display for ImportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The published files.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// `model.safetensors`.
    pub(crate) weights: Vec<u8>,
    /// `config.json`.
    pub(crate) config: Vec<u8>,
    /// `config.json` of the pooling module.
    pub(crate) pooling: Vec<u8>,
    /// `vocab.txt`, a token a line.
    pub(crate) vocab: Vec<u8>,
    /// `tokenizer_config.json`, where there is one.
    pub(crate) tokenizer: Option<Vec<u8>>,
    /// `README.md`, where there is one: it may name the licence.
    pub(crate) readme: Option<Vec<u8>>,
}

/// The GGUF file of the model that is called `name`.
///
/// # Errors
/// What is wrong: file, place, value and what was expected.
pub(crate) fn to_gguf(files: &Files, name: &str, format: ImportFormat) -> Result<Vec<u8>, String> {
    let config = Config::read(&files.config)?;
    let mut writer = Writer::new();
    writer
        .metadata("general.architecture", "bert")
        .metadata("general.type", "model")
        .metadata("general.name", name);
    if let Some(licence) = files.readme.as_deref().and_then(licence_of) {
        writer.metadata("general.license", licence);
    }
    writer.metadata("general.file_type", Value::U32(format.file_type()));
    config.write(&mut writer);
    writer
        .metadata("bert.attention.causal", Value::Bool(false))
        .metadata("bert.pooling_type", Value::U32(pooling_type(&files.pooling)?));
    write_vocab(&mut writer, &files.vocab, config.n_vocab)?;
    write_cleaning(&mut writer, files.tokenizer.as_deref())?;
    write_tensors(&mut writer, &files.weights, &config, format)?;
    writer.finish().map_err(|error| error.to_string())
}

/// Where `modules.json` says the pooling module is: the name of its folder.
///
/// # Errors
/// A module that would change the vectors and is not known here; no pooling.
pub(crate) fn pooling_folder(modules: &[u8]) -> Result<String, String> {
    const FILE: &str = "modules.json";
    let modules = parse(FILE, modules)?;
    let mut folder = None;
    for module in modules.as_array().into_iter().flatten() {
        let text = |key: &str| module[key].as_str().unwrap_or_default();
        // Written with or without the modules that the class lies in.
        match text("type").rsplit('.').next().unwrap_or_default() {
            "Transformer" | "Normalize" => {}
            "Pooling" => folder = Some(text("path").to_owned()),
            other => {
                return Err(format!(
                    "{FILE}: module {other:?}, expected Transformer, Pooling and Normalize"
                ));
            }
        }
    }
    let is_plain = |folder: &String| {
        !folder.is_empty() && folder.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    folder.filter(is_plain).ok_or_else(|| format!("{FILE}: expected a Pooling module in a folder"))
}

/// What `config.json` says.
struct Config {
    n_vocab: u64,
    n_embd: u64,
    n_layers: u64,
    n_heads: u64,
    n_ff: u64,
    n_ctx: u64,
    n_types: u64,
    norm_eps: f32,
}

impl Config {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        const FILE: &str = "config.json";
        let json = parse(FILE, bytes)?;
        for (key, expected) in [
            ("model_type", "bert"),
            ("hidden_act", "gelu"),
            ("position_embedding_type", "absolute"),
        ] {
            match json.get(key).unwrap_or(&Json::Null) {
                Json::String(found) if found == expected => {}
                // Files of before there was a choice.
                Json::Null if key == "position_embedding_type" => {}
                other => return Err(format!("{FILE}: {key}: {other}, expected {expected:?}")),
            }
        }
        let count = |key: &str, max: u64| {
            let found = &json[key];
            let count = found.as_u64().filter(|count| (1..=max).contains(count));
            count.ok_or_else(|| format!("{FILE}: {key}: {found}, expected 1 to {max}"))
        };
        // What a dimension may be is the safetensors file's size to say.
        let any = u64::from(u32::MAX);
        let eps = json["layer_norm_eps"].as_f64().filter(|eps| *eps > 0.0 && *eps <= 0.1);
        Ok(Self {
            n_vocab: count("vocab_size", any)?,
            n_embd: count("hidden_size", any)?,
            n_layers: count("num_hidden_layers", N_LAYERS_MAX)?,
            n_heads: count("num_attention_heads", any)?,
            n_ff: count("intermediate_size", any)?,
            n_ctx: count("max_position_embeddings", any)?,
            n_types: count("type_vocab_size", any)?,
            norm_eps: eps.ok_or_else(|| {
                format!("{FILE}: layer_norm_eps: {}, expected 0 to 0.1", json["layer_norm_eps"])
            })? as f32,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        for (key, value) in [
            ("bert.block_count", self.n_layers),
            ("bert.context_length", self.n_ctx),
            ("bert.embedding_length", self.n_embd),
            ("bert.feed_forward_length", self.n_ff),
            ("bert.attention.head_count", self.n_heads),
            ("tokenizer.ggml.token_type_count", self.n_types),
        ] {
            // Bounded when it was read.
            writer.metadata(key, Value::U32(value as u32));
        }
        writer.metadata("bert.attention.layer_norm_epsilon", Value::F32(self.norm_eps));
    }
}

/// llama.cpp's number of the pooling.
fn pooling_type(bytes: &[u8]) -> Result<u32, String> {
    const FILE: &str = "the pooling's config.json";
    let json = parse(FILE, bytes)?;
    let modes = json.as_object().into_iter().flatten();
    let on = |(key, value): (&String, &Json)| {
        let mode = key.strip_prefix("pooling_mode_")?;
        (*value == Json::Bool(true)).then(|| mode.to_owned())
    };
    let modes: Vec<String> = modes.filter_map(on).collect();
    match modes.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["mean_tokens"] => Ok(1),
        ["cls_token"] => Ok(2),
        _ => Err(format!("{FILE}: {modes:?}, expected mean_tokens or cls_token alone")),
    }
}

/// The licence that the front matter of a model's page names.
fn licence_of(readme: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(readme);
    let front = text.strip_prefix("---")?.split("\n---").next()?;
    let licence = front.lines().find_map(|line| line.strip_prefix("license:"))?.trim();
    (!licence.is_empty()).then(|| licence.to_owned())
}

fn write_vocab(writer: &mut Writer<'_>, vocab: &[u8], n_vocab: u64) -> Result<(), String> {
    const FILE: &str = "vocab.txt";
    const NORMAL: i32 = 1;
    const CONTROL: i32 = 3;
    const CONTROLS: [(&str, &str); 5] = [
        ("[UNK]", "tokenizer.ggml.unknown_token_id"),
        // The key is misspelled in the format.
        ("[SEP]", "tokenizer.ggml.seperator_token_id"),
        ("[PAD]", "tokenizer.ggml.padding_token_id"),
        ("[CLS]", "tokenizer.ggml.cls_token_id"),
        ("[MASK]", "tokenizer.ggml.mask_token_id"),
    ];
    let text = std::str::from_utf8(vocab).map_err(|error| format!("{FILE}: {error}"))?;
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() as u64 != n_vocab {
        let found = lines.len();
        return Err(format!("{FILE}: {found} lines, expected the {n_vocab} of vocab_size"));
    }
    let is_control = |line: &&str| CONTROLS.iter().any(|(token, _)| token == line);
    let types: Vec<i32> =
        lines.iter().map(|line| if is_control(line) { CONTROL } else { NORMAL }).collect();
    // As llama.cpp has them: what begins a word is marked, what goes on one is not.
    let written = lines.iter().map(|line| match line.strip_prefix("##") {
        _ if is_control(line) => (*line).to_owned(),
        Some(rest) if !rest.is_empty() => rest.to_owned(),
        _ => format!("\u{2581}{line}"),
    });
    let tokens: gguf::Strings = written.collect();
    writer
        .metadata("tokenizer.ggml.model", "bert")
        .metadata("tokenizer.ggml.tokens", Value::Array(gguf::Array::Strings(tokens)))
        .metadata("tokenizer.ggml.token_type", Value::Array(gguf::Array::I32(types)));
    for (token, key) in CONTROLS {
        match lines.iter().position(|line| *line == token) {
            Some(id) => writer.metadata(key, Value::U32(id as u32)),
            None => return Err(format!("{FILE}: no {token}, expected BERT's special tokens")),
        };
    }
    Ok(())
}

/// How texts are cleaned before they are cut into words.
fn write_cleaning(writer: &mut Writer<'_>, tokenizer: Option<&[u8]>) -> Result<(), String> {
    const FILE: &str = "tokenizer_config.json";
    let Some(bytes) = tokenizer else { return Ok(()) };
    let json = parse(FILE, bytes)?;
    for (name, key) in [
        ("do_lower_case", "tokenizer.ggml.normalizer.lowercase"),
        ("strip_accents", "tokenizer.ggml.normalizer.strip_accents"),
    ] {
        match &json[name] {
            // Left open, it follows from the vocabulary or from the other.
            Json::Null => {}
            Json::Bool(flag) => drop(writer.metadata(key, Value::Bool(*flag))),
            other => return Err(format!("{FILE}: {name}: {other}, expected true or false")),
        }
    }
    if json["tokenize_chinese_chars"] == Json::Bool(false) {
        return Err(format!("{FILE}: tokenize_chinese_chars: false, expected true"));
    }
    Ok(())
}

/// How a tensor is written.
#[derive(Clone, Copy)]
enum Kind {
    Matrix,
    Float,
}

fn write_tensors(
    writer: &mut Writer<'_>,
    bytes: &[u8],
    config: &Config,
    format: ImportFormat,
) -> Result<(), String> {
    /// Of no use for vectors: a list of numbers, and a head that BERT was trained with.
    const UNUSED: [&str; 3] =
        ["embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"];
    let file = SafeTensors::read(bytes)?;
    let mut left: BTreeMap<&str, ()> = file.names().map(|name| (name, ())).collect();
    for name in UNUSED {
        left.remove(name);
    }
    for (name, written, shape, kind) in tensors(config) {
        left.remove(name.as_str());
        let values = file.floats(&name, &shape)?;
        let ty = match (kind, format) {
            (Kind::Float, _) => TensorType::F32,
            (Kind::Matrix, ImportFormat::Q8_0) if shape[1].is_multiple_of(32) => TensorType::Q8_0,
            // Where a block does not fit, as in llama.cpp.
            (Kind::Matrix, _) => TensorType::F16,
        };
        let bytes = blocks::encode(&values, ty).map_err(|why| format!("tensor {name:?}: {why}"))?;
        writer.tensor(&written, &shape, ty, bytes);
    }
    match left.keys().next() {
        None => Ok(()),
        Some(name) => Err(format!("tensor {name:?}: expected no further tensors in a BERT model")),
    }
}

/// Every tensor of the model: its name, the one that it gets, its shape and how it is written.
fn tensors(config: &Config) -> Vec<(String, String, Vec<usize>, Kind)> {
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let (n_embd, n_ff) = (size(config.n_embd), size(config.n_ff));
    let mut all = Vec::new();
    for (name, written, n_rows, kind) in [
        ("word", "token_embd", config.n_vocab, Kind::Matrix),
        ("position", "position_embd", config.n_ctx, Kind::Float),
        ("token_type", "token_types", config.n_types, Kind::Float),
    ] {
        let (name, shape) =
            (format!("embeddings.{name}_embeddings.weight"), vec![size(n_rows), n_embd]);
        all.push((name, format!("{written}.weight"), shape, kind));
    }
    let norm = |all: &mut Vec<_>, name: String, written: String| {
        for part in ["weight", "bias"] {
            all.push((
                format!("{name}.{part}"),
                format!("{written}.{part}"),
                vec![n_embd],
                Kind::Float,
            ));
        }
    };
    norm(&mut all, "embeddings.LayerNorm".to_owned(), "token_embd_norm".to_owned());
    for layer_idx in 0..config.n_layers {
        let from = |name: &str| format!("encoder.layer.{layer_idx}.{name}");
        let to = |written: &str| format!("blk.{layer_idx}.{written}");
        for (name, written, n_rows, n_cols) in [
            ("attention.self.query", "attn_q", n_embd, n_embd),
            ("attention.self.key", "attn_k", n_embd, n_embd),
            ("attention.self.value", "attn_v", n_embd, n_embd),
            ("attention.output.dense", "attn_output", n_embd, n_embd),
            ("intermediate.dense", "ffn_up", n_ff, n_embd),
            ("output.dense", "ffn_down", n_embd, n_ff),
        ] {
            let (name, written) = (from(name), to(written));
            let shape = vec![n_rows, n_cols];
            all.push((format!("{name}.weight"), format!("{written}.weight"), shape, Kind::Matrix));
            all.push((
                format!("{name}.bias"),
                format!("{written}.bias"),
                vec![n_rows],
                Kind::Float,
            ));
        }
        norm(&mut all, from("attention.output.LayerNorm"), to("attn_output_norm"));
        norm(&mut all, from("output.LayerNorm"), to("layer_output_norm"));
    }
    all
}

fn parse(file: &str, bytes: &[u8]) -> Result<Json, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("{file}: {error}"))
}

#[cfg(test)]
mod tests;
