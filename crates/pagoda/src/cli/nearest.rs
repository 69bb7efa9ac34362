//! What was meant by a name that nobody knows.

use pagoda::server::edit_distance;

/// The known name that is most like `name`, unless none is: two characters in five may differ. Letters in another order are
/// as good as one that is wrong, and better than another word.
pub(crate) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let lower = name.to_lowercase();
    let rated = known.into_iter().map(|known| {
        let other = known.to_lowercase();
        let reordered = letters(&lower) == letters(&other);
        let distance = edit_distance(lower.as_bytes(), other.as_bytes());
        (if reordered { distance.min(1) } else { distance }, !reordered, known)
    });
    let (distance, _, found) = rated.min()?;
    (distance * 5 <= name.len() * 2).then_some(found)
}

fn letters(name: &str) -> Vec<u8> {
    let mut letters = name.as_bytes().to_vec();
    letters.sort_unstable();
    letters
}

/// `; did you mean x?`, or nothing.
pub(crate) fn did_you_mean<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(name, known).map(|found| format!("; did you mean {found}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likely_names_are_found_and_others_are_not() {
        let known = ["port", "plot", "host", "max-num-seqs"];
        assert_eq!(nearest("prot", known), Some("port"));
        assert_eq!(nearest("max-num-seq", known), Some("max-num-seqs"));
        assert_eq!(nearest("MAX-NUM-SEQS", known), Some("max-num-seqs"));
        assert_eq!(nearest("quantize", known), None);
        assert_eq!(did_you_mean("zzz", known), "");
        assert_eq!(did_you_mean("hosts", known), "; did you mean host?");
    }
}
