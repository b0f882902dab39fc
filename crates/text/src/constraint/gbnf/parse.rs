//! Reads a grammar in GBNF: rules `name ::= expression`.
//!
//! A rule ends with its line, but for lines within parentheses and those behind `::=` and `|`.

use super::chars::CharSet;
use crate::constraint::ConstraintError;
use std::collections::HashMap;

/// Most rules.
const RULES_MAX: usize = 500;
/// Most literals, ranges of classes, names, groups and operators of all rules.
const ITEMS_MAX: usize = 4000;
/// Deepest parentheses.
const DEPTH_MAX: usize = 100;
/// Most operators behind one item: each is one level more for all that walks a rule.
const OPERATORS_MAX: usize = 4;
/// Most repetitions that can be asked for (llama.cpp's bound).
const REPEATS_MAX: u32 = 2000;

/// What a rule, or a part of it, stands for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    /// One character of these.
    Chars(CharSet),
    /// These characters.
    Text(String),
    /// One behind the other; none of them is the empty text.
    Seq(Vec<Expr>),
    /// One of them.
    Alt(Vec<Expr>),
    /// So many times, at least and at most.
    Repeat(Box<Expr>, u32, Option<u32>),
    /// What the rule of this number stands for.
    Rule(usize),
}

/// A grammar: the rules by number.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) bodies: Vec<Expr>,
    pub(super) root: usize,
}

impl Rules {
    /// The rules, each behind those that it names, but where these lead back to it.
    pub(super) fn in_order(&self) -> Vec<usize> {
        let mut order = Vec::new();
        let mut is_seen = vec![false; self.bodies.len()];
        for idx in 0..self.bodies.len() {
            self.visit(idx, &mut is_seen, &mut order);
        }
        order
    }

    fn visit(&self, idx: usize, is_seen: &mut [bool], order: &mut Vec<usize>) {
        if !std::mem::replace(&mut is_seen[idx], true) {
            self.visit_all(&self.bodies[idx], is_seen, order);
            order.push(idx);
        }
    }

    fn visit_all(&self, expr: &Expr, is_seen: &mut [bool], order: &mut Vec<usize>) {
        match expr {
            Expr::Chars(_) | Expr::Text(_) => {}
            Expr::Seq(all) | Expr::Alt(all) => {
                all.iter().for_each(|expr| self.visit_all(expr, is_seen, order));
            }
            Expr::Repeat(inner, ..) => self.visit_all(inner, is_seen, order),
            Expr::Rule(idx) => self.visit(*idx, is_seen, order),
        }
    }
}

pub(super) fn parse(source: &str) -> Result<Rules, ConstraintError> {
    let mut reader = Reader { source, at: 0, names: HashMap::new(), rules: Vec::new(), n_items: 0 };
    reader.space(Lines::Any);
    while reader.peek().is_some() {
        reader.rule()?;
        reader.space(Lines::Any);
    }
    let Some(&root) = reader.names.get("root") else {
        return Err(reader.wrong(0, "no rule is named root, where the grammar begins"));
    };
    let undefined = reader.rules.iter().find(|rule| rule.body.is_none());
    if let Some(Rule { name, first_at, .. }) = undefined {
        return Err(reader.wrong(*first_at, &format!("there is no rule {name}")));
    }
    let bodies = reader.rules.into_iter().filter_map(|rule| rule.body).collect();
    Ok(Rules { bodies, root })
}

/// Whether a line's end is white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lines {
    Any,
    One,
}

struct Rule<'s> {
    name: &'s str,
    /// Where it is first named.
    first_at: usize,
    body: Option<Expr>,
}

struct Reader<'s> {
    source: &'s str,
    at: usize,
    names: HashMap<&'s str, usize>,
    rules: Vec<Rule<'s>>,
    n_items: usize,
}

impl<'s> Reader<'s> {
    fn peek(&self) -> Option<char> {
        self.source[self.at..].chars().next()
    }

    /// Reads `text`, if it is next.
    fn eat(&mut self, text: &str) -> bool {
        let is_next = self.source[self.at..].starts_with(text);
        self.at += if is_next { text.len() } else { 0 };
        is_next
    }

    /// Reads as long as characters are such.
    fn while_is(&mut self, is_such: impl Fn(char) -> bool) -> &'s str {
        let rest = &self.source[self.at..];
        let n_bytes = rest.find(|c: char| !is_such(c)).unwrap_or(rest.len());
        self.at += n_bytes;
        &rest[..n_bytes]
    }

    /// Passes over white space and comments.
    fn space(&mut self, lines: Lines) {
        loop {
            let is_space = |c| matches!(c, ' ' | '\t');
            self.while_is(|c| is_space(c) || lines == Lines::Any && matches!(c, '\r' | '\n'));
            if self.peek() != Some('#') {
                return;
            }
            self.while_is(|c| !matches!(c, '\r' | '\n'));
        }
    }

    fn rule(&mut self) -> Result<(), ConstraintError> {
        let start = self.at;
        let idx = self.name("a rule's name")?;
        self.space(Lines::One);
        if !self.eat("::=") {
            return Err(self.wrong(self.at, "expected ::= behind the name of a rule"));
        }
        self.space(Lines::Any);
        let body = self.alternatives(Lines::One, 0)?;
        if !matches!(self.peek(), None | Some('\r' | '\n')) {
            return Err(self.wrong(self.at, "expected the end of the rule"));
        }
        let rule = &mut self.rules[idx];
        if rule.body.is_some() {
            let problem = format!("rule {} is defined twice", rule.name);
            return Err(self.wrong(start, &problem));
        }
        rule.body = Some(body);
        Ok(())
    }

    /// The number of the rule that is named here.
    fn name(&mut self, expected: &str) -> Result<usize, ConstraintError> {
        let first_at = self.at;
        let name = self.while_is(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if name.is_empty() {
            return Err(self.wrong(first_at, &format!("expected {expected}")));
        }
        let n_rules = self.rules.len();
        let idx = *self.names.entry(name).or_insert(n_rules);
        if idx == n_rules {
            if n_rules == RULES_MAX {
                let (what, found) = ("rules of the grammar", n_rules + 1);
                return Err(ConstraintError::TooLarge { what, found, max: RULES_MAX });
            }
            self.rules.push(Rule { name, first_at, body: None });
        }
        Ok(idx)
    }

    fn alternatives(&mut self, lines: Lines, depth: usize) -> Result<Expr, ConstraintError> {
        let mut all = vec![self.sequence(lines, depth)?];
        while self.eat("|") {
            self.space(Lines::Any);
            all.push(self.sequence(lines, depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Expr::Alt(all) })
    }

    fn sequence(&mut self, lines: Lines, depth: usize) -> Result<Expr, ConstraintError> {
        let mut all = Vec::new();
        while let Some(item) = self.item(depth)? {
            self.n_items += if let Expr::Chars(set) = &item { set.n_ranges() } else { 1 };
            let item = self.repeated(item, lines)?;
            if self.n_items > ITEMS_MAX {
                let (what, found) = ("items of the grammar", self.n_items);
                return Err(ConstraintError::TooLarge { what, found, max: ITEMS_MAX });
            }
            if item != Expr::Seq(Vec::new()) {
                all.push(item);
            }
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Expr::Seq(all) })
    }

    /// What stands here, and can be repeated; `None` at the end of a sequence.
    fn item(&mut self, depth: usize) -> Result<Option<Expr>, ConstraintError> {
        let start = self.at;
        Ok(Some(match self.peek() {
            Some('"') => self.literal()?,
            Some('[') => self.class()?,
            Some('.') => {
                self.at += 1;
                Expr::Chars(CharSet::all())
            }
            Some('(') => {
                if depth == DEPTH_MAX {
                    let problem = format!("parentheses deeper than {DEPTH_MAX}");
                    return Err(self.wrong(start, &problem));
                }
                self.at += 1;
                self.space(Lines::Any);
                let inner = self.alternatives(Lines::Any, depth + 1)?;
                if !self.eat(")") {
                    return Err(self.wrong(self.at, "expected ) or more of the group"));
                }
                inner
            }
            Some('<' | '!') => {
                let problem = "tokens are not supported, expected their text as a literal";
                return Err(self.wrong(start, problem));
            }
            Some(c) if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') => {
                Expr::Rule(self.name("the name of a rule")?)
            }
            Some('*' | '+' | '?' | '{') => {
                return Err(self.wrong(start, "expected something to repeat before this"));
            }
            Some('|' | ')' | '\r' | '\n') | None => return Ok(None),
            Some(c) => {
                let problem = format!("{c:?}: expected a literal, a class, a name or a group");
                return Err(self.wrong(start, &problem));
            }
        }))
    }

    /// `item` with the operators that stand behind it.
    fn repeated(&mut self, mut item: Expr, lines: Lines) -> Result<Expr, ConstraintError> {
        for n_operators in 0.. {
            self.space(lines);
            let start = self.at;
            let (min, max) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => self.bounds()?,
                _ => break,
            };
            if n_operators == OPERATORS_MAX {
                let problem = format!("more than {OPERATORS_MAX} operators behind one item");
                return Err(self.wrong(start, &problem));
            }
            self.at += 1;
            self.n_items += 1;
            item = match item {
                empty if empty == Expr::Seq(Vec::new()) => empty,
                _ if max == Some(0) => Expr::Seq(Vec::new()),
                item => Expr::Repeat(Box::new(item), min, max),
            };
        }
        Ok(item)
    }

    /// `{m}`, `{m,}` or `{m,n}`, up to the brace that closes it.
    fn bounds(&mut self) -> Result<(u32, Option<u32>), ConstraintError> {
        let start = self.at;
        self.at += 1;
        self.space(Lines::One);
        let min = self.count()?;
        self.space(Lines::One);
        let mut max = Some(min);
        if self.eat(",") {
            self.space(Lines::One);
            max = if self.peek() == Some('}') { None } else { Some(self.count()?) };
            self.space(Lines::One);
        }
        if self.peek() != Some('}') {
            return Err(self.wrong(self.at, "expected } behind the counts"));
        }
        if max.is_some_and(|max| max < min) {
            return Err(self.wrong(start, "expected at most as many as at least"));
        }
        Ok((min, max))
    }

    fn count(&mut self) -> Result<u32, ConstraintError> {
        let start = self.at;
        let digits = self.while_is(|c| c.is_ascii_digit());
        let count = digits.parse().ok().filter(|&count| count <= REPEATS_MAX);
        let expected = format!("expected a count of at most {REPEATS_MAX}");
        count.ok_or_else(|| self.wrong(start, &expected))
    }

    fn literal(&mut self) -> Result<Expr, ConstraintError> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        while !self.eat("\"") {
            text.push(self.character(start, "literal")?);
        }
        Ok(if text.is_empty() { Expr::Seq(Vec::new()) } else { Expr::Text(text) })
    }

    fn class(&mut self) -> Result<Expr, ConstraintError> {
        let start = self.at;
        self.at += 1;
        let is_negated = self.eat("^");
        let mut ranges = Vec::new();
        while !self.eat("]") {
            let range_at = self.at;
            let first = self.character(start, "class")?;
            let is_range = self.peek() == Some('-') && !self.source[self.at..].starts_with("-]");
            self.at += usize::from(is_range);
            let last = if is_range { self.character(start, "class")? } else { first };
            if last < first {
                return Err(self.wrong(range_at, "a range that ends before it begins"));
            }
            ranges.push((first.into(), last.into()));
        }
        let set = CharSet::new(ranges);
        let set = if is_negated { set.complement() } else { set };
        if set.is_empty() {
            return Err(self.wrong(start, "a class without characters"));
        }
        Ok(Expr::Chars(set))
    }

    /// A character of a literal or class that began at `start`.
    fn character(&mut self, start: usize, kind: &str) -> Result<char, ConstraintError> {
        let at = self.at;
        let Some(c) = self.peek() else {
            return Err(self.wrong(start, &format!("a {kind} without an end")));
        };
        self.at += c.len_utf8();
        if c != '\\' {
            return Ok(c);
        }
        let escaped = self.peek();
        self.at += escaped.map_or(0, char::len_utf8);
        let n_digits = match escaped {
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some(c @ ('\\' | '"' | '[' | ']' | '-' | '^')) => return Ok(c),
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => {
                let expected = "expected \\n, \\r, \\t, \\\\, \\\", \\[, \\], \\-, \\^, \\x12, \
                                \\u1234 or \\U00012345";
                return Err(self.wrong(at, expected));
            }
        };
        let digits = self.source.get(self.at..self.at + n_digits);
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let value = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let found = value.and_then(char::from_u32);
        self.at += if found.is_some() { n_digits } else { 0 };
        found.ok_or_else(|| {
            self.wrong(at, &format!("expected a character's number in {n_digits} digits"))
        })
    }

    /// What is wrong at a place, by line and column, both from 1.
    fn wrong(&self, at: usize, problem: &str) -> ConstraintError {
        let before = &self.source[..at];
        let line = 1 + before.matches('\n').count();
        let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
        ConstraintError::Grammar(format!("line {line}, column {column}: {problem}"))
    }
}
