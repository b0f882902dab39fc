//! The flags that say how an answer is made, shared by one-shot answers and chats.

use engine::{Request, Sampling};

/// How the next token is chosen and when to end. The defaults suit small chat models.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Randomness, 0 to 2: 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value = "0.7", value_parser = number::<0, 2>)]
    temperature: f32,
    /// Choose among the K likeliest tokens (0: no such limit)
    #[arg(long, value_name = "K", default_value = "40")]
    top_k: u32,
    /// Choose among the likeliest tokens that together reach probability P
    #[arg(long, value_name = "P", default_value = "0.95", value_parser = fraction)]
    top_p: f32,
    /// Leave out tokens less than P times as likely as the likeliest
    #[arg(long, value_name = "P", default_value = "0.05", value_parser = number::<0, 1>)]
    min_p: f32,
    /// Make tokens already seen less likely (1: off; default 1.1, and 1 at temperature 0)
    #[arg(long, value_name = "R", value_parser = positive)]
    repetition_penalty: Option<f32>,
    /// Same seed, same model, same prompt: same answer (default: drawn, and shown with -v)
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Most tokens to generate (default: to the end of the context)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// End the answer where this text would appear (may be repeated)
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

impl SamplingArgs {
    /// Most tokens to generate, where the user set a bound.
    pub(crate) fn max_tokens(&self) -> Option<u32> {
        self.max_tokens
    }

    /// The request for `prompt` under these flags.
    pub(crate) fn request(&self, prompt: Vec<u32>) -> Request {
        // Greedy means greedy, as on the server; otherwise small models repeat themselves.
        let default_penalty = if self.temperature == 0.0 { 1.0 } else { 1.1 };
        Request {
            prompt,
            max_tokens: self.max_tokens,
            sampling: Sampling {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repetition_penalty: self.repetition_penalty.unwrap_or(default_penalty),
                seed: self.seed,
                ..Sampling::default()
            },
            stop: self.stop.clone(),
            ..Request::default()
        }
    }
}

fn finite(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("expected a number".to_owned()),
    }
}

fn number<const MIN: u32, const MAX: u32>(text: &str) -> Result<f32, String> {
    let value = finite(text)?;
    if (MIN as f32..=MAX as f32).contains(&value) {
        Ok(value)
    } else {
        Err(format!("expected a number from {MIN} to {MAX}"))
    }
}

fn fraction(text: &str) -> Result<f32, String> {
    let value = finite(text)?;
    let fits = value > 0.0 && value <= 1.0;
    fits.then_some(value).ok_or_else(|| "expected a number above 0, at most 1".to_owned())
}

fn positive(text: &str) -> Result<f32, String> {
    let value = finite(text)?;
    let fits = value > 0.0 && value <= 100.0;
    fits.then_some(value).ok_or_else(|| "expected a number above 0, at most 100".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_their_range_are_refused() {
        assert_eq!(number::<0, 1>("0.5"), Ok(0.5));
        assert!(number::<0, 1>("1.5").is_err());
        assert!(number::<0, 100>("NaN").is_err());
        assert!(fraction("0").is_err());
        assert_eq!(fraction("1"), Ok(1.0));
        assert!(positive("inf").is_err());
    }
}
