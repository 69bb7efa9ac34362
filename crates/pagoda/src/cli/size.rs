//! Sizes with suffixes: bytes take `KiB`, `MiB`, `GiB`, `KB`, `MB`, `GB`; token counts take `k` (1024).

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

/// Formats `bytes` for people: `3.4 GiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1024 => return format!("{bytes} B"),
        1024..1_048_576 => (1u64 << 10, "KiB"),
        1_048_576..1_073_741_824 => (1 << 20, "MiB"),
        _ => (1 << 30, "GiB"),
    };
    format!("{:.1} {name}", bytes as f64 / unit as f64)
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
    fn token_counts_take_k() {
        assert_eq!(tokens("8k"), Ok(8192));
        assert_eq!(tokens("1000"), Ok(1000));
        for text in ["0", "", "k", "-3", "5000000k", "3.5k"] {
            assert!(tokens(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_shown_in_the_unit_that_fits() {
        assert_eq!(show_bytes(17), "17 B");
        assert_eq!(show_bytes(3 << 29), "1.5 GiB");
    }
}
