//! The attacks: each a file that must be refused, and a part of the message it is refused with.

use crate::forge::{Forge, value_type as ty};

/// One attack.
pub(crate) struct Attack {
    /// The file's name in `attacks/`.
    pub(crate) name: &'static str,
    /// The whole file.
    pub(crate) bytes: Vec<u8>,
    /// What the message must contain; `None` for a file that only helps another one.
    pub(crate) message: Option<&'static str>,
}

fn attack(name: &'static str, file: Forge, message: &'static str) -> Attack {
    Attack { name, bytes: file.bytes(), message: Some(message) }
}

/// All of them.
pub(crate) fn all() -> Vec<Attack> {
    let directories = [headers(), truncations(), counts(), values(), nesting()];
    let data = [truncations_of_tensors(), tensors(), extents(), splits()];
    directories.into_iter().chain(data).flatten().collect()
}

fn headers() -> Vec<Attack> {
    let versioned = |version: [u8; 4]| Forge::default().raw(b"GGUF").raw(&version).u64(0).u64(0);
    vec![
        attack("empty.gguf", Forge::default(), "header: the magic takes 4 bytes at byte 0"),
        attack(
            "magic-of-a-zip.gguf",
            Forge::default().raw(b"PK\x03\x04").u64(0).u64(0),
            r#"header: file begins with "PK\x03\x04", expected "GGUF""#,
        ),
        attack(
            "version-1.gguf",
            versioned(1_u32.to_le_bytes()),
            "header: version 1, expected 2 or 3",
        ),
        attack(
            "version-4.gguf",
            versioned(4_u32.to_le_bytes()),
            "header: version 4, expected 2 or 3",
        ),
        attack("version-0.gguf", versioned([0; 4]), "header: version 0, expected 2 or 3"),
        attack(
            "big-endian.gguf",
            versioned(3_u32.to_be_bytes()),
            "header: big-endian file of version 3, expected little-endian",
        ),
    ]
}

/// One file for each structure of header and metadata that a file may end within.
fn truncations() -> Vec<Attack> {
    let magic = Forge::default().raw(b"GGUF");
    // Counts are held against the bytes that follow, so the ends below need some to follow.
    let entry = || Forge::header(0, 1);
    vec![
        attack("cut-in-magic.gguf", Forge::default().raw(b"GG"), "the magic takes 4 bytes"),
        attack("cut-in-version.gguf", magic.clone().raw(&[3]), "the version takes 4 bytes"),
        attack(
            "cut-in-n-tensors.gguf",
            magic.clone().u32(3).u32(0),
            "the number of tensors takes 8 bytes at byte 8, but the file ends after 4 more",
        ),
        attack(
            "cut-in-n-entries.gguf",
            magic.u32(3).u64(0).u32(0),
            "the number of metadata entries takes 8 bytes at byte 16",
        ),
        attack(
            "cut-in-key-length.gguf",
            Forge::header(0, 2).key("general.name", ty::U8).u8(1).raw(&[4, 0, 0, 0, 0, 0, 0]),
            "metadata entry 1 of 2: the length of the key takes 8 bytes at byte 49",
        ),
        attack(
            "cut-in-key.gguf",
            entry().u64(99).raw(b"general.name"),
            "metadata entry 0 of 1: the key takes 99 bytes at byte 32, but the file ends after 12",
        ),
        attack(
            "cut-in-value-type.gguf",
            entry().string(b"general.name").raw(&[8, 0]),
            r#"metadata key "general.name": the value type takes 4 bytes"#,
        ),
        attack(
            "cut-in-value.gguf",
            entry().key("general.file_type", ty::U32).raw(&[1, 0, 0]),
            r#"metadata key "general.file_type": the value takes 4 bytes"#,
        ),
        attack(
            "cut-in-string.gguf",
            entry().key("general.name", ty::STRING).u64(5).raw(b"Lla"),
            r#"metadata key "general.name": the string takes 5 bytes at byte 56, but the file ends after 3"#,
        ),
        attack(
            "cut-in-array-type.gguf",
            entry().key("x", ty::ARRAY).raw(&[4, 0]),
            r#"metadata key "x": the element type takes 4 bytes"#,
        ),
        attack(
            "cut-in-array-length.gguf",
            entry().key("x", ty::ARRAY).u32(ty::U32).u32(2),
            r#"metadata key "x": the array length takes 8 bytes"#,
        ),
        attack(
            "cut-in-array.gguf",
            entry().key("x", ty::ARRAY).u32(ty::U32).u64(2).u32(7).raw(&[0; 3]),
            r#"metadata key "x": the array length is 2, which takes at least 4 bytes each, but the file ends after 7 more bytes"#,
        ),
        attack(
            "cut-in-string-of-array.gguf",
            entry().key("x", ty::ARRAY).u32(ty::STRING).u64(2).string(b"abcdefgh").u64(9).raw(b"z"),
            r#"metadata key "x": a string takes 9 bytes"#,
        ),
    ]
}

/// The same within the tensor entries and the data.
fn truncations_of_tensors() -> Vec<Attack> {
    let tensor = || Forge::header(1, 0).string(b"blk.0.weight").u32(2);
    vec![
        attack(
            "cut-in-tensor-name.gguf",
            Forge::header(1, 0).u64(64).raw(&[b'n'; 40]),
            "tensor 0 of 1: the name takes 64 bytes",
        ),
        attack(
            "cut-in-n-dims.gguf",
            Forge::header(1, 0).string(&[b'n'; 30]).raw(&[1, 0]),
            "the number of dimensions takes 4 bytes",
        ),
        attack("cut-in-dims.gguf", tensor().u64(32), "a dimension takes 8 bytes"),
        attack(
            "cut-in-tensor-type.gguf",
            tensor().u64(32).u64(1).raw(&[0, 0]),
            r#"tensor "blk.0.weight": the tensor type takes 4 bytes"#,
        ),
        attack(
            "cut-in-data-offset.gguf",
            tensor().u64(32).u64(1).u32(0).u32(0),
            r#"tensor "blk.0.weight": the data offset takes 8 bytes"#,
        ),
        attack(
            "cut-in-data.gguf",
            tensor().u64(32).u64(1).u32(0).u64(0).data(127),
            r#"tensor "blk.0.weight": 128 bytes of data at offset 0 end behind the file, which has 127"#,
        ),
        attack(
            "cut-before-data.gguf",
            tensor().u64(32).u64(1).u32(0).u64(0),
            r#"tensor "blk.0.weight": 128 bytes of data at offset 0 end behind the file, which has 0"#,
        ),
    ]
}

/// Counts and lengths that would allocate the machine away.
fn counts() -> Vec<Attack> {
    let entry = || Forge::header(0, 1);
    vec![
        attack(
            "n-tensors-huge.gguf",
            Forge::header(u64::MAX, 0),
            "header: the number of tensors is 18446744073709551615, expected at most 262144",
        ),
        attack(
            "n-tensors-more-than-bytes.gguf",
            Forge::header(100_000, 0),
            "header: the number of tensors is 100000, which takes at least 33 bytes each",
        ),
        attack(
            "n-entries-huge.gguf",
            Forge::header(0, 1 << 63),
            "header: the number of metadata entries is 9223372036854775808, expected at most 65536",
        ),
        attack(
            "n-entries-more-than-bytes.gguf",
            Forge::header(0, 60_000),
            "header: the number of metadata entries is 60000, which takes at least 14 bytes each",
        ),
        attack(
            "key-length-huge.gguf",
            entry().u64(u64::MAX).raw(&[b'k'; 32]),
            "metadata entry 0 of 1: the key takes 18446744073709551615 bytes, expected at most 65535",
        ),
        attack(
            "string-length-huge.gguf",
            entry().key("general.name", ty::STRING).u64(1 << 62).raw(b"Llama"),
            r#"metadata key "general.name": the string takes 4611686018427387904 bytes, expected at most"#,
        ),
        attack(
            "string-length-more-than-bytes.gguf",
            entry().key("general.name", ty::STRING).u64(1 << 20).raw(b"Llama"),
            r#"metadata key "general.name": the string takes 1048576 bytes at byte 56, but"#,
        ),
        attack(
            "array-length-huge.gguf",
            entry().key("x", ty::ARRAY).u32(ty::F32).u64(u64::MAX / 4 + 1),
            r#"metadata key "x": the array length is 4611686018427387904, expected at most"#,
        ),
        attack(
            "array-length-more-than-bytes.gguf",
            entry().key("x", ty::ARRAY).u32(ty::F32).u64(1 << 26).u64(0),
            r#"metadata key "x": the array length is 67108864, which takes at least 4 bytes each"#,
        ),
        attack(
            "string-array-length-more-than-bytes.gguf",
            entry().key("x", ty::ARRAY).u32(ty::STRING).u64(1 << 20).u64(0),
            r#"metadata key "x": the array length is 1048576, which takes at least 8 bytes each"#,
        ),
        attack(
            "tensor-name-long.gguf",
            Forge::header(1, 0).tensor(&"n".repeat(513), &[1], 0, 0).data(4),
            "tensor 0 of 1: the name takes 513 bytes, expected at most 512",
        ),
    ]
}

fn values() -> Vec<Attack> {
    let entry = || Forge::header(0, 1);
    let not_utf8 = b"gener\xff\xfel";
    vec![
        attack(
            "key-not-utf8.gguf",
            entry().string(not_utf8).u32(ty::U8).u8(1),
            "metadata entry 0 of 1: the key is not UTF-8 at byte 37",
        ),
        attack(
            "key-empty.gguf",
            entry().key("", ty::U32).u32(1),
            "metadata entry 0 of 1: empty key",
        ),
        attack(
            "key-twice.gguf",
            Forge::header(0, 2).key("a.b", ty::U32).u32(1).key("a.b", ty::U32).u32(2),
            r#"metadata key "a.b": stands in the file twice"#,
        ),
        attack(
            "key-with-controls.gguf",
            entry().key("\u{1b}[2J\n", 77).u32(1),
            r#"metadata key "\u{1b}[2J\n": value type 77, expected 0 to 12"#,
        ),
        attack(
            "value-type-unknown.gguf",
            entry().key("x", 13).u64(1),
            r#"metadata key "x": value type 13, expected 0 to 12"#,
        ),
        attack(
            "element-type-unknown.gguf",
            entry().key("x", ty::ARRAY).u32(u32::MAX).u64(0),
            r#"metadata key "x": element type 4294967295, expected 0 to 12"#,
        ),
        attack(
            "bool-of-2.gguf",
            entry().key("x", ty::BOOL).u8(2),
            r#"metadata key "x": bool is 2, expected 0 or 1"#,
        ),
        attack(
            "bool-of-255-in-array.gguf",
            entry().key("x", ty::ARRAY).u32(ty::BOOL).u64(3).raw(&[0, 1, 255]),
            r#"metadata key "x": bool is 255, expected 0 or 1"#,
        ),
        attack(
            "string-not-utf8.gguf",
            entry().key("general.name", ty::STRING).string(b"Ll\xc3"),
            r#"metadata key "general.name": the string is not UTF-8 at byte 58"#,
        ),
        attack(
            "string-of-array-not-utf8.gguf",
            entry().key("x", ty::ARRAY).u32(ty::STRING).u64(3).string(b"a").string(b"\xff").u64(0),
            r#"metadata key "x": string 1 of the array is not UTF-8"#,
        ),
        // Each half alone is not UTF-8; only the buffer as a whole is.
        attack(
            "string-of-array-half-a-character.gguf",
            entry().key("x", ty::ARRAY).u32(ty::STRING).u64(2).string(b"a\xc3").string(b"\xa9b"),
            r#"metadata key "x": string 0 of the array is not UTF-8"#,
        ),
    ]
}

fn nesting() -> Vec<Attack> {
    let nested = |depth: usize| {
        let key = Forge::header(0, 1).key("x", ty::ARRAY);
        (0..depth).fold(key, |file, _| file.u32(ty::ARRAY).u64(1)).u32(ty::U8).u64(0)
    };
    let inner = (0..4_097).fold(Vec::new(), |mut bytes, _| {
        bytes.extend([0; 12]); // an empty array of u8
        bytes
    });
    vec![
        attack(
            "arrays-5-deep.gguf",
            nested(4),
            r#"metadata key "x": arrays lie in each other deeper than 4 levels"#,
        ),
        attack(
            "arrays-10000-deep.gguf",
            nested(9_999),
            r#"metadata key "x": arrays lie in each other deeper than 4 levels"#,
        ),
        attack(
            "array-of-arrays-more-than-bytes.gguf",
            Forge::header(0, 1).key("x", ty::ARRAY).u32(ty::ARRAY).u64(1 << 16).u64(0),
            r#"metadata key "x": the array length is 65536, which takes at least 12 bytes each"#,
        ),
        attack(
            "array-of-4097-arrays.gguf",
            Forge::header(0, 1).key("x", ty::ARRAY).u32(ty::ARRAY).u64(4_097).raw(&inner),
            r#"metadata key "x": more than 4096 arrays within arrays"#,
        ),
    ]
}

fn tensors() -> Vec<Attack> {
    let one = |dims: &[u64], type_id| Forge::header(1, 0).tensor("w", dims, type_id, 0).data(256);
    vec![
        attack(
            "tensor-type-unknown.gguf",
            one(&[32], 99),
            r#"tensor "w": unknown tensor type 99, expected one that ggml defines"#,
        ),
        attack(
            "tensor-type-withdrawn.gguf",
            one(&[32], 4),
            r#"tensor "w": unknown tensor type 4, expected one that ggml defines"#,
        ),
        attack(
            "tensor-0-dims.gguf",
            one(&[], 0).raw(&[0; 16]),
            r#"tensor "w": 0 dimensions, expected 1 to 4"#,
        ),
        attack(
            "tensor-5-dims.gguf",
            one(&[1, 1, 1, 1, 1], 0),
            r#"tensor "w": 5 dimensions, expected 1 to 4"#,
        ),
        attack(
            "tensor-dim-0.gguf",
            one(&[32, 0], 0),
            r#"tensor "w": shape [0, 32], expected no dimension of 0"#,
        ),
        attack(
            "tensor-product-overflows.gguf",
            one(&[1 << 32, 1 << 32], 0),
            r#"tensor "w": shape [4294967296, 4294967296] of F32 is larger than any memory"#,
        ),
        attack(
            "tensor-bytes-overflow.gguf",
            one(&[1 << 62], 0),
            r#"tensor "w": shape [4611686018427387904] of F32 is larger than any memory"#,
        ),
        attack(
            "tensor-row-not-of-blocks.gguf",
            one(&[33, 2], 2),
            r#"tensor "w": rows of 33 elements, expected a multiple of the 32 in a block of Q4_0"#,
        ),
        attack(
            "tensor-name-not-utf8.gguf",
            Forge::header(1, 0).string(b"\xc0\x80").u32(1).u64(1).u32(0).u64(0).data(4),
            "tensor 0 of 1: the name is not UTF-8 at byte 32",
        ),
        attack(
            "tensor-name-empty.gguf",
            Forge::header(1, 0).tensor("", &[8], 0, 0).data(32),
            "tensor 0 of 1: empty name",
        ),
        attack(
            "tensor-name-twice.gguf",
            Forge::header(2, 0).tensor("w", &[8], 0, 0).tensor("w", &[8], 0, 32).data(64),
            r#"tensor "w": stands in the file twice"#,
        ),
    ]
}

fn extents() -> Vec<Attack> {
    let aligned = |alignment: u32, offset| {
        let file = Forge::header(1, 1).key("general.alignment", ty::U32).u32(alignment);
        file.tensor("w", &[8], 0, offset).data(128)
    };
    let one = |offset| Forge::header(1, 0).tensor("w", &[8], 0, offset).data(64);
    vec![
        attack(
            "alignment-0.gguf",
            aligned(0, 0),
            r#"metadata key "general.alignment": alignment 0, expected a power of two up to 65536"#,
        ),
        attack(
            "alignment-24.gguf",
            aligned(24, 0),
            r#"metadata key "general.alignment": alignment 24, expected a power of two"#,
        ),
        attack(
            "alignment-huge.gguf",
            aligned(1 << 31, 0),
            r#"metadata key "general.alignment": alignment 2147483648, expected a power of two"#,
        ),
        attack(
            "alignment-a-string.gguf",
            Forge::header(0, 1).key("general.alignment", ty::STRING).string(b"32"),
            r#"metadata key "general.alignment": found string, expected u32"#,
        ),
        attack(
            "alignment-negative.gguf",
            Forge::header(0, 1).key("general.alignment", ty::I32).u32(-32_i32 as u32),
            r#"metadata key "general.alignment": found i32 -32, expected u32"#,
        ),
        attack(
            "offset-not-aligned.gguf",
            one(4),
            r#"tensor "w": data offset 4, expected a multiple of 32"#,
        ),
        attack(
            "offset-behind-file.gguf",
            one(64),
            r#"tensor "w": 32 bytes of data at offset 64 end behind the file, which has 64"#,
        ),
        attack(
            "offset-overflows.gguf",
            one(u64::MAX - 31),
            r#"tensor "w": 32 bytes of data at offset 18446744073709551584 end behind the file"#,
        ),
        attack(
            "tensors-overlap.gguf",
            Forge::header(2, 0).tensor("a", &[16], 0, 0).tensor("b", &[16], 0, 32).data(128),
            r#"tensor "b": its data overlaps that of tensor "a""#,
        ),
        attack(
            "tensors-overlap-against-order.gguf",
            Forge::header(2, 0).tensor("a", &[8], 0, 64).tensor("b", &[24], 0, 0).data(128),
            r#"tensor "a": its data overlaps that of tensor "b""#,
        ),
        attack(
            "tensors-share-data.gguf",
            Forge::header(2, 0).tensor("a", &[8], 0, 0).tensor("b", &[8], 0, 0).data(128),
            "its data overlaps that of tensor",
        ),
    ]
}

/// One part of a split file with one tensor.
fn part(part_idx: u16, n_parts: u16, n_tensors: u16, tensor: &str) -> Forge {
    Forge::header(1, 3)
        .split_u16("split.no", part_idx)
        .split_u16("split.count", n_parts)
        .split_u16("split.tensors.count", n_tensors)
        .tensor(tensor, &[8], 0, 0)
        .data(32)
}

fn splits() -> Vec<Attack> {
    let second = |name, file: Forge| Attack { name, bytes: file.bytes(), message: None };
    vec![
        attack(
            "split-without-number.gguf",
            part(0, 2, 2, "a"),
            r#"split file: is part 1 of 2 but is named "split-without-number.gguf", expected a name that ends in "-00001-of-00002.gguf""#,
        ),
        attack(
            "split-wrong-number-00002-of-00002.gguf",
            part(0, 2, 2, "a"),
            r#"split file: is part 1 of 2 but is named "split-wrong-number-00002-of-00002.gguf""#,
        ),
        attack(
            "split-alone-00001-of-00002.gguf",
            part(0, 2, 2, "a"),
            "00002-of-00002.gguf: cannot",
        ),
        attack(
            "split-no-behind-count.gguf",
            part(2, 2, 2, "a"),
            r#"metadata key "split.no": 2, expected less than the 2 parts"#,
        ),
        attack(
            "split-count-huge.gguf",
            part(0, 65_535, 2, "a"),
            r#"metadata key "split.count": 65535, expected at most 4096"#,
        ),
        attack(
            "split-count-only.gguf",
            Forge::header(0, 1).split_u16("split.count", 2),
            r#"metadata key "split.no": absent, expected in a file of 2 parts"#,
        ),
        attack(
            "split-count-a-string.gguf",
            Forge::header(0, 1).key("split.count", ty::STRING).string(b"2"),
            r#"metadata key "split.count": found string, expected u32"#,
        ),
        attack(
            "split-siblings-differ-00001-of-00002.gguf",
            part(0, 2, 2, "a"),
            "found part 2 of 3 with 2 tensors in all, expected part 2 of 2 with 2 tensors in all",
        ),
        second("split-siblings-differ-00002-of-00002.gguf", part(1, 3, 2, "b")),
        attack(
            "split-sibling-whole-00001-of-00002.gguf",
            part(0, 2, 2, "a"),
            "split file: found a file that is not split, expected part 2 of 2",
        ),
        second(
            "split-sibling-whole-00002-of-00002.gguf",
            Forge::header(1, 0).tensor("b", &[8], 0, 0).data(32),
        ),
        attack(
            "split-tensors-missing-00001-of-00002.gguf",
            part(0, 2, 9, "a"),
            r#"metadata key "split.tensors.count": 9, but the parts have 2 tensors together"#,
        ),
        second("split-tensors-missing-00002-of-00002.gguf", part(1, 2, 9, "b")),
        attack(
            "split-same-tensor-00001-of-00002.gguf",
            part(0, 2, 2, "a"),
            r#"tensor "a": is in an earlier part too"#,
        ),
        second("split-same-tensor-00002-of-00002.gguf", part(1, 2, 2, "a")),
    ]
}
