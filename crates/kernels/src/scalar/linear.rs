//! Linear operation.

use crate::linear::LinearTask;
use crate::packed::{PANEL, Panel};

pub(super) fn linear(task: LinearTask<'_>) {
    let (n, k) = (task.w.n(), task.w.k());
    for index in task.panels.clone() {
        let panel = task.w.panel(index);
        let columns = index * PANEL..((index + 1) * PANEL).min(n);
        for row in task.rows.clone() {
            let mut sums = [0f64; PANEL];
            if let Some(bias) = task.bias {
                sums.iter_mut().zip(&bias[columns.clone()]).for_each(|(sum, &b)| *sum = f64::from(b));
            }
            accumulate(&task.x[row * k..(row + 1) * k], panel, &mut sums);
            // SAFETY: the rows and columns of a task belong to one worker.
            let out = unsafe { task.out.slice(row * n + columns.start..row * n + columns.end) };
            out.iter_mut().zip(&sums).for_each(|(out, &sum)| *out = sum as f32);
        }
    }
}

/// `sums[j] += Σ x[i] w[i][j]`, i ascending.
fn accumulate(x: &[f32], panel: Panel<'_>, sums: &mut [f64; PANEL]) {
    match panel {
        Panel::F32(w) => {
            for (&x, w) in x.iter().zip(w.as_chunks::<PANEL>().0) {
                add_scaled(sums, x, |j| w[j]);
            }
        }
        Panel::F16(w) => {
            for (&x, w) in x.iter().zip(w.as_chunks::<PANEL>().0) {
                add_scaled(sums, x, |j| w[j].to_f32());
            }
        }
        Panel::Bf16(w) => {
            for (x, w) in x.chunks(2).zip(w.as_chunks::<{ 2 * PANEL }>().0) {
                for (odd, &x) in x.iter().enumerate() {
                    add_scaled(sums, x, |j| w[2 * j + odd].to_f32());
                }
            }
        }
    }
}

#[inline(always)]
fn add_scaled(sums: &mut [f64; PANEL], x: f32, w: impl Fn(usize) -> f32) {
    for (j, sum) in sums.iter_mut().enumerate() {
        *sum += f64::from(x) * f64::from(w(j));
    }
}
