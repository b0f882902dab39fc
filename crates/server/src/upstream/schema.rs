//! A schema of a request to which an upstream's answer is held. Both are strangers': before a
//! schema is compiled its size is bounded, and before an answer is held to it so is what that may
//! take, by walking along both as the validator would.

use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value};

/// Most objects in all schemas of a request: as many properties as vendors take in one.
const N_OBJECTS_MAX: usize = 5000;
/// Most regular expressions in all of them, and most bytes of each when it is compiled.
const N_PATTERNS_MAX: usize = 128;
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Most steps of holding an answer to a schema: some tenths of a second.
const N_STEPS_MAX: usize = 4_000_000;
/// Most steps where what does not fit is looked for once more, to say its place.
const N_STEPS_TO_PLACE: usize = 100_000;
/// Deepest that schemas lead into each other on the way, values of JSON included.
const DEPTH_MAX: usize = 1000;
/// Stack of the thread that compiles and validates, which recurse as deep: 12 KiB a schema.
const STACK_BYTES: usize = 64 << 20;
/// Longest description of what does not fit, in characters.
const PROBLEM_CHARS_MAX: usize = 300;

/// Keywords that change what references mean, which are not followed here.
const NOT_FOLLOWED: [&str; 5] =
    ["$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef"];
/// The same, where they stand anywhere but in the outermost schema.
const OUTERMOST: [&str; 2] = ["$id", "$schema"];
/// Keywords whose schemas hold for the value itself: one, several, and several by name.
const ITSELF: [&str; 4] = ["not", "if", "then", "else"];
const ITSELF_LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const ITSELF_MAPS: [&str; 2] = ["dependentSchemas", "dependencies"];
/// Keywords with one schema for every item.
const EACH_ITEM: [&str; 3] = ["additionalItems", "contains", "unevaluatedItems"];
/// Keywords with schemas by names, which are anybody's words.
const NAMED: [&str; 6] =
    ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"];
/// Keywords with values, which are no schemas whatever they look like.
const VALUES: [&str; 4] = ["const", "default", "enum", "examples"];

/// What the schemas of one request have taken so far of what they may together.
#[derive(Debug, Default)]
pub(super) struct Taken {
    n_objects: usize,
    n_patterns: usize,
}

/// A schema that was compiled.
#[derive(Debug)]
pub(super) struct Schema {
    schema: Value,
    validator: Validator,
}

impl Schema {
    /// Compiles `schema`, on the thread of [`on_own_stack`].
    ///
    /// # Errors
    /// Why it cannot be: it is none, too large, or has what is not followed here.
    pub(super) fn new(schema: &Value, taken: &mut Taken) -> Result<Self, String> {
        if !schema.is_object() && !schema.is_boolean() {
            return Err("expected a JSON schema: an object, true or false".to_owned());
        }
        measure(schema, schema, taken)?;
        // By this engine patterns take linear time, whatever they and the answer are.
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX);
        let options = jsonschema::options().should_validate_formats(true);
        let validator = options.with_pattern_options(patterns).build(schema).map_err(|error| {
            // What the schema of schemas finds is there, what compiling finds is at its keyword.
            let (found, keyword) = (error.instance_path().as_str(), error.schema_path().as_str());
            let place = cut(if found.is_empty() { keyword } else { found });
            format!("at {place:?}: {}", cut(&error.masked().to_string()))
        })?;
        Ok(Self { schema: schema.clone(), validator })
    }

    /// Holds `value` to it, on the thread of [`on_own_stack`].
    ///
    /// # Errors
    /// What does not fit, and where.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        let mut steps = Steps { root: &self.schema, n: 0 };
        steps.visit(&self.schema, value, 0)?;
        if self.validator.is_valid(value) {
            return Ok(());
        }
        let error = match steps.n {
            0..N_STEPS_TO_PLACE => self.validator.validate(value).err(),
            _ => None,
        };
        Err(error.map_or_else(
            || "it does not fit the schema".to_owned(),
            |error| {
                let place = cut(error.instance_path().as_str());
                format!("at {place:?}: {}", cut(&error.masked().to_string()))
            },
        ))
    }
}

/// Runs what recurses as deep as schemas do; `None`: there is no thread for it, or it failed.
pub(super) fn on_own_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("schema".to_owned());
        thread.stack_size(STACK_BYTES).spawn_scoped(scope, work).ok()?.join().ok()
    })
}

/// Counts what of `schema`, a part of `root`, takes memory, and refuses what is not followed here.
fn measure(root: &Value, schema: &Value, taken: &mut Taken) -> Result<(), String> {
    let fields = match schema {
        Value::Array(list) => return list.iter().try_for_each(|one| measure(root, one, taken)),
        Value::Object(fields) => fields,
        _ => return Ok(()),
    };
    taken.n_objects += 1;
    taken.n_patterns += usize::from(fields.get("pattern").is_some_and(Value::is_string));
    let patterns = fields.get("patternProperties").and_then(Value::as_object);
    taken.n_patterns += patterns.map_or(0, Map::len);
    for (what, found, max) in [
        ("objects", taken.n_objects, N_OBJECTS_MAX),
        ("regular expressions", taken.n_patterns, N_PATTERNS_MAX),
    ] {
        if found > max {
            return Err(format!("more than {max} {what}, those of the request's others included"));
        }
    }
    let is_nested = !std::ptr::eq(root, schema);
    let nested = OUTERMOST.iter().filter(|_| is_nested);
    for name in NOT_FOLLOWED.iter().chain(nested) {
        if fields.get(*name).is_some_and(|value| value.is_string() || value.is_boolean()) {
            return Err(format!("keyword {name:?} is not followed here"));
        }
    }
    // Another name of `$id` in this draft alone.
    let draft = fields.get("$schema").and_then(Value::as_str);
    if draft.is_some_and(|draft| draft.contains("draft-04")) {
        return Err("keyword \"$schema\": expected draft 6 or later".to_owned());
    }
    if let Some(Value::String(reference)) = fields.get("$ref") {
        let schema = target(root, reference).ok_or_else(|| {
            let shown = crate::dialects::fields::short(reference);
            format!("$ref {shown:?}: expected one within the schema, like \"#/$defs/name\"")
        })?;
        // It may lead to what is passed over below; in a circle it leads to too many objects.
        if reference.split('/').any(|name| VALUES.contains(&name)) {
            measure(root, schema, taken)?;
        }
    }
    for (name, value) in fields {
        match value {
            _ if VALUES.contains(&&**name) => {}
            Value::Object(named) if NAMED.contains(&&**name) => {
                named.values().try_for_each(|one| measure(root, one, taken))?;
            }
            value => measure(root, value, taken)?,
        }
    }
    Ok(())
}

/// What a reference within `root` points to (RFC 6901, in a URI's fragment).
fn target<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    let pointer = reference.strip_prefix('#')?;
    // What is escaped for a URI is not looked up here.
    root.pointer(pointer).filter(|_| !pointer.contains('%'))
}

/// How far the validator may have to go, at least as far as it does.
struct Steps<'a> {
    root: &'a Value,
    n: usize,
}

impl Steps<'_> {
    /// Along `value` as `schema` has it looked at.
    fn visit(&mut self, schema: &Value, value: &Value, depth: usize) -> Result<(), String> {
        let Value::Object(keywords) = schema else { return Ok(()) };
        self.take(1 + keywords.len(), depth)?;
        for plain in ["enum", "required"] {
            let n = keywords.get(plain).and_then(Value::as_array).map_or(0, Vec::len);
            self.take(n, depth)?;
        }
        if let Some(text) = value.as_str() {
            let is_read = keywords.contains_key("pattern") || keywords.contains_key("format");
            self.take(if is_read { text.len() } else { 0 }, depth)?;
        }
        // To know what was not evaluated yet, all is once more.
        let is_twice = keywords.keys().any(|name| name.starts_with("unevaluated"));
        for _ in 0..1 + usize::from(is_twice) {
            self.itself(keywords, value, depth + 1)?;
            match value {
                Value::Array(items) => self.items(keywords, items, depth + 1)?,
                Value::Object(fields) => self.properties(keywords, fields, depth + 1)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, n: usize, depth: usize) -> Result<(), String> {
        self.n += n;
        match self.n > N_STEPS_MAX || depth > DEPTH_MAX {
            true => Err("it is too large to be held to this schema".to_owned()),
            false => Ok(()),
        }
    }

    /// Schemas that hold for the value itself.
    fn itself(
        &mut self,
        keywords: &Map<String, Value>,
        value: &Value,
        depth: usize,
    ) -> Result<(), String> {
        let root = self.root;
        if let Some(reference) = keywords.get("$ref").and_then(Value::as_str)
            && let Some(schema) = target(root, reference)
        {
            self.visit(schema, value, depth)?;
        }
        let ones = ITSELF.iter().filter_map(|name| keywords.get(*name));
        let lists = ITSELF_LISTS.iter().filter_map(|name| keywords.get(*name)?.as_array());
        let maps = ITSELF_MAPS.iter().filter_map(|name| keywords.get(*name)?.as_object());
        let all = ones.chain(lists.flatten()).chain(maps.flat_map(Map::values));
        for schema in all {
            self.visit(schema, value, depth)?;
        }
        Ok(())
    }

    fn items(
        &mut self,
        keywords: &Map<String, Value>,
        items: &[Value],
        depth: usize,
    ) -> Result<(), String> {
        // Older drafts have in `items` what is `prefixItems` now.
        let firsts = ["items", "prefixItems"].map(|name| keywords.get(name)?.as_array());
        let rest = keywords.get("items").filter(|schema| schema.is_object());
        let each = EACH_ITEM.iter().filter_map(|name| keywords.get(*name)).chain(rest);
        let each: Vec<&Value> = each.collect();
        self.take(items.len(), depth)?;
        for (idx, item) in items.iter().enumerate() {
            let first = firsts.iter().flatten().filter_map(|list| list.get(idx));
            for schema in first.chain(each.iter().copied()) {
                self.visit(schema, item, depth)?;
            }
        }
        Ok(())
    }

    fn properties(
        &mut self,
        keywords: &Map<String, Value>,
        fields: &Map<String, Value>,
        depth: usize,
    ) -> Result<(), String> {
        let map = |name: &str| keywords.get(name).and_then(Value::as_object);
        let (named, patterns) = (map("properties"), map("patternProperties"));
        let each = keywords.get("unevaluatedProperties").into_iter();
        let each: Vec<&Value> = each.chain(patterns.into_iter().flat_map(Map::values)).collect();
        let others = keywords.get("additionalProperties");
        let of_names = keywords.get("propertyNames");
        for (name, value) in fields {
            self.take(1 + patterns.map_or(0, |all| all.len() * name.len()), depth)?;
            if let Some(schema) = of_names {
                self.visit(schema, &Value::from(name.as_str()), depth)?;
            }
            let own = named.and_then(|named| named.get(name));
            // A pattern may fit it too, or not.
            let own = own.or(others).into_iter();
            for schema in own.chain(each.iter().copied()) {
                self.visit(schema, value, depth)?;
            }
        }
        Ok(())
    }
}

/// A text of the validator's, which may have values of anybody in it.
fn cut(text: &str) -> String {
    match text.char_indices().nth(PROBLEM_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(schema: &Value, value: &Value) -> Result<(), String> {
        on_own_stack(|| Schema::new(schema, &mut Taken::default())?.check(value)).unwrap()
    }

    #[track_caller]
    fn check(schema: Value, value: Value, expected: Option<&str>) {
        let found = found(&schema, &value).err();
        match (found.as_deref(), expected) {
            (None, None) => {}
            (Some(found), Some(expected)) if found.contains(expected) => {}
            (found, expected) => panic!("{schema}: {value}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn what_does_not_fit_is_told_by_place_and_without_values() {
        let schema = json!({"type": "object", "required": ["a"], "additionalProperties": false,
            "properties": {"a": {"type": "integer"}, "on": {"format": "date"}}});
        check(schema.clone(), json!({"a": 1, "on": "2024-02-29"}), None);
        check(schema.clone(), json!({"a": "xyzzy"}), Some("at \"/a\": value is not of type"));
        check(schema.clone(), json!({"a": 1, "on": "2023-02-29"}), Some("at \"/on\": "));
        check(schema.clone(), json!({}), Some("at \"\": \"a\" is a required property"));
        check(schema.clone(), json!({"a": 1, "b": 2}), Some("'b' was unexpected"));
        let told = found(&schema, &json!({"a": "xyzzy"})).unwrap_err();
        assert!(!told.contains("xyzzy"), "{told}");
        let list = json!({"$defs": {"node": {"type": "object", "properties": {
            "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}}}},
            "$ref": "#/$defs/node"});
        check(list.clone(), json!({"next": {"next": null}}), None);
        check(list, json!({"next": {"next": 7}}), Some("at \"/next"));
    }

    #[test]
    fn schemas_that_cannot_be_held_to_are_told() {
        let draft = "http://json-schema.org/draft-07/schema#";
        let ok = json!({"$id": "https://x.org/a", "$schema": draft,
            "properties": {"$id": {"type": "string"}, "$ref": {"type": "string"},
                "enum": {"default": {"$ref": "elsewhere"}, "enum": [{"$id": "x"}, 1]}}});
        check(ok.clone(), json!({"$id": "x", "enum": 1}), None);
        check(ok, json!({"enum": 2}), Some("at \"/enum\""));
        let refused = |schema: Value, expected: &str| check(schema, json!(1), Some(expected));
        refused(json!({"type": "thing"}), "at \"/type\"");
        refused(json!(7), "expected a JSON schema: an object, true or false");
        refused(json!({"$ref": "https://example.com/x"}), "expected one within the schema");
        refused(json!({"$ref": "#/$defs/no"}), "expected one within the schema");
        let value = json!({"$ref": "#/default", "default": {"not": {"$id": "x"}}});
        refused(value, "\"$id\" is not followed");
        let circle = json!({"$ref": "#/default", "default": {"$ref": "#/default"}});
        refused(circle, "more than 5000 objects");
        refused(json!({"not": {"$id": "x"}}), "\"$id\" is not followed");
        refused(json!({"$dynamicRef": "#x"}), "\"$dynamicRef\" is not followed");
        refused(json!({"pattern": r"(a)\1"}), "at \"/pattern\"");
        refused(json!({"pattern": r"(\w{1000}){1000}"}), "at \"/pattern\"");
        refused(json!({"$schema": "http://json-schema.org/draft-04/schema#"}), "draft 6 or later");
        let many = vec![json!({}); N_OBJECTS_MAX];
        refused(json!({"anyOf": many}), "more than 5000 objects");
        let many: Map<String, Value> =
            (0..=N_PATTERNS_MAX).map(|n| (format!("^{n}"), true.into())).collect();
        refused(json!({"patternProperties": many}), "more than 128 regular expressions");
    }

    /// Each schema applies the one before it twice, or leads into the next as deep as may be.
    #[test]
    fn hostile_schemas_take_no_longer_than_others() {
        let names = (0..40).map(|n| format!("#/$defs/{n}"));
        let doubled = |(n, name): (usize, String)| {
            let both = json!({"allOf": [{"$ref": name}, {"$ref": name}]});
            ((n + 1).to_string(), both)
        };
        let mut definitions: Map<String, Value> = names.enumerate().map(doubled).collect();
        definitions.insert("0".to_owned(), json!({"type": "integer"}));
        let schema = json!({"$defs": definitions, "$ref": "#/$defs/40"});
        check(schema, json!(1), Some("too large to be held to this schema"));
        let n_defs = 2400;
        let hop = |n: usize| (n.to_string(), json!({"$ref": format!("#/$defs/{}", n + 1)}));
        let mut definitions: Map<String, Value> = (0..n_defs).map(hop).collect();
        definitions.insert(n_defs.to_string(), json!({"type": "integer"}));
        let schema = json!({"$defs": definitions, "$ref": "#/$defs/0"});
        check(schema, json!(1), Some("too large to be held to this schema"));
        let itself = json!({"anyOf": [{"$ref": "#"}, {"type": "integer"}]});
        check(itself, json!("x"), Some("too large to be held to this schema"));
        let name = "a".repeat(10_000);
        let names = (0..20).map(|n| format!("#/$defs/{n}"));
        let mut definitions: Map<String, Value> = names.enumerate().map(doubled).collect();
        definitions.insert("0".to_owned(), json!({"pattern": "^(a|b)*$"}));
        let of_names = json!({"$defs": definitions, "propertyNames": {"$ref": "#/$defs/20"}});
        check(of_names, json!({name: 1}), Some("too large to be held to this schema"));
        let mut deep = json!(1);
        for _ in 0..120 {
            deep = json!([deep]);
        }
        let twice = json!({"items": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}});
        check(twice, deep.clone(), Some("too large to be held to this schema"));
        check(json!({"items": {"$ref": "#"}}), deep, None);
    }
}
