//! Arranging activations as tiles of A.

use super::bytes::GroupLayout;
use super::float::{STEP, TILE_WORDS};
use super::tile::TILE_ROWS;
use crate::linear::PrepareTask;
use crate::quant::{Activations, QuantFormat};
use crate::quantize::MAX_GROUP;
use crate::round::to_bf16;
use crate::scalar::activations::TINY;
use crate::vector::arrange_codes::round;
use std::ops::Range;

/// Rounds the rows to bf16: words `[row tiles][k tiles][16][STEP / 2]`, 0 beyond the rows and beyond k.
#[inline(always)]
pub(super) fn bf16_tiles(task: &PrepareTask<'_>) {
    let k_tiles = task.w.k().div_ceil(STEP);
    let steps = task.k.start / STEP..task.k.end.div_ceil(STEP);
    for (tile, rows) in row_tiles(task) {
        let words = (tile * k_tiles + steps.start) * TILE_WORDS..(tile * k_tiles + steps.end) * TILE_WORDS;
        // SAFETY: the words of these rows and inputs are this task's alone.
        let out = unsafe { task.out.slice(words) };
        for (step, tile) in steps.clone().zip(out.as_chunks_mut::<TILE_WORDS>().0) {
            for (i, words) in tile.as_chunks_mut::<{ STEP / 2 }>().0.iter_mut().enumerate() {
                let mut x = [0.0; STEP];
                copy(task, rows.start + i, &rows, step * STEP, &mut x);
                let round = |x: f32| u32::from(to_bf16(x).to_bits());
                for (word, [a, b]) in words.iter_mut().zip(x.as_chunks().0) {
                    *word = round(*a) | round(*b) << 16;
                }
            }
        }
    }
}

/// Quantises the rows: `[row tiles][groups]` of [`GroupLayout`]; rows that are lacking have a scale of 0.
#[inline(always)]
pub(super) fn byte_tiles(task: &PrepareTask<'_>, format: QuantFormat) {
    let layout = GroupLayout::new(format);
    let words = layout.words();
    let groups = task.w.k().div_ceil(layout.group);
    for (tile, rows) in row_tiles(task) {
        for group in task.k.start / layout.group..task.k.end.div_ceil(layout.group) {
            let start = (tile * groups + group) * words;
            // SAFETY: the words of these rows and inputs are this task's alone.
            let out = unsafe { task.out.slice(start..start + words) };
            for row in 0..TILE_ROWS {
                let mut x = [0.0; MAX_GROUP];
                let x = &mut x[..layout.group];
                copy(task, rows.start + row, &rows, group * layout.group, x);
                write(layout, row, &quantize(x, format.activations), out);
            }
        }
    }
}

/// The tiles of 16 rows of the task's block, each with the rows that there are.
#[inline(always)]
fn row_tiles(task: &PrepareTask<'_>) -> impl Iterator<Item = (usize, Range<usize>)> {
    let rows = task.rows.rows(task.block..task.block + 1);
    rows.clone().step_by(TILE_ROWS).map(move |start| {
        debug_assert!(start.is_multiple_of(TILE_ROWS));
        (start / TILE_ROWS, start..(start + TILE_ROWS).min(rows.end))
    })
}

/// Copies elements `start` and on of `row` to `to`, as far as `rows` has it and the task's inputs go.
#[inline(always)]
fn copy(task: &PrepareTask<'_>, row: usize, rows: &Range<usize>, start: usize, to: &mut [f32]) {
    if rows.contains(&row) {
        let end = (start + to.len()).min(task.k.end);
        let from = row * task.w.k();
        to[..end - start].copy_from_slice(&task.x[from + start..from + end]);
    }
}

/// A group of one row: `x = q * scale`.
struct Group {
    scale: f32,
    q: [i32; MAX_GROUP],
    sum: i32,
}

/// As the scalar kernels quantise, in a form that the compiler vectorises.
#[inline(always)]
fn quantize(x: &[f32], activations: Activations) -> Group {
    let mut group = Group { scale: 0.0, q: [0; MAX_GROUP], sum: 0 };
    // As integers the magnitudes have the same order, with NaN above infinity.
    let magnitude = x.iter().fold(0, |largest: u32, x| largest.max(x.to_bits() & !(1 << 31)));
    let largest = f32::from_bits(magnitude);
    if !largest.is_finite() {
        group.scale = f32::NAN;
    } else if largest >= TINY {
        let factor = activations.max() / largest;
        group.scale = largest / activations.max();
        group.q.iter_mut().zip(x).for_each(|(q, &x)| *q = round(x * factor));
        group.sum = group.q.iter().fold(0, |sum: i32, &q| sum.wrapping_add(q));
    }
    group
}

/// Writes row `row` of a tile and group.
#[inline(always)]
fn write(layout: GroupLayout, row: usize, group: &Group, out: &mut [u32]) {
    out[row] = group.scale.to_bits();
    out[TILE_ROWS + row] = group.sum.cast_unsigned();
    let words = group.q[..layout.group].as_chunks::<4>().0.iter().enumerate();
    for (quad, &[a, b, c, d]) in words {
        let at = layout.place(row, quad);
        if layout.width == 2 {
            out[at] = word([a >> 8, b >> 8, c >> 8, d >> 8]);
            out[at + layout.lower()] = word([a, b, c, d]);
        } else {
            out[at] = word([a, b, c, d]);
        }
    }
}

/// The lowest bytes.
#[inline(always)]
fn word([a, b, c, d]: [i32; 4]) -> u32 {
    u32::from_le_bytes([a as u8, b as u8, c as u8, d as u8])
}
