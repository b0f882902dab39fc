//! Takes little-endian numbers, strings and counts from bytes that may end anywhere.
//!
//! Nothing is taken, and nothing allocated, before it was held against the bytes left. A cursor
//! knows no keys and no tensors: it reports a [`Problem`], and the caller adds the place.

use std::fmt;

use crate::error::Error;

/// What is wrong, without the place.
pub(crate) struct Problem(pub(crate) String);

impl Problem {
    /// The error at a place.
    pub(crate) fn at(self, place: impl fmt::Display) -> Error {
        Error::malformed(place, self.0)
    }
}

/// A position in bytes.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    /// At the first byte.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    /// Bytes taken so far.
    pub(crate) fn pos(&self) -> usize {
        self.pos
    }

    /// Bytes not yet taken.
    fn n_left(&self) -> usize {
        self.bytes.len() - self.pos
    }

    /// The next `n_bytes` bytes; `what` names them when they are not there.
    #[inline]
    pub(crate) fn take(&mut self, n_bytes: u64, what: &str) -> Result<&'a [u8], Problem> {
        let n_left = self.n_left();
        match usize::try_from(n_bytes) {
            Ok(n) if n <= n_left => {
                let taken = &self.bytes[self.pos..self.pos + n];
                self.pos += n;
                Ok(taken)
            }
            _ => Err(self.too_short(n_bytes, what)),
        }
    }

    /// Apart from [`Cursor::take`], which runs for each string of a vocabulary.
    #[cold]
    fn too_short(&self, n_bytes: u64, what: &str) -> Problem {
        let Self { pos, .. } = self;
        let n_left = self.n_left();
        Problem(format!(
            "{what} takes {n_bytes} bytes at byte {pos}, but the file ends after {n_left} more"
        ))
    }

    /// The next `N` bytes, for a number.
    #[inline]
    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Problem> {
        let bytes = self.take(N as u64, what)?;
        Ok(bytes.try_into().expect("take gives as many bytes as it was asked for"))
    }

    /// A number of any width, by its `from_le_bytes`.
    pub(crate) fn number<T, const N: usize>(
        &mut self,
        from_le_bytes: fn([u8; N]) -> T,
    ) -> Result<T, Problem> {
        Ok(from_le_bytes(self.array("the value")?))
    }

    /// A `u32`.
    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, Problem> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// A `u64`.
    #[inline]
    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, Problem> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of things that take at least `bytes_each` bytes, at most `max` of them.
    pub(crate) fn count(
        &mut self,
        what: &str,
        max: u64,
        bytes_each: usize,
    ) -> Result<usize, Problem> {
        let count = self.u64(what)?;
        if count > max {
            return Err(Problem(format!("{what} is {count}, expected at most {max}")));
        }
        let n_left = self.n_left();
        if count > (n_left / bytes_each) as u64 {
            return Err(Problem(format!(
                "{what} is {count}, which takes at least {bytes_each} bytes each, \
                 but the file ends after {n_left} more bytes"
            )));
        }
        Ok(count as usize) // at most n_left, so it fits
    }

    /// A length of at most `max`, and that many bytes.
    #[inline]
    pub(crate) fn sized_bytes(&mut self, what: &str, max: u64) -> Result<&'a [u8], Problem> {
        let n_bytes = self.u64(what).map_err(|p| Problem(format!("the length of {}", p.0)))?;
        if n_bytes > max {
            return Err(Problem(format!("{what} takes {n_bytes} bytes, expected at most {max}")));
        }
        self.take(n_bytes, what)
    }

    /// A string of at most `max` bytes.
    pub(crate) fn string(&mut self, what: &str, max: u64) -> Result<&'a str, Problem> {
        let start = self.pos;
        let bytes = self.sized_bytes(what, max)?;
        std::str::from_utf8(bytes).map_err(|e| {
            let at = start + size_of::<u64>() + e.valid_up_to();
            Problem(format!("{what} is not UTF-8 at byte {at}, expected UTF-8"))
        })
    }
}
