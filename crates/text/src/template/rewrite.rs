//! Rewrites the tags of a template whose meaning differs between Jinja2 and the engine.
//!
//! `{% generation %}` … `{% endgeneration %}` marks the assistant's own words for training. For a
//! rendering the marks are transparent, except that variables set inside do not leave the block:
//! `{% with %}` is exactly that.
//!
//! `{% for x in none %}` is an error in Python and an empty loop in the engine. A template that
//! makes this mistake (without tools, say) fails in `transformers`, and must not render something
//! else here, so what is looped over passes through the filter [`CHECKED`].
//!
//! Lines stay where they are, so that the places in error messages are those of the source.

use std::borrow::Cow;
use std::ops::Range;

/// Name of the filter that returns its value, or fails where Python could not iterate over it.
pub(super) const CHECKED: &str = "checked_iterable";

/// Returns `source` in the engine's words.
pub(super) fn for_engine(source: &str) -> String {
    let mut output = String::with_capacity(source.len() + 64);
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        let tag = &rest[start..];
        let end = match tag.as_bytes().get(1) {
            Some(b'#') => tag.find("#}").map(|at| at + 2),
            Some(b'%') => tag_end(tag, "%}"),
            Some(b'{') => tag_end(tag, "}}"),
            _ => Some(1),
        };
        // An unclosed tag is the compiler's to report.
        let Some(end) = end else { break };
        output.push_str(&rest[..start]);
        output.push_str(&rewritten(&tag[..end]));
        rest = &tag[end..];
        if block_body(&tag[..end]) == Some("raw") {
            let raw_end = raw_end(rest);
            output.push_str(&rest[..raw_end]);
            rest = &rest[raw_end..];
        }
    }
    output.push_str(rest);
    output
}

/// Index past the `close` that ends `tag`, which stands outside string literals.
fn tag_end(tag: &str, close: &str) -> Option<usize> {
    let bytes = tag.as_bytes();
    let mut quote = None;
    let mut at = 2;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, _) if bytes[at..].starts_with(close.as_bytes()) => {
                return Some(at + close.len());
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// What stands in a block tag such as `{%- raw %}`, without its marks.
fn block_body(tag: &str) -> Option<&str> {
    let inside = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let inside = inside.strip_prefix(['-', '+']).unwrap_or(inside);
    let inside = inside.strip_suffix(['-', '+']).unwrap_or(inside);
    Some(inside.trim())
}

fn rewritten(tag: &str) -> Cow<'_, str> {
    match block_body(tag) {
        Some("generation") => tag.replacen("generation", "with", 1).into(),
        Some("endgeneration") => tag.replacen("endgeneration", "endwith", 1).into(),
        Some(body) if body.starts_with("for") => match iterable(body) {
            Some(range) => {
                let (before, after) = tag.split_at(tag.find(body).unwrap_or(0));
                let (start, end) = (range.start, range.end);
                let (target, iterable) = (&after[..start], &after[start..end]);
                format!("{before}{target}({iterable})|{CHECKED} {}", &after[end..]).into()
            }
            None => tag.into(),
        },
        _ => tag.into(),
    }
}

/// Where in `for TARGET in ITERABLE [if …] [recursive]` the iterable stands.
fn iterable(body: &str) -> Option<Range<usize>> {
    let mut words = top_level_words(body).into_iter();
    if words.next()? != ("for", 0) {
        return None;
    }
    let start = words.find(|(word, _)| *word == "in")?.1 + "in".len();
    let end = words
        .find(|&(word, at)| {
            matches!(word, "if" | "recursive") && !body[start..at].trim().is_empty()
        })
        .map_or(body.len(), |(_, at)| at);
    (!body[start..end].trim().is_empty()).then_some(start..end)
}

/// The words of an expression that stand outside brackets and strings, with their places.
fn top_level_words(body: &str) -> Vec<(&str, usize)> {
    let mut words = Vec::new();
    let mut depth = 0usize;
    let mut quote = None;
    let mut word_start = None;
    let mut is_escaped = false;
    for (at, char) in body.char_indices().chain([(body.len(), ' ')]) {
        let is_word = quote.is_none() && (char.is_alphanumeric() || char == '_' || char == '.');
        match (is_word, word_start) {
            (true, None) => word_start = Some(at),
            (false, Some(start)) => {
                if depth == 0 {
                    words.push((&body[start..at], start));
                }
                word_start = None;
            }
            _ => {}
        }
        match (quote, char) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(open), _) if char == open => quote = None,
            (None, '"' | '\'') => quote = Some(char),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    words
}

/// Index of the tag that closes a raw section, or the end of `text`.
fn raw_end(text: &str) -> usize {
    text.match_indices("{%")
        .map(|(at, _)| at)
        .find(|&at| {
            let close = text[at..].find("%}").map(|end| &text[at..at + end + 2]);
            close.and_then(block_body) == Some("endraw")
        })
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::for_engine;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(for_engine(source), expected);
    }

    #[test]
    fn renames_only_the_tags() {
        check("a{%- generation -%}b{% endgeneration +%}c", "a{%- with -%}b{% endwith +%}c");
        check("{%generation%}{%endgeneration%}", "{%with%}{%endwith%}");
        check("{# {% generation %} #}", "{# {% generation %} #}");
        check("{{ '{% generation %}' }}", "{{ '{% generation %}' }}");
        check("{{ '\\'}}{% generation %}' }}", "{{ '\\'}}{% generation %}' }}");
        check("{% if add_generation_prompt %}", "{% if add_generation_prompt %}");
        check(
            "{% raw %}{% generation %}{%- endraw %}{% generation %}",
            "{% raw %}{% generation %}{%- endraw %}{% with %}",
        );
    }

    #[test]
    fn loops_check_what_they_iterate_over() {
        check("{%- for a in b -%}", "{%- for a in( b)|checked_iterable  -%}");
        check("{% for a, b in c.d(e if f) %}", "{% for a, b in( c.d(e if f))|checked_iterable  %}");
        check("{% for a in b if c %}", "{% for a in( b )|checked_iterable if c %}");
        check(
            "{% for a in b[' if \\' if '] recursive %}",
            "{% for a in( b[' if \\' if '] )|checked_iterable recursive %}",
        );
        check("{%for(a)in(b)%}", "{%for(a)in((b))|checked_iterable %}");
        check(
            "{% for recursive in recursive %}",
            "{% for recursive in( recursive)|checked_iterable  %}",
        );
        for unfinished in ["{% for %}", "{% for a %}", "{% for a in %}", "{% form a in b %}"] {
            check(unfinished, unfinished);
        }
    }

    #[test]
    fn leaves_what_is_not_closed() {
        check("{", "{");
        check("x {% generation", "x {% generation");
        check("{# {% generation %}", "{# {% generation %}");
        check("{% raw %}{% generation %}", "{% raw %}{% generation %}");
        check("{ {% generation %}é", "{ {% with %}é");
    }
}
