//! Waiting sequences: four classes with finite ageing; within a class those that were preempted first, then tenants by their share,
//! each in order of arrival.

mod accounts;
mod list;
#[cfg(test)]
mod tests;

use crate::{Priority, Sequence, SequenceId, Tenant};
use accounts::Accounts;
use list::{Kind, List, NIL, Nodes};
use rustc_hash::FxHashMap;
use std::time::{Duration, Instant};

/// How often a class that has aged to the rank of a higher one is passed over by it before it has its turn.
pub const TURNS: u32 = 8;

/// Sequences that wait to be admitted.
///
/// Choosing the next sequence looks at the heads of the classes and costs O(log tenants); removal from anywhere is O(1).
#[derive(Debug)]
pub struct WaitingQueue {
    ageing: Duration,
    nodes: Nodes,
    index: FxHashMap<SequenceId, u32>,
    classes: [Class; 4],
    accounts: Accounts,
    prompt_tokens: u64,
}

/// The waiting sequences of a class, each list in order of arrival.
#[derive(Clone, Copy, Debug)]
struct Class {
    preempted: List,
    /// Those that never ran, of all tenants.
    fresh: List,
    /// Admissions of higher classes since this one, which ranked no lower, was last served.
    passed: u32,
}

impl WaitingQueue {
    /// An empty queue in which waiting for `ageing` raises the effective class by one; zero raises it at once.
    pub fn new(ageing: Duration) -> Self {
        let class = Class { preempted: List::EMPTY, fresh: List::EMPTY, passed: 0 };
        Self {
            ageing,
            nodes: Nodes::default(),
            index: FxHashMap::default(),
            classes: [class; 4],
            accounts: Accounts::default(),
            prompt_tokens: 0,
        }
    }

    /// Number of waiting sequences.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 0
    }

    /// Number of waiting sequences of a class.
    pub fn class_len(&self, class: Priority) -> u32 {
        let class = &self.classes[class.index()];
        class.preempted.len() + class.fresh.len()
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
        self.index.get(&id).map(|&key| self.nodes.at(key))
    }

    pub(crate) fn get_mut(&mut self, id: SequenceId) -> Option<&mut Sequence> {
        self.index.get(&id).map(|&key| self.nodes.at_mut(key))
    }

    /// Waiting sequences in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Sequence> {
        self.nodes.iter()
    }

    /// The account that a request of a tenant is charged to; it stays until [`close`](Self::close).
    pub(crate) fn open(&mut self, class: Priority, tenant: Tenant) -> u32 {
        self.accounts.open(class, tenant)
    }

    /// Forgets a request that has ended.
    pub(crate) fn close(&mut self, account: u32) {
        self.accounts.close(account);
    }

    /// Charges computed tokens to an account: of a prompt, and generated ones.
    pub(crate) fn charge(&mut self, account: u32, prefill: u32, decode: u32) {
        self.accounts.charge(account, prefill, decode);
    }

    /// Adds a sequence at its place in the order of arrival.
    ///
    /// A fresh one goes to the end. A preempted one goes before the preempted ones of its class that are younger;
    /// there are never more of those than rows in a batch.
    pub fn insert(&mut self, sequence: Sequence) {
        let (id, account, fresh) = (sequence.id(), sequence.account, is_fresh(&sequence));
        let (place, order) = (sequence.priority().index(), sequence.order());
        self.prompt_tokens += sequence.request.prompt.len() as u64;
        let key = self.nodes.insert(sequence);
        let class = &mut self.classes[place];
        if fresh {
            self.nodes.link(Kind::Class, &mut class.fresh, NIL, key);
            if self.accounts.waiting(account).len() == 0 {
                self.accounts.lift(account, &self.nodes);
            }
            self.nodes.link(Kind::Tenant, self.accounts.waiting_mut(account), NIL, key);
            self.accounts.list(account, &self.nodes);
        } else {
            let after_all = class.preempted.last().is_none_or(|last| self.nodes.at(last).order() < order);
            let mut members = self.nodes.from(Kind::Class, class.preempted.first());
            let next =
                if after_all { None } else { members.find(|&other| self.nodes.at(other).order() > order) };
            drop(members);
            self.nodes.link(Kind::Class, &mut class.preempted, next.unwrap_or(NIL), key);
        }
        let known = self.index.insert(id, key);
        assert!(known.is_none(), "sequence {id} waits twice");
    }

    /// Takes a sequence out.
    pub fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        let key = self.index.remove(&id)?;
        let sequence = self.nodes.at(key);
        let (account, fresh) = (sequence.account, is_fresh(sequence));
        let class = &mut self.classes[sequence.priority().index()];
        if fresh {
            self.nodes.unlink(Kind::Class, &mut class.fresh, key);
            self.nodes.unlink(Kind::Tenant, self.accounts.waiting_mut(account), key);
        } else {
            self.nodes.unlink(Kind::Class, &mut class.preempted, key);
        }
        let sequence = self.nodes.remove(key);
        self.prompt_tokens -= sequence.request.prompt.len() as u64;
        Some(sequence)
    }

    /// Takes a sequence out because it is admitted, which counts as a turn of its class and tenant.
    pub(crate) fn admit(&mut self, id: SequenceId, now: Instant) -> Option<Sequence> {
        let class = self.get(id)?.priority();
        let rank = self.class_rank(class, now);
        for lower in Priority::ALL.into_iter().take(class.index()) {
            if self.class_len(lower) > 0 && self.class_rank(lower, now) >= rank {
                self.classes[lower.index()].passed += 1;
            }
        }
        let passed = std::mem::take(&mut self.classes[class.index()].passed);
        let mut sequence = self.remove(id)?;
        sequence.passes.had_turn = passed >= TURNS;
        if is_fresh(&sequence) {
            self.accounts.taken(sequence.account);
        }
        Some(sequence)
    }

    /// The sequence that goes next: the first of the class that goes first.
    pub fn head(&mut self, now: Instant) -> Option<SequenceId> {
        let class = self.class_order(now).next()?;
        self.class_head(class)
    }

    /// Classes in which something waits, the one that goes first in front: by effective class, then a lower one that was passed
    /// over often enough, then by class.
    pub(crate) fn class_order(&self, now: Instant) -> impl Iterator<Item = Priority> + use<> {
        let mut order = Priority::ALL.map(|class| {
            let waits = self.class_len(class) > 0;
            let turn = self.classes[class.index()].passed >= TURNS;
            waits.then(|| (self.class_rank(class, now), turn, class))
        });
        order.sort_unstable_by(|a, b| b.cmp(a));
        order.into_iter().flatten().map(|(_, _, class)| class)
    }

    /// The sequence of a class that goes first: one that was preempted, else the oldest of the tenant that was served least.
    pub(crate) fn class_head(&mut self, class: Priority) -> Option<SequenceId> {
        let preempted = self.classes[class.index()].preempted.first();
        let key = match preempted {
            Some(key) => key,
            None => {
                let account = self.accounts.least_charged(class, &self.nodes)?;
                self.accounts.waiting(account).first()?
            }
        };
        Some(self.nodes.at(key).id())
    }

    /// Those of the tenant of a fresh sequence that wait behind it, in order.
    pub(crate) fn behind(&self, id: SequenceId) -> impl Iterator<Item = &Sequence> {
        let key = self.index.get(&id).copied().filter(|&key| is_fresh(self.nodes.at(key)));
        self.nodes.from(Kind::Tenant, key).skip(1).map(|key| self.nodes.at(key))
    }

    /// All fresh ones of a class in order of arrival.
    pub(crate) fn fresh(&self, class: Priority) -> impl Iterator<Item = &Sequence> {
        let first = self.classes[class.index()].fresh.first();
        self.nodes.from(Kind::Class, first).map(|key| self.nodes.at(key))
    }

    /// How many sequences are expected to go before a waiting one.
    pub(crate) fn position(&self, id: SequenceId, now: Instant) -> u32 {
        let Some(&key) = self.index.get(&id) else { return 0 };
        let class = self.nodes.at(key).priority();
        let first: u32 = self.classes_before(class, now).map(|class| self.class_len(class)).sum();
        first + self.in_class_before(key).count() as u32
    }

    /// The sequences that are expected to go before a waiting one, in order, at most `most`.
    pub(crate) fn before(&self, id: SequenceId, most: usize, now: Instant) -> Vec<&Sequence> {
        let Some(&key) = self.index.get(&id) else { return Vec::new() };
        let class = self.nodes.at(key).priority();
        let first = self.classes_before(class, now).flat_map(|class| {
            let Class { preempted, fresh, .. } = &self.classes[class.index()];
            let lists = [preempted.first(), fresh.first()];
            lists.into_iter().flat_map(|first| self.nodes.from(Kind::Class, first))
        });
        first.chain(self.in_class_before(key)).take(most).map(|key| self.nodes.at(key)).collect()
    }

    fn classes_before(&self, class: Priority, now: Instant) -> impl Iterator<Item = Priority> + use<> {
        self.class_order(now).take_while(move |&other| other != class)
    }

    /// Those of its class that go before the sequence at `key`: preempted ones, then by share of the tenant and arrival.
    fn in_class_before(&self, key: u32) -> impl Iterator<Item = u32> {
        let sequence = self.nodes.at(key);
        let Class { preempted, .. } = &self.classes[sequence.priority().index()];
        let ahead = self.nodes.from(Kind::Class, preempted.first()).take_while(move |&other| other != key);
        let turns =
            if is_fresh(sequence) { self.accounts.turns_before(key, &self.nodes) } else { Vec::new() };
        ahead.chain(turns)
    }

    /// Class of a sequence after the time it has waited; never above the highest class.
    pub fn effective_class(&self, sequence: &Sequence, now: Instant) -> Priority {
        let raised = sequence.waited(now).as_nanos().checked_div(self.ageing.as_nanos()).unwrap_or(u128::MAX);
        let class = (sequence.priority().index() as u128).saturating_add(raised);
        Priority::ALL[class.min(3) as usize]
    }

    /// Whether a running sequence would go after the waiting `head`, of a higher class, if it were preempted now.
    pub(crate) fn stays_behind(&self, running: &Sequence, head: &Sequence, now: Instant) -> bool {
        let class = running.priority();
        let rank = self.effective_class(running, now).max(self.class_rank(class, now));
        let turn = self.classes[class.index()].passed >= TURNS;
        (rank, turn) <= (self.class_rank(head.priority(), now), false)
    }

    /// Highest effective class among the oldest of a class: the one that goes first, which may have waited little, inherits
    /// the rank of the one that has waited longest.
    fn class_rank(&self, class: Priority, now: Instant) -> Priority {
        let Class { preempted, fresh, .. } = &self.classes[class.index()];
        let oldest = [preempted.first(), fresh.first()].into_iter().flatten();
        oldest.map(|key| self.effective_class(self.nodes.at(key), now)).max().unwrap_or(Priority::Low)
    }

    /// How long the sequence that has waited longest has done so.
    pub(crate) fn longest_wait(&self, now: Instant) -> Duration {
        let lists = self.classes.iter().flat_map(|class| [class.preempted.first(), class.fresh.first()]);
        let waits = lists.flatten().map(|key| self.nodes.at(key).waited(now));
        waits.max().unwrap_or_default()
    }

    /// How long a class can be passed over by later arrivals of higher classes; after that it has at least every ninth turn.
    pub fn ageing_bound(&self, class: Priority) -> Duration {
        self.ageing.saturating_mul(3 - class.index() as u32)
    }

    /// Asserts that lists, index, accounts and counters agree.
    ///
    /// # Panics
    /// With what is broken.
    pub fn check_invariants(&self) {
        let (mut fresh, mut preempted) = (0, 0);
        for class in Priority::ALL {
            let lists = &self.classes[class.index()];
            fresh += self.nodes.check(Kind::Class, &lists.fresh);
            preempted += self.nodes.check(Kind::Class, &lists.preempted);
            for (list, expected) in [(&lists.fresh, true), (&lists.preempted, false)] {
                for key in self.nodes.from(Kind::Class, list.first()) {
                    let sequence = self.nodes.at(key);
                    let id = sequence.id();
                    assert_eq!(
                        (sequence.priority(), is_fresh(sequence)),
                        (class, expected),
                        "list of waiting {id}"
                    );
                    assert_eq!(self.index.get(&id), Some(&key), "index of waiting {id}");
                }
            }
        }
        assert_eq!(self.accounts.check(&self.nodes), fresh, "waiting sequences and those of their tenants");
        let seen = fresh + preempted;
        assert_eq!((self.nodes.len(), self.index.len()), (seen, seen), "waiting sequences outside any class");
        let tokens: u64 = self.iter().map(|waiting| waiting.request.prompt.len() as u64).sum();
        assert_eq!(self.prompt_tokens, tokens, "waiting prompt tokens");
    }
}

/// Whether a sequence has never run.
fn is_fresh(sequence: &Sequence) -> bool {
    sequence.preemptions == 0
}
