//! The one inner loop: some rows times some registers of columns.

use super::simd::{Simd, Stored, StoredKv};

/// Rows of the left operand: element `i` of row `r` is at `rows[r] + i * step`.
#[derive(Clone, Copy)]
pub(crate) struct Left<const R: usize> {
    pub(crate) rows: [*const f32; R],
    pub(crate) step: usize,
}

/// Columns of the right operand: the `STEP` elements of each column of register `v`, for steps `i * STEP` and on, are
/// side by side from `columns[v] + i * step`.
#[derive(Clone, Copy)]
pub(crate) struct Right<T, const V: usize> {
    pub(crate) columns: [*const T; V],
    pub(crate) step: usize,
}

/// Sums of R rows by V registers.
pub(crate) type Sums<S, const R: usize, const V: usize> = [[<S as Simd>::F; V]; R];

/// How many columns of a register there are. (A trait rather than a closure, which could not be forced inline.)
pub(crate) trait Width<S: Simd, T>: Copy {
    /// # Safety
    ///
    /// `from` is readable for STEP elements of each column.
    unsafe fn load(self, s: S, from: *const T) -> (S::F, S::F);
}

/// All LANES columns.
#[derive(Clone, Copy)]
pub(crate) struct Whole;

/// The first few columns, at most LANES; the others are 0.
#[derive(Clone, Copy)]
pub(crate) struct First(pub(crate) usize);

impl<S: Simd, T: Stored<S>> Width<S, T> for Whole {
    #[inline(always)]
    unsafe fn load(self, s: S, from: *const T) -> (S::F, S::F) {
        // SAFETY: as the caller promises.
        unsafe { T::load(s, from) }
    }
}

impl<S: Simd, T: StoredKv<S>> Width<S, T> for First {
    #[inline(always)]
    unsafe fn load(self, s: S, from: *const T) -> (S::F, S::F) {
        // SAFETY: as the caller promises.
        unsafe { T::load_first(s, from, self.0) }
    }
}

/// `sums[r][v] += Σ left[r][i] · right[i][v]`, one fused multiply-add per term, `i` ascending from 0 to `k`.
///
/// Every sum of products in linear operations and attention is made here, so the order of the terms of an output is the
/// same whatever R and V are.
///
/// # Safety
///
/// `left` is readable for `k` elements per row; `right` for `k` steps, rounded up to STEP, of as many columns as
/// `width` says.
#[inline(always)]
pub(crate) unsafe fn accumulate<S: Simd, T: Stored<S>, const R: usize, const V: usize>(
    s: S,
    left: Left<R>,
    right: Right<T, V>,
    width: impl Width<S, T>,
    k: usize,
    sums: &mut Sums<S, R, V>,
) {
    // Local, so that the sums live in registers.
    let mut acc = *sums;
    let mut columns = [(s.splat(0.0), s.splat(0.0)); V];
    for i in 0..k / T::STEP {
        for (column, start) in columns.iter_mut().zip(right.columns) {
            // SAFETY: steps `i * STEP` and on are among the first k.
            *column = unsafe { width.load(s, start.add(i * right.step)) };
        }
        // SAFETY: the step is one of the first k.
        unsafe { add_step(s, left, i * T::STEP, columns.map(|pair| pair.0), &mut acc) };
        if T::STEP == 2 {
            // SAFETY: the step is one of the first k.
            unsafe { add_step(s, left, i * 2 + 1, columns.map(|pair| pair.1), &mut acc) };
        }
    }
    if T::STEP == 2 && k % 2 == 1 {
        for (column, start) in columns.iter_mut().zip(right.columns) {
            // SAFETY: the pair of step k - 1 is readable.
            *column = unsafe { width.load(s, start.add(k / 2 * right.step)) };
        }
        // SAFETY: the step is the last of k.
        unsafe { add_step(s, left, k - 1, columns.map(|pair| pair.0), &mut acc) };
    }
    *sums = acc;
}

/// `sums[r][v] += left[r][i] · columns[v]`
///
/// # Safety
///
/// `left` is readable at step `i`.
#[inline(always)]
unsafe fn add_step<S: Simd, const R: usize, const V: usize>(
    s: S,
    left: Left<R>,
    i: usize,
    columns: [S::F; V],
    sums: &mut Sums<S, R, V>,
) {
    for (row, sums) in left.rows.iter().zip(sums) {
        // SAFETY: as the caller promises.
        let x = s.splat(unsafe { *row.add(i * left.step) });
        for (sum, column) in sums.iter_mut().zip(columns) {
            *sum = s.fma(x, column, *sum);
        }
    }
}
