//! The names that stand for models, as the owner gives them. Where they come from is known here
//! alone.

use server::Alias;

/// The flags that give aliases.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct AliasArgs {
    /// Serve a model under a further name, or under all that begin with NAME* (may be repeated)
    #[arg(long, value_name = "NAME=MODEL", value_parser = alias)]
    alias: Vec<Alias>,
}

impl AliasArgs {
    /// The aliases in effect, in the order in which they are looked through.
    pub(crate) fn all(&self) -> &[Alias] {
        &self.alias
    }
}

/// Reads `NAME=MODEL`; names of models have no `=`.
fn alias(text: &str) -> Result<Alias, String> {
    match text.split_once('=') {
        Some((name, model)) if !name.is_empty() && !model.is_empty() => {
            Ok(Alias { name: name.to_owned(), model: model.to_owned() })
        }
        _ => Err("expected NAME=MODEL, such as claude-*=smollm2-135m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_read() {
        let found = alias("claude-*=a/b");
        let (name, model) = ("claude-*".to_owned(), "a/b".to_owned());
        assert_eq!(found, Ok(Alias { name, model }));
        for text in ["", "a", "=a", "a="] {
            assert!(alias(text).is_err(), "{text}");
        }
    }
}
