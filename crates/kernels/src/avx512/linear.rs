//! Linear operations: which features and which products a format takes.

use super::bf16_dot::Bf16Dot;
use super::simd::Avx512;
use super::vnni::{Quads, Vnni};
use crate::linear::{LinearTask, PrepareTask};
use crate::rows::Blocking;
use crate::vector::arrange::{Bf16Pairs, FloatWords};
use crate::vector::int_dot::TwoSteps;
use crate::vector::level::level;
use crate::vector::linear::{FloatSums, drive};
use crate::vector::products::{arrange, arrange_as, arrange_quads, multiply, multiply_quads};
use crate::{Activations, WeightFormat};

/// Blocks of 12 by 2 registers use 24 sums, 4 weights and 1 word of activations, of 32 registers.
pub(super) const BLOCKING: Blocking = Blocking { max: 12, step: 2 };

level!(Features, Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c", [1, 2, 4, 6, 8, 10, 12]);
level!(
    VnniFeatures,
    Avx512,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c",
    [1, 2, 4, 6, 8, 10, 12]
);
level!(
    Bf16Features,
    Avx512,
    "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c",
    [1, 2, 4, 6, 8, 10, 12]
);

/// Whether a format takes products of quads of bytes.
fn takes_quads(format: WeightFormat) -> bool {
    match format {
        WeightFormat::Quantized(format) => format.activations == Activations::I8,
        WeightFormat::Blocks(_, activations) => activations == Activations::I8,
        WeightFormat::F32 | WeightFormat::Bf16 | WeightFormat::F16 | WeightFormat::Fp8 => false,
    }
}

pub(super) fn prepare(task: PrepareTask<'_>) {
    arrange::<Features>(&task);
}

pub(super) fn linear(task: LinearTask<'_>) {
    multiply::<Features, TwoSteps>(&task);
}

pub(super) fn vnni_prepare(task: PrepareTask<'_>) {
    if takes_quads(task.w.format()) {
        arrange_quads::<VnniFeatures>(&task);
    } else {
        arrange::<VnniFeatures>(&task);
    }
}

pub(super) fn vnni_linear(task: LinearTask<'_>) {
    if takes_quads(task.w.format()) {
        multiply_quads::<VnniFeatures, Quads<8>, Quads<4>>(&task);
    } else {
        multiply::<VnniFeatures, Vnni>(&task);
    }
}

pub(super) fn bf16_prepare(task: PrepareTask<'_>) {
    match task.w.format() {
        WeightFormat::Bf16 => arrange_as::<Bf16Features, Bf16Pairs>(&task),
        _ => vnni_prepare(task),
    }
}

pub(super) fn bf16_linear(task: LinearTask<'_>) {
    match task.w.format() {
        WeightFormat::Bf16 => drive::<Bf16Features, FloatSums<Bf16Dot>>(&task, Bf16Pairs::words),
        _ => vnni_linear(task),
    }
}
