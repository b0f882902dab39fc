//! Cases for the behaviour gate, made of real requests and their answers, of clients whose key's
//! owner has consented.
//!
//! Each is a file of one line in the folder `pending` of the owner's, in the form that
//! `freehold test` reads; what the owner accepts goes one folder up. Nobody else may read them, and
//! nothing in them says who asked. Their number and their bytes are bounded; what comes when those
//! are reached is not kept.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use engine::PrivateFolder;
use serde_json::{Map, Value, json};

use crate::app::random_hex;
use crate::batches::now;
use crate::dialects::{Choice, ToolCall};

/// The folder of cases that nobody has looked at yet, in that of the owner's.
pub const PENDING_CASES: &str = "pending";

/// Most of them at once: nobody looks through more.
const N_CASES_MAX: usize = 1000;
/// Most bytes of one, a conversation of some 60,000 words, and of all of them.
pub(crate) const CASE_BYTES_MAX: usize = 256 << 10;
const N_BYTES_MAX: u64 = 64 << 20;
/// How near a sampled answer must come to the one that was recorded, by the cosine of vectors.
const MIN_SIMILARITY: f64 = 0.8;

/// What of a request is no part of a case: how its answer travels, whose it is, and what the run
/// sets. The gate refuses the latter.
const NOT_KEPT: [&str; 15] = [
    "messages",
    "prompt",
    "tools",
    "model",
    "n",
    "seed",
    "stream",
    "stream_options",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "cache_prompt",
];

/// Whose requests may become cases.
#[derive(Clone, Default)]
pub struct Consent {
    /// Those that bring one of these keys.
    pub keys: Vec<Vec<u8>>,
    /// Those of programs on this machine that bring none.
    pub loopback: bool,
}

/// Where cases are kept. Cheap to clone.
#[derive(Clone)]
pub struct Cases(Arc<Kept>);

struct Kept {
    pending: PathBuf,
    consent: Consent,
    /// How many there are, and their bytes, as far as this process knows.
    room: Mutex<(usize, u64)>,
}

impl Cases {
    /// Keeps cases in `folder`, which is made where there is none.
    ///
    /// # Errors
    /// The system's.
    pub fn open(folder: &Path, consent: Consent) -> io::Result<Self> {
        let pending = folder.join(PENDING_CASES);
        create_private(&pending)?;
        let (mut n, mut n_bytes) = (0, 0);
        for entry in fs::read_dir(&pending)? {
            n += 1;
            n_bytes += entry?.metadata()?.len();
        }
        Ok(Self(Arc::new(Kept { pending, consent, room: Mutex::new((n, n_bytes)) })))
    }

    /// Whether a request with this key may become a case; `is_own` of one without says that a
    /// program on this machine sent it.
    pub(crate) fn may_keep(&self, key: Option<&[u8]>, is_own: bool) -> bool {
        let consent = &self.0.consent;
        match key {
            Some(key) => consent.keys.iter().any(|one| one == key),
            None => consent.loopback && is_own,
        }
    }

    /// Writes a case that was answered so, where there is room. Blocks.
    pub(crate) fn keep(&self, case: Map<String, Value>, answer: &Choice) {
        let Some(expect) = expectations(&case, answer) else { return };
        // Names sort by their time.
        let name = format!("{}-{}", now(), &random_hex()[..8]);
        let mut line = Map::from_iter([("id".to_owned(), json!(format!("recorded {name}")))]);
        line.extend(case);
        line.insert("expect".to_owned(), expect);
        let text = format!("{}\n", Value::Object(line));
        if text.len() > CASE_BYTES_MAX || !self.has_room(text.len() as u64) {
            return;
        }
        if let Err(error) = write(&self.0.pending, &name, &text) {
            let folder = self.0.pending.display();
            tracing::warn!(%folder, %error, "a case was not recorded");
        }
    }

    /// Takes room for a case; looks anew where there seems to be none, since the owner may have
    /// made some.
    fn has_room(&self, n_more: u64) -> bool {
        let mut room = self.0.room.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |(n, n_bytes): (usize, u64)| n < N_CASES_MAX && n_bytes + n_more <= N_BYTES_MAX;
        if !fits(*room) {
            let Ok(entries) = fs::read_dir(&self.0.pending) else { return false };
            let lengths = entries.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len()));
            *room = lengths.fold((0, 0), |(n, n_bytes), length| (n + 1, n_bytes + length));
        }
        let has_room = fits(*room);
        if has_room {
            *room = (room.0 + 1, room.1 + n_more);
        }
        has_room
    }
}

fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(folder)
}

/// Whole or not at all.
fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    let mut file = PrivateFolder::create(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, folder.join(format!("{name}.jsonl")))
}

/// A body of OpenAI's as a case without expectations; `prompt` is the field of what is asked.
/// `None` where the gate does not ask so.
pub(crate) fn of_openai(body: &[u8], prompt: &str) -> Option<Map<String, Value>> {
    let body: Map<String, Value> = serde_json::from_slice(body).ok()?;
    if body.get("n").is_some_and(|n| !n.is_null() && *n != 1) {
        return None;
    }
    let asked = body.get(prompt)?.clone();
    let field = match (prompt, &asked) {
        ("messages", Value::Array(_)) => "messages",
        ("prompt", Value::String(_)) => "text",
        _ => return None,
    };
    let mut case = Map::from_iter([(field.to_owned(), asked)]);
    let tools = body.get("tools").filter(|tools| tools.as_array().is_some_and(|of| !of.is_empty()));
    case.extend(tools.map(|tools| ("tools".to_owned(), tools.clone())));
    // Beyond this the gate reads no seed.
    let seed = body.get("seed").filter(|seed| seed.as_u64().is_some_and(|seed| seed <= 1 << 53));
    case.extend(seed.map(|seed| ("seed".to_owned(), seed.clone())));
    let is_kept =
        |(name, value): &(String, Value)| !value.is_null() && !NOT_KEPT.contains(&name.as_str());
    let parameters: Map<String, Value> = body.into_iter().filter(is_kept).collect();
    case.insert("parameters".to_owned(), Value::Object(parameters));
    Some(case)
}

/// What is to be expected of the answer from now on: what it was, where nothing was drawn, else
/// something like it. `None` of one that says nothing.
fn expectations(case: &Map<String, Value>, answer: &Choice) -> Option<Value> {
    if !answer.calls.is_empty() {
        let call = |call: &ToolCall| {
            let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or(json!({}));
            json!({"call": call.name, "arguments": arguments})
        };
        return Some(answer.calls.iter().map(call).collect());
    }
    let text = answer.text.trim();
    if text.is_empty() {
        return None;
    }
    let is_greedy =
        case["parameters"].get("temperature").is_some_and(|of| of.as_f64() == Some(0.0));
    Some(match is_greedy {
        true => json!([{"exact": text}]),
        false => json!([{"similar": text, "min": MIN_SIMILARITY}]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::Part;

    fn said(text: &str) -> Choice {
        let mut choice = Choice::empty();
        choice.push(Part::Text(text.to_owned()), Vec::new());
        choice
    }

    fn lines(folder: &Path) -> Vec<Value> {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder.join(PENDING_CASES))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths
            .iter()
            .map(|path| serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
            .collect()
    }

    #[test]
    fn a_request_becomes_a_case_without_who_asked() {
        let body = json!({
            "model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0,
            "max_tokens": 8, "stream": true, "user": "me", "metadata": {"a": "b"}, "seed": 3,
            "stop": null, "tools": [],
        });
        let case = of_openai(body.to_string().as_bytes(), "messages").unwrap();
        let expected = json!({
            "messages": [{"role": "user", "content": "Hi"}], "seed": 3,
            "parameters": {"temperature": 0, "max_tokens": 8},
        });
        assert_eq!(Value::Object(case), expected);
        let none = |body: Value, prompt: &str| of_openai(body.to_string().as_bytes(), prompt);
        assert_eq!(none(json!({"messages": [], "n": 2}), "messages"), None);
        assert_eq!(none(json!({"prompt": ["a", "b"]}), "prompt"), None);
        assert_eq!(none(json!([]), "prompt"), None);
        let text = none(json!({"prompt": "a", "max_tokens": 1}), "prompt").unwrap();
        assert_eq!(text["text"], "a");
    }

    #[test]
    fn only_who_consented_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let open = |keys: &[&str], loopback| {
            let keys = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
            Cases::open(folder.path(), Consent { keys, loopback }).unwrap()
        };
        let by_key = open(&["k1"], false);
        assert!(by_key.may_keep(Some(b"k1"), false) && by_key.may_keep(Some(b"k1"), true));
        for key in [None, Some(&b"k2"[..]), Some(b"")] {
            assert!(!by_key.may_keep(key, true), "{key:?}");
        }
        let anonymous = open(&[], true);
        assert!(anonymous.may_keep(None, true) && !anonymous.may_keep(None, false));
        assert!(!anonymous.may_keep(Some(b"k1"), true));
    }

    #[test]
    fn cases_are_the_owners_alone_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let cases = Cases::open(folder.path(), Consent::default()).unwrap();
        let case = |temperature: f64| {
            let body = json!({"prompt": "a", "temperature": temperature});
            of_openai(body.to_string().as_bytes(), "prompt").unwrap()
        };
        cases.keep(case(0.0), &said(" yes\n"));
        cases.keep(case(0.7), &said("yes"));
        cases.keep(case(0.0), &said(" "));
        cases.keep(case(0.0), &said(&"x".repeat(CASE_BYTES_MAX)));
        let mut call = Choice::empty();
        call.push(Part::CallBegin("f".to_owned()), Vec::new());
        call.push(Part::Arguments("{\"a\": 1}".to_owned()), Vec::new());
        call.push(Part::CallEnd, Vec::new());
        cases.keep(case(0.0), &call);
        let expected = [
            json!([{"exact": "yes"}]),
            json!([{"similar": "yes", "min": 0.8}]),
            json!([{"call": "f", "arguments": {"a": 1}}]),
        ];
        let found: Vec<Value> =
            lines(folder.path()).iter().map(|of| of["expect"].clone()).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(expected.iter().all(|of| found.contains(of)), "{found:?}");
        #[cfg(unix)]
        for entry in fs::read_dir(folder.path().join(PENDING_CASES)).unwrap() {
            use std::os::unix::fs::PermissionsExt;
            let mode = entry.unwrap().metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600);
        }
        *cases.0.room.lock().unwrap() = (N_CASES_MAX, 0);
        // There is room after all: the owner has looked through them.
        cases.keep(case(0.0), &said("more"));
        assert_eq!(lines(folder.path()).len(), 4);
        for n in 4..N_CASES_MAX {
            fs::write(folder.path().join(PENDING_CASES).join(n.to_string()), "{}").unwrap();
        }
        *cases.0.room.lock().unwrap() = (N_CASES_MAX, 0);
        cases.keep(case(0.0), &said("too many"));
        assert_eq!(lines(folder.path()).len(), N_CASES_MAX);
    }
}
