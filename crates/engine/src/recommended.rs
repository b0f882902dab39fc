//! What a model's file recommends of how its tokens are chosen: `general.sampling.*`, as
//! llama.cpp's converter writes it from a model's `generation_config.json`.
//!
//! A file is hostile, so only what a request could ask for is taken; the rest is told.

use crate::request::Sampling;
use gguf::Metadata;
use std::fmt;

/// What all keys begin with.
const KEYS: &str = "general.sampling.";
/// Most of the keys that are told as not used; llama.cpp has twelve of them in all.
const N_UNUSED_MAX: usize = 16;

/// What a file recommends; each part where it says something.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recommended {
    /// [`Sampling::temperature`].
    pub temperature: Option<f32>,
    /// [`Sampling::top_k`].
    pub top_k: Option<u32>,
    /// [`Sampling::top_p`].
    pub top_p: Option<f32>,
    /// [`Sampling::min_p`].
    pub min_p: Option<f32>,
    /// [`Sampling::xtc_probability`].
    pub xtc_probability: Option<f32>,
    /// [`Sampling::xtc_threshold`].
    pub xtc_threshold: Option<f32>,
    /// [`Sampling::repetition_penalty`].
    pub repetition_penalty: Option<f32>,
    /// What it says that is not followed, and why, in words.
    pub unused: Vec<String>,
}

impl Recommended {
    /// What this metadata recommends.
    pub fn of(metadata: &Metadata) -> Self {
        let mut found = Self::default();
        for (key, _) in metadata.iter() {
            let Some(name) = key.strip_prefix(KEYS) else { continue };
            if let Err(why) = found.take(name, metadata, key)
                && found.unused.len() < N_UNUSED_MAX
            {
                found.unused.push(why);
            }
        }
        found
    }

    /// Takes the value of one key, or says why not.
    fn take(&mut self, name: &str, metadata: &Metadata, key: &str) -> Result<(), String> {
        let number = |is_fine: fn(f32) -> bool, expected: &str| match metadata.f32(key) {
            Ok(Some(number)) if is_fine(number) => Ok(Some(number)),
            Ok(number) => {
                let found = number.unwrap_or(f32::NAN);
                Err(format!("{key}: {found}, expected {expected}"))
            }
            Err(error) => Err(error.to_string()),
        };
        let to_one = || number(|x| (0.0..=1.0).contains(&x), "0 to 1");
        let part = || number(|x| x > 0.0 && x <= 1.0, "above 0, at most 1");
        match name {
            // What requests may ask for at most, in all dialects.
            "temp" => self.temperature = number(|x| (0.0..=2.0).contains(&x), "0 to 2")?,
            "top_k" => {
                let k = metadata.i32(key).map_err(|error| error.to_string())?;
                // 0 and below: off.
                self.top_k = k.map(|k| k.max(0).unsigned_abs());
            }
            "top_p" => self.top_p = part()?,
            "min_p" => self.min_p = to_one()?,
            "xtc_probability" => self.xtc_probability = to_one()?,
            "xtc_threshold" => self.xtc_threshold = part()?,
            "penalty_repeat" => {
                let is_fine = |x: f32| x > 0.0 && x <= 100.0;
                self.repetition_penalty = number(is_fine, "above 0, at most 100")?;
            }
            _ => return Err(format!("{:?}: not known here", short(key))),
        }
        Ok(())
    }

    /// `sampling`, with what is recommended in its place.
    pub fn over(&self, sampling: &Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(sampling.temperature),
            top_k: self.top_k.unwrap_or(sampling.top_k),
            top_p: self.top_p.unwrap_or(sampling.top_p),
            min_p: self.min_p.unwrap_or(sampling.min_p),
            xtc_probability: self.xtc_probability.unwrap_or(sampling.xtc_probability),
            xtc_threshold: self.xtc_threshold.unwrap_or(sampling.xtc_threshold),
            repetition_penalty: self.repetition_penalty.unwrap_or(sampling.repetition_penalty),
            ..sampling.clone()
        }
    }

    /// Whether nothing is recommended that is followed.
    pub fn is_empty(&self) -> bool {
        *self == Self { unused: self.unused.clone(), ..Self::default() }
    }
}

/// In one line, such as `temperature 0.6, top_k 20`.
impl fmt::Display for Recommended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [
            ("temperature", self.temperature),
            ("top_k", self.top_k.map(|k| k as f32)),
            ("top_p", self.top_p),
            ("min_p", self.min_p),
            ("xtc_probability", self.xtc_probability),
            ("xtc_threshold", self.xtc_threshold),
            ("repetition_penalty", self.repetition_penalty),
        ];
        let said = numbers.iter().filter_map(|(name, of)| of.map(|of| format!("{name} {of}")));
        f.write_str(&said.collect::<Vec<String>>().join(", "))
    }
}

/// The beginning of a key, which may be of any length.
fn short(key: &str) -> String {
    key.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gguf::{Gguf, Value, write::Writer};

    fn of(entries: &[(&str, Value)]) -> Recommended {
        let mut writer = Writer::new();
        for (name, value) in entries {
            writer.metadata(&format!("{KEYS}{name}"), value.clone());
        }
        let file = Gguf::from_bytes(writer.finish().unwrap()).unwrap();
        Recommended::of(file.metadata())
    }

    #[test]
    fn what_a_file_recommends_goes_before_the_defaults_and_nothing_else_changes() {
        let found = of(&[
            ("temp", Value::F32(0.6)),
            ("top_k", Value::I32(20)),
            ("top_p", Value::F64(0.9)),
            ("penalty_repeat", Value::F32(1.05)),
        ]);
        assert!(found.unused.is_empty() && !found.is_empty());
        let usual = Sampling { min_p: 0.1, seed: Some(7), ..Sampling::default() };
        let expected = Sampling {
            temperature: 0.6,
            top_k: 20,
            top_p: 0.9,
            repetition_penalty: 1.05,
            ..usual.clone()
        };
        assert_eq!(found.over(&usual), expected);
        assert_eq!(
            found.to_string(),
            "temperature 0.6, top_k 20, top_p 0.9, repetition_penalty 1.05"
        );
        assert!(of(&[]).is_empty());
        assert_eq!(of(&[]).over(&usual), usual);
        // Off, as llama.cpp reads it.
        assert_eq!(of(&[("top_k", Value::I32(-1))]).top_k, Some(0));
    }

    #[test]
    fn what_no_request_could_ask_for_is_not_followed_and_is_told() {
        let check = |name: &str, value: Value, why: &str| {
            let found = of(&[(name, value)]);
            assert!(found.is_empty(), "{found}");
            assert!(found.unused.len() == 1 && found.unused[0].contains(why), "{found:?}");
        };
        check("temp", Value::F32(f32::NAN), "general.sampling.temp: NaN, expected 0 to 2");
        check("temp", Value::F32(9.0), "general.sampling.temp: 9, expected 0 to 2");
        check("temp", Value::String("hot".to_owned()), "general.sampling.temp");
        check("top_p", Value::F32(0.0), "general.sampling.top_p: 0, expected above 0, at most 1");
        check("top_k", Value::F32(1.5), "general.sampling.top_k");
        check("mirostat", Value::I32(2), "not known here");
        let many: Vec<String> = (0..40).map(|idx| format!("x{idx}")).collect();
        let many: Vec<(&str, Value)> =
            many.iter().map(|name| (name.as_str(), Value::I32(1))).collect();
        assert_eq!(of(&many).unused.len(), N_UNUSED_MAX);
    }
}
