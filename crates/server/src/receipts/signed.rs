//! A receipt with its signature, so that any change of it is found and named.
//!
//! What is signed is no text, which programs lay out as they like, but the *leaves* of the
//! document: each number, text, flag and null with its path, and the length of each list, in the
//! order of their paths. Beside them stands a short check of each leaf. It proves nothing, but
//! where the signature does not hold it tells which leaf is not as it was.

use super::{Receipt, hex};
use ledger::NodeKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};

/// Longest receipt, in bytes: what the ledger takes.
const N_BYTES_MAX: usize = 1 << 20;
/// What is signed begins with this line, so that no other signature of the key's can stand for it.
const FIRST_LINE: &str = "freehold receipt\n";
/// Digits of a check: enough to name a leaf.
const N_CHECK_DIGITS: usize = 8;

/// A receipt and what proves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReceipt {
    /// What is signed.
    pub receipt: Receipt,
    /// Public key of the node that signed it (Ed25519, RFC 8032), in hexadecimal digits.
    pub node: String,
    /// A check of each leaf, in the order of their paths.
    pub checks: String,
    /// In hexadecimal digits.
    pub signature: String,
}

/// Why a text is no receipt, or not as it was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// It is not of the form.
    #[error("no receipt: {0}")]
    Malformed(String),
    /// It is not as it was signed.
    #[error("not as it was signed: {}", .fields.join(", "))]
    Changed {
        /// Paths of what was changed.
        fields: Vec<String>,
    },
}

impl SignedReceipt {
    /// Signs `receipt`.
    pub fn sign(receipt: Receipt, key: &NodeKey) -> Self {
        let node = hex(&key.public());
        let signed = Self { receipt, node, checks: String::new(), signature: String::new() };
        let document = serde_json::from_str(&signed.to_json()).expect("what was written is JSON");
        let leaves = leaves_of(&document);
        let (checks, signature) = (checks(&leaves), hex(&key.sign(&message(&leaves))));
        Self { checks, signature, ..signed }
    }

    /// Reads a receipt that is as it was signed. Whose key that was, its reader has to look at.
    ///
    /// # Errors
    /// What is not of the form, or what was changed.
    pub fn read(text: &str) -> Result<Self, ReceiptError> {
        let malformed = |error: serde_json::Error| ReceiptError::Malformed(error.to_string());
        if text.len() > N_BYTES_MAX {
            let problem = format!("{} bytes, expected at most {N_BYTES_MAX}", text.len());
            return Err(ReceiptError::Malformed(problem));
        }
        let document: Value = serde_json::from_str(text).map_err(malformed)?;
        if !document["receipt"].is_object() {
            let problem =
                "expected an object with \"receipt\", \"node\", \"checks\", \"signature\"";
            return Err(ReceiptError::Malformed(problem.to_owned()));
        }
        let fields = changed(&document);
        if !fields.is_empty() {
            return Err(ReceiptError::Changed { fields });
        }
        // What is as it was signed has the form, unless it is of another version.
        serde_json::from_value(document).map_err(malformed)
    }

    /// The receipt as one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are JSON")
    }
}

/// Paths of what is not as it was signed.
fn changed(document: &Value) -> Vec<String> {
    let leaves = leaves_of(document);
    let text = |name: &str| document[name].as_str().unwrap_or_default();
    let key = bytes::<32>(text("node")).zip(bytes::<64>(text("signature")));
    let is_signed =
        key.is_some_and(|(node, signature)| NodeKey::verify(&node, &message(&leaves), &signature));
    let has_checks = text("checks") == checks(&leaves);
    match (is_signed, has_checks) {
        (true, true) => Vec::new(),
        (true, false) => vec!["checks".to_owned()],
        (false, true) => vec!["signature".to_owned()],
        (false, false) => {
            let known: HashSet<&str> = split(text("checks")).collect();
            let is_off = |(path, value): &(&String, &String)| !known.contains(&*check(path, value));
            let mut off: Vec<String> =
                leaves.iter().filter(is_off).map(|(path, _)| path.clone()).collect();
            if off.is_empty() {
                off.push(match known.len() > leaves.len() {
                    true => "something was taken out".to_owned(),
                    false => "checks and signature".to_owned(),
                });
            }
            off
        }
    }
}

/// All but the checks and the signature, by path; a path in the receipt begins there.
fn leaves_of(document: &Value) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    for (name, value) in document.as_object().into_iter().flatten() {
        match name.as_str() {
            "checks" | "signature" => {}
            "receipt" => add_leaves("", value, &mut leaves),
            name => add_leaves(name, value, &mut leaves),
        }
    }
    leaves
}

/// The leaves of a value at `path`, each as its JSON; of a list its length too.
pub(super) fn add_leaves(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let gap = if path.is_empty() { "" } else { "." };
                add_leaves(&format!("{path}{gap}{name}"), value, leaves);
            }
        }
        Value::Array(values) => {
            leaves.insert(format!("{path}[]"), values.len().to_string());
            for (idx, value) in values.iter().enumerate() {
                add_leaves(&format!("{path}[{idx}]"), value, leaves);
            }
        }
        leaf => drop(leaves.insert(path.to_owned(), leaf.to_string())),
    }
}

fn message(leaves: &BTreeMap<String, String>) -> Vec<u8> {
    let line = |(path, value): (&String, &String)| format!("{path}={value}\n");
    let lines: String = leaves.iter().map(line).collect();
    [FIRST_LINE.as_bytes(), lines.as_bytes()].concat()
}

fn checks(leaves: &BTreeMap<String, String>) -> String {
    leaves.iter().map(|(path, value)| check(path, value)).collect()
}

fn check(path: &str, value: &str) -> String {
    let hash = Sha256::new_with_prefix(path).chain_update(b"=").chain_update(value).finalize();
    hex(&hash[..N_CHECK_DIGITS / 2])
}

/// The checks one by one; a text that has none of their form has none.
fn split(checks: &str) -> impl Iterator<Item = &str> {
    (0..checks.len() / N_CHECK_DIGITS)
        .filter_map(|idx| checks.get(idx * N_CHECK_DIGITS..(idx + 1) * N_CHECK_DIGITS))
}

/// Exactly `N` bytes of hexadecimal digits in small letters.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 2 * N || !digits.bytes().all(is_digit) {
        return None;
    }
    let byte = |idx: usize| u8::from_str_radix(&digits[2 * idx..2 * idx + 2], 16).ok();
    let bytes: Option<Vec<u8>> = (0..N).map(byte).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::receipt;
    use super::*;
    use serde_json::json;

    fn key(folder: &tempfile::TempDir, name: &str) -> NodeKey {
        NodeKey::load_or_create(&folder.path().join(name)).unwrap()
    }

    fn changed_fields(text: &str) -> Vec<String> {
        match SignedReceipt::read(text) {
            Err(ReceiptError::Changed { fields }) => fields,
            other => panic!("{other:?}: {text}"),
        }
    }

    /// Another value of the same type.
    fn other(value: &Value) -> Value {
        match value {
            Value::Null => json!("x"),
            Value::Bool(flag) => json!(!flag),
            Value::Number(number) => match number.as_i64() {
                Some(number) => json!(number ^ 1),
                None => json!(number.as_f64().unwrap() + 0.125),
            },
            Value::String(text) if text.is_empty() => json!("x"),
            Value::String(text) => {
                let (first, rest) = text.split_at(1);
                json!(format!("{}{rest}", if first == "0" { "1" } else { "0" }))
            }
            Value::Array(_) | Value::Object(_) => panic!("no leaf"),
        }
    }

    /// All places of a document that are no object and no list, as JSON pointers.
    fn places(at: &str, value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| places(&format!("{at}/{name}"), value, out));
            }
            Value::Array(values) => {
                let values = values.iter().enumerate();
                values.for_each(|(idx, value)| places(&format!("{at}/{idx}"), value, out));
            }
            _ => out.push(at.to_owned()),
        }
    }

    #[test]
    fn any_one_field_that_is_changed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let signed = SignedReceipt::sign(receipt(), &key(&folder, "key"));
        let document = serde_json::to_value(&signed).unwrap();
        let text = signed.to_json();
        let document_of = || -> Value { serde_json::from_str(&text).unwrap() };
        assert_eq!(SignedReceipt::read(&text), Ok(signed.clone()));
        let mut all = Vec::new();
        places("", &document, &mut all);
        assert!(all.len() > 40, "{all:?}");
        for place in all {
            let mut tampered = document_of();
            let leaf = tampered.pointer_mut(&place).unwrap();
            *leaf = other(leaf);
            let found = changed_fields(&tampered.to_string());
            // `/receipt/choices/0/seed` is told as `choices[0].seed`.
            let expected = place.trim_start_matches("/receipt").trim_start_matches('/');
            let plain: String = found[0].replace('[', "/").replace(']', "").replace('.', "/");
            assert_eq!((found.len(), &*plain), (1, expected), "{place}: {found:?}");
        }
    }

    #[test]
    fn what_is_added_or_taken_out_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let text = SignedReceipt::sign(receipt(), &key(&folder, "key")).to_json();
        let with = |change: &dyn Fn(&mut Value)| {
            let mut document: Value = serde_json::from_str(&text).unwrap();
            change(&mut document);
            changed_fields(&document.to_string())
        };
        assert_eq!(with(&|it| it["receipt"]["more"] = json!(1)), ["more"]);
        assert_eq!(with(&|it| it["more"] = json!(1)), ["more"]);
        let fewer = |it: &mut Value| drop(it["receipt"]["choices"].as_array_mut().unwrap().pop());
        assert_eq!(with(&fewer), ["choices[]"]);
        let without = |it: &mut Value| {
            drop(it["receipt"].as_object_mut().unwrap().shift_remove("unused"));
        };
        assert_eq!(with(&without), ["something was taken out"]);
        assert_eq!(with(&|it| it["checks"] = json!("é")), ["checks"]);
        for text in ["", "{", "[]", "{}", "{\"receipt\": 1}"] {
            let found = SignedReceipt::read(text);
            assert!(matches!(found, Err(ReceiptError::Malformed(_))), "{text}: {found:?}");
        }
        let long = " ".repeat(N_BYTES_MAX + 1);
        assert!(matches!(SignedReceipt::read(&long), Err(ReceiptError::Malformed(_))));
    }

    #[test]
    fn the_layout_is_no_part_of_what_is_signed() {
        let folder = tempfile::tempdir().unwrap();
        let signed = SignedReceipt::sign(receipt(), &key(&folder, "key"));
        let document: Value = serde_json::from_str(&signed.to_json()).unwrap();
        assert_eq!(SignedReceipt::read(&format!("{document:#}")), Ok(signed));
    }

    #[test]
    fn no_byte_can_be_changed() {
        let folder = tempfile::tempdir().unwrap();
        let text = SignedReceipt::sign(receipt(), &key(&folder, "key")).to_json();
        for idx in 0..text.len() {
            for mask in [1, 32] {
                let mut bytes = text.clone().into_bytes();
                bytes[idx] ^= mask;
                if let Ok(changed) = String::from_utf8(bytes) {
                    assert!(SignedReceipt::read(&changed).is_err(), "{changed}");
                }
            }
        }
    }

    #[test]
    fn another_key_does_not_stand_for_the_nodes() {
        let folder = tempfile::tempdir().unwrap();
        let (own, other) = (key(&folder, "own"), key(&folder, "other"));
        let signed = SignedReceipt::sign(receipt(), &own);
        let forged = SignedReceipt::sign(receipt(), &other);
        let signature = forged.signature;
        let replaced = SignedReceipt { signature, ..signed };
        assert_eq!(changed_fields(&replaced.to_json()), ["signature"]);
    }
}
