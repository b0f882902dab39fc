//! How the engine here is.

use crate::condition::{Condition, Kind, Seen, Verdict, words};
use crate::error::listed;
use crate::facts::Health;

/// `health = "slow"` or a list.
pub(super) const HEALTH: Kind = Kind {
    name: "health",
    read: |value| {
        let words = words(value)?;
        let states = words.iter().map(|one| one.word(Health::NAMES)).collect::<Result<_, _>>()?;
        Ok(Box::new(States(states)))
    },
};

#[derive(Debug)]
struct States(Vec<Health>);

impl Condition for States {
    fn holds(&self, seen: &Seen<'_>) -> Verdict {
        let Some(health) = seen.facts.health else { return Verdict::Unknown };
        Verdict::of(self.0.contains(&health), || {
            let expected = listed(self.0.iter().map(|state| state.name()));
            format!("\"{}\", expected {expected}", health.name())
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::condition::testing::*;

    #[test]
    fn health_is_one_of_those() {
        check("health = [\"slow\", \"down\"]", "health=down", None);
        check("health = \"slow\"", "health=ok", Some("\"ok\", expected \"slow\""));
        check("health = \"slow\"", "", Some("?"));
        check_refused("health = \"dow\"", "health: \"dow\", did you mean \"down\"?");
    }
}
