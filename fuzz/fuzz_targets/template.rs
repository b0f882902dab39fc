//! Any text as a chat template, rendered with a conversation that has tools. Whatever it computes,
//! it ends soon, within the limits of steps and output, and says so by an error.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use text::{ChatInput, ChatTemplate};

static MESSAGES: LazyLock<Value> = LazyLock::new(|| {
    json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in \"Paris\"?"},
        {"role": "assistant", "content": null, "tool_calls": [{
            "id": "c1", "type": "function",
            "function": {"name": "weather", "arguments": {"city": "Paris", "days": 2}}
        }]},
        {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "rain"},
        {"role": "user", "content": [{"type": "text", "text": "And tomorrow?"}]}
    ])
});

static TOOLS: LazyLock<Value> = LazyLock::new(|| {
    json!([{"type": "function", "function": {
        "name": "weather", "description": "<weather>",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}
    }}])
});

fuzz_target!(|source: &str| {
    let Ok(template) = ChatTemplate::new(source) else { return };
    let kwargs = Map::new();
    for (tools, add_generation_prompt) in [(None, true), (Some(&*TOOLS), false)] {
        let _ = template.render(&ChatInput {
            messages: &MESSAGES,
            tools,
            add_generation_prompt,
            kwargs: &kwargs,
            bos_token: "<s>",
            eos_token: "</s>",
            now: jiff::civil::date(2026, 2, 28).at(23, 59, 59, 0),
        });
    }
});
