//! What responses leave behind, where the operator wants that: what requests refer to of it, and
//! what the routes that look after it say.

#[cfg(test)]
mod tests;

use super::super::pages::Page;
use super::{ResponseRequest, ids, items};
use crate::dialects::declared::Field;
use crate::dialects::fields::{Fields, short, wrong};
use crate::errors::BadRequest;
use crate::kept::{Gone, Kept, Own};
use crate::limits::Limits;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How an operator has answers kept.
const HINT: &str = "no responses are kept here; start the server with --keep-responses, or send the whole \
     conversation as \"input\"";

/// Items on one page of a list where nobody says, and most of them (OpenAI's).
const PAGE: usize = 20;
const PAGE_MAX: usize = 100;

/// Parameters of the query of a kept response's items.
pub(crate) const ITEMS_QUERY: &[Field] = &[
    Field::honoured("after").text().note("the id of an item"),
    Field::honoured("limit").integer(1, PAGE_MAX as i64),
    Field::honoured("order").words(&["asc", "desc"]).note("without it: `desc`"),
];

/// Takes `store` (whether the answer is kept, which is what its absence means where any is) and
/// `previous_response_id`.
pub(super) fn take(
    fields: &mut Fields,
    limits: &Limits,
) -> Result<(bool, Option<String>), BadRequest> {
    let keeps = limits.keep_responses.is_some();
    let store = fields.flag("store")?;
    if store == Some(true) && !keeps {
        return Err(BadRequest::unsupported("store", &format!("true: {HINT}")));
    }
    let previous = fields.text("previous_response_id")?;
    if let Some(id) = previous.as_ref().filter(|_| !keeps) {
        let why = format!("{:?}: {HINT}", short(id));
        return Err(BadRequest::unsupported("previous_response_id", &why));
    }
    Ok((keeps && store != Some(false), previous))
}

/// Takes `background`: whether the client asks for the answer later, which must be kept for it.
pub(super) fn take_background(
    fields: &mut Fields,
    store: bool,
    limits: &Limits,
) -> Result<bool, BadRequest> {
    let is_background = fields.flag("background")? == Some(true);
    if is_background && limits.keep_responses.is_none() {
        let why = "true: the answer could not be asked for later, since no responses are kept \
                   here; start the server with --keep-responses, or use \"stream\"";
        return Err(BadRequest::unsupported("background", why));
    }
    if is_background && !store {
        let problem = "true: expected \"store\" not to be false beside it, since the answer is \
                       asked for later";
        return Err(BadRequest::field("background", problem));
    }
    Ok(is_background)
}

/// Whether a kept response was made in the background.
pub(crate) fn is_background(kept: &Kept) -> bool {
    #[derive(Deserialize)]
    struct Told {
        background: bool,
    }
    serde_json::from_str::<Told>(&kept.body).is_ok_and(|told| told.background)
}

/// Whether there are references among the items, which must have something to refer to.
pub(super) fn check(items: &[Value], limits: &Limits) -> Result<bool, BadRequest> {
    let Some(item_idx) = items.iter().position(items::is_reference) else { return Ok(false) };
    if limits.keep_responses.is_none() {
        let why = format!("\"item_reference\": {HINT}");
        return Err(BadRequest::unsupported(&format!("input[{item_idx}].type"), &why));
    }
    Ok(true)
}

/// Brings in what a request refers to.
pub(super) fn recall(
    request: &mut ResponseRequest,
    own: Own<'_>,
    limits: &Limits,
) -> Result<(), BadRequest> {
    let previous = request.told.previous_response_id.as_deref();
    let mut items = std::mem::take(&mut request.waiting);
    let refers = items.iter().any(items::is_reference);
    if previous.is_none() && !refers {
        return Ok(());
    }
    let before = match previous {
        Some(id) => history(own, id, limits)?,
        None => Vec::new(),
    };
    if refers {
        resolve(&mut items, own, limits)?;
    }
    request.converse(before, items)
}

/// Puts what items refer to in their place. Each response that has some of it is read once; neither
/// these nor what is put in may be larger than a body.
fn resolve(items: &mut [Value], own: Own<'_>, limits: &Limits) -> Result<(), BadRequest> {
    let mut read = HashSet::new();
    let mut known: HashMap<String, Value> = HashMap::new();
    let (mut n_read, mut n_put) = (0, 0);
    for (item_idx, item) in items.iter_mut().enumerate() {
        if !items::is_reference(item) {
            continue;
        }
        let path = format!("input[{item_idx}].id");
        let id = items::reference(item);
        let id = id.ok_or_else(|| wrong(&path, &item["id"], "the id of an item"))?.to_owned();
        if let Some(response_id) = ids::response_of(&id)
            && read.insert(response_id.clone())
            && let Some(kept) = own.get(&response_id)
        {
            n_read += kept.turn_bytes();
            if n_read > limits.n_body_bytes {
                return Err(BadRequest::field(&path, &too_long(n_read, limits)));
            }
            let named = |item: Value| Some((item["id"].as_str()?.to_owned(), item));
            known.extend(input(&kept).into_iter().filter_map(named));
            known.extend(tree(&kept.output).into_iter().filter_map(named));
        }
        let Some(found) = known.get(&id) else {
            let code = Some("item_not_found");
            let problem = format!("{:?}: no such item is kept here", short(&id));
            return Err(BadRequest { code, ..BadRequest::field(&path, &problem) });
        };
        n_put += found.to_string().len();
        if n_put > limits.n_body_bytes {
            return Err(BadRequest::field(&path, &too_long(n_put, limits)));
        }
        *item = found.clone();
    }
    Ok(())
}

/// The items of a kept response and of all that it continues.
fn history(own: Own<'_>, id: &str, limits: &Limits) -> Result<Vec<Value>, BadRequest> {
    let param = "previous_response_id";
    let turns = own.history(id).map_err(|Gone(gone)| {
        let problem = match gone == id {
            true => format!("{:?}: no such response is kept here", short(id)),
            false => {
                format!("{:?} continues {:?}, which is kept no longer", short(id), short(&gone))
            }
        };
        let code = Some("previous_response_not_found");
        BadRequest { code, ..BadRequest::field(param, &problem) }
    })?;
    if turns.iter().any(|turn| !turn.is_whole) {
        let why = "it failed or was cancelled, and cannot be gone on with";
        let problem = format!("{:?}: {why}", short(id));
        return Err(BadRequest::field(param, &problem));
    }
    let n_bytes = turns.iter().map(|turn| turn.turn_bytes()).sum();
    if n_bytes > limits.n_body_bytes {
        return Err(BadRequest::field(param, &too_long(n_bytes, limits)));
    }
    let mut items = Vec::new();
    for turn in turns {
        items.extend(tree(&turn.input));
        items.extend(tree(&turn.output));
    }
    Ok(items)
}

/// The items that were new in the request of a kept response.
fn input(kept: &Kept) -> Vec<Value> {
    let answer_id = ids::answer_of(&kept.id).unwrap_or(&kept.id);
    items::listed(answer_id, tree(&kept.input))
}

fn too_long(n_bytes: usize, limits: &Limits) -> String {
    let n_max = limits.n_body_bytes;
    format!("the conversation has {n_bytes} bytes: expected at most {n_max}")
}

/// The items of a list that was kept.
fn tree(list: &str) -> Vec<Value> {
    serde_json::from_str(list).expect("it was written as an array when it was kept")
}

/// The body that says that a response was forgotten.
pub(crate) fn deleted_body(id: &str) -> String {
    json!({"id": id, "object": "response", "deleted": true}).to_string()
}

/// The body of the page that `query` asks for of the items that the last of `turns` was made from.
/// Only turns that have some of the page are read, one after the other; it may be short of items
/// where those are large.
pub(crate) fn items_body(
    turns: &[Arc<Kept>],
    query: &str,
    limits: &Limits,
) -> Result<String, BadRequest> {
    let Page { limit, mut after, is_ascending } = Page::read(query, PAGE, PAGE_MAX)?;
    let mut turn_idxs: Vec<usize> = (0..turns.len()).collect();
    if !is_ascending {
        turn_idxs.reverse();
    }
    let no_item = |id: &str| wrong("after", &id.into(), "the id of an item");
    if let Some(id) = after {
        let response_id = ids::response_of(id).ok_or_else(|| no_item(id))?;
        let place = turn_idxs.iter().position(|&turn_idx| turns[turn_idx].id == response_id);
        turn_idxs.drain(..place.ok_or_else(|| no_item(id))?);
    }
    let (mut data, mut item_ids, mut has_more) = (String::new(), Vec::new(), false);
    'turns: for turn_idx in turn_idxs {
        let turn = &turns[turn_idx];
        let mut items = input(turn);
        // What the model made of the last is none of it.
        if turn_idx + 1 < turns.len() {
            items.extend(tree(&turn.output));
        }
        if !is_ascending {
            items.reverse();
        }
        if let Some(id) = after.take() {
            let place = items.iter().position(|item| item["id"] == id);
            items.drain(..=place.ok_or_else(|| no_item(id))?);
        }
        for item in items {
            if item_ids.len() == limit || data.len() > limits.n_body_bytes {
                has_more = true;
                break 'turns;
            }
            if !data.is_empty() {
                data.push(',');
            }
            data.push_str(&item.to_string());
            item_ids.push(item["id"].clone());
        }
    }
    let [first_id, last_id] = [item_ids.first(), item_ids.last()].map(|id| json!(id));
    Ok(format!(
        r#"{{"object":"list","data":[{data}],"first_id":{first_id},"last_id":{last_id},"has_more":{has_more}}}"#
    ))
}
