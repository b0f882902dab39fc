//! `freehold person` and `freehold usage` on a ledger that was really written.

#![allow(clippy::unwrap_used, reason = "test code outside of #[test]")]

use crate::binary::{Home, arg};
use ledger::{Content, ContentKeys, Ledger, NodeKey, Usage};
use serde_json::Value;

const DAY_US: i64 = 86_400_000_000;

fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

/// Two persons of whom something is kept, and what their requests took, yesterday and today.
fn fill(home: &Home) {
    let key = NodeKey::load_or_create(&home.path("home/node.key")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let keys = ContentKeys::open(&home.path("home/content-keys")).unwrap();
        let place = home.path("home/ledger.sqlite");
        let ledger = Ledger::open_keeping(arg(&place), key, keys).await.unwrap();
        let now = now_us();
        for (n, person) in [(1, "zoe"), (2, "zoe"), (3, "adam")] {
            let (id, body) = (format!("a{n}"), format!("{{\"said\":\"word {n}\"}}"));
            let person = person.to_owned();
            let (at, until) = (now - DAY_US, now + 30 * DAY_US);
            ledger
                .keep(Content { id: id.clone(), person: person.clone(), at, until, body })
                .unwrap();
            let usage = Usage {
                id,
                at_us: if n == 1 { at } else { now },
                key: "k".to_owned(),
                person,
                model: "m".to_owned(),
                n_prompt: 1_000_000,
                n_answer: 100_000,
                energy_mj: 3_600_000,
                energy_source: "estimated".to_owned(),
                outcome: "done".to_owned(),
                ..Usage::default()
            };
            ledger.record(usage).unwrap();
        }
        ledger.close().await.unwrap();
    });
}

#[test]
fn persons_are_listed_exported_and_erased() {
    let home = Home::new();
    home.run(&["person", "list"]).fails(3, &["there is no ledger here"]);
    home.run(&["person", "erase", "zoe"]).fails(3, &["there is no ledger here"]);
    fill(&home);
    let listed = home.run(&["person", "list", "--json"]).json();
    let names: Vec<&Value> =
        listed["persons"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["adam", "zoe"]);
    let text = home.run(&["person", "list"]).ok();
    assert!(text.contains("NAME") && text.contains("zoe"), "{text}");

    let export = home.run(&["person", "export", "zoe"]).ok();
    let lines: Vec<Value> =
        export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(export.contains("word 2") && !export.contains("word 3"), "{export}");
    let end = &lines.last().unwrap()["end"];
    assert_eq!((&end["contents"], &end["usage"]), (&2.into(), &2.into()), "{export}");
    home.run(&["person", "export", "eve"]).fails(3, &["person \"eve\": nothing is kept"]);

    let copy = std::fs::read(home.path("home/ledger.sqlite")).unwrap();
    let erased = home.run(&["person", "erase", "zoe", "--json"]).json();
    assert_eq!(erased["forgotten"], 4, "two contents and two rows of usage: {erased}");
    home.run(&["person", "erase", "zoe"]).fails(3, &["person \"zoe\": nothing is kept"]);
    home.run(&["person", "export", "zoe"]).fails(3, &["nothing is kept"]);
    assert!(home.run(&["person", "export", "adam"]).ok().contains("word 3"));
    assert!(home.run(&["ledger", "verify"]).ok().starts_with("intact"));
    // The ledger as it was before: what it has of her is dark.
    let copy = home.write("copy.sqlite", &copy);
    let export = home.run(&["person", "export", "zoe", "--ledger", arg(&copy)]).ok();
    assert!(export.contains("\"dark\"") && !export.contains("word"), "{export}");
}

#[test]
fn usage_is_summed_and_compared() {
    let home = Home::new();
    fill(&home);
    let found = home.run(&["usage", "--by", "day,model", "--json"]).json();
    assert_eq!(found["rows"].as_array().unwrap().len(), 2, "{found}");
    assert_eq!(
        (&found["rows"][1]["n_requests"], &found["rows"][1]["n_answer"]),
        (&2.into(), &200_000.into())
    );
    let csv = home.run(&["usage", "--by", "key", "--csv"]).ok();
    assert!(csv.contains("k,3,3000000,0,300000,10800000,0"), "{csv}");
    let text = home.run(&["usage"]).ok();
    assert!(text.contains("REQUESTS") && text.contains("1,000,000"), "{text}");
    home.run(&["usage", "--by", "id"]).fails(2, &["expected some of day, key"]);
    let plot = home.path("usage.svg");
    home.run(&["usage", "--plot", arg(&plot)]).ok();
    assert!(std::fs::read_to_string(&plot).unwrap().starts_with("<svg "));
    home.run(&["usage", "--by", "key", "--plot", "x.svg"]).fails(2, &["--plot: expected --by day"]);

    let today = meter::Date::of_us(now_us());
    let prices = format!(
        "[[price]]\nvendor = \"v\"\nmodel = \"m\"\nin = 1\nout = 10\ncurrency = \"EUR\"\n\
         since = 2026-01-01\n[own]\ncurrency = \"EUR\"\nhardware = 3\nsince = {}\nyears = 1\n\
         energy = 0\nwatts-idle = 0\nwatts-busy = 100\n",
        today.plus(-2)
    );
    let prices = home.write("prices.toml", prices.as_bytes());
    let found = home.run(&["usage", "--prices", arg(&prices), "--json"]).json();
    let compared = &found["compared"][0];
    assert_eq!(
        (&compared["rent_micro"], &compared["paid_micro"]),
        (&6_000_000.into(), &3_000_000.into())
    );
    assert_eq!(compared["break_even"]["is"], "reached", "{found}");
    let table = home.run(&["usage", "--prices", arg(&prices)]).ok();
    assert!(table.contains("v/m") && table.contains("6.00") && table.contains("since "), "{table}");
    let args = ["usage", "--prices", arg(&prices), "--rent", "v/m", "--csv", "--plot", arg(&plot)];
    let series = home.run(&args).ok();
    assert_eq!(series.lines().count(), 4, "{series}");
    assert!(std::fs::read_to_string(&plot).unwrap().contains("paid for owning"));
    home.run(&["usage", "--prices", arg(&prices), "--rent", "v/x"]).fails(2, &["no price of v/x"]);
    home.run(&["usage", "--rent", "v/m"]).says(2, "--prices");
}
