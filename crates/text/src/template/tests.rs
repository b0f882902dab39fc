//! The template dialect against the conformance kit, Python's own behaviour, and hostile sources.

use std::path::PathBuf;

use jiff::civil::date;
use serde_json::{Map, Value as Json, json};

use super::{
    ChatInput, ChatTemplate, OUTPUT_BYTES_MAX, SOURCE_BYTES_MAX, STACK_BYTES_PER_STEP,
    STEPS_HERE_MAX, TemplateError,
};

/// Renders `source` with the variables of `variables` and two messages.
fn render(source: &str, variables: &Json) -> Result<String, TemplateError> {
    let messages = json!([
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
    ]);
    let none = Map::new();
    ChatTemplate::new(source)?.render(&ChatInput {
        messages: &messages,
        tools: None,
        add_generation_prompt: true,
        kwargs: variables.as_object().unwrap_or(&none),
        bos_token: "<s>",
        eos_token: "</s>",
        now: date(2026, 3, 4).at(5, 6, 7, 0),
    })
}

#[track_caller]
fn check(source: &str, variables: Json, expected: &str) {
    match render(source, &variables) {
        Ok(text) => assert_eq!(text, expected, "{source}"),
        Err(error) => panic!("{source}: {error}"),
    }
}

#[track_caller]
fn check_fails(source: &str, expected: &str) {
    match render(source, &json!({"none": null})) {
        Ok(text) => panic!("{source}: rendered {} bytes: {:.80}", text.len(), text),
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains(expected), "{source}: {message:?} lacks {expected:?}");
        }
    }
}

fn kit() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/kit");
    let kit = std::env::var_os("FREEHOLD_KIT").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let templates = kit.join("templates");
    if templates.is_dir() {
        return Some(templates);
    }
    println!("skipped: no conformance kit at {}", kit.display());
    None
}

#[test]
fn kit_cases_match_byte_for_byte() {
    let Some(folder) = kit() else { return };
    let mut failures = Vec::new();
    let mut n_cases = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jinja") {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let cases = std::fs::read_to_string(path.with_extension("json")).unwrap();
        let cases: Vec<Json> = serde_json::from_str(&cases).unwrap();
        for case in cases {
            n_cases += 1;
            let rendered = super::render_case(&source, &case.to_string());
            let fits = match (&rendered, case["text"].as_str()) {
                (Ok(text), Some(expected)) => text == expected,
                (Err(_), None) => true,
                _ => false,
            };
            if !fits {
                let place = format!("{} {}", path.display(), case["name"]);
                let expected = case["text"].as_str().unwrap_or("an error");
                failures.push(format!("{place}\n  got: {rendered:?}\n  expected: {expected:?}"));
            }
        }
    }
    assert!(n_cases > 0, "the kit has no template cases");
    assert!(failures.is_empty(), "{} of {n_cases}:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn blocks_are_trimmed_as_transformers_does() {
    check("a\n  {% if true %}\nb\n  {% endif %}\nc\n", json!({}), "a\nb\nc");
    check(
        "{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
        json!({}),
        "13",
    );
    check(
        "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
        json!({}),
        "01",
    );
    check(
        "{% generation %}\n{% set x = 1 %}{{ x }}{% endgeneration %}{{ x is defined }}",
        json!({}),
        "1False",
    );
}

#[test]
fn variables_are_those_of_transformers() {
    check("{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}", json!({}), "<s></s>True");
    check(
        "{{ tools }} {{ documents is none }} {{ tools is defined }}",
        json!({}),
        "None True True",
    );
    check("{{ bos_token }}", json!({"bos_token": "<b>"}), "<b>");
    check("{{ strftime_now('%d %b %Y %H:%M') }}", json!({}), "04 Mar 2026 05:06");
    check(
        "{{ strftime_now('%A, %B %-d, %y %I %p %j') }}",
        json!({}),
        "Wednesday, March 4, 26 05 AM 063",
    );
    check(
        "{% macro m() %}{{ strftime_now('%Y') }}{{ bos_token }}{% endmacro %}{{ m() }}",
        json!({}),
        "2026<s>",
    );
    check("[{{ unknown }}]{% for x in unknown %}{% endfor %}", json!({}), "[]");
    check_fails("{{ unknown.field }}", "undefined");
    check_fails("{{ strftime_now('%!') }}", "strftime_now");
}

#[test]
fn reserved_variables_are_refused() {
    for name in super::RESERVED {
        let result = render("x", &json!({name: 1}));
        assert!(matches!(result, Err(TemplateError::Reserved { name: n }) if n == name));
    }
}

#[test]
fn tojson_writes_what_json_dumps_writes() {
    let variables = json!({
        "v": {"b": [1, 2.0, null, true], "a": "<é\u{1F600}\"\\\n\u{1}\u{7f}>", "e": [], "o": {}},
    });
    check(
        "{{ v | tojson }}",
        variables.clone(),
        "{\"b\": [1, 2.0, null, true], \
         \"a\": \"<é\u{1F600}\\\"\\\\\\n\\u0001\u{7f}>\", \"e\": [], \"o\": {}}",
    );
    check(
        "{{ v | tojson(indent=2) }}",
        json!({"v": {"b": [1, {"c": []}], "a": {}}}),
        "{\n  \"b\": [\n    1,\n    {\n      \"c\": []\n    }\n  ],\n  \"a\": {}\n}",
    );
    check(
        "{{ v.a | tojson(ensure_ascii=true) }}",
        variables,
        "\"<\\u00e9\\ud83d\\ude00\\\"\\\\\\n\\u0001\\u007f>\"",
    );
    check(
        "{{ v | tojson(sort_keys=true, separators=(',', ':')) }}",
        json!({"v": {"b": 1, "a": [1, 2]}}),
        "{\"a\":[1,2],\"b\":1}",
    );
    check(
        "{{ [1e5, 1e16, 1e-7, 12345678901234567890] | tojson }}",
        json!({}),
        "[100000.0, 1e+16, 1e-07, 12345678901234567890]",
    );
    check("{{ messages[1:] | tojson }}", json!({}), "[{\"role\": \"user\", \"content\": \"U\"}]");
    check("{{ {2: none, true: 'x'} | tojson }}", json!({}), "{\"2\": null, \"true\": \"x\"}");
    check("{{ (1, 2) | tojson(none, 1) }}", json!({}), "[\n 1,\n 2\n]");
    check_fails("{{ unknown | tojson }}", "undefined");
    check_fails("{{ messages | map(attribute='role') | tojson }}", "iterator");
    check_fails("{{ messages | tojson(indent=100000) }}", "indent");
    check_fails("{{ messages | tojson(html=1) }}", "html");
}

#[test]
fn generators_are_not_lists() {
    check("{{ messages | map(attribute='role') | list }}", json!({}), "['system', 'user']");
    check("{{ messages | selectattr('role', 'equalto', 'x') | list | length }}", json!({}), "0");
    check("{{ 'y' if messages | selectattr('role', 'equalto', 'x') else 'n' }}", json!({}), "y");
    check("{{ messages | map(attribute='role') | join('+') }}", json!({}), "system+user");
    check(
        "{{ (messages | rejectattr('role', 'equalto', 'user') | first).content }}",
        json!({}),
        "S",
    );
    check(
        "{{ [1, 2, 3] | select('odd') | list }}{{ [1, 2] | reject('odd') | list }}",
        json!({}),
        "[1, 3][2]",
    );
    check_fails("{{ messages | map(attribute='role') | length }}", "");
}

#[test]
fn slices_are_lists() {
    check(
        "{% set m = messages[1:] %}{{ m[0].role }}{{ m[-1].role }}{{ m | length }}",
        json!({}),
        "useruser1",
    );
    check(
        "{{ (messages[::-1] + [1]) | length }}{{ messages[1:] is sequence }}",
        json!({}),
        "3True",
    );
    check("{{ messages[:-1][0]['content'] }}{{ messages[2:] | tojson }}", json!({}), "S[]");
}

#[test]
fn python_methods_answer_as_in_python() {
    check(
        "{{ 'a.b.c'.rsplit('.', 1) }}{{ ' a  b '.rsplit() }}",
        json!({}),
        "['a.b', 'c']['a', 'b']",
    );
    check("{{ 'a b  c'.rsplit(none, 1) }}", json!({}), "['a b', 'c']");
    check("{{ 'xay'.removeprefix('x').removesuffix('y') }}", json!({}), "a");
    check(
        "{{ 'a=b=c'.partition('=') }}{{ 'a=b=c'.rpartition('=') }}",
        json!({}),
        "('a', '=', 'b=c')('a=b', '=', 'c')",
    );
    check(
        "{{ 'ab'.partition('=') }}{{ 'ab'.rpartition('=') }}",
        json!({}),
        "('ab', '', '')('', '', 'ab')",
    );
    check("{{ '-7'.zfill(4) }}{{ 'héb'.index('b') }}", json!({}), "-0072");
    check("{{ 'a</think>b'.split('</think>')[-1].lstrip('\\n') }}", json!({}), "b");
    check("{{ {'a': 1}.get('b', 2) }}{{ {'a': 1}.items() | list }}", json!({}), "2[('a', 1)]");
    check(
        "{{ 'x' ~ none ~ true ~ 1.0 ~ [1, 'a'] ~ {'k': none} }}",
        json!({}),
        "xNoneTrue1.0[1, 'a']{'k': None}",
    );
    check_fails("{{ 'ab'.index('x') }}", "not found");
    check_fails("{{ 'x'.nonsense() }}", "nonsense");
    check_fails("{{ messages.append(1) }}", "append");
}

#[test]
fn python_type_errors_are_errors() {
    check_fails("{{ 'a' + none }}", "+");
    check_fails("{{ 'a' + messages }}", "+");
    check_fails("{{ 'a' in none }}", "");
    check_fails("{% for x in none %}{% endfor %}", "");
    check_fails("{{ 'a' + 1 }}", "+");
}

#[test]
fn failures_say_where_and_what() {
    let refused = render("{{ raise_exception('No ' ~ 'tools') }}", &json!({}));
    assert!(matches!(refused, Err(TemplateError::Refused { message }) if message == "No tools"));
    check_fails(
        "{% macro m() %}{{ raise_exception('in a macro') }}{% endmacro %}{{ m() }}",
        "refuses this conversation: in a macro",
    );
    check_fails("a\nb{% if %}", "line 2");
    check_fails("a\n\n{{ messages.x.y }}", "line 3");
    check_fails("{% include 'x' %}", "");
    assert!(matches!(
        ChatTemplate::new(&" ".repeat(SOURCE_BYTES_MAX + 1)),
        Err(TemplateError::SourceTooLong { .. })
    ));
    assert!(matches!(super::render_case("x", "{}"), Err(TemplateError::Case(_))));
    assert!(matches!(
        super::render_case("x", r#"{"messages": [], "now": "today"}"#),
        Err(TemplateError::Case(_))
    ));
}

#[test]
fn hostile_templates_end_with_an_error() {
    let doubling = |body: &str| {
        let start = "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(64) %}";
        format!("{start}{body}{{% endfor %}}")
    };
    for source in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}".to_owned(),
        doubling("{% set n.x = n.x ~ n.x %}"),
        doubling("{% set n.x = n.x + n.x %}"),
        doubling("{% set n.x = [n.x, n.x] %}") + "{{ n.x }}",
        doubling("{% set n.x = [n.x, n.x] %}") + "{{ n.x | tojson }}",
        doubling("{% set n.x = n.x.replace('a', n.x) %}"),
        doubling("{% set n.x = n.x.join([n.x, n.x, n.x]) %}"),
        doubling("{% set n.x = n.x | replace('a', n.x) %}"),
        "{{ 'a' * 99999999 * 9999 }}".to_owned(),
        "{{ '{:999999999}'.format(1) }}".to_owned(),
        "{{ '%999999999d' | format(1) }}".to_owned(),
        "{{ '1'.zfill(999999999999) }}".to_owned(),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        "{% for x in messages recursive %}{{ loop(messages) }}{% endfor %}".to_owned(),
        format!("{{{{ {} }}}}", "(".repeat(99_999)),
        format!("{{{{ {}1{} }}}}", "[".repeat(400), "]".repeat(400)),
        "{% if a %}".repeat(9_999),
    ] {
        let result = render(&source, &json!({}));
        assert!(result.is_err(), "{source:.80} rendered");
    }
}

/// Each of these may render or fail, but must not take the process down.
#[test]
fn long_chains_do_not_overflow_the_stack() {
    for source in [
        format!("{{{{ {}1 }}}}", "not ".repeat(99_999)),
        format!("{{{{ {}1 }}}}", "-".repeat(99_999)),
        format!("{{{{ 1{} }}}}", "|abs".repeat(99_999)),
        format!("{{{{ 1{} }}}}", " + 1".repeat(99_999)),
        format!("{{{{ a{} }}}}", ".b".repeat(99_999)),
        format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(49_999)),
        format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(49_999)),
    ] {
        let _ = render(&source, &json!({}));
    }
}

#[test]
fn deep_values_do_not_overflow_the_stack() {
    let nest = |n: usize| {
        let lists = format!("{}n.x{}", "[".repeat(20), "]".repeat(20));
        let set = format!("{{% set n.x = {lists} %}}");
        let start = "{% set n = namespace(x=[]) %}";
        format!("{start}{{% for i in range({n}) %}}{set}{{% endfor %}}")
    };
    for read in [
        "",
        "{{ n.x }}",
        "{{ n.x | tojson }}",
        "{{ n.x == [n.x] }}",
        "{{ n.x < n.x }}",
        "{{ n.x | string | length }}",
        "{{ {n.x: 1} }}",
    ] {
        // About as deep as the steps allow: half a million levels.
        let _ = render(&(nest(24_000) + read), &json!({}));
    }
    check_fails(&nest(99_999), "steps");
}

/// A template that goes as deep as the steps on the caller's thread allow, in every way.
#[test]
fn a_small_stack_is_enough_on_the_callers_thread() {
    let lists = "{% set n = namespace(x=[]) %}{% for i in range(60) %}\
                 {% set n.x = [[[[[[[[[[[[[[[[n.x]]]]]]]]]]]]]]]] %}{% endfor %}";
    for (source, is_done) in [
        (format!("{lists}{{{{ n.x | tojson | length }}}}"), false),
        (format!("{lists}{{{{ n.x == [n.x] }}}}"), false),
        ("{% macro m(a) %}{{ m([a]) }}{% endmacro %}{{ m(1) }}".to_owned(), false),
        ("{% macro m(c) %}{{ c() }}{% call m(c) %}{{ m(c) }}{% endcall %}{% endmacro %}{{ m(m) }}".to_owned(), false),
        ("{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}".to_owned(), false),
        ("{% for m in messages %}{{ m.role }}{% endfor %}".to_owned(), true),
    ] {
        let here = move || {
            let template = ChatTemplate::new(&source).unwrap();
            let (messages, kwargs) = (json!([{"role": "user"}]), Map::new());
            let input = ChatInput {
                messages: &messages,
                tools: None,
                add_generation_prompt: true,
                kwargs: &kwargs,
                bos_token: "",
                eos_token: "",
                now: date(2026, 3, 4).at(5, 6, 7, 0),
            };
            let rendered = template.render_here(&input, STEPS_HERE_MAX);
            println!("{rendered:.200?} {source:.60}");
            rendered.is_ok()
        };
        let bytes = (STEPS_HERE_MAX * STACK_BYTES_PER_STEP) as usize;
        let thread = std::thread::Builder::new().stack_size(bytes).spawn(here).unwrap();
        assert_eq!(thread.join().unwrap(), is_done);
    }
}

#[test]
fn output_is_bounded() {
    let source = "{% for m in messages %}{{ v }}{% endfor %}";
    let long = "x".repeat(OUTPUT_BYTES_MAX / 2 + 1);
    let result = render(source, &json!({"v": long}));
    assert!(
        matches!(result, Err(TemplateError::Limit { what: "bytes of output", .. })),
        "{result:.80?}"
    );
}

#[test]
fn long_conversations_render() {
    let message = json!({"role": "user", "content": "word ".repeat(400)});
    let messages = Json::from(vec![message; 1000]);
    let source = "{% for m in messages %}{% if m.role %}{{ '<|im_start|>' + m.role + '\\n' \
                  + m.content | trim + '<|im_end|>\\n' }}{% endif %}{% endfor %}";
    let text = ChatTemplate::new(source)
        .unwrap()
        .render(&ChatInput {
            messages: &messages,
            tools: None,
            add_generation_prompt: true,
            kwargs: &Map::new(),
            bos_token: "",
            eos_token: "",
            now: date(2026, 3, 4).at(0, 0, 0, 0),
        })
        .unwrap();
    assert_eq!(text.len(), 1000 * (13 + 4 + 1999 + 12 - 1));
}

#[test]
fn only_variables_that_can_matter_are_read() {
    let check = |source: &str, name: &str, expected: bool| {
        assert_eq!(ChatTemplate::new(source).unwrap().reads(name), expected, "{name} in {source}");
    };
    check("{% if enable_thinking %}x{% endif %}", "enable_thinking", true);
    check("{% if x is defined and x is false %}x{% endif %}", "x", true);
    check("{%- set x = x if x is defined else true %}{{ x }}", "x", true);
    check("{% for m in messages %}{{ m.x }}{{ y }}{% endfor %}", "y", true);
    // In text, in a comment, in a string, as an attribute, as a variable of the template's own.
    check("x {# x #}{{ 'x' }}{{ messages.x }}{{ messages['x'] }}", "x", false);
    check("{% set x = 1 %}{% set x = x + 1 %}{{ x }}", "x", false);
    check("{% for x in messages %}{{ x }}{% endfor %}", "x", false);
}

#[test]
fn a_message_that_goes_on_ends_the_rendering() {
    let chatml = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}\
                  {% if add_generation_prompt %}<assistant>{% endif %}";
    let check = |source: &str, last: Json, expected: Option<&str>| {
        let messages = json!([{"role": "user", "content": "U"}, last]);
        let none = Map::new();
        let input = ChatInput {
            messages: &messages,
            tools: None,
            add_generation_prompt: true,
            kwargs: &none,
            bos_token: "",
            eos_token: "",
            now: date(2026, 3, 4).at(5, 6, 7, 0),
        };
        match ChatTemplate::new(source).unwrap().render_open(&input) {
            Ok(text) => assert_eq!(Some(&*text), expected, "{source} {messages}"),
            Err(TemplateError::NotContinued) => assert_eq!(None, expected, "{source} {messages}"),
            Err(other) => panic!("{other}"),
        }
    };
    let said = |content: &str| json!({"role": "assistant", "content": content});
    check(chatml, said("m"), Some("<user>U</><assistant>m"));
    check(chatml, said(" </> a"), Some("<user>U</><assistant></> a"));
    check(chatml, json!({"role": "assistant"}), None);
    check(chatml, json!({"role": "assistant", "content": null}), None);
    check("{{ messages[-1].content | upper }}", said("m"), None);
    check("{{ messages[0].content }}", said("m"), None);
}
