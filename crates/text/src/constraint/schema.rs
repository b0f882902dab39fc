//! A JSON schema as the grammar's parser takes it, with nothing passed over in silence.
//!
//! The parser ignores keywords that it does not know, and gives no place for those that it refuses.
//! So a schema is walked here first: each keyword is one that the parser enforces or one that says
//! nothing about values, or it is refused by path and name. What is left is written anew:
//! references point to `#/$defs/<n>`, and `oneOf` becomes `anyOf` where no value can match two
//! branches.

use super::ConstraintError;
use regex_syntax::hir::Look;
use serde_json::{Map, Value, json};
use std::cell::Cell;

/// Deepest nesting of schemas. JSON's own parser stops at 128 levels of values.
const DEPTH_MAX: usize = 128;
/// Most definitions that are referred to: the parser recurses along them.
const REFERENCES_MAX: usize = 1000;
/// Most schemas that are written, those of definitions included.
const SCHEMAS_MAX: usize = 20_000;
/// Most levels of nesting of all definitions together: the parser recurses along references too.
const LEVELS_MAX: usize = 4000;
/// Longest way from a reference to what is no reference itself.
const HOPS_MAX: usize = 16;
/// Most comparisons to find out whether branches of `oneOf` exclude each other: unions, references
/// and properties multiply.
const COMPARISONS_MAX: usize = 100_000;
/// Most places of what is left out that are kept.
const PLACES_MAX: usize = 16;

macro_rules! date {
    () => {
        concat!(
            "(?:[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])",
            "|[0-9]{4}-(?:0[13-9]|1[0-2])-(?:29|30)",
            "|[0-9]{4}-(?:0[13578]|1[02])-31",
            "|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])",
            "|(?:[02468][048]|[13579][26])00)-02-29)"
        )
    };
}
macro_rules! time {
    () => {
        concat!(
            "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?",
            "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
        )
    };
}

/// Keywords that the parser enforces and whose value is no schema.
const VALUES: &[&str] = &[
    "const",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "required",
    "type",
];
/// Keywords with one schema, a list of schemas, and schemas by name.
const ONE_SCHEMA: &[&str] = &["additionalItems", "additionalProperties"];
const SCHEMA_LISTS: &[&str] = &["allOf", "anyOf", "prefixItems"];
const SCHEMA_MAPS: &[&str] = &["patternProperties", "properties"];
/// Keywords that say nothing about values; `discriminator` is OpenAPI's hint beside `oneOf`.
const ANNOTATIONS: &[&str] = &[
    "$anchor",
    "$comment",
    "$defs",
    "$id",
    "contentEncoding",
    "contentMediaType",
    "default",
    "definitions",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "id",
    "readOnly",
    "title",
    "writeOnly",
];
/// The usual addresses (RFC 5321 also has quoted ones and those of bare hosts).
const EMAIL: &str = concat!(
    "^[A-Za-z0-9]{1,14}(?:[._+-][A-Za-z0-9]{1,14}){0,3}",
    "@(?:[A-Za-z0-9]{1,30}(?:-[A-Za-z0-9]{1,30})?\\.){1,3}[A-Za-z]{2,12}$"
);

/// Formats that are enforced, some by a pattern of ours that is closer to what validators take:
/// RFC 3339 with the calendar's leap days and without leap seconds.
const FORMATS: &[(&str, Option<&str>)] = &[
    ("date", Some(concat!("^", date!(), "$"))),
    ("date-time", Some(concat!("^", date!(), "T", time!(), "$"))),
    ("duration", None),
    ("email", Some(EMAIL)),
    ("hostname", None),
    ("ipv4", None),
    ("ipv6", None),
    ("time", Some(concat!("^", time!(), "$"))),
    ("uri", None),
    ("uuid", None),
];

/// Whether a keyword says nothing about values.
pub(crate) fn is_annotation(keyword: &str) -> bool {
    ANNOTATIONS.contains(&keyword)
}

/// What of a schema is not enforced, since it cannot be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// JSON pointers to the first keywords, like `#/properties/a/uniqueItems`.
    pub places: Vec<String>,
    /// How many there are.
    pub n_all: usize,
}

impl LeftOut {
    /// Adds the keyword of the schema at `path`.
    pub(crate) fn push(&mut self, path: &str, keyword: &str) {
        if self.places.len() < PLACES_MAX {
            let place = format!("{path}/{}", escaped(keyword));
            self.places.push(place.chars().take(200).collect());
        }
        self.n_all += 1;
    }
}

/// Checks `schema` and writes it anew.
pub(crate) fn normalise(schema: &Value) -> Result<Value, ConstraintError> {
    write(schema, None)
}

/// As [`normalise`]; what cannot be enforced is not refused, but goes to `left_out`. Of `oneOf`
/// only that no two branches match is not enforced.
pub(crate) fn relax(schema: &Value, left_out: &mut LeftOut) -> Result<Value, ConstraintError> {
    write(schema, Some(left_out))
}

fn write(schema: &Value, left_out: Option<&mut LeftOut>) -> Result<Value, ConstraintError> {
    let mut walk = Walk {
        root: schema,
        left_out,
        references: Vec::new(),
        n_schemas: 0,
        depth: 0,
        n_comparisons: Cell::new(0),
    };
    let mut root = walk.schema(schema, "#", 0)?;
    let mut definitions = Map::new();
    // Definitions refer to further ones.
    let (mut n_done, mut n_levels) = (0, 0);
    while let Some((pointer, target)) = walk.references.get(n_done).cloned() {
        n_levels += std::mem::take(&mut walk.depth) + 1;
        check_bound("levels of the schema", n_levels, LEVELS_MAX)?;
        definitions.insert(n_done.to_string(), walk.schema(target, &pointer, 0)?);
        n_done += 1;
    }
    if let Some(map) = root.as_object_mut() {
        if let Some(draft) = schema.get("$schema") {
            map.insert("$schema".to_owned(), draft.clone());
        }
        if !definitions.is_empty() {
            map.insert("$defs".to_owned(), definitions.into());
        }
    }
    Ok(root)
}

struct Walk<'a> {
    root: &'a Value,
    /// `None`: what cannot be enforced is refused.
    left_out: Option<&'a mut LeftOut>,
    /// What was referred to, and the first pointer to it; the place of one is its name in the
    /// result.
    references: Vec<(String, &'a Value)>,
    /// Schemas written.
    n_schemas: usize,
    /// Deepest nesting since it was last taken.
    depth: usize,
    n_comparisons: Cell<usize>,
}

/// Refuses what is more than `max`.
fn check_bound(what: &'static str, found: usize, max: usize) -> Result<(), ConstraintError> {
    if found > max { Err(ConstraintError::TooLarge { what, found, max }) } else { Ok(()) }
}

impl<'a> Walk<'a> {
    fn schema(
        &mut self,
        schema: &Value,
        path: &str,
        depth: usize,
    ) -> Result<Value, ConstraintError> {
        let map = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(map) => map,
            _ => return Err(grammar(path, "expected a schema: an object, true or false")),
        };
        if depth > DEPTH_MAX {
            return Err(grammar(path, "nested too deep"));
        }
        self.depth = self.depth.max(depth);
        self.n_schemas += 1;
        check_bound("schemas, those of definitions included", self.n_schemas, SCHEMAS_MAX)?;
        let mut out = Map::new();
        for name in map.keys() {
            match (self.keyword((map, name), path, depth, &mut out), &mut self.left_out) {
                (Err(ConstraintError::Keyword { .. }), Some(left_out)) => {
                    left_out.push(path, name);
                }
                (written, _) => written?,
            }
        }
        Ok(out.into())
    }

    /// Writes the keyword of this name of the schema `map`.
    fn keyword(
        &mut self,
        (map, keyword): (&Map<String, Value>, &str),
        path: &str,
        depth: usize,
        out: &mut Map<String, Value>,
    ) -> Result<(), ConstraintError> {
        let value = &map[keyword];
        let at = || format!("{path}/{}", escaped(keyword));
        let written = match keyword {
            "$schema" if path == "#" => return Ok(()),
            "$ref" => self.reference(value, path)?,
            "format" => return put_format(value, path, out),
            "oneOf" => return self.one_of(value, path, depth, out),
            // Without effect on values: names are strings, which generators of schemas say.
            "propertyNames" if *value == json!({"type": "string"}) => return Ok(()),
            "uniqueItems" if value == false => return Ok(()),
            "items" if value.is_array() => self.schemas(value, &at(), depth)?,
            "items" => self.schema(value, &at(), depth + 1)?,
            word if VALUES.contains(&word) => {
                check_value((map, word), path)?;
                value.clone()
            }
            word if ONE_SCHEMA.contains(&word) => self.schema(value, &at(), depth + 1)?,
            word if SCHEMA_LISTS.contains(&word) => {
                let list = self.schemas(value, &at(), depth)?;
                put(out, keyword, list);
                return Ok(());
            }
            word if SCHEMA_MAPS.contains(&word) => {
                let Some(named) = value.as_object() else {
                    return Err(keyword_error(path, keyword, "expected an object of schemas"));
                };
                let mut map = Map::new();
                for (name, schema) in named {
                    if word == "patternProperties"
                        && let Some(why) = pattern_problem(name)
                    {
                        return Err(keyword_error(path, keyword, &why));
                    }
                    let path = format!("{}/{}", at(), escaped(name));
                    map.insert(name.clone(), self.schema(schema, &path, depth + 1)?);
                }
                map.into()
            }
            word if ANNOTATIONS.contains(&word) => return Ok(()),
            word if word.starts_with("x-") && word != "x-guidance" => return Ok(()),
            _ => return Err(keyword_error(path, keyword, "not supported, leave it out")),
        };
        out.insert(keyword.to_owned(), written);
        Ok(())
    }

    fn schemas(
        &mut self,
        value: &Value,
        path: &str,
        depth: usize,
    ) -> Result<Value, ConstraintError> {
        let Some(list) = value.as_array() else {
            return Err(grammar(path, "expected an array of schemas"));
        };
        let schema = |(idx, schema)| self.schema(schema, &format!("{path}/{idx}"), depth + 1);
        Ok(list.iter().enumerate().map(schema).collect::<Result<Vec<_>, _>>()?.into())
    }

    /// The name that a reference has in the result.
    fn reference(&mut self, value: &Value, path: &str) -> Result<Value, ConstraintError> {
        let pointer = value.as_str().unwrap_or_default();
        if pointer == "#" {
            return Ok(value.clone());
        }
        let target = self.target(pointer, path)?;
        // By place, not by spelling: a pointer can be written in many ways.
        let known = self.references.iter().position(|(_, other)| std::ptr::eq(*other, target));
        let idx = known.unwrap_or_else(|| {
            self.references.push((pointer.to_owned(), target));
            self.references.len() - 1
        });
        check_bound("definitions of the schema", self.references.len(), REFERENCES_MAX)?;
        Ok(format!("#/$defs/{idx}").into())
    }

    /// What a pointer within the document points to (RFC 6901, in a URI's fragment).
    fn target(&self, pointer: &str, path: &str) -> Result<&'a Value, ConstraintError> {
        let why = || {
            let shown: String = pointer.chars().take(80).collect();
            format!("{shown:?} is not in this schema, expected a reference like \"#/$defs/name\"")
        };
        let error = || keyword_error(path, "$ref", &why());
        let fragment = pointer.strip_prefix('#').ok_or_else(error)?;
        self.root.pointer(&percent_decoded(fragment)).ok_or_else(error)
    }

    /// Writes `oneOf` as `anyOf`.
    fn one_of(
        &mut self,
        value: &Value,
        path: &str,
        depth: usize,
        out: &mut Map<String, Value>,
    ) -> Result<(), ConstraintError> {
        match (self.check_exclusive(value, path), &mut self.left_out) {
            (Err(_), Some(left_out)) => left_out.push(path, "oneOf"),
            (checked, _) => checked?,
        }
        let list = self.schemas(value, &format!("{path}/oneOf"), depth)?;
        put(out, "anyOf", list);
        Ok(())
    }

    /// Refuses branches of `oneOf` of which a value may match two.
    fn check_exclusive(&self, value: &Value, path: &str) -> Result<(), ConstraintError> {
        let branches = value.as_array().map_or(&[][..], Vec::as_slice);
        for (i, a) in branches.iter().enumerate() {
            for (j, b) in branches.iter().enumerate().skip(i + 1) {
                if !self.are_disjoint(a, b, 0) {
                    let what = "comparisons between the branches of oneOf (anyOf needs none)";
                    check_bound(what, self.n_comparisons.get(), COMPARISONS_MAX)?;
                    let why = format!(
                        "a value may match both branch {i} and branch {j}; use anyOf, or give \
                         them a required property with different constants"
                    );
                    return Err(keyword_error(path, "oneOf", &why));
                }
            }
        }
        Ok(())
    }

    /// Whether it is plain that no value matches both.
    fn are_disjoint<'b>(&'b self, a: &'b Value, b: &'b Value, depth: usize) -> bool {
        if depth > HOPS_MAX || !self.may_compare(1) {
            return false;
        }
        let (a, b) = (self.resolved(a), self.resolved(b));
        for (union, other) in [(a, b), (b, a)] {
            let branches = union.get("anyOf").or_else(|| union.get("oneOf"));
            if let Some(branches) = branches.and_then(Value::as_array)
                && branches.iter().all(|branch| self.are_disjoint(branch, other, depth + 1))
            {
                return true;
            }
        }
        if let (Some(a), Some(b)) = (constants(a), constants(b)) {
            return self.may_compare(a.len() * b.len())
                && !a.iter().any(|a| b.iter().any(|b| is_same(a, b)));
        }
        match types(a) & types(b) {
            0 => true,
            OBJECT => self.have_disjoint_property(a, b, depth),
            _ => false,
        }
    }

    /// Counts comparisons, and says whether that many are still within bounds.
    fn may_compare(&self, n: usize) -> bool {
        self.n_comparisons.set(self.n_comparisons.get().saturating_add(n));
        self.n_comparisons.get() <= COMPARISONS_MAX
    }

    /// Whether a property that values of both must have cannot be the same in them.
    fn have_disjoint_property<'b>(&'b self, a: &'b Value, b: &'b Value, depth: usize) -> bool {
        let required = |schema: &'b Value| schema.get("required").and_then(Value::as_array);
        let names = [a, b].into_iter().filter_map(required).flatten().filter_map(Value::as_str);
        names.into_iter().any(|name| {
            let (a, b) = (property(a, name), property(b, name));
            *a == false || *b == false || self.are_disjoint(a, b, depth + 1)
        })
    }

    /// The schema, or what it refers to.
    fn resolved<'b>(&'b self, mut schema: &'b Value) -> &'b Value {
        for _ in 0..HOPS_MAX {
            let pointer = schema.get("$ref").and_then(Value::as_str);
            match pointer.and_then(|pointer| self.target(pointer, "#").ok()) {
                Some(target) => schema = target,
                None => break,
            }
        }
        schema
    }
}

/// What a schema of objects asks of a property.
fn property<'b>(schema: &'b Value, name: &str) -> &'b Value {
    static ANY: Value = Value::Bool(true);
    let named = schema.get("properties").and_then(|properties| properties.get(name));
    named.unwrap_or_else(|| match schema.get("patternProperties") {
        None => schema.get("additionalProperties").unwrap_or(&ANY),
        Some(_) => &ANY,
    })
}

/// The values that a schema lists, if it does.
fn constants(schema: &Value) -> Option<&[Value]> {
    let one = schema.get("const").map(std::slice::from_ref);
    one.or_else(|| schema.get("enum").and_then(Value::as_array).map(Vec::as_slice))
}

/// JSON's equality: a number is what it counts, however written.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

const OBJECT: u8 = 1 << 5;

/// The types that a schema allows, as bits; integers are numbers.
fn types(schema: &Value) -> u8 {
    let bit = |name: &str| match name {
        "null" => 1,
        "boolean" => 1 << 1,
        "number" | "integer" => 1 << 2,
        "string" => 1 << 3,
        "array" => 1 << 4,
        "object" => OBJECT,
        _ => 0,
    };
    if let Some(constants) = constants(schema) {
        return constants.iter().map(|value| bit(type_of(value))).fold(0, |all, bit| all | bit);
    }
    match schema.get("type") {
        Some(Value::String(name)) => bit(name),
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).map(bit).fold(0, |all, bit| all | bit)
        }
        _ if *schema == false => 0,
        _ => u8::MAX,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Puts a list of schemas; where its keyword is taken already, beside it.
fn put(out: &mut Map<String, Value>, keyword: &str, list: Value) {
    let taken = out.get_mut(keyword);
    match (taken, list) {
        (None, list) => _ = out.insert(keyword.to_owned(), list),
        (Some(Value::Array(all)), Value::Array(more)) if keyword == "allOf" => all.extend(more),
        (Some(_), list) => {
            let all = out.entry("allOf").or_insert_with(|| json!([]));
            if let Value::Array(all) = all {
                all.push(json!({ keyword: list }));
            }
        }
    }
}

fn put_format(
    value: &Value,
    path: &str,
    out: &mut Map<String, Value>,
) -> Result<(), ConstraintError> {
    let format = value.as_str().and_then(|name| FORMATS.iter().find(|(known, _)| *known == name));
    match format {
        None => {
            let shown: String = value.to_string().chars().take(40).collect();
            let names: Vec<&str> = FORMATS.iter().map(|&(name, _)| name).collect();
            let why = format!("{shown}: expected one of {}", names.join(", "));
            return Err(keyword_error(path, "format", &why));
        }
        Some((_, None)) => _ = out.insert("format".to_owned(), value.clone()),
        Some((_, Some(pattern))) => put(out, "allOf", json!([{ "pattern": pattern }])),
    }
    Ok(())
}

/// Refuses a value that is no schema and asks for what the parser cannot do.
fn check_value(
    (map, keyword): (&Map<String, Value>, &str),
    path: &str,
) -> Result<(), ConstraintError> {
    match (keyword, &map[keyword]) {
        ("minProperties" | "maxProperties", _) => check_count(map, keyword, path),
        ("pattern", Value::String(pattern)) => match pattern_problem(pattern) {
            Some(why) => Err(keyword_error(path, keyword, &why)),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// What is in a regular expression that the parser does not know: look-around and references back.
fn pattern_problem(pattern: &str) -> Option<String> {
    let hir = match regex_syntax::parse(pattern) {
        Ok(hir) => hir,
        Err(regex_syntax::Error::Parse(error)) => return Some(error.kind().to_string()),
        Err(regex_syntax::Error::Translate(error)) => return Some(error.kind().to_string()),
        Err(_) => return Some("no regular expression that is supported".to_owned()),
    };
    let is_anchor = |look| matches!(look, Look::Start | Look::End);
    let other = hir.properties().look_set().iter().find(|look| !is_anchor(*look));
    other.map(|_| "look-around is not supported, nor are the borders of words".to_owned())
}

/// The number of properties is counted only where each named one must be there.
fn check_count(map: &Map<String, Value>, keyword: &str, path: &str) -> Result<(), ConstraintError> {
    let required = map.get("required").and_then(Value::as_array);
    let is_required = |name: &String| {
        required.is_some_and(|names| names.iter().any(|other| other == name.as_str()))
    };
    let named = map.get("properties").and_then(Value::as_object);
    match named.and_then(|named| named.keys().find(|name| !is_required(name))) {
        None => Ok(()),
        Some(name) => {
            let why = format!("not supported where a property ({name:?}) is optional");
            Err(keyword_error(path, keyword, &why))
        }
    }
}

/// A name as a JSON pointer writes it.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A URI's fragment as it is meant; what is no UTF-8 then points to nothing.
fn percent_decoded(fragment: &str) -> String {
    if !fragment.contains('%') {
        return fragment.to_owned();
    }
    let (mut bytes, mut rest) = (Vec::new(), fragment.as_bytes());
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.filter(|_| byte == b'%').and_then(|d| u8::from_str_radix(d, 16).ok());
        bytes.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn keyword_error(path: &str, keyword: &str, why: &str) -> ConstraintError {
    let short = |text: &str| text.chars().take(200).collect::<String>();
    ConstraintError::Keyword { path: short(path), keyword: short(keyword), why: why.to_owned() }
}

fn grammar(path: &str, problem: &str) -> ConstraintError {
    let path: String = path.chars().take(200).collect();
    ConstraintError::Grammar(format!("{path}: {problem}"))
}
