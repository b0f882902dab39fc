//! How near the meaning of an answer is to that of a text, by a model that makes vectors.

use crate::expect::{Check, Kind, Measure, Need, Seen};

/// `similar = "text", min = 0.8`: the cosine of both vectors is at least that.
pub(super) const SIMILAR: Kind = Kind {
    name: "similar",
    read: |fields| {
        let text = fields.must_text("similar")?;
        let min = fields.number("min", [-1.0, 1.0])?;
        let min = min.ok_or_else(|| fields.wrong("min", "absent, expected the least cosine"))?;
        Ok(Box::new(Similar { text, min }))
    },
};

#[derive(Debug)]
struct Similar {
    text: String,
    min: f64,
}

impl Check for Similar {
    fn check(&self, seen: &Seen<'_>) -> Result<(), String> {
        match seen.measure {
            Some(Measure::Similarity(cosine)) if f64::from(cosine) >= self.min => Ok(()),
            Some(Measure::Similarity(cosine)) => {
                Err(format!("similarity {cosine:.3}, expected at least {}", self.min))
            }
            _ => Err("its similarity was not measured".to_owned()),
        }
    }

    fn need(&self) -> Option<Need<'_>> {
        Some(Need::Similarity(&self.text))
    }
}
