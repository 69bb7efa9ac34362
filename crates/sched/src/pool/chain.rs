//! Identity of token prefixes.

use crate::{CacheSalt, TokenId};

/// Identity of a token prefix that ends at a block boundary.
///
/// Equal ids mean equal salt and equal tokens. An id is issued when a prefix is first published and never again,
/// so a reference to a prefix that has left the cache finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId {
    /// The identity.
    pub(super) link: Link,
    /// Hash of the prefix, from which those of its continuations are computed. Follows from the identity.
    pub(super) hash: u32,
}

/// The empty prefix of a salt, or the serial number of a published prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Link {
    Root(u64),
    Block(u64),
}

impl ChainId {
    /// The empty prefix under `salt`: the parent of a first block.
    pub fn root(salt: CacheSalt) -> Self {
        Self { link: Link::Root(salt.0), hash: 0 }
    }

    /// The published prefix of this number.
    pub(super) fn block(serial: u64, hash: u32) -> Self {
        Self { link: Link::Block(serial), hash }
    }

    /// A prefix that may not have been published; numbers start at 1. Only good for hashing on.
    pub(super) fn unidentified(hash: u32) -> Self {
        Self::block(0, hash)
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
