//! Linear operation with weights in floats of 8 bits: sums of 128 inputs each, from 0 on, and one multiply-add for the scale.
//!
//! Codes become half-precision numbers of the same fields as they are loaded, and those f32, both exactly; what the two
//! formats' exponents differ by is part of the scale. For each group, in order, `out = fma(Σ weight x, scale, out)`, from
//! the bias on, so an output has the same bits for every number of rows.

#![expect(clippy::needless_range_loop, reason = "several arrays of registers have one index")]

use super::dot::{Ahead, Dot, Sums, accumulate};
use super::level::Multiply;
use super::linear::Block;
use super::simd::Simd;
use crate::PackedLinear;
use crate::fp8::GROUP;
use crate::linear::K_BLOCK;
use crate::packed::{PANEL, Panels, UNIT};
use crate::panels::fp8::{BLOCK, CODES, SCALES};
use std::marker::PhantomData;

/// Floats of 8 bits, times `f32`.
#[derive(Clone, Copy)]
pub(crate) struct Fp8Dot<S>(S);

impl<S: Simd> From<S> for Fp8Dot<S> {
    #[inline(always)]
    fn from(s: S) -> Self {
        Fp8Dot(s)
    }
}

impl<S: Simd> Dot for Fp8Dot<S> {
    type Sum = S::F;
    type Raw = S::F;
    type Weights = S::F;
    type Word = S::F;
    const CELL: usize = 1;
    const STEPS: usize = 1;
    const PARTS: usize = 1;
    const EXACT: bool = false;

    #[inline(always)]
    fn zero(self) -> S::F {
        self.0.splat(0.0)
    }
    #[inline(always)]
    fn add(self, a: S::F, b: S::F) -> S::F {
        self.0.add(a, b)
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { self.0.load_fp8(from) }
    }
    #[inline(always)]
    fn part(self, raw: S::F, _: usize) -> S::F {
        raw
    }
    #[inline(always)]
    unsafe fn word(self, from: *const u32) -> S::F {
        // SAFETY: as the caller promises; the word is an `f32`.
        self.0.splat(unsafe { *from.cast() })
    }
    #[inline(always)]
    fn dot(self, sum: S::F, weights: S::F, word: S::F) -> S::F {
        self.0.fma(weights, word, sum)
    }
}

/// Weights in floats of 8 bits.
pub(crate) struct Fp8Sums<S>(PhantomData<S>);

impl<S: Simd> Multiply<S> for Fp8Sums<S> {
    fn k_block(_: &PackedLinear) -> usize {
        K_BLOCK
    }

    #[inline(always)]
    unsafe fn run<const R: usize>(s: S, block: &Block<'_>) {
        // As for other floats: few rows take more registers of outputs, so that latency is hidden.
        let registers = UNIT / S::LANES;
        let together = if R <= 2 { registers } else { 2 };
        let mut v = 0;
        while v < registers {
            // SAFETY: as the caller promises.
            unsafe {
                if together == 4 {
                    block.sum_fp8::<S, R, 4>(s, v * S::LANES);
                } else {
                    block.sum_fp8::<S, R, 2>(s, v * S::LANES);
                }
            }
            v += together;
        }
    }
}

impl Block<'_> {
    /// Adds the products of R rows with V registers of outputs, from output `first` of the unit on.
    ///
    /// # Safety
    ///
    /// As [`Multiply::run`]; the outputs are within the unit.
    #[inline(always)]
    unsafe fn sum_fp8<S: Simd, const R: usize, const V: usize>(&self, s: S, first: usize) {
        let Panels::Fp8(panels) = self.w.panels() else { unreachable!("floats of 8 bits") };
        let groups = self.k.len().div_ceil(GROUP);
        let mut weights = panels.block(self.unit, self.k.start / GROUP).as_ptr();
        let mut words = self.words;
        // The weights that come next lie behind the K block, in the order of memory.
        let share = groups * BLOCK * V * S::LANES / UNIT / self.turns;
        let part = self.turn * (UNIT / (V * S::LANES)) + first / (V * S::LANES);
        let mut ahead = Ahead {
            from: [weights.wrapping_add(groups * BLOCK + part * share); V],
            stride: share.div_ceil(self.k.len() * V),
        };
        for v in 1..V {
            ahead.from[v] = ahead.from[v - 1].wrapping_add(share / V);
        }
        for group in 0..groups {
            let loads = (self.k.len() - group * GROUP).min(GROUP);
            let mut codes = [weights; V];
            for v in 0..V {
                let column = first + v * S::LANES;
                // SAFETY: the codes of the column's panel in this unit and group.
                codes[v] = unsafe { weights.add(SCALES + column / PANEL * CODES + column % PANEL) };
            }
            // SAFETY: the panel holds a code of each column for each load, the words are as the caller promises, the scales of
            // the unit stand first, and the tile holds R rows of the unit.
            unsafe {
                let zeros: Sums<S::F, R, V> = [[s.splat(0.0); V]; R];
                let sums = accumulate::<S, Fp8Dot<S>, R, V>(s, words, codes, loads, ahead, zeros);
                ahead.skip(loads);
                for v in 0..V {
                    let column = first + v * S::LANES;
                    let scales = s.load(weights.add(4 * column).cast());
                    for r in 0..R {
                        let before = if group == 0 {
                            self.load(s, r, column)
                        } else {
                            s.load(self.out.add(r * self.out_stride + column).cast_const())
                        };
                        self.store(s, r, column, s.fma(sums[r][v], scales, before));
                    }
                }
                words = words.add(loads * R);
            }
            weights = weights.wrapping_add(BLOCK);
        }
    }
}
