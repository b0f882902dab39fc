//! The local day of the week.

use crate::condition::{Condition, Kind, Seen, Verdict, words};
use crate::error::listed;
use crate::facts::Weekday;

/// `weekday = "sat"` or a list of days.
pub(super) const WEEKDAY: Kind = Kind {
    name: "weekday",
    read: |value| {
        let words = words(value)?;
        let days = words.iter().map(|one| one.word(Weekday::NAMES)).collect::<Result<_, _>>()?;
        Ok(Box::new(Days(days)))
    },
};

#[derive(Debug)]
struct Days(Vec<Weekday>);

impl Condition for Days {
    fn holds(&self, seen: &Seen<'_>) -> Verdict {
        let Some(day) = seen.facts.weekday else { return Verdict::Unknown };
        Verdict::of(self.0.contains(&day), || {
            let expected = listed(self.0.iter().map(|day| day.name()));
            format!("\"{}\", expected {expected}", day.name())
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::condition::testing::*;

    #[test]
    fn a_day_is_one_of_those() {
        check("weekday = [\"sat\", \"sun\"]", "weekday=sun", None);
        check("weekday = \"sat\"", "weekday=fri", Some("\"fri\", expected \"sat\""));
        check("weekday = \"sat\"", "time=10:00", Some("?"));
        check_refused("weekday = \"saturday\"", "expected one of \"mon\", \"tue\"");
    }
}
