//! Paged causal attention: shapes and partition.

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
    /// Factor of the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Tokens that a token sees, itself included; `None`: all up to itself. At least 1.
    pub window: Option<u32>,
    /// Scores `s` become `softcap * tanh(s / softcap)`.
    pub softcap: Option<f32>,
}

/// Most query rows, tokens times heads of one group, that are worked on together: they share each read of the blocks.
pub(crate) const QUERY_ROWS: usize = 32;

/// The share of one worker.
pub(crate) struct AttentionTask<'a> {
    pub(crate) input: &'a AttentionInput<'a>,
    pub(crate) kv: KvRef<'a>,
    /// `[tokens, heads * head_dim]`; this worker alone writes the heads of its items.
    pub(crate) out: &'a SharedOut<'a, f32>,
    pub(crate) share: Share,
}

/// Part `index` of `parts` of the work, by cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) parts: usize,
    pub(crate) index: usize,
    /// Cost of everything.
    pub(crate) total: u64,
}

/// Some consecutive tokens of one row with the heads of one group: what is computed in one go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    /// First token, as row of `q`.
    pub(crate) token: usize,
    pub(crate) tokens: usize,
    /// Position of the first token.
    pub(crate) position: usize,
    pub(crate) kv_head: usize,
    /// Blocks of the sequence.
    pub(crate) table: &'a [u32],
}

impl<'a> AttentionInput<'a> {
    /// Query heads per key/value head.
    pub(crate) fn group(&self) -> usize {
        self.heads / self.shape.kv_heads
    }

    /// Tokens of an item.
    fn item_tokens(&self) -> usize {
        (QUERY_ROWS / self.group()).max(1)
    }

    /// First position that the token at `position` sees.
    pub(crate) fn first_visible(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window as usize))
    }

    /// All items in a fixed order.
    fn items(&self) -> impl Iterator<Item = Item<'a>> {
        let (step, kv_heads, rows, tables) =
            (self.item_tokens(), self.shape.kv_heads, self.rows, self.tables);
        rows.iter().flat_map(move |row| {
            let (first, end) = (row.tokens.start as usize, row.tokens.end as usize);
            let before = row.context as usize - (end - first);
            let table = &tables[row.table.start as usize..row.table.end as usize];
            (first..end).step_by(step).flat_map(move |token| {
                let (tokens, position) = (step.min(end - token), before + token - first);
                (0..kv_heads).map(move |kv_head| Item { token, tokens, position, kv_head, table })
            })
        })
    }

    /// Cost of an item in token pairs.
    fn cost(&self, item: &Item<'_>) -> u64 {
        let seen = item.position + item.tokens - self.first_visible(item.position);
        (item.tokens * (seen + 16)) as u64
    }
}

impl<'a> AttentionTask<'a> {
    /// The items of this worker: those whose cost begins inside its share of the total.
    pub(crate) fn items(&self) -> impl Iterator<Item = Item<'a>> {
        let (input, share) = (self.input, self.share);
        let bound = |index: usize| (u128::from(share.total) * index as u128 / share.parts as u128) as u64;
        let mine = bound(share.index)..bound(share.index + 1);
        let mut done = 0;
        input.items().filter(move |item| {
            let start = done;
            done += input.cost(item);
            mine.contains(&start)
        })
    }
}

/// Cost per worker below which waking it costs more than it brings.
const GRAIN: u64 = 256;

pub(crate) fn run(
    kernels: &Kernels,
    pool: &WorkerPool,
    input: &AttentionInput<'_>,
    kv: KvRef<'_>,
    out: &mut [f32],
) {
    check(input, kv, out.len());
    let total: u64 = input.items().map(|item| input.cost(&item)).sum();
    let parts = (total / GRAIN).clamp(1, pool.threads() as u64) as usize;
    let out = SharedOut::new(out);
    let part = |index| {
        (kernels.attention)(AttentionTask { input, kv, out: &out, share: Share { parts, index, total } })
    };
    if parts == 1 {
        return part(0);
    }
    pool.run(&|worker| {
        if worker < parts {
            part(worker);
        }
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
    let width = input.heads * shape.head_dim;
    assert!(out.is_multiple_of(width), "the output is [tokens, {width}]");
    let (keys, values) = kv.len();
    let blocks = (keys / shape.block_elements()).min(values / shape.block_elements());
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
