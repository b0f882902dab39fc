//! Answers in channels: what a model that ignores the form of messages can write all the same.

use super::*;
use gguf::{Gguf, write::Writer};
use std::sync::Arc;
use text::{CallGrammar, Calls, ChatTemplate, Constraints, Grammar, Special, Tool, ToolChoice};
use text::{Part, Splitter, ToolFormat};

const MARKS: [&str; 7] = [
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|end|>",
    "<|constrain|>",
    "<|call|>",
    "<|return|>",
];
const PROMPT: &str = "<|start|>user<|message|>hi<|end|><|start|>assistant";
const TEMPLATE: &str = "{{ tools }}<|channel|>commentary to=functions.";

/// Bytes as tokens, the marks, and a space.
fn tokenizer() -> Arc<Tokenizer> {
    let tokens = ["<unk>", "<s>", "</s>"].into_iter().map(String::from);
    let tokens = tokens.chain(MARKS.map(String::from));
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let tokens: Vec<String> = tokens.chain(bytes).chain(["▁".to_owned()]).collect();
    let mut writer = Writer::new();
    writer
        .metadata("tokenizer.ggml.model", "llama")
        .metadata("tokenizer.ggml.scores", vec![0.0f32; tokens.len()])
        .metadata(
            "tokenizer.ggml.token_type",
            [vec![2, 3, 3], vec![3; 7], vec![6; 256], vec![1]].concat(),
        )
        .metadata("tokenizer.ggml.tokens", tokens.into_iter().collect::<gguf::Strings>())
        .metadata("tokenizer.ggml.add_space_prefix", false)
        .metadata("tokenizer.ggml.eos_token_id", 2u32);
    let gguf = Gguf::from_bytes(writer.finish().unwrap()).unwrap();
    Arc::new(Tokenizer::from_gguf(gguf.metadata()).unwrap())
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, Special::Parse)
}

/// What comes of a model that wants to write this text, and where it must not, to end a message,
/// and where that must not be either, anything: the whole answer, its parts, the tokens that are
/// reasoning.
fn write(choice: ToolChoice, n_max: Option<u32>, wish: &str) -> (String, Vec<Part>, u32) {
    let tokenizer = tokenizer();
    let format = ToolFormat::of(&ChatTemplate::new(TEMPLATE).unwrap()).unwrap();
    let channels = format.channels(&tokenizer, &ids(&tokenizer, PROMPT));
    let calls = Calls::new(format, &tokenizer).in_channels(channels);
    let schema = serde_json::json!({"type": "object", "properties": {"x": {"type": "integer"}}});
    let grammar = Grammar::Calls(Box::new(CallGrammar {
        calls: calls.clone(),
        tools: vec![Tool { name: "f".to_owned(), parameters: Some(schema), texts: None }],
        choice,
        is_parallel: false,
        content: None,
    }));
    let constraints = Constraints::new(Arc::clone(&tokenizer)).unwrap();
    let constraint = constraints.compile(&grammar).unwrap();
    let preamble = channels.and_then(|channels| channels.preamble(&tokenizer));
    let preamble = preamble.map(|preamble| Preamble { n_max, ..preamble });
    let n_vocab = tokenizer.n_vocab();
    let mut sampler = Sampler::new(Sampling::default(), 0, &[], n_vocab)
        .under(Some(constraint), preamble)
        .in_channels(channels);
    let mut splitter = Splitter::new(preamble, Some(calls)).in_channels(channels);
    let mut decoder = text::StreamDecoder::verbatim();
    let (mut answer, mut parts) = (String::new(), Vec::new());
    let end = ids(&tokenizer, "<|end|>")[0];
    let wish = ids(&tokenizer, wish);
    let mut scratch = SamplerScratch::default();
    let mut wished = wish.iter().copied().peekable();
    // A token that could not be written is still wanted next.
    for pos in 0..200 {
        let Some(&next) = wished.peek() else { break };
        let mut logits = vec![0.0; n_vocab];
        (logits[next as usize], logits[end as usize]) = (9.0, 5.0);
        let id = sampler.choose(&logits, pos, &mut scratch).unwrap();
        if id == next {
            wished.next();
        }
        sampler.accept(id, &tokenizer);
        sampler.find_forced();
        answer.push_str(&String::from_utf8_lossy(tokenizer.token_bytes(id)));
        let mut text = String::new();
        decoder.push(&tokenizer, id, &mut text);
        splitter.push_token(id, &text, &mut parts);
        if tokenizer.is_end_of_generation(id) || sampler.is_complete() {
            break;
        }
    }
    (answer, parts, sampler.n_preamble())
}

const THOUGHT: &str = "<|channel|>analysis<|message|>Hm";
const NEXT: &str = "<|end|><|start|>assistant";
const CALL: &str = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>";

#[test]
fn a_call_within_the_reasoning_keeps_to_its_schema() {
    // With all marks in their places it is as it is wished.
    let right = [THOUGHT, NEXT, CALL, "{\"x\":7}"].concat();
    assert_eq!(write(ToolChoice::Auto, None, &right).0, right);
    // With the end left out, it is put in.
    let short = [THOUGHT, CALL, "{\"x\":7}"].concat();
    assert_eq!(write(ToolChoice::Auto, None, &short).0, right);
    let (answer, parts, _) = write(ToolChoice::Auto, None, &[THOUGHT, CALL, "{bad}"].concat());
    assert!(answer.starts_with(&[THOUGHT, NEXT, CALL, "{"].concat()), "{answer}");
    assert!(!answer.contains("{b"), "{answer}");
    assert!(parts.contains(&Part::CallBegin("f".to_owned())), "{parts:?}");
    for mark in MARKS.into_iter().filter(|&mark| mark != "<|end|>") {
        let (answer, ..) = write(ToolChoice::Auto, None, &[THOUGHT, mark, "x"].concat());
        assert!(answer.starts_with(&[THOUGHT, "<|end|>"].concat()), "{mark}: {answer}");
    }
}

#[test]
fn several_trains_of_thought_have_one_budget_and_are_counted() {
    let last = "<|channel|>final<|message|>So";
    let twice = [THOUGHT, NEXT, THOUGHT, NEXT, last].concat();
    let begin = ids(&tokenizer(), THOUGHT).len() as u32 - 2;
    let next = ids(&tokenizer(), NEXT).len() as u32;
    for choice in [ToolChoice::None, ToolChoice::Auto] {
        let (answer, parts, n_preamble) = write(choice, None, &twice);
        assert_eq!((answer, n_preamble), (twice.clone(), 2 * (begin + 2 + next)));
        assert_eq!(parts.last(), Some(&Part::Text("So".to_owned())), "{parts:?}");
        // Of the second there is one token left.
        let (answer, _, n_preamble) = write(choice, Some(3), &twice);
        let cut = [THOUGHT, NEXT, "<|channel|>analysis<|message|>H", NEXT].concat();
        assert!(answer.starts_with(&cut), "{answer}");
        assert_eq!(n_preamble, 2 * (begin + next) + 3);
        // None is left: another one cannot begin.
        let (answer, _, n_preamble) = write(choice, Some(2), &twice);
        assert!(answer.starts_with(&[THOUGHT, NEXT, "<|channel|>"].concat()), "{answer}");
        assert!(!answer[THOUGHT.len()..].contains("analysis"), "{answer}");
        assert_eq!(n_preamble, begin + 2 + next);
    }
}
