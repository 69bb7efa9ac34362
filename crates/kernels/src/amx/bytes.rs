//! Products with quantised weights.
//!
//! The sums of a group are exact integers, so they have the bits of every other instruction set. Activations of 8 bits are
//! signed bytes. Those of 16 bits are two bytes, `256 * upper + lower`, the upper one signed, the lower one not: each has
//! sums of its own. The tiles are written to memory after each group and folded into the output's `f32` sums while the
//! unit multiplies the next block.

use super::block::{Ahead, Bytes, HighLow, Operands, Products, TileMemory, pair, single, store, zero};
use super::lanes::Lanes;
use super::rows::RowTiles;
use super::tile::{TILE_ROW_BYTES, TILE_ROWS, Tiles};
use crate::linear::Output;
use crate::packed::{PANEL, UNIT};
use crate::panels::quantized::{QuantBlock, QuantPanels};
use crate::quant::{Activations, Bits, QuantFormat};
use crate::scratch::filled;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Most rows that pass together; their sums, 64 KiB, stay in the second-level cache.
const MAX_ROWS: usize = 512;

/// Bytes of activations that stay in the second-level cache while the units of weights pass.
const ROW_BYTES: usize = 1 << 20;

/// Codes of a group of a unit, one byte each: at most 4 KiB.
type Codes = [TileMemory; 4];

/// How the activations of a tile of rows and a group lie in memory: `scales [16] f32`, `sums [16] i32`, then tiles of bytes,
/// for 16 bits all of the upper ones first.
#[derive(Clone, Copy)]
pub(super) struct GroupLayout {
    pub(super) group: usize,
    /// Bytes of an activation.
    pub(super) width: usize,
}

/// Words of the scales and the sums of the rows of a tile.
const HEADER: usize = 2 * TILE_ROWS;

impl GroupLayout {
    pub(super) fn new(format: QuantFormat) -> Self {
        let width = match format.activations {
            Activations::I16 => 2,
            Activations::I8 => 1,
        };
        GroupLayout { group: format.group.into(), width }
    }

    /// Words of a tile of rows and a group.
    pub(super) fn words(self) -> usize {
        HEADER + self.width * self.lower()
    }

    /// Bytes of a row of a tile.
    fn row_bytes(self) -> usize {
        self.group.min(TILE_ROW_BYTES)
    }

    /// Tiles along K.
    fn steps(self) -> usize {
        self.group / self.row_bytes()
    }

    /// Word of elements `4 * quad` and on of row `row`; the lower bytes of 16 bits are [`lower`](Self::lower) further on.
    pub(super) fn place(self, row: usize, quad: usize) -> usize {
        let row_words = self.row_bytes() / 4;
        HEADER + (quad / row_words * TILE_ROWS + row) * row_words + quad % row_words
    }

    /// Words of the tiles of one byte of each element.
    pub(super) fn lower(self) -> usize {
        TILE_ROWS * self.group / 4
    }
}

/// A tile of rows and a group.
#[derive(Clone, Copy)]
struct LeftGroup<'a>(&'a [u32]);

impl LeftGroup<'_> {
    /// Scale and sum of row `row`.
    #[inline(always)]
    fn row(&self, row: usize) -> (f32, i32) {
        (f32::from_bits(self.0[row]), self.0[TILE_ROWS + row].cast_signed())
    }

    /// The first tile of the upper bytes, or of all.
    #[inline(always)]
    fn tiles(&self) -> *const u8 {
        self.0[HEADER..].as_ptr().cast()
    }
}

/// Rows times units of outputs.
pub(super) struct ByteTask<'a> {
    /// `[row tiles][groups]` of [`GroupLayout`]; the first row of the task starts the first tile.
    pub(super) left: &'a [u32],
    pub(super) panels: QuantPanels<'a>,
    pub(super) n: usize,
    /// `[n]`
    pub(super) bias: Option<&'a [f32]>,
    pub(super) out: Output<'a>,
    /// Rows of the whole operation.
    pub(super) rows: Range<usize>,
    pub(super) units: Range<usize>,
}

impl ByteTask<'_> {
    fn layout(&self) -> GroupLayout {
        GroupLayout::new(self.panels.layout.format)
    }

    /// Rows that pass together: whole blocks.
    fn rows_together(&self) -> usize {
        let fit = ROW_BYTES / (self.panels.layout.groups * self.layout().words() * 4);
        (fit / 2 * 2 * TILE_ROWS).clamp(2 * TILE_ROWS, MAX_ROWS)
    }

    fn group(&self, row_tile: usize, group: usize) -> LeftGroup<'_> {
        let words = self.layout().words();
        LeftGroup(&self.left[(row_tile * self.panels.layout.groups + group) * words..][..words])
    }
}

/// Computes the task.
///
/// # Safety
///
/// As [`Tiles::configure`].
#[inline(always)]
pub(super) unsafe fn multiply<U: Tiles, L: Lanes>(lanes: L, task: &ByteTask<'_>) {
    let format = task.panels.layout.format;
    // SAFETY: as the caller promises.
    unsafe {
        match (format.activations, format.zero_point) {
            (Activations::I8, false) => passes::<U, L, Bytes, false>(lanes, task),
            (Activations::I8, true) => passes::<U, L, Bytes, true>(lanes, task),
            (Activations::I16, false) => passes::<U, L, HighLow, false>(lanes, task),
            (Activations::I16, true) => passes::<U, L, HighLow, true>(lanes, task),
        }
    }
}

/// # Safety
///
/// As [`Tiles::configure`].
#[inline(always)]
unsafe fn passes<U: Tiles, L: Lanes, K: Products, const ZEROS: bool>(lanes: L, task: &ByteTask<'_>) {
    let (together, layout) = (task.rows_together(), task.layout());
    let mut memory = [const { MaybeUninit::uninit() }; MAX_ROWS];
    for start in task.rows.clone().step_by(together) {
        let rows = start..(start + together).min(task.rows.end);
        let pass = Pass {
            lanes,
            task,
            first_tile: (start - task.rows.start) / TILE_ROWS,
            tiles: RowTiles { rows: rows.len(), per_block: 2 / layout.width },
        };
        let sums = filled(&mut memory, rows.len(), [[0.0; PANEL]; 2]);
        // SAFETY: as the caller promises.
        let mut unit = unsafe { U::configure(&pass.tiles.config(layout.row_bytes())) };
        for index in task.units.clone() {
            begin(task, index, sums);
            pass.sum_unit::<U, K, ZEROS>(&mut unit, index, sums);
            write(task, &rows, index, sums);
        }
    }
}

/// Sums of a row over a unit.
type RowSums = [[f32; PANEL]; 2];

/// Some rows on their way through the units.
struct Pass<'a, L> {
    lanes: L,
    task: &'a ByteTask<'a>,
    /// Tile of the task that the first row is in.
    first_tile: usize,
    tiles: RowTiles,
}

/// A block of rows and a group whose exact sums are in memory.
#[derive(Clone, Copy)]
struct Dumped {
    block: usize,
    group: usize,
}

impl<L: Lanes> Pass<'_, L> {
    /// Adds all groups of unit `index` to `sums`, `[rows]`.
    #[inline(always)]
    fn sum_unit<U: Tiles, K: Products, const ZEROS: bool>(
        &self,
        unit: &mut U,
        index: usize,
        sums: &mut [RowSums],
    ) {
        let panels = &self.task.panels;
        let mut dumps = [[TileMemory::ZERO; 4]; 2];
        let mut scales = [Scales::default(); 2];
        let mut codes = [TileMemory::ZERO; 4];
        let mut last: Option<Dumped> = None;
        for group in 0..panels.layout.groups {
            let weights = panels.block(index, group);
            scales[group % 2] = Scales::read::<ZEROS>(&weights);
            let b = operand(&weights, panels.layout.format.bits, &mut codes);
            let mut ahead = self.ahead(&weights);
            for block in 0..self.tiles.blocks() {
                let dump = (group * self.tiles.blocks() + block) % 2;
                self.multiply::<U, K>(unit, Dumped { block, group }, b, &mut ahead);
                store(unit, &mut dumps[dump], self.tiles.is_single(block));
                if let Some(last) = last.replace(Dumped { block, group }) {
                    self.fold::<K, ZEROS>(last, &dumps[1 - dump], &scales[last.group % 2], sums);
                }
            }
        }
        if let Some(last) = last {
            let dump = (last.group * self.tiles.blocks() + last.block) % 2;
            self.fold::<K, ZEROS>(last, &dumps[dump], &scales[last.group % 2], sums);
        }
    }

    /// The exact sums of one block of rows and one group, in tiles.
    #[inline(always)]
    fn multiply<U: Tiles, K: Products>(
        &self,
        unit: &mut U,
        Dumped { block, group }: Dumped,
        b: [*const u8; 2],
        ahead: &mut Ahead,
    ) {
        let layout = self.task.layout();
        let one = self.tiles.is_single(block);
        let first = self.first_tile + block * self.tiles.per_block;
        let upper = self.task.group(first, group).tiles();
        let lower = match self.tiles.per_block {
            1 => upper.wrapping_add(4 * layout.lower()),
            _ if one => upper,
            _ => self.task.group(first + 1, group).tiles(),
        };
        let operands = Operands { a: [upper, lower], a_stride: layout.row_bytes(), b, steps: layout.steps() };
        zero(unit);
        // SAFETY: a group has `steps` tiles on either side.
        unsafe {
            if one {
                single::<U, K>(unit, operands, ahead);
            } else {
                pair::<U, K>(unit, operands, ahead);
            }
        }
    }

    /// `sums += (exact - zero point * sum of activations) * scale * scale of activations`
    #[inline(always)]
    fn fold<K: Products, const ZEROS: bool>(
        &self,
        Dumped { block, group }: Dumped,
        dump: &[TileMemory; 4],
        scales: &Scales,
        sums: &mut [RowSums],
    ) {
        let rows_per_block = self.tiles.per_block * TILE_ROWS;
        let sums = &mut sums[block * rows_per_block..];
        for (tile, sums) in sums.chunks_mut(TILE_ROWS).take(self.tiles.per_block).enumerate() {
            let left = self.task.group(self.first_tile + block * self.tiles.per_block + tile, group);
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = left.row(i);
                for (panel, sums) in sums.iter_mut().enumerate() {
                    let exact = if K::SPLIT {
                        let upper = self.lanes.ints(dump[panel].ints(i));
                        self.lanes.join(upper, self.lanes.ints(dump[2 + panel].ints(i)))
                    } else {
                        self.lanes.ints(dump[2 * tile + panel].ints(i))
                    };
                    scales.add::<L, ZEROS>(self.lanes, panel, exact, row, sums);
                }
            }
        }
    }

    /// The block of weights that follows `weights` in memory.
    fn ahead(&self, weights: &QuantBlock<'_>) -> Ahead {
        let bytes = self.task.panels.layout.block_bytes();
        let next = weights.codes(1).as_ptr_range().end;
        let half = (bytes / 2).next_multiple_of(64);
        let steps = self.tiles.blocks() * self.task.layout().steps();
        Ahead::new([next, next.wrapping_add(half)], half, steps)
    }
}

/// Scales and zero points of a unit and group, widened.
#[derive(Clone, Copy)]
struct Scales {
    scales: [[f32; PANEL]; 2],
    /// Where each output has its own.
    zeros: [[i32; PANEL]; 2],
    /// Where all have the same.
    zero: i32,
}

impl Default for Scales {
    fn default() -> Self {
        Scales { scales: [[0.0; PANEL]; 2], zeros: [[0; PANEL]; 2], zero: 0 }
    }
}

impl Scales {
    #[inline(always)]
    fn read<const ZEROS: bool>(block: &QuantBlock<'_>) -> Self {
        let mut scales = Scales::default();
        scales.scales.as_flattened_mut().copy_from_slice(&block.scales());
        if ZEROS {
            for (to, from) in scales.zeros.as_flattened_mut().iter_mut().zip(block.zeros()) {
                *to = i32::from(*from);
            }
        } else {
            scales.zero = i32::from(block.zero(0));
        }
        scales
    }

    /// Adds the exact sums of one row and panel, whose activations have this scale and sum.
    #[inline(always)]
    fn add<L: Lanes, const ZEROS: bool>(
        &self,
        lanes: L,
        panel: usize,
        exact: L::Ints,
        (scale, sum): (f32, i32),
        sums: &mut [f32; PANEL],
    ) {
        let exact = if ZEROS {
            lanes.sub_product(exact, lanes.ints(&self.zeros[panel]), sum)
        } else {
            lanes.sub(exact, self.zero * sum)
        };
        let scale = lanes.mul(lanes.floats(&self.scales[panel]), lanes.splat(scale));
        let sum = lanes.fma(exact, scale, lanes.floats(sums));
        lanes.put(sums, sum);
    }
}

/// Tiles of B of both panels: the codes themselves, or their halves one after the other in `codes`.
#[inline(always)]
fn operand(block: &QuantBlock<'_>, bits: Bits, codes: &mut Codes) -> [*const u8; 2] {
    let (first, second) = (block.codes(0), block.codes(1));
    match bits {
        Bits::Eight => [first.as_ptr(), second.as_ptr()],
        Bits::Four => {
            let (to_first, to_second) = codes.split_at_mut(2);
            split(first, to_first);
            split(second, to_second);
            [to_first[0].0.as_ptr(), to_second[0].0.as_ptr()]
        }
    }
}

/// Splits bytes into their lower and upper halves, 64 at a time.
#[inline(always)]
fn split(from: &[u8], to: &mut [TileMemory]) {
    let lines = to.iter_mut().flat_map(|tile| tile.0.as_chunks_mut::<{ 2 * TILE_ROW_BYTES }>().0);
    for (from, to) in from.as_chunks::<TILE_ROW_BYTES>().0.iter().zip(lines) {
        let (low, high) = to.split_at_mut(TILE_ROW_BYTES);
        for (i, byte) in from.iter().enumerate() {
            low[i] = byte & 15;
            high[i] = byte >> 4;
        }
    }
}

/// Sets the sums of unit `index` to the bias.
#[inline(always)]
fn begin(task: &ByteTask<'_>, index: usize, sums: &mut [RowSums]) {
    let mut bias = [[0.0; PANEL]; 2];
    if let Some(all) = task.bias {
        let all = &all[index * UNIT..];
        let present = all.len().min(UNIT);
        bias.as_flattened_mut()[..present].copy_from_slice(&all[..present]);
    }
    sums.fill(bias);
}

/// Writes the sums of unit `index` to the output.
#[inline(always)]
fn write(task: &ByteTask<'_>, rows: &Range<usize>, index: usize, sums: &[RowSums]) {
    let columns = index * UNIT..((index + 1) * UNIT).min(task.n);
    for (row, sums) in rows.clone().zip(sums) {
        // SAFETY: the rows and columns of a task belong to one worker.
        let out = unsafe { task.out.row(row, &columns) };
        out.copy_from_slice(&sums.as_flattened()[..columns.len()]);
    }
}
