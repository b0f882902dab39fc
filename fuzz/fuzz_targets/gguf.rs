//! Any bytes as a GGUF file. What opens must be usable without a panic, and what is written from
//! it must open again and say the same.

#![no_main]

use gguf::Gguf;
use gguf::write::Writer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let file = match Gguf::from_bytes(bytes.to_vec()) {
        Ok(file) => file,
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
            return;
        }
    };
    let mut writer = Writer::new();
    writer.version(file.version());
    for (key, value) in file.metadata().iter() {
        let metadata = file.metadata();
        let _ = (metadata.u64(key), metadata.f32(key), metadata.bool(key), metadata.str(key));
        let _ = (metadata.f32s(key), metadata.i32s(key), metadata.u32s(key), metadata.bools(key));
        if let Ok(Some(strings)) = metadata.strings(key) {
            let n_bytes: usize = strings.iter().map(str::len).sum();
            assert_eq!(n_bytes, strings.n_bytes());
            assert!(strings.get(strings.len()).is_none());
        }
        writer.metadata(key, value.clone());
    }
    for tensor in file.tensors() {
        let data = file.data(tensor);
        assert_eq!(data.len(), tensor.n_bytes());
        assert_eq!(tensor.n_rows() * tensor.n_cols(), tensor.n_elements());
        writer.tensor(&tensor.name, &tensor.shape, tensor.ty, data);
    }
    // The writer takes an alignment as u32 only, the reader as any integer.
    let Ok(written) = writer.finish() else { return };
    let again = Gguf::from_bytes(written).expect("what the writer wrote opens");
    assert_eq!(again.metadata().len(), file.metadata().len());
    for (tensor, copy) in file.tensors().iter().zip(again.tensors()) {
        assert_eq!((&tensor.name, &tensor.shape, tensor.ty), (&copy.name, &copy.shape, copy.ty));
        assert_eq!(file.data(tensor), again.data(copy));
    }
});
