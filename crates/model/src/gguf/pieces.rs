//! Merges of a SentencePiece vocabulary, which stores scores instead.
//!
//! SentencePiece merges the pair whose result has the best score. As a list of merges this is: every way of cutting a piece
//! into two others, the best result first.

use super::vocabulary::Vocabulary;
use std::collections::HashMap;

/// Bytes of all merges, for each byte of the vocabulary; honest ones have two or three.
const MAX_GROWTH: usize = 32;

/// The merges of `vocabulary`, the first one made first; the error says what is wrong.
pub(super) fn merges<'a>(vocabulary: &Vocabulary<'a>, scores: &[f32]) -> Result<Vec<[&'a str; 2]>, String> {
    let ids: HashMap<&str, usize> =
        vocabulary.tokens.iter().enumerate().rev().map(|(id, token)| (*token, id)).collect();
    let budget = vocabulary.tokens.iter().map(|token| token.len()).sum::<usize>() * MAX_GROWTH + (1 << 16);
    let (mut found, mut bytes) = (Vec::new(), 0usize);
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        // Control tokens and bytes are not made of others.
        let made = vocabulary.types.as_ref().is_none_or(|types| matches!(types[id], 1 | 4 | 5));
        if !made || ids[token] != id {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                bytes += token.len();
                if bytes > budget {
                    return Err("has pieces that can be cut into others in too many ways".to_owned());
                }
                found.push((scores[id], left, right, [l, r]));
            }
        }
    }
    let key = |text: &str| text.chars().count();
    found.sort_by(|a, b| {
        let by_score = b.0.total_cmp(&a.0);
        let by_length = || (key(b.1), key(b.2)).cmp(&(key(a.1), key(a.2)));
        by_score.then_with(by_length).then_with(|| a.3.cmp(&b.3))
    });
    Ok(found.into_iter().map(|(_, left, right, _)| [left, right]).collect())
}
