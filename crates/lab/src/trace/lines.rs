//! Files whose lines are not too long.

use std::io::{Error, ErrorKind, Read, Result};

/// Longest line in bytes.
pub(super) const LONGEST_LINE: usize = 64 << 10;

/// Reads what `inner` reads and fails at a line that is too long, so that a file without line ends is not read into memory.
#[derive(Debug)]
pub(super) struct ShortLines<R> {
    inner: R,
    /// Bytes since the last line end.
    length: usize,
}

impl<R> ShortLines<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, length: 0 }
    }
}

impl<R: Read> Read for ShortLines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.inner.read(buffer)?;
        for line in buffer[..count].split_inclusive(|&byte| byte == b'\n') {
            self.length += line.len();
            if self.length > LONGEST_LINE {
                let message = format!("a line is longer than {LONGEST_LINE} bytes");
                return Err(Error::new(ErrorKind::InvalidData, message));
            }
            if line.ends_with(b"\n") {
                self.length = 0;
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_lines_fail() {
        let read = |text: &str| {
            let mut all = String::new();
            ShortLines::new(text.as_bytes()).read_to_string(&mut all).map(|_| all)
        };
        let short = format!("{}\n", "x".repeat(1000)).repeat(200);
        assert_eq!(read(&short).expect("short lines"), short);
        let message = read(&"x".repeat(70_000)).expect_err("a long line").to_string();
        assert!(message.contains("65536"), "{message}");
    }
}
