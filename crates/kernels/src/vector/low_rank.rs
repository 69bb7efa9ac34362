//! Low-rank updates.

#![expect(clippy::needless_range_loop, reason = "several arrays of registers have one index")]

use super::ints::Ints;
use crate::low_rank::{CHUNK, DownTask, Factors, UpTask, chunk};
use half::{bf16, f16};

/// Elements of the matrices of updates, read a register at a time.
trait Element<S: Ints>: Copy {
    /// # Safety
    ///
    /// `from` is readable for LANES elements.
    unsafe fn lanes(s: S, from: *const Self) -> S::F;
}

impl<S: Ints> Element<S> for f32 {
    #[inline(always)]
    unsafe fn lanes(s: S, from: *const Self) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { s.load(from) }
    }
}

impl<S: Ints> Element<S> for f16 {
    #[inline(always)]
    unsafe fn lanes(s: S, from: *const Self) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { s.load_f16(from) }
    }
}

impl<S: Ints> Element<S> for bf16 {
    #[inline(always)]
    unsafe fn lanes(s: S, from: *const Self) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { s.load_bf16(from) }
    }
}

#[inline(always)]
pub(crate) fn low_rank_down<S: Ints>(s: S, task: DownTask<'_>) {
    match task.w.down() {
        Factors::F32(a) => down(s, &task, a),
        Factors::Bf16(a) => down(s, &task, a),
        Factors::F16(a) => down(s, &task, a),
    }
}

/// Two rows by four ranks at a time, so that a row of `A` is widened once for both; a last row by eight.
#[inline(always)]
fn down<S: Ints, T: Element<S>>(s: S, task: &DownTask<'_>, a: &[T]) {
    let (k, ranks) = (task.w.k(), &task.ranks);
    let rows = task.x.len() / k;
    let mut row = 0;
    while row + 2 <= rows {
        let mut rank = ranks.start;
        while rank + 4 <= ranks.end {
            dots::<S, T, 2, 4>(s, task, a, (row, rank));
            rank += 4;
        }
        while rank < ranks.end {
            dots::<S, T, 2, 1>(s, task, a, (row, rank));
            rank += 1;
        }
        row += 2;
    }
    if row == rows {
        return;
    }
    let mut rank = ranks.start;
    while rank + 8 <= ranks.end {
        dots::<S, T, 1, 8>(s, task, a, (row, rank));
        rank += 8;
    }
    while rank < ranks.end {
        dots::<S, T, 1, 1>(s, task, a, (row, rank));
        rank += 1;
    }
}

/// M rows times R rows of `A`. The order of each sum does not depend on M and R.
#[inline(always)]
fn dots<S: Ints, T: Element<S>, const M: usize, const R: usize>(
    s: S,
    task: &DownTask<'_>,
    a: &[T],
    (row, rank): (usize, usize),
) {
    let (k, width) = (task.w.k(), task.w.stride());
    let a = &a[rank * width..(rank + R) * width];
    let x = &task.x[row * k..(row + M) * k];
    let mut sums = [[s.splat(0.0); R]; M];
    for at in (0..k).step_by(S::LANES) {
        let mut values = [s.splat(0.0); M];
        for m in 0..M {
            values[m] = s.get(&x[m * k..(m + 1) * k], at);
        }
        for r in 0..R {
            // SAFETY: a row of `A` is padded to whole registers, and `a` holds R of them.
            let weight = unsafe { T::lanes(s, a.as_ptr().add(r * width + at)) };
            for m in 0..M {
                sums[m][r] = s.fma(weight, values[m], sums[m][r]);
            }
        }
    }
    for m in 0..M {
        for r in 0..R {
            let value = s.sum(sums[m][r]) * task.w.scales()[rank + r];
            // SAFETY: the ranks of the rows of a task belong to it alone.
            unsafe { task.out.write((row + m) * task.stride + rank + r, value) };
        }
    }
}

#[inline(always)]
pub(crate) fn low_rank_up<S: Ints>(s: S, task: UpTask<'_>) {
    match task.w.up() {
        Factors::F32(b) => up(s, &task, b),
        Factors::Bf16(b) => up(s, &task, b),
        Factors::F16(b) => up(s, &task, b),
    }
}

/// Registers of outputs that are summed side by side.
const SIDE: usize = 4;

#[inline(always)]
fn up<S: Ints, T: Element<S>>(s: S, task: &UpTask<'_>, b: &[T]) {
    for index in task.chunks.clone() {
        let (part, first, len) = chunk(task.w, index);
        let width = part.n.next_multiple_of(CHUNK);
        let b = &b[part.start..part.start + part.ranks.len() * width];
        for (row, t) in task.t.chunks_exact(task.t_stride).enumerate() {
            let t = &t[part.ranks.clone()];
            for start in (0..len).step_by(SIDE * S::LANES) {
                let mut sums = [s.splat(0.0); SIDE];
                for (rank, &t) in t.iter().enumerate() {
                    let t = s.splat(t);
                    let weights = &b[rank * width + first + start..];
                    for side in 0..SIDE {
                        let weights = &weights[side * S::LANES..(side + 1) * S::LANES];
                        // SAFETY: these are LANES elements.
                        let weights = unsafe { T::lanes(s, weights.as_ptr()) };
                        sums[side] = s.fma(weights, t, sums[side]);
                    }
                }
                for side in 0..SIDE {
                    let at = start + side * S::LANES;
                    if at < len {
                        let place = row * task.stride + part.columns.place(first + at);
                        let range = place..place + S::LANES.min(len - at);
                        // SAFETY: the outputs of the chunks of a task belong to it alone.
                        let y = unsafe { task.out.slice(range) };
                        let sum = s.add(s.get(y, 0), sums[side]);
                        s.put(y, 0, sum);
                    }
                }
            }
        }
    }
}
