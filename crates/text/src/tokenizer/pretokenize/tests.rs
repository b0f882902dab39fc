//! Words of each rule, checked by hand against the expression.

use super::{ALL, by_name};

fn check(name: &str, text: &str, expected: &[&str]) {
    let mut words = Vec::new();
    by_name(name).unwrap().split(text, &mut |word| words.push(word.to_owned()));
    assert_eq!(words, expected, "{name}: {text:?}");
}

#[test]
fn gpt2() {
    check("gpt-2", "", &[]);
    check("gpt-2", "I'm  here, 12 x", &["I", "'m", " ", " here", ",", " 12", " x"]);
    check("gpt-2", "I'M \n\n a \t", &["I", "'", "M", " \n\n", " a", " \t"]);
    check("gpt-2", "   x", &["  ", " x"]);
    check("gpt-2", "a\u{301}b", &["a", "\u{301}", "b"]);
}

#[test]
fn digits_first() {
    check("smollm", "in 1969!", &["in", " ", "1", "9", "6", "9", "!"]);
}

#[test]
fn llama3() {
    check("llama-bpe", "We'RE 12345 ok", &["We", "'RE", " ", "123", "45", " ok"]);
    check("llama-bpe", "a  \n \n  b", &["a", "  \n \n", " ", " b"]);
    check("llama-bpe", "x ==\n\ny", &["x", " ==\n\n", "y"]);
    check("llama-bpe", "\tfoo(bar)", &["\tfoo", "(bar", ")"]);
    check("llama-bpe", "'ſo", &["'ſ", "o"]);
}

#[test]
fn qwen2() {
    check("qwen2", "x12 y", &["x", "1", "2", " y"]);
    check("qwen2", "e\u{301}a", &["e", "\u{301}a"]);
    check("qwen35", "e\u{301}a!", &["e\u{301}a", "!"]);
}

#[test]
fn o200k() {
    check("gpt-4o", "HelloWorld's ABC", &["Hello", "World's", " ABC"]);
    check("gpt-4o", "a/b\n//c", &["a", "/b", "\n", "//", "c"]);
    check("gpt-4o", "x =\n/ y", &["x", " =\n/", " y"]);
    check("gpt-4o", "ªBC", &["ª", "BC"]);
    check("gpt-4o", "\u{301}!", &["\u{301}", "!"]);
    check("tekken", "HTTPServer12's", &["HTTPServer", "1", "2", "'s"]);
}

#[test]
fn deepseek() {
    check("deepseek-llm", "a \nb!  ", &["a", " ", "\n", "b", "!", "  "]);
    check("deepseek-llm", "x\u{3000}y 你好12", &["x", "\u{3000}", "y", " ", "你好", "1", "2"]);
    check("deepseek-coder", "f(x) 12", &["f", "(", "x", ")", " ", "1", "2"]);
    check("deepseek-v3", "f(x) 1234 日本", &["f", "(x", ")", " ", "123", "4", " ", "日本"]);
}

#[test]
fn default_rule() {
    check("default", "a+b 1234", &["a", "+", "b", " ", "123", "4"]);
}

#[test]
fn names_are_given_once() {
    let mut names: Vec<&str> = ALL.iter().flat_map(|rule| rule.names).copied().collect();
    names.sort_unstable();
    let n_names = names.len();
    names.dedup();
    assert_eq!(names.len(), n_names);
}

#[test]
fn words_are_the_text_and_long_runs_cost_linear_time() {
    let texts = [
        " ".repeat(1 << 18) + "a",
        "\n ".repeat(1 << 17) + "a",
        "a".repeat(1 << 18),
        "ªA".repeat(1 << 17),
        "\u{301}".repeat(1 << 17),
        "'".repeat(1 << 18),
        "\u{3000}".repeat(1 << 17) + "é",
    ];
    for rule in &ALL {
        for text in &texts {
            let mut joined = String::new();
            rule.split(text, &mut |word| joined.push_str(word));
            assert!(joined == *text, "{}", rule.names[0]);
        }
    }
}
