//! OpenAI's chat completions: what is asked, and what comes.

mod body;
mod read;
#[cfg(test)]
mod tests;

pub(super) use body::body;
pub(super) use read::{event, whole};
