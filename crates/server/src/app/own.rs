//! What only the owner may ask for.

use super::App;
use crate::ModelChanges;
use crate::access::Who;
use crate::errors::ServerError;
use crate::library::Library;
use std::sync::Arc;

impl App {
    /// The library, for a client that may change which models are in it.
    pub(crate) fn library_for(&self, who: &Who) -> Result<Arc<dyn Library>, ServerError> {
        self.library_where(ModelChanges::FromLoopback, who)
    }

    /// The library, for a client that may have its lock moved, and have taken up what is on this
    /// machine.
    pub(crate) fn library_for_lock(&self, who: &Who) -> Result<Arc<dyn Library>, ServerError> {
        self.library_where(ModelChanges::OfLock, who)
    }

    /// Whether there is a library, and the owner allows so much.
    pub(crate) fn allows(&self, changes: ModelChanges) -> bool {
        self.library.is_some() && self.model_changes >= changes
    }

    fn library_where(
        &self,
        changes: ModelChanges,
        who: &Who,
    ) -> Result<Arc<dyn Library>, ServerError> {
        let Some(library) = &self.library else {
            return Err(ServerError::NotImplemented("this server has no library of models".into()));
        };
        if !self.allows(changes) {
            let flag = match changes {
                ModelChanges::FromLoopback => "--allow-model-changes",
                ModelChanges::OfLock | ModelChanges::Refused => {
                    "--allow-lock-changes, or --allow-model-changes"
                }
            };
            return Err(ServerError::Forbidden(format!(
                "models are not changed by clients: expected the server to be started with \
                 `freehold serve` and {flag}"
            )));
        }
        who.check_changes()?;
        Ok(Arc::clone(library))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Peer;
    use crate::{Config, Facts, LibraryError, Model, Watcher};
    use axum::http::{HeaderMap, Method};
    use tokio::sync::watch;

    /// A library that has nothing.
    struct Empty;

    impl Library for Empty {
        fn facts(&self, _name: &str) -> Option<Arc<Facts>> {
            None
        }

        fn name_of(&self, name: &str) -> Result<String, LibraryError> {
            Ok(name.to_owned())
        }

        fn pull(&self, name: &str, _watcher: &dyn Watcher) -> Result<Model, LibraryError> {
            Err(LibraryError::NotFound(name.to_owned()))
        }

        fn copy(&self, _: &str, to: &str, watcher: &dyn Watcher) -> Result<Model, LibraryError> {
            self.pull(to, watcher)
        }

        fn remove(&self, name: &str) -> Result<(), LibraryError> {
            Err(LibraryError::NotFound(name.to_owned()))
        }
    }

    #[test]
    fn models_are_changed_from_this_machine_where_the_owner_allows_it() {
        let check = |library: Option<Arc<dyn Library>>, changes, peer: &str, status: [u16; 2]| {
            let (name, task) = ("m".to_owned(), engine::Task::Generate);
            let model = Model { name, task, digest: None, lock: None };
            let mut config = Config::new(engine::Fleet::new(None), vec![model]);
            (config.library, config.model_changes) = (library, changes);
            config.allow_anyone = true;
            let signal = || watch::channel(false).1;
            let app = App::new(config, signal(), signal()).unwrap();
            let from = peer.parse().ok().map(Peer);
            let who = app.access.who(from, &HeaderMap::new(), &Method::GET).unwrap();
            let found = [app.library_for_lock(&who), app.library_for(&who)];
            let found =
                found.map(|found| found.map_or_else(|error| error.status().as_u16(), |_| 200));
            assert_eq!(found, status, "{changes:?} {peer}");
        };
        let library = || -> Option<Arc<dyn Library>> { Some(Arc::new(Empty)) };
        check(None, ModelChanges::FromLoopback, "127.0.0.1", [501; 2]);
        check(library(), ModelChanges::Refused, "127.0.0.1", [403; 2]);
        check(library(), ModelChanges::OfLock, "127.0.0.1", [200, 403]);
        check(library(), ModelChanges::OfLock, "10.0.0.1", [403; 2]);
        check(library(), ModelChanges::FromLoopback, "127.0.0.1", [200; 2]);
        check(library(), ModelChanges::FromLoopback, "10.0.0.1", [403; 2]);
    }
}
