//! A limit: whose it is, of what, how much in which time, and what happens there. Pure.
//!
//! Times are those of the calendar in UTC, not sliding ones, so that every server means the same
//! and a sum over rows says exactly what was used.

use std::ops::Range;

use serde_json::{Value, json};

use crate::LedgerError;
use crate::entry::check_name;
use crate::usage::Usage;

/// Most limits of one ledger: each request is held against all of them.
pub const LIMITS_MAX: usize = 1000;
/// Largest amount: a JSON number has it exactly.
const AMOUNT_MAX: u64 = 1 << 53;

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// The word for everybody.
const ALL: &str = "all";

/// A limit that the owner has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The key that it is of; empty: any.
    pub key: String,
    /// The project; empty: any.
    pub project: String,
    /// The model, by the name under which it is served; empty: any.
    pub model: String,
    /// What is counted.
    pub what: What,
    /// How much there may be, in the unit of [`What`].
    pub amount: u64,
    /// In which time; `None`: at once.
    pub per: Option<Per>,
    /// What becomes of a request that does not fit.
    pub then: Then,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// Requests that were taken.
    Requests,
    /// Tokens of prompts and answers.
    Tokens,
    /// Tokens of prompts.
    TokensIn,
    /// Tokens of answers.
    TokensOut,
    /// Requests at work.
    Concurrent,
    /// Millionths of the owner's currency.
    Money,
    /// Thousandths of a joule.
    Energy,
}

/// In which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Per {
    /// A minute of the clock.
    Minute,
    /// An hour of the clock.
    Hour,
    /// A day, from midnight UTC.
    Day,
    /// A month, from midnight UTC of its first day.
    Month,
}

/// What becomes of a request that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// It is refused.
    Refuse,
    /// It waits until there is room.
    Queue,
    /// The model of this name or alias answers it.
    Alias(String),
}

impl What {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Requests,
        Self::Tokens,
        Self::TokensIn,
        Self::TokensOut,
        Self::Concurrent,
        Self::Money,
        Self::Energy,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::TokensIn => "tokens-in",
            Self::TokensOut => "tokens-out",
            Self::Concurrent => "concurrent",
            Self::Money => "money",
            Self::Energy => "energy",
        }
    }

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|what| what.name() == name)
    }

    /// How many there are of what is counted in one of what is told: money is told in units of the
    /// currency, energy in watt-hours.
    fn per_told(self) -> u64 {
        match self {
            Self::Money => 1_000_000,
            Self::Energy => 3_600_000,
            _ => 1,
        }
    }

    /// Reads an amount as it is told: a number, of money and energy with up to six decimals.
    ///
    /// # Errors
    /// Something else, or more than 2^53 of what is counted.
    pub fn read_amount(self, text: &str) -> Result<u64, LedgerError> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let has_room = (self.per_told() > 1 || part.is_empty()) && !text.ends_with('.');
        let amount = || {
            let whole: u64 = whole.parse().ok()?;
            let millionths: u64 = format!("{part:0<6}").parse().ok()?;
            let part = u128::from(millionths) * u128::from(self.per_told()) / 1_000_000;
            whole.checked_mul(self.per_told())?.checked_add(u64::try_from(part).ok()?)
        };
        let is_read = is_number(whole) && is_number(part) && part.len() <= 6 && has_room;
        let amount = is_read.then(amount).flatten().filter(|amount| *amount <= AMOUNT_MAX);
        let expected = match self {
            Self::Money => "an amount of the currency, like 12.5",
            Self::Energy => "watt-hours, like 250 or 0.5",
            _ => "a whole number",
        };
        amount.ok_or_else(|| invalid("amount", text, expected))
    }

    /// An amount as it is told, without unit.
    pub fn told(self, amount: u64) -> String {
        let (whole, part) = (amount / self.per_told(), amount % self.per_told());
        let millionths = u128::from(part) * 1_000_000 / u128::from(self.per_told());
        let part = format!("{millionths:06}");
        match part.trim_end_matches('0') {
            "" => whole.to_string(),
            part => format!("{whole}.{part}"),
        }
    }

    /// How much of it a request took.
    pub(crate) fn used(self, usage: &Usage) -> u64 {
        match self {
            Self::Requests => 1,
            Self::Tokens => usage.n_prompt.saturating_add(usage.n_answer),
            Self::TokensIn => usage.n_prompt,
            Self::TokensOut => usage.n_answer,
            Self::Concurrent => 0,
            Self::Money => usage.money_micro,
            Self::Energy => usage.energy_mj,
        }
    }

    /// How much a request at work holds of it, that may take `most`.
    pub(crate) fn held(self, most: &Usage) -> u64 {
        match self {
            Self::Concurrent => 1,
            _ => self.used(most),
        }
    }

    /// How much must be left for a request that may take `most`, whose answer is not counted where
    /// it may be cut. Energy is known at the end only, so some must be left.
    fn needed(self, most: &Usage) -> u64 {
        match self {
            Self::Energy => self.held(most).max(1),
            _ => self.held(most),
        }
    }
}

impl Per {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Minute, Self::Hour, Self::Day, Self::Month];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|per| per.name() == name)
    }

    /// The one of these that `at_us` is in, in microseconds since 1970 (UTC).
    pub fn window(self, at_us: i64) -> Range<i64> {
        let of_length = |length: i64| {
            let begin = at_us.div_euclid(length).saturating_mul(length);
            begin..begin.saturating_add(length)
        };
        match self {
            Self::Minute => of_length(60 * SECOND_US),
            Self::Hour => of_length(3600 * SECOND_US),
            Self::Day => of_length(DAY_US),
            Self::Month => {
                let (year, month) = month_of(at_us.div_euclid(DAY_US));
                let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                let begin = |(year, month)| days_before(year, month).saturating_mul(DAY_US);
                begin((year, month))..begin(next)
            }
        }
    }
}

impl Then {
    /// Reads `refuse`, `queue` or `alias:NAME`.
    ///
    /// # Errors
    /// Something else.
    pub fn read(text: &str) -> Result<Self, LedgerError> {
        match (text, text.strip_prefix("alias:")) {
            ("refuse", _) => Ok(Self::Refuse),
            ("queue", _) => Ok(Self::Queue),
            (_, Some(name)) if !name.is_empty() => {
                check_name("alias", name)?;
                Ok(Self::Alias(name.to_owned()))
            }
            _ => Err(invalid("then", text, "refuse, queue or alias:NAME")),
        }
    }

    /// The same as text.
    pub fn text(&self) -> String {
        match self {
            Self::Refuse => "refuse".to_owned(),
            Self::Queue => "queue".to_owned(),
            Self::Alias(name) => format!("alias:{name}"),
        }
    }
}

impl Limit {
    /// A limit of `subject`, which is `all` or some of `key:NAME`, `project:NAME` and `model:NAME`
    /// with commas between them. It refuses.
    ///
    /// # Errors
    /// A subject that is none.
    pub fn new(
        subject: &str,
        what: What,
        amount: u64,
        per: Option<Per>,
    ) -> Result<Self, LedgerError> {
        let [key, project, model] = [const { String::new() }; 3];
        let mut limit = Self { key, project, model, what, amount, per, then: Then::Refuse };
        const EXPECTED: &str = "all, or of key:NAME, project:NAME and model:NAME each at most once, \
                                with commas between them";
        if subject == ALL {
            return Ok(limit);
        }
        for part in subject.split(',') {
            let (place, name) = match part.split_once(':') {
                Some(("key", name)) => (&mut limit.key, name),
                Some(("project", name)) => (&mut limit.project, name),
                Some(("model", name)) => (&mut limit.model, name),
                _ => return Err(invalid("subject", subject, EXPECTED)),
            };
            if name.is_empty() || !place.is_empty() {
                return Err(invalid("subject", subject, EXPECTED));
            }
            check_name("subject", name)?;
            name.clone_into(place);
        }
        Ok(limit)
    }

    /// Whose it is, as text.
    pub fn subject(&self) -> String {
        let parts = [("key", &self.key), ("project", &self.project), ("model", &self.model)];
        let parts = parts.iter().filter(|(_, name)| !name.is_empty());
        let parts: Vec<String> = parts.map(|(kind, name)| format!("{kind}:{name}")).collect();
        if parts.is_empty() { ALL.to_owned() } else { parts.join(",") }
    }

    /// What tells it from others: `key:anna tokens/day`. There is one limit of each.
    pub fn id(&self) -> String {
        let (subject, what) = (self.subject(), self.what.name());
        match self.per {
            Some(per) => format!("{subject} {what}/{}", per.name()),
            None => format!("{subject} {what}"),
        }
    }

    /// All of it.
    pub fn to_json(&self) -> Value {
        let amount: Value = self.what.told(self.amount).parse().unwrap_or_default();
        json!({
            "id": self.id(),
            "subject": self.subject(),
            "what": self.what.name(),
            "amount": amount,
            "per": self.per.map(Per::name),
            "then": self.then.text(),
        })
    }

    /// Finds what is wrong with it.
    ///
    /// # Errors
    /// A time where there is none or none where there must be one, too large an amount, an alias
    /// where it would not help, or a name that is none.
    pub fn check(&self) -> Result<(), LedgerError> {
        for name in [&self.key, &self.project, &self.model] {
            check_name("subject", name)?;
        }
        match (self.what, self.per) {
            (What::Concurrent, Some(per)) => {
                return Err(invalid("per", per.name(), "no time: concurrent requests are at once"));
            }
            (What::Concurrent, None) | (_, Some(_)) => {}
            (_, None) => return Err(invalid("per", "", "minute, hour, day or month")),
        }
        if self.amount > AMOUNT_MAX {
            return Err(invalid("amount", &self.amount.to_string(), "at most 2^53"));
        }
        // What the other model takes counts in a limit of all models too. Money is asked for what
        // leaves: who answers instead of an upstream is for the owner's rules to say.
        let is_left = !self.model.is_empty() && self.what != What::Money;
        if let Then::Alias(_) = &self.then
            && !is_left
        {
            let expected = "refuse or queue; an alias where the limit is of a model, not of money";
            return Err(invalid("then", &self.then.text(), expected));
        }
        Ok(())
    }

    /// Whether it is one for a request of this key, project and model.
    pub fn concerns(&self, key: &str, project: &str, model: &str) -> bool {
        let is_any_or = |of: &str, other: &str| of.is_empty() || of == other;
        is_any_or(&self.key, key)
            && is_any_or(&self.project, project)
            && is_any_or(&self.model, model)
    }

    pub(crate) fn concerns_usage(&self, usage: &Usage) -> bool {
        self.concerns(&usage.key, &usage.project, &usage.model)
    }

    /// The time that a request of `at_us` counts in; from 0 on where it counts as long as it is at
    /// work.
    pub(crate) fn window(&self, at_us: i64) -> Range<i64> {
        self.per.map_or(0..i64::MAX, |per| per.window(at_us))
    }

    /// Tokens that the answer to a request may have where so much is left, no more than `most`
    /// says; `None` where that is less than `n_least`, or too little for the rest.
    pub(crate) fn room(&self, left: u64, most: &Usage, n_least: u64) -> Option<u64> {
        let beside = match self.what {
            What::Tokens => most.n_prompt,
            What::TokensOut => 0,
            _ => return (self.what.needed(most) <= left).then_some(most.n_answer),
        };
        let room = left.checked_sub(beside)?.min(most.n_answer);
        (room >= n_least.min(most.n_answer)).then_some(room)
    }
}

fn invalid(what: &'static str, value: &str, expected: &'static str) -> LedgerError {
    let value = value.chars().take(60).collect();
    LedgerError::InvalidEntry { what, value, expected }
}

/// Year and month of a day since 1970, by years that begin in March (Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms").
fn month_of(day: i64) -> (i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let day = day.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let year = year + 400 * era;
    if month < 10 { (year, month + 3) } else { (year + 1, month - 9) }
}

/// Days from 1970 to the first day of a month, by the same.
fn days_before(year: i64, month: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + 365 * year + year / 4 - year / 100 + (153 * month + 2) / 5 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_those_of_the_calendar() {
        // 2024-02-29 23:59:59.5, of a leap year.
        let at = 1_709_251_199_500_000;
        let check = |per: Per, expected: [i64; 2]| {
            let found = per.window(at);
            assert_eq!([found.start, found.end], expected.map(|s| s * SECOND_US), "{per:?}");
            assert_eq!(per.window(found.start), found);
            assert_eq!(per.window(found.end).start, found.end);
            assert_eq!(per.window(found.end - 1), found);
        };
        check(Per::Minute, [1_709_251_140, 1_709_251_200]);
        check(Per::Hour, [1_709_247_600, 1_709_251_200]);
        check(Per::Day, [1_709_164_800, 1_709_251_200]);
        check(Per::Month, [1_706_745_600, 1_709_251_200]);
        let mut begin = 0;
        for month in 0..1200 {
            let window = Per::Month.window(begin);
            assert_eq!((window.start, month_of(begin / DAY_US).1), (begin, month % 12 + 1));
            let n_days = (window.end - window.start) / DAY_US;
            assert!((28..=31).contains(&n_days), "{n_days} days in month {month}");
            begin = window.end;
        }
        // 2070-01-01.
        assert_eq!(begin, 3_155_760_000 * SECOND_US);
        let _ = (Per::Month.window(i64::MAX), Per::Month.window(i64::MIN));
        assert_eq!(Per::Day.window(-1).end, 0);
    }

    #[test]
    fn a_limit_is_text_and_back() {
        for subject in ["all", "key:anna", "project:a b", "model:x/y:z", "key:a,project:b,model:c"]
        {
            let limit = Limit::new(subject, What::Tokens, 5, Some(Per::Day)).unwrap();
            assert_eq!(limit.subject(), subject);
            assert_eq!(limit.id(), format!("{subject} tokens/day"));
            limit.check().unwrap();
        }
        for subject in ["", "anna", "key:", "key:a,key:b", "key:a,", "user:a", "key:a\n"] {
            Limit::new(subject, What::Tokens, 5, Some(Per::Day)).unwrap_err();
        }
        for then in ["refuse", "queue", "alias:small"] {
            assert_eq!(Then::read(then).unwrap().text(), then);
        }
        for then in ["", "alias:", "drop"] {
            Then::read(then).unwrap_err();
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let check = |subject: &str, what, per, then: &str, expected: &str| {
            let mut limit = Limit::new(subject, what, 5, per).unwrap();
            limit.then = Then::read(then).unwrap();
            let told = limit.check().map_or_else(|error| error.to_string(), |()| String::new());
            assert!(told.contains(expected) && told.is_empty() == expected.is_empty(), "{told}");
        };
        check("all", What::Concurrent, None, "queue", "");
        check("all", What::Concurrent, Some(Per::Day), "queue", "per \"day\": expected no time");
        check("all", What::Tokens, None, "queue", "per \"\": expected minute, hour");
        check("model:m", What::Tokens, Some(Per::Day), "alias:s", "");
        check("key:a", What::Money, Some(Per::Month), "alias:s", "then \"alias:s\": expected");
        check("model:m", What::Money, Some(Per::Day), "alias:s", "then \"alias:s\": expected");
        check("key:a", What::Tokens, Some(Per::Day), "alias:s", "then \"alias:s\": expected");
        let many = Limit::new("all", What::Tokens, u64::MAX, Some(Per::Day)).unwrap();
        assert!(many.check().unwrap_err().to_string().contains("at most 2^53"));
    }

    #[test]
    fn amounts_are_read_and_told() {
        let check = |what: What, text: &str, expected: Option<u64>| {
            assert_eq!(what.read_amount(text).ok(), expected, "{what:?} {text}");
            if let Some(amount) = expected {
                assert_eq!(what.told(amount), text);
            }
        };
        check(What::Tokens, "1000", Some(1000));
        check(What::Money, "12.5", Some(12_500_000));
        check(What::Money, "0.000001", Some(1));
        check(What::Energy, "0.5", Some(1_800_000));
        check(What::Energy, "250", Some(900_000_000));
        for text in ["", "-1", "1.", "1.5", "1e3", "99999999999999999999", "9007199254740993", "1 "]
        {
            check(What::Requests, text, None);
        }
        for text in ["", ".", "1.1234567", "x", "99999999999"] {
            check(What::Money, text, None);
        }
    }

    #[test]
    fn an_answer_may_be_as_long_as_what_is_left() {
        let most = Usage { n_prompt: 10, n_answer: 100, ..Usage::default() };
        let check = |what: What, left: u64, n_least: u64, expected: Option<u64>| {
            let per = (what != What::Concurrent).then_some(Per::Day);
            let limit = Limit::new("all", what, 0, per).unwrap();
            assert_eq!(limit.room(left, &most, n_least), expected, "{what:?} {left} {n_least}");
        };
        check(What::Tokens, 110, 100, Some(100));
        check(What::Tokens, 109, 100, None);
        check(What::Tokens, 109, 50, Some(99));
        check(What::Tokens, 9, 0, None);
        check(What::TokensOut, 60, 50, Some(60));
        check(What::TokensOut, 40, 50, None);
        check(What::TokensIn, 10, 100, Some(100));
        check(What::TokensIn, 9, 0, None);
        check(What::Requests, 1, 100, Some(100));
        check(What::Requests, 0, 0, None);
        check(What::Concurrent, 0, 0, None);
        check(What::Money, 0, 100, Some(100));
        check(What::Energy, 0, 100, None);
        check(What::Energy, 1, 100, Some(100));
    }
}
