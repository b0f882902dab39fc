//! What `freehold serve` says when it is ready: its address, and what to paste to use it.

use std::net::{IpAddr, SocketAddr};

use crate::context::{Context, Verbosity};
use crate::terminal;

/// Prints the address, and what to paste to use it.
pub(super) fn announce(context: &Context, base: &str, advice: &str) -> anyhow::Result<()> {
    terminal::print_line(&format!("listening on {base}"))?;
    if context.verbosity() == Verbosity::Quiet {
        return Ok(());
    }
    context.note(&format!("{base}/ in a browser is the page"));
    terminal::print(advice)?;
    context.note("Ctrl-C stops the server");
    Ok(())
}

/// What a model is for.
#[derive(Clone, Copy)]
pub(super) enum Use {
    Chat,
    Complete,
    Embed,
}

/// What to paste to ask `model`: a question where it chats, a text to continue or to embed where it
/// does that.
pub(super) fn advice(base: &str, model: &str, use_for: Use) -> String {
    let (path, data, call, field) = match use_for {
        Use::Chat => {
            let data = r#""messages": [{"role": "user", "content": "Hello"}]"#;
            let arguments = r#"messages=[{"role": "user", "content": "Hello"}]"#;
            let call = format!(r#"chat.completions.create(model="{model}", {arguments})"#);
            ("chat/completions", data, call, "choices[0].message.content")
        }
        Use::Complete => {
            let data = r#""prompt": "Once upon a time", "max_tokens": 64"#;
            let arguments = r#"prompt="Once upon a time", max_tokens=64"#;
            let call = format!(r#"completions.create(model="{model}", {arguments})"#);
            ("completions", data, call, "choices[0].text")
        }
        Use::Embed => {
            let data = r#""input": "Once upon a time""#;
            let arguments = r#"input="Once upon a time""#;
            let call = format!(r#"embeddings.create(model="{model}", {arguments})"#);
            ("embeddings", data, call, "data[0].embedding")
        }
    };
    let client = format!(r#"OpenAI(base_url="{base}/v1", api_key="none")"#);
    format!(
        r#"
curl {base}/v1/{path} -H 'Content-Type: application/json' -d '{{"model": "{model}", {data}}}'

python3 -c 'from openai import OpenAI; print({client}.{call}.{field})'

"#
    )
}

/// The address to call from this machine: an unspecified one is reached through loopback.
pub(super) fn base_url(mut address: SocketAddr, is_tls: bool) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip([127, 0, 0, 1].into()),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            address.set_ip(std::net::Ipv6Addr::LOCALHOST.into());
        }
        _ => {}
    }
    let scheme = if is_tls { "https" } else { "http" };
    format!("{scheme}://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_asked_for_what_it_does() {
        let chat = advice("http://h:1", "m", Use::Chat);
        assert!(chat.contains("http://h:1/v1/chat/completions") && chat.contains("messages="));
        let base = advice("http://h:1", "m", Use::Complete);
        assert!(base.contains("http://h:1/v1/completions") && !base.contains("messages"), "{base}");
        let data = base.split('\'').find(|part| part.starts_with('{')).unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!((&data["model"], &data["prompt"]), (&"m".into(), &"Once upon a time".into()));
        assert!(base.contains(r#"completions.create(model="m", prompt="#), "{base}");
        let embeds = advice("http://h:1", "m", Use::Embed);
        assert!(
            embeds.contains("http://h:1/v1/embeddings") && embeds.contains("input="),
            "{embeds}"
        );
    }

    #[test]
    fn the_address_shown_can_be_called() {
        let check = |listen: &str, expected: &str| {
            assert_eq!(base_url(listen.parse().unwrap(), false), expected);
        };
        assert_eq!(base_url("127.0.0.1:443".parse().unwrap(), true), "https://127.0.0.1:443");
        check("127.0.0.1:11500", "http://127.0.0.1:11500");
        check("0.0.0.0:80", "http://127.0.0.1:80");
        check("[::]:80", "http://[::1]:80");
        check("192.168.1.2:80", "http://192.168.1.2:80");
    }
}
