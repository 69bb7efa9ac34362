//! Sums of the values of a span, weighted.

use super::product::{Half, KvSimd, Product};
use super::tile::{Ahead, Left, Right, accumulate, put, take};
use super::{Seen, Work, by_rows};
use crate::attention::{Area, GROUP, QUERY_ROWS, SCORE_STRIDE, SPAN};
use crate::kv::KvElement;
use std::ops::Range;

/// Groups whose values are read from the first-level cache by all rows in turn.
const SEGMENT: usize = 4;

/// Some rows and the places whose values are added to them.
struct Part {
    rows: Range<usize>,
    places: Range<usize>,
}

/// Steps in which the whole of each is added, or one half of the one that there is.
struct Run {
    rows: Range<usize>,
    steps: Range<usize>,
    half: Option<Half>,
}

impl Part {
    /// The part in runs of at most a segment, in order, for steps of `step` places.
    fn runs(self, step: usize) -> impl Iterator<Item = Run> {
        let Part { rows, places } = self;
        let segment = SEGMENT * GROUP;
        let mut at = places.start;
        std::iter::from_fn(move || {
            if at >= places.end {
                return None;
            }
            let (start, whole) = (at, places.end / step * step);
            let half = if start % step > 0 {
                at += 1;
                Some(Half::Second)
            } else if start >= whole {
                at = places.end;
                Some(Half::First)
            } else {
                at = ((start / segment + 1) * segment).min(whole);
                None
            };
            Some(Run { rows: rows.clone(), steps: start / step..at.div_ceil(step), half })
        })
    }
}

impl<T: KvElement> Work<'_, T> {
    /// Adds up the weighted values of `seen` for each row.
    #[inline(always)]
    pub(super) fn add_values<S: KvSimd, P: Product<S, Stored = T>>(
        &self,
        s: S,
        seen: &Seen,
        area: &mut Area<'_>,
    ) {
        let width = area.sums.len() / QUERY_ROWS;
        area.sums[..self.tile.rows() * width].fill(0.0);
        for run in self.parts(seen, P::STEP).flat_map(|part| part.runs(P::STEP)) {
            if run.half.is_some() {
                for row in run.rows {
                    self.add_narrow::<S, P>(s, seen, (row, 0), (&run.steps, run.half), area);
                }
            } else {
                let first = run.rows.start;
                by_rows!(run.rows, row, R => {
                    // A constant, so that the loops that ask for nothing hold no registers for it.
                    if row == first {
                        self.add_rows::<S, P, R, true>(s, seen, row, &run.steps, area);
                    } else {
                        self.add_rows::<S, P, R, false>(s, seen, row, &run.steps, area);
                    }
                });
            }
        }
    }

    /// The places that all tokens see are taken for all rows together, the others token by token; either way a row adds
    /// its places in order.
    fn parts(&self, seen: &Seen, step: usize) -> impl Iterator<Item = Part> {
        let (tokens, start) = (self.tile.tokens, seen.start);
        let (first, last) = (self.visible(0, start), self.visible(tokens - 1, start));
        let common = last.start.next_multiple_of(step)..first.end / step * step;
        // Nothing in common: the first round takes each token whole and the last nothing.
        let common = if common.is_empty() { SPAN..SPAN } else { common };
        let alone = move |before: bool, common: Range<usize>| {
            (0..tokens).map(move |token| {
                let Range { start, end } = self.visible(token, start);
                let places = if before { start..end.min(common.start) } else { common.end.max(start)..end };
                Part { rows: self.rows_of(token), places }
            })
        };
        let together = Part { rows: 0..self.tile.rows(), places: common.clone() };
        alone(true, common.clone()).chain([together]).chain(alone(false, common))
    }

    /// Adds the values of `steps` to R rows from `row` on; those that lead ask for the values that come next.
    #[inline(always)]
    fn add_rows<S: KvSimd, P: Product<S, Stored = T>, const R: usize, const LEADS: bool>(
        &self,
        s: S,
        seen: &Seen,
        row: usize,
        steps: &Range<usize>,
        area: &mut Area<'_>,
    ) {
        let dim = self.task.input.shape.head_dim;
        let mut at = 0;
        // Four registers where there are 32 of them, else two.
        while S::LANES == GROUP && dim - at >= 4 * S::LANES {
            self.add_block::<S, P, R, 4, LEADS>(s, seen, (row, at), steps, area);
            at += 4 * S::LANES;
        }
        while S::LANES < GROUP && dim - at >= 2 * S::LANES {
            self.add_block::<S, P, R, 2, LEADS>(s, seen, (row, at), steps, area);
            at += 2 * S::LANES;
        }
        while S::LANES == GROUP && dim - at >= S::LANES {
            self.add_block::<S, P, R, 1, LEADS>(s, seen, (row, at), steps, area);
            at += S::LANES;
        }
        if at < dim {
            for row in row..row + R {
                self.add_narrow::<S, P>(s, seen, (row, at), (steps, None), area);
            }
        }
    }

    /// Adds V registers of the values of `steps`, from element `at` of the head on, to R rows from `row` on.
    #[inline(always)]
    fn add_block<S: KvSimd, P: Product<S, Stored = T>, const R: usize, const V: usize, const LEADS: bool>(
        &self,
        s: S,
        seen: &Seen,
        (row, at): (usize, usize),
        steps: &Range<usize>,
        area: &mut Area<'_>,
    ) {
        let (dim, width) = (self.task.input.shape.head_dim, area.sums.len() / QUERY_ROWS);
        let places = &mut area.sums[row * width + at..][..(R - 1) * width + V * S::LANES];
        // SAFETY: there are R rows of V registers, `width` words apart, here and below.
        let mut sums = unsafe { take::<S, P, R, V>(s, places.as_ptr(), width) };
        let mut step = steps.start;
        while step < steps.end {
            let (start, end) = self.group_of::<S, P>(seen, step, steps.end);
            let left = &area.scores[row * SCORE_STRIDE + step * P::WORDS..];
            let left = Left { start: left.as_ptr(), stride: SCORE_STRIDE };
            let next = (step * P::STEP / GROUP + SEGMENT).min(seen.groups().end - 1);
            let mut columns = [std::ptr::null(); V];
            let mut lines = columns;
            for v in 0..V {
                let place = (at + v * S::LANES) * P::STEP;
                columns[v] = self.view.values[start + place..].as_ptr();
                lines[v] = self.view.values.as_ptr().wrapping_add(seen.values[next] + place);
            }
            let stride = dim * P::STEP;
            let right =
                Right { columns, stride, ahead: if LEADS { Some(Ahead { lines, stride }) } else { None } };
            // SAFETY: the weights of the steps are there, and the group has a row of head_dim columns for each step.
            sums = unsafe { accumulate::<S, P, R, V>(s, left, right, end - step, sums) };
            step = end;
        }
        // SAFETY: as above.
        unsafe { put::<S, P, R, V>(s, places.as_mut_ptr(), width, sums) };
    }

    /// The same for one row and all elements from `at` on, of each step the whole or a half.
    #[inline(always)]
    fn add_narrow<S: KvSimd, P: Product<S, Stored = T>>(
        &self,
        s: S,
        seen: &Seen,
        (row, at): (usize, usize),
        (steps, half): (&Range<usize>, Option<Half>),
        area: &mut Area<'_>,
    ) {
        let (dim, width) = (self.task.input.shape.head_dim, area.sums.len() / QUERY_ROWS);
        for at in (at..dim).step_by(S::LANES) {
            let n = S::LANES.min(dim - at);
            let put = area.sums[row * width + at..][..S::LANES].as_mut_ptr();
            // SAFETY: the place has LANES words.
            let mut sum = unsafe { P::take(s, put) };
            for step in steps.clone() {
                let (start, _) = self.group_of::<S, P>(seen, step, steps.end);
                let values = &self.view.values[start + at * P::STEP..][..n * P::STEP];
                // SAFETY: there are `n` columns.
                let column = unsafe { P::load_first(s, values.as_ptr(), n) };
                let column = if let Some(half) = half { P::half(s, column, half) } else { column };
                let weights = &area.scores[row * SCORE_STRIDE + step * P::WORDS..][..P::WORDS];
                // SAFETY: there are WORDS words.
                sum = unsafe { P::add(s, weights.as_ptr(), column, sum) };
            }
            // SAFETY: the place has LANES words.
            unsafe { P::put(s, put, sum) };
        }
    }

    /// Where the values of `step` start, and the end of the steps of its group, at most `end`.
    #[inline(always)]
    fn group_of<S: KvSimd, P: Product<S, Stored = T>>(
        &self,
        seen: &Seen,
        step: usize,
        end: usize,
    ) -> (usize, usize) {
        let (group, place) = (step * P::STEP / GROUP, step * P::STEP % GROUP);
        (seen.values[group] + place * self.task.input.shape.head_dim, end.min((group + 1) * GROUP / P::STEP))
    }
}
