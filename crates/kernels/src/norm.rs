//! Norms: shapes and partition.

use crate::shared::SharedOut;
use crate::{HeadRows, Kernels, WorkerPool};

/// Elements per worker below which waking it costs more than it brings.
pub(crate) const GRAIN: usize = 8192;

/// A norm of rows.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// What is made 1.
    pub kind: NormKind,
    /// Factor of each element, `[width]`; of heads that do not share theirs, `[heads * head_dim]`.
    pub weight: &'a [f32],
    /// Added to each element afterwards, as long as `weight`.
    pub bias: Option<&'a [f32]>,
    /// Added to the mean square.
    pub eps: f32,
}

/// What a norm makes 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NormKind {
    /// The mean square: `x / sqrt(mean(x²) + eps)`.
    Rms,
    /// The variance, around a mean of 0: `y / sqrt(mean(y²) + eps)` with `y = x - mean(x)`.
    Layer,
}

impl<'a> Norm<'a> {
    /// Elements of a row.
    fn width(&self) -> usize {
        let width = self.weight.len();
        assert!(width > 0, "a norm has weights");
        assert!(self.bias.is_none_or(|bias| bias.len() == width), "a bias for each of {width} weights");
        width
    }

    /// The norm of the elements `start..start + len`.
    fn part(&self, start: usize, len: usize) -> Norm<'a> {
        let part = |all: &'a [f32]| &all[start..start + len];
        Norm { weight: part(self.weight), bias: self.bias.map(part), ..*self }
    }
}

pub(crate) fn norm(kernels: &Kernels, pool: &WorkerPool, x: &[f32], norm: &Norm<'_>, out: &mut [f32]) {
    let h = norm.width();
    assert!(x.len() == out.len() && x.len().is_multiple_of(h), "rows of {h} in {}", x.len());
    pool.run_rows(out, h, GRAIN, &|first, out| {
        let x = &x[first * h..first * h + out.len()];
        for (x, out) in x.chunks_exact(h).zip(out.chunks_exact_mut(h)) {
            (kernels.norm)(x, norm, out);
        }
    });
}

/// `x += h; h = norm(x)`, row by row.
pub(crate) fn add_norm(kernels: &Kernels, pool: &WorkerPool, x: &mut [f32], norm: &Norm<'_>, h: &mut [f32]) {
    let width = norm.width();
    assert!(x.len() == h.len() && x.len().is_multiple_of(width), "rows of {width} in {}", x.len());
    let x = SharedOut::new(x);
    pool.run_rows(h, width, GRAIN, &|first, h| {
        // SAFETY: these are the rows of `h`, which `run_rows` gives to one worker.
        let x = unsafe { x.slice(first * width..first * width + h.len()) };
        for (x, h) in x.chunks_exact_mut(width).zip(h.chunks_exact_mut(width)) {
            (kernels.add)(x, h);
            (kernels.norm)(x, norm, h);
        }
    });
}

pub(crate) fn norm_heads(
    kernels: &Kernels,
    pool: &WorkerPool,
    heads: HeadRows,
    x: &mut [f32],
    norm: &Norm<'_>,
) {
    let (width, dim) = (norm.width(), heads.head_dim);
    let own = width == heads.heads * dim;
    assert!(own || width == dim, "{width} weights for {} heads of {dim}", heads.heads);
    heads.for_each(pool, x, &|_, index, head| {
        let start = if own { index * dim } else { 0 };
        (kernels.norm_in_place)(head, &norm.part(start, dim));
    });
}
