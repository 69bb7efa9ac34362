//! The forward pass, written once over the kernels: it interprets a [`DecoderSpec`].

use crate::Operation;
use crate::kv::KvStorage;
use crate::rope::RopeTable;
use crate::scratch::{Kept, Scratch};
use crate::stopwatch::Stopwatch;
use crate::weights::{LayerWeights, Linear, ModelWeights};
use pagoda_kernels::{
    AttentionInput, AttentionRow, Glu, HeadRows, Kernels, KvRows, LinearScratch, WorkerPool,
};
use pagoda_model::{Activation, AttentionSpan, DecoderSpec};
use pagoda_sched::StepInput;

/// One step: from token ids to hidden states of the tokens whose outputs are asked for, and from those to reports on prompts
/// and to the logits of the rows that sample.
///
/// Every operation treats its rows one by one, in an order of arithmetic that depends neither on the other rows
/// nor on the number of workers; keys and values are read back from storage, so that a token sees the same
/// numbers whether its context was computed in this step, in an earlier one or for another request.
pub(crate) struct Forward<'a> {
    pub(crate) kernels: &'static Kernels,
    pub(crate) pool: &'a WorkerPool,
    pub(crate) spec: &'a DecoderSpec,
    pub(crate) weights: &'a ModelWeights,
    pub(crate) kv: &'a mut KvStorage,
    pub(crate) rope: &'a mut RopeTable,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) watch: &'a mut Stopwatch,
    /// Tokens that are computed: those of the step, and in the end those whose outputs are asked for.
    pub(crate) tokens: usize,
}

impl Forward<'_> {
    /// Runs the layers; the normalised hidden states of the tokens that are kept are left in the scratch memory, in order.
    pub(crate) fn layers(&mut self, input: &StepInput) {
        if self.tokens == 0 {
            return;
        }
        self.embed(input);
        let weights = self.weights;
        let last = weights.layers.len() - 1;
        for (index, layer) in weights.layers.iter().enumerate() {
            if index == 0 {
                self.norm(&layer.attn_norm);
            }
            self.keys_and_values(index, layer);
            if index == last {
                self.narrow();
            }
            if self.tokens == 0 {
                return;
            }
            self.attention(index, layer);
            self.add_norm(&layer.mlp_norm);
            self.mlp(layer);
            let next = weights.layers.get(index + 1).map_or(&weights.final_norm, |next| &next.attn_norm);
            self.add_norm(next);
        }
    }

    fn embed(&mut self, input: &StepInput) {
        let hidden = self.spec.hidden as usize;
        let scratch = &mut *self.scratch;
        for (&token, row) in input.tokens.iter().zip(scratch.x.chunks_exact_mut(hidden)) {
            self.weights.embedding().read_row(token as usize, row);
        }
        self.watch.lap(Operation::Embed);
        let angles = self.tokens * self.rope.pairs();
        self.rope.gather(&input.positions, &mut scratch.cos[..angles], &mut scratch.sin[..angles]);
        self.watch.lap(Operation::Rope);
    }

    /// Queries, keys and values of `h`; the latter two go into their blocks.
    fn keys_and_values(&mut self, index: usize, layer: &LayerWeights) {
        let (q_width, kv_width) = (self.spec.q_width() as usize, self.spec.kv_width() as usize);
        let stride = q_width + 2 * kv_width;
        let scratch = &mut *self.scratch;
        let qkv = &mut scratch.qkv[..self.tokens * stride];
        let hidden = self.tokens * self.spec.hidden as usize;
        linear(self.kernels, self.pool, &scratch.h[..hidden], &layer.qkv, &mut scratch.linear, qkv);
        self.watch.lap(Operation::Qkv);
        self.turn(layer);
        let scratch = &mut *self.scratch;
        let (shape, qkv) = (self.kv.shape(), &scratch.qkv[..self.tokens * stride]);
        let rows = KvRows { keys: &qkv[q_width..], values: &qkv[q_width + kv_width..], stride };
        self.kernels.kv_write(self.pool, &shape, self.kv.layer_mut(index), rows, &scratch.slots);
        self.watch.lap(Operation::KvWrite);
    }

    /// Drops the tokens that nothing asks of any more once their last keys and values are stored: of a row that samples all but
    /// the last one, of one that reports those before what it reports.
    fn narrow(&mut self) {
        let hidden = self.spec.hidden as usize;
        let stride = (self.spec.q_width() + 2 * self.spec.kv_width()) as usize;
        let Scratch { x, qkv, rows, kept, .. } = &mut *self.scratch;
        let mut to = 0;
        // Rows move towards the front, in order, so none is overwritten before it has moved.
        for (slot, Kept { row, tokens }) in kept.iter().enumerate() {
            let (from, end) = (tokens.start as usize, tokens.end as usize);
            x.copy_within(from * hidden..end * hidden, to * hidden);
            qkv.copy_within(from * stride..end * stride, to * stride);
            let next = to + end - from;
            rows[slot] = AttentionRow { tokens: to as u32..next as u32, ..rows[*row as usize].clone() };
            to = next;
        }
        rows.truncate(kept.len());
        self.tokens = to;
        self.watch.lap(Operation::Other);
    }

    /// `h = O(attention(queries))`
    fn attention(&mut self, index: usize, layer: &LayerWeights) {
        let (q_width, kv_width) = (self.spec.q_width() as usize, self.spec.kv_width() as usize);
        let stride = q_width + 2 * kv_width;
        let hidden = self.tokens * self.spec.hidden as usize;
        let scratch = &mut *self.scratch;
        let shape = self.kv.shape();
        let attention = AttentionInput {
            q: &scratch.qkv[..self.tokens * stride],
            q_stride: stride,
            heads: self.spec.heads as usize,
            shape,
            rows: &scratch.rows,
            tables: &scratch.tables,
            scale: self.spec.attn_scale,
            window: match self.spec.layers[index].attention {
                AttentionSpan::Full => None,
                AttentionSpan::Window(tokens) => Some(tokens),
            },
            softcap: None,
            sinks: None,
        };
        let attended = &mut scratch.attended[..self.tokens * q_width];
        let kv = self.kv.layer(index);
        self.kernels.attention(self.pool, &attention, kv, &mut scratch.attention, attended);
        self.watch.lap(Operation::Attention);
        linear(self.kernels, self.pool, attended, &layer.o, &mut scratch.linear, &mut scratch.h[..hidden]);
        self.watch.lap(Operation::O);
    }

    /// Normalises the heads of queries and keys where the model does so, and rotates them to their positions.
    fn turn(&mut self, layer: &LayerWeights) {
        let spec = self.spec;
        let (q_width, kv_width) = (spec.q_width() as usize, spec.kv_width() as usize);
        let stride = q_width + 2 * kv_width;
        let head_dim = spec.head_dim as usize;
        let queries = HeadRows { rows: self.tokens, stride, heads: spec.heads as usize, head_dim };
        let keys = HeadRows { heads: spec.kv_heads as usize, ..queries };
        let scratch = &mut *self.scratch;
        let qkv = &mut scratch.qkv[..self.tokens * stride];
        if let Some((q_norm, k_norm)) = &layer.qk_norm {
            self.kernels.rms_norm_heads(self.pool, queries, qkv, q_norm, spec.norm_eps);
            self.kernels.rms_norm_heads(self.pool, keys, &mut qkv[q_width..], k_norm, spec.norm_eps);
            self.watch.lap(Operation::Norm);
        }
        let angles = self.tokens * self.rope.pairs();
        let (cos, sin) = (&scratch.cos[..angles], &scratch.sin[..angles]);
        // Queries and keys stand next to each other, so one call turns the heads of both.
        let heads = HeadRows { heads: queries.heads + keys.heads, ..queries };
        self.kernels.rope(self.pool, heads, qkv, cos, sin);
        self.watch.lap(Operation::Rope);
    }

    /// `h = Down(act(Gate(h)) * Up(h))`
    fn mlp(&mut self, layer: &LayerWeights) {
        let inner = self.spec.intermediate as usize;
        let hidden = self.tokens * self.spec.hidden as usize;
        let scratch = &mut *self.scratch;
        let gated = &mut scratch.gated[..self.tokens * inner];
        let kind = match self.spec.activation {
            Activation::Silu => Glu::Silu,
        };
        let Linear { weight, bias } = &layer.gate_up;
        let (h, staging) = (&scratch.h[..hidden], &mut scratch.linear);
        self.kernels.gated_linear(self.pool, h, (weight, kind), bias.as_deref(), staging, gated);
        self.watch.lap(Operation::GateUp);
        linear(self.kernels, self.pool, gated, &layer.down, &mut scratch.linear, &mut scratch.h[..hidden]);
        self.watch.lap(Operation::Down);
    }

    /// `x += h; h = norm(x)`
    fn add_norm(&mut self, weight: &[f32]) {
        let len = self.tokens * self.spec.hidden as usize;
        let scratch = &mut *self.scratch;
        let (x, h) = (&mut scratch.x[..len], &mut scratch.h[..len]);
        self.kernels.add_rms_norm(self.pool, x, weight, self.spec.norm_eps, h);
        self.watch.lap(Operation::Norm);
    }

    /// `h = norm(x)`
    fn norm(&mut self, weight: &[f32]) {
        let len = self.tokens * self.spec.hidden as usize;
        let scratch = &mut *self.scratch;
        self.kernels.rms_norm(
            self.pool,
            &scratch.x[..len],
            weight,
            self.spec.norm_eps,
            &mut scratch.h[..len],
        );
        self.watch.lap(Operation::Norm);
    }

    /// Logits of the rows that sample, from the hidden states that the layers left, which it moves.
    pub(crate) fn head(&mut self, input: &StepInput) {
        let (hidden, vocab) = (self.spec.hidden as usize, self.spec.vocab_size as usize);
        let Scratch { h, logits, linear, kept, .. } = &mut *self.scratch;
        let (mut end, mut to) = (0, 0);
        // Towards the front, in order.
        for Kept { row, tokens } in kept.iter() {
            end += tokens.len();
            if input.rows[*row as usize].sampling.is_some() {
                h.copy_within((end - 1) * hidden..end * hidden, to * hidden);
                to += 1;
            }
        }
        if to == 0 {
            return;
        }
        let (h, logits) = (&h[..to * hidden], &mut logits[..to * vocab]);
        self.kernels.linear(self.pool, h, &self.weights.head, None, linear, logits);
        self.watch.lap(Operation::Head);
    }
}

fn linear(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &[f32],
    linear: &Linear,
    scratch: &mut LinearScratch,
    out: &mut [f32],
) {
    kernels.linear(pool, x, &linear.weight, linear.bias.as_deref(), scratch, out);
}
