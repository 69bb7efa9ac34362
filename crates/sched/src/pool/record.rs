//! Metadata of one block, and the free lists that run through all of them.

use super::ChainId;
use super::chain::Link;
use crate::retention::CLASSES;
use crate::{AdapterId, CacheSalt, CacheSpace, Retention};

/// No block: the null block is neither free nor indexed, so its index ends every bucket and the list of ordinary blocks.
pub(super) const NONE: u32 = 0;

/// What the pool knows about one block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Record {
    /// The prefix before the block: a salt or a serial number, as the low bit of `chain` says.
    parent: u64,
    /// `serial << 6 | retention class << 1 | parent is a root`; 0 while the block is not published.
    chain: u64,
    /// References held by tables.
    pub(super) refs: u32,
    /// Its free list, towards the front; meaningful while `refs` is 0.
    prev: u32,
    /// Its free list, towards the back; meaningful while `refs` is 0.
    next: u32,
    /// Hash of the prefix that ends with this block; meaningful while it is published.
    hash: u32,
}

impl Record {
    /// The prefix that ends with this block.
    pub(super) fn chain(&self) -> Option<ChainId> {
        self.is_published().then(|| ChainId::block(self.chain >> SERIAL, self.hash))
    }

    pub(super) fn is_published(&self) -> bool {
        self.chain != 0
    }

    /// The prefix before this block, whose adapter the index knows; meaningful while it is published.
    pub(super) fn parent(&self, adapter: AdapterId) -> Link {
        if self.chain & 1 == 1 {
            return Link::Root(CacheSpace { salt: CacheSalt(self.parent), adapter });
        }
        Link::Block(self.parent)
    }

    pub(super) fn hash(&self) -> u32 {
        self.hash
    }

    /// Notes that the block completes `chain`, which continues `parent`.
    pub(super) fn publish(&mut self, parent: ChainId, chain: ChainId) {
        let serial = chain.link().serial().expect("a block completes no root");
        let (value, is_root) = match parent.link() {
            Link::Root(space) => (space.salt.0, 1),
            Link::Block(serial) => (serial, 0),
        };
        self.parent = value;
        self.chain = serial << SERIAL | is_root;
        self.hash = chain.hash();
    }

    pub(super) fn unpublish(&mut self) {
        self.chain = 0;
    }

    /// How long the published content stays; ordinary for what is not published.
    pub(super) fn retention(&self) -> Retention {
        Retention::of_class((self.chain >> 1) as usize % (1 << CLASS_BITS))
    }

    /// Changes how long the content stays, which is published.
    pub(super) fn set_retention(&mut self, retention: Retention) {
        let mask = ((1 << CLASS_BITS) - 1) << 1;
        self.chain = self.chain & !mask | (retention.class() as u64) << 1;
    }
}

/// Bits of a retention class.
const CLASS_BITS: u32 = 5;
const _: () = assert!(CLASSES <= 1 << CLASS_BITS);

/// Where a serial number begins.
const SERIAL: u32 = 1 + CLASS_BITS;

/// All records. Behind those of the blocks are the ends of the free lists, one list per retention class; the ends of the
/// first are the null block's links.
#[derive(Debug)]
pub(super) struct Records {
    records: Box<[Record]>,
    blocks: u32,
}

impl Records {
    /// `blocks` records, all free and ordinary, in the order of their ids.
    pub(super) fn new(blocks: u32) -> Self {
        let ends = CLASSES - 1;
        let mut records = Self { records: vec![Record::default(); blocks as usize + ends].into(), blocks };
        for class in 0..CLASSES {
            let end = records.end(Retention::of_class(class));
            (records[end].prev, records[end].next) = (end, end);
        }
        for block in 1..blocks {
            records.push_back(block, Retention::ORDINARY);
        }
        records
    }

    /// What stands before the first and behind the last block of a list.
    pub(super) fn end(&self, list: Retention) -> u32 {
        match list.class() as u32 {
            0 => NONE,
            class => self.blocks + class - 1,
        }
    }

    /// The block of a list that is evicted first.
    #[inline]
    pub(super) fn front(&self, list: Retention) -> Option<u32> {
        let end = self.end(list);
        let front = self[end].next;
        (front != end).then_some(front)
    }

    /// The block behind `block` in its free list, or the list's end.
    pub(super) fn after(&self, block: u32) -> u32 {
        self[block].next
    }

    /// The block before `block` in its free list, or the list's end.
    pub(super) fn before(&self, block: u32) -> u32 {
        self[block].prev
    }

    /// Makes `block` the first that is evicted of all.
    pub(super) fn push_front(&mut self, block: u32) {
        self.link(NONE, block, self[NONE].next);
    }

    /// Makes `block` the last of a list.
    pub(super) fn push_back(&mut self, block: u32, list: Retention) {
        let end = self.end(list);
        self.link(self[end].prev, block, end);
    }

    /// Takes `block` out of its free list.
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
            assert_eq!((record.parent(AdapterId::NONE), record.chain()), (root.link(), Some(chain)));
        }
        record.publish(ChainId::block(7, 0), chain);
        assert_eq!(record.parent(AdapterId(3)), Link::Block(7));
        assert_ne!(record.parent(AdapterId::NONE), ChainId::root(CacheSalt(7)).link());
    }

    #[test]
    fn the_free_list_starts_in_id_order_and_unlinks_from_the_middle() {
        let mut records = Records::new(5);
        records.unlink(2);
        records.push_front(2);
        records.unlink(3);
        records.push_back(3, Retention::ORDINARY);
        let mut order = vec![];
        let mut block = records.front(Retention::ORDINARY).unwrap();
        while block != NONE {
            order.push(block);
            block = records.after(block);
        }
        assert_eq!(order, [2, 1, 4, 3]);
        assert_eq!(records.before(1), 2);
    }

    #[test]
    fn each_class_has_a_list_of_its_own() {
        let mut records = Records::new(4);
        let lists = (0..CLASSES).map(Retention::of_class);
        assert!(lists.clone().skip(1).all(|list| records.front(list).is_none()));
        for list in lists.skip(1) {
            records.unlink(2);
            records.push_back(2, list);
            assert_eq!(records.after(2), records.end(list));
            records.unlink(3);
            records.push_back(3, list);
            assert_eq!(
                (records.front(list), records.after(2), records.after(3)),
                (Some(2), 3, records.end(list))
            );
        }
        assert_eq!(records.front(Retention::ORDINARY), Some(1));
    }

    #[test]
    fn a_retention_changes_nothing_else() {
        let mut record = Record::default();
        let chain = ChainId::block(u64::MAX >> SERIAL, 5);
        record.publish(ChainId::root(CacheSalt(7)), chain);
        for class in [3, CLASSES - 1, 0] {
            record.set_retention(Retention::of_class(class));
            assert_eq!(record.retention().class(), class);
            assert_eq!(
                (record.parent(AdapterId::NONE), record.chain()),
                (ChainId::root(CacheSalt(7)).link(), Some(chain))
            );
        }
    }
}
