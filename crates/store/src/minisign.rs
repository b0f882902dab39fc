//! Signatures of minisign (<https://jedisct1.github.io/minisign/>, "Signature format"): whether a
//! file is one that a publisher whose key the owner knows has signed.
//!
//! Both forms are read: of the BLAKE2b-512 of the file (`ED`, what minisign makes today) and of the
//! file itself (`Ed`), which must be read as a whole and is refused for large ones.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::error::StoreError;
use crate::hash::CHUNK_BYTES;
use crate::progress::Progress;

/// Longest file of which a signature of the old form is checked.
const WHOLE_BYTES_MAX: u64 = 1 << 30;

/// What the name of a signature's file ends with, behind that of the file.
pub(crate) const ENDING: &str = ".minisig";

/// What a trusted comment's line begins with.
const TRUSTED: &str = "trusted comment: ";

/// A publisher's public key, as minisign writes it: 56 characters of base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MinisignKey {
    id: [u8; 8],
    public: [u8; 32],
}

/// A signature and what it is of.
struct Signature {
    is_of_hash: bool,
    id: [u8; 8],
    signature: [u8; 64],
    comment: String,
    /// Of signature and comment.
    global: [u8; 64],
}

impl FromStr for MinisignKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = bytes_of::<42>(text);
        let bytes = bytes.filter(|bytes| bytes.starts_with(b"Ed"));
        let bytes = bytes.ok_or("expected a minisign public key of 56 characters".to_owned())?;
        Ok(Self { id: part(&bytes, 2), public: part(&bytes, 10) })
    }
}

impl fmt::Display for MinisignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As minisign shows it: a number, its highest byte first.
        self.id.iter().rev().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// Which of `keys` the signature `text` of the file at `path` is by, as its index; else why it is
/// by none.
///
/// # Errors
/// [`StoreError::Io`] where the file cannot be read.
pub(crate) fn verify(
    text: &str,
    path: &Path,
    keys: &[MinisignKey],
    progress: &dyn Progress,
) -> Result<Result<usize, String>, StoreError> {
    let signature = match parse(text) {
        Ok(signature) => signature,
        Err(problem) => return Ok(Err(problem)),
    };
    let Some(key_idx) = keys.iter().position(|key| key.id == signature.id) else {
        let known: Vec<String> = keys.iter().map(MinisignKey::to_string).collect();
        let found = MinisignKey { id: signature.id, public: [0; 32] };
        return Ok(Err(format!("signed with the key {found}, expected {}", known.join(" or "))));
    };
    let key = &keys[key_idx];
    let io = StoreError::io(path, "reading to check the signature");
    let message = match signature.is_of_hash {
        true => hash(path, progress).map_err(io)?.to_vec(),
        false => {
            let n_bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
            if n_bytes > WHOLE_BYTES_MAX {
                let words = "signed as a whole and longer than 1 GiB, expected a signature of its";
                return Ok(Err(format!("{words} hash (minisign -H)")));
            }
            fs::read(path).map_err(io)?
        }
    };
    let public = UnparsedPublicKey::new(&ED25519, key.public);
    let with_comment = [&signature.signature[..], signature.comment.as_bytes()].concat();
    if public.verify(&message, &signature.signature).is_err() {
        return Ok(Err(format!("it is not what the key {key} signed")));
    }
    if public.verify(&with_comment, &signature.global).is_err() {
        return Ok(Err(format!("its trusted comment is not what the key {key} signed")));
    }
    Ok(Ok(key_idx))
}

/// As many bytes as there are to be, from a line of base64.
fn bytes_of<const N: usize>(line: &str) -> Option<[u8; N]> {
    BASE64_STANDARD.decode(line.trim_end()).ok()?.try_into().ok()
}

fn parse(text: &str) -> Result<Signature, String> {
    let expected = || "expected a signature of minisign's, of four lines".to_owned();
    let lines: Vec<&str> = text.lines().collect();
    let [untrusted, signature, comment, global] = lines[..] else { return Err(expected()) };
    let comment = comment.strip_prefix(TRUSTED).ok_or_else(expected)?;
    let (signature, global) = (bytes_of::<74>(signature), bytes_of::<64>(global));
    let (Some(signature), Some(global), true) =
        (signature, global, untrusted.starts_with("untrusted comment:"))
    else {
        return Err(expected());
    };
    let is_of_hash = match &signature[..2] {
        b"ED" => true,
        b"Ed" => false,
        _ => return Err(expected()),
    };
    let (id, comment) = (part(&signature, 2), comment.to_owned());
    Ok(Signature { is_of_hash, id, signature: part(&signature, 10), comment, global })
}

/// `N` bytes from `start` on, which are there.
fn part<const N: usize>(bytes: &[u8], start: usize) -> [u8; N] {
    bytes[start..start + N].try_into().expect("the slice is of that length")
}

/// BLAKE2b-512 of a file.
fn hash(path: &Path, progress: &dyn Progress) -> io::Result<[u8; 64]> {
    let mut file = File::open(path)?;
    let mut hasher = Blake2b::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    progress.start("checking the signature", file.metadata().ok().map(|of| of.len()));
    let read = loop {
        match file.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(n_read) => {
                hasher.update(&buffer[..n_read]);
                progress.advance(n_read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    progress.finish();
    read.map(|()| hasher.finish())
}

/// The fractions of the square roots of the first primes (RFC 7693, section 2.6).
const IV: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// The order of a block's words in each round (RFC 7693, section 2.7).
const SIGMA: [[usize; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

/// BLAKE2b with 64 bytes of output and no key (RFC 7693).
struct Blake2b {
    state: [u64; 8],
    block: [u8; 128],
    n_in_block: usize,
    n_bytes: u128,
}

impl Blake2b {
    fn new() -> Self {
        let mut state = IV;
        state[0] ^= 0x0101_0000 ^ 64;
        Self { state, block: [0; 128], n_in_block: 0, n_bytes: 0 }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // The last block is compressed by `finish`, so a full one waits for more.
            if self.n_in_block == self.block.len() {
                self.compress(0);
                self.n_in_block = 0;
            }
            let n_taken = bytes.len().min(self.block.len() - self.n_in_block);
            let (taken, rest) = bytes.split_at(n_taken);
            self.block[self.n_in_block..self.n_in_block + n_taken].copy_from_slice(taken);
            self.n_in_block += n_taken;
            self.n_bytes += n_taken as u128;
            bytes = rest;
        }
    }

    fn finish(mut self) -> [u8; 64] {
        self.block[self.n_in_block..].fill(0);
        self.compress(u64::MAX);
        let mut out = [0; 64];
        for (chunk, word) in out.chunks_exact_mut(8).zip(self.state) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    fn compress(&mut self, last: u64) {
        let mut m = [0_u64; 16];
        for (word, bytes) in m.iter_mut().zip(self.block.chunks_exact(8)) {
            *word = u64::from_le_bytes(part(bytes, 0));
        }
        let mut v = [0_u64; 16];
        v[..8].copy_from_slice(&self.state);
        v[8..].copy_from_slice(&IV);
        // The low and the high half of the count.
        v[12] ^= self.n_bytes as u64;
        v[13] ^= (self.n_bytes >> 64) as u64;
        v[14] ^= last;
        for round in 0..12 {
            let s = &SIGMA[round % SIGMA.len()];
            for (i, [a, b, c, d]) in MIXES.into_iter().enumerate() {
                v[a] = v[a].wrapping_add(v[b]).wrapping_add(m[s[2 * i]]);
                v[d] = (v[d] ^ v[a]).rotate_right(32);
                v[c] = v[c].wrapping_add(v[d]);
                v[b] = (v[b] ^ v[c]).rotate_right(24);
                v[a] = v[a].wrapping_add(v[b]).wrapping_add(m[s[2 * i + 1]]);
                v[d] = (v[d] ^ v[a]).rotate_right(16);
                v[c] = v[c].wrapping_add(v[d]);
                v[b] = (v[b] ^ v[c]).rotate_right(63);
            }
        }
        for (idx, word) in self.state.iter_mut().enumerate() {
            *word ^= v[idx] ^ v[idx + 8];
        }
    }
}

/// Columns, then diagonals.
const MIXES: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;
    use crate::progress::Silent;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn blake2b(bytes: &[u8], step: usize) -> String {
        let mut hasher = Blake2b::new();
        bytes.chunks(step).for_each(|chunk| hasher.update(chunk));
        hex(&hasher.finish())
    }

    #[test]
    fn lines_have_as_many_bytes_as_they_are_to_have_in_one_way() {
        assert_eq!(bytes_of("Zg==\r"), Some(*b"f"));
        assert_eq!(bytes_of("+/+/"), Some([0xfb, 0xff, 0xbf]));
        for bad in ["", "Z", "Zg", "Zg=", "Z===", "=Zg=", "Zh==", "Zm-_", "Zm 9", "Zm8="] {
            assert_eq!(bytes_of::<1>(bad), None, "{bad}");
        }
    }

    #[test]
    fn blake2b_hashes_as_its_standard_says() {
        // RFC 7693, appendix A.
        let of_abc = "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1\
                      7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923";
        assert_eq!(blake2b(b"abc", 1), of_abc);
        let of_nothing = "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419\
                          d25e1031afee585313896444934eb04b903a685b1448b755d56f701afe9be2ce";
        assert_eq!(blake2b(b"", 1), of_nothing);
        let long: Vec<u8> = (0..1000_u32).map(|n| n as u8).collect();
        for n in [127, 128, 129, 256, 1000] {
            assert_eq!(blake2b(&long[..n], 128), blake2b(&long[..n], 7), "{n}");
        }
    }

    /// A key, and the signature of `bytes` in the form that `kind` names.
    fn signed(kind: &[u8; 2], bytes: &[u8]) -> (MinisignKey, String) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = [b"Ed", &[1, 2, 3, 4, 5, 6, 7, 8][..], pair.public_key().as_ref()].concat();
        let mut hasher = Blake2b::new();
        hasher.update(bytes);
        let hash = hasher.finish();
        let signature = pair.sign(if kind == b"ED" { &hash } else { bytes });
        let comment = "timestamp:1\tfile:m.gguf";
        let global = pair.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        let body = [&kind[..], &public[2..10], signature.as_ref()].concat();
        let text = format!(
            "untrusted comment: x\n{}\ntrusted comment: {comment}\n{}\n",
            BASE64_STANDARD.encode(&body),
            BASE64_STANDARD.encode(global.as_ref())
        );
        (BASE64_STANDARD.encode(&public).parse().unwrap(), text)
    }

    #[test]
    fn a_signature_of_either_form_is_checked() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"model").unwrap();
        for kind in [b"ED", b"Ed"] {
            let (key, text) = signed(kind, b"model");
            let check = |text: &str| verify(text, file.path(), &[key], &Silent).unwrap();
            assert_eq!(check(&text), Ok(0));
            let other = signed(kind, b"other").1;
            assert!(
                check(&other).unwrap_err().contains("not what the key 0807060504030201 signed")
            );
            let comment = text.replace("m.gguf", "n.gguf");
            assert!(check(&comment).unwrap_err().contains("trusted comment"));
            let stranger = MinisignKey { id: [9; 8], ..key };
            let told = verify(&text, file.path(), &[stranger], &Silent).unwrap().unwrap_err();
            assert!(told.contains("expected 0909090909090909"), "{told}");
            for bad in ["", "x", &text[1..], &text[..text.len() - 9], &text.replace('=', "!")] {
                assert!(check(bad).unwrap_err().contains("four lines"), "{bad}");
            }
        }
        assert!("RWQ".parse::<MinisignKey>().is_err());
    }
}
