//! Identity of token prefixes.

use crate::{AdapterId, CacheSalt, CacheSpace, TokenId};

/// Identity of a token prefix that ends at a block boundary.
///
/// Equal ids mean equal salt, adapter and tokens. An id is issued when a prefix is first published and never again,
/// so a reference to a prefix that has left the cache finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId {
    /// Serial number of a published prefix, salt of an empty one.
    number: u64,
    /// Hash of a published prefix, from which those of its continuations are computed and which follows from its number; the
    /// adapter of an empty one.
    detail: u32,
    is_root: bool,
}

/// The empty prefix of a space, or the serial number of a published prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Link {
    Root(CacheSpace),
    Block(u64),
}

impl ChainId {
    /// The empty prefix in `space`: the parent of a first block.
    pub fn root(space: impl Into<CacheSpace>) -> Self {
        let CacheSpace { salt, adapter } = space.into();
        Self { number: salt.0, detail: adapter.0, is_root: true }
    }

    /// The published prefix of this number.
    pub(super) fn block(serial: u64, hash: u32) -> Self {
        Self { number: serial, detail: hash, is_root: false }
    }

    /// A prefix that may not have been published; numbers start at 1. Only good for hashing on.
    pub(super) fn unidentified(hash: u32) -> Self {
        Self::block(0, hash)
    }

    /// The identity.
    pub(super) fn link(self) -> Link {
        if self.is_root {
            return Link::Root(CacheSpace { salt: CacheSalt(self.number), adapter: AdapterId(self.detail) });
        }
        Link::Block(self.number)
    }

    /// Hash of a published prefix.
    pub(super) fn hash(self) -> u32 {
        self.detail
    }
}

impl Link {
    /// Serial number; `None` for a root.
    pub(super) fn serial(self) -> Option<u64> {
        match self {
            Self::Root(_) => None,
            Self::Block(serial) => Some(serial),
        }
    }
}

/// Read access to the tokens of a sequence that may lie in two pieces, such as prompt and output.
#[derive(Clone, Copy, Debug)]
pub struct TokenView<'a> {
    pub(super) head: &'a [TokenId],
    pub(super) tail: &'a [TokenId],
}

impl<'a> TokenView<'a> {
    /// `head` followed by `tail`.
    pub fn new(head: &'a [TokenId], tail: &'a [TokenId]) -> Self {
        Self { head, tail }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.tail.is_empty()
    }

    /// The tokens of block `index`, which must be full.
    ///
    /// # Panics
    /// If the view ends before the block does.
    #[inline]
    pub fn block(&self, index: usize, block_size: u32) -> Self {
        let size = block_size as usize;
        let (start, end) = (index * size, (index + 1) * size);
        let split = self.head.len();
        if end <= split {
            return Self { head: &self.head[start..end], tail: &[] };
        }
        if start >= split {
            return Self { head: &self.tail[start - split..end - split], tail: &[] };
        }
        Self { head: &self.head[start..], tail: &self.tail[..end - split] }
    }
}

impl<'a> From<&'a [TokenId]> for TokenView<'a> {
    fn from(tokens: &'a [TokenId]) -> Self {
        Self { head: tokens, tail: &[] }
    }
}

impl PartialEq<[TokenId]> for TokenView<'_> {
    fn eq(&self, other: &[TokenId]) -> bool {
        if self.len() != other.len() {
            return false;
        }
        let (head, tail) = other.split_at(self.head.len());
        equal(self.head, head) && (tail.is_empty() || equal(self.tail, tail))
    }
}

/// Whether two pieces of the same length are equal. Looks at all tokens: what is compared has equal hashes, so a
/// way out of the loop would be for nothing and keep it from running several tokens at a time.
#[inline]
fn equal(a: &[TokenId], b: &[TokenId]) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
