//! Linear operation.

use super::activations;
use crate::WeightFormat;
use crate::linear::LinearTask;
use crate::packed::{PANEL, Panels, UNIT};
use crate::panels::blocks::BlockPanels;
use crate::panels::fp8::Fp8Panels;
use crate::panels::quantized::QuantPanels;
use crate::quant::{Activations, Bits};
use half::{bf16, f16};
use std::ops::Range;

pub(super) fn linear(task: LinearTask<'_>) {
    match task.w.panels() {
        Panels::F32(w) => floats(&task, w, |panel, step, column| panel[step * PANEL + column]),
        Panels::F16(w) => {
            floats(&task, w, |panel: &[f16], step, column| panel[step * PANEL + column].to_f32())
        }
        Panels::Bf16(w) => floats(&task, w, |panel: &[bf16], step, column| {
            panel[(step / 2 * PANEL + column) * 2 + step % 2].to_f32()
        }),
        Panels::Fp8(w) => fp8(&task, w),
        Panels::Quantized(w) => quantized(&task, w),
        Panels::Blocks(w) => {
            let WeightFormat::Blocks(_, rounding) = task.w.format() else {
                unreachable!("weights in blocks")
            };
            blocks(&task, w, rounding);
        }
    }
}

/// Sums in `f64`, along K; `weight(panel, step, column)` reads a weight.
fn floats<T>(task: &LinearTask<'_>, w: &[T], weight: impl Fn(&[T], usize, usize) -> f32) {
    let (n, k) = (task.w.n(), task.w.k());
    let panel = w.len() / (task.w.units() * (UNIT / PANEL));
    for start in (task.units.start * UNIT..(task.units.end * UNIT).min(n)).step_by(PANEL) {
        let columns = start..(start + PANEL).min(n);
        let w = &w[start / PANEL * panel..(start / PANEL + 1) * panel];
        for row in task.rows.rows(task.blocks.clone()) {
            let mut sums = [0f64; PANEL];
            if let Some(bias) = task.bias {
                sums.iter_mut().zip(&bias[columns.clone()]).for_each(|(sum, &b)| *sum = f64::from(b));
            }
            for (step, &x) in task.x[row * k..(row + 1) * k].iter().enumerate() {
                for (column, sum) in sums.iter_mut().enumerate() {
                    *sum += f64::from(x) * f64::from(weight(w, step, column));
                }
            }
            let out = output(task, row, &columns);
            out.iter_mut().zip(&sums).for_each(|(out, &sum)| *out = sum as f32);
        }
    }
}

/// Sums in `f64`, along K, of weights that are scaled first.
fn fp8(task: &LinearTask<'_>, w: Fp8Panels<'_>) {
    let (n, k) = (task.w.n(), task.w.k());
    for unit in task.units.clone() {
        let columns = unit * UNIT..((unit + 1) * UNIT).min(n);
        for column in columns.clone() {
            let weights: Vec<f32> = (0..k).map(|step| w.weight(unit, column % UNIT, step)).collect();
            for row in task.rows.rows(task.blocks.clone()) {
                let start = task.bias.map_or(0.0, |bias| f64::from(bias[column]));
                let terms = task.x[row * k..(row + 1) * k].iter().zip(&weights);
                let sum = terms.fold(start, |sum, (&x, &w)| sum + f64::from(x) * f64::from(w));
                output(task, row, &(column..column + 1))[0] = sum as f32;
            }
        }
    }
}

/// Exact integers within a group; one fused multiply-add for each group, in order, from the bias on.
fn quantized(task: &LinearTask<'_>, w: QuantPanels<'_>) {
    let (n, k) = (task.w.n(), task.w.k());
    let columns = task.units.start * UNIT..(task.units.end * UNIT).min(n);
    for row in task.rows.rows(task.blocks.clone()) {
        let out = output(task, row, &columns);
        match task.bias {
            Some(bias) => out.copy_from_slice(&bias[columns.clone()]),
            None => out.fill(0.0),
        }
        let x = &task.x[row * k..(row + 1) * k];
        for (index, x) in x.chunks(w.layout.group()).enumerate() {
            let x = activations::quantize(x, w.layout.format.activations);
            for (unit, out) in (columns.start / UNIT..).zip(out.chunks_mut(UNIT)) {
                let block = w.block(unit, index);
                for (panel, out) in out.chunks_mut(PANEL).enumerate() {
                    let dots = dots(block.codes(panel), w.layout.format.bits, &x.q);
                    for (column, (out, dot)) in out.iter_mut().zip(dots).enumerate() {
                        let column = panel * PANEL + column;
                        let exact = dot - i32::from(block.zero(column)) * x.sum;
                        *out = (exact as f32).mul_add(block.scale(column) * x.scale, *out);
                    }
                }
            }
        }
    }
}

/// Exact integers within a group; one fused multiply-add for each group, in order, from the bias on, and one more for its
/// addend in formats with a minimum.
fn blocks(task: &LinearTask<'_>, w: BlockPanels<'_>, rounding: Activations) {
    let (n, k, build) = (task.w.n(), task.w.k(), w.layout.build);
    let columns = task.units.start * UNIT..(task.units.end * UNIT).min(n);
    for row in task.rows.rows(task.blocks.clone()) {
        let out = output(task, row, &columns);
        match task.bias {
            Some(bias) => out.copy_from_slice(&bias[columns.clone()]),
            None => out.fill(0.0),
        }
        for (index, x) in task.x[row * k..(row + 1) * k].chunks(build.group).enumerate() {
            let (place, group) = (index / w.layout.groups(), index % w.layout.groups());
            let x = activations::quantize(x, rounding);
            for (column, out) in columns.clone().zip(&mut *out) {
                let (block, column) = (w.block(column / UNIT, place), column % UNIT);
                let (factor, addend) = block.group(column, group);
                let level = |step| i32::from(block.level(column, group * build.group + step));
                let exact: i32 = (0..build.group).map(|step| level(step) * i32::from(x.q[step])).sum();
                *out = (exact as f32).mul_add(factor * x.scale, *out);
                if build.minimum {
                    *out = addend.mul_add(x.scale * x.sum as f32, *out);
                }
            }
        }
    }
}

/// `Σ u q` for each output of a panel.
fn dots(codes: &[u8], bits: Bits, q: &[i16]) -> [i32; PANEL] {
    let mut sums = [0i32; PANEL];
    let mut add = |sum: usize, codes: [u8; 4], q: &[i16]| {
        for (code, &q) in codes.into_iter().zip(q) {
            sums[sum] += i32::from(code) * i32::from(q);
        }
    };
    let words = codes.as_chunks::<4>().0.iter().enumerate();
    match bits {
        Bits::Eight => {
            for (i, &word) in words {
                add(i % PANEL, word, &q[i / PANEL * 4..]);
            }
        }
        Bits::Four => {
            for (i, &word) in words {
                let q = &q[i / PANEL * 8..];
                add(i % PANEL, word.map(|byte| byte & 15), q);
                add(i % PANEL, word.map(|byte| byte >> 4), &q[4..]);
            }
        }
    }
    sums
}

/// Outputs `columns` of `row`.
fn output<'a>(task: &LinearTask<'a>, row: usize, columns: &Range<usize>) -> &'a mut [f32] {
    // SAFETY: the rows and columns of a task belong to one task, which takes each part once at a time.
    unsafe { task.out.row(row, columns) }
}
