//! Rotary position embedding: shapes and partition.

use crate::{HeadRows, Kernels, WorkerPool};

/// Angles of rotary positions.
#[derive(Clone, Copy, Debug)]
pub struct Angles<'a> {
    /// `[rows, r]`
    pub cos: &'a [f32],
    /// `[rows, r]`
    pub sin: &'a [f32],
    /// Which elements turn together.
    pub pairing: Pairing,
}

/// Which elements of a head turn together: with `r` pairs the first `2 r`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pairing {
    /// Element `i` and element `i + r`, the order of GPT-NeoX.
    Halves,
    /// Elements `2 i` and `2 i + 1`, the order of the first publication.
    Neighbours,
}

pub(crate) fn rope(
    kernels: &Kernels,
    pool: &WorkerPool,
    heads: HeadRows,
    x: &mut [f32],
    angles: &Angles<'_>,
) {
    let Angles { cos, sin, pairing } = *angles;
    if heads.rows == 0 {
        return;
    }
    let r = cos.len() / heads.rows;
    assert!(cos.len() == r * heads.rows && sin.len() == cos.len(), "cos and sin are [{}, {r}]", heads.rows);
    assert!(2 * r <= heads.head_dim, "{r} rotated pairs in a head of {}", heads.head_dim);
    let turn = match pairing {
        Pairing::Halves => kernels.rope,
        Pairing::Neighbours => kernels.rope_neighbours,
    };
    heads.for_each(pool, x, &|row, _, head| {
        let angles = row * r..(row + 1) * r;
        turn(head, &cos[angles.clone()], &sin[angles]);
    });
}
