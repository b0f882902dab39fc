//! Whether the source of a model has something newer. Nothing is fetched and nothing changes.

use crate::error::StoreError;
use crate::home::Store;
use crate::installed::Installed;
use crate::progress::Progress;
use crate::source::Source;
use crate::sources::{self, Held};

/// What a source has now, beside what was fetched from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Latest {
    /// The same.
    Same,
    /// The same for ever: the source names a commit.
    Fixed,
    /// Something else.
    Newer {
        /// What it is: a version, a commit, a hash or a length.
        what: String,
        /// Where to pull it from; `None` where its hash must be told first.
        source: Option<Source>,
    },
    /// That cannot be told without fetching it.
    Unclear {
        /// Why.
        why: String,
    },
}

impl Store {
    /// Asks the source of `model` what it has now, by the hashes and the version that `model` has.
    ///
    /// # Errors
    /// [`StoreError::InvalidSource`]; [`StoreError::Offline`]; that the source cannot be asked, has
    /// the file no longer or names no hash of it.
    pub fn latest(&self, model: &Installed, progress: &dyn Progress) -> Result<Latest, StoreError> {
        let source = Source::parse(&model.source)?;
        let opened = sources::open(&source).ok_or_else(|| StoreError::InvalidSource {
            value: model.source.clone(),
            expected: "expected a source, not a name that stands for one".to_owned(),
        })?;
        if opened.needs_network() && self.settings().offline {
            return Err(StoreError::Offline { source_text: model.source.clone() });
        }
        let (home, settings) = (self.home(), self.settings());
        opened.latest(&Held { files: &model.files, home, settings, progress })
    }
}
