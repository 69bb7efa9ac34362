//! What is asked of the engine.

use super::Random;
use std::ops::Range;

/// Prompts of random token ids, all of one length, and answers of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Requests that are under way at once.
    pub concurrency: u32,
    /// Requests in all.
    pub prompts: u32,
    /// Tokens that all prompts share.
    pub prefix_len: u32,
    /// Tokens of each prompt after the prefix.
    pub input_len: u32,
    /// Tokens of each answer.
    pub output_len: u32,
    /// Seed of the ids.
    pub seed: u64,
}

/// Ids at the ends of a vocabulary, where bytes and special tokens are, which are not drawn where there are enough.
const LOW_IDS: u32 = 300;
const HIGH_IDS: u32 = 200;

impl Workload {
    /// Tokens of one prompt.
    pub fn prompt_len(&self) -> u32 {
        self.prefix_len + self.input_len
    }

    /// Tokens of all prompts.
    pub fn prompt_tokens(&self) -> u64 {
        u64::from(self.prompts) * u64::from(self.prompt_len())
    }

    /// Tokens of all answers.
    pub fn output_tokens(&self) -> u64 {
        u64::from(self.prompts) * u64::from(self.output_len)
    }

    /// Whether all requests are sent at once, so that prefill and decode are phases of the whole.
    pub fn is_one_burst(&self) -> bool {
        self.prompts <= self.concurrency
    }

    /// Prompt number `index` for a model of `vocab_size` ids; it depends on the seed, the lengths and `index` alone.
    pub fn prompt(&self, index: u32, vocab_size: u32) -> Vec<u32> {
        let ids = drawn_ids(vocab_size);
        // Stream 0 is the prefix of all.
        let mut shared = Random::new(self.seed, 0);
        let mut own = Random::new(self.seed, u64::from(index) + 1);
        let prefix = (0..self.prefix_len).map(|_| shared.within(ids.clone()));
        prefix.chain((0..self.input_len).map(|_| own.within(ids.clone()))).collect()
    }
}

fn drawn_ids(vocab_size: u32) -> Range<u32> {
    if vocab_size > 2 * (LOW_IDS + HIGH_IDS) { LOW_IDS..vocab_size - HIGH_IDS } else { 0..vocab_size.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_depend_on_seed_and_index_and_share_the_prefix() {
        let load =
            Workload { concurrency: 2, prompts: 4, prefix_len: 8, input_len: 16, output_len: 3, seed: 5 };
        let prompt = load.prompt(1, 4096);
        assert_eq!(prompt.len(), 24);
        assert!(prompt.iter().all(|id| (300..3896).contains(id)));
        assert_eq!(prompt, Workload { concurrency: 1, prompts: 9, ..load.clone() }.prompt(1, 4096));
        let other = load.prompt(2, 4096);
        assert!(other[..8] == prompt[..8] && other[8..] != prompt[8..]);
        assert_ne!(Workload { seed: 6, ..load.clone() }.prompt(1, 4096)[..8], prompt[..8]);
        assert!(load.prompt(0, 17).iter().all(|id| *id < 17));
        assert_eq!((load.prompt_tokens(), load.output_tokens(), load.is_one_burst()), (96, 12, false));
    }
}
