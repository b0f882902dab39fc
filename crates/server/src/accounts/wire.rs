//! Limits and usage on the wire: `/admin/limits` and `/admin/usage/rows`.

use crate::dialects::Paths;
use crate::dialects::declared::{Field, NO_END, Unknown};
use crate::dialects::fields::{Fields, missing, wrong};
use crate::errors::BadRequest;
use ledger::{Limit, Per, Then, UsageRow, What};
use serde_json::{Value, json};

/// What becomes of the fields of a limit.
pub(crate) const FIELDS: &[Field] = &[
    Field::honoured("subject")
        .text()
        .good(r#""key:nobody,model:none""#)
        .note("`all`, or some of `key:NAME`, `project:NAME`, `model:NAME` with commas"),
    Field::honoured("what").words(&[
        "requests",
        "tokens",
        "tokens-in",
        "tokens-out",
        "concurrent",
        "money",
        "energy",
    ]),
    Field::honoured("amount")
        .shape(r#"{"type":"number","minimum":0}"#)
        .good("7")
        .note("money in units of your currency, energy in watt-hours"),
    Field::honoured("per").words(&["minute", "hour", "day", "month"]).note("all but `concurrent`"),
    Field::honoured("then")
        .text()
        .good(r#""queue""#)
        .note("`refuse` (the default), `queue` or `alias:NAME`"),
];

/// Parameters of the query of the rows.
pub(crate) const ROWS_QUERY: &[Field] = &[
    Field::honoured("after").integer(0, NO_END).note("the `seq` of the row before"),
    Field::honoured("limit").integer(1, PAGE_MAX),
];

/// Rows of one answer where nobody says, and most of them.
const PAGE: usize = 100;
const PAGE_MAX: i64 = 1000;

/// Reads a limit, and the paths of what has no effect.
pub(crate) fn read(body: &[u8], unknown: Unknown) -> Result<(Limit, Paths), BadRequest> {
    let mut fields = Fields::parse(body)?;
    fields.treat(FIELDS)?;
    let subject = fields.text("subject")?;
    let what = fields.text("what")?;
    let amount = fields.take("amount");
    let per = fields.text("per")?;
    let then = fields.text("then")?;
    let ignored = fields.finish(unknown)?;
    let subject = subject.ok_or_else(|| missing("subject", "whose limit it is"))?;
    let what = what.ok_or_else(|| missing("what", "what is counted"))?;
    let amount = amount.ok_or_else(|| missing("amount", "a number"))?;
    let word = |name: &str, value: &str, known: &[&str]| {
        let known: Vec<String> = known.iter().map(|word| format!("{word:?}")).collect();
        wrong(name, &value.into(), &format!("one of {}", known.join(", ")))
    };
    let whats: Vec<&str> = What::ALL.iter().map(|what| what.name()).collect();
    let what = What::of_name(&what).ok_or_else(|| word("what", &what, &whats))?;
    let pers: Vec<&str> = Per::ALL.iter().map(|per| per.name()).collect();
    let per = per.map(|per| Per::of_name(&per).ok_or_else(|| word("per", &per, &pers)));
    let limit = Limit::new(&subject, what, read_amount(what, &amount)?, per.transpose()?);
    let mut limit = limit.map_err(of_ledger)?;
    if let Some(then) = then {
        limit.then = Then::read(&then).map_err(of_ledger)?;
    }
    limit.check().map_err(of_ledger)?;
    Ok((limit, ignored))
}

fn read_amount(what: What, amount: &Value) -> Result<u64, BadRequest> {
    let text = match (amount.as_u64(), amount.as_f64()) {
        (Some(whole), _) => whole.to_string(),
        (None, Some(number)) if number >= 0.0 => number.to_string(),
        _ => return Err(wrong("amount", amount, "a number of at least 0")),
    };
    what.read_amount(&text).map_err(of_ledger)
}

/// What is wrong with a limit, at its field.
fn of_ledger(error: ledger::LedgerError) -> BadRequest {
    match error {
        ledger::LedgerError::InvalidEntry { what, value, expected } => {
            BadRequest::field(what, &format!("{value:?}: expected {expected}"))
        }
        other => BadRequest::field("subject", &other.to_string()),
    }
}

/// Which rows a query asks for: behind which number, and how many.
pub(crate) fn read_page(query: &str) -> Result<(i64, usize), BadRequest> {
    let (mut after, mut limit) = (0, PAGE);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "after" => {
                let number = value.parse().ok().filter(|after| *after >= 0);
                after = number.ok_or_else(|| wrong("after", &value.into(), "a number"))?;
            }
            "limit" => {
                let number = value.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit));
                let number = number.and_then(|limit| usize::try_from(limit).ok());
                let expected = format!("an integer from 1 to {PAGE_MAX}");
                limit = number.ok_or_else(|| wrong("limit", &value.into(), &expected))?;
            }
            _ => {
                let problem = "this server does not know this parameter; leave it out";
                let bad = BadRequest::field(&crate::dialects::fields::short(name), problem);
                return Err(BadRequest { code: Some("unknown_parameter"), ..bad });
            }
        }
    }
    Ok((after, limit))
}

/// The rows, and the number behind which the next ones are.
pub(crate) fn rows_body(rows: &[UsageRow], after: i64) -> String {
    let next = rows.last().map_or(after, |row| row.seq);
    let rows: Vec<Value> = rows.iter().map(row).collect();
    json!({"rows": rows, "next": next}).to_string()
}

fn row(row: &UsageRow) -> Value {
    let usage = &row.usage;
    json!({
        "seq": row.seq,
        "id": usage.id,
        "at_us": usage.at_us,
        "key": usage.key,
        "project": usage.project,
        "person": usage.person,
        "alias": usage.alias,
        "model": usage.model,
        "route": usage.route,
        "label": usage.label,
        "upstream": usage.upstream,
        "n_prompt": usage.n_prompt,
        "n_cached": usage.n_cached,
        "n_answer": usage.n_answer,
        "queue_us": usage.queue_us,
        "first_us": usage.first_us,
        "total_us": usage.total_us,
        "outcome": usage.outcome,
        "money_micro": usage.money_micro,
        "energy_mj": usage.energy_mj,
        "energy_source": usage.energy_source,
        "receipt": usage.receipt,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_or_its_field_is_named() {
        let check = |body: &str, expected: Result<&str, &str>| {
            let found = read(body.as_bytes(), Unknown::Refused);
            let found = found.map(|(limit, _)| format!("{} {}", limit.id(), limit.amount));
            let found = found.map_err(|bad| bad.param.unwrap_or_default());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{body}");
        };
        let with = |amount: &str, what: &str, more: &str| {
            format!(r#"{{"subject":"key:a","what":"{what}","amount":{amount}{more}}}"#)
        };
        check(&with("7", "tokens", r#","per":"day""#), Ok("key:a tokens/day 7"));
        check(&with("7.0", "tokens", r#","per":"day""#), Ok("key:a tokens/day 7"));
        check(&with("1.5", "money", r#","per":"month""#), Ok("key:a money/month 1500000"));
        check(&with("2", "concurrent", r#","then":"queue""#), Ok("key:a concurrent 2"));
        check(&with("1.5", "tokens", r#","per":"day""#), Err("amount"));
        check(&with("-1", "tokens", r#","per":"day""#), Err("amount"));
        check(&with("\"7\"", "tokens", r#","per":"day""#), Err("amount"));
        check(&with("1e300", "tokens", r#","per":"day""#), Err("amount"));
        check(&with("7", "tokens", ""), Err("per"));
        check(&with("7", "concurrent", r#","per":"day""#), Err("per"));
        check(&with("7", "tokens", r#","per":"week""#), Err("per"));
        check(&with("7", "rain", r#","per":"day""#), Err("what"));
        check(&with("7", "tokens", r#","per":"day","then":"drop""#), Err("then"));
        check(&with("7", "tokens", r#","per":"day","then":"alias:b""#), Err("then"));
        check(r#"{"what":"tokens","amount":7,"per":"day"}"#, Err("subject"));
        check(r#"{"subject":"a","what":"tokens","amount":7,"per":"day"}"#, Err("subject"));
        check(r#"{"subject":"all","amount":7}"#, Err("what"));
        check(r#"{"subject":"all","what":"tokens","per":"day"}"#, Err("amount"));
    }

    #[test]
    fn a_page_is_read_or_its_parameter_is_named() {
        assert_eq!(read_page("").unwrap(), (0, 100));
        assert_eq!(read_page("after=5&limit=7").unwrap(), (5, 7));
        for (query, expected) in
            [("after=-1", "after"), ("limit=0", "limit"), ("limit=1001", "limit"), ("x=1", "x")]
        {
            assert_eq!(read_page(query).unwrap_err().param.as_deref(), Some(expected), "{query}");
        }
    }
}
