//! Finds published blocks by (parent prefix, tokens).

use super::chain::{ChainId, Link, TokenView};
use super::record::{NONE, Records};
use crate::{AdapterId, CacheSpace, TokenId};
use std::ops::Range;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// Most blocks of a lookup that are fetched at once.
pub(super) const AHEAD: usize = 16;

/// A hash table whose chains are arrays over the blocks, so that it never allocates.
///
/// The keyed hash of a prefix only picks a bucket and skips most strangers in it: whether an entry matches is
/// decided by comparing the parent's identity and the tokens, so any collision costs time and nothing else.
#[derive(Debug)]
pub(super) struct PrefixIndex {
    /// First block of each bucket.
    heads: Box<[u32]>,
    /// The block behind each block in its bucket.
    next: Box<[u32]>,
    /// `[blocks, block_size]` tokens of the published blocks.
    tokens: Box<[TokenId]>,
    /// What the published blocks that begin a prefix were computed with; those behind them follow from their parents.
    adapters: Box<[AdapterId]>,
    block_size: u32,
    hash_seed: u64,
    hash_mask: u32,
}

/// The first block of a bucket that has the right hash and tokens, after whichever parent; or [`NONE`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guess {
    pub(super) hash: u32,
    pub(super) block: u32,
}

impl PrefixIndex {
    /// An empty index over `blocks` blocks, with at most `2^hash_bits` buckets.
    pub(super) fn new(blocks: u32, block_size: u32, hash_seed: u64, hash_bits: u32) -> Self {
        let hashes = 1u64 << hash_bits.min(32);
        let buckets = u64::from(blocks).next_power_of_two().min(hashes);
        Self {
            heads: vec![NONE; buckets as usize].into(),
            next: vec![NONE; blocks as usize].into(),
            tokens: vec![0; blocks as usize * block_size as usize].into(),
            adapters: vec![AdapterId::NONE; blocks as usize].into(),
            block_size,
            hash_seed,
            hash_mask: (hashes - 1) as u32,
        }
    }

    /// The tokens that `block` was published with.
    pub(super) fn tokens(&self, block: u32) -> &[TokenId] {
        let size = self.block_size as usize;
        &self.tokens[block as usize * size..][..size]
    }

    /// The prefix before a published block.
    pub(super) fn parent(&self, records: &Records, block: u32) -> Link {
        records[block].parent(self.adapters[block as usize])
    }

    pub(super) fn buckets(&self) -> usize {
        self.heads.len()
    }

    /// Blocks of one bucket; those of equal content in the order in which they are found.
    pub(super) fn bucket(&self, bucket: usize) -> impl Iterator<Item = u32> + '_ {
        let some = |block: u32| (block != NONE).then_some(block);
        std::iter::successors(some(self.heads[bucket]), move |&block| some(self.next[block as usize]))
    }

    /// The bucket that blocks of this hash belong to.
    pub(super) fn bucket_of(&self, hash: u32) -> usize {
        hash as usize & (self.heads.len() - 1)
    }

    /// The hash of the prefix that continues `parent` with one block of tokens.
    pub(super) fn hash(&self, parent: ChainId, tokens: TokenView<'_>) -> u32 {
        let seed = self.hash_seed ^ parent.seed();
        let hash = if tokens.tail.is_empty() {
            xxh3_64_with_seed(bytemuck::cast_slice(tokens.head), seed)
        } else {
            let mut hasher = Xxh3::with_seed(seed);
            hasher.update(bytemuck::cast_slice(tokens.head));
            hasher.update(bytemuck::cast_slice(tokens.tail));
            hasher.digest()
        };
        hash as u32 & self.hash_mask
    }

    /// Where the `blocks` of `tokens` probably are, of which the first continues `parent`; at most [`AHEAD`].
    ///
    /// Hashes do not depend on what is found, so each loop reads independent memory: the cache misses of
    /// several blocks overlap instead of following one another.
    pub(super) fn guess(
        &self,
        records: &Records,
        parent: ChainId,
        tokens: TokenView<'_>,
        blocks: Range<usize>,
    ) -> [Guess; AHEAD] {
        let mut guesses = [Guess::default(); AHEAD];
        let guesses_used = &mut guesses[..blocks.len()];
        let mut before = parent;
        for (guess, at) in guesses_used.iter_mut().zip(blocks.clone()) {
            guess.hash = self.hash(before, tokens.block(at, self.block_size));
            before = ChainId::unidentified(guess.hash);
        }
        for guess in guesses_used.iter_mut() {
            guess.block = self.heads[self.bucket_of(guess.hash)];
        }
        for guess in guesses_used.iter_mut() {
            guess.block = self.skip_strangers(records, guess.block, guess.hash);
        }
        for (guess, at) in guesses_used.iter_mut().zip(blocks) {
            guess.block = self.first_equal(records, *guess, tokens.block(at, self.block_size));
        }
        guesses
    }

    /// As [`guess`](Self::guess), for one block of this hash.
    pub(super) fn guess_one(&self, records: &Records, hash: u32, tokens: TokenView<'_>) -> Guess {
        let first = Guess { hash, block: self.heads[self.bucket_of(hash)] };
        Guess { hash, block: self.first_equal(records, first, tokens) }
    }

    /// A block that holds `tokens` after `parent`, from `guess` on in its bucket.
    pub(super) fn find(
        &self,
        records: &Records,
        mut guess: Guess,
        parent: ChainId,
        tokens: TokenView<'_>,
    ) -> Option<u32> {
        while guess.block != NONE && self.parent(records, guess.block) != parent.link() {
            guess.block = self.next[guess.block as usize];
            guess.block = self.first_equal(records, guess, tokens);
        }
        (guess.block != NONE).then_some(guess.block)
    }

    /// The first block with the guess's hash and these tokens, from the guess on.
    fn first_equal(&self, records: &Records, guess: Guess, tokens: TokenView<'_>) -> u32 {
        let mut block = self.skip_strangers(records, guess.block, guess.hash);
        while block != NONE && tokens != *self.tokens(block) {
            block = self.skip_strangers(records, self.next[block as usize], guess.hash);
        }
        block
    }

    /// The first block with this hash, from `block` on.
    fn skip_strangers(&self, records: &Records, mut block: u32, hash: u32) -> u32 {
        while block != NONE && records[block].hash() != hash {
            block = self.next[block as usize];
        }
        block
    }

    /// All blocks that are published under the same chain as `block`, itself included.
    pub(super) fn twins<'i>(&'i self, records: &'i Records, block: u32) -> impl Iterator<Item = u32> + 'i {
        let record = &records[block];
        let bucket = self.bucket(self.bucket_of(record.hash()));
        bucket.filter(|&other| records[other].chain() == record.chain())
    }

    /// Enters `block` as `chain`, which continues `parent` with these tokens.
    pub(super) fn insert(
        &mut self,
        records: &mut Records,
        block: u32,
        (parent, chain): (ChainId, ChainId),
        tokens: TokenView<'_>,
    ) {
        let size = self.block_size as usize;
        let (head, tail) = self.tokens[block as usize * size..][..size].split_at_mut(tokens.head.len());
        head.copy_from_slice(tokens.head);
        tail.copy_from_slice(tokens.tail);
        if let Link::Root(space) = parent.link() {
            self.adapters[block as usize] = space.adapter;
        }
        records[block].publish(parent, chain);
        self.link(block, chain.hash());
    }

    fn link(&mut self, block: u32, hash: u32) {
        let bucket = self.bucket_of(hash);
        self.next[block as usize] = std::mem::replace(&mut self.heads[bucket], block);
    }

    /// Moves `block`, which is entered, behind the blocks of equal content that are retained longer and before those that
    /// are not.
    pub(super) fn sort_in(&mut self, records: &Records, block: u32) {
        let record = &records[block];
        let bucket = self.bucket_of(record.hash());
        let longer = self
            .twins(records, block)
            .filter(|&other| records[other].retention() > record.retention())
            .last();
        let Some(longer) = longer else {
            self.unlink(block, bucket);
            return self.link(block, record.hash());
        };
        self.unlink(block, bucket);
        self.next[block as usize] = std::mem::replace(&mut self.next[longer as usize], block);
    }

    /// Takes out `block`, which is entered.
    pub(super) fn remove(&mut self, records: &mut Records, block: u32) {
        let bucket = self.bucket_of(records[block].hash());
        records[block].unpublish();
        self.unlink(block, bucket);
    }

    fn unlink(&mut self, block: u32, bucket: usize) {
        let next = std::mem::replace(&mut self.next[block as usize], NONE);
        if self.heads[bucket] == block {
            self.heads[bucket] = next;
            return;
        }
        let before = self.bucket(bucket).find(|&before| self.next[before as usize] == block);
        let before = before.unwrap_or_else(|| panic!("published block {block} is not in bucket {bucket}"));
        self.next[before as usize] = next;
    }
}

impl ChainId {
    /// What the hash of a continuation starts from; salts, adapters and hashes go different ways.
    fn seed(self) -> u64 {
        match self.link() {
            Link::Root(CacheSpace { salt, adapter }) => {
                let salt = salt.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
                salt ^ u64::from(adapter.0).wrapping_mul(0xc2b2_ae3d_27d4_eb4f) ^ 0x5bd1_e995
            }
            Link::Block(_) => u64::from(self.hash()).wrapping_mul(0xff51_afd7_ed55_8ccd),
        }
    }
}
