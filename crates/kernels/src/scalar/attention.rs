//! Attention in three plain passes per query: the largest score, the weights, the weighted sum.

use crate::attention::{Area, AttentionInput, AttentionTask, Tile};
use crate::kv::{KvElement, KvRef, KvShape};

pub(super) fn attention(task: &AttentionTask<'_>, _: &mut Area<'_>) {
    let (dim, width) = (task.input.shape.head_dim, task.input.heads * task.input.shape.head_dim);
    for tile in task.units.iter().map(|unit| &unit.tile) {
        for token in 0..tile.tokens {
            for head in tile.heads.clone() {
                let start = (tile.token + token) * width + head * dim;
                // SAFETY: each head of each token belongs to one tile, and each tile to one unit.
                let out = unsafe { task.out.slice(start..start + dim) };
                let query = Query::new(task.input, tile, token, head);
                match task.kv {
                    KvRef::F32 { keys, values } => query.attend((keys, None), (values, None), out),
                    KvRef::Bf16 { keys, values } => query.attend((keys, None), (values, None), out),
                    KvRef::Int8 { keys, values, key_scales, value_scales } => {
                        query.attend((keys, Some(key_scales)), (values, Some(value_scales)), out);
                    }
                }
            }
        }
    }
}

/// Elements of all blocks, and their scales if they have any.
type Scaled<'a, T> = (&'a [T], Option<&'a [f32]>);

/// One head of one token.
struct Query<'a> {
    input: &'a AttentionInput<'a>,
    q: &'a [f32],
    table: &'a [u32],
    kv_head: usize,
    sink: Option<f32>,
    /// Positions that it sees.
    first: usize,
    end: usize,
}

impl<'a> Query<'a> {
    fn new(input: &'a AttentionInput<'a>, tile: &Tile, token: usize, head: usize) -> Self {
        let (dim, position) = (input.shape.head_dim, tile.position + token);
        let start = (tile.token + token) * input.q_stride + head * dim;
        Query {
            input,
            q: &input.q[start..start + dim],
            table: &input.tables[tile.table.clone()],
            kv_head: tile.kv_head,
            sink: input.sinks.map(|sinks| sinks[head]),
            first: input.first_visible(position),
            end: position + 1,
        }
    }

    /// The head of the block that holds `position`, and the token's place in it.
    fn locate<'b, T>(&self, elements: &'b [T], position: usize) -> (&'b [T], usize) {
        let shape = &self.input.shape;
        let block = self.table[position / shape.block_size] as usize;
        let start = block * shape.block_elements() + self.kv_head * shape.head_elements();
        (&elements[start..start + shape.head_elements()], position % shape.block_size)
    }

    /// The scale of the head's elements at `position`.
    fn scale(&self, scales: Option<&[f32]>, position: usize) -> f64 {
        let shape = &self.input.shape;
        let block = self.table[position / shape.block_size] as usize;
        let at = (block * shape.kv_heads + self.kv_head) * shape.block_size + position % shape.block_size;
        scales.map_or(1.0, |scales| f64::from(scales[at]))
    }

    fn score<T: KvElement>(&self, (keys, scales): Scaled<'_, T>, position: usize) -> f64 {
        let shape = &self.input.shape;
        let (head, token) = self.locate(keys, position);
        let key = |dim| f64::from(head[T::key_index(shape, token, dim)].widen());
        let dot: f64 = self.q.iter().enumerate().map(|(dim, &q)| f64::from(q) * key(dim)).sum();
        let score = dot * self.scale(scales, position) * f64::from(self.input.scale);
        match self.input.softcap.map(f64::from) {
            Some(cap) => cap * (score / cap).tanh(),
            None => score,
        }
    }

    fn attend<T: KvElement>(&self, keys: Scaled<'_, T>, values: Scaled<'_, T>, out: &mut [f32]) {
        let shape = &self.input.shape;
        let sink = self.sink.map_or(f64::NEG_INFINITY, f64::from);
        let mut max = sink;
        for position in self.first..self.end {
            let score = self.score(keys, position);
            max = if score > max || score.is_nan() { score } else { max };
        }
        let mut sums = [0f64; KvShape::MAX_HEAD_DIM];
        // Without a sink its weight is that of the score that is infinitely low.
        let mut total = if self.sink.is_some() { (sink - max).exp() } else { 0.0 };
        for position in self.first..self.end {
            let weight = (self.score(keys, position) - max).exp();
            total += weight;
            let (head, token) = self.locate(values.0, position);
            let weight = weight * self.scale(values.1, position);
            for (dim, sum) in sums[..out.len()].iter_mut().enumerate() {
                *sum += weight * f64::from(head[T::value_index(shape, token, dim)].widen());
            }
        }
        out.iter_mut().zip(&sums).for_each(|(out, &sum)| *out = (sum / total) as f32);
    }
}
