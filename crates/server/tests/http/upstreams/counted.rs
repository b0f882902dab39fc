//! What leaves is counted: as it is estimated where the upstream says nothing of it, however the
//! answer ends, and within the owner's limits.

use super::scripted::{Piece, Scripted};
use super::{House, rule, text};
use broker::UpstreamKind::OpenAi;
use ledger::{Limit, Per, Usage, What};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// An answer of 23 bytes, whose usage nobody says.
const SILENT: &[&str] = &[
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"The capital is Paris, I\"}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: [DONE]\n\n",
];

impl House {
    fn limit(&self, what: What, amount: u64) {
        let limit = Limit::new("key:public", what, amount, Some(Per::Month)).unwrap();
        let ledger = self.books.receipts.ledger();
        self.books.runtime.block_on(ledger.set_limit(limit, "owner")).unwrap();
    }

    /// What requests took, once there are so many.
    pub(super) fn rows(&self, n: usize) -> Vec<Usage> {
        let begun = Instant::now();
        loop {
            let ledger = self.books.receipts.ledger();
            self.books.runtime.block_on(ledger.flush()).unwrap();
            let rows = self.books.runtime.block_on(ledger.reader().usage_rows(0, 100)).unwrap();
            if rows.len() >= n {
                return rows.into_iter().map(|row| row.usage).collect();
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{rows:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// One that takes a request and says nothing for long.
fn mute() -> Scripted {
    Scripted::start(vec![Piece::Pause(Duration::from_secs(30))])
}

#[test]
fn what_an_upstream_does_not_count_is_estimated() {
    let vendor = Scripted::streaming(SILENT);
    let house = House::open(OpenAi, &vendor.url(), &rule("there", ""));
    for is_streamed in [false, true] {
        let response = house.chat(json!({"stream": is_streamed}));
        assert_eq!(text(&response), "The capital is Paris, I", "{}", response.body);
    }
    for row in house.rows(2) {
        assert!(row.n_prompt > 5, "{row:?}");
        assert_eq!((row.n_answer, &*row.outcome), (6, "done"), "{row:?}");
        assert_eq!(row.money_micro, row.n_prompt + 60);
        assert_eq!(row.model, format!("vendor/{}", crate::MODEL));
    }
    let begun = Instant::now();
    while house.departures().iter().any(|left| left["end"].is_null()) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", house.departures());
    }
    for left in house.departures() {
        let (end, n_prompt) = (&left["end"], left["end"]["n_prompt"].as_u64().unwrap());
        assert_eq!((&end["estimated"], &end["n_answer"]), (&json!(true), &json!(6)), "{left}");
        assert_eq!(end["cost"]["micro"], n_prompt + 60, "{left}");
    }
}

#[test]
fn a_rule_knows_what_is_left_of_the_money() {
    let vendor = Scripted::streaming(SILENT);
    let rules = rule("there", "budget = { min = 0.5 }");
    let house = House::open(OpenAi, &vendor.url(), &rules);
    let goes = |expected: &str| {
        let begun = Instant::now();
        loop {
            let response = house.chat(json!({"model": crate::MODEL}));
            assert_eq!(response.status, 200, "{}", response.body);
            if response.headers["x-freehold-route"] == expected {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "not answered {expected}");
        }
    };
    // Of what is not known nothing is sent.
    goes("here");
    house.limit(What::Money, 1_000_000);
    goes("there");
    house.limit(What::Money, 400_000);
    goes("here");
}

#[test]
fn who_hangs_up_before_the_answer_has_sent_its_prompt() {
    let vendor = mute();
    let house = House::open(OpenAi, &vendor.url(), &rule("there", ""));
    house.limit(What::Tokens, 100_000);
    let soon = "\nX-Freehold-Deadline-Ms: 3000";
    let body = super::chat_body(json!({}));
    let response = house.ask("/v1/chat/completions", "public", soon, &body);
    assert_ne!(response.status, 200, "{}", response.body);
    assert_eq!(vendor.asked().len(), 1);
    let rows = house.rows(1);
    assert!(rows[0].n_prompt > 5 && rows[0].n_answer == 0, "{rows:?}");
    assert_eq!(rows[0].money_micro, rows[0].n_prompt);
}

#[test]
fn nothing_counts_of_what_never_left() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    let house = House::open(OpenAi, &url, &rule("there-then-here", ""));
    house.limit(What::Requests, 1);
    // The limit has room for one: what never left is given back before it is answered here.
    let response = house.chat(json!({"model": crate::MODEL}));
    assert_eq!(response.headers["x-freehold-route"], "here", "{}", response.body);
    let rows = house.rows(1);
    assert_eq!((rows.len(), &*rows[0].upstream, rows[0].money_micro), (1, "", 0), "{rows:?}");
}

#[test]
fn a_request_at_an_upstream_is_cancelled() {
    let vendor = mute();
    let house = House::open(OpenAi, &vendor.url(), &rule("there", ""));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| house.chat(json!({})));
        let begun = Instant::now();
        while vendor.asked().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it was never sent");
            std::thread::sleep(Duration::from_millis(20));
        }
        let running = house.get("/admin/running", "owner");
        let id = running["running"][0]["id"].as_str().unwrap().to_owned();
        let head =
            format!("DELETE /admin/running/{id}\nAuthorization: Bearer {}", house.key("owner"));
        let told = crate::client::request(house.running.address, &head, b"");
        assert_eq!(told.status, 200, "{}", told.body);
        let response = asking.join().unwrap();
        assert_eq!(response.json()["error"]["code"], "cancelled", "{}", response.body);
        assert!(begun.elapsed() < Duration::from_secs(25));
    });
    let rows = house.rows(1);
    assert_eq!(rows[0].outcome, "cancelled");
    assert!(rows[0].n_prompt > 5, "{rows:?}");
}

#[test]
fn an_answer_that_a_limit_concerns_is_bounded_there_too() {
    let vendor = Scripted::streaming(SILENT);
    let house = House::open(OpenAi, &vendor.url(), &rule("there", ""));
    let unbounded = || {
        let mut body = super::chat_body(json!({}));
        body.as_object_mut().unwrap().remove("max_tokens");
        house.ask("/v1/chat/completions", "public", "", &body)
    };
    assert!(!unbounded().headers.contains_key("x-freehold-adapted"));
    house.limit(What::Tokens, 100_000);
    let response = unbounded();
    assert_eq!(response.headers["x-freehold-adapted"], "limited-length", "{}", response.body);
    let most = |asked: &String| {
        let asked: Value = serde_json::from_str(asked).unwrap();
        asked["max_completion_tokens"].as_u64()
    };
    let asked = vendor.asked();
    assert_eq!(asked.iter().map(most).collect::<Vec<_>>(), [None, Some(8192)]);
}

#[test]
fn a_limit_of_money_needs_a_price_and_here_answers_beyond_it() {
    let vendor = Scripted::streaming(SILENT);
    let unpriced = |config: &mut freehold_server::Config| config.elsewhere.prices = None;
    let house = House::open_with(OpenAi, &vendor.url(), &rule("there", ""), unpriced);
    house.limit(What::Money, 1_000_000);
    let response = house.chat(json!({}));
    assert_eq!(response.status, 400, "{}", response.body);
    assert!(response.body.contains("no price is listed"), "{}", response.body);
    let house = House::open(OpenAi, &vendor.url(), &rule("there-then-here", ""));
    house.limit(What::Money, 1);
    let response = house.chat(json!({"model": crate::MODEL}));
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(response.headers["x-freehold-route"], "here");
    assert_eq!(vendor.asked().len(), 0);
}
