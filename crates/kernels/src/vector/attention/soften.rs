//! From scores to weights.

use super::codes::round_weights;
use super::product::{KvSimd, Product};
use super::{Rows, Seen, Weighed, Work};
use crate::attention::{Area, GROUP, SCORE_STRIDE};
use crate::kv::KvElement;
use crate::vector::math::{exp2, tanh};
use std::f32::consts::LOG2_E;
use std::ops::Range;

impl<T: KvElement> Work<'_, T> {
    /// Turns the scores of each row into weights relative to its largest score in the span.
    #[inline(always)]
    pub(super) fn soften<S: KvSimd, P: Product<S, Stored = T>>(
        &self,
        s: S,
        seen: &Seen,
        rows: &mut Rows,
        area: &mut Area<'_>,
    ) {
        for token in 0..self.tile.tokens {
            let visible = self.visible(token, seen.start);
            for row in self.rows_of(token) {
                let scores = &mut area.scores[row * SCORE_STRIDE..][..SCORE_STRIDE];
                rows.span[row] = Weighed::NOTHING;
                if visible.is_empty() {
                    continue;
                }
                rows.span[row] = self.soften_row::<S, P>(s, rows.factor[row], &visible, scores);
                if P::SCALED {
                    let scales = |at| Self::scales_at(seen, at);
                    let all = self.view.value_scales;
                    rows.weight[row] = round_weights::<S, P>(s, scores, &visible, scales, all);
                }
            }
        }
    }

    #[inline(always)]
    fn soften_row<S: KvSimd, P: Product<S, Stored = T>>(
        &self,
        s: S,
        factor: f32,
        visible: &Range<usize>,
        scores: &mut [f32],
    ) -> Weighed {
        let whole = visible.start / GROUP * GROUP..visible.end.next_multiple_of(GROUP);
        let mut factor = factor * self.task.input.scale;
        if let Some(cap) = self.task.input.softcap {
            cap_scores(s, factor, cap, &mut scores[whole.clone()]);
            factor = 1.0;
        }
        scores[whole.start..visible.start].fill(f32::NEG_INFINITY);
        scores[visible.end..whole.end].fill(f32::NEG_INFINITY);
        let largest = largest(s, &scores[whole.clone()]);
        // In powers of 2 from here on.
        let factor = factor * LOG2_E;
        let max = if largest == f32::NEG_INFINITY { largest } else { largest * factor };
        let shift = s.splat(if max == f32::NEG_INFINITY { 0.0 } else { -max });
        let (factor, mut sum) = (s.splat(factor), s.splat(0.0));
        for at in whole.step_by(S::LANES) {
            let weight = exp2(s, s.fma(s.get(scores, at), factor, shift));
            sum = s.add(sum, weight);
            if P::SCALED {
                s.put(scores, at, weight);
            } else {
                // SAFETY: the row has LANES words from `at` on.
                unsafe { P::put_weights(s, scores.as_mut_ptr(), at, weight) };
            }
        }
        Weighed { max, sum: s.sum(sum) }
    }
}

/// `cap · tanh(factor · score / cap)`
#[inline(always)]
fn cap_scores<S: KvSimd>(s: S, factor: f32, cap: f32, scores: &mut [f32]) {
    let (factor, cap) = (s.splat(factor), s.splat(cap));
    for at in (0..scores.len()).step_by(S::LANES) {
        let score = s.mul(s.get(scores, at), factor);
        s.put(scores, at, s.mul(cap, tanh(s, s.div(score, cap))));
    }
}

/// The largest score, leaving out NaN.
#[inline(always)]
fn largest<S: KvSimd>(s: S, scores: &[f32]) -> f32 {
    let mut max = [s.splat(f32::NEG_INFINITY); 2];
    for at in (0..scores.len()).step_by(S::LANES) {
        let place = &mut max[at / S::LANES % 2];
        *place = s.max(s.get(scores, at), *place);
    }
    s.largest(s.max(max[0], max[1]))
}
