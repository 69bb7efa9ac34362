//! Lists whose links lie in their members, so that leaving from anywhere is O(1).

use crate::Sequence;
use slab::Slab;

pub(super) const NIL: u32 = u32::MAX;

/// Which of the two lists that a sequence may be in.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// All of a class, preempted or fresh.
    Class = 0,
    /// The fresh ones of a tenant within a class.
    Tenant = 1,
}

/// A waiting sequence and its neighbours.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) sequence: Sequence,
    links: [Links; 2],
}

#[derive(Clone, Copy, Debug)]
struct Links {
    prev: u32,
    next: u32,
}

/// Ends of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { head: NIL, tail: NIL, len: 0 };

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Key of the first member.
    pub(super) fn first(&self) -> Option<u32> {
        (self.head != NIL).then_some(self.head)
    }

    pub(super) fn last(&self) -> Option<u32> {
        (self.tail != NIL).then_some(self.tail)
    }
}

/// All waiting sequences, by key.
#[derive(Debug, Default)]
pub(super) struct Nodes(Slab<Node>);

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn at(&self, key: u32) -> &Sequence {
        &self.0[key as usize].sequence
    }

    pub(super) fn at_mut(&mut self, key: u32) -> &mut Sequence {
        &mut self.0[key as usize].sequence
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Sequence> {
        self.0.iter().map(|(_, node)| &node.sequence)
    }

    /// Adds a sequence to no list.
    pub(super) fn insert(&mut self, sequence: Sequence) -> u32 {
        self.0.insert(Node { sequence, links: [Links { prev: NIL, next: NIL }; 2] }) as u32
    }

    /// Takes a sequence that is in no list.
    pub(super) fn remove(&mut self, key: u32) -> Sequence {
        self.0.remove(key as usize).sequence
    }

    /// Puts a sequence before `next`, at the end if that is [`NIL`].
    pub(super) fn link(&mut self, kind: Kind, list: &mut List, next: u32, key: u32) {
        let prev = if next == NIL { list.tail } else { self.links(kind, next).prev };
        *self.links(kind, key) = Links { prev, next };
        match prev {
            NIL => list.head = key,
            _ => self.links(kind, prev).next = key,
        }
        match next {
            NIL => list.tail = key,
            _ => self.links(kind, next).prev = key,
        }
        list.len += 1;
    }

    /// Takes a sequence out of the list that it is in.
    pub(super) fn unlink(&mut self, kind: Kind, list: &mut List, key: u32) {
        let Links { prev, next } = *self.links(kind, key);
        match prev {
            NIL => list.head = next,
            _ => self.links(kind, prev).next = next,
        }
        match next {
            NIL => list.tail = prev,
            _ => self.links(kind, next).prev = prev,
        }
        list.len -= 1;
    }

    /// Keys of the members from `first` on.
    pub(super) fn from(&self, kind: Kind, first: Option<u32>) -> impl Iterator<Item = u32> {
        std::iter::successors(first, move |&key| {
            let next = self.0[key as usize].links[kind as usize].next;
            (next != NIL).then_some(next)
        })
    }

    /// Asserts that the links agree and that members are in order of arrival; returns their number.
    ///
    /// # Panics
    /// With what is broken.
    pub(super) fn check(&self, kind: Kind, list: &List) -> usize {
        let (mut prev, mut len) = (NIL, 0);
        for key in self.from(kind, list.first()) {
            let id = self.at(key).id();
            assert_eq!(self.0[key as usize].links[kind as usize].prev, prev, "back link of waiting {id}");
            let in_order = prev == NIL || self.at(prev).order() < self.at(key).order();
            assert!(in_order, "{id} is out of order");
            (prev, len) = (key, len + 1);
        }
        assert_eq!((list.tail, list.len), (prev, len), "end and length of a list");
        len as usize
    }

    fn links(&mut self, kind: Kind, key: u32) -> &mut Links {
        &mut self.0[key as usize].links[kind as usize]
    }
}
