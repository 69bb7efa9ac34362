//! AVX2 with FMA and F16C: 16 registers of 8 lanes.

mod simd;

use crate::linear::{LinearTask, PrepareTask};
use crate::rows::Blocking;
use crate::vector::arrange::Floats;
use crate::vector::dot::Fma;
use crate::vector::level::{Level, level};
use crate::vector::linear::{FloatSums, drive};
use crate::vector::table;
use crate::{Isa, Kernels, WeightFormat};
use half::{bf16, f16};
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
    let rows = task.rows.padded(task.block);
    // SAFETY: the table was handed out after the features were detected.
    unsafe {
        match task.w.format() {
            WeightFormat::F32 | WeightFormat::F16 => Features::arrange::<Floats<1>>(rows, &task),
            WeightFormat::Bf16 => Features::arrange::<Floats<2>>(rows, &task),
            WeightFormat::Quantized(_) => {}
        }
    }
}

fn linear(task: LinearTask<'_>) {
    match task.w.format() {
        WeightFormat::F32 => drive::<Features, FloatSums<Fma<_, f32>>>(&task, Floats::<1>::words),
        WeightFormat::F16 => drive::<Features, FloatSums<Fma<_, f16>>>(&task, Floats::<1>::words),
        WeightFormat::Bf16 => drive::<Features, FloatSums<Fma<_, bf16>>>(&task, Floats::<2>::words),
        WeightFormat::Quantized(_) => (crate::scalar::KERNELS.linear)(task),
    }
}
