//! The running set.

use crate::{BatchId, KvLayout, Priority, Sequence, SequenceId};
use rustc_hash::FxHashMap;
use slab::Slab;
use std::time::{Duration, Instant};

const NIL: u32 = u32::MAX;

/// Key of a running sequence; valid until the sequence is removed.
pub(crate) type RowKey = u32;

/// Sequences that run, in order of admission. Adding, removing and finding one costs O(1).
///
/// The set lives as long as the scheduler; each planned step gives it the next [`BatchId`].
#[derive(Debug)]
pub struct Batch {
    id: BatchId,
    created_at: Option<Instant>,
    nodes: Slab<Node>,
    index: FxHashMap<SequenceId, RowKey>,
    head: RowKey,
    tail: RowKey,
    rows: u32,
    per_class: [u32; 4],
}

#[derive(Debug)]
struct Node {
    sequence: Sequence,
    prev: RowKey,
    next: RowKey,
}

impl Default for Batch {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl Batch {
    /// An empty batch before its first step.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch that holds `sequences` without allocating.
    pub fn with_capacity(sequences: usize) -> Self {
        Self {
            id: BatchId(0),
            created_at: None,
            nodes: Slab::with_capacity(sequences),
            index: FxHashMap::with_capacity_and_hasher(sequences, Default::default()),
            head: NIL,
            tail: NIL,
            rows: 0,
            per_class: [0; 4],
        }
    }

    /// Starts a step: the next id, created at `now`.
    pub fn begin(&mut self, now: Instant) -> BatchId {
        self.id.0 += 1;
        self.created_at = Some(now);
        self.id
    }

    /// Number of the last step; 0 before the first.
    pub fn id(&self) -> BatchId {
        self.id
    }

    /// When the last step was planned; `None` before the first.
    pub fn created_at(&self) -> Option<Instant> {
        self.created_at
    }

    /// Number of running sequences.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing runs.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Rows that the sequences stand for; more than [`len`](Self::len) while samples are not forked yet.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Running sequences of a class.
    pub fn class_len(&self, class: Priority) -> u32 {
        self.per_class[class.index()]
    }

    /// Bytes of the blocks that the sequences hold; a block that several share counts for each.
    pub fn memory_bytes(&self, layout: &KvLayout) -> u64 {
        self.iter().map(|sequence| sequence.table().held() as u64).sum::<u64>() * layout.block_bytes()
    }

    /// Adds a sequence at the end.
    ///
    /// # Panics
    /// If it is in the batch already.
    pub fn add(&mut self, sequence: Sequence) {
        self.insert(sequence);
    }

    /// Takes a sequence out.
    pub fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        let key = *self.index.get(&id)?;
        Some(self.remove_key(key))
    }

    /// Whether the sequence runs.
    pub fn contains(&self, id: SequenceId) -> bool {
        self.index.contains_key(&id)
    }

    /// A running sequence.
    pub fn get(&self, id: SequenceId) -> Option<&Sequence> {
        self.key(id).map(|key| self.at(key))
    }

    /// Running sequences in order of admission.
    pub fn iter(&self) -> impl Iterator<Item = &Sequence> {
        self.keys().map(|key| self.at(key))
    }

    pub(crate) fn key(&self, id: SequenceId) -> Option<RowKey> {
        self.index.get(&id).copied()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = RowKey> {
        let step = |key: RowKey| (key != NIL).then_some(key);
        std::iter::successors(step(self.head), move |&key| step(self.nodes[key as usize].next))
    }

    pub(crate) fn holds(&self, key: RowKey) -> bool {
        self.nodes.contains(key as usize)
    }

    pub(crate) fn at(&self, key: RowKey) -> &Sequence {
        &self.nodes[key as usize].sequence
    }

    pub(crate) fn at_mut(&mut self, key: RowKey) -> &mut Sequence {
        &mut self.nodes[key as usize].sequence
    }

    /// Two different sequences, the second to be changed.
    pub(crate) fn pair_mut(&mut self, one: RowKey, other: RowKey) -> (&Sequence, &mut Sequence) {
        let nodes = self.nodes.get2_mut(one as usize, other as usize);
        let (one, other) = nodes.expect("two keys of running sequences");
        (&one.sequence, &mut other.sequence)
    }

    pub(crate) fn insert(&mut self, sequence: Sequence) -> RowKey {
        let id = sequence.id();
        self.rows += sequence.rows();
        self.per_class[sequence.priority().index()] += 1;
        let key = self.nodes.insert(Node { sequence, prev: self.tail, next: NIL }) as RowKey;
        match self.tail {
            NIL => self.head = key,
            tail => self.nodes[tail as usize].next = key,
        }
        self.tail = key;
        let known = self.index.insert(id, key);
        assert!(known.is_none(), "sequence {id} runs twice");
        key
    }

    pub(crate) fn remove_key(&mut self, key: RowKey) -> Sequence {
        let Node { sequence, prev, next } = self.nodes.remove(key as usize);
        match prev {
            NIL => self.head = next,
            _ => self.nodes[prev as usize].next = next,
        }
        match next {
            NIL => self.tail = prev,
            _ => self.nodes[next as usize].prev = prev,
        }
        self.rows -= sequence.rows();
        self.per_class[sequence.priority().index()] -= 1;
        self.index.remove(&sequence.id());
        sequence
    }

    /// Changes how many rows a sequence stands for, keeping the count of rows.
    pub(crate) fn change_rows<T>(&mut self, key: RowKey, change: impl FnOnce(&mut Sequence) -> T) -> T {
        let sequence = &mut self.nodes[key as usize].sequence;
        self.rows -= sequence.rows();
        let result = change(sequence);
        self.rows += sequence.rows();
        result
    }

    /// Asserts that order, index and counters agree.
    ///
    /// # Panics
    /// With what is broken.
    pub fn check_invariants(&self) {
        let (mut prev, mut len, mut rows, mut per_class) = (NIL, 0, 0, [0; 4]);
        for key in self.keys() {
            let node = &self.nodes[key as usize];
            assert_eq!(node.prev, prev, "back link of running {}", node.sequence.id());
            assert_eq!(self.index.get(&node.sequence.id()), Some(&key), "index of running sequences");
            rows += node.sequence.rows();
            per_class[node.sequence.priority().index()] += 1;
            (prev, len) = (key, len + 1);
        }
        assert_eq!(self.tail, prev, "end of the running list");
        assert_eq!((self.nodes.len(), self.index.len()), (len, len), "running sequences outside the list");
        assert_eq!((self.rows, self.per_class), (rows, per_class), "rows, sequences per class");
    }
}

/// Figures of the running batch at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchStats {
    /// Number of the last step.
    pub batch: BatchId,
    /// Running sequences.
    pub sequences: u32,
    /// Rows that they stand for.
    pub rows: u32,
    /// Most rows.
    pub max_rows: u32,
    /// Bytes of all blocks in use; a shared block counts once.
    pub memory_bytes: u64,
    /// From plan to commit of the last finished step.
    pub processing_time: Duration,
}

impl BatchStats {
    /// Rows in use in percent of the most rows; 0 if there can be none.
    pub fn utilization_percent(&self) -> f64 {
        if self.max_rows == 0 {
            return 0.0;
        }
        100.0 * f64::from(self.rows) / f64::from(self.max_rows)
    }
}
