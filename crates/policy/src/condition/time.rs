//! The local time of day.

use crate::condition::{Condition, Kind, Seen, Verdict, words};
use crate::error::{Problem, quoted};
use crate::source::Value;

/// `time = "22:00-06:00"` or a list of spans: from the first minute to before the last, over
/// midnight where the first is the later one.
pub(super) const TIME: Kind = Kind {
    name: "time",
    read: |value| {
        let spans = words(value)?.iter().map(span).collect::<Result<_, _>>()?;
        Ok(Box::new(Time(spans)))
    },
};

/// Minutes of the day.
#[derive(Debug)]
struct Time(Vec<[u16; 2]>);

/// Reads `HH:MM`, in minutes since midnight.
pub(crate) fn minute(value: &Value<'_>) -> Result<u16, Problem> {
    let text = value.text()?;
    parse(text).ok_or_else(|| value.wrong(format!("{}, expected \"HH:MM\"", quoted(text))))
}

fn span(value: &Value<'_>) -> Result<[u16; 2], Problem> {
    let text = value.text()?;
    let span = text.split_once('-').and_then(|(from, to)| Some([parse(from)?, parse(to)?]));
    span.filter(|[from, to]| from != to).ok_or_else(|| {
        let expected = "expected \"HH:MM-HH:MM\", two different times";
        value.wrong(format!("{}, {expected}", quoted(text)))
    })
}

fn parse(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str, end: u16| {
        let is_two_digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|&number| is_two_digits && number < end)
    };
    Some(number(hours, 24)? * 60 + number(minutes, 60)?)
}

fn shown(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

impl Condition for Time {
    fn holds(&self, seen: &Seen<'_>) -> Verdict {
        let Some(now) = seen.facts.minute else { return Verdict::Unknown };
        let is_in = |&[from, to]: &[u16; 2]| match from < to {
            true => (from..to).contains(&now),
            false => now >= from || now < to,
        };
        Verdict::of(self.0.iter().any(is_in), || {
            let spans = self.0.iter().map(|&[from, to]| format!("{}-{}", shown(from), shown(to)));
            format!("{}, expected {}", shown(now), spans.collect::<Vec<_>>().join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::condition::testing::*;

    #[test]
    fn a_time_lies_in_a_span() {
        check("time = \"09:00-17:00\"", "time=09:00", None);
        check("time = \"09:00-17:00\"", "time=17:00", Some("17:00, expected 09:00-17:00"));
        check("time = \"22:00-06:00\"", "time=23:59", None);
        check("time = \"22:00-06:00\"", "time=05:59", None);
        check("time = \"22:00-06:00\"", "time=06:00", Some("06:00, expected 22:00-06:00"));
        check("time = [\"01:00-02:00\", \"03:00-04:00\"]", "time=03:30", None);
        check("time = \"22:00-06:00\"", "", Some("?"));
        for wrong in ["9:00-17:00", "09:00", "24:00-01:00", "09:00-09:00", "+9:00-10:00"] {
            check_refused(&format!("time = {wrong:?}"), "expected \"HH:MM-HH:MM\"");
        }
    }
}
