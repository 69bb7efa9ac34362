//! AVX-512: 32 registers of 16 lanes.

mod bf16_dot;
mod simd;

use crate::linear::{LinearTask, PrepareTask};
use crate::rows::Blocking;
use crate::vector::arrange::{Bf16Pairs, Floats};
use crate::vector::dot::Fma;
use crate::vector::level::{Level, level};
use crate::vector::linear::{FloatSums, drive};
use crate::vector::table;
use crate::{Isa, Kernels, WeightFormat};
use bf16_dot::Bf16Dot;
use half::{bf16, f16};
use simd::Avx512;

table!(Isa::Avx512, Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c");

static KERNELS: Kernels = TABLE;

/// As [`KERNELS`], with bf16 weights times activations rounded to bf16.
static BF16_KERNELS: Kernels =
    Kernels { isa: Isa::Avx512Bf16, prepare: bf16_prepare, linear: bf16_linear, ..TABLE };

/// The table, where the machine and its operating system run AVX-512.
pub(crate) fn kernels() -> Option<&'static Kernels> {
    let has = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    has.then_some(&KERNELS)
}

/// The table with dot products of bf16, where the machine has them.
pub(crate) fn bf16_kernels() -> Option<&'static Kernels> {
    (kernels().is_some() && is_x86_feature_detected!("avx512bf16")).then_some(&BF16_KERNELS)
}

/// Blocks of 12 by 2 registers use 24 sums, 4 weights and 1 word of activations, of 32 registers.
const BLOCKING: Blocking = Blocking { max: 12, step: 2 };

level!(Features, Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c", [1, 2, 4, 6, 8, 10, 12]);
level!(
    Bf16Features,
    Avx512,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c",
    [1, 2, 4, 6, 8, 10, 12]
);

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

fn bf16_prepare(task: PrepareTask<'_>) {
    match task.w.format() {
        // SAFETY: the table was handed out after the features were detected.
        WeightFormat::Bf16 => unsafe {
            Bf16Features::arrange::<Bf16Pairs>(task.rows.padded(task.block), &task);
        },
        _ => prepare(task),
    }
}

fn bf16_linear(task: LinearTask<'_>) {
    match task.w.format() {
        WeightFormat::Bf16 => drive::<Bf16Features, FloatSums<Bf16Dot>>(&task, Bf16Pairs::words),
        _ => linear(task),
    }
}
