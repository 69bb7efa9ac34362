//! Which arrangement and which products the formats take.

use super::arrange::{FloatWords, Floats};
use super::arrange_codes::{Codes, quant_format};
use super::blocks::{BlockSums, FEW_ROWS, PlaneSums};
use super::dot::Fma;
use super::fp8::Fp8Sums;
use super::int_dot::{CodeDot, Narrow, PairUnit, Wide};
use super::ints::Ints;
use super::level::{Arrange, Level};
use super::linear::{FloatSums, drive};
use super::quantized::GroupSums;
use crate::linear::{LinearTask, PrepareTask};
use crate::{Activations, Bits, BlockFormat, WeightFormat};
use half::{bf16, f16};

/// Arranges activations for [`multiply`].
pub(crate) fn arrange<L: Level<Simd: Ints>>(task: &PrepareTask<'_>) {
    match task.w.format() {
        WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Fp8 => arrange_as::<L, Floats<1>>(task),
        WeightFormat::Bf16 => arrange_as::<L, Floats<2>>(task),
        format if is_narrow(format) => arrange_quads::<L>(task),
        WeightFormat::Quantized(_) | WeightFormat::Blocks(..) => arrange_as::<L, Codes<2>>(task),
    }
}

/// Whether codes below 128 meet activations of 8 bits, which [`Narrow`] multiplies.
fn is_narrow(format: WeightFormat) -> bool {
    match format {
        WeightFormat::F32 | WeightFormat::Bf16 | WeightFormat::F16 | WeightFormat::Fp8 => false,
        WeightFormat::Quantized(format) => {
            format.activations == Activations::I8 && format.bits.max_code() < 128
        }
        WeightFormat::Blocks(format, activations) => {
            activations == Activations::I8 && format.build().max_code() < 128
        }
    }
}

/// Products of floats with `f32`, and of codes with activations of 16 bits, or of 8 bits widened to 16, in `P`; [narrow](is_narrow)
/// ones as bytes.
pub(crate) fn multiply<L: Level<Simd: Ints>, P: PairUnit<L::Simd>>(task: &LinearTask<'_>) {
    match task.w.format() {
        WeightFormat::F32 => drive::<L, FloatSums<Fma<_, f32>>>(task, Floats::<1>::words),
        WeightFormat::F16 => drive::<L, FloatSums<Fma<_, f16>>>(task, Floats::<1>::words),
        WeightFormat::Bf16 => drive::<L, FloatSums<Fma<_, bf16>>>(task, Floats::<2>::words),
        WeightFormat::Fp8 => drive::<L, Fp8Sums<L::Simd>>(task, Floats::<1>::words),
        format if is_narrow(format) => multiply_quads::<L, Narrow<_, 8>, Narrow<_, 4>>(task),
        WeightFormat::Quantized(_) => codes::<L, Wide<_, P, 8>, Wide<_, P, 4>, 2>(task),
        WeightFormat::Blocks(format, _) => blocks::<L, Wide<_, P, 8>, Wide<_, P, 4>, 2>(task, format),
    }
}

/// Arranges activations for [`multiply_quads`].
pub(crate) fn arrange_quads<L: Level<Simd: Ints>>(task: &PrepareTask<'_>) {
    arrange_as::<L, Codes<1>>(task);
}

/// Products of codes with activations of 8 bits: `D8` for codes of 8 bits, `D4` of 4.
pub(crate) fn multiply_quads<L, D8, D4>(task: &LinearTask<'_>)
where
    L: Level<Simd: Ints>,
    D8: CodeDot<L::Simd, Raw = <L::Simd as Ints>::I>,
    D4: CodeDot<L::Simd>,
{
    match task.w.format() {
        WeightFormat::Blocks(format, _) => blocks::<L, D8, D4, 1>(task, format),
        _ => codes::<L, D8, D4, 1>(task),
    }
}

/// Products of codes in blocks with activations of BYTES bytes.
fn blocks<L, D8, D4, const BYTES: usize>(task: &LinearTask<'_>, format: BlockFormat)
where
    L: Level<Simd: Ints>,
    D8: CodeDot<L::Simd, Raw = <L::Simd as Ints>::I>,
    D4: CodeDot<L::Simd>,
{
    let build = format.build();
    let words = |k| Codes::<BYTES>::words(k, build.group);
    let few = task.rows.len() <= FEW_ROWS;
    match (build.is_opened(), build.planes) {
        (false, [4, _]) => drive::<L, BlockSums<D4>>(task, words),
        (true, [4, 0]) if few => drive::<L, PlaneSums<D8, 4, 0>>(task, words),
        (true, [4, 1]) if few => drive::<L, PlaneSums<D8, 4, 1>>(task, words),
        (true, [4, 2]) if few => drive::<L, PlaneSums<D8, 4, 2>>(task, words),
        (true, [2, 0]) if few => drive::<L, PlaneSums<D8, 2, 0>>(task, words),
        // A group of the third kind of two planes begins within a byte of the second plane.
        _ => drive::<L, BlockSums<D8>>(task, words),
    }
}

/// Products of codes with activations of BYTES bytes.
fn codes<L, D8, D4, const BYTES: usize>(task: &LinearTask<'_>)
where
    L: Level<Simd: Ints>,
    D8: CodeDot<L::Simd>,
    D4: CodeDot<L::Simd>,
{
    let format = quant_format(task.w);
    let words = |k| Codes::<BYTES>::words(k, format.group.into());
    match format.bits {
        Bits::Eight => drive::<L, GroupSums<D8>>(task, words),
        Bits::Four => drive::<L, GroupSums<D4>>(task, words),
    }
}

/// Arranges activations as `A`.
pub(crate) fn arrange_as<L: Level, A: Arrange<L::Simd>>(task: &PrepareTask<'_>) {
    // SAFETY: a level is named only in the table that was handed out after its features were detected.
    unsafe { L::arrange::<A>(task.rows.padded(task.block), task) };
}
