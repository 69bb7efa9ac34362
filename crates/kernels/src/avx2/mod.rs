//! AVX2 with FMA and F16C: 16 registers of 8 lanes.

mod simd;

use crate::vector::linear::{Block, Blocking};
use crate::vector::simd::Stored;
use crate::vector::table;
use crate::{Isa, Kernels};
use simd::Avx2;
use std::ops::Range;

table!(Isa::Avx2, Avx2, "avx2,fma,f16c");

/// The table, where the machine and its operating system run AVX2, FMA and F16C.
pub(crate) fn kernels() -> Option<&'static Kernels> {
    let has = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    has.then_some(&KERNELS)
}

/// Blocks of 6 by 2 registers use 12 sums, 2 columns and 1 element of the left side, of 16 registers. Fewer rows take
/// more columns, so that at least 8 sums are under way: enough to hide the latency of two multiply-add units.
impl Blocking for Avx2 {
    const MAX_ROWS: usize = 6;

    #[inline(always)]
    fn block_rows(rows: usize) -> usize {
        match rows {
            0..=2 => rows,
            3..=4 => 4,
            _ => 6,
        }
    }

    #[inline(always)]
    unsafe fn block<T: Stored<Self>>(self, block: &Block<'_, T>, columns: Range<usize>) {
        // SAFETY: as the caller promises, here and below.
        unsafe {
            match Self::block_rows(block.rows.len()) {
                1 => {
                    let rest = block.compute::<Self, 1, 8>(self, columns);
                    block.compute::<Self, 1, 4>(self, rest);
                }
                2 => _ = block.compute::<Self, 2, 4>(self, columns),
                4 => _ = block.compute::<Self, 4, 2>(self, columns),
                _ => _ = block.compute::<Self, 6, 2>(self, columns),
            }
        }
    }
}
