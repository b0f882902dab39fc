//! What responses leave behind, where the operator wants that: what requests refer to of it, and
//! what the routes that look after it say.

use super::{ResponseRequest, ids, items};
use crate::dialects::fields::{Fields, short, wrong};
use crate::errors::BadRequest;
use crate::kept::{Gone, Kept, Own};
use crate::limits::Limits;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// How an operator has answers kept.
const HINT: &str = "no responses are kept here; start the server with --keep-responses, or send the whole \
     conversation as \"input\"";

/// Items on one page of a list where nobody says, and most of them (OpenAI's).
const PAGE: usize = 20;
const PAGE_MAX: usize = 100;

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
    let refers = request.items.iter().any(items::is_reference);
    if previous.is_none() && !refers {
        return Ok(());
    }
    let before = match previous {
        Some(id) => history(own, id, limits)?,
        None => Vec::new(),
    };
    if refers {
        resolve(&mut request.items, own, limits)?;
    }
    let items = match request.told.store {
        true => request.items.clone(),
        false => std::mem::take(&mut request.items),
    };
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
            let all = [tree(&kept.input), tree(&kept.output)].concat();
            let named = |item: Value| Some((item["id"].as_str()?.to_owned(), item));
            known.extend(all.into_iter().filter_map(named));
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

/// The items that a kept response was made from.
pub(crate) fn input(own: Own<'_>, kept: &Kept, limits: &Limits) -> Result<Vec<Value>, BadRequest> {
    let mut items = match &kept.previous {
        Some(id) => history(own, id, limits)?,
        None => Vec::new(),
    };
    items.append(&mut tree(&kept.input));
    Ok(items)
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

/// Refuses what the query of a response's route asks for and cannot have.
pub(crate) fn check_query(query: &str) -> Result<(), BadRequest> {
    match query.split('&').any(|pair| pair == "stream=true") {
        true => Err(BadRequest::unsupported("stream", "true: the events are not kept")),
        false => Ok(()),
    }
}

/// The body of the page of `items` that `query` asks for: `limit` items behind the one whose id is
/// `after`, from the last to the first unless `order` is "asc".
pub(crate) fn items_body(mut items: Vec<Value>, query: &str) -> Result<String, BadRequest> {
    let (mut limit, mut after, mut is_ascending) = (PAGE, None, false);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "limit" => {
                limit =
                    value.parse().ok().filter(|n| (1..=PAGE_MAX).contains(n)).ok_or_else(|| {
                        let expected = format!("an integer between 1 and {PAGE_MAX}");
                        wrong("limit", &value.into(), &expected)
                    })?;
            }
            "order" => match value {
                "asc" => is_ascending = true,
                "desc" => is_ascending = false,
                _ => return Err(wrong("order", &value.into(), "\"asc\" or \"desc\"")),
            },
            "after" => after = Some(value),
            // Such as `include`, of which there is nothing.
            _ => {}
        }
    }
    if !is_ascending {
        items.reverse();
    }
    if let Some(after) = after {
        let place = items.iter().position(|item| item["id"] == after);
        let place = place.ok_or_else(|| wrong("after", &after.into(), "the id of an item"))?;
        items.drain(..=place);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let id = |item: Option<&Value>| item.map(|item| item["id"].clone());
    let (first_id, last_id) = (id(items.first()), id(items.last()));
    let body = json!({
        "object": "list",
        "data": items,
        "first_id": first_id,
        "last_id": last_id,
        "has_more": has_more,
    });
    Ok(body.to_string())
}
