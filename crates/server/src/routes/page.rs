//! The page docs/compatibility.md, which is made of the declarations; a test holds it to them.

use super::{Route, all};
use crate::dialects::declared::{Field, Kind, NO_END, POSITIVE, Treatment, Unknown, literal};
use serde_json::Value;
use std::fmt::Write;

/// The command that renews the page.
const RENEW: &str = "UPDATE=1 cargo test --package freehold-server --lib routes::page";

const HEAD: &str = "\
# What becomes of each parameter

This page is made of the declarations that the server itself goes by, and a test sends a real \
request
for each cell of its tables. `GET /openapi.json` (or `freehold openapi`) says the same to programs.

| | a parameter is |
| --- | --- |
| **yes** | honoured, or refused with a 400 that names it |
| **yes, told** | the same as far as the model can; where it had another form for it or no \
effect, a header says so |
| *no effect* | it asks for nothing that this server could fail to do |
| *ignored* | it has no effect, and a header says so |
| **no** | refused with a 400 that names it and says why; `false`, `\"\"` and `[]` ask for \
nothing and pass |

`null` is the same as absent everywhere. What is inside a parameter (a message, a tool, a format) \
goes by the same rule, with
its path as the name. A query is read where one is listed.

Headers of a request: `x-freehold-lenient: true` has parameters that no server knows (these \
names, not what is inside one) told as
ignored where they would be refused; `x-freehold-deadline-ms` is how long the request may take; \
`x-freehold-label` how sensitive it is ([policy.md](policy.md)); \
`Last-Event-ID` goes on with a stream
(with `--resume-streams`; Ollama's streams have no ids and are not resumed). Headers of a response:

| | |
| --- | --- |
| `x-freehold-ignored` | what of the request had no effect, by its path |
| `x-freehold-adapted` | in what it was brought into another form: `tools-prompt`, \
`tool-messages`, `tool-calls`, `system-messages`, `call-ids`, `custom-tools`, `effort`, \
`max-tokens` |
| `x-freehold-unused` | what of the conversation the model's template left out |
| `x-freehold-resumable` | for how many seconds the stream can be resumed |
| `x-freehold-canary` | of an alias with a canary: `true` where that answers, else `false` |
| `x-freehold-receipt` | the id of the answer's [receipt](receipts.md), if it has one |
| `x-freehold-route`, `-upstream`, `-rule`, `-redacted`, `-fallback` | where there are rules, \
who answered and why ([policy.md](policy.md)) |

`model` in an answer is the served model's own name, whatever alias, tag or place of origin it \
was asked for by; of an
upstream's model it is `UPSTREAM/MODEL`.

Vectors are pooled as the model's file says (`pooling_type`: the mean of all tokens, or `[CLS]`) \
and normalised to length 1
on every route, so the product of two is their cosine.
";

/// The whole page.
fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut groups: Vec<&str> = Vec::new();
    for route in all() {
        if !groups.contains(&route.group) {
            groups.push(route.group);
        }
    }
    for group in groups {
        let routes: Vec<&Route> = all().filter(|route| route.group == group).collect();
        write!(page, "\n## {group}\n\n| route | |\n| --- | --- |\n").unwrap();
        for route in &routes {
            let paths: Vec<String> =
                route.paths.iter().map(|path| path.replace("{*", "{")).collect();
            let (method, paths) = (route.method.to_uppercase(), paths.join("`, `"));
            let like = match twin(route) {
                Some(other) => format!(" Takes what `{}` takes.", other.paths[0]),
                None => String::new(),
            };
            writeln!(page, "| `{method} {paths}` | {}{like} |", route.summary).unwrap();
        }
        let has_own = |route: &&Route| !fields(route).is_empty() && twin(route).is_none();
        let routes: Vec<&Route> = routes.into_iter().filter(has_own).collect();
        if !routes.is_empty() {
            table(&routes, &mut page);
        }
    }
    page
}

/// An earlier route that has the same fields, where there are some.
fn twin(route: &Route) -> Option<&'static Route> {
    let earlier = all().take_while(|other| other.paths != route.paths);
    let is_twin = |other: &&Route| fields(other) == fields(route);
    earlier.filter(|_| !fields(route).is_empty()).find(is_twin)
}

/// The fields of a route's body and of its query.
fn fields(route: &Route) -> Vec<&'static Field> {
    let body = route.body.iter().flat_map(|body| body.all_fields());
    body.chain(route.query).collect()
}

/// Fields down, routes across.
fn table(routes: &[&Route], page: &mut String) {
    let mut names: Vec<&str> = Vec::new();
    for field in routes.iter().flat_map(|route| fields(route)) {
        if !names.contains(&field.name) {
            names.push(field.name);
        }
    }
    // First what is honoured; in each part the order of the declarations.
    names.sort_by_key(|name| {
        let ranks = routes.iter().flat_map(|route| fields(route));
        ranks.filter(|field| field.name == *name).map(rank).min()
    });
    let head = |route: &&Route| {
        let path = route.paths[0].trim_start_matches("/v1/");
        // Of one path each method has its own fields.
        match routes.iter().filter(|other| other.paths == route.paths).count() {
            1 => path.to_owned(),
            _ => format!("{} {path}", route.method.to_uppercase()),
        }
    };
    let heads: Vec<String> = routes.iter().map(head).collect();
    let rules: String = routes.iter().map(|_| " --- |").collect();
    writeln!(page, "\n| | {} | values |\n| --- |{rules} --- |", heads.join(" | ")).unwrap();
    for name in names {
        let field = |route: &&Route| fields(route).into_iter().find(|field| field.name == name);
        let declared: Vec<Option<&Field>> = routes.iter().map(field).collect();
        let cells: Vec<String> =
            routes.iter().zip(&declared).map(|(route, field)| cell(route, *field)).collect();
        let mut texts: Vec<String> = Vec::new();
        for text in declared.into_iter().flatten().map(text) {
            if !text.is_empty() && !texts.contains(&text) {
                texts.push(text);
            }
        }
        writeln!(page, "| `{name}` | {} | {} |", cells.join(" | "), texts.join("; or ")).unwrap();
    }
    let cells: Vec<String> = routes.iter().map(|route| cell(route, None)).collect();
    writeln!(page, "| any other | {} | |", cells.join(" | ")).unwrap();
}

fn rank(field: &Field) -> usize {
    match field.treatment {
        Treatment::Honoured | Treatment::Adapted => 0,
        Treatment::Tolerated => 1,
        Treatment::Ignored => 2,
        Treatment::Refused(_) => 3,
    }
}

/// What becomes of a field on a route, in one word.
fn cell(route: &Route, field: Option<&Field>) -> String {
    let word = match (field.map(|field| field.treatment), &route.body) {
        (Some(Treatment::Honoured), _) => "**yes**",
        (Some(Treatment::Adapted), _) => "**yes, told**",
        (Some(Treatment::Tolerated), _) => "*no effect*",
        (Some(Treatment::Ignored), _) => "*ignored*",
        (Some(Treatment::Refused(_)), _) => "**no**",
        (None, Some(body)) if body.unknown == Unknown::Ignored => "*ignored*",
        (None, Some(_)) => "no",
        (None, None) => "",
    };
    word.to_owned()
}

/// Its values, and what there is to know of it.
fn text(field: &Field) -> String {
    let quoted = |words: &[&str]| {
        words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
    };
    let values = match (field.treatment, field.kind) {
        (Treatment::Refused(why), _) => why.to_owned(),
        (_, Kind::Any) => String::new(),
        (_, Kind::Flag) => "true or false".to_owned(),
        (_, Kind::Text) => "a string".to_owned(),
        (_, Kind::Words(words)) => quoted(words),
        (_, Kind::Number(least, most)) if least == POSITIVE => {
            format!("a number above 0, at most {most}")
        }
        (_, Kind::Number(least, most)) => format!("a number from {least} to {most}"),
        (_, Kind::Integer(i64::MIN, _)) => "a 64-bit integer".to_owned(),
        (_, Kind::Integer(least, NO_END)) => format!("an integer from {least}"),
        (_, Kind::Integer(least, most)) => format!("an integer from {least} to {most}"),
        (_, Kind::Shape(schema)) => shape(&literal(schema)),
    };
    let by_model = if field.is_by_model { "as far as the model can, else refused" } else { "" };
    let parts = [&values, by_model, field.note];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The types that a schema allows.
fn shape(schema: &Value) -> String {
    let word = |kind: &str| match kind {
        "array" => match schema["items"]["type"].as_str() {
            Some(items @ ("string" | "integer" | "object")) => format!("a list of {items}s"),
            _ => "a list".to_owned(),
        },
        "object" => "an object".to_owned(),
        "boolean" => "true or false".to_owned(),
        kind => format!("a {kind}"),
    };
    let kinds = match (&schema["type"], &schema["anyOf"], &schema["enum"]) {
        (Value::String(kind), _, _) => vec![word(kind)],
        (Value::Array(kinds), _, _) => kinds.iter().filter_map(Value::as_str).map(word).collect(),
        (_, Value::Array(either), _) => either.iter().map(shape).collect(),
        (_, _, Value::Array(words)) => words.iter().map(|word| format!("`{word}`")).collect(),
        _ => Vec::new(),
    };
    let mut kinds: Vec<String> = kinds.into_iter().map(|kind| kind.replace('"', "")).collect();
    kinds.dedup();
    kinds.join(", ")
}

#[test]
fn the_page_is_what_is_declared() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compatibility.md");
    let expected = page();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == expected, "docs/compatibility.md is not current: {RENEW}");
}
