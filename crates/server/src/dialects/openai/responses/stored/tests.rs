//! What is kept of answers, and what becomes of requests that refer to it.

use super::super::tests::{calling, steps, with, with_tokens};
use super::super::{Responses, parse};
use super::*;
use crate::dialects::golden::{Step, replay_kept, text};
use crate::dialects::{Dialect, Prompts};
use crate::errors::ServerError;
use crate::kept::KeptAnswers;
use engine::FinishReason::{Length, Stop};
use engine::Part;
use std::time::{Duration, Instant};

/// Limits of a server that keeps answers.
fn keeping() -> Limits {
    Limits { keep_responses: Some(Duration::from_secs(60)), ..Limits::default() }
}

/// The messages of a request that may refer to what `own` has, or the field at fault.
fn recalled(body: &Value, own: Own<'_>, limits: &Limits) -> Result<Value, String> {
    let read = || -> Result<Value, BadRequest> {
        let mut request = parse(body.to_string().as_bytes(), limits)?;
        Responses::recall(&mut request, own, limits)?;
        let Prompts::Chat { messages, .. } = request.call.prompts else { panic!("{body}") };
        Ok(messages)
    };
    read().map_err(|bad| bad.param.unwrap())
}

#[test]
fn what_is_kept_is_gone_on_with() {
    let (limits, now) = (keeping(), Instant::now());
    let all = KeptAnswers::new(limits.keep_responses, 1 << 20);
    let own = all.of(1, now);
    let first = json!({"instructions": "I", "input": "a", "store": true}).to_string();
    let body = replay_kept::<Responses>(&first, steps(calling(), Stop), &limits, own);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["store"], &body["id"]), (&json!(true), &json!("resp_1")));
    assert_eq!(serde_json::from_str::<Value>(&own.get("resp_1").unwrap().body).unwrap(), body);
    let results = [0, 1].map(|n| {
        let call_id = format!("call_1_{n}");
        json!({"type": "function_call_output", "call_id": call_id, "output": "r"})
    });
    let next = json!({"previous_response_id": "resp_1", "input": results, "instructions": "J"});
    let call = |n: usize, name: &str, arguments: Value| {
        let function = json!({"name": name, "arguments": arguments});
        json!({"type": "function", "function": function, "id": format!("call_1_{n}")})
    };
    let calls = json!([call(0, "f", json!({"x": 1})), call(1, "g", json!({}))]);
    let assistant = json!({"role": "assistant", "content": "So:", "reasoning_content": "Hm.",
        "tool_calls": calls});
    let result =
        |n: usize| json!({"role": "tool", "content": "r", "tool_call_id": format!("call_1_{n}")});
    let user = json!({"role": "user", "content": "a"});
    let system = |text: &str| json!({"role": "system", "content": text});
    let expected = json!([system("J"), user, assistant, result(0), result(1)]);
    assert_eq!(recalled(&next, own, &limits), Ok(expected));
    // Only its items are brought in, and in any order.
    let references = json!([{"type": "item_reference", "id": "in_1_0"}, {"id": "msg_1_1"}]);
    let answer = json!({"role": "assistant", "content": "So:"});
    let found = recalled(&json!({"input": references}), own, &limits);
    assert_eq!(found, Ok(json!([user, answer])));
    // What has more is refused.
    let small = Limits { n_body_bytes: 100, ..keeping() };
    assert_eq!(recalled(&next, own, &small), Err("previous_response_id".to_owned()));
    let found = recalled(&json!({"input": references}), own, &small);
    assert_eq!(found, Err("input[0].id".to_owned()));
    // Nobody else has it.
    let other = all.of(2, now);
    assert_eq!(recalled(&next, other, &limits), Err("previous_response_id".to_owned()));
    let found = recalled(&json!({"input": references}), other, &limits);
    assert_eq!(found, Err("input[0].id".to_owned()));
}

#[test]
fn what_the_client_says_is_kept_or_not() {
    let limits = keeping();
    let all = KeptAnswers::new(limits.keep_responses, 1 << 20);
    let own = all.of(1, Instant::now());
    let kept = |field: &str, steps: Vec<Step>| {
        own.remove("resp_1");
        let body = replay_kept::<Responses>(&with(field), steps, &limits, own);
        // How it began does not count.
        let end = body.split("event: ").last().unwrap();
        (end.contains(r#""store":true"#), own.get("resp_1").is_some())
    };
    let done = || vec![text(0, "a"), Step::Done(0, Length)];
    assert_eq!(kept(r#""store":false"#, done()), (false, false));
    assert_eq!(kept(r#""store":true"#, done()), (true, true));
    assert_eq!(kept(r#""stream":true"#, done()), (true, true));
    let failed = vec![Step::Fail(ServerError::ShuttingDown)];
    assert_eq!(kept(r#""stream":true"#, failed), (false, false));
}

#[test]
fn an_answer_that_is_too_large_is_not_said_to_be_kept() {
    let said = |n_kept_bytes: usize, stream: bool| {
        let limits = Limits { n_kept_bytes, ..keeping() };
        let all = KeptAnswers::new(limits.keep_responses, n_kept_bytes);
        let own = all.of(1, Instant::now());
        let request = with(&format!(r#""stream":{stream}"#));
        let body = replay_kept::<Responses>(&request, steps(calling(), Stop), &limits, own);
        let end = body.split("event: ").last().unwrap();
        let kept = own.get("resp_1");
        assert_eq!(kept.is_some(), end.contains(r#""store":true"#), "{body}");
        kept.map(|kept| kept.n_bytes())
    };
    let n_bytes = said(1 << 20, false).unwrap();
    for stream in [false, true] {
        assert_eq!(said(n_bytes, stream), Some(n_bytes));
        assert_eq!(said(n_bytes - 1, stream), None);
    }
}

#[test]
fn an_answer_in_the_background_is_kept_however_it_ends() {
    let limits = keeping();
    let all = KeptAnswers::new(limits.keep_responses, 64 << 20);
    let own = all.of(1, Instant::now());
    let request = json!({"input": "a", "background": true}).to_string();
    let failed = || Step::Fail(ServerError::Failed("it broke".to_owned()));
    for (last, status, is_whole) in [
        (Step::Done(0, Stop), "completed", true),
        (failed(), "failed", false),
        (Step::Cancel, "cancelled", false),
    ] {
        replay_kept::<Responses>(&request, vec![text(0, "b"), last], &limits, own);
        let kept = own.get("resp_1").unwrap();
        let body: Value = serde_json::from_str(&kept.body).unwrap();
        assert_eq!((&body["status"], kept.is_whole), (&json!(status), is_whole));
        assert_eq!((&body["background"], &body["store"]), (&json!(true), &json!(true)));
        assert!(is_background(&kept));
        assert_eq!(body["output"][0]["content"][0]["text"], "b");
        let next = json!({"previous_response_id": "resp_1", "input": "c"});
        let param = "previous_response_id".to_owned();
        assert_eq!(recalled(&next, own, &limits).err(), (!is_whole).then_some(param));
    }
    // What was waited for is not.
    let waited = json!({"input": "a", "stream": true}).to_string();
    own.remove("resp_1");
    replay_kept::<Responses>(&waited, vec![failed()], &limits, own);
    assert!(own.get("resp_1").is_none());
}

#[test]
fn an_answer_in_the_background_must_be_kept() {
    let check = |body: Value, limits: &Limits, said: &str| {
        let bad = parse(body.to_string().as_bytes(), limits).unwrap_err();
        assert_eq!(bad.param.as_deref(), Some("background"), "{body}");
        assert!(
            bad.message.starts_with("background: true: ") && bad.message.contains(said),
            "{bad}"
        );
    };
    let body = json!({"input": "a", "background": true});
    check(body.clone(), &Limits::default(), "--keep-responses");
    assert!(parse(body.to_string().as_bytes(), &keeping()).is_ok());
    check(json!({"input": "a", "background": true, "store": false}), &keeping(), "\"store\"");
}

/// What is kept of an answer to `request`.
fn kept_of(request: &str, steps: Vec<Step>) -> Kept {
    let limits = keeping();
    let all = KeptAnswers::new(limits.keep_responses, 64 << 20);
    let own = all.of(1, Instant::now());
    let body = replay_kept::<Responses>(request, steps, &limits, own);
    let kept = own.get("resp_1").unwrap_or_else(|| panic!("{body:.500}"));
    assert!(body.contains(&kept.body));
    (*kept).clone()
}

#[test]
fn items_are_kept_without_what_nobody_knows() {
    let long = "x".repeat(1 << 20);
    let part = json!({"type": "input_text", "text": "a", "z": long, "annotations": [long]});
    let user = json!({"role": "user", "content": [part], "z": [{"z": long}]});
    let request = json!({"input": [user]}).to_string();
    let kept = kept_of(&request, vec![Step::Done(0, Stop)]);
    assert!(kept.n_bytes() < 4000, "{} bytes", kept.n_bytes());
    assert_eq!(
        serde_json::from_str::<Value>(&kept.input).unwrap(),
        json!([{"role": "user", "content": [{"type": "input_text", "text": "a"}]}])
    );
}

#[test]
fn only_the_body_has_more_than_the_conversation() {
    let request = with(
        r#""include":["message.output_text.logprobs","reasoning.encrypted_content"],
           "top_logprobs":1,"reasoning":{"summary":"auto"}"#,
    );
    let kept = kept_of(&request, with_tokens(calling().into_iter().take(2).collect(), Stop));
    let thought = json!([{"type": "reasoning", "id": "rs_1_0", "summary": [],
        "content": [{"type": "reasoning_text", "text": "Hm."}], "status": "completed"}]);
    assert_eq!(serde_json::from_str::<Value>(&kept.output).unwrap(), thought);
    assert!(kept.body.contains("freehold-reasoning:Hm.") && kept.body.contains("summary_text"));
    let kept = kept_of(&request, with_tokens(vec![Part::Text("So".to_owned())], Stop));
    assert!(kept.body.contains(r#""token":"a""#), "{}", kept.body);
    assert!(kept.output.contains(r#""text":"So","annotations":[],"logprobs":[]"#));
}

#[test]
fn a_call_that_was_cut_off_is_no_part_of_the_conversation() {
    let (limits, now) = (keeping(), Instant::now());
    let all = KeptAnswers::new(limits.keep_responses, 1 << 20);
    let own = all.of(1, now);
    let cut = steps(calling().into_iter().take(9).collect(), Length);
    let request = json!({"input": "a", "max_output_tokens": 9}).to_string();
    let body = replay_kept::<Responses>(&request, cut, &limits, own);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["output"].as_array().unwrap().len(), 4);
    assert_eq!(body["output"][3]["status"], "incomplete");
    let next = json!({"previous_response_id": "resp_1", "input": "b"});
    let messages = recalled(&next, own, &limits).unwrap();
    let calls = messages[1]["tool_calls"].as_array().unwrap();
    assert_eq!((calls.len(), &calls[0]["function"]["name"]), (1, &json!("f")));
}

#[test]
fn a_conversation_is_gone_on_with_by_nothing_more() {
    let (limits, now) = (keeping(), Instant::now());
    let all = KeptAnswers::new(limits.keep_responses, 1 << 20);
    let own = all.of(1, now);
    let done = || vec![text(0, "b"), Step::Done(0, Stop)];
    replay_kept::<Responses>(&json!({"input": "a"}).to_string(), done(), &limits, own);
    let next = json!({"previous_response_id": "resp_1", "input": []});
    let [user, answer] = [("user", "a"), ("assistant", "b")]
        .map(|(role, text)| json!({"role": role, "content": text}));
    assert_eq!(recalled(&next, own, &limits), Ok(json!([user, answer])));
    let alone = json!({"input": []});
    assert_eq!(recalled(&alone, own, &limits), Err("input".to_owned()));
}

#[test]
fn references_need_something_to_refer_to() {
    let check = |body: Value, param: &str| {
        let bad = parse(body.to_string().as_bytes(), &Limits::default()).unwrap_err();
        assert_eq!(bad.param.as_deref(), Some(param), "{body}");
        assert!(bad.message.contains("--keep-responses"), "{bad}");
        assert!(bad.message.starts_with(param), "{bad}");
    };
    check(json!({"input": "a", "store": true}), "store");
    check(json!({"input": "a", "previous_response_id": "x"}), "previous_response_id");
    check(json!({"input": [{"type": "item_reference", "id": "x"}]}), "input[0].type");
    let user = json!({"role": "user", "content": "a"});
    check(json!({"input": [user, {"id": "x"}]}), "input[1].type");
}

/// A conversation of three turns: items 0 to 9 in each request, and one of each answer.
fn turns() -> Vec<Arc<Kept>> {
    let user = |n: usize| json!({"role": "user", "content": n.to_string(), "id": "in_0_0"});
    let items: Vec<Value> = (0..10).map(user).collect();
    let turn = |n: usize| {
        let answer = json!([{"type": "message", "id": format!("msg_{n}_0")}]);
        Arc::new(Kept {
            id: format!("resp_{n}"),
            previous: n.checked_sub(1).map(|n| format!("resp_{n}")),
            input: items::known(&items),
            output: answer.to_string(),
            body: String::new(),
            is_whole: true,
        })
    };
    (0..3).map(turn).collect()
}

#[test]
fn items_are_listed_page_by_page() {
    let turns = turns();
    let page = |query: &str| -> Result<(Vec<String>, bool), String> {
        let body = items_body(&turns, query, &Limits::default());
        let body: Value = serde_json::from_str(&body.map_err(|bad| bad.param.unwrap())?).unwrap();
        assert_eq!(body["object"], "list");
        let data = body["data"].as_array().unwrap();
        let id = |item: &Value| item["id"].clone();
        assert_eq!(body["first_id"], data.first().map_or(Value::Null, id));
        assert_eq!(body["last_id"], data.last().map_or(Value::Null, id));
        let id = |item: &Value| item["id"].as_str().unwrap().to_owned();
        Ok((data.iter().map(id).collect(), body["has_more"].as_bool().unwrap()))
    };
    let input = |turn_idx: usize| (0..10).map(move |n| format!("in_{turn_idx}_{n}"));
    let answer = |n: usize| [format!("msg_{n}_0")];
    let all = input(0).chain(answer(0)).chain(input(1)).chain(answer(1)).chain(input(2));
    let ascending: Vec<String> = all.collect();
    let descending: Vec<String> = ascending.iter().rev().cloned().collect();
    assert_eq!(page(""), Ok((descending[..20].to_vec(), true)));
    assert_eq!(page("limit=2&order=asc&include=x"), Ok((ascending[..2].to_vec(), true)));
    assert_eq!(page("limit=100&after=in_0_2"), Ok((descending[30..].to_vec(), false)));
    assert_eq!(page("order=asc&after=in_2_9"), Ok((vec![], false)));
    for (order, expected) in [("asc", ascending), ("desc", descending)] {
        for limit in 1..=33 {
            let (mut found, mut query) = (Vec::new(), format!("order={order}&limit={limit}"));
            loop {
                let (mut ids, has_more) = page(&query).unwrap();
                let Some(last) = ids.last() else { panic!("{query}: nothing") };
                query = format!("order={order}&limit={limit}&after={last}");
                found.append(&mut ids);
                if !has_more {
                    break;
                }
            }
            assert_eq!(found, expected);
        }
    }
    assert_eq!(page("limit=0"), Err("limit".to_owned()));
    assert_eq!(page("order=up"), Err("order".to_owned()));
    for id in ["x", "in_7_0", "in_0_10", "msg_2_0"] {
        assert_eq!(page(&format!("after={id}")), Err("after".to_owned()));
    }
}

#[test]
fn pages_of_large_items_are_short_and_never_empty() {
    let small = Limits { n_body_bytes: 100, ..Limits::default() };
    let turns = turns();
    assert!(turns.iter().map(|turn| turn.turn_bytes()).sum::<usize>() > 100);
    let page = items_body(&turns, "order=asc&after=in_1_3", &small).unwrap();
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((&page["first_id"], &page["last_id"]), (&json!("in_1_4"), &json!("in_1_4")));
    assert_eq!(page["has_more"], true);
}
