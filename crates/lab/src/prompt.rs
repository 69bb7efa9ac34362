//! Tokens of prompts and answers: a function of who asks and where they stand, so that nothing is kept.

use crate::{Arrival, Prefix};
use std::sync::Arc;

/// The model ends its answer with this token.
pub(crate) const STOP: u32 = 0;

/// Ids of other tokens lie from 1 to this.
const IDS: u64 = (1 << 20) - 1;

/// Ids below this are valid tokens.
pub(crate) const VOCABULARY: u32 = 1 << 20;

/// The prompt of the request with this serial number.
pub(crate) fn prompt(arrival: &Arrival, serial: u64) -> Arc<[u32]> {
    let shared = arrival.prefix.map_or(0, |prefix| prefix.tokens.min(arrival.prompt_tokens));
    let group = arrival.prefix.map_or(0, |Prefix { group, .. }| !u64::from(group));
    let owner = |place: u32| if place < shared { group } else { serial };
    (0..arrival.prompt_tokens).map(|place| token(owner(place), place)).collect()
}

/// The token of `owner` at `place`; never [`STOP`].
pub(crate) fn token(owner: u64, place: u32) -> u32 {
    let mut word = (owner ^ u64::from(place).rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word ^= word >> 29;
    word = word.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    1 + ((word >> 32) % IDS) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagoda_sched::Priority;

    fn arrival(prefix: Option<Prefix>) -> Arrival {
        Arrival {
            at: 0.0,
            prompt_tokens: 40,
            output_tokens: 1,
            max_tokens: 1,
            class: Priority::Normal,
            tenant: 0,
            prefix,
        }
    }

    #[test]
    fn groups_share_their_prefix_and_nothing_else() {
        let of = |group, serial| prompt(&arrival(Some(Prefix { group, tokens: 16 })), serial);
        let (a, b, other) = (of(3, 1), of(3, 2), of(4, 1));
        assert_eq!(a[..16], b[..16]);
        assert_ne!(a[16..], b[16..]);
        assert_ne!(a[..16], other[..16]);
        assert_eq!(a[16..], other[16..], "a request's own tokens are its own");
        assert_eq!(of(3, 1), of(3, 1));
        assert_ne!(prompt(&arrival(None), 1), prompt(&arrival(None), 2));
    }

    #[test]
    fn tokens_are_of_the_vocabulary_and_never_end_an_answer() {
        let tokens: Vec<u32> = (0..20_000).map(|place| token(u64::from(place % 7), place)).collect();
        assert!(tokens.iter().all(|token| (1..VOCABULARY).contains(token)));
        let mut distinct = tokens.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 19_000, "{} of 20,000 differ", distinct.len());
    }
}
