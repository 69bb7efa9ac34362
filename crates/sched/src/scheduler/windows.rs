//! Blocks that no later token of a running sequence sees.

use super::Scheduler;
use crate::Retention;

impl Scheduler {
    /// Gives back the blocks that are behind the windows of all layers, and returns how many references that were.
    ///
    /// Called when blocks are lacking: until then they serve as cache, since what continues a prefix cannot be found without
    /// it. A beam search keeps its blocks, as a beam may take the place of another, and so does a prompt that is to be kept.
    pub(super) fn leave_windows(&mut self) -> usize {
        let Some(window) = self.window else { return 0 };
        let mut keys = std::mem::take(&mut self.step.windows);
        keys.extend(self.batch.keys());
        let mut left = 0;
        for key in keys.drain(..) {
            let sequence = self.batch.at_mut(key);
            if sequence.beams == 0 && sequence.request.retention == Retention::ORDINARY {
                let computed = sequence.computed;
                // The next token is at position `computed`; the block of the one before it stays in any case.
                let seen = (computed + 1).saturating_sub(window).min(computed.saturating_sub(1));
                let end = (seen / self.layout.block_size) as usize;
                left += self.pool.release_front(&mut sequence.table, end);
            }
        }
        self.step.windows = keys;
        left
    }
}
