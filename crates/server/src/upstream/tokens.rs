//! Tokens of an upstream's vocabulary, of which only the bytes are known: they get numbers here, by
//! which replies tell of them.

use crate::dialects::Vocabulary;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The tokens of one answer that were told.
#[derive(Debug, Clone, Default)]
pub(crate) struct TheirTokens(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    tokens: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32>,
}

impl TheirTokens {
    /// The number of the token with these bytes. How many there are the bounds on an answer bound.
    pub(super) fn id(&self, bytes: Vec<u8>) -> u32 {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = known.ids.get(&bytes) {
            return *id;
        }
        let id = known.tokens.len() as u32;
        known.tokens.push(bytes.clone());
        known.ids.insert(bytes, id);
        id
    }
}

impl Vocabulary for TheirTokens {
    fn token_bytes(&self, id: u32) -> Vec<u8> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.tokens.get(id as usize).cloned().unwrap_or_default()
    }

    fn is_control(&self, _id: u32) -> bool {
        false
    }
}
