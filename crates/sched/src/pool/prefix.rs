//! Sharing of published prefixes.

use super::chain::Link;
use super::index::AHEAD;
use super::record::Record;
use super::{BlockHandle, BlockPool, BlockTable, ChainId, TokenView};
use crate::{AdapterId, CacheSpace, Retention};
use rustc_hash::FxHashSet;

/// The longest published prefix of some tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixHit {
    /// Full blocks.
    pub blocks: u32,
    /// How many of them nobody holds and an allocation could take: taking the hit makes that many blocks unavailable.
    /// Unlike the other two fields it can change without a change of [`BlockPool::epoch`].
    pub cached: u32,
    /// The prefix; the parent of the block that follows.
    pub chain: ChainId,
}

impl BlockPool {
    /// The longest published prefix of `tokens` in `space`, in full blocks and at most `max_tokens` long.
    ///
    /// A caller that needs logits passes one less than it has tokens. Takes nothing.
    pub fn lookup<'t>(
        &self,
        space: impl Into<CacheSpace>,
        tokens: impl Into<TokenView<'t>>,
        max_tokens: u32,
    ) -> PrefixHit {
        self.walk(space.into(), tokens.into(), max_tokens, |_| ())
    }

    /// Appends the blocks that [`lookup`](Self::lookup) finds to `into`, counting each.
    pub fn take_hit<'t>(
        &mut self,
        space: impl Into<CacheSpace>,
        tokens: impl Into<TokenView<'t>>,
        max_tokens: u32,
        into: &mut BlockTable,
    ) -> PrefixHit {
        let first = into.len();
        let hit = self
            .walk(space.into(), tokens.into(), max_tokens, |block| into.push(BlockHandle::counted(block)));
        for block in into.iter().skip(first) {
            self.count_published(block.index());
        }
        hit
    }

    /// Makes a full block findable as `tokens` after `parent` and returns the prefix that it completes.
    ///
    /// To be called after the step that wrote the block's last token has run, so that nobody can read what was
    /// never written. A block with the content of another one keeps its own storage and shares the chain; one
    /// that another holder published already stays as it is. With the prefix cache off nothing is recorded and
    /// `parent` is returned.
    ///
    /// # Panics
    /// If `tokens` are not exactly one block, or if the block is published with other ones.
    pub fn publish<'t>(
        &mut self,
        block: &BlockHandle,
        parent: ChainId,
        tokens: impl Into<TokenView<'t>>,
    ) -> ChainId {
        if !self.config.prefix_cache {
            return parent;
        }
        let (block, tokens) = (block.index(), tokens.into());
        assert_eq!(tokens.len(), self.config.block_size as usize, "only a full block can be published");
        if let Some(chain) = self.records[block].chain() {
            assert!(tokens == *self.index.tokens(block), "block {block} is published with other tokens");
            return chain;
        }
        let hash = self.index.hash(parent, tokens);
        let twin = self.index.guess_one(&self.records, hash, tokens);
        let twin = self.index.find(&self.records, twin, parent, tokens).map(|twin| &self.records[twin]);
        let twin_stays = twin.is_some_and(|twin| twin.retention() != Retention::ORDINARY);
        let chain = twin.and_then(Record::chain).unwrap_or_else(|| {
            self.last_serial += 1;
            ChainId::block(self.last_serial, hash)
        });
        self.index.insert(&mut self.records, block, (parent, chain), tokens);
        if twin_stays {
            self.index.sort_in(&self.records, block);
        }
        self.epoch += 1;
        chain
    }

    /// The prefix that ends with a full block that is held and was published. If it has been dropped from the cache since,
    /// the answer is a prefix that nobody can find, so that what continues it is not found either.
    pub fn chain_after(&mut self, block: &BlockHandle) -> ChainId {
        let record = &self.records[block.index()];
        record.chain().unwrap_or_else(|| {
            self.last_serial += 1;
            self.last_forgotten = self.last_serial;
            ChainId::block(self.last_serial, 0)
        })
    }

    /// Forgets the content of every block that nobody holds, and lets held ones become ordinary. Returns how many blocks
    /// were forgotten.
    pub fn clear_cache(&mut self) -> u32 {
        let mut forgotten = 0;
        for block in 1..self.config.blocks {
            let record = &self.records[block];
            if !record.is_published() {
                continue;
            }
            if record.refs > 0 {
                self.set_retention(block, Retention::ORDINARY);
                continue;
            }
            forgotten += 1;
            self.forget_free(block);
        }
        forgotten
    }

    /// Forgets the content of every block that was computed with `adapter`, which nobody looks for any more. Returns how many
    /// blocks were forgotten. Takes time of the order of the pool.
    ///
    /// # Panics
    /// If such a block is held.
    pub fn forget_adapter(&mut self, adapter: AdapterId) -> u32 {
        let published = (1..self.config.blocks).filter_map(|block| {
            let serial = self.records[block].chain()?.link().serial()?;
            Some((serial, block))
        });
        let mut published: Vec<(u64, u32)> = published.collect();
        // What continues a prefix was published after it.
        published.sort_unstable();
        let mut gone = FxHashSet::default();
        let mut forgotten = 0;
        for (serial, block) in published {
            let is_own = match self.index.parent(&self.records, block) {
                Link::Root(space) => space.adapter == adapter,
                Link::Block(parent) => gone.contains(&parent),
            };
            if is_own {
                assert!(self.records[block].refs == 0, "block {block} of {adapter:?} is held");
                gone.insert(serial);
                forgotten += 1;
                self.forget_free(block);
            }
        }
        forgotten
    }

    /// Forgets the content of a published block that nobody holds.
    fn forget_free(&mut self, block: u32) {
        self.unshelve(block);
        self.unpublish(block);
        self.available += 1;
        self.records.push_front(block);
    }

    /// Calls `found` with each block of the longest published prefix.
    fn walk(
        &self,
        space: CacheSpace,
        tokens: TokenView<'_>,
        max_tokens: u32,
        mut found: impl FnMut(u32),
    ) -> PrefixHit {
        let mut hit = PrefixHit { blocks: 0, cached: 0, chain: ChainId::root(space) };
        let size = self.config.block_size;
        let full =
            if self.last_serial == 0 { 0 } else { tokens.len().min(max_tokens as usize) / size as usize };
        // The further a prefix is cached, the more of it is fetched ahead: a miss wastes less than the hits took.
        let (mut at, mut ahead) = (0, 1);
        while at < full {
            let end = full.min(at + ahead);
            let guesses = self.index.guess(&self.records, hit.chain, tokens, at..end);
            for (at, guess) in (at..end).zip(guesses) {
                let tokens = tokens.block(at, size);
                let Some(block) = self.index.find(&self.records, guess, hit.chain, tokens) else {
                    return hit;
                };
                let record = &self.records[block];
                hit.blocks += 1;
                hit.cached += u32::from(record.refs == 0 && record.retention() != Retention::PINNED);
                hit.chain = record.chain().expect("the index holds published blocks only");
                found(block);
            }
            (at, ahead) = (end, AHEAD.min(2 * ahead));
        }
        hit
    }

    /// One more reference to a published block, wherever it is.
    fn count_published(&mut self, block: u32) {
        if self.records[block].refs == 0 {
            self.unshelve(block);
            self.allocations += 1;
        }
        self.records[block].refs += 1;
    }

    /// Takes a block out of the index.
    pub(super) fn unpublish(&mut self, block: u32) {
        self.retained.change(self.records[block].retention(), Retention::ORDINARY);
        self.index.remove(&mut self.records, block);
        self.epoch += 1;
    }

    /// Takes the content of a held block out of the index, with every other block that has the same content.
    /// What continues it can no longer be found either, because the chain is never issued again.
    pub(super) fn forget(&mut self, block: u32) {
        let Some(serial) = self.records[block].chain().and_then(|chain| chain.link().serial()) else {
            return;
        };
        self.last_forgotten = self.last_forgotten.max(serial);
        loop {
            let twin = self.index.twins(&self.records, block).find(|&twin| twin != block);
            let Some(twin) = twin else { break };
            let is_free = self.records[twin].refs == 0;
            if is_free {
                self.forget_free(twin);
            } else {
                self.unpublish(twin);
            }
        }
        self.unpublish(block);
    }
}
