//! A conversation without its oldest turns, where it is too long and the request would rather have
//! it cut than refused.
//!
//! A turn goes from a message of the user's to the next: templates want conversations to begin with
//! one, and a call and its result stay together. System messages and the last turn always stay.

use crate::errors::ServerError;
use serde_json::Value;

/// What is left of a conversation.
pub(super) struct Cut {
    pub(super) messages: Value,
    /// Where each of them stood; `None`: all are where they were.
    places: Option<Vec<usize>>,
    n_dropped: usize,
}

impl Cut {
    /// All of it.
    pub(super) fn none(messages: &Value) -> Self {
        Self { messages: messages.clone(), places: None, n_dropped: 0 }
    }

    /// All but what stands before `start` and is no system message.
    fn at(messages: &[Value], start: usize) -> Self {
        let is_kept = |idx: &usize| *idx >= start || messages[*idx]["role"] == "system";
        let places: Vec<usize> = (0..messages.len()).filter(is_kept).collect();
        Self {
            messages: places.iter().map(|&idx| messages[idx].clone()).collect(),
            n_dropped: messages.len() - places.len(),
            places: Some(places),
        }
    }

    /// Where the message stood.
    pub(super) fn place(&self, message_idx: usize) -> usize {
        match &self.places {
            Some(places) => places.get(message_idx).copied().unwrap_or(message_idx),
            None => message_idx,
        }
    }

    pub(super) fn n_dropped(&self) -> usize {
        self.n_dropped
    }
}

/// Leaves out as few of the oldest turns as it takes to render at most `n_max` tokens; all but the
/// last where no less does, and then it may be more tokens. A few renderings for a thousand turns.
pub(super) fn shorten(
    messages: &Value,
    n_max: usize,
    render: impl Fn(&Value) -> Result<Vec<u32>, ServerError>,
) -> Result<Cut, ServerError> {
    let Some(list) = messages.as_array() else { return Ok(Cut::none(messages)) };
    let is_user = |idx: &usize| list[*idx]["role"] == "user";
    // The first begins the oldest turn, behind which nothing is left out.
    let starts: Vec<usize> = (0..list.len()).filter(is_user).skip(1).collect();
    let Some(last) = starts.last() else { return Ok(Cut::none(messages)) };
    let mut cut = Cut::at(list, *last);
    let (mut from, mut to) = (0, starts.len() - 1);
    while from < to {
        let middle = from.midpoint(to);
        let tried = Cut::at(list, starts[middle]);
        if render(&tried.messages)?.len() <= n_max {
            (cut, to) = (tried, middle);
        } else {
            from = middle + 1;
        }
    }
    Ok(cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A template that has a token for each character of the contents.
    fn check(n_max: usize, messages: Value, expected: &[usize]) {
        let n_tokens = |messages: &Value| -> usize {
            let content = |message: &Value| message["content"].as_str().unwrap().len();
            messages.as_array().unwrap().iter().map(content).sum()
        };
        let render = |messages: &Value| Ok(vec![0; n_tokens(messages)]);
        let cut = shorten(&messages, n_max, render).unwrap();
        let n_left = cut.messages.as_array().unwrap().len();
        let places: Vec<usize> = (0..n_left).map(|idx| cut.place(idx)).collect();
        assert_eq!(places, expected, "{n_max} {messages}");
        assert_eq!(cut.n_dropped(), messages.as_array().unwrap().len() - n_left);
        let told: Vec<Value> = expected.iter().map(|&idx| messages[idx].clone()).collect();
        assert_eq!(cut.messages, Value::Array(told));
    }

    #[test]
    fn the_oldest_turns_go_and_system_messages_stay() {
        let say = |role: &str, content: &str| json!({"role": role, "content": content});
        let messages = json!([
            say("system", "s"),
            say("user", "aa"),
            say("assistant", "bb"),
            say("user", "cc"),
            say("assistant", ""),
            say("tool", "dd"),
            say("system", "t"),
            say("assistant", "ee"),
            say("user", "ff"),
        ]);
        check(10, messages.clone(), &[0, 3, 4, 5, 6, 7, 8]);
        check(9, messages.clone(), &[0, 6, 8]);
        // The last turn stays, however long it is.
        check(1, messages, &[0, 6, 8]);
        check(1, json!([say("user", "aa"), say("assistant", "b")]), &[0, 1]);
    }
}
