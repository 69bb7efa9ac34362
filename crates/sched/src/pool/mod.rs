//! The pool of KV blocks: who holds which, and which prefixes can be shared.
//!
//! Invariants, asserted by [`BlockPool::check_invariants`]: every block but the null block is either held by
//! as many tables as its count says or on the free list of its retention; blocks without cached content come first
//! of all; a cached prefix is evicted from its end; content is visible to others only after
//! [`BlockPool::publish`]. Every operation on one block is O(1); nothing is allocated after construction.

mod alloc;
mod block;
mod chain;
mod error;
mod holding;
mod index;
mod invariants;
mod prefix;
mod record;
mod retained;
mod stats;
mod view;

pub use block::{BlockHandle, BlockState, BlockTable};
pub use chain::{ChainId, TokenView};
pub use error::{AllocError, BlockAllocationResult};
pub use holding::Holding;
pub use prefix::PrefixHit;
pub use stats::BlockManagerStats;
pub use view::{BlockMap, MemoryBlock};

use crate::BlockId;
use index::PrefixIndex;
use record::Records;
use retained::Retained;

/// Size and keys of a [`BlockPool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Blocks, the null block included; at least 2.
    pub blocks: u32,
    /// Tokens per block; at least 1.
    pub block_size: u32,
    /// Key of the hash that picks buckets; secret where clients are not trusted.
    pub hash_seed: u64,
    /// Bits of that hash in use, at most 32; fewer make collisions, never wrong hits.
    pub hash_bits: u32,
    /// Whether published blocks can be found again.
    pub prefix_cache: bool,
    /// Most blocks that can be pinned.
    pub max_pinned: u32,
    /// Most blocks that can be kept for a time.
    pub max_kept: u32,
}

/// All blocks of one executor. Single owner, no locks.
#[derive(Debug)]
pub struct BlockPool {
    config: PoolConfig,
    records: Records,
    index: PrefixIndex,
    /// Blocks on the free lists, without the pinned ones.
    available: u32,
    /// Of those, published ones.
    cached: u32,
    retained: Retained,
    /// Serial number of the last new prefix.
    last_serial: u64,
    /// Largest serial number that was dropped as poisoned.
    last_forgotten: u64,
    epoch: u64,
    allocations: u64,
}

impl BlockPool {
    /// A pool of free blocks.
    ///
    /// # Panics
    /// If there is no block besides the null block, if a block holds no token, or if slots exceed `u32`.
    pub fn new(config: PoolConfig) -> Self {
        assert!(config.blocks >= 2, "blocks is {}; a pool needs the null block and one more", config.blocks);
        assert!(config.block_size >= 1, "block_size is 0; a block holds at least one token");
        assert!(
            config.blocks.checked_mul(config.block_size).is_some(),
            "{} blocks of {} tokens exceed the 2^32 slots of a pool; lower one of them",
            config.blocks,
            config.block_size
        );
        Self {
            records: Records::new(config.blocks),
            index: PrefixIndex::new(config.blocks, config.block_size, config.hash_seed, config.hash_bits),
            available: config.blocks - 1,
            cached: 0,
            retained: Retained::new(config.blocks),
            last_serial: 0,
            last_forgotten: 0,
            epoch: 0,
            allocations: 0,
            config,
        }
    }

    /// Size and keys of the pool.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// Tokens per block.
    pub fn block_size(&self) -> u32 {
        self.config.block_size
    }

    /// Blocks that can be held: all but the null block.
    pub fn total(&self) -> u32 {
        self.config.blocks - 1
    }

    /// Blocks that one sequence can count on, whatever is pinned.
    pub fn usable(&self) -> u32 {
        self.total() - self.config.max_pinned.min(self.total())
    }

    /// Blocks that can be allocated: nobody holds them, cached or not, and they are not pinned.
    pub fn available(&self) -> u32 {
        self.available
    }

    /// Of those, blocks that a later request can take by their content.
    pub fn cached(&self) -> u32 {
        self.cached
    }

    /// Blocks that tables hold, each counted once.
    pub fn held(&self) -> u32 {
        self.total() - self.available - self.retained.pinned_idle
    }

    /// Changes whenever a lookup may have another result: counts publications and evictions.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Number of references to a block.
    pub fn refs(&self, block: &BlockHandle) -> u32 {
        self.records[block.index()].refs
    }

    /// Whether the holder may write to a block: nobody else holds it and nobody can find it.
    pub fn is_writable(&self, block: &BlockHandle) -> bool {
        let record = &self.records[block.index()];
        record.refs == 1 && !record.is_published()
    }

    /// What a block is used for.
    ///
    /// # Panics
    /// If the pool has no such block.
    pub fn state(&self, block: BlockId) -> BlockState {
        let record = &self.records[block.0];
        match (record.refs, record.chain()) {
            (0, None) => BlockState::Free,
            (0, Some(chain)) => BlockState::Cached(chain),
            (refs, chain) => BlockState::Held { refs, chain },
        }
    }
}
