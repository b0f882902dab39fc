//! Writes a grammar of characters in Lark's notation, whose parser has a lexer in front of it.
//!
//! A lexer takes the longest piece of text that any terminal has, where a grammar in GBNF means any
//! way to cut the text. So what has no recursion in it, and could be one regular expression, is one
//! terminal only where both agree: the next character alone tells which terminal begins, and none
//! that could go on may be followed by what it could go on with (the LL(1) conditions, with
//! terminals for tokens). A grammar for which that does not hold, as of identifiers and the word
//! `if`, is written with a terminal for each character: all ways to cut a text are followed then,
//! which takes more of a step.

use super::chars::CharSet;
use super::parse::{Expr, Rules};
use serde_json::Value;
use std::collections::HashMap;

/// The same grammar in Lark's notation.
pub(super) fn write(rules: &Rules) -> String {
    let facts = Facts::new(rules);
    let is_regular = facts.is_regular(&Expr::Rule(rules.root));
    // A single terminal has nothing to be confused with.
    let terminals = match is_regular || facts.can_be_cut() {
        true => Terminals::Pieces,
        false => Terminals::Characters,
    };
    Writer::new(&facts, terminals).write()
}

/// What holds of the rules.
struct Facts<'r> {
    rules: &'r Rules,
    /// The rules, those that one names before it.
    order: Vec<usize>,
    /// Whether a rule leads back to itself, at once or by one that does.
    is_recursive: Vec<bool>,
    is_nullable: Vec<bool>,
    /// Characters that a text of the rule begins with, and characters that are in it.
    first: Vec<CharSet>,
    all: Vec<CharSet>,
    /// Of rules without recursion: see [`Facts::goes_on_with`].
    more: Vec<CharSet>,
}

impl<'r> Facts<'r> {
    fn new(rules: &'r Rules) -> Self {
        let n_rules = rules.bodies.len();
        let mut facts = Self {
            rules,
            order: rules.in_order(),
            is_recursive: vec![true; n_rules],
            is_nullable: vec![false; n_rules],
            first: vec![CharSet::default(); n_rules],
            all: vec![CharSet::default(); n_rules],
            more: vec![CharSet::default(); n_rules],
        };
        let order = facts.order.clone();
        // The least sets for which all rules hold; regular is what needs nothing but regular ones.
        let mut has_changed = true;
        while has_changed {
            has_changed = false;
            for &idx in &order {
                let body = &rules.bodies[idx];
                let is_recursive = !facts.is_regular(body);
                let is_nullable = facts.is_nullable(body);
                let (first, all) = (facts.first(body), facts.all(body));
                has_changed |= is_recursive != facts.is_recursive[idx]
                    || is_nullable != facts.is_nullable[idx]
                    || first != facts.first[idx]
                    || all != facts.all[idx];
                facts.is_recursive[idx] = is_recursive;
                facts.is_nullable[idx] = is_nullable;
                (facts.first[idx], facts.all[idx]) = (first, all);
            }
        }
        for idx in order {
            if !facts.is_recursive[idx] {
                facts.more[idx] = facts.goes_on_with(&rules.bodies[idx]);
            }
        }
        facts
    }

    /// Whether there is no recursion in it.
    fn is_regular(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Chars(_) | Expr::Text(_) => true,
            Expr::Seq(all) | Expr::Alt(all) => all.iter().all(|expr| self.is_regular(expr)),
            Expr::Repeat(inner, ..) => self.is_regular(inner),
            Expr::Rule(idx) => !self.is_recursive[*idx],
        }
    }

    /// Whether the empty text is one of its own.
    fn is_nullable(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Chars(_) | Expr::Text(_) => false,
            Expr::Seq(all) => all.iter().all(|expr| self.is_nullable(expr)),
            Expr::Alt(all) => all.iter().any(|expr| self.is_nullable(expr)),
            Expr::Repeat(inner, min, _) => *min == 0 || self.is_nullable(inner),
            Expr::Rule(idx) => self.is_nullable[*idx],
        }
    }

    fn first(&self, expr: &Expr) -> CharSet {
        let mut first = CharSet::default();
        match expr {
            Expr::Chars(set) => first.add(set),
            Expr::Text(text) => text.chars().take(1).for_each(|c| first.add(&CharSet::of(c))),
            Expr::Seq(all) => {
                for expr in all {
                    first.add(&self.first(expr));
                    if !self.is_nullable(expr) {
                        break;
                    }
                }
            }
            Expr::Alt(all) => all.iter().for_each(|expr| first.add(&self.first(expr))),
            Expr::Repeat(inner, ..) => first.add(&self.first(inner)),
            Expr::Rule(idx) => first.add(&self.first[*idx]),
        }
        first
    }

    fn all(&self, expr: &Expr) -> CharSet {
        let mut ranges = Vec::new();
        self.push_all(expr, &mut ranges);
        CharSet::new(ranges)
    }

    fn push_all(&self, expr: &Expr, ranges: &mut Vec<(u32, u32)>) {
        match expr {
            Expr::Chars(set) => ranges.extend(set.ranges()),
            Expr::Text(text) => ranges.extend(text.chars().map(|c| (c.into(), c.into()))),
            Expr::Seq(exprs) | Expr::Alt(exprs) => {
                exprs.iter().for_each(|expr| self.push_all(expr, ranges));
            }
            Expr::Repeat(inner, ..) => self.push_all(inner, ranges),
            Expr::Rule(idx) => ranges.extend(self.all[*idx].ranges()),
        }
    }

    /// What may come behind each rule.
    fn follows(&self) -> Vec<CharSet> {
        let mut follows = vec![CharSet::default(); self.rules.bodies.len()];
        loop {
            let before = follows.clone();
            // Those that name a rule come first, so that mostly one round finds all.
            for &idx in self.order.iter().rev() {
                if self.is_recursive[idx] {
                    let follow = follows[idx].clone();
                    self.add_follows(&self.rules.bodies[idx], follow, &mut follows);
                }
            }
            if follows == before {
                return follows;
            }
        }
    }

    fn add_follows(&self, expr: &Expr, mut follow: CharSet, follows: &mut [CharSet]) {
        match expr {
            Expr::Chars(_) | Expr::Text(_) => {}
            Expr::Rule(idx) => follows[*idx].add(&follow),
            Expr::Alt(all) => {
                all.iter().for_each(|expr| self.add_follows(expr, follow.clone(), follows));
            }
            Expr::Repeat(inner, ..) => {
                follow.add(&self.first(inner));
                self.add_follows(inner, follow, follows);
            }
            Expr::Seq(all) => {
                for expr in all.iter().rev() {
                    self.add_follows(expr, follow.clone(), follows);
                    follow = self.behind(expr, &follow);
                }
            }
        }
    }

    /// What may come where `expr` does, and `follow` behind it.
    fn behind(&self, expr: &Expr, follow: &CharSet) -> CharSet {
        let mut first = self.first(expr);
        if self.is_nullable(expr) {
            first.add(follow);
        }
        first
    }

    /// Whether a lexer cuts every text as the grammar may, with the largest parts without recursion
    /// as its terminals.
    fn can_be_cut(&self) -> bool {
        let follows = self.follows();
        let mut rules = self.rules.bodies.iter().enumerate();
        rules.all(|(idx, body)| {
            !self.is_used(idx)
                || self.is_clear(body, &follows[idx], &mut |expr, follow| {
                    // The lexer sees bytes, and looks one ahead.
                    let is_clear = || !self.goes_on_with(expr).meets_in_first_byte(follow);
                    self.is_regular(expr).then(is_clear)
                })
        })
    }

    /// Whether a rule is one of those that are written as a rule.
    fn is_used(&self, idx: usize) -> bool {
        self.is_recursive[idx] || idx == self.rules.root
    }

    /// Whether the next character decides each choice in `expr`, where `follow` may come behind it.
    /// `leaf` says of what it is for whether that is clear.
    fn is_clear(
        &self,
        expr: &Expr,
        follow: &CharSet,
        leaf: &mut dyn FnMut(&Expr, &CharSet) -> Option<bool>,
    ) -> bool {
        if let Some(is_clear) = leaf(expr, follow) {
            return is_clear && !(self.is_nullable(expr) && self.first(expr).meets(follow));
        }
        match expr {
            Expr::Chars(_) | Expr::Text(_) | Expr::Rule(_) => true,
            Expr::Seq(all) => {
                let mut follow = follow.clone();
                all.iter().rev().all(|expr| {
                    let is_clear = self.is_clear(expr, &follow, leaf);
                    follow = self.behind(expr, &follow);
                    is_clear
                })
            }
            Expr::Alt(all) => {
                let mut begun = CharSet::default();
                if self.is_nullable(expr) {
                    begun.add(follow);
                }
                all.iter().all(|expr| {
                    let first = self.first(expr);
                    let is_new = !first.meets(&begun);
                    begun.add(&first);
                    is_new && self.is_clear(expr, follow, leaf)
                })
            }
            Expr::Repeat(inner, min, max) => {
                let first = self.first(inner);
                let is_exact = *max == Some(*min) && !self.is_nullable(inner);
                let mut behind = follow.clone();
                behind.add(&first);
                (is_exact || !first.meets(follow)) && self.is_clear(inner, &behind, leaf)
            }
        }
    }

    /// The characters with which a whole text of `expr` can go on to a longer one; or more, where
    /// that is not plain to see.
    fn goes_on_with(&self, expr: &Expr) -> CharSet {
        let is_clear = self.is_clear(expr, &CharSet::default(), &mut |expr, follow| {
            // A rule of its own, since what follows it is not known in its body.
            let Expr::Rule(idx) = expr else { return None };
            Some(!self.more[*idx].meets(follow))
        });
        if is_clear { self.clear_goes_on_with(expr) } else { self.all(expr) }
    }

    fn clear_goes_on_with(&self, expr: &Expr) -> CharSet {
        let mut more = CharSet::default();
        match expr {
            Expr::Chars(_) | Expr::Text(_) => {}
            Expr::Rule(idx) => more.add(&self.more[*idx]),
            Expr::Seq(all) => {
                for expr in all.iter().rev() {
                    more.add(&self.clear_goes_on_with(expr));
                    if !self.is_nullable(expr) {
                        break;
                    }
                    more.add(&self.first(expr));
                }
            }
            Expr::Alt(all) => {
                all.iter().for_each(|expr| more.add(&self.clear_goes_on_with(expr)));
                if self.is_nullable(expr) {
                    more.add(&self.first(expr));
                }
            }
            Expr::Repeat(inner, ..) => {
                more.add(&self.clear_goes_on_with(inner));
                more.add(&self.first(inner));
            }
        }
        more
    }
}

/// What terminals are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Terminals {
    /// The largest parts without recursion.
    Pieces,
    Characters,
}

struct Writer<'r> {
    facts: &'r Facts<'r>,
    terminals: Terminals,
    /// By what they stand for.
    names: HashMap<String, String>,
    /// Rules whose terminal is written.
    is_written: Vec<bool>,
    lark: String,
}

impl<'r> Writer<'r> {
    fn new(facts: &'r Facts<'r>, terminals: Terminals) -> Self {
        let is_written = vec![false; facts.rules.bodies.len()];
        Self { facts, terminals, names: HashMap::new(), is_written, lark: String::new() }
    }

    fn write(mut self) -> String {
        let rules = self.facts.rules;
        self.lark = format!("start: rule_{}\n", rules.root);
        for (idx, body) in rules.bodies.iter().enumerate() {
            let is_rule = self.terminals == Terminals::Characters || self.facts.is_used(idx);
            if is_rule {
                let body = self.rule_text(body);
                self.lark.push_str(&format!("rule_{idx}: {body}\n"));
            }
        }
        self.lark
    }

    /// A part of a rule.
    fn rule_text(&mut self, expr: &Expr) -> String {
        if self.terminals == Terminals::Pieces && self.facts.is_regular(expr) {
            return self.piece(expr);
        }
        match expr {
            Expr::Chars(set) => self.terminal(&format!("/{}/", set.class())),
            Expr::Text(text) => {
                let chars =
                    text.chars().map(|c| self.terminal(&quoted(c.encode_utf8(&mut [0; 4]))));
                let chars: Vec<String> = chars.collect();
                chars.join(" ")
            }
            Expr::Seq(all) if all.is_empty() => "\"\"".to_owned(),
            Expr::Seq(all) => {
                let mut parts = Vec::new();
                // Neighbours without recursion are one piece.
                for run in all.chunk_by(|a, b| [a, b].iter().all(|e| self.facts.is_regular(e))) {
                    match run {
                        [_, _, ..] if self.terminals == Terminals::Pieces => {
                            parts.push(self.piece(&Expr::Seq(run.to_vec())));
                        }
                        _ => parts.extend(run.iter().map(|expr| self.rule_text(expr))),
                    }
                }
                parts.join(" ")
            }
            Expr::Alt(all) => {
                let all: Vec<String> = all.iter().map(|expr| self.rule_text(expr)).collect();
                format!("({})", all.join(" | "))
            }
            Expr::Repeat(inner, min, max) => {
                format!("({}){}", self.rule_text(inner), repeat(*min, *max))
            }
            Expr::Rule(idx) => format!("rule_{idx}"),
        }
    }

    /// A terminal for all of `expr`; a terminal has no empty text.
    fn piece(&mut self, expr: &Expr) -> String {
        if self.facts.first(expr).is_empty() {
            return "\"\"".to_owned();
        }
        let text = self.terminal_text(expr);
        match self.facts.is_nullable(expr) {
            true => format!("{}?", self.terminal(&format!("({text}) & /(?s:.+)/"))),
            false => self.terminal(&text),
        }
    }

    /// The name of the terminal that stands for `text`.
    fn terminal(&mut self, text: &str) -> String {
        if let Some(name) = self.names.get(text) {
            return name.clone();
        }
        let name = format!("PIECE_{}", self.names.len());
        self.lark.push_str(&format!("{name}: {text}\n"));
        self.names.insert(text.to_owned(), name.clone());
        name
    }

    /// What stands in a terminal. Each rule is a terminal of its own, so that the text does not
    /// grow with each use.
    fn terminal_text(&mut self, expr: &Expr) -> String {
        match expr {
            Expr::Chars(set) => format!("/{}/", set.class()),
            Expr::Text(text) => quoted(text),
            Expr::Seq(all) if all.is_empty() => "\"\"".to_owned(),
            Expr::Seq(all) => {
                let all: Vec<String> = all.iter().map(|expr| self.terminal_text(expr)).collect();
                all.join(" ")
            }
            Expr::Alt(all) => {
                let all: Vec<String> = all.iter().map(|expr| self.terminal_text(expr)).collect();
                format!("({})", all.join(" | "))
            }
            Expr::Repeat(inner, min, max) => {
                format!("({}){}", self.terminal_text(inner), repeat(*min, *max))
            }
            Expr::Rule(idx) => {
                if !std::mem::replace(&mut self.is_written[*idx], true) {
                    let body = self.terminal_text(&self.facts.rules.bodies[*idx]);
                    self.lark.push_str(&format!("RULE_{idx}: {body}\n"));
                }
                format!("RULE_{idx}")
            }
        }
    }
}

fn repeat(min: u32, max: Option<u32>) -> String {
    match (min, max) {
        (0, None) => "*".to_owned(),
        (1, None) => "+".to_owned(),
        (0, Some(1)) => "?".to_owned(),
        (min, None) => format!("{{{min},}}"),
        (min, Some(max)) => format!("{{{min},{max}}}"),
    }
}

/// A text as Lark and JSON write it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
