//! Linear operation.

use crate::linear::LinearTask;
use crate::packed::{PANEL, Panels};

pub(super) fn linear(task: LinearTask<'_>) {
    let (n, k) = (task.w.n(), task.w.k());
    for start in (task.columns.start..task.columns.end.min(n)).step_by(PANEL) {
        let columns = start..(start + PANEL).min(n);
        for row in task.rows.clone() {
            let mut sums = [0f64; PANEL];
            if let Some(bias) = task.bias {
                sums.iter_mut().zip(&bias[columns.clone()]).for_each(|(sum, &b)| *sum = f64::from(b));
            }
            accumulate(&task.x[row * k..(row + 1) * k], task.w.panels(), start / PANEL, &mut sums);
            // SAFETY: the rows and columns of a task belong to one worker.
            let out = unsafe { task.out.slice(row * n + columns.start..row * n + columns.end) };
            out.iter_mut().zip(&sums).for_each(|(out, &sum)| *out = sum as f32);
        }
    }
}

/// `sums[j] += Σ x[i] w[i][j]`, i ascending, over panel `index`.
fn accumulate(x: &[f32], panels: Panels<'_>, index: usize, sums: &mut [f64; PANEL]) {
    let k = x.len();
    match panels {
        Panels::F32(w) => {
            for (&x, w) in x.iter().zip(&w.as_chunks::<PANEL>().0[index * k..]) {
                add_scaled(sums, x, |j| w[j]);
            }
        }
        Panels::F16(w) => {
            for (&x, w) in x.iter().zip(&w.as_chunks::<PANEL>().0[index * k..]) {
                add_scaled(sums, x, |j| w[j].to_f32());
            }
        }
        Panels::Bf16(w) => {
            let pairs = &w.as_chunks::<{ 2 * PANEL }>().0[index * k.div_ceil(2)..];
            for (x, w) in x.chunks(2).zip(pairs) {
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
