//! Attention over vector registers, span by span.
//!
//! For each span the [scores](mod@scores) of all query rows of a tile are computed, [turned into weights](soften), and
//! the weighted [values] are summed; the sums of the spans are [merged](merge) in order. What happens to a row depends on
//! its own position only, whatever the tile, and memory that it may not see has no effect, whatever it holds: a product
//! takes the positions outside a row's view as exact zeros on both sides.

pub(crate) mod codes;
mod merge;
pub(crate) mod product;
mod scores;
mod soften;
mod tile;
mod values;

use crate::attention::{Area, AttentionTask, GROUP, QUERY_ROWS, SPAN, Tile, Unit};
use crate::kv::{KvElement, KvRef};
use crate::vector::int_dot::{PairUnit, TwoSteps};
use codes::Codes;
use half::bf16;
use product::{Float, KvSimd, Product, Widened};
use std::ops::Range;

/// Keys and values of one layer.
#[derive(Clone, Copy)]
struct View<'a, T> {
    keys: &'a [T],
    values: &'a [T],
    /// Empty where there are none.
    key_scales: &'a [f32],
    value_scales: &'a [f32],
}

impl<'a, T> View<'a, T> {
    fn plain(keys: &'a [T], values: &'a [T]) -> Self {
        View { keys, values, key_scales: &[], value_scales: &[] }
    }
}

/// One unit at work.
struct Work<'a, T> {
    task: &'a AttentionTask<'a>,
    view: View<'a, T>,
    tile: &'a Tile,
}

/// The part of a span that the tokens of a tile see.
struct Seen {
    /// First position of the span.
    start: usize,
    /// Places in the span.
    places: Range<usize>,
    /// Where the keys and values of each group of places start, for the head of the tile.
    keys: [usize; SPAN / GROUP],
    values: [usize; SPAN / GROUP],
    /// Where their scales start.
    scales: [usize; SPAN / GROUP],
}

/// What is known of each query row.
struct Rows {
    /// Factor of its products.
    factor: [f32; QUERY_ROWS],
    /// What its integer weights in the span stand for.
    weight: [f32; QUERY_ROWS],
    /// Largest score and sum of the weights in the span.
    span: [Weighed; QUERY_ROWS],
    /// The same over all spans so far.
    total: [Weighed; QUERY_ROWS],
}

/// Largest score, as a power of 2, and the sum of the weights relative to it.
#[derive(Clone, Copy)]
struct Weighed {
    max: f32,
    sum: f32,
}

impl Weighed {
    const NOTHING: Self = Weighed { max: f32::NEG_INFINITY, sum: 0.0 };
}

#[inline(always)]
pub(crate) fn attention<S: KvSimd>(s: S, task: &AttentionTask<'_>, area: &mut Area<'_>) {
    attention_of::<S, Widened, TwoSteps>(s, task, area);
}

/// Attention where bf16 is multiplied by `B` and int8 by `U`.
#[inline(always)]
pub(crate) fn attention_of<S: KvSimd, B: Product<S, Stored = bf16>, U: PairUnit<S>>(
    s: S,
    task: &AttentionTask<'_>,
    area: &mut Area<'_>,
) {
    match task.kv {
        KvRef::F32 { keys, values } => units::<S, Float>(s, task, View::plain(keys, values), area),
        KvRef::Bf16 { keys, values } => units::<S, B>(s, task, View::plain(keys, values), area),
        KvRef::Int8 { keys, values, key_scales, value_scales } => {
            let view = View { keys, values, key_scales, value_scales };
            units::<S, Codes<U>>(s, task, view, area);
        }
    }
}

#[inline(always)]
fn units<S: KvSimd, P: Product<S>>(
    s: S,
    task: &AttentionTask<'_>,
    view: View<'_, P::Stored>,
    area: &mut Area<'_>,
) {
    let mut rows = Rows {
        factor: [1.0; QUERY_ROWS],
        weight: [1.0; QUERY_ROWS],
        span: [Weighed::NOTHING; QUERY_ROWS],
        total: [Weighed::NOTHING; QUERY_ROWS],
    };
    for unit in task.units {
        Work { task, view, tile: &unit.tile }.run::<S, P>(s, unit, &mut rows, area);
    }
}

impl<T: KvElement> Work<'_, T> {
    #[inline(always)]
    fn run<S: KvSimd, P: Product<S, Stored = T>>(
        &self,
        s: S,
        unit: &Unit,
        rows: &mut Rows,
        area: &mut Area<'_>,
    ) {
        let width = area.sums.len() / QUERY_ROWS;
        for row in 0..self.tile.rows() {
            rows.factor[row] =
                P::query(s, self.query(row), &mut area.queries[row * width..(row + 1) * width]);
            rows.total[row] = Weighed::NOTHING;
        }
        for span in unit.spans.clone() {
            let seen = self.seen(span);
            self.score::<S, P>(s, &seen, area);
            self.soften::<S, P>(s, &seen, rows, area);
            self.add_values::<S, P>(s, &seen, area);
            if P::SCALED {
                self.float_sums::<S, P>(s, rows, area);
            }
            self.finish_span(s, unit, &seen, rows, area);
        }
        self.finish_unit(s, unit, rows, area);
    }

    /// The query of row `row`.
    fn query(&self, row: usize) -> &[f32] {
        let (token, head) = self.token_and_head(row);
        let dim = self.task.input.shape.head_dim;
        let start = token * self.task.input.q_stride + head * dim;
        &self.task.input.q[start..start + dim]
    }

    /// Row of `q` and head of the tile's row `row`.
    fn token_and_head(&self, row: usize) -> (usize, usize) {
        let heads = self.tile.heads.len();
        (self.tile.token + row / heads, self.tile.heads.start + row % heads)
    }

    /// Rows of token `token` of the tile.
    fn rows_of(&self, token: usize) -> Range<usize> {
        token * self.tile.heads.len()..(token + 1) * self.tile.heads.len()
    }

    /// Places of the span at `start` that token `token` of the tile sees; empty when it sees none.
    fn visible(&self, token: usize, start: usize) -> Range<usize> {
        let position = self.tile.position + token;
        let first = self.task.input.first_visible(position).clamp(start, start + SPAN);
        let end = (position + 1).min(start + SPAN).max(first);
        first - start..end - start
    }

    fn seen(&self, span: usize) -> Seen {
        let (start, shape) = (span * SPAN, &self.task.input.shape);
        let places = self.visible(0, start).start..self.visible(self.tile.tokens - 1, start).end;
        let [mut keys, mut values, mut scales] = [[0; SPAN / GROUP]; 3];
        let table = &self.task.input.tables[self.tile.table.clone()];
        for group in places.start / GROUP..places.end.div_ceil(GROUP) {
            let position = start + group * GROUP;
            let (block, place) = (table[position / shape.block_size] as usize, position % shape.block_size);
            let head = block * shape.block_elements() + self.tile.kv_head * shape.head_elements();
            keys[group] = head + T::key_index(shape, place, 0);
            values[group] = head + T::value_index(shape, place, 0);
            scales[group] = (block * shape.kv_heads + self.tile.kv_head) * shape.block_size + place;
        }
        Seen { start, places, keys, values, scales }
    }
}

impl Seen {
    /// Groups that hold places.
    fn groups(&self) -> Range<usize> {
        self.places.start / GROUP..self.places.end.div_ceil(GROUP)
    }
}

/// Some rows, up to four at a time.
macro_rules! by_rows {
    ($rows:expr, $row:ident, $r:ident => $body:expr) => {
        let rows = $rows;
        let mut $row = rows.start;
        while $row < rows.end {
            match rows.end - $row {
                1 => {
                    const $r: usize = 1;
                    $body;
                    $row += $r;
                }
                2 => {
                    const $r: usize = 2;
                    $body;
                    $row += $r;
                }
                3 => {
                    const $r: usize = 3;
                    $body;
                    $row += $r;
                }
                _ => {
                    const $r: usize = 4;
                    $body;
                    $row += $r;
                }
            }
        }
    };
}
use by_rows;
