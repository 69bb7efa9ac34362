//! AVX2 with FMA and F16C: 16 registers of 8 lanes.

mod attention;
mod simd;

use crate::linear::{LinearTask, PrepareTask};
use crate::rows::Blocking;
use crate::vector::int_dot::TwoSteps;
use crate::vector::level::level;
use crate::vector::products::{arrange, multiply};
use crate::vector::table;
use crate::{Isa, Kernels};
use simd::Avx2;

table!(Isa::Avx2, Avx2, "avx2,fma,f16c");

static KERNELS: Kernels = TABLE;

/// The table, where the machine and its operating system run AVX2, FMA and F16C.
pub(crate) fn kernels() -> Option<&'static Kernels> {
    let has = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    has.then_some(&KERNELS)
}

/// Blocks of 6 by 2 registers use 12 sums, 2 weights and 1 word of activations, of 16 registers.
const BLOCKING: Blocking = Blocking { max: 6, step: 2 };

level!(Features, Avx2, "avx2,fma,f16c", [1, 2, 4, 6]);

fn prepare(task: PrepareTask<'_>) {
    arrange::<Features>(&task);
}

fn linear(task: LinearTask<'_>) {
    multiply::<Features, TwoSteps>(&task);
}
