//! Lists that are told page by page, as OpenAI's clients ask for them.

use crate::dialects::declared::Field;
use crate::dialects::fields::{short, wrong};
use crate::errors::BadRequest;
use serde_json::{Value, json};

/// Refuses what is not declared of a list's query.
pub(super) fn check_query(query: &str, declared: &[Field]) -> Result<(), BadRequest> {
    let mut names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    let is_known = |name: &str| declared.iter().any(|field| field.name == name);
    match names.find(|name| !name.is_empty() && !is_known(name)) {
        None => Ok(()),
        Some(name) => {
            let problem = "this server does not know this parameter; leave it out";
            let bad = BadRequest::field(&short(name), problem);
            Err(BadRequest { code: Some("unknown_parameter"), ..bad })
        }
    }
}

/// A page of a list: `limit` items behind the one whose id is `after`, from the last to the first
/// unless `order` is "asc".
pub(super) struct Page<'a> {
    pub(super) limit: usize,
    pub(super) after: Option<&'a str>,
    pub(super) is_ascending: bool,
}

impl<'a> Page<'a> {
    /// What `query` asks for: `n_default` items where it does not say, and at most `n_max`.
    pub(super) fn read(query: &'a str, n_default: usize, n_max: usize) -> Result<Self, BadRequest> {
        let mut page = Self { limit: n_default, after: None, is_ascending: false };
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "limit" => {
                    let limit = value.parse().ok().filter(|n| (1..=n_max).contains(n));
                    let expected = format!("an integer between 1 and {n_max}");
                    page.limit = limit.ok_or_else(|| wrong("limit", &value.into(), &expected))?;
                }
                "order" => match value {
                    "asc" => page.is_ascending = true,
                    "desc" => page.is_ascending = false,
                    _ => return Err(wrong("order", &value.into(), "\"asc\" or \"desc\"")),
                },
                "after" => page.after = Some(value),
                // Such as `include`, of which there is nothing.
                _ => {}
            }
        }
        Ok(page)
    }

    /// The body of this page of `all`, which are in the page's order.
    pub(super) fn body<T>(
        &self,
        all: &[T],
        id: impl Fn(&T) -> &str,
        told: impl Fn(&T) -> Value,
    ) -> Result<String, BadRequest> {
        let begin = match self.after {
            None => 0,
            Some(after) => {
                let place = all.iter().position(|item| id(item) == after);
                let expected = "the id of one of the list";
                place.ok_or_else(|| wrong("after", &after.into(), expected))? + 1
            }
        };
        let items = &all[begin..all.len().min(begin + self.limit)];
        let body = json!({
            "object": "list",
            "data": items.iter().map(told).collect::<Vec<_>>(),
            "first_id": items.first().map(&id),
            "last_id": items.last().map(&id),
            "has_more": begin + items.len() < all.len(),
        });
        Ok(body.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_one_another_to_the_end() {
        let all = ["a", "b", "c"];
        let check = |query: &str, expected: Result<(&str, bool), &str>| {
            let body = Page::read(query, 20, 100)
                .and_then(|page| page.body(&all, |id| id, |id| json!(id)));
            let found = body.map(|body| {
                let body: Value = serde_json::from_str(&body).unwrap();
                let ids: String =
                    body["data"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                assert_eq!(
                    body["last_id"].as_str().unwrap_or_default(),
                    &ids[ids.len().saturating_sub(1)..]
                );
                (ids, body["has_more"].as_bool().unwrap())
            });
            let found = found.map_err(|bad| bad.param.unwrap());
            let expected = expected.map(|(ids, has_more)| (ids.to_owned(), has_more));
            assert_eq!(found, expected.map_err(str::to_owned), "{query}");
        };
        check("", Ok(("abc", false)));
        check("limit=2", Ok(("ab", true)));
        check("limit=2&after=b", Ok(("c", false)));
        check("after=c", Ok(("", false)));
        check("after=d", Err("after"));
        check("limit=0", Err("limit"));
        check("limit=101", Err("limit"));
        check("order=up", Err("order"));
    }
}
