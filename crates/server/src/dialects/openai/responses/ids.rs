//! Names of responses and of what is in them. All are made of the answer's own, so that an item's
//! name tells which response has it.

/// Characters of an answer's id that are in those of its calls, which OpenAI's have 40 of at most.
const N_CALL_ID_CHARS: usize = 24;

/// Of a response.
pub(super) fn response(answer_id: &str) -> String {
    format!("resp_{answer_id}")
}

/// The answer's own, of a response's.
pub(super) fn answer_of(response_id: &str) -> Option<&str> {
    response_id.strip_prefix("resp_")
}

/// Of an item of a response: `kind` is in front, as OpenAI has it.
pub(super) fn item(kind: &str, answer_id: &str, item_idx: usize) -> String {
    format!("{kind}_{answer_id}_{item_idx}")
}

/// Of an item of a request that has none.
pub(super) fn input(answer_id: &str, item_idx: usize) -> String {
    item("in", answer_id, item_idx)
}

/// Of a call: by it the client says whose result it brings. It does not come twice, in this answer
/// or another.
pub(super) fn call(answer_id: &str, call_idx: usize) -> String {
    let id = answer_id.get(..N_CALL_ID_CHARS).unwrap_or(answer_id);
    format!("call_{id}_{call_idx}")
}

/// The response that has the item of this id.
pub(super) fn response_of(item_id: &str) -> Option<String> {
    let (_, rest) = item_id.split_once('_')?;
    let (answer_id, _) = rest.rsplit_once('_')?;
    Some(response(answer_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_tells_its_response() {
        let of = response_of(&item("msg", "0af", 12));
        assert_eq!(of, Some(response("0af")));
        assert_eq!(response_of(&input("0af", 0)), Some(response("0af")));
        for other in ["", "msg", "msg_1", "toolu"] {
            assert_eq!(response_of(other), None, "{other}");
        }
        assert_eq!(call(&"0123456789abcdef".repeat(2), 3).len(), "call_".len() + 24 + 2);
    }
}
