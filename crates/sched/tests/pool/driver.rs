//! Runs the pool and its model side by side on random operations.

use crate::model::{Chain, Model};
use pagoda_sched::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One operation, decoded from four bytes so that any bytes are a valid one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op(pub(crate) [u8; 4]);

impl Op {
    /// Whether this is the end of a sequence with poisoned blocks.
    pub(crate) fn is_fault(self) -> bool {
        self.0[0] % KINDS == 15 && self.0[2] < 64
    }
}

/// Kinds of operations.
const KINDS: u8 = 20;
/// Largest number of sequences at a time.
const SEQUENCES: usize = 6;
/// Longest sequence in blocks.
const LONGEST: usize = 8;

/// A sequence as the pool's user sees it.
#[derive(Debug)]
struct User {
    space: CacheSpace,
    tokens: Vec<TokenId>,
    table: BlockTable,
    chains: (ChainId, Chain),
    published: usize,
    /// The same table in the model.
    blocks: Vec<u32>,
}

pub(crate) struct Driver {
    pool: BlockPool,
    model: Model,
    users: Vec<User>,
    size: usize,
    start: Instant,
    /// Time since the start, in tenths of seconds.
    now: u64,
}

impl Driver {
    pub(crate) fn new(total: u32, block_size: u32, hash_bits: u32) -> Self {
        let most = (total / 3, total / 4);
        let config = PoolConfig {
            blocks: total + 1,
            block_size,
            hash_seed: 42,
            hash_bits,
            prefix_cache: true,
            max_pinned: most.0,
            max_kept: most.1,
        };
        let start = Instant::now();
        let mut pool = BlockPool::new(config);
        pool.advance(start);
        let model = Model::new(total + 1, block_size, most);
        Self { pool, model, users: vec![], size: block_size as usize, start, now: 0 }
    }

    /// Does `op` on both and asserts that they agree.
    pub(crate) fn step(&mut self, op: Op) {
        let Op([kind, user, a, b]) = op;
        let epoch = self.pool.epoch();
        let before = self.published();
        let user = user as usize;
        match kind % KINDS {
            0..=2 => self.admit(AdapterId(u32::from((kind / KINDS) & 1)), a, b),
            3..=6 => self.append(user, a),
            7..=10 => self.publish(user, b),
            11 => self.fork(user),
            12 | 13 => self.finish(user),
            14 => self.truncate(user, a),
            16 | 17 => self.retain(user, b),
            18 | 19 => self.advance(a, b),
            _ if op.is_fault() => self.discard(user, b),
            _ if (16..48).contains(&b) => self.forget_adapter(),
            _ if b < 16 => assert_eq!(self.pool.clear_cache(), self.model.clear_cache()),
            _ => self.finish(user),
        }
        self.model.compare(&self.pool);
        let changed = before != self.published();
        assert!(!changed || epoch != self.pool.epoch(), "the index changed without a new epoch");
    }

    /// Asserts the pool's own invariants, and its figures against sums over all tables.
    pub(crate) fn check(&self) {
        let holdings = || self.users.iter().map(User::holding);
        self.pool.check_invariants(holdings());
        let mut filled = BTreeMap::new();
        for user in &self.users {
            for (at, &block) in user.blocks.iter().enumerate() {
                filled.insert(block, (user.tokens.len() - at * self.size).min(self.size));
            }
        }
        let stats = self.pool.stats(holdings());
        assert_eq!(stats.total_tokens, filled.values().sum::<usize>() as u64);
        assert_eq!(stats.allocated_blocks as usize, filled.len());
        assert_eq!(stats.allocation_count, self.model.allocations);
        assert_eq!(stats.deallocation_count, self.model.allocations - filled.len() as u64);
        assert_eq!(stats.active_sequences as usize, self.users.len());
        for (block, tokens) in filled {
            assert_eq!(self.pool.block(BlockId(block), holdings()).token_count() as usize, tokens);
        }
    }

    /// Releases everything and asserts that every block has come home.
    pub(crate) fn drain(mut self) {
        while !self.users.is_empty() {
            self.finish(0);
        }
        self.check();
        assert!(self.pool.available() >= self.pool.usable());
        self.pool.clear_cache();
        assert_eq!((self.pool.available(), self.pool.cached()), (self.pool.total(), 0));
        assert_eq!((self.pool.kept(), self.pool.pinned()), (0, 0));
        self.pool.check_invariants([]);
    }

    fn published(&self) -> Vec<BlockState> {
        (1..=self.pool.total()).map(|block| self.pool.state(BlockId(block))).map(without_refs).collect()
    }

    /// A new sequence: takes the cached prefix of its prompt and blocks for the rest, or nothing.
    fn admit(&mut self, adapter: AdapterId, a: u8, b: u8) {
        if self.users.len() == SEQUENCES {
            return;
        }
        let space = CacheSpace { salt: CacheSalt(u64::from(a & 1)), adapter };
        let length = 1 + usize::from(a >> 1) % (self.size * LONGEST);
        let tokens: Vec<TokenId> = (0..length).map(|at| u32::from(b >> (at / self.size % 8) & 1)).collect();
        let view = TokenView::new(&tokens[..length / 3], &tokens[length / 3..]);
        let limit = length as u32 - 1;

        let seen = self.pool.lookup(space, view, limit);
        let (mut blocks, chain) = self.model.lookup(space, &tokens, limit);
        let is_free = |&&block: &&u32| self.model.refs(block) == 0 && !self.model.is_pinned(block);
        let free = blocks.iter().filter(is_free).count();
        assert_eq!((seen.blocks as usize, seen.cached as usize), (blocks.len(), free));

        let mut table = BlockTable::new();
        let hit = self.pool.take_hit(space, view, limit, &mut table);
        assert_eq!(hit, seen);
        blocks.iter().for_each(|&block| self.model.take(block));
        let missing = (length.div_ceil(self.size) - blocks.len()) as u32;
        let got = self.pool.allocate_many(missing, &mut table);
        match self.model.allocate_many(missing) {
            Ok(fresh) => {
                assert_eq!(got, Ok(()));
                blocks.extend(fresh);
                let published = hit.blocks as usize;
                let user = User { space, tokens, table, chains: (hit.chain, chain), published, blocks };
                user.assert_same_blocks();
                self.users.push(user);
            }
            Err(error) => {
                assert_eq!(got, Err(error));
                self.pool.release_table(&mut table);
                blocks.into_iter().rev().for_each(|block| self.model.release(block));
            }
        }
    }

    /// Drops what adapter 1 computed, if nobody holds any of it.
    fn forget_adapter(&mut self) {
        let adapter = AdapterId(1);
        if self.users.iter().all(|user| user.space.adapter != adapter) {
            assert_eq!(self.pool.forget_adapter(adapter), self.model.forget_adapter(adapter));
        }
    }

    /// One more token, in a block that the sequence may write.
    fn append(&mut self, user: usize, a: u8) {
        let Some(user) = pick(&mut self.users, user) else { return };
        if user.tokens.len() == self.size * LONGEST {
            return;
        }
        let at = user.tokens.len() / self.size;
        if at == user.blocks.len() {
            let got = self.pool.allocate_many(1, &mut user.table);
            match self.model.allocate_many(1) {
                Ok(fresh) => user.blocks.extend(fresh),
                Err(error) => return assert_eq!(got, Err(error)),
            }
        } else if self.model.refs(user.blocks[at]) > 1 {
            let copy = self.pool.make_unique(&mut user.table, at);
            match self.model.allocate_many(1) {
                Ok(fresh) => {
                    let from = std::mem::replace(&mut user.blocks[at], fresh[0]);
                    self.model.release(from);
                    let expected = BlockCopy { from: BlockId(from), to: BlockId(fresh[0]) };
                    assert_eq!(copy, Ok(Some(expected)));
                }
                Err(error) => return assert_eq!(copy, Err(error)),
            }
        } else {
            assert_eq!(self.pool.make_unique(&mut user.table, at), Ok(None));
        }
        user.assert_same_blocks();
        assert!(user.table.get(at).is_some_and(|block| self.pool.is_writable(block)));
        user.tokens.push(u32::from(a & 1));
    }

    /// Publishes all full blocks.
    fn publish(&mut self, user: usize, b: u8) {
        let Some(user) = pick(&mut self.users, user) else { return };
        let split = usize::from(b) % (user.tokens.len() + 1);
        let (head, tail) = user.tokens.split_at(split);
        let view = TokenView::new(head, tail);
        for (at, tokens) in user.tokens.chunks_exact(self.size).enumerate().skip(user.published) {
            let block = user.table.get(at).expect("the table covers the tokens");
            let chain = self.pool.publish(block, user.chains.0, view.block(at, self.size as u32));
            user.chains = (chain, self.model.publish(user.blocks[at], user.chains.1, tokens));
            user.published += 1;
            assert!(!self.pool.is_writable(block));
        }
    }

    /// Keeps the published blocks of a sequence, as many as may be.
    fn retain(&mut self, user: usize, b: u8) {
        let Some(user) = pick(&mut self.users, user) else { return };
        let retention = match b % 4 {
            0 => Retention::PINNED,
            power => Retention::ttl(Duration::from_secs(1 << power)),
        };
        let kept = self.pool.retain_prefix(&user.table, user.published, retention);
        assert_eq!(kept, self.model.retain_prefix(&user.blocks[..user.published], retention), "{user:?}");
    }

    /// Mostly a moment, sometimes as long as blocks are kept.
    fn advance(&mut self, a: u8, b: u8) {
        self.now += u64::from(if b < 32 { a } else { a % 8 });
        self.model.advance(self.now);
        self.pool.advance(self.start + Duration::from_millis(100 * self.now));
    }

    fn fork(&mut self, user: usize) {
        if self.users.len() == SEQUENCES {
            return;
        }
        let Some(user) = pick(&mut self.users, user) else { return };
        let fork = User {
            tokens: user.tokens.clone(),
            table: self.pool.share_table(&user.table),
            blocks: user.blocks.clone(),
            ..*user
        };
        fork.blocks.iter().for_each(|&block| self.model.share(block));
        self.users.push(fork);
    }

    fn finish(&mut self, user: usize) {
        let Some(mut user) = take(&mut self.users, user) else { return };
        self.pool.release_table(&mut user.table);
        user.blocks.into_iter().rev().for_each(|block| self.model.release(block));
    }

    /// Gives back unpublished blocks at the end, as after a rejected speculation.
    fn truncate(&mut self, user: usize, a: u8) {
        let Some(user) = pick(&mut self.users, user) else { return };
        let keep = (user.published + usize::from(a) % 3).clamp(1, user.blocks.len());
        self.pool.release_from(&mut user.table, keep);
        user.blocks.split_off(keep).into_iter().rev().for_each(|block| self.model.release(block));
        user.tokens.truncate(keep * self.size);
        user.assert_same_blocks();
    }

    /// Ends a sequence whose blocks from some index on are poisoned.
    fn discard(&mut self, user: usize, b: u8) {
        let Some(mut user) = take(&mut self.users, user) else { return };
        let from = usize::from(b) % (user.blocks.len() + 1);
        self.pool.discard_table(&mut user.table, from);
        for (at, block) in user.blocks.into_iter().enumerate().rev() {
            if at >= from {
                self.model.forget(block);
            }
            self.model.release(block);
        }
        assert!(user.table.is_empty());
    }
}

impl User {
    fn holding(&self) -> Holding<'_> {
        Holding {
            sequence: SequenceId { request: RequestId::EMPTY, sample: SampleIndex(self.space.salt.0 as u16) },
            table: &self.table,
            tokens: self.tokens.len() as u32,
        }
    }

    fn assert_same_blocks(&self) {
        assert!(self.table.ids().eq(self.blocks.iter().map(|&block| BlockId(block))), "{self:?}");
    }
}

fn without_refs(state: BlockState) -> BlockState {
    match state {
        BlockState::Cached(chain) | BlockState::Held { chain: Some(chain), .. } => BlockState::Cached(chain),
        BlockState::Free | BlockState::Held { chain: None, .. } => BlockState::Free,
    }
}

fn pick(users: &mut [User], index: usize) -> Option<&mut User> {
    let count = users.len();
    users.get_mut(index.checked_rem(count)?)
}

fn take(users: &mut Vec<User>, index: usize) -> Option<User> {
    let index = index.checked_rem(users.len())?;
    Some(users.swap_remove(index))
}
