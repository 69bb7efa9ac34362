//! The most likely tokens of a row, in order, without sorting the vocabulary.

/// Ids that are passed over together when none of them qualifies, which is so for nearly all of a large vocabulary.
const STRIDE: usize = 32;

/// A token id with its logit, both after all adjustments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) id: u32,
    pub(crate) logit: f32,
}

impl Candidate {
    /// A number by which candidates sort: larger logit first, then lower id. Logits are not NaN here, and the two zeros
    /// are one. Plain numbers sort several times faster than a comparison of two fields.
    fn key(self) -> u64 {
        let bits = (self.logit + 0.0).to_bits();
        let ascending = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
        u64::from(!ascending) << 32 | u64::from(self.id)
    }

    /// The candidate of a key.
    fn of(key: u64) -> Self {
        let ascending = !((key >> 32) as u32);
        let bits = if ascending >> 31 == 1 { ascending & !(1 << 31) } else { !ascending };
        Self { id: key as u32, logit: f32::from_bits(bits) }
    }
}

/// A reusable list of candidates whose first [`ordered`](Self::ordered) entries are final and in rank order.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// Keys.
    list: Vec<u64>,
    ordered: usize,
}

impl Candidates {
    /// Bytes of one entry, for memory plans.
    pub(crate) const ENTRY_BYTES: usize = size_of::<u64>();

    /// Room for every token of a vocabulary, so that no later call allocates.
    pub(crate) fn with_capacity(vocab_size: usize) -> Self {
        Self { list: Vec::with_capacity(vocab_size), ordered: 0 }
    }

    /// Bytes that the list holds.
    pub(crate) fn held_bytes(&self) -> usize {
        self.list.capacity() * Self::ENTRY_BYTES
    }

    /// The `k` highest of `logits`, ordered; ids at negative infinity are masked and never taken.
    ///
    /// One pass: only what beats the `k`-th best so far is kept, and the list is cut back to `k` when it has
    /// doubled. A later id never displaces an equal earlier one, which is the rank order.
    pub(crate) fn select_top(&mut self, logits: &[f32], k: usize) {
        self.list.clear();
        self.ordered = 0;
        let k = k.min(logits.len());
        if k == 0 {
            return;
        }
        let limit = (2 * k).max(64).min(logits.len().max(1));
        let mut threshold = f32::NEG_INFINITY;
        for (first, stride) in (0_u32..).step_by(STRIDE).zip(logits.chunks(STRIDE)) {
            // Without a way out in the middle the comparisons are done side by side.
            if !stride.iter().fold(false, |any, &logit| any | (logit > threshold)) {
                continue;
            }
            for (id, &logit) in (first..).zip(stride) {
                if logit > threshold {
                    self.list.push(Candidate { id, logit }.key());
                    if self.list.len() == limit && limit > k {
                        self.list.select_nth_unstable(k - 1);
                        threshold = Candidate::of(self.list[k - 1]).logit;
                        self.list.truncate(k);
                    }
                }
            }
        }
        if self.list.len() > k {
            self.list.select_nth_unstable(k - 1);
            self.list.truncate(k);
        }
        self.list.sort_unstable();
        self.ordered = self.list.len();
    }

    /// Every id whose weight is positive and at least `cutoff`, in no order yet.
    pub(crate) fn collect_heavy(&mut self, logits: &[f32], weights: &[f32], cutoff: f32) {
        self.list.clear();
        self.ordered = 0;
        let strides = logits.chunks(STRIDE).zip(weights.chunks(STRIDE));
        for (first, (logits, weights)) in (0_u32..).step_by(STRIDE).zip(strides) {
            if !weights.iter().fold(false, |any, &weight| any | (weight >= cutoff)) {
                continue;
            }
            for ((id, &logit), &weight) in (first..).zip(logits).zip(weights) {
                if weight > 0.0 && weight >= cutoff {
                    self.list.push(Candidate { id, logit }.key());
                }
            }
        }
    }

    /// Candidate of rank `index`, ordering further ranks as needed; `None` past the last one.
    pub(crate) fn ranked(&mut self, index: usize) -> Option<Candidate> {
        if index >= self.list.len() {
            return None;
        }
        if index >= self.ordered {
            // Growing steps keep the work linear in the list when the answer is short.
            let step = (3 * self.ordered).max(32).max(index + 1 - self.ordered);
            let end = (self.ordered + step).min(self.list.len());
            let rest = &mut self.list[self.ordered..];
            if end - self.ordered < rest.len() {
                rest.select_nth_unstable(end - self.ordered - 1);
            }
            self.list[self.ordered..end].sort_unstable();
            self.ordered = end;
        }
        Some(Candidate::of(self.list[index]))
    }

    /// The ordered candidates.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Candidate> {
        self.list[..self.ordered].iter().map(|&key| Candidate::of(key))
    }

    /// The ordered candidate of rank `rank`.
    pub(crate) fn get(&self, rank: usize) -> Candidate {
        Candidate::of(self.list[..self.ordered][rank])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Few distinct values, so that ties are common.
                match (state >> 60) as i32 {
                    0 => f32::NEG_INFINITY,
                    v => ((v - 8) as f32) * (1.0 + ((state >> 40) % 5) as f32),
                }
            })
            .collect()
    }

    fn oracle(logits: &[f32]) -> Vec<u32> {
        let mut ids: Vec<u32> =
            (0..logits.len() as u32).filter(|&i| logits[i as usize] > f32::NEG_INFINITY).collect();
        ids.sort_by(|&a, &b| {
            logits[b as usize].partial_cmp(&logits[a as usize]).expect("no NaN").then(a.cmp(&b))
        });
        ids
    }

    #[test]
    fn keys_give_the_candidate_back_and_sort_by_logit_then_id() {
        let logits = [f32::MAX, 3.5, 1.0, f32::MIN_POSITIVE, 0.0, -f32::MIN_POSITIVE, -1.0, f32::MIN];
        let keys: Vec<u64> =
            logits.iter().flat_map(|&logit| [0, 7].map(|id| Candidate { id, logit }.key())).collect();
        assert!(keys.is_sorted());
        for (key, &logit) in keys.iter().step_by(2).zip(&logits) {
            assert_eq!(Candidate::of(*key), Candidate { id: 0, logit });
        }
        assert_eq!(Candidate { id: 1, logit: -0.0 }.key(), Candidate { id: 1, logit: 0.0 }.key());
    }

    #[test]
    fn the_top_k_are_those_of_a_full_sort() {
        let mut candidates = Candidates::with_capacity(0);
        for seed in 0..60 {
            let logits = logits(1 + (seed as usize * 97) % 700, seed);
            let sorted = oracle(&logits);
            for k in [0, 1, 2, 5, 31, 64, 200, 699, 1_000] {
                candidates.select_top(&logits, k);
                let ids: Vec<u32> = candidates.iter().map(|c| c.id).collect();
                assert_eq!(ids, sorted[..k.min(sorted.len())], "seed {seed}, k {k}");
            }
        }
    }

    #[test]
    fn lazy_ranks_are_those_of_a_full_sort() {
        let mut candidates = Candidates::with_capacity(0);
        for seed in 0..40 {
            let logits = logits(1 + (seed as usize * 53) % 900, seed);
            let weights: Vec<f32> =
                logits.iter().map(|&x| if x > f32::NEG_INFINITY { 1.0 } else { 0.0 }).collect();
            candidates.collect_heavy(&logits, &weights, 0.0);
            let sorted = oracle(&logits);
            for (index, &id) in sorted.iter().enumerate() {
                assert_eq!(candidates.ranked(index).map(|c| c.id), Some(id), "seed {seed}, rank {index}");
            }
            assert_eq!(candidates.ranked(sorted.len()), None);
        }
    }
}
