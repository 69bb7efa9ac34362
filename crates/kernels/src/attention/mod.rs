//! Paged causal attention: shapes, and how the work is shared out.
//!
//! The context of a token is cut at multiples of [`SPAN`] positions. Each span gives a partial result (largest score, sum
//! of the weights, weighted values), and the partial results are merged in the order of their positions, always, so that
//! the answer does not depend on which worker computes which span.

mod scratch;
mod units;

pub(crate) use scratch::{Area, PARTIAL_HEAD, Partials, SCORE_STRIDE};
pub use scratch::{AttentionLimits, AttentionScratch};
pub(crate) use units::{Tile, Unit};

use crate::Isa;
use crate::kv::{KvRef, KvShape};
use crate::pool::WorkerPool;
use crate::shared::SharedOut;
use crate::table::Kernels;
use std::ops::Range;

/// Consecutive tokens of one sequence: a decode token or a prefill chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttentionRow {
    /// Its tokens, as rows of `q` and of the output.
    pub tokens: Range<u32>,
    /// Position of the last of them + 1.
    pub context: u32,
    /// Its blocks in [`AttentionInput::tables`], from the first of the sequence on; at least
    /// `ceil(context / block_size)`. Blocks wholly before the window of the first token are not read.
    pub table: Range<u32>,
}

/// What is asked of attention in one layer.
#[derive(Clone, Copy, Debug)]
pub struct AttentionInput<'a> {
    /// Queries: token `t`, head `h` starts at `t * q_stride + h * head_dim`.
    pub q: &'a [f32],
    /// Elements of `q` from one token to the next.
    pub q_stride: usize,
    /// Query heads; a multiple of the key/value heads. Heads `g * i .. g * (i + 1)` share key/value head `i`.
    pub heads: usize,
    /// Geometry of the KV storage.
    pub shape: KvShape,
    /// Rows; no token belongs to two of them.
    pub rows: &'a [AttentionRow],
    /// Block numbers, row after row.
    pub tables: &'a [u32],
    /// Factor of the scores, usually `1 / sqrt(head_dim)`; positive.
    pub scale: f32,
    /// Tokens that a token sees, itself included; `None`: all up to itself. At least 1.
    pub window: Option<u32>,
    /// Scores `s` become `softcap * tanh(s / softcap)`.
    pub softcap: Option<f32>,
    /// `[heads]`: a score of each head that takes part in the softmax, after softcap, and has no value.
    pub sinks: Option<&'a [f32]>,
}

/// Positions of a span.
pub(crate) const SPAN: usize = 512;

/// Positions that surely lie in one block: the divisor of every block size.
pub(crate) const GROUP: usize = 16;

/// Most query rows, tokens times heads of one group, that are worked on together: they share each read of the blocks.
pub(crate) const QUERY_ROWS: usize = 32;

/// Some units for one worker.
pub(crate) struct AttentionTask<'a> {
    pub(crate) input: &'a AttentionInput<'a>,
    pub(crate) kv: KvRef<'a>,
    /// `[tokens, heads * head_dim]`; each head of each token belongs to one tile, whose last unit writes it.
    pub(crate) out: &'a SharedOut<'a, f32>,
    pub(crate) units: &'a [Unit],
    /// Where the parts of split tiles meet.
    pub(crate) partials: &'a Partials<'a>,
}

impl AttentionInput<'_> {
    /// Query heads per key/value head.
    pub(crate) fn group(&self) -> usize {
        self.heads / self.shape.kv_heads
    }

    /// First position that the token at `position` sees.
    pub(crate) fn first_visible(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window as usize))
    }
}

pub(crate) fn run(
    kernels: &Kernels,
    pool: &WorkerPool,
    input: &AttentionInput<'_>,
    kv: KvRef<'_>,
    scratch: &mut AttentionScratch,
    out: &mut [f32],
) {
    check(input, kv, out.len());
    // The scalar version takes a tile as a whole.
    let splits = pool.threads() > 1 && kernels.isa > Isa::Scalar;
    let (plan, areas, partials) = scratch.plan(input, if splits { pool.threads() } else { 1 });
    let out = SharedOut::new(out);
    pool.share(plan.units.len(), plan.grain, &|range| {
        let task = AttentionTask { input, kv, out: &out, units: &plan.units[range], partials: &partials };
        (kernels.attention)(&task, &mut areas.claim());
    });
}

/// Checks everything that the kernels rely on.
fn check(input: &AttentionInput<'_>, kv: KvRef<'_>, out: usize) {
    let shape = &input.shape;
    shape.check();
    assert!(
        input.heads > 0 && input.heads.is_multiple_of(shape.kv_heads),
        "{} query heads over {} key/value heads",
        input.heads,
        shape.kv_heads
    );
    assert!(input.window != Some(0), "a token sees at least itself");
    let sinks = input.sinks.map_or(input.heads, <[f32]>::len);
    assert!(sinks == input.heads, "{sinks} sinks of {} query heads", input.heads);
    assert!(input.scale > 0.0, "the scores' factor {} is not positive", input.scale);
    let width = input.heads * shape.head_dim;
    assert!(out.is_multiple_of(width), "the output is [tokens, {width}]");
    let blocks = kv.blocks(shape);
    let tokens = out / width;
    let mut last = 0;
    for row in input.rows {
        let (start, end) = (row.tokens.start as usize, row.tokens.end as usize);
        assert!(last <= start && start < end && end <= tokens, "{row:?} among {tokens} tokens after {last}");
        assert!(end - start <= row.context as usize, "{row:?} has more tokens than context");
        assert!((end - 1) * input.q_stride + width <= input.q.len(), "{row:?} has no query");
        let needed = (row.context as usize).div_ceil(shape.block_size);
        let table = input.tables.get(row.table.start as usize..row.table.end as usize);
        let table = table.unwrap_or_else(|| panic!("{row:?}: {} block numbers in all", input.tables.len()));
        assert!(table.len() >= needed, "{row:?} needs {needed} blocks");
        // A maximum, which runs through the table many entries at a time.
        let largest = table.iter().copied().max().unwrap_or(0);
        assert!((largest as usize) < blocks, "{row:?}: block {largest} of {blocks}");
        last = end;
    }
}
