//! Any text as an answer in every format of tool calls: however it is cut, it has the same parts,
//! and none of it is lost but marks and white space.

#![no_main]

use std::sync::LazyLock;

use gguf::write::Writer;
use gguf::{Array, Gguf, Strings, Value};
use libfuzzer_sys::fuzz_target;
use text::{Calls, Part, Splitter, Tokenizer, ToolFormat};

/// All bytes, and an end.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let tokens: Strings = ["<unk>".to_owned(), "</s>".to_owned()]
        .into_iter()
        .chain((0..=255).map(|byte| format!("<0x{byte:02X}>")))
        .collect();
    let types = [vec![2, 3], vec![6; 256]].concat();
    let scores = vec![0.0; tokens.len()];
    let mut writer = Writer::new();
    writer
        .metadata("tokenizer.ggml.model", Value::String("llama".into()))
        .metadata("tokenizer.ggml.tokens", Value::Array(Array::Strings(tokens)))
        .metadata("tokenizer.ggml.token_type", Value::Array(Array::I32(types)))
        .metadata("tokenizer.ggml.scores", Value::Array(Array::F32(scores)))
        .metadata("tokenizer.ggml.eos_token_id", Value::U32(1));
    let file = writer.finish().expect("small metadata are writable");
    let file = Gguf::from_bytes(file).expect("what we wrote is readable");
    Tokenizer::from_gguf(file.metadata()).expect("all that it needs is there")
});

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
        if !text.contains(format.mark) && !text.contains('{') {
            let same = [Part::Text(text.trim_ascii_start().to_owned())];
            assert!(whole == same || text.trim_ascii().is_empty(), "{whole:?}");
        }
    }
});
