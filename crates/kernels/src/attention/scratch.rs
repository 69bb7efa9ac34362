//! Memory of attention between its reads and its output, sized once.

use super::units::{self, Plan, Split, Unit};
use super::{AttentionInput, QUERY_ROWS, SPAN};
use crate::buffer::{Buffer, OutOfMemory};
use crate::shared::SharedOut;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The largest step that an [`AttentionScratch`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionLimits {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Tokens of a step.
    pub tokens: usize,
    /// Rows of a step.
    pub rows: usize,
    /// Workers of the pool.
    pub threads: usize,
}

/// What attention keeps between its operations: scores and sums of every worker, and partial results of contexts that
/// several workers share. A call allocates nothing as long as it stays within the limits.
#[derive(Debug)]
pub struct AttentionScratch {
    /// Padded elements of a head.
    width: usize,
    /// Memory of the workers.
    words: Buffer<f32>,
    taken: Box<[AtomicBool]>,
    /// `[partial results, PARTIAL_HEAD + width]`
    partials: Buffer<f32>,
    units: Vec<Unit>,
    counts: Vec<u32>,
    /// Units of each split tile that are still to come.
    pending: Box<[AtomicU32]>,
}

/// Words from one row of scores to the next. Not a power of two, which would put all rows into the same cache sets.
pub(crate) const SCORE_STRIDE: usize = SPAN + 16;

/// Words before the values of a partial result: largest score and sum of weights, padded.
pub(crate) const PARTIAL_HEAD: usize = 16;

/// Partial results per worker.
const PARTIALS: usize = 1024;

/// Lengths of the allocations.
struct Lengths {
    area: usize,
    partials: usize,
    units: usize,
}

impl Lengths {
    fn new(limits: &AttentionLimits) -> Self {
        let width = padded(limits.head_dim);
        let partials = if limits.threads > 1 { limits.threads * PARTIALS } else { 0 };
        let tiles = units::most_tiles(limits.heads, limits.kv_heads, limits.tokens, limits.rows);
        Self { area: QUERY_ROWS * (SCORE_STRIDE + 3 * width), partials, units: tiles + partials }
    }
}

/// Elements of a head, padded to whole registers.
fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(16)
}

impl AttentionScratch {
    /// Memory for steps within `limits`.
    ///
    /// # Errors
    ///
    /// When the system does not have the memory.
    pub fn new(limits: &AttentionLimits) -> Result<Self, OutOfMemory> {
        let (lengths, width) = (Lengths::new(limits), padded(limits.head_dim));
        let pending = || AtomicU32::new(0);
        Ok(Self {
            width,
            words: Buffer::zeroed(limits.threads * lengths.area)?,
            taken: std::iter::repeat_with(|| AtomicBool::new(false)).take(limits.threads).collect(),
            partials: Buffer::zeroed(lengths.partials * (PARTIAL_HEAD + width))?,
            units: Vec::with_capacity(lengths.units),
            counts: Vec::with_capacity(lengths.partials),
            pending: std::iter::repeat_with(pending).take(lengths.partials).collect(),
        })
    }

    /// Bytes that [`new`](Self::new) reserves.
    pub fn planned_bytes(limits: &AttentionLimits) -> u64 {
        let (lengths, width) = (Lengths::new(limits), padded(limits.head_dim));
        let words = limits.threads * lengths.area + lengths.partials * (PARTIAL_HEAD + width + 2);
        (4 * words + lengths.units * size_of::<Unit>() + limits.threads) as u64
    }

    /// Bytes reserved.
    pub fn bytes(&self) -> u64 {
        let words = self.words.len() + self.partials.len() + self.counts.capacity() + self.pending.len();
        (4 * words + self.units.capacity() * size_of::<Unit>() + self.taken.len()) as u64
    }

    /// Cuts a step into units for `workers` and lends out the memory for them.
    ///
    /// # Panics
    ///
    /// When the scratch memory was made for smaller heads.
    pub(super) fn plan(
        &mut self,
        input: &AttentionInput<'_>,
        workers: usize,
    ) -> (Plan<'_>, Areas<'_>, Partials<'_>) {
        let dim = input.shape.head_dim;
        assert!(padded(dim) <= self.width, "scratch memory for heads of {}, not {dim}", self.width);
        let stride = PARTIAL_HEAD + self.width;
        let room = self.partials.len() / stride;
        let grain = units::plan(input, workers, room, &mut self.units, &mut self.counts);
        for (pending, &count) in self.pending.iter().zip(&self.counts) {
            pending.store(count, Ordering::Relaxed);
        }
        let plan = Plan { units: &self.units, grain };
        let areas = Areas { words: SharedOut::new(&mut self.words), taken: &self.taken, width: self.width };
        let rows = SharedOut::new(&mut self.partials);
        (plan, areas, Partials { rows, stride, pending: &self.pending })
    }
}

/// The memory of all workers.
pub(super) struct Areas<'a> {
    words: SharedOut<'a, f32>,
    taken: &'a [AtomicBool],
    width: usize,
}

impl Areas<'_> {
    /// An area that nobody else has.
    ///
    /// # Panics
    ///
    /// When more threads ask than the memory was made for.
    pub(super) fn claim(&self) -> Area<'_> {
        let free = |taken: &AtomicBool| !taken.swap(true, Ordering::Acquire);
        let index = self.taken.iter().position(free).expect("scratch memory for every worker");
        let len = self.words.len() / self.taken.len();
        // SAFETY: the flag keeps other threads away until the area is dropped.
        let words = unsafe { self.words.slice(index * len..(index + 1) * len) };
        let (scores, rest) = words.split_at_mut(QUERY_ROWS * SCORE_STRIDE);
        let (queries, rest) = rest.split_at_mut(QUERY_ROWS * self.width);
        let (sums, totals) = rest.split_at_mut(QUERY_ROWS * self.width);
        Area { scores, queries, sums, totals, taken: &self.taken[index] }
    }
}

/// The memory of one worker, as long as it works on some units.
pub(crate) struct Area<'a> {
    /// `[QUERY_ROWS, SCORE_STRIDE]` scores of a span, then weights.
    pub(crate) scores: &'a mut [f32],
    /// `[QUERY_ROWS, width]` queries as the products take them.
    pub(crate) queries: &'a mut [f32],
    /// `[QUERY_ROWS, width]` weighted values of a span.
    pub(crate) sums: &'a mut [f32],
    /// `[QUERY_ROWS, width]` weighted values of all spans so far.
    pub(crate) totals: &'a mut [f32],
    taken: &'a AtomicBool,
}

impl Drop for Area<'_> {
    fn drop(&mut self) {
        self.taken.store(false, Ordering::Release);
    }
}

/// Partial results of split tiles.
pub(crate) struct Partials<'a> {
    rows: SharedOut<'a, f32>,
    stride: usize,
    pending: &'a [AtomicU32],
}

impl Partials<'_> {
    /// Partial result `place` of a split tile.
    ///
    /// # Safety
    ///
    /// The caller's unit is the one that writes this place, or it is the last unit of the tile.
    #[expect(clippy::mut_from_ref, reason = "the places are shared out by units")]
    pub(crate) unsafe fn row(&self, split: Split, place: usize) -> &mut [f32] {
        let start = (split.first + place) * self.stride;
        // SAFETY: tiles have disjoint places, and the caller keeps units of one tile apart.
        unsafe { self.rows.slice(start..start + self.stride) }
    }

    /// Counts a unit of the tile as done; whether it was the last.
    pub(crate) fn done(&self, split: Split) -> bool {
        // Release what this unit wrote, acquire what the others wrote.
        self.pending[split.index].fetch_sub(1, Ordering::AcqRel) == 1
    }
}
