//! Products with weights of bf16.
//!
//! An output is one chain along K: a tile of C takes the steps of 32 elements in ascending order, from 0, and the bias is added
//! at the end. A chain that is cut because other rows use the same weights goes through memory as it is, so it has the same
//! bits for every number of rows.

use super::block::{Ahead, Bf16, Operands, TileMemory, pair, single, store, zero};
use super::lanes::Lanes;
use super::rows::RowTiles;
use super::tile::{TILE_BYTES, TILE_ROW_BYTES, TILE_ROWS, Tiles};
use crate::linear::Output;
use crate::packed::{PANEL, UNIT};
use crate::scratch::filled;
use half::bf16;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Elements of a tile along K.
pub(super) const STEP: usize = 32;

/// Words of a tile of A.
pub(super) const TILE_WORDS: usize = TILE_ROWS * STEP / 2;

/// Steps whose weights, 32 KiB of a unit, stay in the first-level cache while all rows pass.
const BLOCK_STEPS: usize = 16;

/// Most rows that pass together; their sums, 64 KiB, stay in the second-level cache.
const MAX_ROWS: usize = 512;

/// Bytes of activations that stay in the second-level cache while the units of weights pass.
const ROW_BYTES: usize = 1 << 20;

/// Rows times units of outputs.
pub(super) struct Bf16Task<'a> {
    /// Pairs `[row tiles][k tiles][16][STEP / 2]`, 0 beyond the rows and beyond k; the first row of the task starts the first
    /// tile.
    pub(super) left: &'a [u32],
    /// All panels of the weights.
    pub(super) panels: &'a [bf16],
    pub(super) n: usize,
    pub(super) k: usize,
    /// `[n]`
    pub(super) bias: Option<&'a [f32]>,
    pub(super) out: Output<'a>,
    /// Rows of the whole operation.
    pub(super) rows: Range<usize>,
    pub(super) units: Range<usize>,
}

impl Bf16Task<'_> {
    /// Tiles along K.
    fn k_tiles(&self) -> usize {
        self.k.div_ceil(STEP)
    }

    /// Rows that pass together: whole blocks.
    fn rows_together(&self) -> usize {
        let fit = ROW_BYTES / (self.k_tiles() * STEP * size_of::<bf16>());
        (fit / (2 * TILE_ROWS) * 2 * TILE_ROWS).clamp(2 * TILE_ROWS, MAX_ROWS)
    }

    /// The panels of unit `index`.
    fn unit(&self, index: usize) -> [&[bf16]; 2] {
        let panel = self.k.next_multiple_of(2) * PANEL;
        let (first, second) = self.panels[2 * index * panel..][..2 * panel].split_at(panel);
        [first, second]
    }
}

/// Computes the task.
///
/// # Safety
///
/// As [`Tiles::configure`].
#[inline(always)]
pub(super) unsafe fn multiply<U: Tiles, L: Lanes>(lanes: L, task: &Bf16Task<'_>) {
    let together = task.rows_together();
    let mut memory = [const { MaybeUninit::uninit() }; MAX_ROWS / TILE_ROWS * 2];
    for start in task.rows.clone().step_by(together) {
        let rows = start..(start + together).min(task.rows.end);
        let tiles = RowTiles { rows: rows.len(), per_block: 2 };
        let left = &task.left[(start - task.rows.start) / TILE_ROWS * task.k_tiles() * TILE_WORDS..];
        let sums = filled(&mut memory, 4 * tiles.blocks(), TileMemory::ZERO);
        // SAFETY: as the caller promises.
        let mut unit = unsafe { U::configure(&tiles.config(2 * STEP)) };
        for index in task.units.clone() {
            sum_unit(&mut unit, task, left, tiles, index, sums);
            write(lanes, task, &rows, index, sums);
        }
    }
}

/// `sums[row block][2 row tiles][2 panels]` of unit `index` for the rows at the start of `left`.
#[inline(always)]
fn sum_unit<U: Tiles>(
    unit: &mut U,
    task: &Bf16Task<'_>,
    left: &[u32],
    tiles: RowTiles,
    index: usize,
    sums: &mut [TileMemory],
) {
    let k_tiles = task.k_tiles();
    let panels = task.unit(index);
    let rest = panels.map(|panel| rest(panel, task.k));
    let weights = Weights { left, k_tiles, whole: task.k / STEP, panels, rest: &rest };
    for start in (0..k_tiles).step_by(BLOCK_STEPS) {
        let steps = start..(start + BLOCK_STEPS).min(k_tiles);
        let mut ahead = weights.ahead(&steps, tiles.blocks());
        for (block, sums) in sums.as_chunks_mut::<4>().0.iter_mut().take(tiles.blocks()).enumerate() {
            let one = tiles.is_single(block);
            let cut = tiles.blocks() > 1;
            match (start > 0, cut) {
                (false, _) => zero(unit),
                (true, true) => load(unit, sums, one),
                (true, false) => {}
            }
            weights.add(unit, block, one, steps.clone(), &mut ahead);
            if cut || steps.end == k_tiles {
                store(unit, sums, one);
            }
        }
    }
}

/// What is multiplied for one unit.
struct Weights<'a> {
    /// `[row tiles][k tiles][16][STEP / 2]`
    left: &'a [u32],
    k_tiles: usize,
    /// Tiles along K that are whole in the panels.
    whole: usize,
    panels: [&'a [bf16]; 2],
    /// The last tile along K, filled up with 0, where it is not whole.
    rest: &'a [TileMemory; 2],
}

impl Weights<'_> {
    /// Adds tiles `steps` along K to block `block` of the rows.
    #[inline(always)]
    fn add<U: Tiles>(&self, unit: &mut U, block: usize, one: bool, steps: Range<usize>, ahead: &mut Ahead) {
        let row = |tile: usize, step: usize| {
            self.left[(tile * self.k_tiles + step) * TILE_WORDS..].as_ptr().cast::<u8>()
        };
        let a = |step| [row(2 * block, step), row(2 * block + usize::from(!one), step)];
        let end = steps.end.min(self.whole);
        if steps.start < end {
            let b = self.panels.map(|panel| panel[steps.start * STEP * PANEL..].as_ptr().cast());
            let operands =
                Operands { a: a(steps.start), a_stride: TILE_ROW_BYTES, b, steps: end - steps.start };
            // SAFETY: both sides hold these tiles, which are whole.
            unsafe { step(unit, operands, one, ahead) };
        }
        if end < steps.end {
            let b = self.rest.each_ref().map(|tile| tile.0.as_ptr());
            // SAFETY: the left side has a last tile, and so has `rest`.
            unsafe { step(unit, Operands { a: a(end), a_stride: TILE_ROW_BYTES, b, steps: 1 }, one, ahead) };
        }
    }

    /// The weights after `steps`: those of the next steps, or the first ones of the next unit, which follows in memory.
    #[inline(always)]
    fn ahead(&self, steps: &Range<usize>, blocks: usize) -> Ahead {
        let last = steps.end == self.k_tiles;
        let next = if last { 0 } else { steps.end };
        let bytes = (self.k_tiles - next).min(BLOCK_STEPS) * TILE_BYTES;
        let skip = if last { 2 * size_of_val(self.panels[0]) } else { 0 };
        let starts =
            self.panels.map(|panel| panel.as_ptr().cast::<u8>().wrapping_add(skip + next * TILE_BYTES));
        Ahead::new(starts, bytes, steps.len() * blocks)
    }
}

/// # Safety
///
/// As [`pair`].
#[inline(always)]
unsafe fn step<U: Tiles>(unit: &mut U, operands: Operands, one: bool, ahead: &mut Ahead) {
    // SAFETY: as the caller promises.
    unsafe {
        if one {
            single::<U, Bf16>(unit, operands, ahead);
        } else {
            pair::<U, Bf16>(unit, operands, ahead);
        }
    }
}

#[inline(always)]
fn load<U: Tiles>(unit: &mut U, sums: &[TileMemory; 4], one: bool) {
    // SAFETY: a tile in memory has the rows of every tile.
    unsafe {
        unit.load::<0>(sums[0].0.as_ptr(), TILE_ROW_BYTES);
        unit.load::<1>(sums[1].0.as_ptr(), TILE_ROW_BYTES);
        if !one {
            unit.load::<2>(sums[2].0.as_ptr(), TILE_ROW_BYTES);
            unit.load::<3>(sums[3].0.as_ptr(), TILE_ROW_BYTES);
        }
    }
}

/// Copies the last tile along K of a panel, where it is not whole, and fills it up with 0.
#[inline(always)]
fn rest(panel: &[bf16], k: usize) -> TileMemory {
    let mut tile = TileMemory::ZERO;
    let elements = &panel[k / STEP * STEP * PANEL..];
    for (to, from) in tile.0.as_chunks_mut().0.iter_mut().zip(elements) {
        *to = from.to_ne_bytes();
    }
    tile
}

/// Writes `sums + bias` of unit `index` to the output.
#[inline(always)]
fn write<L: Lanes>(lanes: L, task: &Bf16Task<'_>, rows: &Range<usize>, index: usize, sums: &[TileMemory]) {
    let n = task.n;
    for (panel, start) in [index * UNIT, index * UNIT + PANEL].into_iter().enumerate() {
        if start >= n {
            break;
        }
        let columns = start..(start + PANEL).min(n);
        let mut bias = [0.0; PANEL];
        if let Some(all) = task.bias {
            bias[..columns.len()].copy_from_slice(&all[columns.clone()]);
        }
        let bias = lanes.floats(&bias);
        for (i, row) in rows.clone().enumerate() {
            let tile = &sums[i / TILE_ROWS * 2 + panel];
            let sum = lanes.add(lanes.floats(tile.floats(i % TILE_ROWS)), bias);
            // SAFETY: the rows and columns of a task belong to one worker.
            let out = unsafe { task.out.row(row, &columns) };
            if let Ok(out) = out.try_into() {
                lanes.put(out, sum);
            } else {
                let mut whole = [0.0; PANEL];
                lanes.put(&mut whole, sum);
                out.copy_from_slice(&whole[..columns.len()]);
            }
        }
    }
}
