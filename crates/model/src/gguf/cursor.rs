//! Reading numbers and texts of an untrusted file, byte by byte in order.

use crate::ModelError;
use crate::json::clip;
use std::ops::Range;

/// A place in the bytes of a file.
pub(super) struct Cursor<'a> {
    file: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a str, bytes: &'a [u8]) -> Self {
        Self { file, bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes that follow.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error about byte `at`.
    pub(super) fn error(&self, at: usize, problem: impl Into<String>) -> ModelError {
        ModelError::Frame { file: self.file.into(), offset: at as u64, problem: problem.into() }
    }

    /// The next `len` bytes, which are `what`.
    pub(super) fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], ModelError> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..len) else {
            let left = rest.len();
            let problem = format!(
                "{what} takes {len} bytes, but only {left} follow: the file is truncated; copy or download it again"
            );
            return Err(self.error(self.at, problem));
        };
        self.at += len;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], ModelError> {
        let bytes = self.take(N, what)?;
        Ok(*bytes.first_chunk().expect("as many bytes as were taken"))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, ModelError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, ModelError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A number of things of at least `each` bytes, which must fit into what follows.
    pub(super) fn count(&mut self, each: usize, what: &str) -> Result<usize, ModelError> {
        let at = self.at;
        let count = self.u64(what)?;
        let fits =
            usize::try_from(count).ok().filter(|n| n.checked_mul(each).is_some_and(|n| n <= self.left()));
        fits.ok_or_else(|| {
            let left = self.left();
            let problem = format!(
                "{what} is {count}, of at least {each} bytes each, but only {left} bytes follow: the file is damaged or truncated"
            );
            self.error(at, problem)
        })
    }

    /// The place of a text: its length and its bytes.
    pub(super) fn text_range(&mut self, what: &str) -> Result<Range<usize>, ModelError> {
        let len = self.count(1, what)?;
        let start = self.at;
        self.take(len, what)?;
        Ok(start..start + len)
    }

    /// A name of at most `most` bytes.
    pub(super) fn name(&mut self, most: usize, what: &str) -> Result<&'a str, ModelError> {
        let at = self.at;
        let range = self.text_range(what)?;
        if range.len() > most {
            return Err(self.error(at, format!("{what} has {} bytes; the limit is {most}", range.len())));
        }
        let text = std::str::from_utf8(&self.bytes[range]);
        text.map_err(|error| self.error(at, format!("{what} is not UTF-8: {error}")))
    }

    /// How `text` is shown in a message.
    pub(super) fn shown(text: &str) -> String {
        format!("{:?}", clip(text))
    }
}
