//! Rotary position embedding: shapes and partition.

use crate::{HeadRows, Kernels, WorkerPool};

pub(crate) fn rope(
    kernels: &Kernels,
    pool: &WorkerPool,
    heads: HeadRows,
    x: &mut [f32],
    cos: &[f32],
    sin: &[f32],
) {
    if heads.rows == 0 {
        return;
    }
    let r = cos.len() / heads.rows;
    assert!(cos.len() == r * heads.rows && sin.len() == cos.len(), "cos and sin are [{}, {r}]", heads.rows);
    assert!(2 * r <= heads.head_dim, "{r} rotated pairs in a head of {}", heads.head_dim);
    heads.for_each(pool, x, &|row, head| {
        let angles = row * r..(row + 1) * r;
        (kernels.rope)(head, &cos[angles.clone()], &sin[angles]);
    });
}
