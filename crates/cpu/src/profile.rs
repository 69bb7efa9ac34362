//! Where the time of the steps goes, by operation.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A part of a step, summed over the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Rows of the token embedding.
    Embed,
    /// Norms of rows and of heads, with the sums with the residual stream that come before them.
    Norm,
    /// Projection to queries, keys and values.
    Qkv,
    /// Rotation of queries and keys, the angles included.
    Rope,
    /// Keys and values into their blocks.
    KvWrite,
    /// Attention over the blocks.
    Attention,
    /// Projection of what was attended.
    O,
    /// Projections to gate and up, the activation of the one times the other.
    GateUp,
    /// Projection down.
    Down,
    /// Updates of adapters.
    Adapters,
    /// Choosing experts, and the way of rows to them and back.
    Route,
    /// Logits.
    Head,
    /// Tokens from logits.
    Sample,
    /// The rest: checks, copies of blocks, bookkeeping.
    Other,
}

/// Number of operations.
pub(crate) const OPERATIONS: usize = Operation::ALL.len();

impl Operation {
    /// All operations in the order of a step.
    pub const ALL: [Self; 14] = [
        Self::Embed,
        Self::Norm,
        Self::Qkv,
        Self::Rope,
        Self::KvWrite,
        Self::Attention,
        Self::O,
        Self::GateUp,
        Self::Down,
        Self::Adapters,
        Self::Route,
        Self::Head,
        Self::Sample,
        Self::Other,
    ];

    /// A short name, for tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::Norm => "norm",
            Self::Qkv => "qkv",
            Self::Rope => "rope",
            Self::KvWrite => "kv_write",
            Self::Attention => "attention",
            Self::O => "o",
            Self::GateUp => "gate_up",
            Self::Down => "down",
            Self::Adapters => "adapters",
            Self::Route => "route",
            Self::Head => "head",
            Self::Sample => "sample",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an operation has to read and compute at least, whatever the kernel does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of weights as stored, each read once per step.
    pub weight_bytes: u64,
    /// Bytes of keys and values read or written, each row's context once per step.
    pub kv_bytes: u64,
    /// Multiplications and additions of linear operations and attention; 0 for all others.
    pub flops: u64,
}

/// Measures the steps of an executor by operation; a handle, whose clones are the same profile.
///
/// Off until [`start`](Self::start): a step then pays one branch per operation. Take the handle with
/// [`CpuExecutor::profile`](crate::CpuExecutor::profile) before the executor moves into an engine, and read
/// [`report`](Self::report) from any thread; between two steps it is consistent.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    on: AtomicBool,
    /// By kind of step.
    kinds: [Totals; 2],
}

#[derive(Debug, Default)]
struct Totals {
    steps: AtomicU64,
    tokens: AtomicU64,
    sampled: AtomicU64,
    nanos: AtomicU64,
    operations: [Counters; OPERATIONS],
}

#[derive(Debug, Default)]
struct Counters {
    calls: AtomicU64,
    nanos: AtomicU64,
    weight_bytes: AtomicU64,
    kv_bytes: AtomicU64,
    flops: AtomicU64,
}

/// Kinds of steps, which differ in what limits them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepKind {
    /// Some row computes more than one token, or does not sample: prompts are being read, maybe beside decoding rows.
    Prefill,
    /// Every row computes one token and samples.
    Decode,
}

/// What was measured since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileReport {
    /// Steps.
    pub steps: u64,
    /// Tokens computed.
    pub tokens: u64,
    /// Rows that sampled.
    pub sampled: u64,
    /// Time of the steps; the times of the operations sum to it.
    pub time: Duration,
    /// One entry per operation, in the order of a step.
    pub operations: Vec<OperationReport>,
}

/// What was measured of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationReport {
    /// Which one.
    pub operation: Operation,
    /// How often it was entered.
    pub calls: u64,
    /// Time from the end of the operation before it to its own end.
    pub time: Duration,
    /// What it had to read and compute.
    pub cost: Cost,
}

/// What one step adds to a profile.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StepRecord {
    pub(crate) tokens: u64,
    pub(crate) sampled: u64,
    pub(crate) nanos: u64,
    pub(crate) calls: [u64; OPERATIONS],
    pub(crate) operation_nanos: [u64; OPERATIONS],
    pub(crate) costs: [Cost; OPERATIONS],
}

impl Profile {
    /// Forgets what was measured and measures from the next step on.
    pub fn start(&self) {
        self.shared.on.store(false, Relaxed);
        for totals in &self.shared.kinds {
            let counters = [&totals.steps, &totals.tokens, &totals.sampled, &totals.nanos];
            let parts = totals.operations.iter().flat_map(Counters::all);
            counters.into_iter().chain(parts).for_each(|counter| counter.store(0, Relaxed));
        }
        self.shared.on.store(true, Relaxed);
    }

    /// Measures no further step; what was measured stays.
    pub fn stop(&self) {
        self.shared.on.store(false, Relaxed);
    }

    /// Whether steps are measured.
    pub fn is_on(&self) -> bool {
        self.shared.on.load(Relaxed)
    }

    /// What was measured so far, of steps of both kinds.
    pub fn report(&self) -> ProfileReport {
        let [mut sum, more] = [StepKind::Prefill, StepKind::Decode].map(|kind| self.report_of(kind));
        sum.steps += more.steps;
        sum.tokens += more.tokens;
        sum.sampled += more.sampled;
        sum.time += more.time;
        for (sum, more) in sum.operations.iter_mut().zip(more.operations) {
            sum.calls += more.calls;
            sum.time += more.time;
            sum.cost.weight_bytes += more.cost.weight_bytes;
            sum.cost.kv_bytes += more.cost.kv_bytes;
            sum.cost.flops += more.cost.flops;
        }
        sum
    }

    /// What was measured so far, of steps of one kind.
    pub fn report_of(&self, kind: StepKind) -> ProfileReport {
        let totals = &self.shared.kinds[kind as usize];
        let operation = |(operation, counters): (Operation, &Counters)| OperationReport {
            operation,
            calls: counters.calls.load(Relaxed),
            time: Duration::from_nanos(counters.nanos.load(Relaxed)),
            cost: Cost {
                weight_bytes: counters.weight_bytes.load(Relaxed),
                kv_bytes: counters.kv_bytes.load(Relaxed),
                flops: counters.flops.load(Relaxed),
            },
        };
        ProfileReport {
            steps: totals.steps.load(Relaxed),
            tokens: totals.tokens.load(Relaxed),
            sampled: totals.sampled.load(Relaxed),
            time: Duration::from_nanos(totals.nanos.load(Relaxed)),
            operations: Operation::ALL.into_iter().zip(&totals.operations).map(operation).collect(),
        }
    }

    pub(crate) fn add(&self, step: &StepRecord) {
        let kind = if step.tokens == step.sampled { StepKind::Decode } else { StepKind::Prefill };
        let totals = &self.shared.kinds[kind as usize];
        let sums = [(&totals.steps, 1), (&totals.tokens, step.tokens), (&totals.sampled, step.sampled)];
        sums.into_iter().for_each(|(counter, value)| add(counter, value));
        add(&totals.nanos, step.nanos);
        for (index, counters) in totals.operations.iter().enumerate() {
            let cost = step.costs[index];
            let values = [
                step.calls[index],
                step.operation_nanos[index],
                cost.weight_bytes,
                cost.kv_bytes,
                cost.flops,
            ];
            counters.all().into_iter().zip(values).for_each(|(counter, value)| add(counter, value));
        }
    }
}

impl Counters {
    fn all(&self) -> [&AtomicU64; 5] {
        [&self.calls, &self.nanos, &self.weight_bytes, &self.kv_bytes, &self.flops]
    }
}

fn add(counter: &AtomicU64, value: u64) {
    counter.fetch_add(value, Relaxed);
}
