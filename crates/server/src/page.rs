//! The page: the files of `web/` in the binary, packed once, under headers that let a browser run
//! and reach nothing else. What the page asks the server for are routes like any other.

mod styled;

use crate::receipts::sha256;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::sync::{LazyLock, OnceLock};

/// The file that leads to all others.
pub(crate) const INDEX: &str = "index.html";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// What a browser may do for the page: run its scripts, style it, and ask this server. Nothing of
/// another origin is loaded, nothing that stands in a text runs, no other page shows this one, and
/// only the sanitizer may make markup of a text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types dompurify";

/// The same of each file.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    // Asked for each time, and answered with nothing while it is the same.
    (header::CACHE_CONTROL, "no-cache"),
];

/// One file, as it lies in `web/`.
struct File {
    name: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($media_type:ident: $($name:literal)*;)*) => {
        &[$($(File {
            name: $name,
            media_type: $media_type,
            bytes: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../web/", $name)),
        },)*)*]
    };
}

/// All of them.
const FILES: &[File] = files! {
    HTML: "index.html";
    IMAGE: "icon.svg";
    CSS: "style/base.css" "style/chat.css" "style/views.css" "vendor/uplot.css";
    SCRIPT:
        "first.js" "app.js" "strings.en.js"
        "lib/api.js" "lib/chart.js" "lib/format.js" "lib/history.js" "lib/icons.js"
        "lib/markdown.js" "lib/parts.js" "lib/settings.js" "lib/ui.js"
        "chat/answer.js" "chat/ask.js" "chat/composer.js" "chat/conversation.js"
        "chat/message.js" "chat/options.js" "chat/receipt.js" "chat/sidebar.js" "chat/view.js"
        "views/gate.js" "views/keys.js" "views/leaves.js" "views/limits.js" "views/lock.js"
        "views/models.js" "views/operate.js" "views/own.js" "views/plots.js" "views/policy.js"
        "views/pull.js" "views/session.js" "views/upkeep.js" "views/usage.js" "views/welcome.js"
        "vendor/highlight.js" "vendor/hooks.js" "vendor/htm.js" "vendor/languages.js"
        "vendor/marked.js" "vendor/preact.js" "vendor/purify.js" "vendor/signals-core.js"
        "vendor/signals.js" "vendor/uplot.js";
    TEXT: "vendor/LICENCES.txt";
};

/// A file as it is sent.
struct Ready {
    file: &'static File,
    bytes: Bytes,
    /// What a browser may do for it.
    policy: HeaderValue,
    /// Packed when it is first asked for, or before.
    packed: OnceLock<Bytes>,
    /// The first digits of its hash, as an entity tag.
    tag: HeaderValue,
}

static READY: LazyLock<Vec<Ready>> = LazyLock::new(|| FILES.iter().map(Ready::new).collect());

impl Ready {
    fn new(file: &'static File) -> Self {
        let (bytes, policy) = match file.name {
            INDEX => with_styles(file),
            _ => (Bytes::from_static(file.bytes), POLICY.to_owned()),
        };
        let tag = format!("\"{}\"", &sha256(&bytes)[..16]);
        let [tag, policy] = [tag, policy]
            .map(|text| HeaderValue::from_str(&text).expect("all of it is visible ASCII"));
        Self { file, bytes, policy, packed: OnceLock::new(), tag }
    }

    fn packed(&self) -> &Bytes {
        self.packed.get_or_init(|| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            let packed = encoder.write_all(&self.bytes).and_then(|()| encoder.finish());
            packed.expect("memory takes what is written").into()
        })
    }
}

/// The file that leads to all others with the styles in it that it links, and its policy.
fn with_styles(file: &File) -> (Bytes, String) {
    let text = |file: &File| std::str::from_utf8(file.bytes).expect("the page's files are UTF-8");
    let style = |name: &str| FILES.iter().find(|file| file.name == name).map(text);
    let (html, sources) = styled::styled(text(file), style);
    let own = "style-src 'self'";
    (html.into(), POLICY.replace(own, &format!("{own}{sources}")))
}

/// Packs all files, so that the first who looks need not wait for that. Blocks.
pub(crate) fn prepare() {
    for ready in READY.iter() {
        ready.packed();
    }
}

/// The file of this name, for a request with these headers; `None` where there is none.
pub(crate) fn response(name: &str, asked: &HeaderMap) -> Option<Response<Body>> {
    let ready = READY.iter().find(|ready| ready.file.name == name)?;
    let Ready { file, tag, .. } = ready;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, ready.policy.clone());
    headers.insert(header::ETAG, tag.clone());
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    let says = |name: HeaderName, word: &str| {
        let value = asked.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.contains(word))
    };
    if says(header::IF_NONE_MATCH, tag.to_str().unwrap_or_default()) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Some(response);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.media_type));
    *response.body_mut() = match says(header::ACCEPT_ENCODING, "gzip") {
        true => {
            let gzip = HeaderValue::from_static("gzip");
            response.headers_mut().insert(header::CONTENT_ENCODING, gzip);
            ready.packed().clone().into()
        }
        false => ready.bytes.clone().into(),
    };
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// What all of it may weigh as it is sent, in bytes.
    const N_BYTES_MAX: usize = 400 << 10;
    const WEB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../web");

    fn text(file: &File) -> &'static str {
        std::str::from_utf8(file.bytes).unwrap()
    }

    /// The path of a file that one in `folder` refers to.
    fn joined(folder: &str, to: &str) -> String {
        let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
        for part in to.split('/') {
            match part {
                "." => {}
                ".." => drop(parts.pop().unwrap()),
                part => parts.push(part),
            }
        }
        parts.join("/")
    }

    #[test]
    fn the_page_is_small_and_all_of_it_is_served() {
        let n_bytes: usize = READY.iter().map(|ready| ready.packed().len()).sum();
        assert!(n_bytes <= N_BYTES_MAX, "{n_bytes} bytes packed, at most {N_BYTES_MAX}");
        let served: BTreeSet<String> = FILES.iter().map(|file| file.name.to_owned()).collect();
        let mut found = BTreeSet::new();
        for folder in ["", "lib", "chat", "views", "style", "vendor"] {
            for entry in Path::new(WEB).join(folder).read_dir().unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let is_served = ["html", "css", "js", "svg"].iter().any(|end| name.ends_with(end));
                if is_served || name == "LICENCES.txt" {
                    found.insert(joined(folder, &name));
                }
            }
        }
        assert_eq!(served, found);
    }

    #[test]
    fn whatever_a_file_refers_to_is_there() {
        for file in FILES {
            let folder = file.name.rsplit_once('/').map_or("", |(folder, _)| folder);
            let text = text(file);
            for (before, after) in [("from \"", '"'), ("from\"./", '"'), ("import(\"", '"')] {
                for to in text.split(before).skip(1).filter_map(|rest| rest.split(after).next()) {
                    let is_file = to.ends_with(".js");
                    let to = joined(folder, to);
                    assert!(
                        !is_file || FILES.iter().any(|of| of.name == to),
                        "{}: {to}",
                        file.name
                    );
                }
            }
            if file.name == INDEX {
                for to in text.split("\"/web/").skip(1).filter_map(|rest| rest.split('"').next()) {
                    assert!(FILES.iter().any(|of| of.name == to), "{to}");
                }
                // One after the other they would be asked for: a module says late what it needs.
                let first = include_str!("../../../web/first.js");
                let is_linked = |file: &&File| [SCRIPT, CSS].contains(&file.media_type);
                for file in FILES.iter().filter(is_linked) {
                    let is_late = ["vendor/uplot.js", "app.js", "first.js"].contains(&file.name);
                    let name = format!("\"{}\"", file.name);
                    let is_asked =
                        first.contains(&name) || text.contains(&format!("/web/{}", file.name));
                    assert!(is_late || is_asked, "{}: not asked for at once", file.name);
                }
                // The first paint waits for these, and for nothing else.
                assert_eq!(text.matches("stylesheet").count(), 2);
                assert!(!text.contains("preload"));
                assert!(!text.contains("<style") && !text.contains(" style="));
                // What is seen before the scripts are there says what they will say.
                let strings = include_str!("../../../web/strings.en.js");
                for said in ["<span>", "placeholder=\"", "<p class=\"hint\">"] {
                    for rest in text.split(said).skip(1) {
                        let word = rest.split(['<', '"']).next().unwrap_or_default();
                        let is_name = word == "Freehold";
                        assert!(is_name || strings.contains(&format!("\"{word}\"")), "{word}");
                    }
                }
                assert_eq!(
                    text.matches("<script").count(),
                    text.matches("<script src").count()
                        + text.matches("<script type=\"module\" src").count()
                );
            }
        }
    }

    #[test]
    fn what_is_vendored_is_what_was_fetched() {
        let sums = std::fs::read_to_string(Path::new(WEB).join("vendor/SHA256SUMS")).unwrap();
        for file in FILES {
            let Some(name) = file.name.strip_prefix("vendor/") else { continue };
            let line = format!("{}  {name}\n", sha256(file.bytes));
            assert!(sums.contains(&line), "{name} is not what web/vendor.sh wrote");
        }
    }

    #[test]
    fn files_are_short() {
        for file in FILES.iter().filter(|file| !file.name.starts_with("vendor/")) {
            let n_lines = text(file).lines().count();
            // Texts and drawings are as long as they are.
            let is_told = ["strings.en.js", "lib/icons.js"].contains(&file.name);
            let n_most = if is_told { 600 } else { 400 };
            assert!(n_lines <= n_most, "{}: {n_lines} lines", file.name);
            if file.media_type != SCRIPT || is_told {
                continue;
            }
            let long = text(file).lines().find(|line| line.chars().count() > 120);
            assert_eq!(long, None, "{}", file.name);
        }
    }

    #[test]
    fn each_file_forbids_what_is_not_its_own() {
        for file in FILES {
            let found = response(file.name, &HeaderMap::new()).unwrap();
            assert_eq!(found.headers()[header::CONTENT_TYPE], file.media_type);
            for (name, value) in HEADERS {
                assert_eq!(found.headers()[&name], value, "{}", file.name);
            }
            let policy = found.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            if file.name != INDEX {
                assert_eq!(policy, POLICY, "{}", file.name);
                continue;
            }
            // It has two styles in it, by their hashes, and else may do no more.
            let (before, behind) = POLICY.split_once("; img-src").unwrap();
            assert!(policy.starts_with(before) && policy.ends_with(behind), "{policy}");
            assert_eq!(policy.matches(" 'sha256-").count(), 2, "{policy}");
            assert_eq!(policy.len(), POLICY.len() + 2 * " 'sha256-='".len() + 2 * 43);
        }
        let index = &READY.iter().find(|ready| ready.file.name == INDEX).unwrap().bytes;
        let index = std::str::from_utf8(index).unwrap();
        assert_eq!((index.matches("<style>").count(), index.matches("</style").count()), (2, 2));
        assert!(!POLICY.contains("unsafe") && POLICY.contains("frame-ancestors 'none'"));
        assert!(response("../Cargo.toml", &HeaderMap::new()).is_none());
        assert!(response("", &HeaderMap::new()).is_none());
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        let with = |name: HeaderName, value: &str| {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())]);
            response("app.js", &headers).unwrap()
        };
        let packed = with(header::ACCEPT_ENCODING, "br, gzip");
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
        let tag = packed.headers()[header::ETAG].to_str().unwrap().to_owned();
        let again = with(header::IF_NONE_MATCH, &format!("W/{tag}"));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(with(header::IF_NONE_MATCH, "\"0\"").status(), StatusCode::OK);
        let plain = with(header::ACCEPT_ENCODING, "br");
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
    }
}
