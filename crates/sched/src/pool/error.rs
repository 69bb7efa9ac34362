//! How an allocation ends.

use super::BlockHandle;

/// Blocks, or why there are none.
pub type BlockAllocationResult<T = BlockHandle> = Result<T, AllocError>;

/// An allocation that changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocError {
    /// Fewer blocks are available than were asked for.
    #[error(
        "out of KV blocks: {needed} needed, {free} free and {reclaimable} reclaimable from the prefix cache; \
         finish or preempt a sequence first"
    )]
    OutOfBlocks {
        /// Blocks asked for.
        needed: u32,
        /// Free blocks without cached content.
        free: u32,
        /// Free blocks whose cached content an allocation would drop.
        reclaimable: u32,
    },
}
