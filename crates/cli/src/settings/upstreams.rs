//! The tables `[upstream.NAME]` of the file of settings: servers to which requests may go.
//!
//! They are settings of the file alone: a flag has no room for one. What each field is stands once,
//! in [`FIELDS`], for reading, showing and the example.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use broker::{KeySource, Upstream, UpstreamKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Place;
use super::file::{Reader, beside};
use crate::commands::serve::some_time;

/// The key of all of them.
pub(super) const SECTION: &str = "upstream";
/// Names under which people write down a key itself.
const KEYS: [&str; 5] = ["key", "api-key", "api_key", "token", "secret"];

/// An upstream, with where it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) upstream: Upstream,
    pub(crate) place: Place,
}

/// A field of an upstream.
struct Field {
    name: &'static str,
    help: &'static str,
    /// What it looks like, where nobody says what it is otherwise.
    like: &'static str,
    /// Reads it, a path in it as seen from the folder.
    set: fn(&mut Upstream, &DeValue<'_>, &Path) -> Result<(), &'static str>,
    /// How the file says it; nothing where it is not said.
    get: fn(&Upstream) -> Option<serde_json::Value>,
}

const A_TIME: &str = "a time such as 30s or 5m";
const A_NUMBER: &str = "a number";
const A_TEXT: &str = "a text";

fn text<'a>(value: &'a DeValue<'_>) -> Result<&'a str, &'static str> {
    value.as_str().ok_or(A_TEXT)
}

fn number(value: &DeValue<'_>) -> Result<u32, &'static str> {
    let number = match value {
        DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    };
    number.ok_or(A_NUMBER)
}

fn time_ms(value: &DeValue<'_>) -> Result<u64, &'static str> {
    let time: Duration = text(value).ok().and_then(|text| some_time(text).ok()).ok_or(A_TIME)?;
    u64::try_from(time.as_millis()).map_err(|_| A_TIME)
}

/// A time as the file has it, whose smallest is a second.
fn told_ms(time_ms: u64) -> Option<serde_json::Value> {
    Some(format!("{}s", time_ms / 1000).into())
}

fn put<T>(place: &mut T, value: Result<T, &'static str>) -> Result<(), &'static str> {
    *place = value?;
    Ok(())
}

/// All of them, as the example lists them.
const FIELDS: &[Field] = &[
    Field {
        name: "kind",
        help: "What it speaks: openai (also vLLM, SGLang, llama-server and most vendors), or \
               anthropic",
        like: "\"openai|anthropic\"",
        set: |upstream, value, _| {
            let kind =
                UpstreamKind::ALL.into_iter().find(|kind| value.as_str() == Some(kind.name()));
            upstream.kind = kind.ok_or("\"openai\" or \"anthropic\"")?;
            Ok(())
        },
        get: |upstream| Some(upstream.kind.name().into()),
    },
    Field {
        name: "url",
        help: "Where it is, as its own clients are told; several servers that answer the same are \
               a list",
        like: "\"https://HOST/v1\"",
        set: |upstream, value, _| {
            const EXPECTED: &str = "an address such as \"https://api.example.com/v1\", or a list";
            upstream.urls = match value {
                DeValue::Array(urls) => urls
                    .iter()
                    .map(|url| Some(url.get_ref().as_str()?.to_owned()))
                    .collect::<Option<_>>()
                    .ok_or(EXPECTED)?,
                one => vec![one.as_str().ok_or(EXPECTED)?.to_owned()],
            };
            Ok(())
        },
        get: |upstream| match &upstream.urls[..] {
            [one] => Some(one.clone().into()),
            urls => Some(urls.into()),
        },
    },
    Field {
        name: "key-env",
        help: "Environment variable that has its key. Every program that runs as you can read it",
        like: "\"VARIABLE\"",
        set: |upstream, value, _| {
            upstream.key = Some(KeySource::Env(text(value)?.to_owned()));
            Ok(())
        },
        get: |upstream| match &upstream.key {
            Some(KeySource::Env(name)) => Some(name.clone().into()),
            _ => None,
        },
    },
    Field {
        name: "key-file",
        help: "File that has its key, alone, and which not everybody on this machine may read; \
               only the broker reads it",
        like: "\"FILE\"",
        set: |upstream, value, folder| {
            upstream.key = Some(KeySource::File(beside(folder, text(value)?)));
            Ok(())
        },
        get: |upstream| match &upstream.key {
            Some(KeySource::File(path)) => Some(path.to_string_lossy().into()),
            _ => None,
        },
    },
    Field {
        name: "ca-file",
        help: "Authorities that sign its certificates, in PEM, instead of this system's",
        like: "\"FILE\"",
        set: |upstream, value, folder| {
            upstream.ca_file = Some(beside(folder, text(value)?));
            Ok(())
        },
        get: |upstream| Some(upstream.ca_file.as_ref()?.to_string_lossy().into()),
    },
    Field {
        name: "allow-plain",
        help: "Let http:// go to addresses that are neither this machine's nor private",
        like: "",
        set: |upstream, value, _| {
            upstream.allow_plain = value.as_bool().ok_or("true or false")?;
            Ok(())
        },
        get: |upstream| Some(upstream.allow_plain.into()),
    },
    Field {
        name: "connect-timeout",
        help: "How long a connection may take, with its keys",
        like: "",
        set: |upstream, value, _| put(&mut upstream.connect_timeout_ms, time_ms(value)),
        get: |upstream| told_ms(upstream.connect_timeout_ms),
    },
    Field {
        name: "first-byte-timeout",
        help: "How long an answer may take to begin",
        like: "",
        set: |upstream, value, _| put(&mut upstream.first_byte_timeout_ms, time_ms(value)),
        get: |upstream| told_ms(upstream.first_byte_timeout_ms),
    },
    Field {
        name: "idle-timeout",
        help: "How long an answer that has begun may be silent",
        like: "",
        set: |upstream, value, _| put(&mut upstream.idle_timeout_ms, time_ms(value)),
        get: |upstream| told_ms(upstream.idle_timeout_ms),
    },
    Field {
        name: "retries",
        help: "Most further attempts of a request, all before its answer begins",
        like: "",
        set: |upstream, value, _| put(&mut upstream.retries, number(value)),
        get: |upstream| Some(upstream.retries.into()),
    },
    Field {
        name: "retry-percent",
        help: "Further attempts of all requests, in percent of the requests",
        like: "",
        set: |upstream, value, _| put(&mut upstream.retry_percent, number(value)),
        get: |upstream| Some(upstream.retry_percent.into()),
    },
    Field {
        name: "max-in-flight",
        help: "Most requests at each address at once",
        like: "",
        set: |upstream, value, _| put(&mut upstream.max_in_flight, number(value)),
        get: |upstream| Some(upstream.max_in_flight.into()),
    },
    Field {
        name: "health",
        help: "Path of its servers that answers 2xx while one is well, such as /health; asked \
               without a key",
        like: "\"/PATH\"",
        set: |upstream, value, _| {
            upstream.health_path = Some(text(value)?.to_owned());
            Ok(())
        },
        get: |upstream| upstream.health_path.clone().map(Into::into),
    },
    Field {
        name: "health-every",
        help: "How often it is asked",
        like: "",
        set: |upstream, value, _| put(&mut upstream.health_every_ms, time_ms(value)),
        get: |upstream| told_ms(upstream.health_every_ms),
    },
    Field {
        name: "failures",
        help: "Failures in a row after which an address is left alone",
        like: "",
        set: |upstream, value, _| put(&mut upstream.failures_to_open, number(value)),
        get: |upstream| Some(upstream.failures_to_open.into()),
    },
    Field {
        name: "open-for",
        help: "How long it is, before one request tries it",
        like: "",
        set: |upstream, value, _| put(&mut upstream.open_for_ms, time_ms(value)),
        get: |upstream| told_ms(upstream.open_for_ms),
    },
];

/// Reads the tables of the section; what is wrong with them the reader keeps.
pub(super) fn read(reader: &mut Reader<'_>, section: &Spanned<DeValue<'_>>) -> Vec<Told> {
    let Some(tables) = section.get_ref().as_table() else {
        reader.problem(&section.span(), "upstream: expected tables such as [upstream.NAME]");
        return Vec::new();
    };
    let mut named: Vec<_> = tables.iter().collect();
    named.sort_by_key(|(name, _)| name.span().start);
    let mut all = Vec::new();
    for (name, value) in named {
        let place = reader.place(&name.span());
        match value.get_ref().as_table() {
            Some(table) => {
                all.extend(one(reader, name, table).map(|upstream| Told { upstream, place }))
            }
            None => {
                reader.problem(&value.span(), "upstream: expected tables such as [upstream.NAME]")
            }
        }
    }
    all
}

fn one(
    reader: &mut Reader<'_>,
    name: &Spanned<Cow<'_, str>>,
    table: &DeTable<'_>,
) -> Option<Upstream> {
    let shown: String = name.get_ref().chars().take(40).collect();
    let mut upstream = Upstream::new(name.get_ref(), UpstreamKind::OpenAi, Vec::new());
    let mut is_right = true;
    for (key, value) in table {
        let problem = match FIELDS.iter().find(|field| field.name == key.get_ref()) {
            Some(field) => {
                let set = (field.set)(&mut upstream, value.get_ref(), reader.folder());
                set.err().map(|expected| format!("{}: expected {expected}", field.name))
            }
            None => Some(unknown(key.get_ref())),
        };
        if let Some(problem) = problem {
            is_right = false;
            reader.problem(&key.span(), &format!("upstream.{shown}: {problem}"));
        }
    }
    let has = |key: &str| table.contains_key(key);
    let missing = ["kind", "url"].into_iter().find(|key| !has(key));
    let together = has("key-env") && has("key-file");
    let problem = match (missing, together) {
        (Some(key), _) => Some(format!("expected {key} in it")),
        (None, true) => Some("key-env and key-file, expected one of the two".to_owned()),
        (None, false) if is_right => upstream.check().err().map(|error| error.to_string()),
        (None, false) => None,
    };
    if let Some(problem) = problem {
        reader.problem(&name.span(), &format!("upstream.{shown}: {problem}"));
        return None;
    }
    is_right.then_some(upstream)
}

/// What there is to say of a key that no field has; never its value.
fn unknown(key: &str) -> String {
    let shown: String = key.chars().take(40).collect();
    if KEYS.contains(&key) {
        return format!("{shown:?}: a key does not stand here, expected key-env or key-file");
    }
    let names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
    format!("{shown:?}: an upstream has no such field, expected one of {}", names.join(", "))
}

/// What is said of an upstream, as JSON; names and places of keys, never keys.
pub(crate) fn to_json(upstream: &Upstream) -> serde_json::Map<String, serde_json::Value> {
    let said = |field: &Field| Some((field.name.to_owned(), (field.get)(upstream)?));
    FIELDS.iter().filter_map(said).collect()
}

/// The table of a file that says it.
pub(crate) fn to_toml(upstream: &Upstream) -> String {
    let mut text = format!("[{SECTION}.{}]\n", upstream.name);
    for (name, value) in to_json(upstream) {
        writeln!(text, "{name} = {}", super::toml_of(&value)).expect("a string takes all");
    }
    text
}

/// A table with every field, as comments.
pub(super) fn example(comment: impl Fn(&str) -> String) -> String {
    let about = "Servers elsewhere to which requests may go, by a name of their own: none, unless \
                 the owner names some and says what may go there (docs/upstreams.md). The keys \
                 stay with the broker, a process of its own";
    let mut text = format!("\n{}# [{SECTION}.NAME]\n", comment(about));
    let usual = Upstream::new("NAME", UpstreamKind::OpenAi, Vec::new());
    for field in FIELDS {
        let value = match field.like {
            "" => (field.get)(&usual).map(|value| super::toml_of(&value)).unwrap_or_default(),
            like => like.to_owned(),
        };
        write!(text, "#\n{}# {} = {value}\n", comment(field.help), field.name)
            .expect("a string takes all");
    }
    text
}
