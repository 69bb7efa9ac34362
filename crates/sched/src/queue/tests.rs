use super::*;
use crate::{CacheSalt, Deadlines, Request, RequestId, SamplingParams, TenantId, Weight};
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use uuid::Uuid;

const AGEING: Duration = Duration::from_secs(1);

fn id(arrival: u64) -> SequenceId {
    SequenceId { request: RequestId(Uuid::from_u128(u128::from(arrival) + 1)), sample: crate::SampleIndex(0) }
}

fn tenant(number: u8) -> Tenant {
    let weight = Weight::try_from(f64::from(1u32 << number)).unwrap();
    Tenant { id: TenantId(u64::from(number)), weight }
}

/// A waiting sequence whose request has just arrived.
fn arrive(queue: &mut WaitingQueue, arrival: u64, class: u8, tenant: Tenant, now: Instant) -> u32 {
    let priority = Priority::ALL[usize::from(class)];
    let request = Request {
        id: id(arrival).request,
        prompt: [1, 2, 3].into(),
        sampling: SamplingParams::greedy().into(),
        max_tokens: 1,
        samples: 1,
        priority,
        tenant,
        salt: CacheSalt(0),
        adapter: Default::default(),
        retention: Default::default(),
        enqueued_at: now,
        deadlines: Deadlines::default(),
    };
    let mut sequence = Sequence::new(request, arrival);
    sequence.account = queue.open(priority, tenant);
    let account = sequence.account;
    queue.insert(sequence);
    account
}

#[derive(Clone, Debug)]
enum Op {
    Arrive(u8, u8),
    /// Admits the head.
    Admit,
    /// Preempts one that was admitted.
    Preempt(prop::sample::Index),
    /// Ends one that was admitted.
    End(prop::sample::Index),
    Cancel(prop::sample::Index),
    Charge(prop::sample::Index, u16),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (0u8..4, 0u8..3).prop_map(|(class, tenant)| Op::Arrive(class, tenant)),
        3 => Just(Op::Admit),
        2 => index().prop_map(Op::Preempt),
        2 => index().prop_map(Op::End),
        1 => index().prop_map(Op::Cancel),
        3 => (index(), 0u16..1000).prop_map(|(index, tokens)| Op::Charge(index, tokens)),
        2 => (0u64..1500).prop_map(Op::Wait),
    ]
}

/// A request as the rules see it.
#[derive(Clone, Copy, Debug)]
struct Known {
    arrival: u64,
    class: u8,
    tenant: u8,
    preempted: bool,
}

/// The rules, by looking at everything.
#[derive(Default)]
struct Model {
    waiting: Vec<Known>,
    running: Vec<Known>,
    /// Charge of tenants that have requests, or are above the floor, by class.
    charged: BTreeMap<(u8, u8), u64>,
    floors: [u64; 4],
    passed: [u32; 4],
}

impl Model {
    fn backlogged(&self, class: u8) -> impl Iterator<Item = &Known> {
        self.waiting.iter().filter(move |it| it.class == class && !it.preempted)
    }

    fn of(&self, known: &Known) -> u64 {
        self.charged.get(&(known.class, known.tenant)).copied().unwrap_or(0)
    }

    fn arrive(&mut self, known: Known) {
        if !self.backlogged(known.class).any(|it| it.tenant == known.tenant) {
            let least = self.backlogged(known.class).map(|it| self.of(it)).min();
            let level = least.unwrap_or(self.floors[usize::from(known.class)]);
            let charged = self.of(&known).max(level);
            self.charged.insert((known.class, known.tenant), charged);
        }
        self.waiting.push(known);
    }

    fn rank(&self, class: u8, waited: impl Fn(u64) -> Duration) -> u64 {
        let oldest = |preempted: bool| {
            let of_class = self.waiting.iter().filter(|it| it.class == class && it.preempted == preempted);
            of_class.map(|it| it.arrival).min()
        };
        let ranks = [oldest(true), oldest(false)].into_iter().flatten();
        ranks.map(|it| (u64::from(class) + waited(it).as_secs()).min(3)).max().unwrap_or(0)
    }

    fn has(&self, class: u8) -> bool {
        self.waiting.iter().any(|it| it.class == class)
    }

    fn next(&self, waited: impl Fn(u64) -> Duration) -> Option<Known> {
        let order =
            |&class: &u8| (self.rank(class, &waited), self.passed[usize::from(class)] >= TURNS, class);
        let class = (0..4).filter(|&class| self.has(class)).max_by_key(order)?;
        let preempted = self.waiting.iter().filter(|it| it.class == class && it.preempted);
        let fresh =
            || self.backlogged(class).max_by_key(|it| Reverse((self.of(it), self.first(it), it.arrival)));
        preempted.min_by_key(|it| it.arrival).or_else(fresh).copied()
    }

    /// The oldest request of a tenant.
    fn first(&self, known: &Known) -> u64 {
        let same = self.backlogged(known.class).filter(|it| it.tenant == known.tenant);
        same.map(|it| it.arrival).min().unwrap_or(known.arrival)
    }

    fn admit(&mut self, known: Known, waited: impl Fn(u64) -> Duration) {
        let rank = self.rank(known.class, &waited);
        for lower in 0..known.class {
            if self.has(lower) && self.rank(lower, &waited) >= rank {
                self.passed[usize::from(lower)] += 1;
            }
        }
        self.passed[usize::from(known.class)] = 0;
        self.waiting.retain(|it| it.arrival != known.arrival);
        if !known.preempted {
            let floor = self.floors[usize::from(known.class)].max(self.of(&known));
            self.floors[usize::from(known.class)] = floor;
        }
        self.running.push(known);
        self.forget();
    }

    fn end(&mut self, known: &Known) {
        self.waiting.retain(|it| it.arrival != known.arrival);
        self.running.retain(|it| it.arrival != known.arrival);
        self.forget();
    }

    fn forget(&mut self) {
        let live: Vec<_> = self.waiting.iter().chain(&self.running).map(|it| (it.class, it.tenant)).collect();
        let floors = self.floors;
        self.charged.retain(|key, charged| live.contains(key) || *charged > floors[usize::from(key.0)]);
    }
}

proptest! {
    #[test]
    fn serves_in_the_order_of_the_rules(ops in prop::collection::vec(op(), 1..120)) {
        let mut now = Instant::now();
        let mut queue = WaitingQueue::new(AGEING);
        let (mut arrivals, mut model, mut running) = (0, Model::default(), Vec::<Sequence>::new());
        let mut accounts = BTreeMap::new();
        for op in ops {
            let waited = |queue: &WaitingQueue, arrival| queue.get(id(arrival)).map_or(Duration::ZERO, |it| it.waited(now));
            match op {
                Op::Arrive(class, number) => {
                    let account = arrive(&mut queue, arrivals, class, tenant(number), now);
                    accounts.insert(arrivals, account);
                    model.arrive(Known { arrival: arrivals, class, tenant: number, preempted: false });
                    arrivals += 1;
                }
                Op::Admit => {
                    let Some(next) = model.next(|arrival| waited(&queue, arrival)) else { continue };
                    model.admit(next, |arrival| waited(&queue, arrival));
                    let head = queue.head(now).expect("something waits");
                    let mut head = queue.admit(head, now).expect("the head waits");
                    head.admitted(now);
                    running.push(head);
                }
                Op::Preempt(index) if !running.is_empty() => {
                    let mut victim = running.remove(index.index(running.len()));
                    victim.preempted(now);
                    let known = model.running.iter().position(|it| it.arrival == victim.arrival).unwrap();
                    let known = model.running.remove(known);
                    model.waiting.push(Known { preempted: true, ..known });
                    queue.insert(victim);
                }
                Op::End(index) if !running.is_empty() => {
                    let ended = running.remove(index.index(running.len()));
                    let known = *model.running.iter().find(|it| it.arrival == ended.arrival).unwrap();
                    queue.close(ended.account);
                    model.end(&known);
                }
                Op::Cancel(index) if !model.waiting.is_empty() => {
                    let known = model.waiting[index.index(model.waiting.len())];
                    let removed = queue.remove(id(known.arrival)).map(|it| it.arrival);
                    prop_assert_eq!(removed, Some(known.arrival));
                    queue.close(accounts[&known.arrival]);
                    model.end(&known);
                }
                Op::Charge(index, tokens) if !running.is_empty() => {
                    let charged = &running[index.index(running.len())];
                    queue.charge(charged.account, u32::from(tokens), 1);
                    let known = model.running.iter().find(|it| it.arrival == charged.arrival).unwrap();
                    let service = (u64::from(tokens) + 2) * (1_000_000 >> known.tenant);
                    *model.charged.entry((known.class, known.tenant)).or_default() += service;
                }
                Op::Preempt(_) | Op::End(_) | Op::Cancel(_) | Op::Charge(..) => {}
                Op::Wait(millis) => now += Duration::from_millis(millis),
            }
            queue.check_invariants();
            let waited = |arrival| queue.get(id(arrival)).map_or(Duration::ZERO, |it| it.waited(now));
            let expected = model.next(waited).map(|next| id(next.arrival));
            prop_assert_eq!(queue.head(now), expected);
            prop_assert_eq!(queue.len(), model.waiting.len());
        }
    }
}

/// An account of a tenant that comes once is not kept for ever.
#[test]
fn accounts_of_tenants_that_left_are_forgotten() {
    let now = Instant::now();
    let mut queue = WaitingQueue::new(AGEING);
    for arrival in 0..20_000 {
        let tenant = Tenant { id: TenantId(arrival), weight: Weight::default() };
        let account = arrive(&mut queue, arrival, 1, tenant, now);
        let head = queue.head(now).expect("one waits");
        queue.admit(head, now).expect("the head waits");
        queue.charge(account, 100, 0);
        queue.close(account);
    }
    assert!(queue.accounts.len() <= accounts::MAX_IDLE + 1, "{} accounts are kept", queue.accounts.len());
    queue.check_invariants();
}
