//! What the writer writes, the reader reads: whole and split, both versions, any value.

#![allow(clippy::unwrap_used)] // the helpers of tests, as the tests

use gguf::write::Writer;
use gguf::{Array, Gguf, Strings, TensorType, Value};
use proptest::collection::vec;
use proptest::prelude::*;

/// A writer with everything that a file says.
fn copy_of(file: &Gguf) -> Writer<'_> {
    let mut writer = Writer::new();
    writer.version(file.version());
    for (key, value) in file.metadata().iter() {
        writer.metadata(key, value.clone());
    }
    for tensor in file.tensors() {
        writer.tensor(&tensor.name, &tensor.shape, tensor.ty, file.data(tensor));
    }
    writer
}

/// Reads and writes again; the bytes must be the same, which also compares NaNs.
fn check_round_trip(writer: &Writer<'_>) -> Gguf {
    let bytes = writer.finish().unwrap();
    let file = Gguf::from_bytes(bytes.clone()).unwrap();
    assert!(copy_of(&file).finish().unwrap() == bytes, "a second writing differs");
    file
}

#[test]
fn every_tensor_type_and_dimension_comes_back() {
    for version in [2, 3] {
        let mut writer = Writer::new();
        writer.version(version);
        for (idx, ty) in TensorType::ALL.iter().enumerate() {
            let shape = [2, 1, 3, 2 * ty.block_len()];
            let shape = &shape[idx % 4..]; // 4, 3, 2 and 1 dimensions
            let n_blocks: usize = shape.iter().product::<usize>() / ty.block_len();
            let n_bytes = n_blocks * ty.block_bytes();
            writer.tensor(ty.name(), shape, *ty, vec![idx as u8; n_bytes]);
        }
        let file = check_round_trip(&writer);
        assert_eq!(file.version(), version);
        assert_eq!(file.tensors().len(), TensorType::ALL.len());
        for (idx, ty) in TensorType::ALL.iter().enumerate() {
            let tensor = file.tensor(ty.name()).unwrap();
            assert_eq!((tensor.ty, tensor.shape.len()), (*ty, 4 - idx % 4));
            assert!(file.data(tensor).iter().all(|&byte| byte == idx as u8));
        }
    }
}

#[test]
fn an_alignment_of_its_own_takes_effect() {
    let mut writer = Writer::new();
    writer.metadata("general.alignment", 4096_u32);
    writer.tensor("a", &[1], TensorType::F32, vec![1; 4]);
    writer.tensor("b", &[1], TensorType::F32, vec![2; 4]);
    let file = check_round_trip(&writer);
    assert_eq!(file.n_bytes(), 3 * 4096);
    assert_eq!(file.data(file.tensor("b").unwrap()), [2; 4]);
}

#[test]
fn a_split_file_opens_by_each_of_its_parts() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new();
    writer.metadata("general.architecture", "llama");
    let names = ["a", "b", "c", "d", "e"];
    for (idx, name) in names.iter().enumerate() {
        writer.tensor(name, &[2, 4], TensorType::F16, vec![idx as u8; 16]);
    }
    let paths = writer.write_split(dir.path(), "tiny", 2).unwrap();
    assert!(paths[2].ends_with("tiny-00003-of-00003.gguf"));
    for path in &paths {
        let file = Gguf::open(path).unwrap();
        assert_eq!(file.files(), paths);
        assert_eq!(file.metadata().str("general.architecture").unwrap(), Some("llama"));
        let found: Vec<_> = file.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(found, names);
        for (idx, tensor) in file.tensors().iter().enumerate() {
            assert_eq!(file.data(tensor), [idx as u8; 16]);
        }
        let n_bytes: u64 = paths.iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(file.n_bytes(), n_bytes);
    }
}

#[cfg(unix)]
#[test]
fn parts_are_what_was_opened_whatever_bears_their_names_now() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::new();
    writer.metadata("general.architecture", "llama");
    for name in ["a", "b"] {
        writer.tensor(name, &[2, 4], TensorType::F16, vec![7; 16]);
    }
    let paths = writer.write_split(dir.path(), "tiny", 1).unwrap();
    let file = Gguf::open(&paths[0]).unwrap();
    let opened: Vec<_> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    for path in &paths {
        let other = dir.path().join("other");
        std::fs::write(&other, "another model").unwrap();
        std::fs::rename(&other, path).unwrap();
    }
    assert!(file.parts().eq(opened.iter().map(Vec::as_slice)));
}

#[test]
fn the_writer_refuses_what_no_file_can_hold() {
    #[track_caller]
    fn check(fill: impl Fn(&mut Writer<'static>), expected: &str) {
        let mut writer = Writer::new();
        fill(&mut writer);
        let error = writer.finish().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let f32 = TensorType::F32;
    check(|w| _ = w.version(1), "header: version 1, expected 2 or 3");
    check(|w| _ = w.metadata("", 1_u8), r#"metadata key "": name of 0 bytes"#);
    check(|w| _ = w.metadata("a", 1_u8).metadata("a", 2_u8), r#"metadata key "a": given twice"#);
    check(|w| _ = w.metadata("general.alignment", 24_u32), "alignment 24, expected a power of two");
    check(|w| _ = w.tensor("w", &[], f32, vec![]), r#"tensor "w": 0 dimensions"#);
    check(|w| _ = w.tensor("w", &[1; 5], f32, vec![0; 4]), "5 dimensions, expected 1 to 4");
    check(|w| _ = w.tensor("w", &[2], f32, vec![0; 7]), "7 bytes, expected 8 for [2] of F32");
    check(|w| _ = w.tensor("w", &[0], f32, vec![]), "shape [0], expected no dimension of 0");
    check(|w| _ = w.tensor("w", &[31], TensorType::Q8_0, vec![]), "multiple of the 32 in a block");
    let deep = (0..5).fold(Array::U8(vec![]), |inner, _| Array::Nested(vec![inner]));
    check(move |w| _ = w.metadata("a", deep.clone()), "arrays lie in each other 6 deep");
}

#[test]
fn files_that_are_none_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let error = Gguf::open(&dir.path().join("none.gguf")).unwrap_err().to_string();
    assert!(error.contains("none.gguf: cannot open: "), "{error}");
    let error = Gguf::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("file: found a directory, expected a regular file"), "{error}");
    if cfg!(target_os = "linux") {
        let error = Gguf::open("/dev/zero".as_ref()).unwrap_err().to_string();
        assert!(error.contains("found a device or pipe, expected a regular file"), "{error}");
    }
}

fn any_string() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-zé字\u{1f600}\n ]{0,12}").unwrap()
}

fn any_array() -> impl Strategy<Value = Array> {
    let leaf = prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(Array::U8),
        vec(any::<i8>(), 0..9).prop_map(Array::I8),
        vec(any::<u16>(), 0..9).prop_map(Array::U16),
        vec(any::<i16>(), 0..9).prop_map(Array::I16),
        vec(any::<u32>(), 0..9).prop_map(Array::U32),
        vec(any::<i32>(), 0..9).prop_map(Array::I32),
        vec(any::<f32>(), 0..9).prop_map(Array::F32),
        vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        vec(any_string(), 0..9).prop_map(|x| Array::Strings(x.iter().collect::<Strings>())),
        vec(any::<u64>(), 0..9).prop_map(Array::U64),
        vec(any::<i64>(), 0..9).prop_map(Array::I64),
        vec(any::<f64>(), 0..9).prop_map(Array::F64),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| vec(inner, 0..4).prop_map(Array::Nested))
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<f32>().prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        any_string().prop_map(Value::String),
        any_array().prop_map(Value::Array),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<f64>().prop_map(Value::F64),
    ]
}

/// A small file with any values and two tensors.
fn file_of(values: &[Value]) -> Vec<u8> {
    let mut writer = Writer::new();
    for (idx, value) in values.iter().enumerate() {
        writer.metadata(&format!("key.{idx}"), value.clone());
    }
    writer.tensor("blk.0.weight", &[2, 32], TensorType::Q4_0, vec![7; 36]);
    writer.tensor("output.weight", &[3], TensorType::F32, vec![8; 12]);
    writer.finish().unwrap()
}

/// Whatever opened can be used: no extent, count or string may panic.
fn touch_all(file: &Gguf) -> usize {
    let data: usize = file.tensors().iter().map(|tensor| file.data(tensor).len()).sum();
    let text: usize = file.metadata().iter().map(|(_, value)| value.to_string().len()).sum();
    let keys: Vec<&str> = file.metadata().iter().map(|(key, _)| key).collect();
    for key in keys {
        let metadata = file.metadata();
        let _ = (metadata.u32(key), metadata.f32(key), metadata.f32s(key), metadata.i32s(key));
        if let Ok(Some(strings)) = metadata.strings(key) {
            assert_eq!(strings.iter().map(str::len).sum::<usize>(), strings.n_bytes());
            assert!(strings.get(strings.len()).is_none());
        }
    }
    data + text
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_comes_back(values in vec(any_value(), 0..8)) {
        let file = Gguf::from_bytes(file_of(&values)).unwrap();
        let found: Vec<_> = file.metadata().iter().map(|(_, value)| format!("{value:?}")).collect();
        let expected: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
        prop_assert_eq!(found, expected);
        prop_assert!(copy_of(&file).finish().unwrap() == file_of(&values));
    }

    #[test]
    fn a_changed_file_never_panics(
        values in vec(any_value(), 0..4),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = file_of(&values);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(file) = Gguf::from_bytes(bytes) {
            touch_all(&file);
        }
    }

    #[test]
    fn a_cut_file_is_refused(values in vec(any_value(), 0..4), at in any::<prop::sample::Index>()) {
        let mut bytes = file_of(&values);
        // The padding behind the last tensor may be missing; everything else is needed.
        let needed = bytes.len() - (32 - 12);
        bytes.truncate(at.index(needed));
        prop_assert!(Gguf::from_bytes(bytes).is_err());
    }

    #[test]
    fn noise_after_the_magic_never_panics(noise in vec(any::<u8>(), 0..200)) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(noise);
        if let Ok(file) = Gguf::from_bytes(bytes) {
            touch_all(&file);
        }
    }
}
