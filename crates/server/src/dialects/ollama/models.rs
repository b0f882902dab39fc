//! `GET /api/tags`, `GET /api/ps` and `POST /api/show`: what is known of models.

use super::line;
use crate::dialects::time::{rfc3339, rfc3339_ns};
use crate::library::Facts;
use crate::models::Description;
use engine::{Keep, Sampling, Task};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::time::Duration;
use text::ChatTemplate;

/// Where a digest is cut: of a model in several files it is longer than one hash.
const N_DIGEST_CHARS: usize = 64;
/// Stands for the digest of a file that nobody has hashed: clients cut a digest unseen.
const NO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Stands for a time that does not come, where clients expect one.
const NEVER: &str = "9999-12-31T23:59:59Z";

#[derive(Serialize)]
struct Tag<'a> {
    name: &'a str,
    model: &'a str,
    modified_at: String,
    size: u64,
    digest: &'a str,
    details: Details<'a>,
    capabilities: Vec<&'static str>,
    /// In what it is not what the owner's lock says; only of one that is not answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
}

#[derive(Serialize)]
struct Details<'a> {
    parent_model: &'static str,
    format: &'static str,
    family: &'a str,
    families: [&'a str; 1],
    parameter_size: String,
    quantization_level: &'a str,
}

#[derive(Serialize)]
struct Running<'a> {
    name: &'a str,
    model: &'a str,
    size: u64,
    digest: &'a str,
    details: Details<'a>,
    expires_at: String,
    /// Nothing here is computed on a graphics card.
    size_vram: u64,
    context_length: u32,
}

/// The models that are served, under each of their names.
pub(crate) fn tags_body(models: &[Description]) -> String {
    let tag = |model: &Description| {
        json!(Tag {
            name: &model.name,
            model: &model.name,
            modified_at: modified_at(model),
            size: model.facts.n_bytes,
            digest: digest(model),
            details: details(&model.facts),
            capabilities: capabilities(model),
            refused: model.refused.as_deref(),
        })
    };
    line(&json!({"models": models.iter().map(tag).collect::<Vec<Value>>()}))
}

/// Those that are open; `now` in Unix seconds and nanoseconds.
pub(crate) fn ps_body(models: &[Description], now: (u64, u32)) -> String {
    let running = |model: &Description| {
        let open = model.open.as_ref()?;
        Some(json!(Running {
            name: &model.name,
            model: &model.name,
            size: open.planned_bytes,
            digest: digest(model),
            details: details(&model.facts),
            expires_at: expires_at(open.keep, open.idle, now),
            size_vram: 0,
            context_length: open.n_ctx,
        }))
    };
    line(&json!({"models": models.iter().filter_map(running).collect::<Vec<Value>>()}))
}

/// All that is known of a model. `sampling` is what requests get that do not say.
pub(crate) fn show_body(model: &Description, sampling: &Sampling) -> String {
    #[derive(Serialize)]
    struct Show<'a> {
        license: &'a str,
        modelfile: String,
        parameters: String,
        template: Cow<'a, str>,
        details: Details<'a>,
        model_info: Map<String, Value>,
        capabilities: Vec<&'static str>,
        modified_at: String,
    }
    let facts = &model.facts;
    let mut template = Cow::Borrowed(facts.template.as_deref().unwrap_or_default());
    if model.facts.fills_in {
        // A comment, for clients that look for Ollama's word before they send a suffix.
        template.to_mut().push_str("{# .Suffix #}");
    }
    let parameters = parameters(model, &facts.recommended.over(sampling));
    line(&Show {
        license: &facts.licence,
        modelfile: modelfile(model, &parameters),
        parameters,
        template,
        details: details(facts),
        model_info: model_info(facts),
        capabilities: capabilities(model),
        modified_at: modified_at(model),
    })
}

fn details(facts: &Facts) -> Details<'_> {
    Details {
        parent_model: "",
        format: "gguf",
        family: &facts.architecture,
        families: [&facts.architecture],
        parameter_size: parameter_size(facts.n_parameters),
        quantization_level: &facts.quantization,
    }
}

/// A count as Ollama shortens it: `134.52M`, `1.5B`.
fn parameter_size(n: u64) -> String {
    match n {
        0 => String::new(),
        1_000_000_000.. => format!("{:.1}B", n as f64 / 1e9),
        1_000_000.. => format!("{:.2}M", n as f64 / 1e6),
        1000.. => format!("{:.2}K", n as f64 / 1e3),
        _ => n.to_string(),
    }
}

fn digest(model: &Description) -> &str {
    let digest = model.digest.as_deref().unwrap_or(NO_DIGEST);
    digest.get(..N_DIGEST_CHARS).unwrap_or(digest)
}

fn modified_at(model: &Description) -> String {
    model.facts.installed.clone().unwrap_or_else(|| rfc3339(model.created))
}

/// What a model can be asked for. Any chat model can be held to calls of tools; whether one thinks
/// shows in its template.
fn capabilities(model: &Description) -> Vec<&'static str> {
    if model.task == Task::Embed {
        return vec!["embedding"];
    }
    let source = match &model.open {
        Some(open) => open.template.as_ref(),
        None => model.facts.template.as_ref(),
    };
    let template = source.and_then(|source| ChatTemplate::new(source).ok());
    let all = [
        ("completion", true),
        ("tools", template.is_some()),
        ("thinking", template.as_ref().is_some_and(thinks)),
        ("insert", model.facts.fills_in),
    ];
    all.into_iter().filter(|(_, can)| *can).map(|(name, _)| name).collect()
}

fn thinks(template: &ChatTemplate) -> bool {
    const SWITCHES: [&str; 2] = ["enable_thinking", "reasoning_effort"];
    const MARKS: [&str; 2] = ["<think>", "[THINK]"];
    SWITCHES.iter().any(|name| template.reads(name))
        || MARKS.iter().any(|mark| template.source().contains(mark))
}

/// Lines of name and value: what requests get that do not say.
fn parameters(model: &Description, sampling: &Sampling) -> String {
    let n_ctx = match &model.open {
        Some(open) => Some(open.n_ctx),
        None => model.facts.n_ctx,
    };
    let mut lines: Vec<(&str, String)> = Vec::new();
    lines.extend(n_ctx.map(|n_ctx| ("num_ctx", n_ctx.to_string())));
    if model.task == Task::Generate {
        lines.push(("temperature", sampling.temperature.to_string()));
        lines.push(("top_k", sampling.top_k.to_string()));
        lines.push(("top_p", sampling.top_p.to_string()));
        lines.push(("min_p", sampling.min_p.to_string()));
        lines.push(("repeat_penalty", sampling.repetition_penalty.to_string()));
    }
    let lines = lines.iter().map(|(name, value)| format!("{name:<30} {value}"));
    lines.collect::<Vec<String>>().join("\n")
}

/// The same as a Modelfile, which nothing here is made of.
fn modelfile(model: &Description, parameters: &str) -> String {
    let mut text = format!("# From {}\nFROM {}\n", one_line(&model.facts.source), model.name);
    for parameter in parameters.lines() {
        let (name, value) = parameter.split_once(' ').unwrap_or((parameter, ""));
        text.push_str(&format!("PARAMETER {name} {}\n", value.trim()));
    }
    text
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The file's own metadata, and what is counted in it.
fn model_info(facts: &Facts) -> Map<String, Value> {
    let mut info = facts.metadata.clone();
    if !facts.architecture.is_empty() {
        info.insert("general.architecture".to_owned(), facts.architecture.clone().into());
    }
    if facts.n_parameters > 0 {
        info.insert("general.parameter_count".to_owned(), facts.n_parameters.into());
    }
    // It stands beside, under its own name.
    info.remove("tokenizer.chat_template");
    info
}

/// When a model is closed that has not been used for `idle`.
fn expires_at(keep: Keep, idle: Duration, (seconds, ns): (u64, u32)) -> String {
    let Keep::Idle(kept) = keep else { return NEVER.to_owned() };
    let now = Duration::new(seconds, ns);
    match now.checked_add(kept.saturating_sub(idle)) {
        Some(end) if end.as_secs() < 253_402_300_799 => {
            rfc3339_ns(end.as_secs(), end.subsec_nanos())
        }
        _ => NEVER.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::Recommended;
    use std::sync::Arc;

    fn description(task: Task, template: Option<&str>) -> Description {
        let facts = Facts {
            n_bytes: 98,
            installed: Some("2026-01-02T03:04:05Z".to_owned()),
            architecture: "llama".to_owned(),
            n_parameters: 134_515_008,
            quantization: "Q4_1".to_owned(),
            n_ctx: Some(8192),
            template: template.map(str::to_owned),
            licence: "Apache-2.0".to_owned(),
            source: "pip:x\ny".to_owned(),
            fills_in: false,
            recommended: Recommended { top_k: Some(20), ..Recommended::default() },
            metadata: Map::from_iter([("llama.context_length".to_owned(), json!(8192))]),
        };
        Description {
            name: "m".to_owned(),
            task,
            digest: Some(format!("{}{}", "a".repeat(64), "b".repeat(64))),
            facts: Arc::new(facts),
            open: None,
            refused: None,
            created: 7,
        }
    }

    #[test]
    fn a_tag_has_the_fields_clients_read() {
        let body = tags_body(&[description(Task::Generate, Some("{{ messages }}"))]);
        let expected = json!({"models": [{
            "name": "m", "model": "m", "modified_at": "2026-01-02T03:04:05Z", "size": 98,
            "digest": "a".repeat(64),
            "details": {
                "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
                "parameter_size": "134.52M", "quantization_level": "Q4_1",
            },
            "capabilities": ["completion", "tools"],
        }]});
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
        assert!(body.ends_with("}\n"));
        let refused = Some("m is not as locked".to_owned());
        let body = tags_body(&[Description { refused, ..description(Task::Generate, None) }]);
        assert!(body.contains(r#""refused":"m is not as locked""#), "{body}");
        assert_eq!(ps_body(&[description(Task::Embed, None)], (0, 0)), "{\"models\":[]}\n");
    }

    #[test]
    fn all_that_is_known_is_shown() {
        let model = description(Task::Generate, Some("{% if enable_thinking %}{% endif %}"));
        let body = show_body(&model, &crate::default_sampling());
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["capabilities"], json!(["completion", "tools", "thinking"]));
        assert_eq!(body["template"], "{% if enable_thinking %}{% endif %}");
        let info = json!({
            "general.architecture": "llama", "general.parameter_count": 134_515_008,
            "llama.context_length": 8192,
        });
        assert_eq!(body["model_info"], info);
        let (parameters, of) = (body["parameters"].as_str().unwrap(), &model.facts);
        let facts = Arc::new(Facts { fills_in: true, ..Facts::clone(of) });
        let filling = show_body(&Description { facts, ..model }, &crate::default_sampling());
        let filling: Value = serde_json::from_str(&filling).unwrap();
        assert_eq!(filling["capabilities"][3], "insert");
        assert!(filling["template"].as_str().unwrap().ends_with("{# .Suffix #}"));
        let parameters: Vec<Vec<&str>> =
            parameters.lines().map(|line| line.split_whitespace().collect()).collect();
        let expected = [["num_ctx", "8192"], ["temperature", "0.8"], ["top_k", "20"]];
        assert_eq!(parameters[..3], expected);
        let modelfile = body["modelfile"].as_str().unwrap();
        assert!(modelfile.starts_with("# From pip:x y\nFROM m\nPARAMETER num_ctx 8192\n"));
        let embedder = description(Task::Embed, None);
        assert_eq!(capabilities(&embedder), ["embedding"]);
        assert_eq!(capabilities(&description(Task::Generate, None)), ["completion"]);
    }

    #[test]
    fn times_and_counts_are_short() {
        let check = |keep: Keep, idle: u64, expected: &str| {
            assert_eq!(expires_at(keep, Duration::from_secs(idle), (60, 5)), expected);
        };
        check(Keep::Pinned, 0, NEVER);
        check(Keep::Idle(Duration::MAX), 0, NEVER);
        check(Keep::Idle(Duration::from_secs(30)), 10, "1970-01-01T00:01:20.000000005Z");
        check(Keep::Idle(Duration::ZERO), 10, "1970-01-01T00:01:00.000000005Z");
        for (n, text) in [(0, ""), (7, "7"), (22_700_000, "22.70M"), (1_540_000_000, "1.5B")] {
            assert_eq!(parameter_size(n), text);
        }
    }
}
