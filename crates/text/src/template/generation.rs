//! `{% generation %}` … `{% endgeneration %}`: marks the assistant's own words for training.
//!
//! For a rendering the marks are transparent, except that variables set inside do not leave the
//! block. `{% with %}` is exactly that, so the tags are renamed before the template is compiled.

use std::borrow::Cow;

/// Returns `source` with its generation tags as `with` tags; whitespace control is kept.
pub(super) fn as_plain_blocks(source: &str) -> String {
    let mut output = String::with_capacity(source.len());
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
        output.push_str(&renamed(&tag[..end]));
        rest = &tag[end..];
        if tag_word(&tag[..end]) == Some("raw") {
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

/// The only word of a block tag such as `{%- raw %}`.
fn tag_word(tag: &str) -> Option<&str> {
    let inside = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let inside = inside.strip_prefix(['-', '+']).unwrap_or(inside);
    let inside = inside.strip_suffix(['-', '+']).unwrap_or(inside);
    Some(inside.trim())
}

fn renamed(tag: &str) -> Cow<'_, str> {
    match tag_word(tag) {
        Some("generation") => tag.replacen("generation", "with", 1).into(),
        Some("endgeneration") => tag.replacen("endgeneration", "endwith", 1).into(),
        _ => tag.into(),
    }
}

/// Index of the tag that closes a raw section, or the end of `text`.
fn raw_end(text: &str) -> usize {
    text.match_indices("{%")
        .map(|(at, _)| at)
        .find(|&at| {
            let close = text[at..].find("%}").map(|end| &text[at..at + end + 2]);
            close.and_then(tag_word) == Some("endraw")
        })
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::as_plain_blocks;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(as_plain_blocks(source), expected);
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
    fn leaves_what_is_not_closed() {
        check("{", "{");
        check("x {% generation", "x {% generation");
        check("{# {% generation %}", "{# {% generation %}");
        check("{% raw %}{% generation %}", "{% raw %}{% generation %}");
        check("{ {% generation %}é", "{ {% with %}é");
    }
}
