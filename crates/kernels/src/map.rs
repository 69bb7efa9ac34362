//! Functions of single elements, and sums of two slices: partition.

use crate::norm::GRAIN;
use crate::{Kernels, Map, WorkerPool};

pub(crate) fn map(kernels: &Kernels, pool: &WorkerPool, x: &mut [f32], map: Map) {
    pool.run_rows(x, 1, GRAIN, &|_, x| (kernels.map)(x, map));
}

pub(crate) fn add(kernels: &Kernels, pool: &WorkerPool, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "two slices of one length");
    pool.run_rows(x, 1, GRAIN, &|first, x| (kernels.add)(x, &y[first..first + x.len()]));
}
