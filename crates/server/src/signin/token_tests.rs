//! ID tokens, signed in the test, and what is none.

use super::*;
use proptest::prelude::*;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::json;

const NOW: i64 = 1_000_000;
const EXPECTED: Expected<'static> =
    Expected { issuer: "https://i.example", client_id: "us", nonce: "n-1", now_s: NOW };

/// An issuer with a key of either form.
struct Issuer {
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(algorithm, ec.as_ref(), &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self { ec, ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap() }
    }

    fn listed(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        json!({"keys": [
            {"kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "alg": "ES256",
             "x": BASE64_URL_SAFE_NO_PAD.encode(&point[1..33]), "y": BASE64_URL_SAFE_NO_PAD.encode(&point[33..])},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed",
             "x": BASE64_URL_SAFE_NO_PAD.encode(self.ed.public_key().as_ref())},
            {"kty": "oct", "kid": "both", "k": "AA"},
            {"kty": "EC", "crv": "P-521", "kid": "other", "x": "AA", "y": "AA"},
        ]})
    }

    fn keys(&self) -> Jwks {
        Jwks::read(self.listed().to_string().as_bytes()).unwrap()
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string().as_bytes());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = match header["alg"].as_str() {
            Some("ES256") => {
                let random = SystemRandom::new();
                self.ec.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec()
            }
            Some("EdDSA") => self.ed.sign(message.as_bytes()).as_ref().to_vec(),
            // The published key as if it were a secret of both sides.
            Some("HS256") => {
                let secret = self.ec.public_key().as_ref();
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
            }
            _ => Vec::new(),
        };
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(&signature))
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://i.example", "aud": "us", "sub": "zoe", "nonce": "n-1", "exp": NOW + 300,
        "iat": NOW - 1, "groups": ["ops", "all"], "email": "zoe@example.com",
    })
}

fn header() -> Value {
    json!({"alg": "ES256", "kid": "ec"})
}

#[track_caller]
fn check(header: &Value, claims: &Value, expected: Result<&str, &str>) {
    let issuer = Issuer::new();
    let token = issuer.token(header, claims);
    match (verify(&token, &issuer.keys(), &EXPECTED), expected) {
        (Ok(claims), Ok(subject)) => assert_eq!(claims.subject, subject),
        (Err(untrue), Err(expected)) => {
            let told = untrue.to_string();
            assert!(told.contains(expected), "{told}");
        }
        (found, expected) => panic!("{header} {claims}: {found:?}, expected {expected:?}"),
    }
}

#[test]
fn what_the_issuer_signed_for_us_is_one() {
    check(&header(), &claims(), Ok("zoe"));
    check(&json!({"alg": "EdDSA", "kid": "ed"}), &claims(), Ok("zoe"));
    // Without a name every key of the algorithm is tried.
    check(&json!({"alg": "ES256", "typ": "JWT"}), &claims(), Ok("zoe"));
}

#[test]
fn what_is_signed_otherwise_is_none() {
    let alg = "alg: expected one of RS256, ES256, EdDSA";
    check(&json!({"alg": "none"}), &claims(), Err(alg));
    check(&json!({"alg": "None", "kid": "ec"}), &claims(), Err(alg));
    check(&json!({"alg": "HS256", "kid": "ec"}), &claims(), Err(alg));
    check(&json!({"alg": "ES256", "kid": "ed"}), &claims(), Err("lists no key"));
    check(&json!({"alg": "EdDSA", "kid": "of-later"}), &claims(), Err("lists no key"));
    check(&json!({"alg": "RS256", "kid": "ec"}), &claims(), Err("lists no key"));
    check(&json!({"alg": "ES256", "kid": "ec", "crit": ["exp"]}), &claims(), Err("crit: "));
    check(&json!({"kid": "ec"}), &claims(), Err("its header: line 1"));
    // Another issuer's key of the same name.
    let (one, other) = (Issuer::new(), Issuer::new());
    let token = other.token(&header(), &claims());
    let told = verify(&token, &one.keys(), &EXPECTED).unwrap_err().to_string();
    assert!(told.contains("none of the issuer's"), "{told}");
}

#[test]
fn what_was_changed_is_none() {
    let issuer = Issuer::new();
    let token = issuer.token(&header(), &claims());
    let keys = issuer.keys();
    assert!(verify(&token, &keys, &EXPECTED).is_ok());
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(verify(&changed, &keys, &EXPECTED).is_err(), "{at}");
        assert!(verify(&token[..at], &keys, &EXPECTED).is_err(), "cut at {at}");
    }
    for wrong in ["", ".", "..", "a.b.c", "....", &format!("{token}.x"), &format!("{token}=")] {
        assert!(verify(wrong, &keys, &EXPECTED).is_err(), "{wrong}");
    }
    let long = "a".repeat(TOKEN_BYTES_MAX + 1);
    assert!(verify(&long, &keys, &EXPECTED).unwrap_err().to_string().contains("too long"));
}

#[test]
fn claims_are_held_to_what_was_asked() {
    let with = |name: &str, value: Value, expected: Result<&str, &str>| {
        let mut claims = claims();
        claims[name] = value;
        check(&header(), &claims, expected);
    };
    with("iss", json!("https://i.example/"), Err("iss: "));
    with("iss", json!(["https://i.example"]), Err("iss: "));
    with("aud", json!(["us"]), Ok("zoe"));
    with("aud", json!("them"), Err("aud: "));
    with("aud", json!(["them"]), Err("aud: "));
    with("aud", json!(["us", "them"]), Err("aud: "));
    with("azp", json!("us"), Ok("zoe"));
    with("azp", json!("them"), Err("azp: "));
    with("exp", json!(NOW - 59), Ok("zoe"));
    with("exp", json!(NOW - 60), Err("exp: "));
    with("exp", json!(NOW as f64 + 0.5), Ok("zoe"));
    with("exp", json!("soon"), Err("exp: "));
    with("iat", json!(NOW + 61), Err("iat: "));
    with("iat", json!(NOW - 601), Err("iat: "));
    with("iat", Value::Null, Err("iat: "));
    with("nbf", json!(NOW + 61), Err("nbf: "));
    with("nbf", json!(NOW), Ok("zoe"));
    with("nonce", json!("n-2"), Err("nonce: "));
    with("nonce", Value::Null, Err("nonce: "));
    with("sub", json!(""), Err("sub: "));
    with("sub", json!(7), Err("sub: "));
    with("sub", json!("x".repeat(256)), Err("sub: "));
    let mut several = claims();
    (several["aud"], several["azp"]) = (json!(["us", "them"]), json!("us"));
    check(&header(), &several, Ok("zoe"));
}

#[test]
fn an_address_counts_where_it_was_verified() {
    let issuer = Issuer::new();
    let claims_of = |verified: Value| {
        let mut claims = claims();
        claims["email_verified"] = verified;
        verify(&issuer.token(&header(), &claims), &issuer.keys(), &EXPECTED).unwrap()
    };
    let claims = claims_of(json!(true));
    assert!(claims.has("email", "zoe@example.com") && claims.has("groups", "ops"));
    assert!(claims.has("sub", "zoe") && !claims.has("groups", "op") && !claims.has("roles", ""));
    for not in [json!(false), json!("true"), Value::Null] {
        let claims = claims_of(not);
        assert!(!claims.has("email", "zoe@example.com") && claims.email().is_none());
    }
}

/// So that nobody makes another token of one.
#[test]
fn a_token_has_one_text() {
    let issuer = Issuer::new();
    let token = issuer.token(&header(), &claims());
    let (rest, last) = token.split_at(token.len() - 1);
    let other = char::from(last.as_bytes()[0] + 1);
    for changed in [format!("{rest}{other}"), format!("{token}=="), format!("{token}\n")] {
        let told = verify(&changed, &issuer.keys(), &EXPECTED).unwrap_err().to_string();
        assert_eq!(told, "expected base64url", "{changed}");
    }
    for wrong in ["A", "Zh", "Zm9", "Zg==", "+/8", "Z g", "é"] {
        assert!(BASE64_URL_SAFE_NO_PAD.decode(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_standards_own_example_of_rs256_is_signed() {
    // RFC 7515, appendix A.2.
    let keys = Jwks::read(br#"{"keys":[{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]}"#).unwrap();
    let message = b"eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let mut signature = BASE64_URL_SAFE_NO_PAD.decode("cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw").unwrap();
    let of = (Algorithm::Rs256, None);
    assert_eq!(keys.verify(of, message, &signature), Some(true));
    assert_eq!(keys.verify(of, &message[1..], &signature), Some(false));
    signature[9] ^= 1;
    assert_eq!(keys.verify(of, message, &signature), Some(false));
}

#[test]
fn sets_of_keys_are_bounded_and_what_is_of_no_use_is_passed_over() {
    let read = |text: &str| Jwks::read(text.as_bytes());
    assert!(read(r#"{"keys":[]}"#).is_ok());
    for wrong in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[1]}"#, r#"{"keys":[{}]}"#] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
    let many = json!({"keys": vec![json!({"kty": "oct"}); 65]}).to_string();
    assert!(read(&many).unwrap_err().contains("65 keys"));
    assert!(read(&" ".repeat(257 << 10)).unwrap_err().contains("at most"));
    let issuer = Issuer::new();
    let token = issuer.token(&header(), &claims());
    for (name, value) in [("use", "enc"), ("alg", "RS256"), ("x", "AA"), ("crv", "P-384")] {
        let mut listed = issuer.listed();
        listed["keys"][0][name] = value.into();
        let keys = read(&listed.to_string()).unwrap();
        assert_eq!(verify(&token, &keys, &EXPECTED), Err(Untrue::UnknownKey), "{name}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_refused_in_few_words(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let issuer = Issuer::new();
        let changed = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes
        };
        let keys = Jwks::read(&changed(&issuer.listed().to_string()));
        prop_assert!(keys.err().is_none_or(|why| why.len() < 200));
        let token = issuer.token(&header(), &claims());
        let other = String::from_utf8_lossy(&changed(&token)).into_owned();
        let found = verify(&other, &issuer.keys(), &EXPECTED);
        prop_assert_eq!(found.is_ok(), other == token);
        prop_assert!(found.err().is_none_or(|why| why.to_string().len() < 200));
    }
}
