//! Cases: prompts with what is expected of their answers, read from all files of a set.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::decision::Rule;
use crate::error::{GateError, Place, quoted};
use crate::expect::Expectation;
use crate::fields::Fields;
use crate::source::{self, Entry, Source};

/// Most cases of a set, and answers to them: bounds what is kept in memory until the report.
const CASES_MAX: usize = 20_000;
const ANSWERS_MAX: usize = 100_000;
/// Most samples of a case.
const SAMPLES_MAX: u64 = 1000;
/// Most expectations of a case: a table that shows them stays readable.
const EXPECTATIONS_MAX: usize = 64;
/// Longest name of a case in characters.
const ID_CHARS_MAX: usize = 120;

/// Parameters that a case states otherwise, or that its run sets.
const OWN_PARAMETERS: &[&str] =
    &["messages", "model", "n", "prompt", "seed", "stream", "stream_options", "tools"];

/// What is asked of a model, but for the seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// What is to be answered.
    pub prompt: Prompt,
    /// Tools that may be called, a JSON array.
    pub tools: Option<Value>,
    /// All other parameters of the request, which are the model server's to honour or refuse.
    pub parameters: Map<String, Value>,
}

/// What is to be answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A conversation: a JSON array of messages.
    Messages(Value),
    /// A text to continue as it stands.
    Text(String),
}

/// One prompt, and what is expected of its answers.
#[derive(Debug)]
pub struct Case {
    /// Its name, unique within the set.
    pub id: String,
    /// Where it stands.
    pub place: Place,
    /// What is asked.
    pub ask: Ask,
    /// What is expected of each answer; not empty.
    pub expect: Vec<Expectation>,
    /// How many answers are asked for, at least 1; the seed of each is one more than that of the
    /// one before.
    pub n_samples: u32,
    /// The seed of the first.
    pub seed: u64,
    /// The part of the answers that must meet all expectations for the case to pass.
    pub min_pass_rate: f64,
    /// Whether the candidate is refused where this case fails, whatever the others do.
    pub is_required: bool,
}

/// All cases of an owner, and the rule by which a candidate passes.
#[derive(Debug)]
pub struct CaseSet {
    /// In the order of files and lines; not empty.
    pub cases: Vec<Case>,
    /// What `[gate]` says.
    pub rule: Rule,
    /// The model that makes vectors, where `[gate]` names one.
    pub embedder: Option<String>,
    /// The model that judges, where `[gate]` names one.
    pub judge: Option<String>,
}

impl CaseSet {
    /// Reads the files of a set: name and text of each, in order.
    ///
    /// # Errors
    /// The first thing that is wrong, with its file and line.
    pub fn parse(files: &[(String, String)]) -> Result<Self, GateError> {
        let sources: Vec<Source> =
            files.iter().map(|(name, text)| source::parse(name, text)).collect::<Result<_, _>>()?;
        let mut set =
            Self { cases: Vec::new(), rule: Rule::default(), embedder: None, judge: None };
        let mut gate: Option<Place> = None;
        let mut places: HashMap<String, Place> = HashMap::new();
        for source in sources {
            if let Some(entry) = source.gate {
                if let Some(first) = gate.replace(entry.place.clone()) {
                    let problem = format!("[gate] is at {first} too, expected it once");
                    return Err(entry.place.wrong(problem));
                }
                set.read_gate(entry)?;
            }
            let defaults = source.defaults.map_or(Ok(Defaults::default()), Defaults::read)?;
            for entry in source.cases {
                let case = read(entry, &defaults)?;
                if let Some(first) = places.insert(case.id.clone(), case.place.clone()) {
                    let problem =
                        format!("id {}: the case at {first} has it too", quoted(&case.id));
                    return Err(case.place.wrong(problem));
                }
                set.cases.push(case);
            }
        }
        set.check_size(files.len())?;
        Ok(set)
    }

    fn check_size(&self, n_files: usize) -> Result<(), GateError> {
        let n_cases = self.cases.len();
        let n_answers: usize = self.cases.iter().map(|case| case.n_samples as usize).sum();
        if n_cases == 0 {
            let problem = format!("no case in {n_files} files, expected at least one [[case]]");
            return Err(GateError::Whole(problem));
        }
        if n_cases > CASES_MAX || n_answers > ANSWERS_MAX {
            return Err(GateError::Whole(format!(
                "{n_cases} cases with {n_answers} answers, expected at most {CASES_MAX} with \
                 {ANSWERS_MAX}"
            )));
        }
        Ok(())
    }

    /// `[gate]`.
    fn read_gate(&mut self, entry: Entry) -> Result<(), GateError> {
        let mut fields = Fields::new(entry.place, "gate: ", entry.map);
        self.rule = Rule::read(&mut fields)?;
        self.embedder = fields.text("embedder")?;
        self.judge = fields.text("judge")?;
        fields.finish()
    }
}

/// What the cases of a file have in common.
#[derive(Debug, Default)]
struct Defaults {
    system: Option<String>,
    tools: Option<Vec<Value>>,
    parameters: Map<String, Value>,
    n_samples: Option<u64>,
    seed: Option<u64>,
    min_pass_rate: Option<f64>,
    is_required: Option<bool>,
}

impl Defaults {
    fn read(entry: Entry) -> Result<Self, GateError> {
        let mut fields = Fields::new(entry.place, "defaults: ", entry.map);
        let defaults = Self::take(&mut fields)?;
        fields.finish()?;
        Ok(defaults)
    }

    /// The fields that cases have too.
    fn take(fields: &mut Fields) -> Result<Self, GateError> {
        let parameters = fields.object("parameters")?.unwrap_or_default();
        if let Some(own) = OWN_PARAMETERS.iter().find(|name| parameters.contains_key(**name)) {
            let problem = "expected parameters that neither a field of the case nor the run sets";
            return Err(fields.wrong(&format!("parameters.{own}"), problem));
        }
        Ok(Self {
            system: fields.text("system")?,
            tools: fields.list("tools")?,
            parameters,
            n_samples: fields.count("samples", [1, SAMPLES_MAX])?,
            // Seeds go through JSON, whose numbers are exact up to here.
            seed: fields.count("seed", [0, 1 << 53])?,
            min_pass_rate: fields.number("min_pass_rate", [0.0, 1.0])?,
            is_required: fields.flag("required")?,
        })
    }
}

fn read(entry: Entry, defaults: &Defaults) -> Result<Case, GateError> {
    let mut fields = Fields::new(entry.place.clone(), "", entry.map);
    let id = fields.must_text("id")?;
    let n_chars = id.chars().count();
    if !(1..=ID_CHARS_MAX).contains(&n_chars) || id.chars().any(char::is_control) {
        let expected = format!("expected 1 to {ID_CHARS_MAX} characters, none of them controls");
        return Err(fields.wrong("id", format!("{}, {expected}", quoted(&id))));
    }
    let mut fields = Fields::new(entry.place.clone(), format!("case {id}: "), fields.rest());
    fields.value("id");
    let own = Defaults::take(&mut fields)?;
    let system = own.system.as_ref().or(defaults.system.as_ref());
    let prompt = prompt(&mut fields, system.map(String::as_str), own.system.is_some())?;
    let mut parameters = Map::from_iter([("temperature".to_owned(), json!(0))]);
    parameters.extend(defaults.parameters.clone());
    parameters.extend(own.parameters);
    // A parameter of the file's defaults is switched off by null.
    parameters.retain(|_, value| !value.is_null());
    let n_samples = own.n_samples.or(defaults.n_samples).unwrap_or(1);
    if n_samples > 1 && parameters.get("temperature").is_some_and(|t| t.as_f64() == Some(0.0)) {
        let problem = format!(
            "{n_samples}, but at temperature 0 all answers are the same: \
                               expected 1, or a temperature in parameters"
        );
        return Err(fields.wrong("samples", problem));
    }
    let tools = own.tools.or_else(|| defaults.tools.clone());
    let tools = tools.filter(|tools| !tools.is_empty()).map(Value::Array);
    if tools.is_some() && matches!(prompt, Prompt::Text(_)) {
        return Err(fields.wrong("tools", "a text to continue has no place for them"));
    }
    let expect = expectations(&mut fields, &entry.expect_lines)?;
    fields.finish()?;
    Ok(Case {
        id,
        place: entry.place,
        ask: Ask { prompt, tools, parameters },
        expect,
        n_samples: u32::try_from(n_samples).expect("the bound is below"),
        seed: own.seed.or(defaults.seed).unwrap_or(0),
        min_pass_rate: own.min_pass_rate.or(defaults.min_pass_rate).unwrap_or(1.0),
        is_required: own.is_required.or(defaults.is_required).unwrap_or(false),
    })
}

/// `prompt` (what a user says), `messages`, or `text` (to be continued).
fn prompt(
    fields: &mut Fields,
    system: Option<&str>,
    has_own_system: bool,
) -> Result<Prompt, GateError> {
    let said = fields.text("prompt")?;
    let messages = fields.list("messages")?;
    let text = fields.text("text")?;
    let with_system = |messages: Vec<Value>| {
        let system = system.map(|text| json!({"role": "system", "content": text}));
        Prompt::Messages(system.into_iter().chain(messages).collect())
    };
    match (said, messages, text) {
        (Some(said), None, None) => Ok(with_system(vec![json!({"role": "user", "content": said})])),
        (None, Some(messages), None) if messages.is_empty() => {
            Err(fields.wrong("messages", "empty, expected at least one message"))
        }
        (None, Some(messages), None) => {
            let begins = messages[0].get("role").is_some_and(|role| role == "system");
            if begins && has_own_system {
                let problem = "the messages begin with one, expected it once";
                return Err(fields.wrong("system", problem));
            }
            let own = Prompt::Messages(Value::Array(messages.clone()));
            Ok(if begins { own } else { with_system(messages) })
        }
        (None, None, Some(_)) if has_own_system => {
            Err(fields.wrong("system", "a text to continue has no place for it"))
        }
        (None, None, Some(text)) => Ok(Prompt::Text(text)),
        _ => Err(fields.wrong("prompt", "expected one of prompt, messages and text")),
    }
}

fn expectations(fields: &mut Fields, lines: &[usize]) -> Result<Vec<Expectation>, GateError> {
    let list = match fields.value("expect") {
        Some(Value::Array(list)) => list,
        Some(Value::Object(map)) => vec![Value::Object(map)],
        _ => Vec::new(),
    };
    if !(1..=EXPECTATIONS_MAX).contains(&list.len()) {
        let n = list.len();
        let problem = format!("{n} expectations, expected a list of 1 to {EXPECTATIONS_MAX}");
        return Err(fields.wrong("expect", problem));
    }
    let mut expectations = Vec::with_capacity(list.len());
    for (at, value) in list.into_iter().enumerate() {
        let mut place = fields.place().clone();
        place.line = lines.get(at).copied().unwrap_or(place.line);
        let Value::Object(map) = value else {
            return Err(place.wrong("expect: expected tables such as { contains = \"text\" }"));
        };
        expectations.push(Expectation::read(place, map)?);
    }
    Ok(expectations)
}

impl Ask {
    /// What tells this request, with its seed, from all others: a SHA-256 in hexadecimal digits.
    /// Requests that mean the same and are written in another order have the same.
    pub fn fingerprint(&self, seed: u64) -> String {
        let (kind, prompt) = match &self.prompt {
            Prompt::Messages(messages) => ("messages", messages.clone()),
            Prompt::Text(text) => ("text", Value::String(text.clone())),
        };
        let (tools, parameters) = (&self.tools, &self.parameters);
        let mut whole =
            json!({kind: prompt, "tools": tools, "parameters": parameters, "seed": seed});
        whole.sort_all_objects();
        let digest = Sha256::digest(whole.to_string());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CaseSet, GateError> {
        CaseSet::parse(&[("t.toml".to_owned(), text.to_owned())])
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        let found = parse(text).unwrap_err().to_string();
        assert!(found.contains(expected), "{found}\n  expected {expected}");
    }

    /// A case with these lines.
    fn case(lines: &str) -> String {
        format!("[[case]]\nid = \"a\"\nexpect = [{{ contains = \"x\" }}]\n{lines}\n")
    }

    #[test]
    fn a_case_takes_what_it_does_not_say_from_its_file() {
        let text = "[defaults]\nsystem = \"S\"\nsamples = 3\nseed = 5\n\
                    parameters = { temperature = 0.5, stop = \"x\", max_tokens = 9 }\n";
        let own = case("prompt = \"P\"\nseed = 7\nparameters = { max_tokens = 8 }");
        let set = parse(&format!("{text}{own}")).unwrap();
        let Case { ask, n_samples, seed, min_pass_rate, is_required, place, .. } = &set.cases[0];
        let messages =
            json!([{"role": "system", "content": "S"}, {"role": "user", "content": "P"}]);
        assert_eq!(ask.prompt, Prompt::Messages(messages));
        let parameters = json!({"temperature": 0.5, "stop": "x", "max_tokens": 8});
        assert_eq!(Value::Object(ask.parameters.clone()), parameters);
        assert_eq!((*n_samples, *seed, *min_pass_rate, *is_required), (3, 7, 1.0, false));
        assert_eq!(place.to_string(), "t.toml:6");
    }

    #[test]
    fn prompts_come_in_three_forms() {
        let ask = |lines: &str| parse(&case(lines)).unwrap().cases.remove(0).ask;
        assert_eq!(ask("text = \"T\"").prompt, Prompt::Text("T".to_owned()));
        let messages = ask("messages = [{ role = \"user\", content = \"P\" }]");
        assert_eq!(messages, ask("prompt = \"P\""));
        assert_eq!(messages.parameters["temperature"], json!(0));
        check_error(&case(""), "t.toml:1: case a: prompt: expected one of prompt, messages");
        check_error(&case("text = \"T\"\nprompt = \"P\""), "expected one of prompt, messages");
        check_error(&case("text = \"T\"\nsystem = \"S\""), "no place for it");
        check_error(&case("text = \"T\"\ntools = [{}]"), "no place for them");
        check_error(&case("messages = []"), "messages: empty");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        check_error("", "no case in 1 files");
        check_error(
            &case("prompt = \"P\"\nexpct = 1"),
            "t.toml:1: case a: unknown field \"expct\"",
        );
        check_error("[[case]]\nprompt = \"P\"", "t.toml:1: id: absent");
        check_error(
            "[[case]]\nid = \"a\"\nprompt = \"P\"",
            "expect: 0 expectations, expected a list",
        );
        let twice = format!("{}{}", case("prompt = \"P\""), case("prompt = \"Q\""));
        check_error(&twice, "t.toml:5: id \"a\": the case at t.toml:1 has it too");
        check_error(&case("prompt = \"P\"\nsamples = 2"), "at temperature 0 all answers are");
        check_error(&case("prompt = \"P\"\nsamples = 0"), "samples: 0, expected a whole number");
        check_error(&case("prompt = \"P\"\nparameters = { stream = true }"), "parameters.stream");
        let bad = "[[case]]\nid = \"a\"\nprompt = \"P\"\nexpect = [\n  { contains = \"x\" },\n  { x = 1 },\n]";
        check_error(bad, "t.toml:6: expect: nothing, expected one of exact");
        check_error("[gate]\nmin = 1\n", "t.toml:1: gate: unknown field \"min\"");
    }

    #[test]
    fn a_set_has_one_gate() {
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let files = [
            file("a.toml", &format!("[gate]\nmin_pass_rate = 0.9\n{}", case("prompt = \"P\""))),
            file("b.toml", "\n[gate]\n"),
        ];
        let error = CaseSet::parse(&files).unwrap_err().to_string();
        assert_eq!(error, "b.toml:2: [gate] is at a.toml:1 too, expected it once");
        assert_eq!(CaseSet::parse(&files[..1]).unwrap().rule.min_pass_rate, Some(0.9));
    }

    #[test]
    fn json_lines_are_the_same_cases() {
        let line = r#"{"id": "a", "prompt": "P", "expect": [{"contains": "x"}]}"#;
        let lines = CaseSet::parse(&[("t.jsonl".to_owned(), line.to_owned())]).unwrap();
        assert_eq!(lines.cases[0].ask, parse(&case("prompt = \"P\"")).unwrap().cases[0].ask);
    }

    #[test]
    fn a_fingerprint_is_of_the_meaning() {
        let ask = |lines: &str| parse(&case(lines)).unwrap().cases.remove(0).ask;
        let one = ask("prompt = \"P\"\nparameters = { top_k = 1, top_p = 0.5 }");
        let same = ask("prompt = \"P\"\nparameters = { top_p = 0.5, top_k = 1 }");
        assert_eq!(one.fingerprint(1), same.fingerprint(1));
        assert_ne!(one.fingerprint(1), one.fingerprint(2));
        assert_ne!(one.fingerprint(1), ask("prompt = \"P\"").fingerprint(1));
        assert_ne!(ask("text = \"P\"").fingerprint(1), ask("prompt = \"P\"").fingerprint(1));
    }

    #[test]
    fn no_text_makes_the_reader_panic() {
        let good = case("prompt = \"P\"\ntools = [{ a = [1, 2.5, \"é\"] }]\nsamples = 1");
        for at in good.char_indices().map(|(at, _)| at) {
            for with in ["", "\"", "[", "{", "=", "\n", "9", "é", "\u{0}"] {
                let mut text = good.clone();
                text.replace_range(at..at + good[at..].chars().next().unwrap().len_utf8(), with);
                let _ = parse(&text);
            }
        }
    }
}
