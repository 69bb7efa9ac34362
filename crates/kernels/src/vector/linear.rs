//! Linear operation: cache blocks around the register blocks.
//!
//! K is cut at multiples of [`K_BLOCK`]. The sum of a block starts at 0 and is added to the output, which starts at the
//! bias, so an output is `((bias + s0) + s1) + …` for every number of rows. The weights are read once, in the order of
//! memory, which the processor sees and reads ahead of; those of a K block stay in cache while the blocks of rows pass.

use super::blocks::Opened;
use super::dot::{Ahead, Dot, accumulate};
use super::level::{Level, Multiply};
use super::simd::Simd;
use crate::PackedLinear;
use crate::linear::{K_BLOCK, LinearTask, pieces};
use crate::packed::{PANEL, Panels, UNIT};
use crate::scratch::filled;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Register blocks of rows taken through the weights together: their words stay in the second-level cache, or nearly.
const BLOCKS: usize = 16;

/// Most rows of a register block.
const MAX_ROWS: usize = 12;

/// A register block: some rows times one unit over one K block.
pub(crate) struct Block<'a> {
    pub(crate) w: &'a PackedLinear,
    /// Words of the rows, from the first of this K block: `[words][R]`.
    pub(crate) words: *const u32,
    pub(crate) unit: usize,
    pub(crate) k: Range<usize>,
    /// Weights in blocks, opened.
    pub(crate) opened: Option<&'a Opened>,
    /// What the sums are added to: `[R][UNIT]`, rows `before_stride` elements apart.
    pub(crate) before: *const f32,
    pub(crate) before_stride: usize,
    /// Where the sums go: `[R][UNIT]`, rows `out_stride` elements apart.
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
    /// Place of this block among those that take the same weights one after the other, and how many they are. Each asks for
    /// its part of the weights that come next, so that memory and arithmetic are busy at the same time.
    pub(crate) turn: usize,
    pub(crate) turns: usize,
}

/// Runs `K` over the whole task; a row has `words(k)` words for its first k inputs.
pub(crate) fn drive<L: Level, K: Multiply<L::Simd>>(task: &LinearTask<'_>, words: impl Fn(usize) -> usize) {
    let k = task.w.k();
    let k_block = K::k_block(task.w);
    let panels = match task.w.panels() {
        Panels::Blocks(panels) if K::opens(task.w) => Some(panels),
        _ => None,
    };
    let mut opened = panels.map(|_| Opened::ZERO);
    for blocks in pieces(task.blocks.clone(), BLOCKS) {
        for unit in task.units.clone() {
            for k_start in (0..k).step_by(k_block) {
                let ks = k_start..(k_start + k_block).min(k);
                if let (Some(panels), Some(opened)) = (&panels, &mut opened) {
                    // SAFETY: a level is named only in the table that was handed out after its features were detected.
                    unsafe { L::open(panels, unit, ks.clone(), opened) };
                }
                for block in blocks.clone() {
                    let padded = task.rows.padded(block);
                    let start = task.rows.start(block) * words(k) + words(k_start) * padded;
                    let words = &task.prepared[start..start + words(ks.len()) * padded];
                    let part = Part { block, unit, k: ks.clone(), opened: opened.as_ref() };
                    multiply::<L, K>(task, part, &blocks, words);
                }
            }
        }
    }
}

/// One block of rows, a unit and a K block.
struct Part<'a> {
    block: usize,
    unit: usize,
    k: Range<usize>,
    opened: Option<&'a Opened>,
}

/// Runs `K` on one block of `blocks`, which take the same weights in turn: in the output if the block is whole, else in memory
/// of its own.
fn multiply<L: Level, K: Multiply<L::Simd>>(
    task: &LinearTask<'_>,
    Part { block, unit, k, opened }: Part<'_>,
    blocks: &Range<usize>,
    words: &[u32],
) {
    const NOTHING: [f32; UNIT] = [0.0; UNIT];
    let (rows, padded) = (task.rows.rows(block..block + 1), task.rows.padded(block));
    let (turn, turns) = (block - blocks.start, blocks.len());
    let n = task.w.n();
    let columns = unit * UNIT..((unit + 1) * UNIT).min(n);
    let mut memory = [const { MaybeUninit::uninit() }; MAX_ROWS * UNIT];
    let whole = rows.len() == padded && columns.len() == UNIT;
    let edge: &mut [f32] = if whole { &mut [] } else { filled(&mut memory, padded * UNIT, 0.0) };
    let (out, out_stride) = if whole {
        let start = task.out.range(rows.start, &columns).start;
        let end = task.out.range(rows.end - 1, &columns).end;
        (task.out.elements.pointer(start..end), task.out.stride)
    } else {
        (edge.as_mut_ptr(), UNIT)
    };
    let (before, before_stride) = match task.bias {
        _ if k.start > 0 || !whole => (out.cast_const(), out_stride),
        Some(bias) => (bias[columns.clone()].as_ptr(), 0),
        None => (NOTHING.as_ptr(), 0),
    };
    if !whole {
        for (edge, row) in edge.chunks_exact_mut(UNIT).zip(rows.clone()) {
            if k.start > 0 {
                // SAFETY: the rows and outputs of a task are written by it alone.
                let out = unsafe { task.out.row(row, &columns) };
                edge[..columns.len()].copy_from_slice(out);
            } else if let Some(bias) = task.bias {
                edge[..columns.len()].copy_from_slice(&bias[columns.clone()]);
            }
        }
    }
    let words = words.as_ptr();
    let w = task.w;
    let block = Block { w, words, unit, k, opened, before, before_stride, out, out_stride, turn, turns };
    // SAFETY: a level is named only in the table that was handed out after its features were detected; `words` are those
    // of the rows and the K block, the unit is one of the task's, and both tiles hold `[padded][UNIT]` that no other
    // task touches.
    unsafe { L::multiply::<K>(padded, &block) };
    if !whole {
        for (edge, row) in edge.chunks_exact(UNIT).zip(rows) {
            // SAFETY: the rows and outputs of a task are written by it alone.
            let out = unsafe { task.out.row(row, &columns) };
            out.copy_from_slice(&edge[..columns.len()]);
        }
    }
}

/// Weights in floats: K blocks are summed by `D` and added to the output.
pub(crate) struct FloatSums<D>(PhantomData<D>);

impl<S: Simd, D: Dot<Sum = S::F> + From<S>> Multiply<S> for FloatSums<D> {
    fn k_block(_: &PackedLinear) -> usize {
        K_BLOCK
    }

    #[inline(always)]
    unsafe fn run<const R: usize>(s: S, block: &Block<'_>) {
        // Few rows take more registers of outputs, so that the latency of the multiply-adds is hidden.
        let registers = UNIT / S::LANES;
        let together = if R <= 2 { registers } else { 2 };
        let mut v = 0;
        while v < registers {
            // SAFETY: as the caller promises.
            unsafe {
                if together == 4 {
                    block.sum_floats::<S, D, R, 4>(s, v * S::LANES);
                } else {
                    block.sum_floats::<S, D, R, 2>(s, v * S::LANES);
                }
            }
            v += together;
        }
    }
}

impl Block<'_> {
    /// Adds the products of R rows with V registers of outputs, from output `first` of the unit on.
    ///
    /// # Safety
    ///
    /// As [`Multiply::run`]; the outputs are within the unit.
    #[inline(always)]
    unsafe fn sum_floats<S, D, const R: usize, const V: usize>(&self, s: S, first: usize)
    where
        S: Simd,
        D: Dot<Sum = S::F> + From<S>,
    {
        let d = D::from(s);
        let (start, panel_bytes) = floats(self.w);
        // K_BLOCK is even, so a K block starts with a whole load. What follows the last unit is nowhere, and may be asked for.
        let offset = |column: usize, k: usize| {
            column / PANEL * panel_bytes + k / D::STEPS * PANEL * D::CELL + column % PANEL * D::CELL
        };
        let (next_unit, next_k) = match self.k.end {
            end if end == self.w.k() => (self.unit + 1, 0..end.min(K_BLOCK)),
            end => (self.unit, end..(end + K_BLOCK).min(self.w.k())),
        };
        let loads = self.k.len().div_ceil(D::STEPS);
        let share = next_k.len().div_ceil(D::STEPS) * PANEL * D::CELL / self.turns;
        let mut weights = [start; V];
        let mut ahead = Ahead { from: weights, stride: share.div_ceil(loads) };
        for (v, weights) in weights.iter_mut().enumerate() {
            let column = first + v * S::LANES;
            // SAFETY: the first load of the K block of a column in the panels.
            *weights = unsafe { start.add(offset(self.unit * UNIT + column, self.k.start)) };
            let next = offset(next_unit * UNIT + column, next_k.start);
            ahead.from[v] = start.wrapping_add(next + self.turn * share);
        }
        // SAFETY: a panel holds all loads of its columns; the words are as the caller promises.
        let sums = unsafe {
            let zeros = [[d.zero(); V]; R];
            accumulate::<S, D, R, V>(s, self.words, weights, loads, ahead, zeros)
        };
        let mut r = 0;
        while r < R {
            let mut v = 0;
            while v < V {
                // SAFETY: both tiles hold R rows of the unit.
                unsafe {
                    self.store(
                        s,
                        r,
                        first + v * S::LANES,
                        s.add(self.load(s, r, first + v * S::LANES), sums[r][v]),
                    )
                };
                v += 1;
            }
            r += 1;
        }
    }

    /// What row `r` is added to, from output `first` of the unit on.
    ///
    /// # Safety
    ///
    /// Row and outputs are in the block.
    #[inline(always)]
    pub(super) unsafe fn load<S: Simd>(&self, s: S, r: usize, first: usize) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { s.load(self.before.add(r * self.before_stride + first)) }
    }

    /// Writes row `r`, from output `first` of the unit on.
    ///
    /// # Safety
    ///
    /// Row and outputs are in the block.
    #[inline(always)]
    pub(super) unsafe fn store<S: Simd>(&self, s: S, r: usize, first: usize, sums: S::F) {
        // SAFETY: as the caller promises.
        unsafe { s.store(self.out.add(r * self.out_stride + first), sums) };
    }
}

/// Start of the panels of a float format and the bytes of one.
#[inline(always)]
fn floats(w: &PackedLinear) -> (*const u8, usize) {
    let (start, bytes) = match w.panels() {
        Panels::F32(w) => (w.as_ptr().cast(), size_of_val(w)),
        Panels::Bf16(w) => (w.as_ptr().cast(), size_of_val(w)),
        Panels::F16(w) => (w.as_ptr().cast(), size_of_val(w)),
        Panels::Fp8(_) | Panels::Quantized(_) | Panels::Blocks(_) => {
            unreachable!("codes have other kernels")
        }
    };
    (start, bytes / (w.units() * (UNIT / PANEL)))
}
