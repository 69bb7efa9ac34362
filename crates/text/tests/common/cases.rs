//! How many cases a test looks at.

/// As many as `PAGODA_CASES` says, or `few`.
pub(crate) fn cases(few: u32) -> u32 {
    let asked = std::env::var("PAGODA_CASES").ok();
    asked.map_or(few, |count| count.parse().expect("PAGODA_CASES is a number"))
}
