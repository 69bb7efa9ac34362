//! Linear operation with quantised weights: exact integers within a group, one multiply-add of floats for each group.
//!
//! For each group, in order, `out = fma(Σ u q - z Σ q, scale · activation scale, out)`, from the bias on. The integers are
//! exact, so every instruction set gives the same bits.

#![expect(clippy::needless_range_loop, reason = "several arrays of registers have one index")]

use super::dot::{Ahead, Sums, accumulate};
use super::int_dot::{CodeDot, PairUnit};
use super::ints::Ints;
use super::level::Multiply;
use super::linear::Block;
use crate::PackedLinear;
use crate::packed::{PANEL, Panels, UNIT};
use crate::panels::quantized::QuantLayout;
use crate::quant::ScaleFormat;
use std::marker::PhantomData;

/// Inputs of a K block whose codes stay in the first-level cache with a block of rows.
pub(crate) const CODES_K_BLOCK: usize = 1024;

/// What follows the words of a group of activations, for each row: the scale and the part of the zero points.
pub(crate) const GROUP_WORDS: usize = 2;

/// Weights in codes, multiplied by `D`.
pub(crate) struct GroupSums<D>(PhantomData<D>);

impl<S: Ints, D: CodeDot<S>> Multiply<S> for GroupSums<D> {
    fn k_block(_: &PackedLinear) -> usize {
        CODES_K_BLOCK
    }

    #[inline(always)]
    unsafe fn run<const R: usize>(s: S, block: &Block<'_>) {
        // Few rows run at the speed of memory, in whose order all outputs of a group come before the next group. Many rows
        // run at that of arithmetic, for which the sums and the totals of as many outputs stay in registers.
        // SAFETY: as the caller promises.
        unsafe {
            match (S::LANES, R) {
                (16, ..=4) => block.sum_groups::<S, D, R, 1, 2>(s, 0),
                (_, ..=4) => block.sum_groups::<S, D, R, 2, 2>(s, 0),
                _ => {
                    let mut first = 0;
                    while first < UNIT {
                        block.sum_groups::<S, D, R, 1, 1>(s, first);
                        first += S::LANES;
                    }
                }
            }
        }
    }
}

impl Block<'_> {
    /// Adds the products of R rows with P times V registers of outputs, from output `first` of the unit on; V registers at
    /// a time.
    ///
    /// # Safety
    ///
    /// As [`Multiply::run`]; the outputs are within the unit.
    #[inline(always)]
    unsafe fn sum_groups<S, D, const R: usize, const V: usize, const P: usize>(&self, s: S, first: usize)
    where
        S: Ints,
        D: CodeDot<S>,
    {
        let Panels::Quantized(panels) = self.w.panels() else { unreachable!("weights in codes") };
        let group = Group::<D>::new(&panels.layout);
        let groups = self.k.len().div_ceil(panels.layout.group());
        let mut weights = panels.block(self.unit, self.k.start / panels.layout.group()).start();
        let mut words = self.words;
        let width = V * S::LANES;
        let mut totals: [Sums<S::F, R, V>; P] = [[[s.splat(0.0); V]; R]; P];
        for p in 0..P {
            for r in 0..R {
                for v in 0..V {
                    // SAFETY: the tile holds R rows of the unit.
                    totals[p][r][v] = unsafe { self.load(s, r, first + p * width + v * S::LANES) };
                }
            }
        }
        // The weights that come next lie behind a whole K block, in the order of memory.
        let block_bytes = panels.layout.block_bytes();
        let taken = P * width;
        let share = groups * block_bytes * taken / UNIT / self.turns;
        let next = CODES_K_BLOCK / panels.layout.group() * block_bytes;
        let part = self.turn * (UNIT / taken) + first / taken;
        let mut ahead = Ahead {
            from: [weights.wrapping_add(next + part * share); V],
            stride: share.div_ceil(groups * P * group.loads),
        };
        for _ in 0..groups {
            // SAFETY: both are readable for the whole group, and the next begins behind it.
            unsafe {
                for p in 0..P {
                    totals[p] = group.add(s, weights, words, first + p * width, ahead, totals[p]);
                    ahead.skip(group.loads);
                }
                weights = weights.add(block_bytes);
                words = words.add((group.words + GROUP_WORDS) * R);
            }
        }
        for p in 0..P {
            for r in 0..R {
                for v in 0..V {
                    // SAFETY: the tile holds R rows of the unit.
                    unsafe { self.store(s, r, first + p * width + v * S::LANES, totals[p][r][v]) };
                }
            }
        }
    }
}

/// Sizes of a group.
struct Group<D> {
    loads: usize,
    /// Words of a row of activations.
    words: usize,
    scales: ScaleFormat,
    zero_point: bool,
    zeros_start: usize,
    /// Where the codes begin, and those of the second panel after those of the first.
    codes_start: usize,
    codes_bytes: usize,
    dot: PhantomData<D>,
}

impl<D> Group<D> {
    #[inline(always)]
    fn new<S: Ints>(layout: &QuantLayout) -> Self
    where
        D: CodeDot<S>,
    {
        let loads = layout.group() / D::STEPS;
        Group {
            loads,
            words: loads * D::PARTS,
            scales: layout.format.scales,
            zero_point: layout.format.zero_point,
            zeros_start: layout.zeros_start(),
            codes_start: layout.codes_start(),
            codes_bytes: layout.codes_bytes(),
            dot: PhantomData,
        }
    }

    /// Scales of a register of outputs, from output `column` of the unit on.
    ///
    /// # Safety
    ///
    /// `weights` starts a unit and group, whose outputs these are.
    #[inline(always)]
    unsafe fn factors<S: Ints>(&self, s: S, weights: *const u8, column: usize) -> S::F {
        // SAFETY: the scales of the unit stand first.
        unsafe {
            match self.scales {
                ScaleFormat::Bf16 => s.load_bf16(weights.add(2 * column).cast()),
                ScaleFormat::F16 => s.load_f16(weights.add(2 * column).cast()),
                ScaleFormat::F32 => s.load(weights.add(4 * column).cast()),
            }
        }
    }

    /// `totals` and one group.
    ///
    /// # Safety
    ///
    /// `weights` starts a unit and group, `words` the activations of the group.
    #[inline(always)]
    unsafe fn add<S: Ints, const R: usize, const V: usize>(
        &self,
        s: S,
        weights: *const u8,
        words: *const u32,
        first: usize,
        ahead: Ahead<V>,
        mut totals: Sums<S::F, R, V>,
    ) -> Sums<S::F, R, V>
    where
        D: CodeDot<S>,
    {
        // SAFETY: the outputs are within the unit; what belongs to the group follows its words.
        unsafe {
            let mut codes = [weights; V];
            let mut factors = [self.factors(s, weights, first); V];
            for v in 0..V {
                let column = first + v * S::LANES;
                let panel = column / PANEL * self.codes_bytes;
                codes[v] = weights.add(self.codes_start + panel + column % PANEL * D::CELL);
                factors[v] = self.factors(s, weights, column);
            }
            let scales = words.add(self.words * R);
            let mut sums: Sums<S::I, R, V> = [[s.zero_words(); V]; R];
            if self.zero_point {
                for v in 0..V {
                    let zeros = s.load_zeros(weights.add(self.zeros_start + first + v * S::LANES));
                    for r in 0..R {
                        sums[r][v] = D::Pairs::add(s, sums[r][v], zeros, s.splat_word(scales.add(R + r)));
                    }
                }
            } else {
                for r in 0..R {
                    sums[r] = [s.splat_word(scales.add(R + r)); V];
                }
            }
            let sums = accumulate::<S, D, R, V>(s, words, codes, self.loads, ahead, sums);
            for r in 0..R {
                let scale = s.splat(*scales.add(r).cast());
                for v in 0..V {
                    totals[r][v] = s.fma(s.to_floats(sums[r][v]), s.mul(factors[v], scale), totals[r][v]);
                }
            }
        }
        totals
    }
}
