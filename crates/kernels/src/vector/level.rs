//! Entering the features of an instruction set.

use super::blocks::Opened;
use super::linear::Block;
use super::simd::Simd;
use crate::PackedLinear;
use crate::linear::PrepareTask;
use crate::panels::blocks::BlockPanels;
use std::ops::Range;

/// A set of CPU features that linear operations are compiled for.
///
/// Each register block is a function of its own, into which everything generic is inlined, so that the compiler assigns
/// registers to one inner loop at a time.
pub(crate) trait Level {
    /// The registers.
    type Simd: Simd;

    /// Runs `K` on a block of `rows` rows, one of the sizes of this level.
    ///
    /// # Safety
    ///
    /// The machine has the features; the rest as [`Multiply::run`].
    unsafe fn multiply<K: Multiply<Self::Simd>>(rows: usize, block: &Block<'_>);

    /// Opens the blocks of `unit` along `k`, a K block.
    ///
    /// # Safety
    ///
    /// The machine has the features.
    unsafe fn open(panels: &BlockPanels<'_>, unit: usize, k: Range<usize>, to: &mut Opened);

    /// Runs `A` for a block of `rows` rows, one of the sizes of this level.
    ///
    /// # Safety
    ///
    /// The machine has the features.
    unsafe fn arrange<A: Arrange<Self::Simd>>(rows: usize, task: &PrepareTask<'_>);
}

/// A kernel of register blocks.
pub(crate) trait Multiply<S> {
    /// Inputs of `w` that the rows take in turn before the next ones.
    fn k_block(w: &PackedLinear) -> usize;

    /// Whether it multiplies the blocks of `w` as bytes that are opened for it.
    fn opens(_w: &PackedLinear) -> bool {
        false
    }

    /// Computes R rows by one unit over one K block.
    ///
    /// # Safety
    ///
    /// `block.words` is readable for the words of R rows; the unit and the K block are among the weights'.
    unsafe fn run<const R: usize>(s: S, block: &Block<'_>);
}

/// An arrangement of activations.
pub(crate) trait Arrange<S> {
    /// Arranges one K block of R rows.
    fn run<const R: usize>(s: S, task: &PrepareTask<'_>);
}

/// Defines a [`Level`]: name, registers, features, rows of its blocks.
macro_rules! level {
    ($name:ident, $simd:ty, $features:literal, [$($rows:literal),*]) => {
        struct $name;

        impl $crate::vector::level::Level for $name {
            type Simd = $simd;

            unsafe fn multiply<K: $crate::vector::level::Multiply<$simd>>(
                rows: usize,
                block: &$crate::vector::linear::Block<'_>,
            ) {
                #[target_feature(enable = $features)]
                unsafe fn enter<K: $crate::vector::level::Multiply<$simd>, const R: usize>(
                    block: &$crate::vector::linear::Block<'_>,
                ) {
                    // SAFETY: as the caller promises.
                    unsafe { K::run::<R>(<$simd>::here(), block) }
                }
                match rows {
                    // SAFETY: as the caller promises.
                    $($rows => unsafe { enter::<K, $rows>(block) },)*
                    _ => unreachable!("no block has {rows} rows"),
                }
            }

            unsafe fn open(
                panels: &$crate::panels::blocks::BlockPanels<'_>,
                unit: usize,
                k: std::ops::Range<usize>,
                to: &mut $crate::vector::blocks::Opened,
            ) {
                #[target_feature(enable = $features)]
                fn enter(
                    panels: &$crate::panels::blocks::BlockPanels<'_>,
                    unit: usize,
                    k: std::ops::Range<usize>,
                    to: &mut $crate::vector::blocks::Opened,
                ) {
                    $crate::vector::blocks::open(<$simd>::here(), panels, unit, k, to);
                }
                // SAFETY: as the caller promises.
                unsafe { enter(panels, unit, k, to) }
            }

            unsafe fn arrange<A: $crate::vector::level::Arrange<$simd>>(
                rows: usize,
                task: &$crate::linear::PrepareTask<'_>,
            ) {
                #[target_feature(enable = $features)]
                fn enter<A: $crate::vector::level::Arrange<$simd>, const R: usize>(
                    task: &$crate::linear::PrepareTask<'_>,
                ) {
                    A::run::<R>(<$simd>::here(), task);
                }
                match rows {
                    // SAFETY: as the caller promises.
                    $($rows => unsafe { enter::<A, $rows>(task) },)*
                    _ => unreachable!("no block has {rows} rows"),
                }
            }
        }
    };
}
pub(crate) use level;
