//! The tile unit of the processor, by inline assembly: the compiler's intrinsics are not stable.
//!
//! The compiler itself never uses tiles, so their content needs no operands; the assembly blocks are volatile and thus
//! stay in order. All reading and writing of memory is declared.

use super::tile::{TileConfig, Tiles};
use std::arch::asm;
use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

/// The unit of the thread that configured it.
pub(super) struct HardTiles {
    /// The configuration belongs to a thread.
    thread: std::marker::PhantomData<*mut ()>,
}

impl Drop for HardTiles {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the machine has the unit, since it was configured. Tiles are used by nobody else on this thread.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}

/// A product `dst += a · b`.
macro_rules! product {
    ($instruction:literal, $c:ident, $a:ident, $b:ident) => {{
        const { assert!(C != A && C != B && A != B && C < 8 && A < 8 && B < 8) };
        // SAFETY: the unit is configured; tiles are registers, and only this value's owner uses them.
        unsafe {
            asm!(
                concat!($instruction, " tmm{c}, tmm{a}, tmm{b}"),
                c = const $c,
                a = const $a,
                b = const $b,
                options(nomem, nostack, preserves_flags)
            );
        }
    }};
}

impl Tiles for HardTiles {
    #[inline(always)]
    unsafe fn configure(config: &TileConfig) -> Self {
        // SAFETY: the machine has the unit and the process may use it, as the caller promises; the operand is 64 bytes.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) std::ptr::from_ref(config), options(readonly, nostack, preserves_flags));
        }
        HardTiles { thread: std::marker::PhantomData }
    }

    #[inline(always)]
    fn zero<const T: usize>(&mut self) {
        const { assert!(T < 8) };
        // SAFETY: the unit is configured.
        unsafe { asm!("tilezero tmm{t}", t = const T, options(nomem, nostack, preserves_flags)) };
    }

    #[inline(always)]
    unsafe fn load<const T: usize>(&mut self, from: *const u8, stride: usize) {
        const { assert!(T < 8) };
        // SAFETY: the unit is configured; the rows are readable, as the caller promises.
        unsafe {
            asm!(
                "tileloadd tmm{t}, [{from} + {stride} * 1]",
                t = const T,
                from = in(reg) from,
                stride = in(reg) stride,
                options(readonly, nostack, preserves_flags)
            );
        }
    }

    #[inline(always)]
    unsafe fn store<const T: usize>(&self, to: *mut u8, stride: usize) {
        const { assert!(T < 8) };
        // SAFETY: the unit is configured; the rows are writable, as the caller promises.
        unsafe {
            asm!(
                "tilestored [{to} + {stride} * 1], tmm{t}",
                t = const T,
                to = in(reg) to,
                stride = in(reg) stride,
                options(nostack, preserves_flags)
            );
        }
    }

    #[inline(always)]
    fn dot_bf16<const C: usize, const A: usize, const B: usize>(&mut self) {
        product!("tdpbf16ps", C, A, B);
    }

    #[inline(always)]
    fn dot_i8_u8<const C: usize, const A: usize, const B: usize>(&mut self) {
        product!("tdpbsud", C, A, B);
    }

    #[inline(always)]
    fn dot_u8_u8<const C: usize, const A: usize, const B: usize>(&mut self) {
        product!("tdpbuud", C, A, B);
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        // SAFETY: a prefetch may name any address; every machine of 64 bits has it.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
    }
}
