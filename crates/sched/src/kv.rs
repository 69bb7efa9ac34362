//! Geometry of KV storage, in bytes and elements. No storage.

use crate::BlockId;
use std::ops::Range;

/// Where the keys and values of a block lie in the executor's two allocations.
///
/// Each allocation is `[layers][blocks][kv_heads * block_size * head_dim]` elements; what the executor does
/// with the elements inside a block is its own affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Decoder layers.
    pub layers: u32,
    /// Key/value heads per layer.
    pub kv_heads: u32,
    /// Elements per head.
    pub head_dim: u32,
    /// Tokens per block.
    pub block_size: u32,
    /// Bytes of one stored element.
    pub element_bytes: u32,
    /// Bytes that a head of a token has beside its elements, in keys and in values each: a scale, or 0.
    pub scale_bytes: u32,
    /// Blocks in the pool, the null block included.
    pub blocks: u32,
}

impl KvLayout {
    /// Elements of one block in one layer of one of the two allocations.
    pub fn block_elements(&self) -> usize {
        self.kv_heads as usize * self.block_size as usize * self.head_dim as usize
    }

    /// Elements of one layer of one of the two allocations.
    pub fn layer_elements(&self) -> usize {
        self.blocks as usize * self.block_elements()
    }

    /// Element range of the keys of `block` in `layer`.
    pub fn key(&self, layer: u32, block: BlockId) -> Range<usize> {
        let start = layer as usize * self.layer_elements() + block.0 as usize * self.block_elements();
        start..start + self.block_elements()
    }

    /// Element range of the values of `block` in `layer`; the same place in the second allocation.
    pub fn value(&self, layer: u32, block: BlockId) -> Range<usize> {
        self.key(layer, block)
    }

    /// Bytes of one block over all layers, keys and values together.
    pub fn block_bytes(&self) -> u64 {
        let head = u64::from(self.head_dim) * u64::from(self.element_bytes) + u64::from(self.scale_bytes);
        2 * u64::from(self.layers) * u64::from(self.kv_heads) * u64::from(self.block_size) * head
    }

    /// Bytes of the whole pool.
    pub fn total_bytes(&self) -> u64 {
        u64::from(self.blocks) * self.block_bytes()
    }
}

/// What an executor can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvCapacity {
    /// Geometry of the pool, its number of blocks included.
    pub layout: KvLayout,
    /// Longest sequence that the executor computes correctly, in tokens.
    pub max_context: u32,
    /// Ids below this are valid tokens.
    pub vocab_size: u32,
    /// How many tokens back, itself included, a token sees at most in any layer; `None` where some layer sees all. One table
    /// serves all layers, so that a single such layer needs every block.
    pub window: Option<u32>,
}
