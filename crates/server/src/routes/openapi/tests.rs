//! The document is what OpenAPI 3.1 asks for, and its examples keep to its schemas.

use super::*;
use std::collections::HashSet;

fn operations(document: &Value) -> Vec<(String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().unwrap();
        item.iter().map(move |(method, operation)| (format!("{method} {path}"), operation.clone()))
    });
    operations.collect()
}

/// Every `$ref` of `value` leads somewhere in `document`.
fn check_references(value: &Value, document: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref") {
                let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{pointer}");
            }
            map.values().for_each(|value| check_references(value, document));
        }
        Value::Array(list) => list.iter().for_each(|value| check_references(value, document)),
        _ => {}
    }
}

/// `schema` is one of JSON Schema 2020-12, the dialect of OpenAPI 3.1.
fn check_schema(schema: &Value, place: &str) {
    if let Err(error) = jsonschema::draft202012::meta::validate(schema) {
        panic!("{place}: {error}: {schema}");
    }
}

#[test]
fn the_document_is_one_of_openapi_3_1() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    check_references(&document, &document);
    let mut ids = HashSet::new();
    for (place, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id.clone()), "{place}: {id} twice");
        let path = place.split(' ').next_back().unwrap();
        assert!(path.starts_with('/') && !path.contains('*'), "{place}");
        let in_path = path.split('/').filter(|part| part.starts_with('{')).count();
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let of_path =
            |parameter: &&Value| parameter["in"] == "path" && parameter["required"] == true;
        assert_eq!(parameters.iter().filter(of_path).count(), in_path, "{place}");
        for parameter in parameters.iter().filter(|parameter| parameter.get("$ref").is_none()) {
            assert!(parameter["name"].is_string() && parameter["in"].is_string(), "{place}");
            check_schema(&parameter["schema"], &place);
        }
        let responses = operation["responses"].as_object().unwrap();
        // Either it answers, or it says whereto it sends.
        let sends = responses.get("303").map(|sent| &sent["headers"]["Location"]["schema"]);
        assert_ne!(responses.contains_key("200"), sends.is_some(), "{place}");
        if let Some(schema) = sends {
            check_schema(schema, &place);
        }
        for (status, response) in responses {
            assert!(
                status.parse::<u16>().is_ok() && response["description"].is_string(),
                "{place}"
            );
            let content = response.get("content").and_then(Value::as_object);
            assert_eq!(content.is_none(), status == "303", "{place}");
            for content in content.into_iter().flat_map(Map::values) {
                check_schema(&content["schema"], &format!("{place} {status}"));
            }
        }
        if let Some(body) = operation.get("requestBody") {
            for content in body["content"].as_object().unwrap().values() {
                check_schema(&content["schema"], &place);
            }
        }
    }
    for schema in document["components"]["schemas"].as_object().unwrap().values() {
        check_schema(schema, "components");
    }
}

#[test]
fn redirections_are_declared() {
    let document = document();
    let sends = operations(&document).into_iter().filter(|(_, operation)| {
        operation["responses"]["303"]["headers"]["Location"]["description"].is_string()
    });
    let places: Vec<String> = sends.map(|(place, _)| place).collect();
    assert_eq!(places, ["get /login", "get /login/callback"]);
}

#[test]
fn examples_keep_to_their_schemas() {
    let document = document();
    for (place, operation) in operations(&document) {
        let content = &operation["requestBody"]["content"]["application/json"];
        let Some(example) = content.get("example") else { continue };
        let schema = &content["schema"];
        let is_valid = |body: &Value| jsonschema::draft202012::is_valid(schema, body);
        assert!(is_valid(example), "{place}");
        for (name, property) in schema["properties"].as_object().unwrap() {
            for value in property["examples"].as_array().into_iter().flatten() {
                let mut body = example.clone();
                body[name] = value.clone();
                assert!(is_valid(&body), "{place} {name}: {value}");
            }
            let is_required = schema["required"].as_array().unwrap().contains(&name.clone().into());
            let mut body = example.clone();
            body[name] = Value::Null;
            assert_eq!(is_valid(&body), !is_required, "{place} {name}: null");
        }
        let mut body = example.clone();
        body["no_such_field"] = true.into();
        assert_eq!(is_valid(&body), schema["additionalProperties"] == true, "{place}");
    }
}
