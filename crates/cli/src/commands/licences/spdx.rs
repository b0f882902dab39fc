//! The same as an SPDX document (<https://spdx.github.io/spdx-spec/v2.3/>), in its JSON form.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use store::{Installed, Licence, Sha256};

use super::Crate;

/// What SPDX says where nobody says anything.
const NOTHING: &str = "NOASSERTION";

/// Ids of the SPDX list under which models are published. What else a publisher writes gets a name
/// of the document's own, as SPDX wants it.
const IDS: [&str; 32] = [
    "AFL-3.0",
    "Apache-2.0",
    "Artistic-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-3-Clause-Clear",
    "BSL-1.0",
    "CC-BY-2.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-NC-2.0",
    "CC-BY-NC-3.0",
    "CC-BY-NC-4.0",
    "CC-BY-NC-ND-4.0",
    "CC-BY-NC-SA-4.0",
    "CC-BY-ND-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "CDLA-Permissive-1.0",
    "CDLA-Permissive-2.0",
    "CDLA-Sharing-1.0",
    "ECL-2.0",
    "EPL-2.0",
    "EUPL-1.2",
    "ISC",
    "MIT",
    "MPL-2.0",
    "ODbL-1.0",
    "PDDL-1.0",
    "Unlicense",
    "Zlib",
];

/// The id of a model's licence as SPDX writes it, where it has one; else as its publisher does.
pub(super) fn named(id: &str) -> &str {
    IDS.iter().find(|of| of.eq_ignore_ascii_case(id)).copied().unwrap_or(id)
}

/// The document of this program, the crates in it, and models; `created` is an RFC 3339 moment.
pub(super) fn document(models: &[Installed], crates: &[Crate], created: &str) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    let own = package("SPDXRef-freehold", "freehold", env!("CARGO_PKG_LICENSE"), "APPLICATION");
    let own = with(own, [("versionInfo", json!(version))]);
    let models_in = models.iter().enumerate().map(|(idx, model)| of_model(idx, model));
    let packages: Vec<Value> =
        [own].into_iter().chain(crates.iter().map(of_crate)).chain(models_in).collect();
    let relate = |from: &str, how: &str, to: String| -> Value {
        json!({ "spdxElementId": from, "relationshipType": how, "relatedSpdxElement": to })
    };
    let described = std::iter::once("SPDXRef-freehold".to_owned());
    let described = described.chain((0..models.len()).map(id_of_model));
    let linked = crates.iter().map(id_of_crate);
    let relationships: Vec<Value> = described
        .map(|id| relate("SPDXRef-DOCUMENT", "DESCRIBES", id))
        .chain(linked.map(|id| relate("SPDXRef-freehold", "STATIC_LINK", id)))
        .collect();
    // Names what is in it and when it was made, which is all that a document must not share.
    let sum = Sha256::of(format!("{created}{}", json!(packages)).as_bytes());
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("freehold-{version}"),
        "documentNamespace": format!("https://spdx.org/spdxdocs/freehold-{version}-{sum}"),
        "creationInfo": {
            "created": created,
            "creators": [format!("Tool: freehold-{version}")],
        },
        "packages": packages,
        "relationships": relationships,
        "hasExtractedLicensingInfos": own_licences(models),
    })
}

fn package(id: &str, name: &str, licence: &str, purpose: &str) -> Value {
    json!({
        "SPDXID": id,
        "name": name,
        "downloadLocation": NOTHING,
        "filesAnalyzed": false,
        "licenseConcluded": NOTHING,
        "licenseDeclared": licence,
        "copyrightText": NOTHING,
        "primaryPackagePurpose": purpose,
    })
}

fn with<const N: usize>(mut package: Value, fields: [(&str, Value); N]) -> Value {
    for (name, value) in fields {
        package[name] = value;
    }
    package
}

fn of_crate(of: &Crate) -> Value {
    let Crate { name, version, licence, sha256 } = of;
    let address = format!("https://crates.io/api/v1/crates/{name}/{version}/download");
    with(
        package(&id_of_crate(of), name, licence, "LIBRARY"),
        [
            ("versionInfo", json!(version)),
            ("downloadLocation", json!(address)),
            ("checksums", json!([{ "algorithm": "SHA256", "checksumValue": sha256 }])),
            (
                "externalRefs",
                json!([{
                    "referenceCategory": "PACKAGE-MANAGER",
                    "referenceType": "purl",
                    "referenceLocator": format!("pkg:cargo/{name}@{version}"),
                }]),
            ),
        ],
    )
}

fn of_model(idx: usize, model: &Installed) -> Value {
    let name = model.full_name();
    let mut package = package(&id_of_model(idx), &name, &expression(&model.licence), "FILE");
    package["sourceInfo"] = json!(model.source);
    if model.source.starts_with("https://") {
        package["downloadLocation"] = json!(model.source);
    }
    if let Some(revision) = &model.revision {
        package["versionInfo"] = json!(revision);
    }
    // A package has one sum of each kind; the parts of a split model have none together.
    if let [file] = model.files.as_slice() {
        let sum = json!({ "algorithm": "SHA256", "checksumValue": file.sha256.to_string() });
        package["checksums"] = json!([sum]);
    }
    if let Some(notice) = &model.licence.notice {
        package["attributionTexts"] = json!([notice]);
    }
    package
}

/// A model's licence as SPDX wants it.
fn expression(licence: &Licence) -> String {
    let id = named(&licence.id);
    if id == Licence::UNKNOWN {
        NOTHING.to_owned()
    } else if IDS.contains(&id) {
        id.to_owned()
    } else {
        format!("LicenseRef-{}", plain(id))
    }
}

/// What is known of licences that are not in SPDX's list.
fn own_licences(models: &[Installed]) -> Vec<Value> {
    let mut found = BTreeMap::new();
    for licence in models.iter().map(|model| &model.licence) {
        let id = expression(licence);
        if !id.starts_with("LicenseRef-") {
            continue;
        }
        let place = licence.url.as_ref().map(|url| format!(", whose text stands at {url}"));
        let text = format!("what its publisher calls {}{}", licence.id, place.unwrap_or_default());
        let mut entry = json!({ "licenseId": id, "name": licence.id, "extractedText": text });
        if let Some(url) = &licence.url {
            entry["seeAlsos"] = json!([url]);
        }
        found.entry(id).or_insert(entry);
    }
    found.into_values().collect()
}

fn id_of_crate(of: &Crate) -> String {
    format!("SPDXRef-crate-{}-{}", plain(of.name), plain(of.version))
}

fn id_of_model(idx: usize) -> String {
    format!("SPDXRef-model-{}", idx + 1)
}

/// With the characters that an id may have.
fn plain(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    text.chars().map(|c| if is_plain(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use store::InstalledFile;

    use super::*;

    fn model(licence: &str) -> Installed {
        let file = InstalledFile { path: "/m.gguf".into(), n_bytes: 1, sha256: Sha256::of(b"m") };
        let url = Some("https://example.org/licence".to_owned());
        Installed {
            name: "m".to_owned(),
            publisher: "p".to_owned(),
            files: vec![file],
            source: "https://example.org/m.gguf#sha256=00".to_owned(),
            revision: Some("r1".to_owned()),
            licence: Licence { id: licence.to_owned(), url, ..Licence::unknown() },
            adopted: false,
            signed_by: None,
            origin: None,
            date: String::new(),
        }
    }

    #[test]
    fn licences_are_named_as_spdx_names_them() {
        for (id, name, declared) in [
            ("apache-2.0", "Apache-2.0", "Apache-2.0"),
            ("unknown", "unknown", "NOASSERTION"),
            ("gemma", "gemma", "LicenseRef-gemma"),
            ("my own (v2)", "my own (v2)", "LicenseRef-my-own--v2-"),
        ] {
            assert_eq!(named(id), name);
            assert_eq!(expression(&model(id).licence), declared);
        }
    }

    #[test]
    fn a_document_has_every_package_once_and_explains_its_own_names() {
        let models = [model("mit"), model("gemma"), model("gemma")];
        let crates: Vec<Crate> = super::super::crates().collect();
        let document = document(&models, &crates, "2026-01-02T03:04:05Z");
        let packages = document["packages"].as_array().unwrap();
        assert_eq!(packages.len(), 1 + crates.len() + 3);
        let ids = packages.iter().map(|of| of["SPDXID"].as_str().unwrap());
        let ids: std::collections::BTreeSet<&str> = ids.collect();
        assert_eq!(ids.len(), packages.len());
        let related = document["relationships"].as_array().unwrap();
        assert_eq!(related.len(), packages.len());
        assert!(related.iter().all(|of| ids.contains(of["relatedSpdxElement"].as_str().unwrap())));
        let own = &document["hasExtractedLicensingInfos"];
        assert_eq!(own.as_array().unwrap().len(), 1);
        assert_eq!(own[0]["seeAlsos"][0], "https://example.org/licence");
        let last = packages.last().unwrap();
        assert_eq!(last["downloadLocation"], "https://example.org/m.gguf#sha256=00");
        assert_eq!(last["checksums"][0]["checksumValue"], Sha256::of(b"m").to_string());
    }
}
