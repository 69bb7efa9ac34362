//! Root mean square norms: shapes and partition.

use crate::shared::SharedOut;
use crate::{HeadRows, Kernels, WorkerPool};

/// Elements per worker below which waking it costs more than it brings.
pub(crate) const GRAIN: usize = 8192;

pub(crate) fn rms_norm(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    let h = weight.len();
    assert!(h > 0 && x.len() == out.len() && x.len().is_multiple_of(h), "rows of {h} in {}", x.len());
    pool.run_rows(out, h, GRAIN, &|first, out| {
        let x = &x[first * h..first * h + out.len()];
        for (x, out) in x.chunks_exact(h).zip(out.chunks_exact_mut(h)) {
            (kernels.rms_norm)(x, weight, eps, out);
        }
    });
}

/// `x += h; h = norm(x)`, row by row.
pub(crate) fn add_rms_norm(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &mut [f32],
    weight: &[f32],
    eps: f32,
    h: &mut [f32],
) {
    let width = weight.len();
    assert!(
        width > 0 && x.len() == h.len() && x.len().is_multiple_of(width),
        "rows of {width} in {}",
        x.len()
    );
    let x = SharedOut::new(x);
    pool.run_rows(h, width, GRAIN, &|first, h| {
        // SAFETY: these are the rows of `h`, which `run_rows` gives to one worker.
        let x = unsafe { x.slice(first * width..first * width + h.len()) };
        for (x, h) in x.chunks_exact_mut(width).zip(h.chunks_exact_mut(width)) {
            (kernels.add)(x, h);
            (kernels.rms_norm)(x, weight, eps, h);
        }
    });
}

pub(crate) fn rms_norm_heads(
    kernels: &Kernels,
    pool: &WorkerPool,
    heads: HeadRows,
    x: &mut [f32],
    weight: &[f32],
    eps: f32,
) {
    assert_eq!(weight.len(), heads.head_dim, "one weight per element of a head");
    heads.for_each(pool, x, &|_, head| (kernels.rms_norm_in_place)(head, weight, eps));
}
