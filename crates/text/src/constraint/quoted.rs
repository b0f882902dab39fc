//! A grammar in Lark's notation of texts that stand inside a string of JSON: the same grammar of
//! the same texts as JSON writes them.
//!
//! Each character is written in one way, `\n` and not `\u000a`, so that what a text of two parts
//! becomes is what the parts become, and it is enough to do so with each terminal: strings,
//! regular expressions and ranges. Tokens of the vocabulary, other grammars within this one, and
//! attributes of llguidance's own have no meaning inside a string and are refused.

use super::{ConstraintError, check_lark};
use regex_syntax::hir::print::Printer;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Repetition};
use serde_json::Value;

/// Longest grammar that comes of one, in bytes: a class of all characters is some 100 bytes long.
const QUOTED_BYTES_MAX: usize = 512 << 10;

/// What `%import common.NAME` stands for (llguidance's `lark/common.rs`, after Lark's
/// `common.lark`).
const COMMON: [(&str, &str); 25] = [
    ("DIGIT", r"[0-9]"),
    ("HEXDIGIT", r"[a-fA-F0-9]"),
    ("INT", r"[0-9]+"),
    ("SIGNED_INT", r"(\+|-)?[0-9]+"),
    ("DECIMAL", r"([0-9]+\.[0-9]*)|(\.[0-9]+)"),
    ("_EXP", r"[eE](\+|-)?[0-9]+"),
    ("FLOAT", r"([0-9]+\.[0-9]*|\.[0-9]+)([eE](\+|-)?[0-9]+)?|[0-9]+[eE](\+|-)?[0-9]+"),
    (
        "SIGNED_FLOAT",
        r"(\+|-)?(([0-9]+\.[0-9]*|\.[0-9]+)([eE](\+|-)?[0-9]+)?|[0-9]+[eE](\+|-)?[0-9]+)",
    ),
    ("NUMBER", r"([0-9]+)|([0-9]+\.[0-9]*|\.[0-9]+)([eE](\+|-)?[0-9]+)?|[0-9]+[eE](\+|-)?[0-9]+"),
    (
        "SIGNED_NUMBER",
        r"(\+|-)?(([0-9]+)|([0-9]+\.[0-9]*|\.[0-9]+)([eE](\+|-)?[0-9]+)?|[0-9]+[eE](\+|-)?[0-9]+)",
    ),
    ("ESCAPED_STRING", r#"\"([^\"\\]|\\.)*\""#),
    ("LCASE_LETTER", r"[a-z]"),
    ("UCASE_LETTER", r"[A-Z]"),
    ("LETTER", r"[A-Za-z]"),
    ("WORD", r"[A-Za-z]+"),
    ("CNAME", r"[_A-Za-z][_A-Za-z0-9]*"),
    ("WS_INLINE", r"[ \t]+"),
    ("WS", r"[ \t\f\r\n]+"),
    ("CR", r"\r"),
    ("LF", r"\n"),
    ("NEWLINE", r"(\r?\n)+"),
    ("SH_COMMENT", r"#[^\n]*"),
    ("CPP_COMMENT", r"//[^\n]*"),
    ("C_COMMENT", r"\/\*[^*]*\*+(?:[^/*][^*]*\*+)*\/"),
    ("SQL_COMMENT", r"--[^\n]*"),
];

/// The grammar of what stands between the quotes of a string that is a text of `source`.
///
/// # Errors
/// What cannot stand there, by its line, and the bounds of a grammar.
pub(crate) fn quote(source: &str) -> Result<String, ConstraintError> {
    check_lark(source)?;
    let mut reader = Reader { source, rest: source, out: String::new(), line: 1, depth: 0 };
    while !reader.rest.is_empty() {
        reader.step()?;
        if reader.out.len() > QUOTED_BYTES_MAX {
            let what = "bytes of the grammar as it is inside a string of JSON";
            let (found, max) = (reader.out.len(), QUOTED_BYTES_MAX);
            return Err(ConstraintError::TooLarge { what, found, max });
        }
    }
    Ok(reader.out)
}

struct Reader<'s> {
    source: &'s str,
    rest: &'s str,
    out: String,
    line: usize,
    /// How many parentheses are open.
    depth: usize,
}

/// A text of the grammar, and its flag, which is `i` or nothing.
type Text<'s> = (String, &'s str);

impl<'s> Reader<'s> {
    /// Reads one part and writes what becomes of it.
    fn step(&mut self) -> Result<(), ConstraintError> {
        let c = self.rest.chars().next().unwrap_or_default();
        match c {
            '#' => self.skip_comment(),
            '/' if self.rest.starts_with("//") => self.skip_comment(),
            '/' => {
                let (pattern, flags) = self.regex()?;
                self.put_regex(pattern, flags)?;
            }
            '"' => self.put_text()?,
            '%' => self.directive()?,
            '<' => return Err(self.wrong("a token", "a string cannot be held to tokens")),
            '@' => return Err(self.wrong("another grammar", "there is none beside this one")),
            '~' if !self.rest[1..].trim_start().starts_with(|c: char| c.is_ascii_digit()) => {
                return Err(self.wrong("~", "what a terminal is not cannot be held to here"));
            }
            '[' if self.is_in_head() => {
                return Err(self.wrong("attributes of a rule", "expected none"));
            }
            _ => {
                match c {
                    '(' | '[' => self.depth += 1,
                    ')' | ']' => self.depth = self.depth.saturating_sub(1),
                    '\n' => self.line += 1,
                    _ => {}
                }
                self.out.push(c);
                self.take(c.len_utf8());
            }
        }
        Ok(())
    }

    fn take(&mut self, n_bytes: usize) -> &'s str {
        let (taken, rest) = self.rest.split_at(n_bytes);
        self.rest = rest;
        taken
    }

    fn skip_comment(&mut self) {
        let n_bytes = self.rest.find('\n').unwrap_or(self.rest.len());
        self.take(n_bytes);
    }

    /// Whether what was read of this line is the name of a rule, up to its colon.
    fn is_in_head(&self) -> bool {
        let read = &self.source[..self.source.len() - self.rest.len()];
        let line = read.rsplit('\n').next().unwrap_or_default().trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-!?.".contains(c);
        self.depth == 0 && !line.is_empty() && line.chars().all(is_name)
    }

    fn wrong(&self, what: &str, why: &str) -> ConstraintError {
        ConstraintError::Grammar(format!("line {}: {what}: {why}", self.line))
    }

    /// Behind the opening mark up to the closing one, which is not behind a backslash.
    fn delimited(&mut self, mark: char, what: &str) -> Result<&'s str, ConstraintError> {
        let mut is_escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                '\n' if mark == '"' => break,
                c if c == mark && !is_escaped => return Ok(&self.take(at + 1)[1..at]),
                _ => is_escaped = c == '\\' && !is_escaped,
            }
        }
        Err(self.wrong(what, &format!("expected {mark} at its end")))
    }

    fn regex(&mut self) -> Result<(&'s str, &'s str), ConstraintError> {
        let pattern = self.delimited('/', "a regular expression")?;
        self.line += pattern.matches('\n').count();
        let n_flags = self.rest.len() - self.rest.trim_start_matches(is_flag).len();
        Ok((pattern, self.take(n_flags)))
    }

    fn put_regex(&mut self, pattern: &str, flags: &str) -> Result<(), ConstraintError> {
        let whole = match flags {
            "" => pattern.to_owned(),
            flags => format!("(?{flags}){pattern}"),
        };
        let quoted =
            quote_regex(&whole).map_err(|why| self.wrong(&format!("/{pattern}/"), &why))?;
        // As the grammar's lexer wants it; a class keeps its meaning.
        self.out.push_str(&format!("/{}/", quoted.replace('/', "\\/")));
        Ok(())
    }

    fn text(&mut self) -> Result<Text<'s>, ConstraintError> {
        let inner = self.delimited('"', "a string")?;
        let text = unescaped(inner).map_err(|why| self.wrong(&format!("\"{inner}\""), &why))?;
        let n_flags = usize::from(self.rest.starts_with('i'));
        Ok((text, self.take(n_flags)))
    }

    /// A string, or the range from one to another.
    fn put_text(&mut self) -> Result<(), ConstraintError> {
        let (text, flag) = self.text()?;
        let behind = self.rest.trim_start_matches([' ', '\t']);
        if let Some(behind) = behind.strip_prefix("..") {
            let behind = behind.trim_start_matches([' ', '\t']);
            if behind.starts_with('"') {
                self.take(self.rest.len() - behind.len());
                let (end, _) = self.text()?;
                let [start, end] = [&text, &end].map(|text| regex_syntax::escape(text));
                return self.put_regex(&format!("[{start}-{end}]"), "");
            }
        }
        if flag == "i" {
            return self.put_regex(&regex_syntax::escape(&text), "i");
        }
        // What JSON writes for it, as a string of the grammar, which is JSON's again.
        let quoted = Value::from(text).to_string();
        let again = Value::from(&quoted[1..quoted.len() - 1]).to_string();
        self.out.push_str(&again.replace('\u{7f}', "\\u007f"));
        Ok(())
    }

    /// A line that begins with `%`.
    fn directive(&mut self) -> Result<(), ConstraintError> {
        let is_word = |c: char| c.is_ascii_alphabetic();
        let word = self.rest[1..].split(|c| !is_word(c)).next().unwrap_or_default();
        match word {
            "ignore" => {
                self.out.push_str("%ignore");
                self.take("%ignore".len());
                Ok(())
            }
            "import" => {
                let n_bytes = self.rest.find('\n').unwrap_or(self.rest.len());
                let line = self.take(n_bytes);
                let line = line.split("//").next().unwrap_or_default();
                let line = line.split('#').next().unwrap_or_default();
                self.import(line["%import".len()..].trim())
            }
            word => {
                let why = "expected %ignore or %import only";
                Err(self.wrong(&format!("%{word}"), why))
            }
        }
    }

    /// `common.NAME`, `common.NAME -> OTHER` or `common (NAME, NAME)`.
    fn import(&mut self, what: &str) -> Result<(), ConstraintError> {
        let names: Vec<(&str, &str)> = match what.strip_prefix("common").map(str::trim) {
            Some(list) if list.starts_with('(') && list.ends_with(')') => {
                list[1..list.len() - 1].split(',').map(|name| (name.trim(), name.trim())).collect()
            }
            Some(path) if path.starts_with('.') => match path[1..].split_once("->") {
                Some((name, alias)) => vec![(name.trim(), alias.trim())],
                None => vec![(path[1..].trim(), path[1..].trim())],
            },
            _ => Vec::new(),
        };
        if names.is_empty() {
            let why = "expected a terminal of `common`";
            return Err(self.wrong(&format!("%import {what}"), why));
        }
        for (idx, (name, alias)) in names.into_iter().enumerate() {
            let Some((_, pattern)) = COMMON.iter().find(|(common, _)| *common == name) else {
                let all: Vec<&str> = COMMON.iter().map(|(name, _)| *name).collect();
                let why = format!("expected one of {}", all.join(", "));
                return Err(self.wrong(&format!("%import {what}: {name:?}"), &why));
            };
            let is_such = |c| matches!(c, 'A'..='Z' | '0'..='9' | '_' | '-');
            if alias.is_empty() || !alias.chars().all(is_such) {
                let why = "expected the name of a terminal, in capitals";
                return Err(self.wrong(&format!("%import {what}: {alias:?}"), why));
            }
            // A line more for each further one.
            self.out.push_str(if idx == 0 { "" } else { "\n" });
            self.out.push_str(&format!("{alias}: "));
            self.put_regex(pattern, "")?;
        }
        Ok(())
    }
}

fn is_flag(c: char) -> bool {
    "imslux".contains(c)
}

/// The text that stands between the quotes of a string: JSON's, with `\x41` besides.
fn unescaped(inner: &str) -> Result<String, String> {
    let mut json = String::from("\"");
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let escape = if c == '\\' { chars.next() } else { None };
        match escape {
            Some('x') => json.push_str("\\u00"),
            Some(other) => json.extend(['\\', other]),
            None => json.push(c),
        }
    }
    json.push('"');
    serde_json::from_str(&json).map_err(|error| error.to_string())
}

/// The regular expression of what the texts of `pattern` become.
fn quote_regex(pattern: &str) -> Result<String, String> {
    // The message shows the pattern over several lines; its last one says what is wrong.
    let reason = |error: regex_syntax::Error| {
        let text = error.to_string();
        text.lines().next_back().unwrap_or_default().trim_start_matches("error: ").to_owned()
    };
    let hir = quote_hir(&regex_syntax::parse(pattern).map_err(reason)?)?;
    let mut quoted = String::new();
    Printer::new().print(&hir, &mut quoted).map_err(|error| error.to_string())?;
    Ok(quoted)
}

/// As deep as the parser lets an expression be.
fn quote_hir(hir: &Hir) -> Result<Hir, String> {
    let all = |subs: &[Hir]| subs.iter().map(quote_hir).collect::<Result<Vec<_>, _>>();
    Ok(match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => hir.clone(),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).map_err(|error| error.to_string())?;
            let quoted = Value::from(text).to_string();
            Hir::literal(quoted.as_bytes()[1..quoted.len() - 1].to_vec())
        }
        HirKind::Class(Class::Unicode(class)) => quote_class(class),
        HirKind::Class(Class::Bytes(class)) => match class.to_unicode_class() {
            Some(class) => quote_class(&class),
            None => return Err("bytes that are no characters".to_owned()),
        },
        HirKind::Repetition(repetition) => {
            let sub = Box::new(quote_hir(&repetition.sub)?);
            Hir::repetition(Repetition { sub, ..repetition.clone() })
        }
        HirKind::Capture(capture) => quote_hir(&capture.sub)?,
        HirKind::Concat(subs) => Hir::concat(all(subs)?),
        HirKind::Alternation(subs) => Hir::alternation(all(subs)?),
    })
}

/// The class without what JSON escapes, or one of those escapes.
fn quote_class(class: &ClassUnicode) -> Hir {
    let escaped = ['\0'..='\x1f', '"'..='"', '\\'..='\\'];
    let range = |range: std::ops::RangeInclusive<char>| {
        ClassUnicodeRange::new(*range.start(), *range.end())
    };
    let escaped = ClassUnicode::new(escaped.map(range));
    let (mut plain, mut others) = (class.clone(), class.clone());
    plain.difference(&escaped);
    others.intersect(&escaped);
    let mut ways = Vec::new();
    if !plain.ranges().is_empty() || others.ranges().is_empty() {
        ways.push(Hir::class(Class::Unicode(plain)));
    }
    // By all but the last character of how they are written: `\`, `\u000` and `\u001`.
    for before in ["\\", "\\u000", "\\u001"] {
        let chars = others.ranges().iter().flat_map(|range| range.start()..=range.end());
        let last = |c: char| {
            let quoted = Value::from(c.to_string()).to_string();
            let (head, last) = quoted[1..quoted.len() - 1].split_at(quoted.len() - 3);
            last.chars().next().filter(|_| head == before)
        };
        let lasts: Vec<_> = chars.filter_map(last).map(|c| range(c..=c)).collect();
        if !lasts.is_empty() {
            let last = Hir::class(Class::Unicode(ClassUnicode::new(lasts)));
            ways.push(Hir::concat(vec![Hir::literal(before.as_bytes().to_vec()), last]));
        }
    }
    Hir::alternation(ways)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(quote(source).unwrap(), expected, "{source}");
    }

    #[track_caller]
    fn refused(source: &str, words: &[&str]) {
        let told = quote(source).unwrap_err().to_string();
        assert!(words.iter().all(|word| told.contains(word)), "{source}: {told}");
    }

    #[test]
    fn terminals_are_written_as_json_writes_their_texts() {
        check("start: \"a\" b # no more\nb: \"\"", "start: \"a\" b \nb: \"\"");
        check(r#"A: "say \"hi\"\n\x41""#, r#"A: "say \\\"hi\\\"\\nA""#);
        check("A: /[a-c]+/", "A: /[a-c]+/");
        check(r"A: /a\/b/ // why", r"A: /(?:a\/b)/ ");
        check(r#"A: "a".."c" ~ 2..3"#, "A: /[a-c]/ ~ 2..3");
        check(r#"A: "a" ~2 | B?"#, r#"A: "a" ~2 | B?"#);
        check("%ignore / +/\n%import common.LF -> X", "%ignore / +/\nX: /(?:\\\\n)/");
        check("%import common (DIGIT, LCASE_LETTER)", "DIGIT: /[0-9]/\nLCASE_LETTER: /[a-z]/");
    }

    /// Whether `pattern` matches all of `text` is whether what becomes of it matches all of what
    /// JSON makes of that.
    #[test]
    fn a_regular_expression_takes_the_same_texts() {
        let texts =
            ["", "a", "\"", "\\", "a\"b", "\n", "\t\r\u{8}\u{c}", "\u{1}\u{1f}", "é/", "nn"];
        let patterns = [
            "",
            ".*",
            "(?s).*",
            r#"[^"]*"#,
            r#"(?s:\\|"|a)+"#,
            r"[\x00-\x1f]+",
            r"\s+",
            r"[[:cntrl:]]{2}",
            r"(?i)N{2}|A",
            r#"a"?b?"#,
            r"\W",
        ];
        let is_match = |pattern: &str, text: &str| {
            regex::Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(text)
        };
        let mut n_matched = 0;
        for pattern in patterns {
            let quoted = quote_regex(pattern).unwrap();
            for text in texts {
                let json = Value::from(text).to_string();
                let json = &json[1..json.len() - 1];
                let expected = is_match(pattern, text);
                assert_eq!(is_match(&quoted, json), expected, "{pattern}: {quoted}: {text:?}");
                n_matched += usize::from(expected);
            }
        }
        assert!(n_matched > 20, "{n_matched}");
    }

    #[test]
    fn what_has_no_meaning_in_a_string_is_refused_by_its_line() {
        refused("start: \"a\"\n  | <eos>", &["line 2: a token"]);
        refused("start: @other", &["line 1: another grammar"]);
        refused("start: A\n\nA: ~\"a\"", &["line 3: ~"]);
        refused("start[lazy]: /a/", &["line 1: attributes"]);
        refused("start: %json {}", &["%json"]);
        refused("start: %regex {}", &["line 1: %regex", "expected %ignore"]);
        refused("%llguidance {}\nstart: \"a\"", &["line 1: %llguidance"]);
        refused("%import common.NO", &["\"NO\"", "expected one of DIGIT"]);
        refused("%import other.INT", &["%import other.INT", "`common`"]);
        refused("start: \"a", &["line 1: a string: expected \" at its end"]);
        refused("start: /a(/", &["line 1: /a(/: unclosed group"]);
        refused("start: \"\\q\"", &["line 1: \"\\q\": invalid escape"]);
        let long = format!("start: {}", "/./ ".repeat(12_000));
        refused(&long, &["inside a string of JSON", "expected at most"]);
    }

    proptest! {
        #[test]
        fn any_text_is_quoted_or_refused(
            source in "([a-cé/\"\\\\%~\\[\\]().|:<@#\n -]|\\.\\.|%import |common|start: ){0,40}",
        ) {
            let _ = quote(&source);
        }
    }
}
