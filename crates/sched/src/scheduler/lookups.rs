//! Lookups of waiting sequences in the prefix cache, repeated only when it has changed.

use crate::{PrefixHit, SequenceId};

/// Sequences whose lookups are kept: those that admission looks at in one step, about.
const KEPT: usize = 16;

/// What was found at one epoch of the pool.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    epoch: u64,
    found: Vec<(SequenceId, PrefixHit)>,
    oldest: usize,
}

impl Lookups {
    /// What is known of a sequence at `epoch`.
    pub(super) fn get(&self, id: SequenceId, epoch: u64) -> Option<PrefixHit> {
        let known = self.found.iter().find(|(known, _)| self.epoch == epoch && *known == id);
        known.map(|&(_, hit)| hit)
    }

    /// Keeps what was found at `epoch`.
    pub(super) fn keep(&mut self, id: SequenceId, epoch: u64, hit: PrefixHit) {
        if self.epoch != epoch {
            self.found.clear();
            self.epoch = epoch;
        }
        if self.found.len() < KEPT {
            self.found.push((id, hit));
        } else {
            self.found[self.oldest] = (id, hit);
            self.oldest = (self.oldest + 1) % KEPT;
        }
    }
}
