//! Root mean square norms: shapes and partition.

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
