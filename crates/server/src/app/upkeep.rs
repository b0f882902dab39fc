//! What answers the owner about the models' upkeep: what the behaviour gate found, what other
//! programs have that can be adopted, and whether sources have something newer.

use super::lock::{changed, turn};
use super::{App, Arrival, random_hex};
use crate::departures::{Leaving, Left};
use crate::dialects::Paths;
use crate::dialects::declared::Field;
use crate::dialects::fields::{Fields, missing};
use crate::errors::ServerError;
use crate::library::{Library, LibraryError, LockedSource};
use crate::receipts::{sha256, unwritable};
use crate::serve::admin::{Taken, noted, take};
use crate::serve::blocking;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Response};
use ledger::{Entry, Kind};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// What of which program.
pub(crate) const ADOPT_FIELDS: &[Field] = &[
    Field::honoured("owner").text().note("the program, as `GET /admin/adoptable` names it"),
    Field::honoured("model").text().note("its model, by the name that stands there"),
];

/// The reports of the gate that are kept, in numbers.
pub(crate) async fn reports(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    noted(looked(&app, |library| library.gate_reports()).await, &arrival)
}

/// One of them.
pub(crate) async fn report(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Response<Body> {
    let none = || ServerError::NotFound("this server has no library of models".to_owned());
    let found = match app.library.clone() {
        Some(library) => blocking(move || Ok(library.gate_report(&id)?.to_string())).await,
        None => Err(none()),
    };
    noted(found.map(|body| (body, Paths::default())), &arrival)
}

/// What other programs have.
pub(crate) async fn adoptable(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    noted(looked(&app, |library| library.adoptable()).await, &arrival)
}

/// What a look at the library finds; the least that there can be where there is none.
async fn looked<T: Serialize + Default + Send + 'static>(
    app: &App,
    look: fn(&dyn Library) -> Result<T, LibraryError>,
) -> Result<(String, Paths), ServerError> {
    let library = app.library.clone();
    let found = blocking(move || {
        let found = library.as_deref().map(look).transpose()?.unwrap_or_default();
        Ok(serde_json::to_string(&found).expect("texts and numbers are JSON"))
    });
    Ok((found.await?, Paths::default()))
}

/// Adopts a model of another program's.
pub(crate) async fn adopt(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let done = async {
        let library = app.library_for_lock(&arrival.who)?;
        let Taken { body, unknown, .. } = &take(&app, &arrival, &headers, body).await?;
        let mut fields = Fields::parse(body)?;
        fields.treat(ADOPT_FIELDS)?;
        let [owner, model] = ["owner", "model"].map(|name| fields.text(name));
        let owner = owner?.ok_or_else(|| missing("owner", "the name of a program"))?;
        let model = model?.ok_or_else(|| missing("model", "the name of a model"))?;
        let ignored = fields.finish(*unknown)?;
        // Nothing changes without a record.
        let act = json!({"act": "model adopt", "owner": owner, "model": model});
        audit(&app, &arrival, &act).await?;
        let name = model.clone();
        let listed = Arc::clone(&app);
        let work = move || {
            let (told, model) = library.adopt(&owner, &model)?;
            listed.models.add(model);
            Ok(told)
        };
        let told = changed(&app, work).await?;
        Ok((json!({"name": name, "told": told}).to_string(), ignored))
    };
    noted(done.await, &arrival)
}

/// Writes an act down, where there is a ledger.
async fn audit(app: &App, arrival: &Arrival, act: &Value) -> Result<(), ServerError> {
    let Some(receipts) = &app.receipts else { return Ok(()) };
    let entry = Entry {
        kind: Kind::Audit,
        id: format!("upkeep_{:016x}{}", arrival.at_us, &random_hex()[..12]),
        at: arrival.at_us,
        principal: arrival.who.principal(),
        body: act.to_string(),
    };
    receipts.ledger().append_durable(entry).await.map(drop).map_err(|error| {
        tracing::error!(%error, "a change of models was not recorded, and not made");
        unwritable("a change of models cannot be recorded")
    })
}

/// Asks the sources of the locked models, one after the other.
pub(crate) async fn outdated(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    let asked = async {
        // Asking takes the network, which such a server has.
        let library = app.library_for(&arrival.who)?;
        let _seat = app.admit(&arrival)?;
        // Held by what asks, which goes on when the client has gone.
        let turn = Arc::new(turn(&app)?);
        let reading = Arc::clone(&library);
        let sources = blocking(move || Ok(reading.locked_sources()?)).await?;
        let mut models = Vec::new();
        for source in sources {
            models.push(latest(&app, &arrival, &library, (source, Arc::clone(&turn))).await?);
        }
        Ok((json!({"models": models}).to_string(), Paths::default()))
    };
    noted(asked.await, &arrival)
}

/// Asks one source; what leaves is in the ledger before, where there is one.
async fn latest(
    app: &App,
    arrival: &Arrival,
    library: &Arc<dyn Library>,
    (of, turn): (LockedSource, Arc<OwnedSemaphorePermit>),
) -> Result<Value, ServerError> {
    let mut left = match &app.receipts {
        Some(receipts) if of.is_elsewhere => {
            let leaving = Leaving {
                at_us: arrival.at_us,
                principal: arrival.who.principal(),
                key: &arrival.who.name,
                project: arrival.who.project.as_deref(),
                request: &arrival.id,
                upstream: "model source",
                model: &of.source,
                label: "public",
                rule: "outdated",
                // What leaves is the source's name, as an address.
                n_bytes: of.source.len(),
                sha256: sha256(of.source.as_bytes()),
                redacted: BTreeMap::new(),
                n_prompt: 0,
                n_answer_max: 0,
            };
            Some(Left::record(receipts, &app.ways.get(), &leaving).await?)
        }
        _ => None,
    };
    let library = Arc::clone(library);
    let told = blocking(move || {
        let _turn = turn;
        Ok(library.latest(&of.name)?)
    });
    let told = told.await;
    if let Some(left) = &mut left {
        let is_told = told.as_ref().is_ok_and(|told| told["state"] != "not asked");
        left.end().outcome = Some(if is_told { "done" } else { "failed" });
    }
    told
}
