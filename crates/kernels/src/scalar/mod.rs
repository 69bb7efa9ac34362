//! Plain Rust: the truth that the vector kernels are tested against, and the backend of last resort.
//!
//! Sums and functions are computed in `f64` and rounded once, in one order per output, so that these kernels obey the
//! same invariance as the others.

pub(crate) mod activations;
mod attention;
mod elementwise;
mod erfc;
mod linear;
mod low_rank;

use crate::rows::Blocking;
use crate::{Isa, Kernels};

/// The table.
pub(crate) static KERNELS: Kernels = Kernels {
    isa: Isa::Scalar,
    blocking: |_, _| Blocking { max: 1, step: 1 },
    prepare: |_| (),
    linear: linear::linear,
    attention: attention::attention,
    norm: elementwise::norm,
    norm_in_place: elementwise::norm_in_place,
    rope: elementwise::rope,
    rope_neighbours: elementwise::rope_neighbours,
    glu: elementwise::glu,
    map: elementwise::map,
    add: elementwise::add,
    row_stats: elementwise::row_stats,
    sum_exp: elementwise::sum_exp,
    weigh: elementwise::weigh,
    low_rank_down: low_rank::down,
    low_rank_up: low_rank::up,
};
