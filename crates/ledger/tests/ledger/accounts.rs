//! Limits hold, and what requests took is written down once, whatever comes between.

use std::time::{Duration, Instant};

use freehold_ledger::{
    Kind, Ledger, LedgerError, Limit, Per, Reader, Reservation, Reserved, Then, Usage, UsageBy,
    UsageQuery, What,
};

use crate::site::{Site, other_key};

on_both!(
    what_does_not_fit_is_told_and_what_was_not_used_is_given_back,
    what_was_used_before_a_limit_was_set_counts,
    a_limit_is_set_and_removed_for_all_servers_and_recorded,
    who_goes_away_while_waiting_gives_back,
    the_books_of_a_server_that_is_gone_are_settled_and_corrected,
    sums_are_those_of_the_rows,
    an_answer_is_cut_to_what_is_left,
    what_was_reserved_ends_also_where_the_queue_is_full,
    a_counter_that_is_not_the_sum_of_its_rows_is_told,
);

/// 2026-03-04 05:06:07.
pub(crate) const AT: i64 = 1_772_600_767_000_000;

pub(crate) fn limit(subject: &str, what: What, amount: u64, per: Option<Per>) -> Limit {
    Limit::new(subject, what, amount, per).unwrap()
}

pub(crate) fn usage(key: &str, n_prompt: u64, n_answer: u64) -> Usage {
    Usage {
        id: "req".to_owned(),
        at_us: AT,
        key: key.to_owned(),
        project: "p".to_owned(),
        model: "m".to_owned(),
        n_prompt,
        n_answer,
        outcome: "done".to_owned(),
        ..Usage::default()
    }
}

async fn taken(ledger: &Ledger, most: Usage) -> Reservation {
    let n_least = most.n_answer;
    match ledger.reserve(most, n_least).await.unwrap() {
        Reserved::Taken(reservation) => reservation,
        Reserved::Reached(standing) => panic!("{standing:?}"),
    }
}

/// The limit that a request does not fit, how much is left of it and when it is renewed.
async fn refused(ledger: &Ledger, most: Usage) -> (String, u64, Option<i64>) {
    let n_least = most.n_answer;
    match ledger.reserve(most, n_least).await.unwrap() {
        Reserved::Taken(reservation) => panic!("{reservation:?}"),
        Reserved::Reached(standing) => {
            (standing.limit.id(), standing.left(), standing.renews_at_us)
        }
    }
}

async fn check_books(site: &Site, ledger: &Ledger) {
    ledger.flush().await.unwrap();
    let reader = Reader::open(&site.url).await.unwrap();
    assert_eq!(reader.check_counters(AT).await.unwrap(), None);
}

async fn what_does_not_fit_is_told_and_what_was_not_used_is_given_back(site: &Site) {
    let ledger = site.open().await;
    ledger.set_limit(limit("key:a", What::Tokens, 100, Some(Per::Day)), "owner").await.unwrap();
    ledger.set_limit(limit("all", What::Concurrent, 2, None), "owner").await.unwrap();
    let first = taken(&ledger, usage("a", 10, 50)).await;
    assert_eq!(first.standings().len(), 2);
    assert_eq!(first.standings()[1].left(), 40);
    let midnight = 1_772_668_800_000_000;
    let tokens = "key:a tokens/day".to_owned();
    let found = refused(&ledger, usage("a", 1, 40)).await;
    assert_eq!(found, (tokens.clone(), 40, Some(midnight)));
    // Another key has its own.
    let other = taken(&ledger, usage("b", 1000, 1000)).await;
    assert_eq!(refused(&ledger, usage("c", 1, 1)).await, ("all concurrent".to_owned(), 0, None));
    other.settle(usage("other than reserved", 1000, 7));
    first.settle(usage("a", 10, 20));
    let exact = taken(&ledger, usage("a", 20, 50)).await;
    assert_eq!(refused(&ledger, usage("a", 1, 0)).await, (tokens.clone(), 0, Some(midnight)));
    check_books(site, &ledger).await;
    drop(exact);
    // The next day begins with nothing.
    let tomorrow = Usage { at_us: midnight, ..usage("a", 50, 50) };
    taken(&ledger, tomorrow).await.settle(usage("a", 50, 50));
    let at_last = taken(&ledger, usage("a", 20, 50)).await;
    check_books(site, &ledger).await;
    drop(at_last);
    let reader = Reader::open(&site.url).await.unwrap();
    let rows = reader.usage_rows(0, 10).await.unwrap();
    let found: Vec<_> =
        rows.iter().map(|row| (&*row.usage.key, row.usage.n_answer, row.usage.at_us)).collect();
    assert_eq!(found, [("b", 7, AT), ("a", 20, AT), ("a", 50, midnight)]);
    ledger.close().await.unwrap();
}

async fn a_counter_that_is_not_the_sum_of_its_rows_is_told(site: &Site) {
    let ledger = site.open().await;
    ledger.set_limit(limit("key:a", What::Tokens, 100, Some(Per::Day)), "owner").await.unwrap();
    ledger.set_limit(limit("all", What::Requests, 9, Some(Per::Day)), "owner").await.unwrap();
    taken(&ledger, usage("a", 10, 50)).await.settle(usage("a", 10, 20));
    check_books(site, &ledger).await;
    let told = async |change: &str, expected: Option<&str>| {
        site.sql(change).await;
        let reader = Reader::open(&site.url).await.unwrap();
        assert_eq!(reader.check_counters(AT).await.unwrap().as_deref(), expected, "{change}");
    };
    let of = "the counter of the limit \"key:a tokens/day\" says";
    let tokens = "WHERE limit_id = 'key:a tokens/day'";
    told(
        &format!("UPDATE ledger_counters SET used = 7 {tokens}"),
        Some(&format!("{of} 7 used and 0 reserved, and its rows sum up to 30 and 0")),
    )
    .await;
    told(
        &format!("UPDATE ledger_counters SET used = 30, reserved = 1 {tokens}"),
        Some(&format!("{of} 30 used and 1 reserved, and its rows sum up to 30 and 0")),
    )
    .await;
    told(&format!("UPDATE ledger_counters SET reserved = 0 {tokens}"), None).await;
    // Nor does it help to change the row.
    told(
        "UPDATE ledger_usage SET n_answer = 2",
        Some(&format!("{of} 30 used and 0 reserved, and its rows sum up to 12 and 0")),
    )
    .await;
    ledger.close().await.unwrap();
}

async fn what_was_used_before_a_limit_was_set_counts(site: &Site) {
    let ledger = site.open().await;
    let day = 86_400_000_000;
    for (at_us, n) in [(AT - 40 * day, 1000), (AT - 2 * day, 30), (AT - day, 20), (AT, 10)] {
        ledger.record(Usage { at_us, ..usage("a", n, 0) }).unwrap();
    }
    let at_work = taken(&ledger, usage("a", 5, 5)).await;
    ledger.set_limit(limit("key:a", What::Tokens, 80, Some(Per::Month)), "owner").await.unwrap();
    let (_, left, _) = refused(&ledger, usage("a", 80, 0)).await;
    assert_eq!(left, 10);
    at_work.settle(usage("a", 5, 1));
    let (_, left, _) = refused(&ledger, usage("a", 80, 0)).await;
    assert_eq!(left, 14);
    check_books(site, &ledger).await;
    // Of a month before this one.
    ledger.record(Usage { at_us: AT - 40 * day, ..usage("a", 1, 0) }).unwrap();
    let (_, left, _) = refused(&ledger, usage("a", 80, 0)).await;
    assert_eq!(left, 14);
    ledger.close().await.unwrap();
}

async fn a_limit_is_set_and_removed_for_all_servers_and_recorded(site: &Site) {
    let ledger = site.open().await;
    let other = Ledger::open(&site.url, other_key()).await.unwrap();
    other.watch().unwrap();
    let requests = limit("project:p,model:m", What::Requests, 1, Some(Per::Hour));
    assert!(!ledger.set_limit(requests.clone(), "anna").await.unwrap());
    assert_eq!(&ledger.limits()[..], std::slice::from_ref(&requests));
    taken(&ledger, usage("a", 1, 1)).await.settle(usage("a", 1, 1));
    // At once, whether or not the other has heard of it.
    let (id, left, _) = refused(&other, usage("b", 1, 1)).await;
    assert_eq!((&*id, left), ("project:p,model:m requests/hour", 0));
    let more = Limit { amount: 2, then: Then::Queue, ..requests };
    assert!(ledger.set_limit(more.clone(), "anna").await.unwrap());
    for _ in 0..500 {
        if other.limits()[..] == *std::slice::from_ref(&more) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(other.limits()[..], [more]);
    taken(&other, usage("b", 1, 1)).await.settle(usage("b", 1, 1));
    assert_eq!(other.standings().await.unwrap().len(), 1);
    assert!(other.remove_limit(&id, "boris").await.unwrap());
    assert!(!ledger.remove_limit(&id, "anna").await.unwrap());
    taken(&ledger, usage("a", 1, 1)).await.settle(usage("a", 1, 1));
    let wrong = limit("all", What::Tokens, 1, None);
    let told = ledger.set_limit(wrong, "anna").await.unwrap_err().to_string();
    assert_eq!(told, "per \"\": expected minute, hour, day or month");
    other.close().await.unwrap();
    ledger.close().await.unwrap();
    assert!(site.verify().await.is_intact());
    let reader = Reader::open(&site.url).await.unwrap();
    let mut audits = String::new();
    let read = |line: &str| {
        audits.push_str(line);
        Ok::<_, LedgerError>(())
    };
    reader.export(1, Some(Kind::Audit), read).await.unwrap();
    for (said, n) in [("limit set", 2), ("limit remove", 1), ("boris", 1), ("anna", 2)] {
        assert_eq!(audits.matches(said).count(), n, "{said}: {audits}");
    }
}

async fn who_goes_away_while_waiting_gives_back(site: &Site) {
    let ledger = site.open().await;
    ledger.set_limit(limit("all", What::Concurrent, 4, None), "owner").await.unwrap();
    for turn in 0..200 {
        let mut asking = Box::pin(ledger.reserve(usage("a", 1, 1), 1));
        // Sometimes before it is asked, sometimes before it is heard.
        if turn % 2 == 0 {
            let wait = Duration::from_micros(turn * 10);
            let _ = tokio::time::timeout(wait, &mut asking).await;
        }
        drop(asking);
    }
    let all: Vec<_> = [(); 4].map(|()| taken(&ledger, usage("a", 1, 1))).into();
    let mut held = Vec::new();
    for one in all {
        held.push(one.await);
    }
    refused(&ledger, usage("a", 1, 1)).await;
    drop(held);
    check_books(site, &ledger).await;
    assert_eq!(ledger.standings().await.unwrap()[0].reserved, 0);
    ledger.close().await.unwrap();
}

async fn the_books_of_a_server_that_is_gone_are_settled_and_corrected(site: &Site) {
    // One that says once that it lives, and then no more.
    let held_up = site.open().await;
    held_up.set_limit(limit("all", What::Tokens, 100, Some(Per::Day)), "owner").await.unwrap();
    let (settled, released) =
        (taken(&held_up, usage("a", 10, 30)).await, taken(&held_up, usage("b", 1, 4)).await);
    let other = Ledger::open(&site.url, other_key()).await.unwrap();
    other.watch().unwrap();
    let is_recorded = || async {
        let lost = UsageQuery {
            only: vec![(UsageBy::Outcome, Usage::LOST.to_owned())],
            ..UsageQuery::all()
        };
        other.flush().await.unwrap();
        let reader = Reader::open(&site.url).await.unwrap();
        reader.usage(&lost).await.unwrap()[0].n_requests
    };
    let mut n_waited = 0;
    while is_recorded().await < 2 {
        n_waited += 1;
        assert!(n_waited < 300, "nobody settles for it");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    check_books(site, &other).await;
    let reader = Reader::open(&site.url).await.unwrap();
    let standing = reader.standings(AT).await.unwrap().remove(0);
    assert_eq!((standing.used, standing.reserved), (45, 0));
    // It was not gone after all.
    settled.settle(usage("a", 10, 2));
    drop(released);
    held_up.flush().await.unwrap();
    assert_eq!(is_recorded().await, 0);
    check_books(site, &other).await;
    assert_eq!(reader.standings(AT).await.unwrap()[0].used, 12);
    let sums = reader.usage(&UsageQuery::all()).await.unwrap();
    assert_eq!((sums[0].n_requests, sums[0].n_prompt, sums[0].n_answer), (1, 10, 2));
    held_up.close().await.unwrap();
    other.close().await.unwrap();
}

async fn sums_are_those_of_the_rows(site: &Site) {
    let ledger = site.open().await;
    let day = 86_400_000_000;
    let begin = Per::Day.window(AT).start;
    for n in 0..600_i64 {
        let count = n.unsigned_abs();
        ledger
            .record(Usage {
                at_us: begin + n % 3 * day + n,
                key: ["a", "b"][n as usize % 2].to_owned(),
                route: ["/x", "/y"][n as usize % 4 / 2].to_owned(),
                first_us: count * 10,
                total_us: count * 1000,
                n_cached: 1,
                money_micro: 2,
                energy_mj: 3,
                ..usage("", count, 1)
            })
            .unwrap();
    }
    ledger.flush().await.unwrap();
    let reader = Reader::open(&site.url).await.unwrap();
    let query = |by: &[UsageBy]| UsageQuery { by: by.to_vec(), ..UsageQuery::all() };
    let by_day_and_key = [UsageBy::Day, UsageBy::Key];
    let of_days = reader.usage(&query(&by_day_and_key)).await.unwrap();
    // The same from the rows, by a time that is none of whole days.
    let odd = UsageQuery { from_us: begin - 1, ..query(&by_day_and_key) };
    assert_eq!(of_days, reader.usage(&odd).await.unwrap());
    assert_eq!(of_days.len(), 6);
    assert_eq!(of_days[1].of, [begin.to_string(), "b".to_owned()]);
    assert_eq!((of_days[1].n_requests, of_days[1].n_cached), (100, 100));
    let all = reader.usage(&query(&[])).await.unwrap();
    assert_eq!((all.len(), all[0].n_requests, all[0].n_prompt), (1, 600, 599 * 300));
    assert_eq!((all[0].money_micro, all[0].energy_mj, all[0].n_answer), (1200, 1800, 600));
    let only = UsageQuery {
        only: vec![(UsageBy::Route, "/y".to_owned()), (UsageBy::Key, "a".to_owned())],
        ..query(&[UsageBy::Route])
    };
    let found = reader.usage(&only).await.unwrap();
    assert_eq!((found.len(), found[0].n_requests), (1, 150));
    let none = UsageQuery { until_us: begin, ..query(&[]) };
    assert_eq!(reader.usage(&none).await.unwrap()[0].n_requests, 0);
    assert_eq!(reader.usage_times(&none).await.unwrap(), []);
    let times = reader.usage_times(&query(&[UsageBy::Key])).await.unwrap();
    assert_eq!((times.len(), &*times[0].of[0]), (2, "a"));
    let of_days_and_keys = reader.usage_times(&query(&by_day_and_key)).await.unwrap();
    let named: Vec<_> = of_days_and_keys.iter().map(|times| &times.of).collect();
    assert_eq!(named, of_days.iter().map(|sum| &sum.of).collect::<Vec<_>>());
    let all = reader.usage_times(&query(&[])).await.unwrap();
    assert_eq!((all.len(), all[0].of.len()), (1, 0));
    let [median, _, p99] = times[0].total_us;
    assert!(median.abs_diff(300_000) < 15_000 && p99.abs_diff(594_000) < 30_000, "{times:?}");
    let mut rows = reader.usage_rows(0, 500).await.unwrap();
    rows.extend(reader.usage_rows(rows[499].seq, 500).await.unwrap());
    assert_eq!(rows.len(), 600);
    ledger.close().await.unwrap();
}

/// A million requests of a month, 50 keys and two models.
#[tokio::test]
#[ignore = "a million rows"]
async fn slow_a_month_of_a_million_rows_is_summed_in_time() {
    let site = Site::sqlite();
    site.open().await.close().await.unwrap();
    let begin = Per::Month.window(AT).start;
    site.sql(&format!(
        "WITH RECURSIVE numbers (n) AS \
         (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT 1000000) \
         INSERT INTO ledger_usage (instance, n, id, at_us, key, project, person, alias, model, \
         route, label, upstream, n_prompt, n_cached, n_answer, queue_us, first_us, total_us, \
         outcome, money_micro, energy_mj, energy_source, receipt) \
         SELECT 1, n, 'req_' || n, {begin} + n * 2600000, 'key' || (n % 50), 'p', '', '', \
         'model' || (n % 2), '/v1/chat/completions', '', '', 100, 10, 50, 0, 1000, 50000, \
         'done', 0, \
         0, '', '' FROM numbers; \
         INSERT INTO ledger_usage_days SELECT at_us - at_us % 86400000000, key, project, model, \
         upstream, count(*), sum(n_prompt), sum(n_cached), sum(n_answer), 0, 0 \
         FROM ledger_usage GROUP BY 1, 2, 3, 4, 5"
    ))
    .await;
    let reader = Reader::open(&site.url).await.unwrap();
    let window = Per::Month.window(AT);
    let query = |by: &[UsageBy]| UsageQuery {
        from_us: window.start,
        until_us: window.end,
        by: by.to_vec(),
        ..UsageQuery::default()
    };
    let begun = Instant::now();
    let sums = reader.usage(&query(&[UsageBy::Day, UsageBy::Key])).await.unwrap();
    let took = begun.elapsed();
    let n_requests: u64 = sums.iter().map(|sum| sum.n_requests).sum();
    assert_eq!((sums.len(), n_requests), (31 * 50, 1_000_000));
    println!("by day and key: {took:?}");
    assert!(took < Duration::from_millis(300), "{took:?}");
    let begun = Instant::now();
    assert_eq!(reader.usage(&query(&[UsageBy::Route])).await.unwrap()[0].n_requests, 1_000_000);
    println!("by route, from the rows: {:?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(reader.usage_times(&query(&[UsageBy::Model])).await.unwrap().len(), 2);
    println!("percentiles by model: {:?}", begun.elapsed());
    let ledger = site.open().await;
    let begun = Instant::now();
    ledger.set_limit(limit("key:key7", What::Tokens, 1, Some(Per::Month)), "owner").await.unwrap();
    refused(&ledger, usage("key7", 1, 1)).await;
    println!("a new limit of the month: {:?}", begun.elapsed());
    ledger.close().await.unwrap();
}

async fn an_answer_is_cut_to_what_is_left(site: &Site) {
    let ledger = site.open().await;
    ledger.set_limit(limit("all", What::TokensOut, 70, Some(Per::Month)), "owner").await.unwrap();
    ledger.set_limit(limit("all", What::Tokens, 100, Some(Per::Month)), "owner").await.unwrap();
    let Reserved::Taken(cut) = ledger.reserve(usage("a", 10, 1000), 20).await.unwrap() else {
        panic!("it can be cut");
    };
    assert_eq!(cut.most().n_answer, 70);
    cut.settle(usage("a", 10, 40));
    let Reserved::Taken(cut) = ledger.reserve(usage("a", 28, 1000), 20).await.unwrap() else {
        panic!("it can be cut");
    };
    assert_eq!(cut.most().n_answer, 22);
    let Reserved::Reached(standing) = ledger.reserve(usage("a", 1, 1000), 20).await.unwrap() else {
        panic!("an answer of no tokens is none");
    };
    assert_eq!(standing.left(), 8);
    drop(cut);
    check_books(site, &ledger).await;
    ledger.close().await.unwrap();
}

async fn what_was_reserved_ends_also_where_the_queue_is_full(site: &Site) {
    let ledger = site.open().await;
    ledger.set_limit(limit("all", What::Concurrent, 2, None), "owner").await.unwrap();
    let (given_back, settled) =
        (taken(&ledger, usage("a", 1, 1)).await, taken(&ledger, usage("a", 1, 1)).await);
    // Nothing is awaited: the writer, on the same thread, takes nothing meanwhile.
    let n_taken = (0..10_000).take_while(|_| ledger.record(usage("b", 1, 1)).is_ok()).count();
    assert!(n_taken > 1000, "{n_taken}");
    let full = ledger.record(usage("b", 1, 1)).unwrap_err();
    assert!(matches!(full, LedgerError::QueueFull { .. }), "{full}");
    drop(given_back);
    settled.settle(usage("a", 1, 1));
    ledger.flush().await.unwrap();
    let standings = ledger.standings().await.unwrap();
    assert!(standings.iter().all(|of| of.reserved == 0), "{standings:?}");
    check_books(site, &ledger).await;
    ledger.close().await.unwrap();
}
