//! AVX-512: 32 registers of 16 lanes.

mod simd;

use crate::vector::linear::{Block, Blocking};
use crate::vector::simd::Stored;
use crate::vector::table;
use crate::{Isa, Kernels};
use simd::Avx512;
use std::ops::Range;

table!(Isa::Avx512, Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c");

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

/// Blocks of 12 by 2 registers use 24 sums, 4 columns and 1 element of the left side, of 32 registers. Fewer rows take
/// more columns, so that at least 8 sums are under way: enough to hide the latency of two multiply-add units.
impl Blocking for Avx512 {
    const MAX_ROWS: usize = 12;

    #[inline(always)]
    fn block_rows(rows: usize) -> usize {
        match rows {
            0..=2 => rows,
            3..=4 => 4,
            5..=6 => 6,
            7..=8 => 8,
            _ => 12,
        }
    }

    #[inline(always)]
    unsafe fn block<T: Stored<Self>>(self, block: &Block<'_, T>, columns: Range<usize>) {
        // SAFETY: as the caller promises, here and below.
        unsafe {
            match Self::block_rows(block.rows.len()) {
                1 => {
                    let rest = block.compute::<Self, 1, 8>(self, columns);
                    block.compute::<Self, 1, 2>(self, rest);
                }
                2 => {
                    let rest = block.compute::<Self, 2, 8>(self, columns);
                    block.compute::<Self, 2, 2>(self, rest);
                }
                4 => {
                    let rest = block.compute::<Self, 4, 4>(self, columns);
                    block.compute::<Self, 4, 2>(self, rest);
                }
                6 => _ = block.compute::<Self, 6, 2>(self, columns),
                8 => _ = block.compute::<Self, 8, 2>(self, columns),
                _ => _ = block.compute::<Self, 12, 2>(self, columns),
            }
        }
    }
}
