//! Linear operation with quantised weights: exact integers within a group, one multiply-add of floats for each group.
//!
//! For each group, in order, `out = fma(Σ u q - z Σ q, scale · activation scale, out)`, from the bias on. The integers are
//! exact, so every instruction set gives the same bits.

use super::dot::{Sums, accumulate};
use super::int_dot::{CodeDot, PairUnit};
use super::ints::Ints;
use super::level::Multiply;
use super::linear::Block;
use crate::packed::{PANEL, Panels, UNIT};
use crate::panels::quantized::{HEADER, QuantLayout};
use std::marker::PhantomData;

/// What follows the words of a group of activations, for each row: the scale and the part of the zero points.
pub(crate) const GROUP_WORDS: usize = 2;

/// Weights in codes, multiplied by `D`.
pub(crate) struct GroupSums<D>(PhantomData<D>);

impl<S: Ints, D: CodeDot<S>> Multiply<S> for GroupSums<D> {
    #[inline(always)]
    unsafe fn run<const R: usize>(s: S, block: &Block<'_>) {
        // Sums of integers and of floats are in registers together: as many registers of outputs as leave room.
        let wide = if S::LANES == 16 { R <= 6 } else { R <= 2 };
        for v in (0..UNIT / S::LANES).step_by(if wide { 2 } else { 1 }) {
            // SAFETY: as the caller promises.
            unsafe {
                if wide {
                    block.sum_groups::<S, D, R, 2>(s, v * S::LANES);
                } else {
                    block.sum_groups::<S, D, R, 1>(s, v * S::LANES);
                }
            }
        }
    }
}

impl Block<'_> {
    /// Adds the products of R rows with V registers of outputs, from output `first` of the unit on, to the output.
    ///
    /// # Safety
    ///
    /// As [`Multiply::run`]; the outputs are within the unit.
    #[inline(always)]
    unsafe fn sum_groups<S, D, const R: usize, const V: usize>(&self, s: S, first: usize)
    where
        S: Ints,
        D: CodeDot<S>,
    {
        let Panels::Quantized(panels) = self.task.w.panels() else { unreachable!("weights in codes") };
        let layout = panels.layout;
        let loads = layout.group() / D::STEPS;
        let row_words = loads * D::PARTS + GROUP_WORDS;
        let groups = self.k.len().div_ceil(layout.group());
        let start = panels.block(self.unit, self.k.start / layout.group()).start();
        let column = self.unit * UNIT + first;
        let mut totals: Sums<S::F, R, V> = self.before(s, column);
        for group in 0..groups {
            // SAFETY: group `group` of the K block, of weights and of activations.
            let (weights, words) =
                unsafe { (start.add(group * layout.block_bytes()), self.words.add(group * row_words * R)) };
            // SAFETY: both are readable for the whole group.
            unsafe { add_group::<S, D, R, V>(s, &layout, weights, words, first, &mut totals) };
        }
        self.put(s, column, &totals);
    }
}

/// Adds one group to `totals`.
///
/// # Safety
///
/// `weights` starts a unit and group, `words` the activations of the group.
#[inline(always)]
unsafe fn add_group<S: Ints, D: CodeDot<S>, const R: usize, const V: usize>(
    s: S,
    layout: &QuantLayout,
    weights: *const u8,
    words: *const u32,
    first: usize,
    totals: &mut Sums<S::F, R, V>,
) {
    let loads = layout.group() / D::STEPS;
    // SAFETY: the outputs are within the unit; what belongs to the group follows its words.
    unsafe {
        let column = |v: usize| first + v * S::LANES;
        let codes = std::array::from_fn::<_, V, _>(|v| {
            let panel = column(v) / PANEL * layout.codes_bytes();
            weights.add(layout.codes_start() + panel + column(v) % PANEL * D::CELL)
        });
        let scales = words.add(loads * D::PARTS * R);
        let zeros = scales.add(R);
        let mut sums: Sums<S::I, R, V> = [[s.zero_words(); V]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            let word = s.splat_word(zeros.add(r));
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = if layout.format.zero_point {
                    let zero = s.load_zeros(weights.add(HEADER + column(v)));
                    D::Pairs::add(s, s.zero_words(), zero, word)
                } else {
                    word
                };
            }
        }
        accumulate(D::from(s), words, codes, PANEL * D::CELL, loads, &mut sums);
        let factors = std::array::from_fn::<_, V, _>(|v| s.load_bf16(weights.add(2 * column(v)).cast()));
        for (r, (totals, sums)) in totals.iter_mut().zip(sums).enumerate() {
            let scale = s.splat(*scales.add(r).cast());
            for ((total, sum), factor) in totals.iter_mut().zip(sums).zip(factors) {
                *total = s.fma(s.to_floats(sum), s.mul(factor, scale), *total);
            }
        }
    }
}
