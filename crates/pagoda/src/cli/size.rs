//! Sizes with suffixes: bytes take `KiB`, `MiB`, `GiB`, `KB`, `MB`, `GB`; token counts take `k` (1024).

pub(crate) use pagoda::memory::show_bytes;
use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (number, unit) = UNITS
            .iter()
            .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
            .unwrap_or((text, 1));
        let number: f64 = number.trim().parse().map_err(|_| invalid(text))?;
        let bytes = number * unit as f64;
        if !(0.0..=(1u64 << 50) as f64).contains(&bytes) {
            return Err(invalid(text));
        }
        Ok(Self(bytes as u64))
    }
}

fn invalid(text: &str) -> String {
    format!("`{text}` is no size; write for instance 512MiB, 4GiB or a number of bytes")
}

/// Memory: bytes, or a part of what is free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum MemorySize {
    Bytes(u64),
    /// From 0 to 1.
    Part(f64),
}

impl FromStr for MemorySize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().strip_suffix('%') {
            Some(percent) => Ok(Self::Part(fraction(&format!("{percent}e-2"))?)),
            None => Ok(Self::Bytes(text.parse::<ByteSize>()?.0)),
        }
    }
}

/// Parses a part of a whole, above 0 and at most 1.
pub(crate) fn fraction(text: &str) -> Result<f64, String> {
    let value = text.trim().parse::<f64>().ok().filter(|value| *value > 0.0 && *value <= 1.0);
    value.ok_or_else(|| format!("`{text}` is no part; write a number above 0 and at most 1"))
}

/// A number of tokens, or what fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<u32>);

/// Parses a token count or `auto`.
pub(crate) fn limit(text: &str) -> Result<Limit, String> {
    if text == "auto" { Ok(Limit(None)) } else { tokens(text).map(|tokens| Limit(Some(tokens))) }
}

/// Parses a token count: `8192` or `8k`.
pub(crate) fn tokens(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1024),
        None => (text, 1),
    };
    digits
        .parse::<u32>()
        .ok()
        .and_then(|n| n.checked_mul(unit))
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("`{text}` is no token count; write for instance 8192 or 8k"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_sizes_take_binary_and_decimal_units() {
        for (text, bytes) in [("4GiB", 4 << 30), ("1.5 MiB", 3 << 19), ("2KB", 2_000), ("77", 77), ("5B", 5)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn sizes_that_are_none_are_refused() {
        for text in ["", "GiB", "-1MiB", "1e30GiB", "NaN", "4 gigs"] {
            let error = text.parse::<ByteSize>().unwrap_err();
            assert!(error.contains("512MiB"), "{text}: {error}");
        }
    }

    #[test]
    fn memory_is_bytes_or_a_part_of_what_is_free() {
        assert_eq!("4GiB".parse(), Ok(MemorySize::Bytes(4 << 30)));
        assert_eq!("50%".parse(), Ok(MemorySize::Part(0.5)));
        assert_eq!("100%".parse(), Ok(MemorySize::Part(1.0)));
        for text in ["0%", "101%", "%", "x%", "-5%", "nan%"] {
            assert!(text.parse::<MemorySize>().is_err(), "{text}");
        }
        assert_eq!((limit("auto"), limit("2k")), (Ok(Limit(None)), Ok(Limit(Some(2048)))));
    }

    #[test]
    fn token_counts_take_k() {
        assert_eq!(tokens("8k"), Ok(8192));
        assert_eq!(tokens("1000"), Ok(1000));
        for text in ["0", "", "k", "-3", "5000000k", "3.5k"] {
            assert!(tokens(text).is_err(), "{text}");
        }
    }
}
