//! How the attention of a step is cut into units of work.

use super::{AttentionInput, AttentionRow, QUERY_ROWS, SPAN};
use std::ops::Range;

/// Some consecutive tokens of one row with heads of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    /// First token, as row of `q`.
    pub(crate) token: usize,
    pub(crate) tokens: usize,
    /// Position of the first token.
    pub(crate) position: usize,
    pub(crate) kv_head: usize,
    /// Query heads.
    pub(crate) heads: Range<usize>,
    /// Blocks of the sequence, in [`AttentionInput::tables`].
    pub(crate) table: Range<usize>,
}

/// Spans of a tile that are computed in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) tile: Tile,
    pub(crate) spans: Range<usize>,
    /// Where its partial results go when the tile is split into several units.
    pub(crate) split: Option<Split>,
}

/// The place of a split tile among the partial results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// Its counter of units.
    pub(crate) index: usize,
    /// Partial result of its first row in its first span; spans follow each other, row by row.
    pub(crate) first: usize,
}

/// The units of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) units: &'a [Unit],
    /// Units that a worker takes at a time.
    pub(crate) grain: usize,
}

/// Parts of the work of one worker that no unit should exceed, so that the workers end at about the same time.
const PARTS: u64 = 8;

/// Units that a worker takes at a time, as a part of its share.
const TAKES: usize = 16;

/// Cost below which waking another worker costs more than it brings.
const GRAIN: u64 = 4096;

impl Tile {
    /// Query rows.
    pub(crate) fn rows(&self) -> usize {
        self.tokens * self.heads.len()
    }

    /// The spans that its tokens see.
    pub(crate) fn spans(&self, input: &AttentionInput<'_>) -> Range<usize> {
        input.first_visible(self.position) / SPAN..(self.position + self.tokens).div_ceil(SPAN)
    }

    /// What `spans` cost: the keys and values read count as three query rows.
    fn cost(&self, input: &AttentionInput<'_>, spans: &Range<usize>) -> u64 {
        let first = input.first_visible(self.position).max(spans.start * SPAN);
        let end = (self.position + self.tokens).min(spans.end * SPAN);
        ((self.rows() + 3) * (end - first + 16)) as u64
    }
}

impl Unit {
    fn cost(&self, input: &AttentionInput<'_>) -> u64 {
        self.tile.cost(input, &self.spans)
    }
}

impl AttentionInput<'_> {
    /// Tokens of a tile.
    fn tile_tokens(&self) -> usize {
        (QUERY_ROWS / self.group()).max(1)
    }

    /// The tiles of a row, those of one key/value head together.
    fn tiles<'a>(&'a self, row: &'a AttentionRow) -> impl Iterator<Item = Tile> + 'a {
        let (group, step) = (self.group(), self.tile_tokens());
        let (first, end) = (row.tokens.start as usize, row.tokens.end as usize);
        let before = row.context as usize - (end - first);
        let table = row.table.start as usize..row.table.end as usize;
        (0..self.heads).step_by(group).flat_map(move |heads| {
            let table = table.clone();
            (first..end).step_by(step).flat_map(move |token| {
                let table = table.clone();
                (heads..heads + group).step_by(QUERY_ROWS).map(move |head| Tile {
                    token,
                    tokens: step.min(end - token),
                    position: before + token - first,
                    kv_head: heads / group,
                    heads: head..(head + QUERY_ROWS).min(heads + group),
                    table: table.clone(),
                })
            })
        })
    }
}

/// Most tiles of a step.
pub(crate) fn most_tiles(heads: usize, kv_heads: usize, tokens: usize, rows: usize) -> usize {
    let group = heads / kv_heads;
    let step = (QUERY_ROWS / group).max(1);
    kv_heads * group.div_ceil(QUERY_ROWS) * (rows.min(tokens) + tokens / step)
}

/// Fills `units` with the work of a step for `workers`, and `counters` with the number of units of each split tile;
/// `partials` is the number of partial results that there is room for. Answers how many units to take at a time.
pub(crate) fn plan(
    input: &AttentionInput<'_>,
    workers: usize,
    partials: usize,
    units: &mut Vec<Unit>,
    counters: &mut Vec<u32>,
) -> usize {
    units.clear();
    counters.clear();
    for tile in input.rows.iter().flat_map(|row| input.tiles(row)) {
        let spans = tile.spans(input);
        units.push(Unit { tile, spans, split: None });
    }
    let total: u64 = units.iter().map(|unit| unit.cost(input)).sum();
    if workers == 1 || total < 2 * GRAIN {
        return units.len();
    }
    let most = (total / (workers as u64 * PARTS)).max(GRAIN);
    split(input, most, partials, units, counters);
    // The costly ones first, about: within a factor of two, neighbours stay together.
    units.sort_unstable_by_key(|unit| {
        (unit.cost(input).leading_zeros(), unit.tile.heads.start, unit.tile.token)
    });
    (units.len() / (workers * TAKES)).max(1)
}

/// Splits the tiles that cost more than `most`, as long as there is room for their partial results.
fn split(
    input: &AttentionInput<'_>,
    most: u64,
    partials: usize,
    units: &mut Vec<Unit>,
    counters: &mut Vec<u32>,
) {
    let mut used = 0;
    for index in 0..units.len() {
        let Unit { tile, spans, .. } = &units[index];
        let (parts, needed) = (units[index].cost(input).div_ceil(most), spans.len() * tile.rows());
        if parts == 1 || spans.len() == 1 || used + needed > partials {
            continue;
        }
        let (tile, spans) = (tile.clone(), spans.clone());
        let step = spans.len().div_ceil(parts as usize);
        let split = Some(Split { index: counters.len(), first: used });
        used += needed;
        counters.push(spans.len().div_ceil(step) as u32);
        for start in spans.clone().step_by(step) {
            let unit = Unit { tile: tile.clone(), spans: start..(start + step).min(spans.end), split };
            if start == spans.start {
                units[index] = unit;
            } else {
                units.push(unit);
            }
        }
    }
}
