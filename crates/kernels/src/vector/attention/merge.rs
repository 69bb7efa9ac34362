//! From the partial results of spans to the output.

use super::product::KvSimd;
use super::{Rows, Seen, Weighed, Work};
use crate::attention::{Area, PARTIAL_HEAD, QUERY_ROWS, SPAN, Unit};
use crate::kv::KvElement;
use crate::vector::math::exp2;
use std::f32::consts::LOG2_E;

impl<T: KvElement> Work<'_, T> {
    /// Adds what a span gave to what the spans before it gave, or puts it away where the tile is split.
    #[inline(always)]
    pub(super) fn finish_span<S: KvSimd>(
        &self,
        s: S,
        unit: &Unit,
        seen: &Seen,
        rows: &mut Rows,
        area: &mut Area<'_>,
    ) {
        let width = area.sums.len() / QUERY_ROWS;
        let first = self.tile.spans(self.task.input).start;
        for token in 0..self.tile.tokens {
            if self.visible(token, seen.start).is_empty() {
                continue;
            }
            for row in self.rows_of(token) {
                let sums = &area.sums[row * width..(row + 1) * width];
                if let Some(split) = unit.split {
                    let place = (seen.start / SPAN - first) * self.tile.rows() + row;
                    // SAFETY: no other unit has this span of this tile, and the tile has units to come.
                    let partial = unsafe { self.task.partials.row(split, place) };
                    (partial[0], partial[1]) = (rows.span[row].max, rows.span[row].sum);
                    partial[PARTIAL_HEAD..PARTIAL_HEAD + width].copy_from_slice(sums);
                } else {
                    let total = &mut area.totals[row * width..(row + 1) * width];
                    rows.total[row] = merge(s, rows.total[row], total, rows.span[row], sums);
                }
            }
        }
    }

    /// Writes the output, if nothing of the tile is left to be done.
    #[inline(always)]
    pub(super) fn finish_unit<S: KvSimd>(&self, s: S, unit: &Unit, rows: &mut Rows, area: &mut Area<'_>) {
        let width = area.sums.len() / QUERY_ROWS;
        if let Some(split) = unit.split {
            if !self.task.partials.done(split) {
                return;
            }
            for (index, span) in self.tile.spans(self.task.input).enumerate() {
                for row in 0..self.tile.rows() {
                    if self.visible(row / self.tile.heads.len(), span * SPAN).is_empty() {
                        continue;
                    }
                    // SAFETY: all units of the tile are done, and this one alone was the last.
                    let partial = unsafe { self.task.partials.row(split, index * self.tile.rows() + row) };
                    let part = Weighed { max: partial[0], sum: partial[1] };
                    let total = &mut area.totals[row * width..(row + 1) * width];
                    rows.total[row] = merge(s, rows.total[row], total, part, &partial[PARTIAL_HEAD..]);
                }
            }
        }
        for row in 0..self.tile.rows() {
            self.write(s, row, rows.total[row], &area.totals[row * width..(row + 1) * width]);
        }
    }

    /// Divides the values of a row by the sum of its weights and that of its sink.
    #[inline(always)]
    fn write<S: KvSimd>(&self, s: S, row: usize, weighed: Weighed, total: &[f32]) {
        let ((token, head), dim) = (self.token_and_head(row), self.task.input.shape.head_dim);
        let start = (token * self.task.input.heads + head) * dim;
        // SAFETY: each head of each token belongs to one tile, whose last unit alone comes here.
        let out = unsafe { self.task.out.slice(start..start + dim) };
        let inverse = match self.task.input.sinks {
            Some(sinks) => with_sink(s, weighed, sinks[head] * LOG2_E),
            None => 1.0 / weighed.sum,
        };
        let inverse = s.splat(inverse);
        for at in (0..dim).step_by(S::LANES) {
            s.put(out, at, s.mul(s.get(total, at), inverse));
        }
    }
}

/// Adds a partial result to those before it, which had a sum of 0 when there were none.
#[inline(always)]
fn merge<S: KvSimd>(s: S, before: Weighed, total: &mut [f32], part: Weighed, sums: &[f32]) -> Weighed {
    if before.max == f32::NEG_INFINITY && before.sum == 0.0 {
        total.copy_from_slice(&sums[..total.len()]);
        return part;
    }
    let max = if before.max > part.max { before.max } else { part.max };
    let old = s.largest(exp2(s, s.splat(before.max - max)));
    let new = s.largest(exp2(s, s.splat(part.max - max)));
    for at in (0..total.len()).step_by(S::LANES) {
        let kept = s.mul(s.get(total, at), s.splat(old));
        s.put(total, at, s.fma(s.get(sums, at), s.splat(new), kept));
    }
    Weighed { max, sum: before.sum * old + part.sum * new }
}

/// The factor of values whose weights sum to `weighed.sum`, relative to its largest score, when a score of `sink` that has no
/// value joins them; scores are powers of 2.
#[inline(always)]
fn with_sink<S: KvSimd>(s: S, weighed: Weighed, sink: f32) -> f32 {
    let max = if weighed.max > sink { weighed.max } else { sink };
    let kept = s.largest(exp2(s, s.splat(weighed.max - max)));
    let lost = s.largest(exp2(s, s.splat(sink - max)));
    kept / (weighed.sum * kept + lost)
}
