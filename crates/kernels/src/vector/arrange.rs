//! Arranging activations: words along K, those of the rows of a block side by side.
//!
//! The words of a block are `[words of a row][R]`; the blocks follow each other. Rows that the last block lacks are 0.

use super::level::Arrange;
use crate::linear::{K_BLOCK, PrepareTask};
use crate::round::to_bf16;

/// One `f32` in a word; STEP is what K is rounded up to.
pub(crate) struct Floats<const STEP: usize>;

impl<const STEP: usize> Floats<STEP> {
    /// Words of a row of `k` elements.
    pub(crate) fn words(k: usize) -> usize {
        k.next_multiple_of(STEP)
    }
}

impl<const STEP: usize> Arrange for Floats<STEP> {
    #[inline(always)]
    fn run<const R: usize>(task: &PrepareTask<'_>) {
        arrange::<R>(task, Self::words, |x, words| {
            words.iter_mut().zip(x).for_each(|(word, x)| *word = x.to_bits());
        });
    }
}

/// Two consecutive elements, rounded to bf16, in a word: the first in the lower half. K is rounded up to even.
pub(crate) struct Bf16Pairs;

impl Bf16Pairs {
    /// Words of a row of `k` elements.
    pub(crate) fn words(k: usize) -> usize {
        k.div_ceil(2)
    }
}

impl Arrange for Bf16Pairs {
    #[inline(always)]
    fn run<const R: usize>(task: &PrepareTask<'_>) {
        let round = |x: f32| u32::from(to_bf16(x).to_bits());
        arrange::<R>(task, Self::words, |x, words| {
            let (pairs, odd) = x.as_chunks::<2>();
            words.iter_mut().zip(pairs).for_each(|(word, &[a, b])| *word = round(a) | round(b) << 16);
            if let Some(&last) = odd.first() {
                words[pairs.len()] = round(last);
            }
        });
    }
}

/// Writes the words of R rows over one K block; `convert` makes those of a row, which start out as 0. K blocks but the
/// last are of even length.
#[inline(always)]
fn arrange<const R: usize>(
    task: &PrepareTask<'_>,
    words: impl Fn(usize) -> usize,
    convert: impl Fn(&[f32], &mut [u32]),
) {
    let k = task.w.k();
    let first = task.rows.start(task.block) * words(k) + words(task.k.start) * R;
    let count = words(task.k.len());
    // SAFETY: the words of this block and K block are this task's alone.
    let out = unsafe { task.out.slice(first..first + count * R) };
    let out = out.as_chunks_mut::<R>().0;
    let present = task.rows.rows(task.block..task.block + 1);
    for r in 0..R {
        let mut row = [0; K_BLOCK];
        let row = &mut row[..count];
        if r < present.len() {
            let start = (present.start + r) * k;
            convert(&task.x[start + task.k.start..start + task.k.end], row);
        }
        out.iter_mut().zip(&*row).for_each(|(out, &word)| out[r] = word);
    }
}
