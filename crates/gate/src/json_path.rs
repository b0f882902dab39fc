//! Paths into JSON: the part of RFC 9535 that names one place.
//!
//! `$`, then names (`.name`, `['name']`, `["name"]`) and indices (`[0]`; `[-1]` counts from the
//! end). What can select several places (`*`, `..`, slices, filters, lists) is refused.

use serde_json::Value;

/// Most steps of a path: deeper JSON is not read.
const STEPS_MAX: usize = 128;

/// A path to one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonPath {
    text: String,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(i64),
}

impl JsonPath {
    /// Reads a path; an error says at which character, counted from 1.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader { text, at: 0 };
        if !reader.eat("$") {
            return Err(reader.wrong("expected $"));
        }
        let mut steps = Vec::new();
        while reader.at < text.len() {
            if steps.len() == STEPS_MAX {
                return Err(reader.wrong(&format!("expected at most {STEPS_MAX} steps")));
            }
            steps.push(reader.step()?);
        }
        Ok(Self { text: text.to_owned(), steps })
    }

    /// The value at this path.
    pub(crate) fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.steps.iter().try_fold(value, |value, step| match step {
            Step::Name(name) => value.as_object()?.get(name),
            Step::Index(index) => {
                let list = value.as_array()?;
                let at = if *index < 0 { i64::try_from(list.len()).ok()? + index } else { *index };
                list.get(usize::try_from(at).ok()?)
            }
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn eat(&mut self, expected: &str) -> bool {
        let is_there = self.rest().starts_with(expected);
        self.at += if is_there { expected.len() } else { 0 };
        is_there
    }

    fn wrong(&self, problem: &str) -> String {
        let at = self.text[..self.at].chars().count() + 1;
        format!("JSON path {:?}, character {at}: {problem}", self.text)
    }

    fn step(&mut self) -> Result<Step, String> {
        if self.rest().starts_with("..") || self.rest().starts_with(".*") {
            return Err(self.wrong("a path to several places is not supported, expected one name"));
        }
        if self.eat(".") {
            return self.name();
        }
        if !self.eat("[") {
            return Err(self.wrong("expected . or ["));
        }
        let step = match self.rest().chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote)?,
            Some('-' | '0'..='9') => self.index()?,
            _ => return Err(self.wrong("expected one index, or one name in quotes")),
        };
        if self.eat("]") { Ok(step) } else { Err(self.wrong("expected ]")) }
    }

    /// `member-name-shorthand`.
    fn name(&mut self) -> Result<Step, String> {
        let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
        let rest = self.rest();
        if !rest.starts_with(is_first) {
            return Err(self.wrong("expected a name (others stand in brackets and quotes)"));
        }
        let end = rest.find(|c| !is_first(c) && !c.is_ascii_digit()).unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        self.at += end;
        Ok(Step::Name(name))
    }

    /// `int`: no leading zeros, no `-0`.
    fn index(&mut self) -> Result<Step, String> {
        let rest = self.rest();
        let end = rest[1..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| end + 1);
        let digits = &rest[..end];
        match digits.parse::<i64>() {
            Ok(index) if index.to_string() == digits => {
                self.at += end;
                Ok(Step::Index(index))
            }
            _ => Err(self.wrong("expected an index without leading zeros")),
        }
    }

    /// A name in quotes, with the escapes of JSON, and that of a single quote between such.
    fn quoted(&mut self, quote: char) -> Result<Step, String> {
        let mut json = String::from("\"");
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    json.push('"');
                    let Ok(name) = serde_json::from_str(&json) else { break };
                    self.at += at + 1;
                    return Ok(Step::Name(name));
                }
                '\\' => match chars.next() {
                    Some((_, '\'')) if quote == '\'' => json.push('\''),
                    Some((_, escaped)) => json.extend(['\\', escaped]),
                    None => break,
                },
                '"' => json.push_str("\\\""),
                other => json.push(other),
            }
        }
        Err(self.wrong("expected a name in quotes, with escapes as in JSON"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(path: &str, expected: Option<Value>) {
        let value = json!({"a": {"b c": [1, 2, {"d'": "x"}]}, "\"": 5, "": 6, "é1": 7});
        let found = JsonPath::parse(path).unwrap();
        assert_eq!(found.find(&value).cloned(), expected, "{path}");
        assert_eq!(found.as_str(), path);
    }

    #[track_caller]
    fn check_error(path: &str, expected: &str) {
        let error = JsonPath::parse(path).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_path_leads_to_one_place() {
        check("$.a['b c'][0]", Some(json!(1)));
        check("$[\"a\"][\"b c\"][-1]['d\\'']", Some(json!("x")));
        check("$['\"']", Some(json!(5)));
        check("$['\\u0022']", Some(json!(5)));
        check("$['']", Some(json!(6)));
        check("$.é1", Some(json!(7)));
        for path in ["$.b", "$.a[0]", "$.a['b c'][3]", "$.a['b c'][-4]", "$.é1.x"] {
            check(path, None);
        }
    }

    #[test]
    fn what_leads_to_several_places_is_refused() {
        check_error("a", "character 1: expected $");
        check_error("$..a", "character 2: a path to several places");
        check_error("$.*", "character 2: a path to several places");
        for path in ["$[*]", "$[?@.a]", "$[:2]"] {
            check_error(path, "character 3: expected one index");
        }
        check_error("$[1:2]", "character 4: expected ]");
        check_error("$['a','b']", "character 6: expected ]");
        check_error("$[01]", "character 3: expected an index without leading zeros");
        check_error("$[-]", "expected an index");
        check_error("$[-0]", "expected an index");
        check_error("$[99999999999999999999]", "expected an index");
        check_error("$.1", "expected a name");
        check_error("$['a", "expected a name in quotes");
        check_error("$['a\\", "expected a name in quotes");
        check_error("$a", "expected . or [");
        check_error(&format!("${}", "[0]".repeat(STEPS_MAX + 1)), "at most 128 steps");
    }
}
