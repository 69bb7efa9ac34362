//! Attention: online softmax over segments of the context.
//!
//! The context is cut at multiples of [`SEGMENT`] positions, whatever the block size and the chunk. For each segment the
//! scores of all query rows of an item are computed, masked and turned into weights, and the weighted values are added to
//! the output, which is the accumulator. A row takes from a segment exactly the positions that it sees: where the rows of
//! an item see different parts, the values are added token by token. So what happens to a row depends on its own
//! position only, and memory that no row may see has no effect, whatever it holds.

use super::math::{exp, tanh};
use super::simd::{Simd, StoredKv};
use super::tile::{First, Left, Right, Sums, Whole, Width, accumulate};
use crate::attention::{AttentionTask, Item, QUERY_ROWS};
use crate::kv::KvRef;
use std::ops::Range;

/// Positions of a segment: four groups.
const SEGMENT: usize = 64;

/// Positions that surely lie in one block: the divisor of every block size.
const GROUP: usize = 16;

/// Bytes of a cache line.
const LINE: usize = 64;

/// What changes from item to item and from segment to segment.
struct Scratch {
    /// Scores, then weights, of the rows in a segment.
    weights: [[f32; SEGMENT]; QUERY_ROWS],
    /// Largest score so far.
    max: [f32; QUERY_ROWS],
    /// Sum of the weights so far.
    sum: [f32; QUERY_ROWS],
    /// Factor of what was accumulated before this segment.
    decay: [f32; QUERY_ROWS],
}

/// Query rows of one item: `heads` of one group for each of its tokens, token by token.
struct Rows<'a, T> {
    task: &'a AttentionTask<'a>,
    keys: &'a [T],
    values: &'a [T],
    item: Item<'a>,
    heads: Range<usize>,
}

#[inline(always)]
pub(crate) fn attention<S: Simd>(s: S, task: AttentionTask<'_>) {
    match task.kv {
        KvRef::F32 { keys, values } => items(s, &task, keys, values),
        KvRef::Bf16 { keys, values } => items(s, &task, keys, values),
    }
}

#[inline(always)]
fn items<S: Simd, T: StoredKv<S>>(s: S, task: &AttentionTask<'_>, keys: &[T], values: &[T]) {
    let mut scratch = Scratch {
        weights: [[0.0; SEGMENT]; QUERY_ROWS],
        max: [0.0; QUERY_ROWS],
        sum: [0.0; QUERY_ROWS],
        decay: [0.0; QUERY_ROWS],
    };
    for item in task.items() {
        let group = task.input.group();
        let heads = item.kv_head * group..(item.kv_head + 1) * group;
        for first in heads.clone().step_by(QUERY_ROWS) {
            let heads = first..(first + QUERY_ROWS).min(heads.end);
            Rows { task, keys, values, item, heads }.attend(s, &mut scratch);
        }
    }
}

impl<T> Rows<'_, T> {
    fn len(&self) -> usize {
        self.item.tokens * self.heads.len()
    }

    /// Rows of token `token` of the item.
    fn rows_of(&self, token: usize) -> Range<usize> {
        token * self.heads.len()..(token + 1) * self.heads.len()
    }

    /// The query of row `row`.
    fn query(&self, row: usize) -> &[f32] {
        let (token, head) = (row / self.heads.len(), self.heads.start + row % self.heads.len());
        let dim = self.task.input.shape.head_dim;
        let start = (self.item.token + token) * self.task.input.q_stride + head * dim;
        &self.task.input.q[start..start + dim]
    }

    /// The output of row `row`.
    #[expect(clippy::mut_from_ref, reason = "the output is shared out by items")]
    fn out(&self, row: usize) -> &mut [f32] {
        let (token, head) = (row / self.heads.len(), self.heads.start + row % self.heads.len());
        let dim = self.task.input.shape.head_dim;
        let start = (self.item.token + token) * self.task.input.heads * dim + head * dim;
        // SAFETY: each head of each token belongs to one item and each item to one worker, and no caller in this file
        // holds two outputs of one row.
        unsafe { self.task.out.slice(start..start + dim) }
    }

    /// What token `token` of the item sees of the segment that starts at position `start`, relative to it.
    fn visible(&self, token: usize, start: usize) -> Range<usize> {
        let position = self.item.position + token;
        let first = self.task.input.first_visible(position).max(start);
        let end = (position + 1).min(start + SEGMENT).max(first);
        first - start..end - start
    }

    /// The element of `storage` where the head of the block that holds `position` starts, and the place in the block.
    fn locate(&self, position: usize) -> (usize, usize) {
        let shape = &self.task.input.shape;
        let block = self.item.table[position / shape.block_size] as usize;
        let start = block * shape.block_elements() + self.item.kv_head * shape.head_elements();
        (start, position % shape.block_size)
    }
}

/// Some rows of an item, R at a time.
macro_rules! by_rows {
    ($rows:expr, $row:ident, $r:ident => $body:expr) => {
        let mut $row = $rows.start;
        while $row < $rows.end {
            match $rows.end - $row {
                1 => {
                    const $r: usize = 1;
                    $body;
                    $row += $r;
                }
                2..4 => {
                    const $r: usize = 2;
                    $body;
                    $row += $r;
                }
                _ => {
                    const $r: usize = 4;
                    $body;
                    $row += $r;
                }
            }
        }
    };
}

impl<T> Rows<'_, T> {
    #[inline(always)]
    fn attend<S: Simd>(&self, s: S, scratch: &mut Scratch)
    where
        T: StoredKv<S>,
    {
        for row in 0..self.len() {
            self.out(row).fill(0.0);
            scratch.max[row] = f32::NEG_INFINITY;
            scratch.sum[row] = 0.0;
        }
        let first = self.task.input.first_visible(self.item.position);
        let end = self.item.position + self.item.tokens;
        for start in (first / SEGMENT * SEGMENT..end).step_by(SEGMENT) {
            let seen = first.saturating_sub(start)..(end - start).min(SEGMENT);
            self.prefetch_values(s, start, &seen);
            by_rows!(0..self.len(), row, R => self.scores::<S, R>(s, row, start, seen.clone(), scratch));
            for token in 0..self.item.tokens {
                let visible = self.visible(token, start);
                if !visible.is_empty() {
                    self.rows_of(token).for_each(|row| self.soften(s, row, visible.clone(), scratch));
                }
            }
            self.prefetch_keys(s, start + SEGMENT, end);
            self.add_values(s, start, scratch);
        }
        for row in 0..self.len() {
            let (out, inverse) = (self.out(row), s.splat(1.0 / scratch.sum[row]));
            for at in (0..out.len()).step_by(S::LANES) {
                let scaled = s.mul(s.get(out, at), inverse);
                s.put(out, at, scaled);
            }
        }
    }

    /// Asks for the values of `seen` in the segment at `start`, which are needed after its scores. Blocks are too small
    /// and too scattered for the hardware to see a stream.
    #[inline(always)]
    fn prefetch_values<S: Simd>(&self, s: S, start: usize, seen: &Range<usize>)
    where
        T: StoredKv<S>,
    {
        let elements = GROUP * self.task.input.shape.head_dim;
        for group in seen.start / GROUP..seen.end.div_ceil(GROUP) {
            let (head, place) = self.locate(start + group * GROUP);
            let values = &self.values[head + place * self.task.input.shape.head_dim..][..elements];
            values.iter().step_by(LINE / size_of::<T>()).for_each(|value| s.prefetch(value));
        }
    }

    /// Asks for the keys of the segment at `start` as far as `end`, which are needed next.
    #[inline(always)]
    fn prefetch_keys<S: Simd>(&self, s: S, start: usize, end: usize)
    where
        T: StoredKv<S>,
    {
        let shape = &self.task.input.shape;
        for position in (start..end.min(start + SEGMENT)).step_by(GROUP) {
            let (head, place) = self.locate(position);
            let keys = &self.keys[head..head + shape.head_elements()];
            // A group of tokens is one line of each step.
            let lines = keys[place * T::STEP..].iter().step_by(shape.block_size * T::STEP);
            lines.for_each(|key| s.prefetch(key));
        }
    }

    /// Dot products of R rows with the keys of the groups that hold `seen`.
    #[inline(always)]
    fn scores<S: Simd, const R: usize>(
        &self,
        s: S,
        row: usize,
        start: usize,
        seen: Range<usize>,
        scratch: &mut Scratch,
    ) where
        T: StoredKv<S>,
    {
        let (mut at, end) = (seen.start / GROUP * GROUP, seen.end.next_multiple_of(GROUP));
        // Four registers where there are 32 of them.
        while S::LANES == GROUP && end - at >= 4 * GROUP {
            self.score_columns::<S, R, 4>(s, row, start, at, scratch);
            at += 4 * GROUP;
        }
        while at < end {
            if S::LANES == GROUP {
                self.score_columns::<S, R, 1>(s, row, start, at, scratch);
            } else {
                self.score_columns::<S, R, 2>(s, row, start, at, scratch);
            }
            at += GROUP;
        }
    }

    /// Dot products of R rows with V registers of keys, from place `at` of the segment on.
    #[inline(always)]
    fn score_columns<S: Simd, const R: usize, const V: usize>(
        &self,
        s: S,
        row: usize,
        start: usize,
        at: usize,
        scratch: &mut Scratch,
    ) where
        T: StoredKv<S>,
    {
        let shape = &self.task.input.shape;
        let left = Left { rows: std::array::from_fn(|r| self.query(row + r).as_ptr()), step: 1 };
        let places: [_; V] = std::array::from_fn(|v| self.locate(start + at + v * S::LANES));
        let columns = places.map(|(head, place)| self.keys[head + place * T::STEP..].as_ptr());
        let right = Right { columns, step: shape.block_size * T::STEP };
        let mut sums: Sums<S, R, V> = [[s.splat(0.0); V]; R];
        // SAFETY: a query has head_dim elements; a head of a block has head_dim steps of block_size columns, and the
        // columns of a register lie in one block.
        unsafe { accumulate(s, left, right, Whole, shape.head_dim, &mut sums) };
        for (weights, sums) in scratch.weights[row..].iter_mut().zip(sums) {
            for (v, sum) in sums.into_iter().enumerate() {
                s.put(weights, at + v * S::LANES, sum);
            }
        }
    }

    /// Turns the scores of a row into weights relative to the largest score so far.
    #[inline(always)]
    fn soften<S: Simd>(&self, s: S, row: usize, visible: Range<usize>, scratch: &mut Scratch) {
        let weights = &mut scratch.weights[row];
        let scale = s.splat(self.task.input.scale);
        let mut max = s.splat(f32::NEG_INFINITY);
        for at in (0..SEGMENT).step_by(S::LANES) {
            let mut score = s.mul(s.get(weights, at), scale);
            if let Some(cap) = self.task.input.softcap {
                score = s.mul(s.splat(cap), tanh(s, s.div(score, s.splat(cap))));
            }
            s.put(weights, at, score);
        }
        weights[..visible.start].fill(f32::NEG_INFINITY);
        weights[visible.end..].fill(f32::NEG_INFINITY);
        for at in (0..SEGMENT).step_by(S::LANES) {
            max = s.max(s.get(weights, at), max);
        }
        let before = scratch.max[row];
        let largest = s.largest(max);
        let largest = if before > largest { before } else { largest };
        let shift = s.splat(largest);
        let mut sum = s.splat(0.0);
        for at in (0..SEGMENT).step_by(S::LANES) {
            let weight = exp(s, s.sub(s.get(weights, at), shift));
            s.put(weights, at, weight);
            sum = s.add(sum, weight);
        }
        let decay = s.largest(exp(s, s.splat(before - largest)));
        scratch.max[row] = largest;
        scratch.decay[row] = decay;
        scratch.sum[row] = scratch.sum[row] * decay + s.sum(sum);
    }

    /// Adds the weighted values of the segment to the outputs.
    #[inline(always)]
    fn add_values<S: Simd>(&self, s: S, start: usize, scratch: &Scratch)
    where
        T: StoredKv<S>,
    {
        let tokens = self.item.tokens;
        let alike = self.visible(0, start) == self.visible(tokens - 1, start);
        let step = if alike { tokens } else { 1 };
        for token in (0..tokens).step_by(step) {
            let visible = self.visible(token, start);
            if !visible.is_empty() {
                let rows = self.rows_of(token).start..self.rows_of(token + step - 1).end;
                by_rows!(rows, row, R => {
                    self.add_row_block::<S, R>(s, &Part { row, start, visible: visible.clone() }, scratch);
                });
            }
        }
    }

    /// Adds the values that a part sees to its R rows.
    #[inline(always)]
    fn add_row_block<S: Simd, const R: usize>(&self, s: S, part: &Part, scratch: &Scratch)
    where
        T: StoredKv<S>,
    {
        let dim = self.task.input.shape.head_dim;
        let mut at = 0;
        // Four registers where there are 32 of them, else two.
        while S::LANES == GROUP && dim - at >= 4 * S::LANES {
            self.add_columns::<S, R, 4>(s, part, at, Whole, scratch);
            at += 4 * S::LANES;
        }
        while S::LANES < GROUP && dim - at >= 2 * S::LANES {
            self.add_columns::<S, R, 2>(s, part, at, Whole, scratch);
            at += 2 * S::LANES;
        }
        while at < dim {
            self.add_columns::<S, R, 1>(s, part, at, First(S::LANES.min(dim - at)), scratch);
            at += S::LANES;
        }
    }

    /// Adds V registers of values, from element `at` of the head on, to R rows.
    #[inline(always)]
    fn add_columns<S: Simd, const R: usize, const V: usize>(
        &self,
        s: S,
        part: &Part,
        at: usize,
        width: impl Width<S, T>,
        scratch: &Scratch,
    ) where
        T: StoredKv<S>,
    {
        let dim = self.task.input.shape.head_dim;
        let mut sums: Sums<S, R, V> = [[s.splat(0.0); V]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            let (out, decay) = (self.out(part.row + r), s.splat(scratch.decay[part.row + r]));
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = s.mul(s.get(out, at + v * S::LANES), decay);
            }
        }
        for group in part.visible.start / GROUP..part.visible.end.div_ceil(GROUP) {
            // Whole pairs from the left; the weight of a position that is not visible is 0.
            let first = part.visible.start.max(group * GROUP) / 2 * 2;
            let end = part.visible.end.min((group + 1) * GROUP);
            let (head, place) = self.locate(part.start + first);
            let row = |r: usize| scratch.weights[part.row + r][first..end].as_ptr();
            let left = Left { rows: std::array::from_fn(row), step: 1 };
            let column =
                |v: usize| self.values[head + place * dim + (at + v * S::LANES) * T::STEP..].as_ptr();
            let right = Right { columns: std::array::from_fn(column), step: dim * T::STEP };
            // SAFETY: the weights have `end - first` elements; the block has as many steps of head_dim columns from
            // `place`, which is even, on, and `width` stays inside head_dim.
            unsafe { accumulate(s, left, right, width, end - first, &mut sums) };
        }
        for (r, sums) in sums.iter().enumerate() {
            let out = self.out(part.row + r);
            for (v, &sum) in sums.iter().enumerate() {
                s.put(out, at + v * S::LANES, sum);
            }
        }
    }
}

/// Rows from `row` on that see the places `visible` of the segment at position `start`.
struct Part {
    row: usize,
    start: usize,
    visible: Range<usize>,
}
