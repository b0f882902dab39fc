//! Precision and recall of each class over the texts of `detect.txt`, with floors. What is found
//! counts where class and place are those that are marked, to the byte.
//!
//! `cargo test -p freehold-policy --test detect -- --nocapture` prints the table and what is wrong;
//! docs/policy.md has the table.

// Helpers of tests are tests: a failure in them should end the test where it is.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;

use freehold_policy::{Class, Detector, Settings};

const TEXTS: &str = include_str!("detect.txt");
const PAGE: &str = include_str!("../../../docs/policy.md");

/// The owner's names.
const NAMES: &[&str] =
    &["Ada Lovelace", "Jörg Groß", "Krake GmbH", "Σίσυφος", "李小龍", "Nightjar"];

/// Least texts of the set.
const TEXTS_MIN: usize = 400;

/// Least precision and recall of each class: a change that makes it worse is seen.
const FLOORS: &[(&str, f64, f64)] = &[
    ("email", 0.89, 0.89),
    ("phone", 0.91, 0.84),
    ("iban", 0.95, 0.95),
    ("card", 0.83, 0.88),
    ("us_ssn", 0.95, 0.95),
    ("uk_nhs", 0.95, 0.85),
    ("de_steuer_id", 0.95, 0.87),
    ("fr_nir", 0.95, 0.95),
    ("es_dni", 0.86, 0.86),
    ("it_codice_fiscale", 0.95, 0.95),
    ("nl_bsn", 0.95, 0.85),
    ("pl_pesel", 0.95, 0.85),
    ("br_cpf", 0.95, 0.85),
    ("se_personnummer", 0.87, 0.87),
    ("in_aadhaar", 0.87, 0.87),
    ("name", 0.95, 0.95),
    ("ip_address", 0.95, 0.95),
    ("api_key", 0.95, 0.95),
    ("assigned_secret", 0.95, 0.88),
    ("jwt", 0.95, 0.95),
    ("private_key", 0.95, 0.95),
];

/// A text, and what is marked in it.
struct Case {
    text: String,
    marked: BTreeSet<Found>,
}

/// Class and place.
type Found = (Class, usize, usize);

fn cases() -> Vec<Case> {
    let is_case = |line: &&str| !line.is_empty() && !line.starts_with('#');
    TEXTS.lines().filter(is_case).map(case).collect()
}

fn case(line: &str) -> Case {
    let line = line.replace("\\\\", "\u{1}").replace("\\n", "\n").replace('\u{1}', "\\");
    let line = line.replace('¦', "");
    let mut case = Case { text: String::new(), marked: BTreeSet::new() };
    let mut rest = line.as_str();
    while let Some((before, mark)) = rest.split_once('⟪') {
        let (mark, after) = mark.split_once('⟫').unwrap();
        let (class, value) = mark.split_once('|').unwrap();
        case.text.push_str(before);
        let start = case.text.len();
        case.text.push_str(value);
        let class = Class::named(class).unwrap_or_else(|| panic!("{class} is no class"));
        case.marked.insert((class, start, case.text.len()));
        rest = after;
    }
    case.text.push_str(rest);
    case
}

#[derive(Default)]
struct Score {
    n_marked: usize,
    n_found: usize,
    n_right: usize,
}

impl Score {
    fn precision(&self) -> f64 {
        self.n_right as f64 / self.n_found.max(1) as f64
    }

    fn recall(&self) -> f64 {
        self.n_right as f64 / self.n_marked.max(1) as f64
    }
}

/// The scores of each class, and what is wrong.
fn scores(cases: &[Case]) -> (BTreeMap<Class, Score>, String) {
    let names = NAMES.iter().map(|name| (*name).to_owned()).collect();
    let detector = Detector::new(&Settings { names, ..Settings::default() });
    let mut scores: BTreeMap<Class, Score> = BTreeMap::new();
    let mut wrong = String::new();
    for case in cases {
        let found = detector.find(&case.text).unwrap();
        let place = |range: &Range<usize>| (range.start, range.end);
        let found: BTreeSet<Found> =
            found.iter().map(|one| (one.class, place(&one.range).0, place(&one.range).1)).collect();
        for one in &case.marked {
            scores.entry(one.0).or_default().n_marked += 1;
        }
        for one in &found {
            let score = scores.entry(one.0).or_default();
            score.n_found += 1;
            score.n_right += usize::from(case.marked.contains(one));
        }
        for (what, set) in [("missed", &case.marked - &found), ("found", &found - &case.marked)] {
            for (class, start, end) in set {
                let value = &case.text[start..end];
                writeln!(wrong, "{what} {class:?} {value:?} in {:?}", case.text).unwrap();
            }
        }
    }
    (scores, wrong)
}

fn table(scores: &BTreeMap<Class, Score>) -> String {
    let mut table = String::from("| class | marked | found | precision | recall |\n");
    table.push_str("| --- | ---: | ---: | ---: | ---: |\n");
    for (class, score) in scores {
        let Score { n_marked, n_found, .. } = score;
        let (precision, recall) = (score.precision(), score.recall());
        let name = class.name();
        writeln!(table, "| `{name}` | {n_marked} | {n_found} | {precision:.2} | {recall:.2} |")
            .unwrap();
    }
    table
}

#[test]
fn what_is_marked_is_found_and_nothing_else() {
    let cases = cases();
    assert!(cases.len() >= TEXTS_MIN, "{} texts", cases.len());
    let n_without = cases.iter().filter(|case| case.marked.is_empty()).count();
    assert!(3 * n_without >= cases.len(), "{n_without} texts without anything are few");
    let (scores, wrong) = scores(&cases);
    let table = table(&scores);
    println!("{} texts, {n_without} of them without anything\n{table}\n{wrong}", cases.len());
    assert_eq!(scores.len(), Class::all().count(), "a class has no texts");
    for (class, score) in &scores {
        let floor = FLOORS.iter().find(|(name, ..)| *name == class.name());
        let &(_, precision, recall) = floor.unwrap_or_else(|| panic!("{class:?} has no floor"));
        let is_above = score.precision() >= precision && score.recall() >= recall;
        assert!(is_above, "{class:?} is below {precision} or {recall}:\n{table}\n{wrong}");
    }
    assert!(PAGE.contains(&table), "docs/policy.md has another table than\n{table}");
}

/// Texts that make many candidates, or long ones, take time that grows with their length.
#[test]
#[ignore = "slow: run with --release --ignored"]
fn slow_hostile_texts_end() {
    const N_BYTES: usize = 1 << 20;
    let detector = Detector::new(&Settings { names: vec!["Ada".into()], ..Settings::default() });
    for piece in [
        "1",
        "11 ",
        "1.",
        "4111 1111 1111 1112 ",
        "+1 2 ",
        "a@",
        "a@b.",
        "a.a@x.png ",
        "0:",
        "::",
        "eyJaaaaaaaa.",
        "sk-",
        "password=a1",
        "-----BEGIN PRIVATE KEY-----\na: b\n",
        "-----BEGIN PRIVATE KEY-----",
        "DE89 3704 0044 0532 0130 01 ",
        "ada",
        "é",
        "⟦",
        "://a:",
        "123456789 ",
        "2025550143 ",
        "lorem ipsum dolor sit amet ",
        "x",
    ] {
        let text = piece.repeat(N_BYTES / piece.len());
        let start = std::time::Instant::now();
        let n_found = detector.find(&text).unwrap().len();
        let seconds = start.elapsed().as_secs_f64();
        println!("{seconds:6.2} s/MiB, {n_found} found: {piece:?}");
        assert!(seconds < 60.0, "{piece:?}: {seconds} s");
    }
}
