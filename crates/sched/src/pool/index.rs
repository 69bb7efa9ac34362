//! Finds published blocks by (parent prefix, tokens).

use super::chain::{ChainId, Link, TokenView};
use super::record::{NONE, Records};
use crate::TokenId;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// A hash table whose chains run through the records, so that it never allocates.
///
/// The keyed hash only picks a bucket: whether an entry matches is decided by comparing the parent's identity
/// and the tokens, so any collision costs time and nothing else.
#[derive(Debug)]
pub(super) struct PrefixIndex {
    /// First block of each bucket.
    heads: Box<[u32]>,
    /// `[blocks, block_size]` tokens of the published blocks.
    tokens: Box<[TokenId]>,
    block_size: usize,
    hash_seed: u64,
}

impl PrefixIndex {
    /// An empty index over `blocks` blocks, with at most `2^hash_bits` buckets.
    pub(super) fn new(blocks: u32, block_size: u32, hash_seed: u64, hash_bits: u32) -> Self {
        let buckets = u64::from(blocks).next_power_of_two().min(1 << hash_bits.min(32));
        Self {
            heads: vec![NONE; buckets as usize].into(),
            tokens: vec![0; blocks as usize * block_size as usize].into(),
            block_size: block_size as usize,
            hash_seed,
        }
    }

    /// The tokens that `block` was published with.
    pub(super) fn tokens(&self, block: u32) -> &[TokenId] {
        let start = block as usize * self.block_size;
        &self.tokens[start..start + self.block_size]
    }

    pub(super) fn buckets(&self) -> usize {
        self.heads.len()
    }

    /// Blocks of one bucket.
    pub(super) fn bucket<'a>(
        &'a self,
        records: &'a Records,
        bucket: usize,
    ) -> impl Iterator<Item = u32> + 'a {
        let first = self.heads[bucket];
        std::iter::successors((first != NONE).then_some(first), move |&block| {
            let next = records[block].bucket_next;
            (next != NONE).then_some(next)
        })
    }

    /// A block that holds `tokens` after `parent`.
    pub(super) fn find(&self, records: &Records, parent: ChainId, tokens: TokenView<'_>) -> Option<u32> {
        let mut block = self.heads[self.bucket_of(parent, tokens)];
        while block != NONE {
            let record = &records[block];
            if record.parent() == parent && tokens == *self.tokens(block) {
                return Some(block);
            }
            block = record.bucket_next;
        }
        None
    }

    /// Enters `block`, which was published as `serial` with these tokens after `parent`.
    pub(super) fn insert(
        &mut self,
        records: &mut Records,
        block: u32,
        parent: ChainId,
        tokens: TokenView<'_>,
        serial: u64,
    ) {
        let start = block as usize * self.block_size;
        let (head, tail) = self.tokens[start..start + self.block_size].split_at_mut(tokens.head.len());
        head.copy_from_slice(tokens.head);
        tail.copy_from_slice(tokens.tail);
        let bucket = self.bucket_of(parent, tokens);
        let record = &mut records[block];
        record.set_chain(parent, serial);
        record.bucket_next = std::mem::replace(&mut self.heads[bucket], block);
    }

    /// Takes out `block`, which is entered.
    pub(super) fn remove(&mut self, records: &mut Records, block: u32) {
        let bucket = self.bucket_of_published(records, block);
        let next = std::mem::replace(&mut records[block].bucket_next, NONE);
        records[block].clear_chain();
        if self.heads[bucket] == block {
            self.heads[bucket] = next;
            return;
        }
        let mut before = self.heads[bucket];
        while records[before].bucket_next != block {
            before = records[before].bucket_next;
            assert!(before != NONE, "published block {block} is missing from its bucket {bucket}");
        }
        records[before].bucket_next = next;
    }

    /// Another block that is published under the same chain as `block`.
    pub(super) fn duplicate_of(&self, records: &Records, block: u32) -> Option<u32> {
        let bucket = self.bucket_of_published(records, block);
        let chain = records[block].chain();
        self.bucket(records, bucket).find(|&other| other != block && records[other].chain() == chain)
    }

    /// The bucket that a published block belongs to.
    pub(super) fn bucket_of_published(&self, records: &Records, block: u32) -> usize {
        self.bucket_of(records[block].parent(), self.tokens(block).into())
    }

    fn bucket_of(&self, parent: ChainId, tokens: TokenView<'_>) -> usize {
        let seed = self.hash_seed ^ parent_key(parent);
        let hash = if tokens.tail.is_empty() {
            xxh3_64_with_seed(bytemuck::cast_slice(tokens.head), seed)
        } else {
            let mut hasher = Xxh3::with_seed(seed);
            hasher.update(bytemuck::cast_slice(tokens.head));
            hasher.update(bytemuck::cast_slice(tokens.tail));
            hasher.digest()
        };
        hash as usize & (self.heads.len() - 1)
    }
}

/// Spreads parents over the seeds; salts and serial numbers go different ways.
fn parent_key(parent: ChainId) -> u64 {
    match parent.0 {
        Link::Root(salt) => salt.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32) ^ 0x5bd1_e995,
        Link::Block(serial) => serial.wrapping_mul(0xff51_afd7_ed55_8ccd),
    }
}
