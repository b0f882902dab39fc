//! The first file as it is sent: the styles that it links stand in it, so that its first paint
//! waits for nothing but itself. The policy beside it names each by its hash; no other counts.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha2::{Digest, Sha256};

const LINK: [&str; 2] = ["<link rel=\"stylesheet\" href=\"/web/", "\">"];

/// `html` with the text of each style in the place of its link, and these texts as sources of a
/// policy's `style-src`. A style that `text_of` does not know stays a link.
pub(super) fn styled(
    html: &str,
    text_of: impl Fn(&str) -> Option<&'static str>,
) -> (String, String) {
    let (mut out, mut sources) = (String::new(), String::new());
    let mut rest = html;
    while let Some((before, after)) = rest.split_once(LINK[0]) {
        let Some((name, behind)) = after.split_once(LINK[1]) else { break };
        out.push_str(before);
        match text_of(name) {
            Some(text) => {
                out.push_str(&format!("<style>{text}</style>"));
                sources.push_str(&format!(" '{}'", source(text)));
            }
            None => out.push_str(&format!("{}{name}{}", LINK[0], LINK[1])),
        }
        rest = behind;
    }
    out.push_str(rest);
    (out, sources)
}

/// The hash of a text, as a policy names it (Content Security Policy Level 3, section 2.3.1).
fn source(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_known_styles_become_them() {
        let text_of = |name: &str| (name == "a.css").then_some("p{}");
        let check = |html: &str, expected: (&str, &str)| {
            let (html, sources) = styled(html, text_of);
            assert_eq!((html.as_str(), sources.as_str()), expected);
        };
        // printf 'p{}' | openssl dgst -sha256 -binary | base64
        let hash = " 'sha256-gG2yISYereRMiG2lMXrbiUgi0Ubw9p7QCeWcroOvy9Y='";
        let link = "<link rel=\"stylesheet\" href=\"/web/a.css\">";
        check(&format!("<b>{link}\n</b>"), ("<b><style>p{}</style>\n</b>", hash));
        let other = "<link rel=\"stylesheet\" href=\"/web/b.css\"><p>";
        check(other, (other, ""));
        check(
            "<link rel=\"stylesheet\" href=\"/web/",
            ("<link rel=\"stylesheet\" href=\"/web/", ""),
        );
    }
}
