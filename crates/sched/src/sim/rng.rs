//! The simulator's only source of chance.

/// SplitMix64: one word of state, so that a seed is the whole story.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(super) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Uniform in `low..=high`.
    pub(super) fn within(&mut self, low: u32, high: u32) -> u32 {
        low + (self.word() % (u64::from(high - low) + 1)) as u32
    }

    /// In `low..=high`, each power of two about equally likely.
    pub(super) fn log_within(&mut self, low: u32, high: u32) -> u32 {
        let bits = self.within(low.max(1).ilog2(), high.ilog2());
        let top = (2u64 << bits) - 1;
        self.within((1 << bits).max(low), (top as u32).min(high).max(low))
    }

    pub(super) fn chance(&mut self, per_mille: u32) -> bool {
        self.within(0, 999) < per_mille
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.within(0, from.len() as u32 - 1) as usize]
    }
}
