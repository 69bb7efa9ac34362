//! Identifiers. Each is a newtype, so that an index, a count and a size cannot be mistaken for one another.

use std::fmt;
use uuid::Uuid;

/// A token of the model's vocabulary.
pub type TokenId = u32;

/// Names a request to the outside: globally unique, so that it survives a router in front of several engines.
///
/// Time-ordered (UUID version 7). Inside the scheduler requests are found by their slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub Uuid);

impl RequestId {
    /// The id of no request; also the default.
    pub const EMPTY: Self = Self(Uuid::nil());

    /// A fresh id.
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// Which of the `n` samples of one request: `0..n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleIndex(pub u16);

/// Sequential number of a planned step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// Index of a KV block in the pool. Block 0 is the null block and never holds tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

impl BlockId {
    /// The block that tables point to where no data is needed.
    pub const NULL: Self = Self(0);
}

/// Position of one token in KV storage: `block * block_size + offset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// Separates prefix caches: requests share cached blocks only when their salts are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheSalt(pub u64);

/// Low-rank changes of the model that a request is computed with; its default is none. An id stands for one set of weights
/// for ever: it is not given again when that is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterId(pub u32);

impl AdapterId {
    /// The model as it is.
    pub const NONE: Self = Self(0);
}

/// Separates prefixes: blocks are shared only within a salt, and only between requests that the same adapter computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheSpace {
    /// Who may share.
    pub salt: CacheSalt,
    /// What the keys and values were computed with.
    pub adapter: AdapterId,
}

impl From<CacheSalt> for CacheSpace {
    /// The blocks of the model as it is.
    fn from(salt: CacheSalt) -> Self {
        Self { salt, adapter: AdapterId::NONE }
    }
}
