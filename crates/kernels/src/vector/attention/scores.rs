//! Products of the queries with the keys of a span.

#![expect(clippy::needless_range_loop, reason = "counted loops are surely inlined; see `tile`")]

use super::product::{KvSimd, Product};
use super::tile::{Left, Right, accumulate};
use super::{Seen, Work, by_rows};
use crate::attention::SCORE_STRIDE;
use crate::attention::{Area, GROUP, QUERY_ROWS};
use crate::kv::KvElement;

/// Groups whose keys are read from the first-level cache by all rows in turn.
const SEGMENT: usize = 4;

impl<T: KvElement> Work<'_, T> {
    /// Scores of all rows at the groups of `seen`, without their factor.
    #[inline(always)]
    pub(super) fn score<S: KvSimd, P: Product<S, Stored = T>>(&self, s: S, seen: &Seen, area: &mut Area<'_>) {
        let groups = seen.groups();
        for first in groups.clone().step_by(SEGMENT) {
            let end = groups.end.min(first + SEGMENT);
            self.prefetch_keys::<S, P>(s, seen, end..groups.end.min(end + SEGMENT));
            if end == groups.end {
                self.prefetch_values(s, seen, groups.start..groups.end.min(groups.start + SEGMENT));
            }
            by_rows!(0..self.tile.rows(), row, R => {
                let mut group = first;
                // Four registers where there are 32 of them.
                if S::LANES == GROUP {
                    while end - group >= 4 {
                        self.score_block::<S, P, R, 4>(s, seen, (row, group), area);
                        group += 4;
                    }
                    while group < end {
                        self.score_block::<S, P, R, 1>(s, seen, (row, group), area);
                        group += 1;
                    }
                } else {
                    for group in group..end {
                        self.score_block::<S, P, R, 2>(s, seen, (row, group), area);
                    }
                }
            });
        }
    }

    /// Scores of R rows at V registers of places, from `row` and `group` on.
    #[inline(always)]
    fn score_block<S: KvSimd, P: Product<S, Stored = T>, const R: usize, const V: usize>(
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
        let right = Right { columns, stride: shape.block_size * P::STEP };
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

    /// Asks for the keys of some groups, which are needed next: blocks are too small and too scattered for the hardware
    /// to see a stream.
    #[inline(always)]
    fn prefetch_keys<S: KvSimd, P: Product<S, Stored = T>>(
        &self,
        s: S,
        seen: &Seen,
        groups: std::ops::Range<usize>,
    ) {
        let shape = &self.task.input.shape;
        for &at in &seen.keys[groups] {
            for step in 0..shape.head_dim / P::STEP {
                s.prefetch(self.view.keys.as_ptr().wrapping_add(at + step * shape.block_size * P::STEP));
            }
        }
    }
}
