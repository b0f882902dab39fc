//! What of `freehold.toml` may leave this machine: all but secrets and what only works with them.

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// A key with one of these words in it may be a secret.
const SECRET_WORDS: [&str; 8] =
    ["key", "keys", "token", "tokens", "secret", "secrets", "password", "credentials"];

/// What needs a secret beside it.
const NEEDS_A_SECRET: [&str; 1] = ["tls-cert"];

/// The settings of `text` without secrets and without comments, in which some may stand too, and
/// the keys that were left out.
///
/// # Errors
/// What is no TOML.
pub(super) fn public(text: &str) -> Result<(String, Vec<String>), String> {
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let mut left_out = Vec::new();
    strip(&mut table, "", &mut left_out);
    let order = DeTable::parse(text).map_err(|error| error.to_string())?;
    let mut out = String::new();
    write(&mut out, "", order.get_ref(), &table);
    Ok((out, left_out))
}

/// Writes `table` in the order of the file: of several aliases that fit, the first counts.
fn write(out: &mut String, above: &str, order: &DeTable<'_>, table: &Table) {
    let keys = order.iter().map(|(key, value)| (key.span().start, key.get_ref(), value.get_ref()));
    let mut keys: Vec<_> = keys.collect();
    keys.sort_by_key(|(start, ..)| *start);
    for (_, key, _) in &keys {
        if let Some(value) = table.get(key.as_ref()).filter(|value| !value.is_table()) {
            out.push_str(&format!("{} = {value}\n", quoted(key)));
        }
    }
    for (_, key, value) in &keys {
        let inner = table.get(key.as_ref()).and_then(Value::as_table);
        if let (Some(inner), DeValue::Table(order)) = (inner, value) {
            let path = format!("{above}{}", quoted(key));
            out.push_str(&format!("\n[{path}]\n"));
            write(out, &format!("{path}."), order, inner);
        }
    }
}

fn quoted(key: &str) -> String {
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let is_plain = !key.is_empty() && key.bytes().all(is_bare);
    if is_plain { key.to_owned() } else { Value::String(key.to_owned()).to_string() }
}

fn strip(table: &mut Table, above: &str, left_out: &mut Vec<String>) {
    table.retain(|key, value| {
        let is_secret = is_secret(key) || NEEDS_A_SECRET.contains(&key) || holds_secret(value);
        if is_secret {
            left_out.push(format!("{above}{key}"));
        } else if let Value::Table(inner) = value {
            strip(inner, &format!("{above}{key}."), left_out);
        } else if let Value::Array(items) = value {
            for item in items.iter_mut().filter_map(Value::as_table_mut) {
                strip(item, &format!("{above}{key}."), left_out);
            }
        }
        !is_secret
    });
}

fn is_secret(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).any(|word| SECRET_WORDS.contains(&word))
}

/// Whether a value has an address with a password in it, or with a query, which may be one.
fn holds_secret(value: &Value) -> bool {
    match value {
        Value::String(text) => text.split_once("://").is_some_and(|(_, rest)| {
            let host = rest.split('/').next().unwrap_or_default();
            host.contains('@') || rest.contains('?')
        }),
        Value::Array(items) => items.iter().any(holds_secret),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_here_and_are_named() {
        let text = r#"
            # api-key = "sk-in-a-comment"
            model = ["a"]
            api_keys = ["sk-1"]
            tls-cert = "c.pem"
            tls-key = "k.pem"
            keep-alive = "5m"
            ledger = "postgres://me:pw@host/db"
            other-ledger = "postgresql://host/db?password=q-1"
            otlp-endpoint = "https://collector/v1?api-key=x-1"
            [alias]
            "gpt-4*" = "b"
            "gpt-*" = "a"
            [[upstream]]
            url = "https://api.example/v1"
            token = "sk-2"
        "#;
        let (public, left_out) = public(text).unwrap();
        for secret in ["sk-", "pem", "pw", "q-1", "x-1"] {
            assert!(!public.contains(secret), "{public}");
        }
        let addresses = ["ledger", "other-ledger", "otlp-endpoint"];
        let others = ["tls-cert", "tls-key", "upstream.token"];
        assert_eq!(left_out, [&["api_keys"][..], &addresses, &others].concat());
        let table: Table = public.parse().unwrap();
        let place = |key: &str| public.find(key).unwrap();
        assert!(place("gpt-4*") < place("gpt-*"), "{public}");
        assert_eq!(table["keep-alive"].as_str(), Some("5m"));
        assert_eq!(table["alias"]["gpt-*"].as_str(), Some("a"));
        assert_eq!(table["upstream"][0]["url"].as_str(), Some("https://api.example/v1"));
        assert!(super::public("a = ").is_err());
    }
}
