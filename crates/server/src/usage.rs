//! What requests took, as the owner asks for it: by day, model, key or another property, as JSON or
//! as lines of values. The ledger sums; here is only what is asked and how it is told.

mod renting;

pub use renting::{Compared, Days, Renting};

use crate::dialects::declared::Field;
use crate::dialects::fields::{short, wrong};
use crate::errors::BadRequest;
use ledger::{LedgerError, Reader, UsageBy, UsageQuery, UsageSum, UsageTimes};
use meter::Date;
use serde_json::{Map, Value, json};

/// Most days back that are asked for in one number.
const DAYS_MAX: i64 = 36_500;
/// Days that are told where nobody says.
pub const USUAL_DAYS: i64 = 30;

/// What is asked of usage: whole days (UTC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageAsk {
    /// What sums are told apart by; empty: one sum.
    pub by: Vec<UsageBy>,
    /// The first day.
    pub since: Date,
    /// The last one.
    pub until: Date,
    /// Whether how long requests took is told too, for which all their rows are read.
    pub has_times: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageReport {
    ask: UsageAsk,
    /// The sums, sorted by what they are told apart by.
    pub sums: Vec<UsageSum>,
    times: Vec<UsageTimes>,
}

impl UsageAsk {
    /// Reads what sums are told apart by: names with commas between them.
    ///
    /// # Errors
    /// What was expected.
    pub fn read_by(text: &str) -> Result<Vec<UsageBy>, String> {
        let name = |name: &str| {
            let names = UsageBy::ALL.iter().map(|by| by.name()).collect::<Vec<_>>().join(", ");
            UsageBy::of_name(name.trim())
                .ok_or_else(|| format!("{name:?}: expected some of {names}"))
        };
        let by = text.split(',').map(name).collect::<Result<Vec<UsageBy>, String>>()?;
        match by.len() > UsageQuery::BY_MAX {
            true => Err(format!("{} given, expected at most {}", by.len(), UsageQuery::BY_MAX)),
            false => Ok(by),
        }
    }

    /// Reads a day: `2026-01-31`, or so many days before `today`: `30d`.
    ///
    /// # Errors
    /// What was expected.
    pub fn read_day(text: &str, today: Date) -> Result<Date, String> {
        let n_days = text.strip_suffix('d').and_then(|digits| digits.parse::<i64>().ok());
        match n_days {
            Some(n_days) if (0..=DAYS_MAX).contains(&n_days) => Ok(today.plus(-n_days)),
            _ => text.parse().map_err(|_| {
                format!("{text:?}: expected a day such as 2026-01-31, or 30d for so many days back")
            }),
        }
    }

    /// Asks a ledger.
    ///
    /// # Errors
    /// What the database says.
    pub async fn of(self, reader: &Reader) -> Result<UsageReport, LedgerError> {
        let query = UsageQuery {
            from_us: self.since.start_us(),
            until_us: self.until.plus(1).start_us(),
            by: self.by.clone(),
            only: Vec::new(),
        };
        let sums = reader.usage(&query).await?;
        let times = match self.has_times {
            true => reader.usage_times(&query).await?,
            false => Vec::new(),
        };
        // Without anything to be told apart there is a sum of nothing.
        let sums = sums.into_iter().filter(|sum| sum.n_requests > 0).collect();
        Ok(UsageReport { ask: self, sums, times })
    }
}

impl UsageReport {
    /// The names of the values of [`UsageReport::row`].
    pub fn head(&self) -> Vec<String> {
        let by = self.ask.by.iter().map(|by| by.name());
        let times: &[&str] = match self.ask.has_times {
            true => &["first_p50_us", "first_p95_us", "total_p50_us", "total_p95_us"],
            false => &[],
        };
        let counts = ["n_requests", "n_prompt", "n_cached", "n_answer", "energy_mj", "money_micro"];
        by.chain(counts).chain(times.iter().copied()).map(str::to_owned).collect()
    }

    /// The values of a sum: texts for what it is told apart by, then numbers.
    pub fn row(&self, sum: &UsageSum) -> Vec<Value> {
        let named = self.ask.by.iter().zip(&sum.of).map(|(by, value)| named(*by, value));
        let counts = [
            sum.n_requests,
            sum.n_prompt,
            sum.n_cached,
            sum.n_answer,
            sum.energy_mj,
            sum.money_micro,
        ];
        let times = self.times.iter().find(|times| times.of == sum.of);
        let times = times.map(|times| {
            let ([first_50, first_95, _], [total_50, total_95, _]) =
                (times.first_us, times.total_us);
            [first_50, first_95, total_50, total_95]
        });
        let times = times.into_iter().flatten();
        named.map(Value::from).chain(counts.into_iter().chain(times).map(Value::from)).collect()
    }

    /// All of it.
    pub fn to_json(&self) -> Value {
        let head = self.head();
        let row = |sum: &UsageSum| -> Value {
            head.iter().cloned().zip(self.row(sum)).collect::<Map<_, _>>().into()
        };
        let by: Vec<&str> = self.ask.by.iter().map(|by| by.name()).collect();
        json!({
            "rows": self.sums.iter().map(row).collect::<Vec<_>>(),
            "by": by.join(","),
            "since": self.ask.since.to_string(),
            "until": self.ask.until.to_string(),
        })
    }

    /// As lines of values with commas between them (RFC 4180), the names first.
    pub fn to_csv(&self) -> String {
        let mut text = csv_line(self.head().iter().map(String::as_str));
        for sum in &self.sums {
            let row = self.row(sum);
            let texts = row.iter().map(|value| match value {
                Value::String(text) => text.clone(),
                number => number.to_string(),
            });
            text.push_str(&csv_line(texts.collect::<Vec<_>>().iter().map(String::as_str)));
        }
        text
    }
}

/// A value of a property, for people: days as they are written.
fn named(by: UsageBy, value: &str) -> String {
    match (by, value.parse()) {
        (UsageBy::Day, Ok(at_us)) => Date::of_us(at_us).to_string(),
        _ => value.to_owned(),
    }
}

/// One line of values. Names of clients stand in them, and programs that calculate take a text that
/// begins so for a formula.
pub fn csv_line<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let quoted = |value: &str| {
        let is_formula =
            value.starts_with(['=', '+', '-', '@', '\t', '\r']) && value.parse::<f64>().is_err();
        let value = if is_formula { format!("'{value}") } else { value.to_owned() };
        match value.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", value.replace('"', "\"\"")),
            false => value,
        }
    };
    let line: Vec<String> = values.map(quoted).collect();
    format!("{}\r\n", line.join(","))
}

/// The form in which a client wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Csv,
}

/// Parameters of the query of a request for usage.
pub(crate) const QUERY: &[Field] = &[
    Field::honoured("by").text().good("\"day,model\"").note(
        "what sums are told apart by, at most four with commas between them: day, key, project, \
         person, alias, model, route, label, upstream, outcome; absent: day",
    ),
    Field::honoured("since")
        .text()
        .good("\"30d\"")
        .note("the first day, or so many days back; absent: 30d"),
    Field::honoured("until").text().good("\"0d\"").note("the last day; absent: today"),
    Field::honoured("times").words(&["true", "false"]).note("how long requests took, too"),
    Field::honoured("rent").text().note(
        "what renting would have cost against owning until that day, by the server's prices: \
         `all`, or VENDOR/MODEL, which is told day by day; not as CSV",
    ),
    Field::honoured("format").words(&["json", "csv"]),
];

/// What is to be compared with owning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rent {
    /// Everything that has a price.
    All,
    /// A model of a vendor.
    One(String, String),
}

/// What a request for usage asks.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) ask: UsageAsk,
    pub(crate) rent: Option<Rent>,
    pub(crate) form: Form,
}

/// Reads the query of a request for usage.
pub(crate) fn read_query(query: &str, today: Date) -> Result<Asked, BadRequest> {
    let since = today.plus(-USUAL_DAYS);
    let mut ask = UsageAsk { by: vec![UsageBy::Day], since, until: today, has_times: false };
    let (mut rent, mut form) = (None, Form::Json);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value);
        let bad = |problem: String| BadRequest::field(name, &problem);
        let other = |expected| Err(wrong(name, &value.as_str().into(), expected));
        match (name, &*value) {
            ("by", by) => ask.by = UsageAsk::read_by(by).map_err(bad)?,
            ("since", day) => ask.since = UsageAsk::read_day(day, today).map_err(bad)?,
            ("until", day) => ask.until = UsageAsk::read_day(day, today).map_err(bad)?,
            ("times", "true") => ask.has_times = true,
            ("times", "false") => ask.has_times = false,
            ("times", _) => return other("\"true\" or \"false\""),
            ("rent", "all") => rent = Some(Rent::All),
            ("rent", one) => match one.split_once('/') {
                Some((vendor, model)) => rent = Some(Rent::One(vendor.into(), model.into())),
                None => return other("\"all\" or VENDOR/MODEL"),
            },
            ("format", "json") => form = Form::Json,
            ("format", "csv") => form = Form::Csv,
            ("format", _) => return other("\"json\" or \"csv\""),
            _ => {
                let problem = "this server does not know this parameter; leave it out";
                let bad = BadRequest::field(&short(name), problem);
                return Err(BadRequest { code: Some("unknown_parameter"), ..bad });
            }
        }
    }
    if ask.until < ask.since {
        let (since, until) = (ask.since, ask.until);
        return Err(BadRequest::field("until", &format!("{until}: expected {since} or later")));
    }
    if rent.is_some() && form == Form::Csv {
        return Err(BadRequest::field("format", "csv: expected \"json\" beside rent"));
    }
    Ok(Asked { ask, rent, form })
}

/// A value as a browser encodes it (RFC 3986); what is no encoding stands for itself.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let is_hex = |digits: &&[u8]| digits.iter().all(u8::is_ascii_hexdigit);
        let digits = behind.get(..2).filter(|_| byte == b'%').filter(is_hex);
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(by: Vec<UsageBy>, has_times: bool) -> UsageReport {
        let day = |text: &str| text.parse::<Date>().unwrap();
        let (since, until) = (day("2026-11-01"), day("2026-11-26"));
        let of = |name: &str| vec![day("2026-11-20").start_us().to_string(), name.to_owned()];
        let sum = |name: &str| UsageSum { of: of(name), n_requests: 2, ..UsageSum::default() };
        let times = UsageTimes { of: of("a"), first_us: [1, 2, 3], total_us: [4, 5, 6] };
        UsageReport {
            ask: UsageAsk { by, since, until, has_times },
            sums: vec![sum("a"), sum("=1+1,\"b\"")],
            times: vec![times],
        }
    }

    #[test]
    fn reports_are_told_as_json_and_as_lines() {
        let found = report(vec![UsageBy::Day, UsageBy::Model], true);
        let json = found.to_json();
        assert_eq!(json["rows"][0]["day"], "2026-11-20");
        assert_eq!(
            (&json["rows"][0]["total_p95_us"], &json["by"]),
            (&5.into(), &"day,model".into())
        );
        let csv = found.to_csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert!(lines[0].starts_with("day,model,n_requests,n_prompt"), "{csv}");
        assert_eq!(lines[1], "2026-11-20,a,2,0,0,0,0,0,1,2,4,5");
        assert!(lines[2].starts_with("2026-11-20,\"'=1+1,\"\"b\"\"\",2,"), "{csv}");
        assert_eq!(csv_line(["-5", "-x", "a\nb"].into_iter()), "-5,'-x,\"a\nb\"\r\n");
    }

    #[test]
    fn queries_are_read_or_refused_by_name() {
        let today: Date = "2026-11-26".parse().unwrap();
        let Asked { ask, rent, form } = read_query("", today).unwrap();
        assert_eq!((&*ask.by, rent, form), (&[UsageBy::Day][..], None, Form::Json));
        assert_eq!((ask.since, ask.until), (today.plus(-30), today));
        let query = "by=day%2Ckey&since=7d&until=1d&format=csv&times=true";
        let Asked { ask, form, .. } = read_query(query, today).unwrap();
        assert_eq!((&*ask.by, form), (&[UsageBy::Day, UsageBy::Key][..], Form::Csv));
        assert_eq!((ask.since, ask.until), (today.plus(-7), today.plus(-1)));
        assert!(ask.has_times);
        let rent = |query: &str| read_query(query, today).unwrap().rent;
        assert_eq!(rent("rent=all"), Some(Rent::All));
        let one = Rent::One("ä corp".to_owned(), "a/b%".to_owned());
        assert_eq!(rent("rent=%C3%A4%20corp%2Fa/b%"), Some(one));
        for (query, param) in [
            ("by=id", "by"),
            ("since=x", "since"),
            ("until=2020-01-01", "until"),
            ("times=1", "times"),
            ("format=xml", "format"),
            ("rent=absurd", "rent"),
            ("rent=all&format=csv", "format"),
            ("sort=x", "sort"),
        ] {
            let bad = read_query(query, today).unwrap_err();
            assert_eq!(bad.param.as_deref(), Some(param), "{query}");
        }
    }

    #[test]
    fn what_is_asked_is_read() {
        let today: Date = "2026-11-26".parse().unwrap();
        let day = |text| UsageAsk::read_day(text, today).map(|day| day.to_string());
        assert_eq!(day("30d").as_deref(), Ok("2026-10-27"));
        assert_eq!(day("2026-01-31").as_deref(), Ok("2026-01-31"));
        for bad in ["", "d", "-1d", "99999d", "2026-02-30", "yesterday"] {
            assert!(day(bad).is_err(), "{bad}");
        }
        let by = UsageAsk::read_by("day, model");
        assert_eq!(by, Ok(vec![UsageBy::Day, UsageBy::Model]));
        assert!(UsageAsk::read_by("").is_err() && UsageAsk::read_by("id").is_err());
        assert!(UsageAsk::read_by("day,day,day,day,day").unwrap_err().contains("at most 4"));
    }
}
