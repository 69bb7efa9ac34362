//! Heads inside rows, as a fused linear operation leaves them.

use crate::WorkerPool;
use crate::norm::GRAIN;
use crate::pool::partition;
use crate::shared::SharedOut;

/// Where the heads lie in a slice: head `j` of row `i` starts at `i * stride + j * head_dim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadRows {
    /// Rows.
    pub rows: usize,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Heads of a row.
    pub heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

impl HeadRows {
    /// Calls `job(row, index of the head, head)` for every head, on several workers when there is enough to do.
    pub(crate) fn for_each(
        &self,
        pool: &WorkerPool,
        x: &mut [f32],
        job: &(dyn Fn(usize, usize, &mut [f32]) + Sync),
    ) {
        let width = self.heads * self.head_dim;
        if self.rows == 0 || width == 0 {
            return;
        }
        assert!(width <= self.stride, "rows of {width} elements overlap at a stride of {}", self.stride);
        assert!(x.len() >= (self.rows - 1) * self.stride + width, "{self:?} in {} elements", x.len());
        let parts = (self.rows * width / GRAIN).clamp(1, pool.threads()).min(self.rows);
        let out = SharedOut::new(x);
        let part = |worker: usize| {
            for row in partition(self.rows, parts, worker) {
                // SAFETY: rows do not overlap, and each belongs to one worker.
                let heads = unsafe { out.slice(row * self.stride..row * self.stride + width) };
                let heads = heads.chunks_exact_mut(self.head_dim).enumerate();
                heads.for_each(|(index, head)| job(row, index, head));
            }
        };
        if parts == 1 {
            return part(0);
        }
        pool.run(&|worker| {
            if worker < parts {
                part(worker);
            }
        });
    }
}
