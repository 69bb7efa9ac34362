//! The inner loop: some rows times some registers of columns.
//!
//! All loops here are counted ones over arrays whose length is known: iterators and closures are not always inlined into
//! a function of this size, and outside of it they are compiled without its instruction set.

#![expect(clippy::needless_range_loop, reason = "see above")]

use super::product::{KvSimd, Product};

/// Rows of the left operand, `stride` words apart.
#[derive(Clone, Copy)]
pub(super) struct Left {
    pub(super) start: *const f32,
    pub(super) stride: usize,
}

/// The first step of V registers of columns; the next is `stride` elements on.
#[derive(Clone, Copy)]
pub(super) struct Right<T, const V: usize> {
    pub(super) columns: [*const T; V],
    pub(super) stride: usize,
    pub(super) ahead: Option<Ahead<T, V>>,
}

/// What each load of a register asks for beside it, because it is needed next: blocks are too small and too scattered for the
/// hardware to see a stream, and many requests at once would hold the arithmetic up.
#[derive(Clone, Copy)]
pub(super) struct Ahead<T, const V: usize> {
    /// Asked for in the first step, if they are there at all.
    pub(super) lines: [*const T; V],
    /// Elements from one step to the next.
    pub(super) stride: usize,
}

/// Sums of R rows by V registers.
pub(super) type Sums<S, P, const R: usize, const V: usize> = [[<P as Product<S>>::Sum; V]; R];

/// `sums[r][v] + Σ left[r] · columns[v]` over `count` steps, in order. Every sum of products of whole registers is made
/// here, so its order is the same whatever R and V are.
///
/// # Safety
///
/// `left` is readable for `count * WORDS` words of R rows, `right` for `count` steps of LANES columns.
#[inline(always)]
pub(super) unsafe fn accumulate<S: KvSimd, P: Product<S>, const R: usize, const V: usize>(
    s: S,
    left: Left,
    right: Right<P::Stored, V>,
    count: usize,
    mut sums: Sums<S, P, R, V>,
) -> Sums<S, P, R, V> {
    for step in 0..count {
        let mut columns = [P::empty(s); V];
        for v in 0..V {
            // SAFETY: the step is one of `count`, here and below.
            columns[v] = unsafe { P::load(s, right.columns[v].add(step * right.stride)) };
        }
        if let Some(ahead) = right.ahead {
            for v in 0..V {
                s.prefetch(ahead.lines[v].wrapping_add(step * ahead.stride));
            }
        }
        for r in 0..R {
            for v in 0..V {
                // SAFETY: as above.
                sums[r][v] = unsafe {
                    P::add(s, left.start.add(r * left.stride + step * P::WORDS), columns[v], sums[r][v])
                };
            }
        }
    }
    sums
}

/// Sums that were put away.
///
/// # Safety
///
/// `from` is readable for R rows of V registers, `stride` words apart.
#[inline(always)]
pub(super) unsafe fn take<S: KvSimd, P: Product<S>, const R: usize, const V: usize>(
    s: S,
    from: *const f32,
    stride: usize,
) -> Sums<S, P, R, V> {
    let mut sums = [[P::zero(s); V]; R];
    for r in 0..R {
        for v in 0..V {
            // SAFETY: as the caller promises.
            sums[r][v] = unsafe { P::take(s, from.add(r * stride + v * S::LANES)) };
        }
    }
    sums
}

/// Puts sums away.
///
/// # Safety
///
/// `to` is writable for R rows of V registers, `stride` words apart.
#[inline(always)]
pub(super) unsafe fn put<S: KvSimd, P: Product<S>, const R: usize, const V: usize>(
    s: S,
    to: *mut f32,
    stride: usize,
    sums: Sums<S, P, R, V>,
) {
    for r in 0..R {
        for v in 0..V {
            // SAFETY: as the caller promises.
            unsafe { P::put(s, to.add(r * stride + v * S::LANES), sums[r][v]) };
        }
    }
}
