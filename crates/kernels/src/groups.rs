//! Linear operations whose rows are in groups with weights of their own, as the experts of a layer have them.
//!
//! All groups are one run of the pool, so that many groups of a row or two keep as many workers busy as one large one. A row has
//! the bits that [`Kernels::linear`] gives it.

use crate::act::Glu;
use crate::buffer::OutOfMemory;
use crate::linear::{GRAIN, K_BLOCK, Operation, Output, PREPARE_GRAIN, PrepareTask, READ, row_parts};
use crate::packed::{PackedLinear, UNIT};
use crate::pool::{WorkerPool, partition};
use crate::rows::RowBlocks;
use crate::scratch::{LinearScratch, MAX_STEP, Words};
use crate::shared::SharedOut;
use crate::table::Kernels;
use std::ops::Range;

/// Consecutive rows of the input that meet the same weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowGroup {
    /// Number of the weights, see [`GroupedInput::weights`].
    pub weights: u32,
    /// Rows, at least one.
    pub rows: Range<u32>,
}

/// Weights with their bias.
#[derive(Clone, Copy, Debug)]
pub struct LinearRef<'a> {
    /// `[n, k]`
    pub weight: &'a PackedLinear,
    /// `[n]`
    pub bias: Option<&'a [f32]>,
}

/// Rows in groups.
#[derive(Clone, Copy)]
pub struct GroupedInput<'a> {
    /// `[m, k]`
    pub x: &'a [f32],
    /// Groups, one after the other from row 0 to m.
    pub groups: &'a [RowGroup],
    /// The weights of a number, which all have one shape; only those of the groups are asked for, and read.
    pub weights: &'a (dyn Fn(u32) -> LinearRef<'a> + Sync),
}

/// Memory of linear operations of groups.
#[derive(Debug)]
pub struct GroupScratch {
    input: LinearScratch,
    parts: Vec<Part>,
}

/// A group as it is shared out.
#[derive(Clone, Debug)]
struct Part {
    rows: RowBlocks,
    /// Where the words of its input start.
    words: usize,
    /// Tasks of this group and those before it.
    tasks: usize,
}

impl GroupScratch {
    /// Memory for operations of up to `max_rows` rows of up to `max_k` inputs in up to `max_groups` groups.
    ///
    /// # Errors
    ///
    /// When the system does not have the memory.
    pub fn new(max_rows: usize, max_k: usize, max_groups: usize) -> Result<Self, OutOfMemory> {
        let input = LinearScratch::new(padded(max_rows, max_groups), max_k)?;
        Ok(GroupScratch { input, parts: Vec::with_capacity(max_groups) })
    }

    /// The same, also for weights whose columns have the inputs in an order of their own.
    ///
    /// # Errors
    ///
    /// When the system does not have the memory.
    pub fn for_orders(max_rows: usize, max_k: usize, max_groups: usize) -> Result<Self, OutOfMemory> {
        let input = LinearScratch::for_orders(padded(max_rows, max_groups), max_k)?;
        Ok(GroupScratch { input, parts: Vec::with_capacity(max_groups) })
    }

    /// Bytes that [`new`](Self::new) reserves.
    pub fn planned_bytes(max_rows: usize, max_k: usize, max_groups: usize) -> u64 {
        let parts = max_groups * size_of::<Part>();
        LinearScratch::planned_bytes(padded(max_rows, max_groups), max_k) + parts as u64
    }

    /// Bytes that [`for_orders`](Self::for_orders) reserves.
    pub fn planned_bytes_for_orders(max_rows: usize, max_k: usize, max_groups: usize) -> u64 {
        let gathered = LinearScratch::planned_bytes(padded(max_rows, max_groups), max_k);
        Self::planned_bytes(max_rows, max_k, max_groups) + gathered
    }

    /// Bytes reserved.
    pub fn bytes(&self) -> u64 {
        self.input.bytes() + (self.parts.capacity() * size_of::<Part>()) as u64
    }
}

/// Rows of groups, each padded by itself.
fn padded(rows: usize, groups: usize) -> usize {
    rows.saturating_add(groups.saturating_mul(MAX_STEP - 1))
}

/// The groups of a call, checked.
struct Groups<'k, 'a> {
    kernels: &'k Kernels,
    input: GroupedInput<'a>,
    /// Its rows, their inputs in the order of the columns of their weights.
    x: &'k [f32],
    /// Inputs of the packed matrices.
    k: usize,
}

pub(crate) fn run(
    kernels: &Kernels,
    pool: &WorkerPool,
    input: GroupedInput<'_>,
    glu: Option<Glu>,
    scratch: &mut GroupScratch,
    out: &mut [f32],
) {
    let Some(first) = input.groups.first() else { return };
    let w = (input.weights)(first.weights).weight;
    let (n, k) = (w.n(), w.k());
    let columns = glu.map_or(n, |_| w.gated().expect("the matrices of a gated unit"));
    let rows = check(&input, (n, k), glu.is_some());
    assert_eq!(out.len(), rows * columns, "out is [{rows}, {columns}]");
    let GroupScratch { input: LinearScratch { words, gathered }, parts } = scratch;
    let groups = Groups { kernels, input, x: in_order(&input, k, gathered), k };
    let padded_rows = groups.prepare(pool, words, parts);
    let prepared = words.get(padded_rows, k);

    let piece = if glu.is_some() { 2 * UNIT } else { UNIT };
    let pieces = w.units() * UNIT / piece;
    let split = |part: &Part| row_parts(pool, pieces * input.groups.len(), part.rows);
    let tasks = number(parts, |part| pieces * split(part));
    let products = n * k * (rows + READ * input.groups.len()) / tasks;
    let out = SharedOut::new(out);
    pool.share(tasks, GRAIN.div_ceil(products.max(1)), &|tasks| {
        for task in tasks {
            let (index, task) = locate(parts, task);
            let (group, part) = (&input.groups[index], &parts[index]);
            let (first, end) = (group.rows.start as usize, group.rows.end as usize);
            let LinearRef { weight: w, bias } = (input.weights)(group.weights);
            let elements = &out.part(first * columns..end * columns);
            let operation = Operation {
                x: &groups.x[first * k..end * k],
                prepared: &prepared[part.words..],
                w,
                bias,
                glu,
                out: Output { elements, stride: columns, first_row: 0, first_column: 0 },
                rows: part.rows,
            };
            let split = split(part);
            let units = task / split * (piece / UNIT);
            let blocks = partition(part.rows.count(), split, task % split);
            operation.compute(kernels, units..units + piece / UNIT, blocks);
        }
    });
}

/// Checks the shapes of weights `[n, k]`; answers the number of rows.
fn check(input: &GroupedInput<'_>, (n, k): (usize, usize), gated: bool) -> usize {
    let GroupedInput { x, groups, weights } = input;
    let mut rows = 0;
    for group in *groups {
        assert!(group.rows.start == rows && group.rows.end > rows, "{group:?} after row {rows}");
        rows = group.rows.end;
        let LinearRef { weight: w, bias } = weights(group.weights);
        assert!((w.n(), w.k()) == (n, k), "weights {} have another shape", group.weights);
        assert!(w.gated().is_some() == gated || !gated, "weights {} are no gated unit", group.weights);
        assert!(bias.is_none_or(|bias| bias.len() == n), "bias is [{n}]");
    }
    assert_eq!(x.len(), rows as usize * k, "x is [{rows}, {k}]");
    rows as usize
}

/// The rows of `k` inputs, these in the order of the columns of their weights, in `to` where that of some is another.
fn in_order<'a: 'b, 'b>(input: &GroupedInput<'a>, k: usize, to: &'b mut [f32]) -> &'b [f32] {
    let GroupedInput { x, groups, weights } = *input;
    let order = |group: &RowGroup| weights(group.weights).weight.order();
    if groups.iter().all(|group| order(group).is_none()) {
        return x;
    }
    assert!(x.len() <= to.len(), "the scratch memory is not for weights in an order of their own");
    for group in groups {
        let range = group.rows.start as usize * k..group.rows.end as usize * k;
        let (rows, to) = (x[range.clone()].chunks_exact(k), to[range].chunks_exact_mut(k));
        for (x, to) in rows.zip(to) {
            match order(group) {
                Some(order) => to.iter_mut().zip(order).for_each(|(to, &i)| *to = x[i as usize]),
                None => to.copy_from_slice(x),
            }
        }
    }
    &to[..x.len()]
}

impl Groups<'_, '_> {
    /// Arranges the input of all groups; answers the rows that they are padded to.
    fn prepare(&self, pool: &WorkerPool, memory: &mut Words, parts: &mut Vec<Part>) -> usize {
        let (GroupedInput { groups, weights, .. }, x, k) = (self.input, self.x, self.k);
        let mut before = 0;
        parts.clear();
        parts.extend(groups.iter().map(|group| {
            let format = weights(group.weights).weight.format();
            let rows = RowBlocks::new(group.rows.len(), (self.kernels.blocking)(format, group.rows.len()));
            let words = LinearScratch::needed(before, k);
            before += group.rows.len().next_multiple_of(MAX_STEP);
            Part { rows, words, tasks: 0 }
        }));
        let steps = k.div_ceil(K_BLOCK);
        let tasks = number(parts, |part| part.rows.count() * steps);
        let grain = PREPARE_GRAIN.div_ceil((x.len() / tasks).max(1));
        let words = SharedOut::new(memory.get_mut(before, k));
        pool.share(tasks, grain, &|tasks| {
            for task in tasks {
                let (index, task) = locate(parts, task);
                let (group, part) = (&groups[index], &parts[index]);
                let start = task % steps * K_BLOCK;
                let end = part.words + LinearScratch::needed(group.rows.len(), k);
                (self.kernels.prepare)(PrepareTask {
                    x: &x[group.rows.start as usize * k..group.rows.end as usize * k],
                    w: weights(group.weights).weight,
                    rows: part.rows,
                    block: task / steps,
                    k: start..(start + K_BLOCK).min(k),
                    out: &words.part(part.words..end),
                });
            }
        });
        before
    }
}

/// Counts the tasks of the groups; answers their sum.
fn number(parts: &mut [Part], tasks: impl Fn(&Part) -> usize) -> usize {
    let mut before = 0;
    for part in parts {
        before += tasks(part);
        part.tasks = before;
    }
    before
}

/// The group that a task is of, and its number in the group.
fn locate(parts: &[Part], task: usize) -> (usize, usize) {
    let index = parts.partition_point(|part| part.tasks <= task);
    let before = index.checked_sub(1).map_or(0, |before| parts[before].tasks);
    (index, task - before)
}
