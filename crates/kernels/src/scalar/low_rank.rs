//! Low-rank updates.

use crate::low_rank::{CHUNK, DownTask, Factors, LowRank, UpTask, chunk};

/// Sums in `f64`.
pub(super) fn down(task: DownTask<'_>) {
    let DownTask { w, x, ranks, out, stride } = task;
    for (row, x) in x.chunks_exact(w.k()).enumerate() {
        for rank in ranks.clone() {
            let product =
                |(at, &x): (usize, &f32)| f64::from(x) * f64::from(element(w.down(), rank * w.stride() + at));
            let sum: f64 = x.iter().enumerate().map(product).sum();
            let value = (sum * f64::from(w.scales()[rank])) as f32;
            // SAFETY: the ranks of the rows of a task belong to it alone.
            unsafe { out.write(row * stride + rank, value) };
        }
    }
}

/// Sums in `f64`.
pub(super) fn up(task: UpTask<'_>) {
    let UpTask { w, t, t_stride, chunks, out, stride } = task;
    for (row, t) in t.chunks_exact(t_stride).enumerate() {
        for index in chunks.clone() {
            let (part, first, len) = chunk(w, index);
            for column in first..first + len {
                let sum = sum(w, &t[part.ranks.clone()], part.start + column, part.n.next_multiple_of(CHUNK));
                let place = row * stride + part.columns.place(column);
                // SAFETY: the outputs of the chunks of a task belong to it alone.
                let y = unsafe { out.slice(place..place + 1) };
                y[0] += sum as f32;
            }
        }
    }
}

/// `Σ t B`, where the elements of `B` begin at `first` and are `stride` apart.
fn sum(w: &LowRank, t: &[f32], first: usize, stride: usize) -> f64 {
    let products = t
        .iter()
        .enumerate()
        .map(|(rank, &t)| f64::from(t) * f64::from(element(w.up(), first + rank * stride)));
    products.sum()
}

fn element(factors: &Factors, index: usize) -> f32 {
    match factors {
        Factors::F32(all) => all[index],
        Factors::Bf16(all) => all[index].to_f32(),
        Factors::F16(all) => all[index].to_f32(),
    }
}
