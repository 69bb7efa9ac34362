//! Waiting sequences: four classes, each in order of arrival, with finite ageing.

use crate::{Priority, Sequence, SequenceId};
use rustc_hash::FxHashMap;
use slab::Slab;
use std::cmp::Reverse;
use std::time::{Duration, Instant};

const NIL: u32 = u32::MAX;

/// Sequences that wait to be admitted.
///
/// Each class is two intrusive lists in order of arrival: preempted sequences, and behind them those that never ran.
/// Choosing the next sequence looks at the eight heads; removal from anywhere is O(1).
#[derive(Debug)]
pub struct WaitingQueue {
    ageing: Duration,
    nodes: Slab<Node>,
    index: FxHashMap<SequenceId, u32>,
    /// Two per class: preempted, then fresh.
    lists: [List; 8],
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
        Self { ageing, nodes: Slab::new(), index: FxHashMap::default(), lists: [list; 8], prompt_tokens: 0 }
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
        self.lists[2 * class.index()].len + self.lists[2 * class.index() + 1].len
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
    /// A fresh one goes to the end. A preempted one goes before the preempted ones of its class that are younger;
    /// there are never more of those than rows in a batch.
    pub fn insert(&mut self, sequence: Sequence) {
        let list = list_of(&sequence);
        let order = sequence.order();
        let tail = self.lists[list].tail;
        let next =
            if tail == NIL || self.at(tail).order() < order { NIL } else { self.first_after(list, order) };
        self.insert_before(list, next, sequence);
    }

    /// Takes a sequence out.
    pub fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        let key = self.index.remove(&id)?;
        let Node { sequence, prev, next } = self.nodes.remove(key as usize);
        let list = &mut self.lists[list_of(&sequence)];
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
        let heads = Priority::ALL.into_iter().filter_map(|class| {
            let head = self.preempted_head(class).or(self.fresh_head(class))?;
            Some((self.class_rank(class, now), Reverse(head.order()), head))
        });
        heads.max_by_key(|&(rank, order, _)| (rank, order)).map(|(_, _, head)| head)
    }

    fn preempted_head(&self, class: Priority) -> Option<&Sequence> {
        self.first(2 * class.index())
    }

    /// The oldest sequence of a class that never ran.
    pub(crate) fn fresh_head(&self, class: Priority) -> Option<&Sequence> {
        self.first(2 * class.index() + 1)
    }

    /// Class of a sequence after the time it has waited; never above the highest class.
    pub fn effective_class(&self, sequence: &Sequence, now: Instant) -> Priority {
        let raised = sequence.waited(now).as_nanos().checked_div(self.ageing.as_nanos()).unwrap_or(u128::MAX);
        let class = (sequence.priority().index() as u128).saturating_add(raised);
        Priority::ALL[class.min(3) as usize]
    }

    /// Whether a running sequence would go after `head` if it were preempted now.
    pub(crate) fn stays_behind(&self, running: &Sequence, head: &Sequence, now: Instant) -> bool {
        let rank = self.effective_class(running, now).max(self.class_rank(running.priority(), now));
        let head_rank = self.class_rank(head.priority(), now);
        (rank, Reverse(running.order())) < (head_rank, Reverse(head.order()))
    }

    /// Highest effective class among the heads of a class: a preempted head, which may have waited little, inherits
    /// the rank of the one that has waited longest behind it.
    fn class_rank(&self, class: Priority, now: Instant) -> Priority {
        let ranks = [self.preempted_head(class), self.fresh_head(class)]
            .into_iter()
            .flatten()
            .map(|head| self.effective_class(head, now));
        ranks.max().unwrap_or(Priority::Low)
    }

    /// How long a sequence of `class` can wait before no later arrival goes before it.
    pub fn ageing_bound(&self, class: Priority) -> Duration {
        self.ageing.saturating_mul(3 - class.index() as u32)
    }

    fn at(&self, key: u32) -> &Sequence {
        &self.nodes[key as usize].sequence
    }

    fn first(&self, list: usize) -> Option<&Sequence> {
        let head = self.lists[list].head;
        (head != NIL).then(|| self.at(head))
    }

    fn first_after(&self, list: usize, order: (u64, crate::SampleIndex)) -> u32 {
        let mut key = self.lists[list].head;
        while key != NIL && self.at(key).order() < order {
            key = self.nodes[key as usize].next;
        }
        key
    }

    fn insert_before(&mut self, list: usize, next: u32, sequence: Sequence) {
        let id = sequence.id();
        self.prompt_tokens += sequence.request.prompt.len() as u64;
        let prev = if next == NIL { self.lists[list].tail } else { self.nodes[next as usize].prev };
        let key = self.nodes.insert(Node { sequence, prev, next }) as u32;
        let list = &mut self.lists[list];
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
        for (place, list) in self.lists.iter().enumerate() {
            let (mut key, mut prev, mut len) = (list.head, NIL, 0);
            while key != NIL {
                let Node { sequence, prev: back, next } = &self.nodes[key as usize];
                let id = sequence.id();
                assert_eq!(*back, prev, "back link of waiting {id}");
                assert_eq!(list_of(sequence), place, "list of waiting {id}");
                assert_eq!(self.index.get(&id), Some(&key), "index of waiting {id}");
                assert!(prev == NIL || self.at(prev).order() < sequence.order(), "{id} is out of order");
                tokens += sequence.request.prompt.len() as u64;
                (prev, key, len) = (key, *next, len + 1);
            }
            assert_eq!((list.tail, list.len), (prev, len), "end and length of list {place}");
            seen += len as usize;
        }
        assert_eq!((self.nodes.len(), self.index.len()), (seen, seen), "waiting sequences outside any class");
        assert_eq!(self.prompt_tokens, tokens, "waiting prompt tokens");
    }
}

fn list_of(sequence: &Sequence) -> usize {
    2 * sequence.priority().index() + usize::from(sequence.preemptions == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CacheSalt, Deadlines, Request, RequestId, SamplingParams, Tenant};
    use proptest::prelude::*;
    use uuid::Uuid;

    const AGEING: Duration = Duration::from_secs(1);

    fn sequence(arrival: u64, class: u8, enqueued_at: Instant) -> Sequence {
        let request = Request {
            id: RequestId(Uuid::from_u128(u128::from(arrival) + 1)),
            prompt: [1, 2, 3].into(),
            sampling: SamplingParams::greedy().into(),
            max_tokens: 1,
            samples: 1,
            priority: Priority::ALL[usize::from(class)],
            tenant: Tenant::default(),
            salt: CacheSalt(0),
            enqueued_at,
            deadlines: Deadlines::default(),
        };
        Sequence::new(request, arrival)
    }

    #[derive(Clone, Debug)]
    enum Op {
        Arrive(u8),
        /// Admits the head.
        Admit,
        /// Preempts one that was admitted.
        Preempt(prop::sample::Index),
        Cancel(prop::sample::Index),
        Wait(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0u8..4).prop_map(Op::Arrive),
            3 => Just(Op::Admit),
            2 => any::<prop::sample::Index>().prop_map(Op::Preempt),
            1 => any::<prop::sample::Index>().prop_map(Op::Cancel),
            2 => (0u64..1500).prop_map(Op::Wait),
        ]
    }

    /// The rule, by looking at everything: each class is served in order of arrival and ranks as high as its oldest
    /// preempted and its oldest fresh member.
    fn next_of(waiting: &[(u64, u8, bool)], waited: impl Fn(u64) -> Duration) -> Option<u64> {
        let rank = |class: u8| {
            let of = |preempted: bool| {
                waiting.iter().filter(move |it| it.1 == class && it.2 == preempted).map(|it| it.0).min()
            };
            let raised = |arrival| u64::from(class) + waited(arrival).as_secs();
            [of(true), of(false)].into_iter().flatten().map(raised).max().map(|rank| rank.min(3))
        };
        let heads = (0..4).filter_map(|class| {
            let oldest = waiting.iter().filter(|it| it.1 == class).map(|it| it.0).min()?;
            Some((rank(class)?, Reverse(oldest)))
        });
        heads.max().map(|(_, Reverse(arrival))| arrival)
    }

    proptest! {
        #[test]
        fn serves_in_the_order_of_the_rule(ops in prop::collection::vec(op(), 1..80)) {
            let mut now = Instant::now();
            let mut queue = WaitingQueue::new(AGEING);
            let (mut arrivals, mut waiting, mut running) = (0, Vec::new(), Vec::<Sequence>::new());
            for op in ops {
                match op {
                    Op::Arrive(class) => {
                        queue.insert(sequence(arrivals, class, now));
                        waiting.push((arrivals, class, false));
                        arrivals += 1;
                    }
                    Op::Admit => {
                        let Some(id) = queue.head(now).map(Sequence::id) else { continue };
                        let mut head = queue.remove(id).expect("the head waits");
                        waiting.retain(|it| it.0 != head.arrival);
                        head.admitted(now);
                        running.push(head);
                    }
                    Op::Preempt(index) if !running.is_empty() => {
                        let mut victim = running.remove(index.index(running.len()));
                        victim.preempted(now);
                        waiting.push((victim.arrival, victim.priority() as u8, true));
                        queue.insert(victim);
                    }
                    Op::Cancel(index) if !waiting.is_empty() => {
                        let (arrival, ..) = waiting.remove(index.index(waiting.len()));
                        let id = sequence(arrival, 0, now).id();
                        prop_assert_eq!(queue.remove(id).map(|it| it.arrival), Some(arrival));
                    }
                    Op::Preempt(_) | Op::Cancel(_) => {}
                    Op::Wait(millis) => now += Duration::from_millis(millis),
                }
                queue.check_invariants();
                let waited = |arrival| {
                    let id = sequence(arrival, 0, now).id();
                    queue.get(id).map_or(Duration::ZERO, |it| it.waited(now))
                };
                prop_assert_eq!(queue.head(now).map(|head| head.arrival), next_of(&waiting, waited));
                prop_assert_eq!(queue.len(), waiting.len());
            }
        }
    }
}
