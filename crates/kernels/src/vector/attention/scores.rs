//! Products of the queries with the keys of a span.

#![expect(clippy::needless_range_loop, reason = "counted loops are surely inlined; see `tile`")]

use super::product::{KvSimd, Product};
use super::tile::{Ahead, Left, Right, accumulate};
use super::{Seen, Work, by_rows};
use crate::attention::SCORE_STRIDE;
use crate::attention::{Area, GROUP, QUERY_ROWS};
use crate::kv::KvElement;
use std::ops::Range;

/// Groups whose keys are read from the first-level cache by all rows in turn.
const SEGMENT: usize = 4;

impl<T: KvElement> Work<'_, T> {
    /// Scores of all rows at the groups of `seen`, without their factor.
    #[inline(always)]
    pub(super) fn score<S: KvSimd, P: Product<S, Stored = T>>(&self, s: S, seen: &Seen, area: &mut Area<'_>) {
        let groups = seen.groups();
        for first in groups.clone().step_by(SEGMENT) {
            let end = groups.end.min(first + SEGMENT);
            by_rows!(0..self.tile.rows(), row, R => {
                // A constant, so that the loops that ask for nothing hold no registers for it.
                if row == 0 {
                    self.score_rows::<S, P, R, true>(s, seen, row, first..end, area);
                } else {
                    self.score_rows::<S, P, R, false>(s, seen, row, first..end, area);
                }
            });
        }
    }

    /// Scores of R rows from `row` on at some groups; those that lead ask for the keys or values that come next.
    #[inline(always)]
    fn score_rows<S: KvSimd, P: Product<S, Stored = T>, const R: usize, const LEADS: bool>(
        &self,
        s: S,
        seen: &Seen,
        row: usize,
        groups: Range<usize>,
        area: &mut Area<'_>,
    ) {
        let mut group = groups.start;
        // Four registers where there are 32 of them.
        while S::LANES == GROUP && groups.end - group >= 4 {
            self.score_block::<S, P, R, 4, LEADS>(s, seen, (row, group), area);
            group += 4;
        }
        while S::LANES == GROUP && group < groups.end {
            self.score_block::<S, P, R, 1, LEADS>(s, seen, (row, group), area);
            group += 1;
        }
        while S::LANES < GROUP && group < groups.end {
            self.score_block::<S, P, R, 2, LEADS>(s, seen, (row, group), area);
            group += 1;
        }
    }

    /// Scores of R rows at V registers of places, from `row` and `group` on.
    #[inline(always)]
    fn score_block<
        S: KvSimd,
        P: Product<S, Stored = T>,
        const R: usize,
        const V: usize,
        const LEADS: bool,
    >(
        &self,
        s: S,
        seen: &Seen,
        (row, group): (usize, usize),
        area: &mut Area<'_>,
    ) {
        let shape = &self.task.input.shape;
        let width = area.queries.len() / QUERY_ROWS;
        let left = Left { start: area.queries[row * width..].as_ptr(), stride: width };
        let mut columns = [std::ptr::null(); V];
        for v in 0..V {
            let place = v * S::LANES;
            let at = seen.keys[group + place / GROUP] + place % GROUP * P::STEP;
            columns[v] = self.view.keys[at..].as_ptr();
        }
        let stride = shape.block_size * P::STEP;
        let ahead = if LEADS { Some(self.ahead_of_keys::<S, P, V>(seen, group)) } else { None };
        let right = Right { columns, stride, ahead };
        // SAFETY: a query has head_dim elements; a head of a block has head_dim / STEP rows of block_size columns, and
        // the LANES columns of a register lie in one group, which lies in one block.
        let sums = unsafe {
            accumulate::<S, P, R, V>(s, left, right, shape.head_dim / P::STEP, [[P::zero(s); V]; R])
        };
        for r in 0..R {
            for v in 0..V {
                let at = (row + r) * SCORE_STRIDE + group * GROUP + v * S::LANES;
                let mut score = P::floats(s, sums[r][v]);
                if P::SCALED {
                    let scales = &self.view.key_scales[Self::scales_at(seen, group * GROUP + v * S::LANES)..];
                    score = s.mul(score, s.get(scales, 0));
                }
                s.put(area.scores, at, score);
            }
        }
    }

    /// What V registers of keys from `group` on ask for: keys a segment further, then the first values, of which a group has as
    /// many lines as it has of keys.
    #[inline(always)]
    fn ahead_of_keys<S: KvSimd, P: Product<S, Stored = T>, const V: usize>(
        &self,
        seen: &Seen,
        group: usize,
    ) -> Ahead<T, V> {
        let groups = seen.groups();
        let next = group + SEGMENT;
        let keys = next < groups.end;
        let mut lines = [std::ptr::null(); V];
        for v in 0..V {
            let (further, place) = (v * S::LANES / GROUP, v * S::LANES % GROUP * P::STEP);
            lines[v] = if keys {
                let at = seen.keys[(next + further).min(groups.end - 1)] + place;
                self.view.keys.as_ptr().wrapping_add(at)
            } else {
                let at = groups.start + (group - groups.start) % SEGMENT + further;
                self.view.values.as_ptr().wrapping_add(seen.values[at.min(groups.end - 1)] + place)
            };
        }
        let stride = if keys { self.task.input.shape.block_size } else { GROUP };
        Ahead { lines, stride: stride * P::STEP }
    }
}
