//! Linear operation with weights in blocks: exact integers within a group, multiply-adds of floats for each group.
//!
//! For each group, in order, `out = fma(Σ level q, factor · activation scale, out)`, from the bias on, and then, in formats
//! with a minimum, `out = fma(addend, activation scale · Σ q, out)`. The codes of a unit and a K block are opened to bytes
//! once, in the first-level cache; every block of rows multiplies those.

#![expect(clippy::needless_range_loop, reason = "several arrays of registers have one index")]

use super::dot::{Ahead, Sums, accumulate};
use super::int_dot::CodeDot;
use super::ints::Ints;
use super::level::Multiply;
use super::linear::Block;
use super::quantized::GROUP_WORDS;
use crate::blocks::{Build, MAX_BLOCK, MIN_GROUP, Scales};
use crate::packed::{PANEL, Panels, UNIT};
use crate::panels::blocks::{BlockPanels, LINE, PanelBlock, mask};
use std::marker::PhantomData;
use std::ops::Range;

/// Most groups of a K block.
const GROUPS: usize = MAX_BLOCK / MIN_GROUP;

/// The weights of a unit over one K block.
#[repr(align(64))]
pub(crate) struct Opened {
    /// `[groups][2 panels][group / 4][PANEL][4]`
    codes: [u8; MAX_BLOCK * UNIT],
    factors: [[f32; UNIT]; GROUPS],
    addends: [[f32; UNIT]; GROUPS],
}

impl Opened {
    pub(crate) const ZERO: Opened = Opened {
        codes: [0; MAX_BLOCK * UNIT],
        factors: [[0.0; UNIT]; GROUPS],
        addends: [[0.0; UNIT]; GROUPS],
    };
}

/// Opens the blocks of `unit` along `k`, a K block.
#[inline(always)]
pub(crate) fn open<S: Ints>(s: S, panels: &BlockPanels<'_>, unit: usize, k: Range<usize>, to: &mut Opened) {
    let Build { block: inputs, planes, table, .. } = panels.layout.build;
    let (groups, size) = (panels.layout.groups(), inputs * UNIT);
    for (place, index) in (k.start / inputs..k.end / inputs).enumerate() {
        let block = panels.block(unit, index);
        let codes = &mut to.codes[place * size..][..size];
        let [low, high] = block.planes();
        match planes {
            [8, _] => codes.copy_from_slice(low),
            [4, 0] => spread::<4, 0>(low, high, codes),
            [4, 1] => spread::<4, 1>(low, high, codes),
            [4, _] => spread::<4, 2>(low, high, codes),
            [_, 0] => spread::<2, 0>(low, high, codes),
            _ => spread::<2, 1>(low, high, codes),
        }
        if let Some(table) = table {
            for codes in codes.chunks_exact_mut(4 * S::LANES) {
                // SAFETY: as many bytes as the register has.
                unsafe { s.look_up(table, codes.as_mut_ptr()) };
            }
        }
        let groups = place * groups..(place + 1) * groups;
        scale(s, &block, panels.layout.build, &mut to.factors[groups.clone()], &mut to.addends[groups]);
    }
}

/// Bytes from planes of LOW and HIGH bits, eight lines at a time.
#[inline(always)]
fn spread<const LOW: usize, const HIGH: usize>(low: &[u8], high: &[u8], out: &mut [u8]) {
    let (low, high) = (low.as_chunks::<LINE>().0, high.as_chunks::<LINE>().0);
    for (index, out) in out.as_chunks_mut::<LINE>().0.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let low = &low[index * LOW..(index + 1) * LOW];
        let high = &high[index * HIGH..(index + 1) * HIGH];
        line::<LOW, HIGH, 0>(low, high, out);
        line::<LOW, HIGH, 1>(low, high, out);
        line::<LOW, HIGH, 2>(low, high, out);
        line::<LOW, HIGH, 3>(low, high, out);
        line::<LOW, HIGH, 4>(low, high, out);
        line::<LOW, HIGH, 5>(low, high, out);
        line::<LOW, HIGH, 6>(low, high, out);
        line::<LOW, HIGH, 7>(low, high, out);
    }
}

/// Line I of eight: a function of its own, so that the shifts are constants of a loop over bytes.
#[inline(always)]
fn line<const LOW: usize, const HIGH: usize, const I: usize>(
    low: &[[u8; LINE]],
    high: &[[u8; LINE]],
    out: &mut [[u8; LINE]; 8],
) {
    let (first, out) = (&low[I * LOW / 8], &mut out[I]);
    if HIGH == 0 {
        for (out, byte) in out.iter_mut().zip(first) {
            *out = byte >> (I * LOW % 8) & mask(LOW);
        }
    } else {
        let second = &high[I * HIGH / 8];
        for i in 0..LINE {
            let upper = second[i] >> (I * HIGH % 8) & mask(HIGH);
            out[i] = first[i] >> (I * LOW % 8) & mask(LOW) | upper << LOW;
        }
    }
}

/// Factors and addends of the groups of a block.
#[inline(always)]
fn scale<S: Ints>(
    s: S,
    block: &PanelBlock<'_>,
    build: Build,
    factors: &mut [[f32; UNIT]],
    addends: &mut [[f32; UNIT]],
) {
    let d = if build.wide_scale { widen::<S, true>(s, block.d()) } else { widen::<S, false>(s, block.d()) };
    let min = if build.minimum { widen::<S, false>(s, block.min()) } else { [0.0; UNIT] };
    let scales = block.scales().as_chunks::<UNIT>().0;
    match build.scales {
        Scales::Own => (factors[0], addends[0]) = (d, min),
        Scales::Bytes => {
            for (factors, scales) in factors.iter_mut().zip(scales) {
                for i in 0..UNIT {
                    factors[i] = d[i] * f32::from(scales[i].cast_signed());
                }
            }
            for (addends, mins) in addends.iter_mut().zip(block.mins().as_chunks::<UNIT>().0) {
                for i in 0..UNIT {
                    addends[i] = -(min[i] * f32::from(mins[i]));
                }
            }
        }
        Scales::Halves => {
            for ((factors, addends), scales) in factors.iter_mut().zip(addends).zip(scales) {
                for i in 0..UNIT {
                    factors[i] = d[i] * f32::from(scales[i] & 15);
                    addends[i] = -(min[i] * f32::from(scales[i] >> 4));
                }
            }
        }
    }
}

/// The numbers of a unit, stored as f16 or as WIDE scales.
#[inline(always)]
fn widen<S: Ints, const WIDE: bool>(s: S, halves: &[u8]) -> [f32; UNIT] {
    let halves = &halves[..2 * UNIT];
    let mut out = [0.0; UNIT];
    let mut i = 0;
    while i < UNIT {
        // SAFETY: a register of the unit on both sides.
        unsafe {
            let from = halves.as_ptr().add(2 * i);
            let numbers = if WIDE { s.load_bf16(from.cast()) } else { s.load_f16(from.cast()) };
            s.store(out.as_mut_ptr().add(i), numbers);
        }
        i += S::LANES;
    }
    out
}

/// Weights in blocks, opened and multiplied as bytes by `D`.
pub(crate) struct BlockSums<D>(PhantomData<D>);

impl<S: Ints, D: CodeDot<S>> Multiply<S> for BlockSums<D> {
    const K_BLOCK: usize = MAX_BLOCK;

    #[inline(always)]
    unsafe fn run<const R: usize>(s: S, block: &Block<'_>) {
        let mut first = 0;
        while first < UNIT {
            // Few rows take two registers of outputs, so that the latency of the multiply-adds is hidden; of many rows, the
            // sums and the totals stay in registers.
            // SAFETY: as the caller promises.
            unsafe {
                if R <= 4 {
                    block.sum_blocks::<S, D, R, 2>(s, first);
                    first += 2 * S::LANES;
                } else {
                    block.sum_blocks::<S, D, R, 1>(s, first);
                    first += S::LANES;
                }
            }
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
    unsafe fn sum_blocks<S, D, const R: usize, const V: usize>(&self, s: S, first: usize)
    where
        S: Ints,
        D: CodeDot<S>,
    {
        let (Panels::Blocks(panels), Some(opened)) = (self.w.panels(), self.opened) else {
            unreachable!("weights in blocks, opened")
        };
        let Build { group, zero, minimum, .. } = panels.layout.build;
        let (groups, loads) = (self.k.len() / group, group / D::STEPS);
        let mut totals: Sums<S::F, R, V> = [[s.splat(0.0); V]; R];
        for r in 0..R {
            for v in 0..V {
                // SAFETY: the tile holds R rows of the unit.
                totals[r][v] = unsafe { self.load(s, r, first + v * S::LANES) };
            }
        }
        let mut ahead = self.ahead::<V>(&panels, first / S::LANES / V, UNIT / S::LANES / V, groups * loads);
        let mut words = self.words;
        for index in 0..groups {
            let mut codes = [opened.codes.as_ptr(); V];
            for v in 0..V {
                let column = first + v * S::LANES;
                let panel = index * group * UNIT + column / PANEL * group * PANEL;
                // SAFETY: the codes of the group are opened.
                codes[v] = unsafe { opened.codes.as_ptr().add(panel + column % PANEL * D::CELL) };
            }
            // SAFETY: the words of the group are followed by its scales and sums; the weights of the unit are opened.
            unsafe {
                let ends = words.add(loads * D::PARTS * R);
                let mut sums: Sums<S::I, R, V> = [[s.zero_words(); V]; R];
                if zero != 0 {
                    for r in 0..R {
                        sums[r] = [s.splat_word(ends.add(R + r)); V];
                    }
                }
                let sums = accumulate::<S, D, R, V>(s, words, codes, loads, ahead, sums);
                ahead.skip(loads);
                for v in 0..V {
                    let factors = s.load(opened.factors[index].as_ptr().add(first + v * S::LANES));
                    for r in 0..R {
                        let factor = s.mul(factors, s.splat(*ends.add(r).cast()));
                        totals[r][v] = s.fma(s.to_floats(sums[r][v]), factor, totals[r][v]);
                    }
                    if minimum {
                        let addends = s.load(opened.addends[index].as_ptr().add(first + v * S::LANES));
                        for r in 0..R {
                            totals[r][v] = s.fma(addends, s.splat(*ends.add(R + r).cast()), totals[r][v]);
                        }
                    }
                }
                words = ends.add(GROUP_WORDS * R);
            }
        }
        for r in 0..R {
            for v in 0..V {
                // SAFETY: the tile holds R rows of the unit.
                unsafe { self.store(s, r, first + v * S::LANES, totals[r][v]) };
            }
        }
    }

    /// The packed weights that are opened next, of which this part of the block's turn asks for its share.
    #[inline(always)]
    fn ahead<const V: usize>(
        &self,
        panels: &BlockPanels<'_>,
        part: usize,
        parts: usize,
        loads: usize,
    ) -> Ahead<V> {
        let (block, bytes) = (panels.layout.build.block, panels.layout.block_bytes());
        let size = self.k.len() / block * bytes;
        let next = (self.unit * panels.layout.blocks + self.k.start / block) * bytes + size;
        let share = size / (self.turns * parts);
        let from = panels.bytes.as_ptr().wrapping_add(next + (self.turn * parts + part) * share);
        Ahead { from: [from; V], stride: share.div_ceil(loads) }
    }
}
