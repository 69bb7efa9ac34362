//! Waiting sequences: four classes, each in order of arrival, with finite ageing.

use crate::{Priority, Sequence, SequenceId};
use rustc_hash::FxHashMap;
use slab::Slab;
use std::time::{Duration, Instant};

const NIL: u32 = u32::MAX;

/// Sequences that wait to be admitted.
///
/// Each class is an intrusive list in order of arrival, so that its head is both its oldest member and the one with
/// the highest effective class: choosing the next sequence looks at four heads. Removal from anywhere is O(1).
#[derive(Debug)]
pub struct WaitingQueue {
    ageing: Duration,
    nodes: Slab<Node>,
    index: FxHashMap<SequenceId, u32>,
    classes: [List; 4],
    prompt_tokens: u64,
}

#[derive(Debug)]
struct Node {
    sequence: Sequence,
    prev: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl WaitingQueue {
    /// An empty queue in which waiting for `ageing` raises the effective class by one; zero raises it at once.
    pub fn new(ageing: Duration) -> Self {
        let list = List { head: NIL, tail: NIL, len: 0 };
        Self { ageing, nodes: Slab::new(), index: FxHashMap::default(), classes: [list; 4], prompt_tokens: 0 }
    }

    /// Number of waiting sequences.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Number of waiting sequences of a class.
    pub fn class_len(&self, class: Priority) -> u32 {
        self.classes[class.index()].len
    }

    /// Prompt tokens of all waiting sequences.
    pub fn prompt_tokens(&self) -> u64 {
        self.prompt_tokens
    }

    /// Whether the sequence waits.
    pub fn contains(&self, id: SequenceId) -> bool {
        self.index.contains_key(&id)
    }

    /// A waiting sequence.
    pub fn get(&self, id: SequenceId) -> Option<&Sequence> {
        self.index.get(&id).map(|&key| &self.nodes[key as usize].sequence)
    }

    pub(crate) fn get_mut(&mut self, id: SequenceId) -> Option<&mut Sequence> {
        self.index.get(&id).map(|&key| &mut self.nodes[key as usize].sequence)
    }

    /// Waiting sequences in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Sequence> {
        self.nodes.iter().map(|(_, node)| &node.sequence)
    }

    /// Adds a sequence at its place in the order of arrival.
    ///
    /// A new arrival goes to the end. A preempted sequence is older than every one of its class that never ran, so
    /// the search from the front passes only preempted ones.
    pub fn insert(&mut self, sequence: Sequence) {
        let class = sequence.priority().index();
        let order = sequence.order();
        let tail = self.classes[class].tail;
        let next = if tail == NIL || self.nodes[tail as usize].sequence.order() < order {
            NIL
        } else {
            self.first_after(class, order)
        };
        self.insert_before(class, next, sequence);
    }

    /// Takes a sequence out.
    pub fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        let key = self.index.remove(&id)?;
        let Node { sequence, prev, next } = self.nodes.remove(key as usize);
        let list = &mut self.classes[sequence.priority().index()];
        list.len -= 1;
        match prev {
            NIL => list.head = next,
            _ => self.nodes[prev as usize].next = next,
        }
        match next {
            NIL => list.tail = prev,
            _ => self.nodes[next as usize].prev = prev,
        }
        self.prompt_tokens -= sequence.request.prompt.len() as u64;
        Some(sequence)
    }

    /// The sequence that goes next: highest effective class, then earliest arrival.
    pub fn head(&self, now: Instant) -> Option<&Sequence> {
        let heads = self.classes.iter().filter(|list| list.head != NIL);
        heads
            .map(|list| &self.nodes[list.head as usize].sequence)
            .max_by_key(|head| (self.effective_class(head, now), std::cmp::Reverse(head.order())))
    }

    /// Class of a sequence after the time it has waited; never above the highest class.
    pub fn effective_class(&self, sequence: &Sequence, now: Instant) -> Priority {
        let waited = now.saturating_duration_since(sequence.request.enqueued_at);
        let raised = waited.as_nanos().checked_div(self.ageing.as_nanos()).unwrap_or(u128::MAX);
        let class = (sequence.priority().index() as u128).saturating_add(raised);
        Priority::ALL[class.min(3) as usize]
    }

    /// How long a sequence of `class` can wait before no later arrival goes before it.
    pub fn ageing_bound(&self, class: Priority) -> Duration {
        self.ageing.saturating_mul(3 - class.index() as u32)
    }

    fn first_after(&self, class: usize, order: (u64, crate::SampleIndex)) -> u32 {
        let mut key = self.classes[class].head;
        while key != NIL && self.nodes[key as usize].sequence.order() < order {
            key = self.nodes[key as usize].next;
        }
        key
    }

    fn insert_before(&mut self, class: usize, next: u32, sequence: Sequence) {
        let id = sequence.id();
        self.prompt_tokens += sequence.request.prompt.len() as u64;
        let prev = if next == NIL { self.classes[class].tail } else { self.nodes[next as usize].prev };
        let key = self.nodes.insert(Node { sequence, prev, next }) as u32;
        let list = &mut self.classes[class];
        list.len += 1;
        match prev {
            NIL => list.head = key,
            _ => self.nodes[prev as usize].next = key,
        }
        match next {
            NIL => list.tail = key,
            _ => self.nodes[next as usize].prev = key,
        }
        let known = self.index.insert(id, key);
        assert!(known.is_none(), "sequence {id} waits twice");
    }

    /// Asserts that lists, index and counters agree.
    ///
    /// # Panics
    /// With what is broken.
    pub fn check_invariants(&self) {
        let mut seen = 0;
        let mut tokens = 0;
        for (class, list) in self.classes.iter().enumerate() {
            let (mut key, mut prev, mut len) = (list.head, NIL, 0);
            while key != NIL {
                let node = &self.nodes[key as usize];
                assert_eq!(node.prev, prev, "back link of waiting {}", node.sequence.id());
                assert_eq!(
                    node.sequence.priority().index(),
                    class,
                    "class of waiting {}",
                    node.sequence.id()
                );
                assert_eq!(self.index.get(&node.sequence.id()), Some(&key), "index of waiting sequences");
                if prev != NIL {
                    let before = self.nodes[prev as usize].sequence.order();
                    assert!(before < node.sequence.order(), "order of arrival in class {class}");
                }
                tokens += node.sequence.request.prompt.len() as u64;
                (prev, key, len) = (key, node.next, len + 1);
            }
            assert_eq!((list.tail, list.len), (prev, len), "end and length of class {class}");
            seen += len as usize;
        }
        assert_eq!((self.nodes.len(), self.index.len()), (seen, seen), "waiting sequences outside any class");
        assert_eq!(self.prompt_tokens, tokens, "waiting prompt tokens");
    }
}
