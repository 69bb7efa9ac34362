//! Linear operation with weights in blocks: exact integers within a group, multiply-adds of floats for each group.
//!
//! For each group, in order, `out = fma(Σ level q, factor · activation scale, out)`, from the bias on, and then, in formats
//! with a minimum, `out = fma(addend, activation scale · Σ q, out)`. Codes of 4 and 8 bits are multiplied as they lie; others are
//! opened to bytes once for a unit and a K block, in the first-level cache, and every block of rows multiplies those.

#![expect(clippy::needless_range_loop, reason = "several arrays of registers have one index")]

use super::dot::{Ahead, Sums, accumulate};
use super::int_dot::CodeDot;
use super::ints::Ints;
use super::level::Multiply;
use super::linear::Block;
use super::quantized::{CODES_K_BLOCK, GROUP_WORDS};
use crate::PackedLinear;
use crate::blocks::{Build, MAX_BLOCK, Scales};
use crate::packed::{PANEL, Panels, UNIT};
use crate::panels::blocks::{BlockPanels, BlockPlaces, LINE, mask};
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
    let Build { block: inputs, planes, table, .. } = panels.layout.build;
    let size = inputs * UNIT;
    for (place, index) in (k.start / inputs..k.end / inputs).enumerate() {
        let block = panels.block(unit, index);
        let codes = &mut to.codes[place * size..][..size];
        let [low, high] = block.planes();
        match planes {
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

/// Factors and addends of the groups of one block, for V registers of outputs.
struct Factors<S: Ints, const V: usize> {
    d: [S::F; V],
    min: [S::F; V],
    /// Scales of the first group, and its minima where they are bytes of their own.
    scales: *const u8,
    mins: *const u8,
}

impl<S: Ints, const V: usize> Factors<S, V> {
    /// Those of a block of `layout` whose outputs from `first` on are at `block`.
    ///
    /// # Safety
    ///
    /// `block` is readable for a block, and the outputs are within the unit.
    #[inline(always)]
    unsafe fn of(s: S, build: &Build, places: &BlockPlaces, block: *const u8, first: usize) -> Self {
        let mut factors =
            Factors { d: [s.splat(0.0); V], min: [s.splat(0.0); V], scales: block, mins: block };
        for v in 0..V {
            let column = first + v * S::LANES;
            // SAFETY: the numbers of the unit, at the places of the layout.
            unsafe {
                let d = block.add(2 * column);
                factors.d[v] = if build.wide_scale { s.load_bf16(d.cast()) } else { s.load_f16(d.cast()) };
                if build.minimum {
                    let min = s.load_f16(block.add(places.min + 2 * column).cast());
                    let sign = if build.scales == Scales::Own { 1.0 } else { -1.0 };
                    factors.min[v] = s.mul(min, s.splat(sign));
                }
            }
        }
        // SAFETY: within the block.
        unsafe {
            factors.scales = block.add(places.scales + first);
            factors.mins = block.add(places.mins + first);
        }
        factors
    }

    /// Factor and addend of group `group` for register `v`; the addend means something in formats with a minimum.
    ///
    /// # Safety
    ///
    /// The block has the group.
    #[inline(always)]
    unsafe fn group(&self, s: S, build: &Build, group: usize, v: usize) -> (S::F, S::F) {
        let at = group * UNIT + v * S::LANES;
        match build.scales {
            Scales::Own => (self.d[v], self.min[v]),
            Scales::Bytes => {
                // SAFETY: a byte of each output.
                let scale = s.to_floats(unsafe { s.load_bytes(self.scales.add(at)) });
                let mut addend = self.min[v];
                if build.minimum {
                    // SAFETY: a byte of each output.
                    addend = s.mul(addend, s.to_floats(unsafe { s.load_bytes(self.mins.add(at)) }));
                }
                (s.mul(self.d[v], scale), addend)
            }
            Scales::Halves => {
                // SAFETY: a byte of each output.
                let both = unsafe { s.load_bytes(self.scales.add(at)) };
                let (scale, min) = (s.and_word(both, 15), s.and_word(s.shift_halves::<4>(both), 15));
                (s.mul(self.d[v], s.to_floats(scale)), s.mul(self.min[v], s.to_floats(min)))
            }
        }
    }
}

/// Weights in blocks, multiplied by `D`: bytes where the format is opened, else codes as they are packed.
pub(crate) struct BlockSums<D>(PhantomData<D>);

impl<S: Ints, D: CodeDot<S>> Multiply<S> for BlockSums<D> {
    fn k_block(w: &PackedLinear) -> usize {
        match w.panels() {
            Panels::Blocks(panels) if panels.layout.build.is_opened() => MAX_BLOCK,
            _ => CODES_K_BLOCK,
        }
    }

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
        // No constant: the loop over the loads of a group would be unrolled, and all its activations loaded, and spilled, first.
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
                let codes = opened.unwrap_or_else(|| block.add(places.codes));
                opened = opened.map(|opened| opened.add(build.block * UNIT));
                for group in 0..groups {
                    let codes = group_codes::<S, D, V>(codes, (group * loads, loads), first);
                    let ends = words.add(loads * D::PARTS * R);
                    let mut sums: Sums<S::I, R, V> = [[s.zero_words(); V]; R];
                    if build.zero != 0 {
                        for r in 0..R {
                            sums[r] = [s.splat_word(ends.add(R + r)); V];
                        }
                    }
                    let sums = accumulate::<S, D, R, V>(s, words, codes, loads, ahead, sums);
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

/// Where the codes of a group are, `loads` loads of a unit behind `codes`, for V registers of outputs from `first` on.
///
/// # Safety
///
/// `codes` are codes for `D` that reach so far; the outputs are within the unit.
#[inline(always)]
unsafe fn group_codes<S: Ints, D: CodeDot<S>, const V: usize>(
    codes: *const u8,
    (before, loads): (usize, usize),
    first: usize,
) -> [*const u8; V] {
    let mut starts = [codes; V];
    for (v, start) in starts.iter_mut().enumerate() {
        let column = first + v * S::LANES;
        let panels = before * UNIT / PANEL + column / PANEL * loads;
        // SAFETY: as the caller promises.
        *start = unsafe { codes.add(panels * PANEL * D::CELL + column % PANEL * D::CELL) };
    }
    starts
}
