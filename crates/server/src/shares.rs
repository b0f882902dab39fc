//! Parts of an alias's requests that another model answers instead (a canary), or behind the answer
//! and unseen too (a shadow).
//!
//! Which requests those are depends on the client and on what its conversation begins with: the
//! first message of the user, which every later request of a conversation repeats. So one
//! conversation stays with one model, whatever becomes of the others. Nothing here waits or asks.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::Alias;
use crate::app::App;
use crate::dialects::{Call, PlainPrompt, Prompts};

/// A part is told in so many of a percent.
const PARTS_OF_PERCENT: f64 = 100.0;
/// All requests.
const N_PARTS: u64 = 10_000;
/// Of a text to continue, bytes that stand for its beginning: what follows grows.
const N_BEGIN_BYTES: usize = 256;

/// A part of the requests to an alias, and the model that gets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The alias, as it is written.
    pub alias: String,
    /// The served model.
    pub model: String,
    /// So many of 10,000.
    pub parts: u16,
}

/// All shares of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shares {
    /// Whose answers clients get.
    pub canaries: Vec<Share>,
    /// Whose answers nobody gets.
    pub shadows: Vec<Share>,
}

impl Share {
    /// Reads `ALIAS=MODEL:PERCENT`, with up to two decimals.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = || {
            let (alias, rest) = text.split_once('=')?;
            let (model, percent) = rest.rsplit_once(':')?;
            let percent = percent.strip_suffix('%').unwrap_or(percent);
            let parts = (percent.parse::<f64>().ok()? * PARTS_OF_PERCENT).round();
            let is_good = !alias.is_empty() && !model.is_empty() && (1.0..=1e4).contains(&parts);
            // Checked to be at most 10,000.
            let parts = parts as u16;
            let (alias, model) = (alias.to_owned(), model.to_owned());
            is_good.then_some(Self { alias, model, parts })
        };
        parsed().ok_or_else(|| {
            "expected ALIAS=MODEL:PERCENT, of 0.01 to 100 percent, such as support=new:5".to_owned()
        })
    }

    /// Checks that each of `shares` has an alias and another served model than that stands for.
    ///
    /// # Errors
    /// What is wrong with the first that has not, by the name of its alias.
    pub fn check(shares: &[Self], aliases: &[Alias], models: &[&str]) -> Result<(), String> {
        for (share_idx, Self { alias: name, model, .. }) in shares.iter().enumerate() {
            let wrong = |problem: String| Err(format!("{name:?}: {problem}"));
            let Some(alias) = aliases.iter().find(|alias| alias.name == *name) else {
                return wrong("expected an alias of the server, as it is written".to_owned());
            };
            if alias.model == *model {
                return wrong(format!("it stands for {model:?} already, expected another model"));
            }
            if !models.contains(&&**model) {
                return wrong(format!("{model:?}: expected the name of a served model"));
            }
            if shares[..share_idx].iter().any(|other| other.alias == *name) {
                return wrong("given twice, expected each alias once".to_owned());
            }
        }
        Ok(())
    }

    /// Whether this conversation is among them. `purpose` keeps the choices of a canary and of a
    /// shadow apart.
    fn has(&self, purpose: &str, client: u64, prompts: &Prompts) -> bool {
        let mut hasher = DefaultHasher::new();
        (purpose, &self.alias, client, beginning(prompts)).hash(&mut hasher);
        hasher.finish() % N_PARTS < u64::from(self.parts)
    }
}

/// What a conversation begins with, as far as later requests of it repeat that. What the system
/// says may have the time in it, so it does not count.
fn beginning(prompts: &Prompts) -> String {
    match prompts {
        Prompts::Chat { messages, .. } => {
            let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
            let is_users = |message: &&serde_json::Value| message["role"] == "user";
            let first = messages.iter().find(is_users).or(messages.first());
            first.map(|message| message["content"].to_string()).unwrap_or_default()
        }
        Prompts::Turn { text, .. } => begin_of(text),
        Prompts::Plain(prompts) => match prompts.first() {
            Some(PlainPrompt::Text(text) | PlainPrompt::Middle { before: text, .. }) => {
                begin_of(text)
            }
            Some(PlainPrompt::Tokens(ids)) => format!("{:?}", &ids[..ids.len().min(64)]),
            None => String::new(),
        },
    }
}

fn begin_of(text: &str) -> String {
    text[..text.floor_char_boundary(N_BEGIN_BYTES)].to_owned()
}

impl App {
    /// The canary of the alias that a call asks for, and whether it is to answer.
    pub(crate) fn canary(&self, client: u64, call: &Call) -> Option<(Share, bool)> {
        let shares = self.shares.get();
        let share = self.share_of(&shares.canaries, call)?;
        let is_picked = share.has("canary", client, &call.prompts);
        // One that a client had removed meanwhile answers nothing.
        let is_served = self.models.own(&share.model).is_ok();
        Some((share.clone(), is_picked && is_served))
    }

    /// The shadow of the alias that a call asks for, where it is to answer too.
    pub(crate) fn shadow(&self, client: u64, call: &Call) -> Option<Share> {
        let shares = self.shares.get();
        let share = self.share_of(&shares.shadows, call)?;
        share.has("shadow", client, &call.prompts).then(|| share.clone())
    }

    fn share_of<'a>(&self, shares: &'a [Share], call: &Call) -> Option<&'a Share> {
        if shares.is_empty() {
            return None;
        }
        let alias = self.models.alias_of(call.model.as_deref()?)?;
        shares.iter().find(|share| share.alias == alias.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::ChatEnd;
    use serde_json::{Map, Value, json};

    #[test]
    fn shares_are_read() {
        let read = |text: &str| {
            let share = Share::parse(text).ok()?;
            Some((share.alias, share.model, share.parts))
        };
        let is = |alias: &str, parts| Some((alias.to_owned(), "m".to_owned(), parts));
        assert_eq!(read("claude-*=m:5"), is("claude-*", 500));
        assert_eq!(read("a=m:0.01%"), is("a", 1));
        assert_eq!(read("a=m:100"), is("a", 10_000));
        for text in ["", "a", "a=m", "=m:1", "a=:1", "a=m:", "a=m:0", "a=m:101", "a=m:-1", "a=m:x"]
        {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read("a=m:nan"), None);
    }

    #[test]
    fn shares_that_can_have_no_effect_are_refused() {
        let aliases = [Alias { name: "a*".to_owned(), model: "old".to_owned() }];
        let check = |texts: &[&str], expected: Result<(), &str>| {
            let shares: Vec<Share> = texts.iter().map(|text| Share::parse(text).unwrap()).collect();
            let found = Share::check(&shares, &aliases, &["old", "new"]);
            assert_eq!(found, expected.map_err(str::to_owned), "{texts:?}");
        };
        check(&["a*=new:1"], Ok(()));
        check(&["a1=new:1"], Err("\"a1\": expected an alias of the server, as it is written"));
        let same = "\"a*\": it stands for \"old\" already, expected another model";
        check(&["a*=old:1"], Err(same));
        check(&["a*=x:1"], Err("\"a*\": \"x\": expected the name of a served model"));
        let twice = "\"a*\": given twice, expected each alias once";
        check(&["a*=new:1", "a*=new:2"], Err(twice));
    }

    fn chat(messages: Value) -> Prompts {
        Prompts::Chat { messages, kwargs: Map::new(), end: ChatEnd::Answer }
    }

    #[test]
    fn a_conversation_stays_where_it_began_and_the_part_is_kept() {
        let share = Share::parse("a=m:25").unwrap();
        let picks = |client, prompts: &Prompts| share.has("canary", client, prompts);
        let user = |text: &str| json!({"role": "user", "content": text});
        let mut n_picked = 0;
        for client in 0..4000 {
            let begin = chat(json!([{"role": "system", "content": "09:00"}, user("Hi")]));
            let is_picked = picks(client, &begin);
            n_picked += u32::from(is_picked);
            let later = chat(json!([
                {"role": "system", "content": "09:01"},
                user("Hi"),
                {"role": "assistant", "content": "Hello"},
                user("And now?"),
            ]));
            assert_eq!(picks(client, &later), is_picked, "{client}");
        }
        assert!((900..1100).contains(&n_picked), "{n_picked} of 4000");
        // One client's conversations are not all alike, and a shadow's choice is its own.
        let of_one = (0..400).map(|n| chat(json!([user(&n.to_string())])));
        let (canary, shadow): (Vec<bool>, Vec<bool>) =
            of_one.map(|prompts| (picks(7, &prompts), share.has("shadow", 7, &prompts))).unzip();
        assert!(canary.contains(&true) && canary.contains(&false) && canary != shadow);
        let long = "é".repeat(1000);
        let grown = [long.clone(), format!("{long} more")]
            .map(|text| beginning(&Prompts::Plain(vec![PlainPrompt::Text(text)])));
        assert_eq!(grown[0], grown[1]);
    }
}
