//! Which path was meant.

/// Longest path that is compared with others, bytes.
const LONGEST: usize = 128;

/// The known path that is most like `path`, unless none is. Letters, versions, doubled prefixes and slashes aside, it may
/// differ by a few characters. Of equals the first wins.
pub(crate) fn nearest<'k>(path: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if path.len() > LONGEST {
        return None;
    }
    let path = essence(path);
    let likely = known.map(|known| (edit_distance(&path, &essence(known)), known));
    let (distance, found) = likely.min_by_key(|(distance, _)| *distance)?;
    (distance <= path.len() / 5 && !path.is_empty()).then_some(found)
}

/// Lower case, without leading `api` and versions, and with single slashes.
fn essence(path: &str) -> Vec<u8> {
    let lower = path.to_ascii_lowercase();
    let is_version = |part: &str| part.strip_prefix('v').is_some_and(|digits| digits.parse::<u8>().is_ok());
    let parts = lower.split('/').filter(|part| !part.is_empty());
    let parts: Vec<_> =
        parts.skip_while(|part| is_version(part) || matches!(*part, "api" | "openai")).collect();
    parts.join("/").into_bytes()
}

/// Insertions, deletions and replacements of one byte that make `other` of `one`: how unlike two names are.
pub fn edit_distance(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 6] =
        ["/v1/completions", "/v1/chat/completions", "/v1/models", "/models", "/health", "/tokenize"];

    #[test]
    fn what_is_nearly_right_is_set_right() {
        for (path, meant) in [
            ("/chat/completion", "/v1/chat/completions"),
            ("/v1/chat/completions/", "/v1/chat/completions"),
            ("/v1/v1/chat/completions", "/v1/chat/completions"),
            ("/api/v1/Chat/Completions", "/v1/chat/completions"),
            ("//v1//completions", "/v1/completions"),
            ("/v2/completions", "/v1/completions"),
            ("/v1/completion", "/v1/completions"),
            ("/v1/model", "/v1/models"),
        ] {
            assert_eq!(nearest(path, KNOWN.into_iter()), Some(meant), "{path}");
        }
    }

    #[test]
    fn what_is_like_nothing_is_not() {
        for path in
            ["", "/", "/v1", "/v1/", "/favicon.ico", "/v1/audio/speech", &"/v1/completions".repeat(20)]
        {
            assert_eq!(nearest(path, KNOWN.into_iter()), None, "{path}");
        }
    }

    #[test]
    fn distances_are_the_fewest_edits() {
        for (one, other, edits) in [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)] {
            assert_eq!(edit_distance(one.as_bytes(), other.as_bytes()), edits, "{one} {other}");
            assert_eq!(edit_distance(other.as_bytes(), one.as_bytes()), edits, "{one} {other}");
        }
    }
}
