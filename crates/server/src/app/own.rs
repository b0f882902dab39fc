//! What only programs on this machine may ask for, as long as keys are not checked.

use super::{App, Peer, is_loopback};
use crate::ModelChanges;
use crate::errors::ServerError;
use crate::library::Library;
use axum::http::HeaderMap;
use std::sync::Arc;

/// Headers of requests that come from a web page, or through a proxy from another machine.
const OF_OTHERS: [&str; 4] = ["origin", "forwarded", "x-forwarded-for", "x-real-ip"];

impl App {
    /// The library, for a client that may change which models are in it.
    pub(crate) fn library_for(
        &self,
        peer: Option<Peer>,
        headers: &HeaderMap,
    ) -> Result<Arc<dyn Library>, ServerError> {
        let refused = |why: &str| Err(ServerError::Forbidden(why.to_owned()));
        let Some(library) = &self.library else {
            return Err(ServerError::NotImplemented("this server has no library of models".into()));
        };
        match self.model_changes {
            ModelChanges::Refused => refused(
                "models are not changed by clients: expected the server to be started with \
                 `freehold serve --allow-model-changes`",
            ),
            ModelChanges::FromLoopback => {
                check_own(peer, headers, "models are changed")?;
                Ok(Arc::clone(library))
            }
        }
    }
}

/// Refuses what did not come from a program on this machine; `what` begins the sentence.
pub(crate) fn check_own(
    peer: Option<Peer>,
    headers: &HeaderMap,
    what: &str,
) -> Result<(), ServerError> {
    let refused = |why: &str| {
        let only = "by programs on the server's own machine only";
        Err(ServerError::Forbidden(format!("{what} {only}: {why}")))
    };
    match OF_OTHERS.iter().find(|header| headers.contains_key(**header)) {
        _ if !is_loopback(peer) => refused("keys are not checked"),
        Some(header) => refused(&format!(
            "{header} says that a web page or another machine is behind this request"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Facts, LibraryError, Model, Watcher};
    use axum::http::{HeaderValue, header};
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
        let with = |library: Option<Arc<dyn Library>>,
                    changes,
                    peer: &str,
                    header: Option<&'static str>,
                    status: u16| {
            let (name, task) = ("m".to_owned(), engine::Task::Generate);
            let model = Model { name, task, digest: None, lock: None };
            let mut config = Config::new(engine::Fleet::new(None), vec![model]);
            (config.library, config.model_changes) = (library, changes);
            let signal = || watch::channel(false).1;
            let app = App::new(config, signal(), signal()).unwrap();
            let marked = header
                .map(|name| (header::HeaderName::from_static(name), HeaderValue::from_static("x")));
            let headers = HeaderMap::from_iter(marked);
            let found = app.library_for(peer.parse().ok().map(Peer), &headers);
            let found = found.map_or_else(|error| error.status().as_u16(), |_| 200);
            assert_eq!(found, status, "{changes:?} {peer}");
        };
        let check =
            |library, changes, peer: &str, status| with(library, changes, peer, None, status);
        let library = || -> Option<Arc<dyn Library>> { Some(Arc::new(Empty)) };
        check(None, ModelChanges::FromLoopback, "127.0.0.1", 501);
        check(library(), ModelChanges::Refused, "127.0.0.1", 403);
        check(library(), ModelChanges::FromLoopback, "127.0.0.1", 200);
        check(library(), ModelChanges::FromLoopback, "::ffff:127.0.0.1", 200);
        check(library(), ModelChanges::FromLoopback, "10.0.0.1", 403);
        check(library(), ModelChanges::FromLoopback, "nowhere", 403);
        for header in OF_OTHERS {
            with(library(), ModelChanges::FromLoopback, "127.0.0.1", Some(header), 403);
        }
    }
}
