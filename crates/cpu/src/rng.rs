//! Counter-based random numbers: Philox4x32 with ten rounds (Salmon et al., "Parallel random numbers: as easy
//! as 1, 2, 3", 2011).
//!
//! A draw is a pure function of (seed, sample, position), so it does not depend on the batch, on chunking, or on
//! how often a request was preempted.

use pagoda_sched::SampleIndex;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: u32 = 10;

/// A number in `[0, 1)` with 53 random bits for the token at `position` of `sample`.
pub fn uniform(seed: u64, sample: SampleIndex, position: u32) -> f64 {
    let key = [seed as u32, (seed >> 32) as u32];
    let [low, high, ..] = philox([position, u32::from(sample.0), 0, 0], key);
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let left = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let right = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (right >> 32) as u32 ^ counter[1] ^ key[0],
            right as u32,
            (left >> 32) as u32 ^ counter[3] ^ key[1],
            left as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the algorithm's reference implementation.
    #[test]
    fn philox_matches_the_published_vectors() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
    }

    #[test]
    fn each_key_part_changes_the_draw_and_draws_fill_the_unit_interval() {
        let base = uniform(1, SampleIndex(0), 7);
        assert_eq!(base, uniform(1, SampleIndex(0), 7));
        for other in [
            uniform(2, SampleIndex(0), 7),
            uniform(1 + (1 << 32), SampleIndex(0), 7),
            uniform(1, SampleIndex(1), 7),
            uniform(1, SampleIndex(0), 8),
        ] {
            assert_ne!(base, other);
        }
        let draws: Vec<f64> = (0..10_000).map(|position| uniform(3, SampleIndex(2), position)).collect();
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean - 0.5).abs() < 0.015, "mean {mean}");
    }
}
