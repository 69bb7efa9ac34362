//! Metadata of one block, and the free list that runs through all of them.

use super::ChainId;
use super::chain::Link;

/// No block: the null block is neither free nor indexed, so its index ends every list.
pub(super) const NONE: u32 = 0;

/// What the pool knows about one block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Record {
    /// The prefix before the block: a salt or a serial number, as the low bit of `chain` says.
    parent: u64,
    /// `serial << 1 | parent is a root`; 0 while the block is not published.
    chain: u64,
    /// References held by tables.
    pub(super) refs: u32,
    /// Free list, towards the front; meaningful while `refs` is 0.
    prev: u32,
    /// Free list, towards the back; meaningful while `refs` is 0.
    next: u32,
    /// Hash of the prefix that ends with this block; meaningful while it is published.
    hash: u32,
}

impl Record {
    /// The prefix that ends with this block.
    pub(super) fn chain(&self) -> Option<ChainId> {
        self.is_published().then(|| ChainId::block(self.chain >> 1, self.hash))
    }

    pub(super) fn is_published(&self) -> bool {
        self.chain != 0
    }

    /// The prefix before this block; meaningful while it is published.
    pub(super) fn parent(&self) -> Link {
        if self.chain & 1 == 1 { Link::Root(self.parent) } else { Link::Block(self.parent) }
    }

    pub(super) fn hash(&self) -> u32 {
        self.hash
    }

    /// Notes that the block completes `chain`, which continues `parent`.
    pub(super) fn publish(&mut self, parent: ChainId, chain: ChainId) {
        let serial = chain.link.serial().expect("a block completes no root");
        let (value, is_root) = match parent.link {
            Link::Root(salt) => (salt, 1),
            Link::Block(serial) => (serial, 0),
        };
        self.parent = value;
        self.chain = serial << 1 | is_root;
        self.hash = chain.hash;
    }

    pub(super) fn unpublish(&mut self) {
        self.chain = 0;
    }
}

/// All records. The null block's links are the two ends of the free list.
#[derive(Debug)]
pub(super) struct Records {
    records: Box<[Record]>,
}

impl Records {
    /// `blocks` records, all free, in the order of their ids.
    pub(super) fn new(blocks: u32) -> Self {
        let mut records = Self { records: vec![Record::default(); blocks as usize].into() };
        for block in 1..blocks {
            records.push_back(block);
        }
        records
    }

    pub(super) fn front(&self) -> u32 {
        self[NONE].next
    }

    /// The block behind `block` in the free list, or [`NONE`].
    pub(super) fn after(&self, block: u32) -> u32 {
        self[block].next
    }

    /// The block before `block` in the free list, or [`NONE`].
    pub(super) fn before(&self, block: u32) -> u32 {
        self[block].prev
    }

    pub(super) fn push_front(&mut self, block: u32) {
        self.link(NONE, block, self[NONE].next);
    }

    pub(super) fn push_back(&mut self, block: u32) {
        self.link(self[NONE].prev, block, NONE);
    }

    /// Takes `block` out of the free list.
    pub(super) fn unlink(&mut self, block: u32) {
        let Record { prev, next, .. } = self[block];
        self[prev].next = next;
        self[next].prev = prev;
    }

    fn link(&mut self, prev: u32, block: u32, next: u32) {
        self[prev].next = block;
        self[next].prev = block;
        self[block].prev = prev;
        self[block].next = next;
    }
}

impl std::ops::Index<u32> for Records {
    type Output = Record;

    fn index(&self, block: u32) -> &Record {
        &self.records[block as usize]
    }
}

impl std::ops::IndexMut<u32> for Records {
    fn index_mut(&mut self, block: u32) -> &mut Record {
        &mut self.records[block as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CacheSalt;

    #[test]
    fn a_record_is_32_bytes() {
        assert_eq!(size_of::<Record>(), 32);
    }

    #[test]
    fn a_salt_and_a_serial_number_of_equal_value_are_different_parents() {
        let mut record = Record::default();
        let chain = ChainId::block(9, 5);
        for salt in [0, 7, u64::MAX] {
            let root = ChainId::root(CacheSalt(salt));
            record.publish(root, chain);
            assert_eq!((record.parent(), record.chain()), (root.link, Some(chain)));
        }
        record.publish(ChainId::block(7, 0), chain);
        assert_eq!(record.parent(), Link::Block(7));
        assert_ne!(record.parent(), ChainId::root(CacheSalt(7)).link);
    }

    #[test]
    fn the_free_list_starts_in_id_order_and_unlinks_from_the_middle() {
        let mut records = Records::new(5);
        records.unlink(2);
        records.push_front(2);
        records.unlink(3);
        records.push_back(3);
        let mut order = vec![];
        let mut block = records.front();
        while block != NONE {
            order.push(block);
            block = records.after(block);
        }
        assert_eq!(order, [2, 1, 4, 3]);
        assert_eq!(records.before(1), 2);
    }
}
