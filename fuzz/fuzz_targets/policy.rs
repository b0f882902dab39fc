//! Any text as rules, as cases and as what is looked through: rules are read or refused by messages
//! that can be shown, nothing private leaves, and a redacted text comes back however it is cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::{Detector, Escape, Facts, Label, PolicyError, Pseudonyms, Restorer, Rules};
use policy::{Settings, decide, parse_cases};

fuzz_target!(|text: &str| {
    let names = vec!["Ada Lovelace".to_owned(), "Groß".to_owned()];
    let mut settings = Settings { names, ..Settings::default() };
    match Rules::parse("fuzz.toml", text) {
        Ok(rules) => {
            for key_label in [None, Some(Label::Public), Some(Label::Private)] {
                let decision = decide(&rules, &Facts { key_label, ..Facts::default() });
                assert!(decision.label != Label::Private || decision.route.departure().is_none());
            }
            settings = rules.settings().clone();
        }
        Err(error) => check_short(&error),
    }
    if let Err(error) = parse_cases("fuzz.toml", text) {
        check_short(&error);
    }
    let mut pseudonyms = Pseudonyms::new();
    let redacted = pseudonyms.redact(&Detector::new(&settings), text).expect("texts are short");
    for step in [1, 2, 7] {
        let mut restorer = Restorer::new(&pseudonyms, Escape::None);
        let mut restored = String::new();
        let chars: Vec<char> = redacted.text.chars().collect();
        for piece in chars.chunks(step) {
            restored.push_str(&restorer.push(&piece.iter().collect::<String>()));
            assert!(restorer.held() == 0 || restorer.held() < pseudonyms.longest());
        }
        assert_eq!(restored + &restorer.finish(), text);
    }
});

fn check_short(error: &PolicyError) {
    let PolicyError::Wrong(problems) = error else { panic!("{error}") };
    for problem in problems {
        let message = problem.to_string();
        assert!(message.len() < 4096, "{} bytes: {message:.200}", message.len());
    }
}
