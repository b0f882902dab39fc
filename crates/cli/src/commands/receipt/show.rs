//! `freehold receipt show`: what was asked and answered, in words.

use server::receipts::{Receipt, SignedReceipt};

use super::{text_of, whose};
use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ledger::LedgerArgs;
use crate::terminal;

/// Show what the receipt of an answer says, and whether it is as it was signed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold receipt show chatcmpl-0123456789abcdef
  freehold receipt show receipt.json")]
pub(crate) struct Show {
    /// The id of an answer, or a file
    #[arg(value_name = "ID|FILE")]
    receipt: String,
    #[command(flatten)]
    ledger: LedgerArgs,
}

impl Subcommand for Show {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let text = text_of(context, &self.ledger, &self.receipt)?;
        let signed = SignedReceipt::read(&text).map_err(|error| {
            Failure::new(Exit::Verification, format!("{}: {error}", self.receipt))
        })?;
        let mut text = words(&signed.receipt);
        text.push_str(&line("signed by", &whose(context, &signed.node)));
        terminal::print_answer(&text)
    }
}

fn line(name: &str, value: &str) -> String {
    format!("{name:<11} {value}\n")
}

fn words(receipt: &Receipt) -> String {
    let Receipt { engine, model, request, .. } = receipt;
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let mut text = String::new();
    let mut add = |name: &str, value: &str| text.push_str(&line(name, value));
    add("answer", &receipt.id);
    add("asked at", &format!("{} (on the server's clock)", receipt.time.local));
    add("request", &format!("{}, {} bytes", request.route, request.n_bytes));
    add("", &format!("sha256 {}", request.sha256));
    add("model", &model.name);
    add("", &format!("sha256 {}", known(&model.digest)));
    add("lock", &known(&model.lock));
    add("template", &known(&model.template));
    let (kv, n_ctx) = (&engine.kv, engine.n_ctx);
    add("engine", &format!("{}, context {n_ctx}, keys and values {kv}", engine.build));
    add("numerics", &engine.numerics.to_string());
    add("parameters", &serde_json::to_string(&receipt.parameters).unwrap_or_default());
    let lists = [
        ("adapted", &receipt.adapted.join(", ")),
        ("ignored", &receipt.ignored),
        ("unused", &receipt.unused),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        add(name, list);
    }
    for prompt in &receipt.prompts {
        add("prompt", &format!("{} tokens, sha256 {}", prompt.n_tokens, prompt.sha256));
    }
    for choice in &receipt.choices {
        let (n_tokens, finish) = (choice.n_tokens, &choice.finish);
        add("choice", &format!("{n_tokens} tokens, {finish}, seed {}", choice.seed));
        add("", &format!("sha256 {}", choice.sha256));
    }
    if let Some(route) = &receipt.route {
        let rule = route.rule.as_ref().map_or("none fits".to_owned(), |rule| format!("{rule:?}"));
        add("answered", &format!("{}, label {}, rule: {rule}", route.answered, route.label));
        if let Some(there) = &route.there {
            add("upstream", &format!("{}, model {}", there.upstream, there.model));
            add("departure", &there.departure);
            for answer in &there.answers {
                add("answer", &format!("{}, sha256 {}", answer.finish, answer.sha256));
            }
        }
    }
    text
}
