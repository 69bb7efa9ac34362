//! What a regular expression may cost, seen from its text.

use crate::GrammarLimits;

/// Checks nesting, repetitions and classes of `pattern`, and returns how many classes of Unicode it has; whether it can be
/// read is the compiler's to say.
///
/// # Errors
/// Says which limit is met, as the end of a sentence that begins with the place.
pub(crate) fn check(pattern: &str, limits: &GrammarLimits) -> Result<usize, String> {
    let mut scan = Scan { rest: pattern, limits, classes: 0 };
    // The most repetitions that something in each open group is under, and those of the latest atom.
    let mut groups: Vec<u64> = vec![1];
    let mut atom = 1;
    while let Some(letter) = scan.next() {
        match letter {
            '\\' => {
                scan.escape();
                atom = 1;
            }
            '[' => {
                scan.class();
                atom = 1;
            }
            '(' => {
                groups.push(1);
                if groups.len() > limits.depth {
                    return Err(format!("has groups in more than {} levels", limits.depth));
                }
                atom = 1;
            }
            ')' if groups.len() > 1 => atom = groups.pop().unwrap_or(1),
            '{' => {
                if let Some(most) = scan.repetition()? {
                    atom = scan.times(atom, most)?;
                } else {
                    atom = 1;
                }
            }
            '*' | '+' | '?' => {}
            _ => atom = 1,
        }
        if let Some(open) = groups.last_mut() {
            *open = (*open).max(atom);
        }
    }
    if scan.classes > limits.classes {
        return Err(format!("has {} classes of Unicode; allowed: at most {}", scan.classes, limits.classes));
    }
    Ok(scan.classes)
}

struct Scan<'a> {
    rest: &'a str,
    limits: &'a GrammarLimits,
    classes: usize,
}

impl Scan<'_> {
    fn next(&mut self) -> Option<char> {
        let letter = self.rest.chars().next()?;
        self.rest = &self.rest[letter.len_utf8()..];
        Some(letter)
    }

    /// Passes over what is escaped.
    fn escape(&mut self) {
        self.classes += usize::from(matches!(self.next(), Some('p' | 'P' | 'w' | 'W')));
    }

    /// Passes over the rest of a character class, which may hold others.
    fn class(&mut self) {
        let mut open = 1;
        let mut first = true;
        while open > 0
            && let Some(letter) = self.next()
        {
            match letter {
                '\\' => self.escape(),
                '^' if first => continue,
                ']' if !first => open -= 1,
                '[' => open += 1,
                _ => {}
            }
            first = letter == '[';
        }
    }

    /// The most that `{n}`, `{n,}` or `{n,m}` repeats, after its brace; `None` where the brace is none of them.
    fn repetition(&mut self) -> Result<Option<u64>, String> {
        let Some((inner, after)) = self.rest.split_once('}') else { return Ok(None) };
        let (low, high) = inner.split_once(',').unwrap_or((inner, inner));
        let is_count = |text: &str| text.trim().bytes().all(|byte| byte.is_ascii_digit());
        if inner.trim().is_empty() || !is_count(low) || !is_count(high) {
            return Ok(None);
        }
        self.rest = after;
        // A number beyond 64 bits is beyond the limit as well.
        let count =
            |text: &str| if text.trim().is_empty() { 0 } else { text.trim().parse().unwrap_or(u64::MAX) };
        Ok(Some(count(low).max(count(high))))
    }

    fn times(&self, atom: u64, most: u64) -> Result<u64, String> {
        let product = atom.saturating_mul(most.max(1));
        if product <= self.limits.repetitions {
            return Ok(product);
        }
        Err(format!(
            "repeats something up to {product} times, nested repetitions multiplied; allowed: at most {}",
            self.limits.repetitions
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(pattern: &str) -> Result<(), String> {
        check(pattern, &GrammarLimits::default()).map(|_| ())
    }

    #[test]
    fn usual_expressions_pass() {
        for pattern in [
            "",
            "a{3}b{2,}c{1,9}",
            r"\{100000\}",
            "[{]99999}",
            "[]a]{2}",
            "[^]{99999}]",
            "a{,5}",
            "{",
            "a{b}",
            r"(?:\d{4}-){2}",
            "((((a))))",
            "a{10000}",
            "(a{100}){100}",
            "[[:alpha:]&&[^x]]{3}",
        ] {
            assert_eq!(verdict(pattern), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn bombs_are_seen() {
        for pattern in [
            "a{0,1000000000}",
            "a{10001}",
            "(a{101}){100}",
            "((a{100}){100}){2}",
            "(x|(a{101})y){100}",
            "a{99999999999999999999999999}",
            "(?:[ab]{5000}c){3,}",
        ] {
            assert!(verdict(pattern).is_err(), "{pattern}");
        }
        assert!(verdict(&"(".repeat(60_000)).is_err());
        assert!(verdict(&r"\p{L}".repeat(101)).is_err());
        assert_eq!(check(r"\p{L}[\w\d]\\p", &GrammarLimits::default()), Ok(2));
        assert!(verdict(&format!("{}a{}", "(".repeat(63), ")".repeat(63))).is_ok());
        assert!(verdict(&format!("{}a{}", "(".repeat(64), ")".repeat(64))).is_err());
    }
}
