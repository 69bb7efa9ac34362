//! Figures of the pool at one moment.

use super::{BlockPool, Holding};
use std::fmt;

/// Figures of a [`BlockPool`] at one moment. The null block is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockManagerStats {
    /// Blocks that can be held.
    pub total_blocks: u32,
    /// Blocks that sequences hold, each counted once.
    pub allocated_blocks: u32,
    /// Free blocks whose content a later request can take.
    pub cached_blocks: u32,
    /// Blocks that no sequence holds and none can take but by their content.
    pub pinned_blocks: u32,
    /// Tokens per block.
    pub block_size: u32,
    /// Sequences that hold blocks or are about to.
    pub active_sequences: u32,
    /// Tokens stored for these sequences; those in a shared block count once.
    pub total_tokens: u64,
    /// Times that a free block was taken, by allocation or by a hit.
    pub allocation_count: u64,
    /// Times that a block became free.
    pub deallocation_count: u64,
}

impl BlockManagerStats {
    /// Blocks that a sequence can take, cached ones included.
    pub fn free_blocks(&self) -> u32 {
        self.total_blocks - self.allocated_blocks - self.pinned_blocks
    }

    /// Tokens that the pool can store.
    pub fn capacity_tokens(&self) -> u64 {
        u64::from(self.total_blocks) * u64::from(self.block_size)
    }

    /// Stored tokens relative to the capacity, in percent; 0 for no capacity.
    pub fn memory_utilization_percentage(&self) -> f64 {
        match self.capacity_tokens() {
            0 => 0.0,
            capacity => self.total_tokens as f64 / capacity as f64 * 100.0,
        }
    }
}

/// One line; the utilisation is rounded half up in integers, so that it reads the same everywhere.
impl fmt::Display for BlockManagerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capacity = u128::from(self.capacity_tokens().max(1));
        let tenths = (u128::from(self.total_tokens) * 2000 + capacity) / (2 * capacity);
        write!(
            f,
            "BlockManagerStats: Free={}/{}, ActiveSeqs={}, Utilization={}.{}%, Tokens={}",
            self.free_blocks(),
            self.total_blocks,
            self.active_sequences,
            tenths / 10,
            tenths % 10,
            self.total_tokens
        )
    }
}

impl BlockPool {
    /// Figures of the pool, given all sequences that hold blocks. Costs a few steps per sequence, not per block.
    pub fn stats<'a>(&self, holdings: impl IntoIterator<Item = Holding<'a>>) -> BlockManagerStats {
        let mut active = 0;
        let mut missing = Shortfall::default();
        for holding in holdings {
            active += 1;
            missing.add(self, &holding);
        }
        let held = self.held();
        BlockManagerStats {
            total_blocks: self.total(),
            allocated_blocks: held,
            cached_blocks: self.cached,
            pinned_blocks: self.retained.pinned_idle,
            block_size: self.config.block_size,
            active_sequences: active,
            total_tokens: u64::from(held) * u64::from(self.config.block_size) - missing.tokens(),
            allocation_count: self.allocations,
            deallocation_count: self.allocations - u64::from(held),
        }
    }
}

/// Tokens by which held blocks fall short of being full. Only the last blocks of a table do.
#[derive(Default)]
struct Shortfall {
    unshared: u64,
    /// Shared blocks and their shortfall, once per holder.
    shared: Vec<(u32, u32)>,
}

impl Shortfall {
    fn add(&mut self, pool: &BlockPool, holding: &Holding<'_>) {
        let size = pool.config.block_size;
        for index in (0..holding.table.len()).rev() {
            let short = size - holding.filled(index, size);
            if short == 0 {
                break;
            }
            let block = holding.table.get(index).expect("the index is within the table");
            match pool.refs(block) {
                1 => self.unshared += u64::from(short),
                _ => self.shared.push((block.index(), short)),
            }
        }
    }

    fn tokens(mut self) -> u64 {
        self.shared.sort_unstable();
        self.shared.dedup_by_key(|(block, _)| *block);
        self.unshared + self.shared.iter().map(|&(_, short)| u64::from(short)).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(total_tokens: u64) -> String {
        let stats = BlockManagerStats {
            total_blocks: 100,
            allocated_blocks: 40,
            block_size: 16,
            active_sequences: 5,
            total_tokens,
            ..BlockManagerStats::default()
        };
        stats.to_string()
    }

    #[test]
    fn utilization_has_one_decimal_rounded_half_up() {
        let cases = [(0, "0.0"), (100, "6.3"), (600, "37.5"), (1599, "99.9"), (1600, "100.0")];
        for (tokens, percent) in cases {
            let expected = format!(
                "BlockManagerStats: Free=60/100, ActiveSeqs=5, Utilization={percent}%, Tokens={tokens}"
            );
            assert_eq!(line(tokens), expected);
        }
    }

    #[test]
    fn no_capacity_is_no_utilization() {
        let stats = BlockManagerStats::default();
        assert_eq!(stats.memory_utilization_percentage(), 0.0);
        let line = "BlockManagerStats: Free=0/0, ActiveSeqs=0, Utilization=0.0%, Tokens=0";
        assert_eq!(stats.to_string(), line);
    }
}
