//! Any text as an answer in every format of tool calls: however it is cut, it has the same parts,
//! and none of it is lost but marks and white space.

#![no_main]

use freehold_fuzz::TOKENIZER;
use libfuzzer_sys::fuzz_target;
use text::{Calls, Part, Splitter, ToolFormat};

/// The parts of pieces that come one after the other; those of one kind are joined.
fn parts<'a>(calls: &Calls, pieces: impl Iterator<Item = &'a str>) -> Vec<Part> {
    let mut splitter = Splitter::new(None, Some(calls.clone()));
    let (mut parts, mut all) = (Vec::new(), Vec::<Part>::new());
    pieces.for_each(|piece| splitter.push(piece, &mut parts));
    splitter.finish(&mut parts);
    for part in parts {
        match (all.last_mut(), part) {
            (Some(Part::Text(last)), Part::Text(more))
            | (Some(Part::Arguments(last)), Part::Arguments(more)) => last.push_str(&more),
            (_, part) => all.push(part),
        }
    }
    all
}

fuzz_target!(|text: &str| {
    for format in ToolFormat::all().iter().copied().chain([ToolFormat::generic()]) {
        let calls = Calls::new(format, &TOKENIZER);
        let whole = parts(&calls, std::iter::once(text));
        let chars = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]);
        assert_eq!(whole, parts(&calls, chars), "{}", format.name);
        let begun = whole.iter().filter(|part| matches!(part, Part::CallBegin(_))).count();
        let ended = whole.iter().filter(|part| matches!(part, Part::CallEnd)).count();
        assert!(ended == begun || ended + 1 == begun, "{begun} calls begin and {ended} end");
        if !text.contains(format.mark) && !text.contains(['{', '[']) {
            let same = [Part::Text(text.trim_ascii_start().to_owned())];
            assert!(whole == same || text.trim_ascii().is_empty(), "{whole:?}");
        }
    }
});
