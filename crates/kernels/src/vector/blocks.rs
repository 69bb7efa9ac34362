//! Linear operation with weights in blocks: exact integers within a group, multiply-adds of floats for each group.
//!
//! For each group, in order, `out = fma(Σ level q, factor · activation scale, out)`, from the bias on, and then, in formats
//! with a minimum, `out = fma(addend, activation scale · Σ q, out)`. Codes of 4 and 8 bits are multiplied as they lie; others are
//! opened to bytes once for a unit and a K block, in the first-level cache, and every block of rows multiplies those.

#![expect(clippy::needless_range_loop, reason = "several arrays of registers have one index")]

use super::block_factors::Factors;
use super::dot::{Ahead, Sums};
use super::group_codes::{AsPacked, GroupCodes, MultiplyGroup};
use super::int_dot::CodeDot;
use super::ints::Ints;
use super::level::Multiply;
use super::linear::Block;
use super::planes::Planes;
use super::quantized::{CODES_K_BLOCK, GROUP_WORDS};
use crate::PackedLinear;
use crate::blocks::MAX_BLOCK;
use crate::packed::{Panels, UNIT};
use crate::panels::blocks::{BlockPanels, LINE, PanelBlock};
use std::marker::PhantomData;
use std::ops::Range;

/// The codes of a unit over one K block, opened.
#[repr(align(64))]
pub(crate) struct Opened {
    /// `[groups][2 panels][group / 4][PANEL][4]`
    codes: [u8; MAX_BLOCK * UNIT],
}

impl Opened {
    pub(crate) const ZERO: Opened = Opened { codes: [0; MAX_BLOCK * UNIT] };
}

/// Opens the blocks of `unit` along `k`, a K block.
#[inline(always)]
pub(crate) fn open<S: Ints>(s: S, panels: &BlockPanels<'_>, unit: usize, k: Range<usize>, to: &mut Opened) {
    let build = panels.layout.build;
    let size = build.block * UNIT;
    for (place, index) in (k.start / build.block..k.end / build.block).enumerate() {
        let block = panels.block(unit, index);
        let codes = &mut to.codes[place * size..][..size];
        match build.planes {
            [4, 0] => open_block(Planes::<S, 4, 0>::new(s, &build), &block, codes),
            [4, 1] => open_block(Planes::<S, 4, 1>::new(s, &build), &block, codes),
            [4, _] => open_block(Planes::<S, 4, 2>::new(s, &build), &block, codes),
            [_, 0] => open_block(Planes::<S, 2, 0>::new(s, &build), &block, codes),
            _ => open_block(Planes::<S, 2, 1>::new(s, &build), &block, codes),
        }
    }
}

/// Bytes from the planes of a block, eight lines at a time.
#[inline(always)]
fn open_block<S: Ints, const LOW: usize, const HIGH: usize>(
    planes: Planes<S, LOW, HIGH>,
    block: &PanelBlock<'_>,
    out: &mut [u8],
) {
    let [low, high] = block.planes();
    for (index, out) in out.chunks_exact_mut(8 * LINE).enumerate() {
        let (low, high) =
            (&low[index * LOW * LINE..][..LOW * LINE], &high[index * HIGH * LINE..][..HIGH * LINE]);
        // SAFETY: LOW and HIGH lines of the planes have the bits of eight lines.
        unsafe { planes.open(low.as_ptr(), high.as_ptr(), out.as_mut_ptr()) };
    }
}

/// Weights in blocks, multiplied by `D`: bytes where the format is opened, else codes as they are packed.
pub(crate) struct BlockSums<D>(PhantomData<D>);

impl<S: Ints, D: CodeDot<S>> Multiply<S> for BlockSums<D> {
    fn k_block(w: &PackedLinear) -> usize {
        if <Self as Multiply<S>>::opens(w) { MAX_BLOCK } else { CODES_K_BLOCK }
    }

    fn opens(w: &PackedLinear) -> bool {
        matches!(w.panels(), Panels::Blocks(panels) if panels.layout.build.is_opened())
    }

    #[inline(always)]
    unsafe fn run<const R: usize>(s: S, block: &Block<'_>) {
        let mut first = 0;
        while first < UNIT {
            // Few rows take two registers of outputs, so that the latency of the multiply-adds is hidden; of many rows, the
            // sums and the totals stay in registers.
            // SAFETY: as the caller promises.
            unsafe {
                if R <= FEW_ROWS {
                    block.sum_blocks::<S, D, AsPacked, R, 2>(s, first);
                    first += 2 * S::LANES;
                } else {
                    block.sum_blocks::<S, D, AsPacked, R, 1>(s, first);
                    first += S::LANES;
                }
            }
        }
    }
}

/// Most rows for which codes in planes are not opened in memory.
pub(crate) const FEW_ROWS: usize = 4;

/// Weights in blocks with codes in planes, opened in registers and multiplied by `D`: for [`FEW_ROWS`].
pub(crate) struct PlaneSums<D, const LOW: usize, const HIGH: usize>(PhantomData<D>);

impl<S: Ints, D: CodeDot<S, Raw = S::I>, const LOW: usize, const HIGH: usize> Multiply<S>
    for PlaneSums<D, LOW, HIGH>
{
    fn k_block(_: &PackedLinear) -> usize {
        CODES_K_BLOCK
    }

    #[inline(always)]
    unsafe fn run<const R: usize>(s: S, block: &Block<'_>) {
        if R > FEW_ROWS {
            unreachable!("{R} rows take codes that are opened once for all");
        }
        let mut first = 0;
        while first < UNIT {
            // SAFETY: as the caller promises.
            unsafe { block.sum_blocks::<S, D, Planes<S, LOW, HIGH>, R, 2>(s, first) };
            first += 2 * S::LANES;
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
    unsafe fn sum_blocks<S, D, C, const R: usize, const V: usize>(&self, s: S, first: usize)
    where
        S: Ints,
        D: CodeDot<S>,
        C: MultiplyGroup<S, D>,
    {
        let Panels::Blocks(panels) = self.w.panels() else { unreachable!("weights in blocks") };
        let (build, places) = (panels.layout.build, panels.layout.places());
        let groups = panels.layout.groups();
        let indices = self.k.start / build.block..self.k.end / build.block;
        let mut totals: Sums<S::F, R, V> = [[s.splat(0.0); V]; R];
        for r in 0..R {
            for v in 0..V {
                // SAFETY: the tile holds R rows of the unit.
                totals[r][v] = unsafe { self.load(s, r, first + v * S::LANES) };
            }
        }
        let loads = build.group / D::STEPS;
        let part = (first / S::LANES / V, UNIT / S::LANES / V);
        let mut ahead = self.ahead::<V>(&panels, part, indices.len() * groups * loads);
        let mut words = self.words;
        let mut opened = self.opened.map(|opened| opened.codes.as_ptr());
        for index in indices {
            let block = panels.block(self.unit, index).start();
            // SAFETY: a block of the panels and, where it is opened, its bytes; the words of the groups follow each other,
            // each with its scales and sums.
            unsafe {
                let factors = Factors::<S, V>::of(s, &build, &places, block, first);
                let planes = [opened.unwrap_or_else(|| block.add(places.codes)), block.add(places.second)];
                opened = opened.map(|opened| opened.add(build.block * UNIT));
                for group in 0..groups {
                    let codes = GroupCodes { planes, group, first, build: &build };
                    let ends = words.add(loads * D::PARTS * R);
                    let mut sums: Sums<S::I, R, V> = [[s.zero_words(); V]; R];
                    if build.zero != 0 {
                        for r in 0..R {
                            sums[r] = [s.splat_word(ends.add(R + r)); V];
                        }
                    }
                    let sums = C::add::<R, V>(s, codes, words, ahead, sums);
                    ahead.skip(loads);
                    for v in 0..V {
                        let (factor, addend) = factors.group(s, &build, group, v);
                        for r in 0..R {
                            let factor = s.mul(factor, s.splat(*ends.add(r).cast()));
                            totals[r][v] = s.fma(s.to_floats(sums[r][v]), factor, totals[r][v]);
                            if build.minimum {
                                totals[r][v] = s.fma(addend, s.splat(*ends.add(R + r).cast()), totals[r][v]);
                            }
                        }
                    }
                    words = ends.add(GROUP_WORDS * R);
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                // SAFETY: the tile holds R rows of the unit.
                unsafe { self.store(s, r, first + v * S::LANES, totals[r][v]) };
            }
        }
    }

    /// The packed weights that come behind this K block, of which part `part` of `parts` of the block's turn asks for its
    /// share.
    #[inline(always)]
    fn ahead<const V: usize>(
        &self,
        panels: &BlockPanels<'_>,
        (part, parts): (usize, usize),
        loads: usize,
    ) -> Ahead<V> {
        let (block, bytes) = (panels.layout.build.block, panels.layout.block_bytes());
        let size = self.k.len() / block * bytes;
        let next = (self.unit * panels.layout.blocks + self.k.start / block) * bytes + size;
        let share = size / (self.turns * parts);
        let start = panels.bytes.as_ptr().wrapping_add(next + (self.turn * parts + part) * share);
        let mut from = [start; V];
        for (v, from) in from.iter_mut().enumerate() {
            *from = start.wrapping_add(v * share / V);
        }
        Ahead { from, stride: share.div_ceil(loads * V) }
    }
}
