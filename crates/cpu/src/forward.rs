//! The forward pass, written once over the kernels: it interprets a [`DecoderSpec`].

use crate::Operation;
use crate::adapters::{Adapters, Applied, Changed};
use crate::kv::KvStorage;
use crate::rope::RopeTable;
use crate::scratch::{Kept, Scratch};
use crate::stopwatch::Stopwatch;
use crate::weights::{GatedUnit, LayerWeights, Linear, MlpWeights, ModelWeights, NormWeights};
use pagoda_kernels::{
    Angles, AttentionInput, AttentionRow, Glu, HeadRows, Kernels, KvRows, LinearScratch, Map, Pairing,
    StackedLinear, WorkerPool,
};
use pagoda_model::{Activation, AttentionSpan, DecoderSpec, Flow, QkNorm};
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
    pub(crate) adapters: &'a Adapters,
    pub(crate) kv: &'a mut KvStorage,
    pub(crate) ropes: &'a mut [RopeTable],
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) watch: &'a mut Stopwatch,
    /// Tokens that are computed: those of the step, and in the end those whose outputs are asked for.
    pub(crate) tokens: usize,
}

impl<'a> Forward<'a> {
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
                self.read(layer.attn_norm.as_ref());
            }
            self.keys_and_values(index, layer);
            if index == last {
                self.narrow();
            }
            if self.tokens == 0 {
                return;
            }
            self.attention(index, layer);
            match self.spec.block.flow {
                Flow::Sequential => self.join(layer.mlp_norm.as_ref()),
                Flow::Parallel => self.read(layer.mlp_norm.as_ref()),
                Flow::ParallelShared => (),
            }
            self.mlp(index, layer);
            let next = weights.layers.get(index + 1);
            self.join(next.map_or(Some(&weights.final_norm), |next| next.attn_norm.as_ref()));
        }
    }

    fn embed(&mut self, input: &StepInput) {
        let hidden = self.spec.hidden as usize;
        let scratch = &mut *self.scratch;
        for (&token, row) in input.tokens.iter().zip(scratch.x.chunks_exact_mut(hidden)) {
            self.weights.embedding().read_row(token as usize, row);
        }
        if self.spec.embedding_scale != 1.0 {
            let x = &mut scratch.x[..self.tokens * hidden];
            self.kernels.map(self.pool, x, Map::Scale(self.spec.embedding_scale));
        }
        if let Some(positions) = &self.weights.positions {
            for (&position, row) in input.positions.iter().zip(scratch.x.chunks_exact_mut(hidden)) {
                let vector = &positions[position as usize * hidden..][..hidden];
                row.iter_mut().zip(vector).for_each(|(x, y)| *x += y);
            }
        }
        self.watch.lap(Operation::Embed);
        let mut start = 0;
        for rope in self.ropes.iter_mut() {
            let angles = start..start + self.tokens * rope.pairs();
            start = angles.end;
            rope.gather(&input.positions, &mut scratch.cos[angles.clone()], &mut scratch.sin[angles]);
        }
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
        if self.changes(index, Changed::Qkv) {
            let (applied, scratch) = (self.applied(), &mut *self.scratch);
            let out = (&mut scratch.qkv[..self.tokens * stride], stride);
            applied.add(&mut scratch.adapters, (index, Changed::Qkv), &scratch.h[..hidden], out);
            self.watch.lap(Operation::Adapters);
        }
        self.turn(index, layer);
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
        let Scratch { x, h, qkv, rows, kept, adapters, .. } = &mut *self.scratch;
        let parallel = self.spec.block.flow == Flow::ParallelShared;
        let mut to = 0;
        // Rows move towards the front, in order, so none is overwritten before it has moved.
        for (slot, Kept { row, tokens }) in kept.iter().enumerate() {
            let (from, end) = (tokens.start as usize, tokens.end as usize);
            x.copy_within(from * hidden..end * hidden, to * hidden);
            qkv.copy_within(from * stride..end * stride, to * stride);
            if parallel {
                h.copy_within(from * hidden..end * hidden, to * hidden);
            }
            let next = to + end - from;
            rows[slot] = AttentionRow { tokens: to as u32..next as u32, ..rows[*row as usize].clone() };
            to = next;
        }
        rows.truncate(kept.len());
        if let Some(adapters) = adapters {
            adapters.narrow(kept.iter().map(|kept| kept.row));
            adapters.group(rows);
        }
        self.tokens = to;
        self.watch.lap(Operation::Other);
    }

    /// What attention gives: in `h`, or in `side` where the MLP needs the same `h`.
    fn attention(&mut self, index: usize, layer: &LayerWeights) {
        let (q_width, kv_width) = (self.spec.q_width() as usize, self.spec.kv_width() as usize);
        let stride = q_width + 2 * kv_width;
        let hidden = self.tokens * self.spec.hidden as usize;
        let applied = self.applied();
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
            softcap: self.spec.attn_softcap,
            sinks: layer.sinks.as_deref(),
        };
        let attended = &mut scratch.attended[..self.tokens * q_width];
        let kv = self.kv.layer(index);
        self.kernels.attention(self.pool, &attention, kv, &mut scratch.attention, attended);
        self.watch.lap(Operation::Attention);
        let out = match self.spec.block.flow {
            Flow::Sequential => &mut scratch.h[..hidden],
            Flow::Parallel | Flow::ParallelShared => &mut scratch.side[..hidden],
        };
        linear(self.kernels, self.pool, attended, &layer.o, &mut scratch.linear, out);
        self.watch.lap(Operation::O);
        if applied.change(&scratch.adapters, index, Changed::O) {
            let place = (index, Changed::O);
            applied.add(&mut scratch.adapters, place, attended, (&mut *out, self.spec.hidden as usize));
            self.watch.lap(Operation::Adapters);
        }
        finish_branch(self.kernels, self.pool, self.spec, layer.post_attn_norm.as_ref(), out);
        self.watch.lap(Operation::Norm);
    }

    /// Normalises queries and keys where the model does so, and rotates them to their positions.
    fn turn(&mut self, index: usize, layer: &LayerWeights) {
        let spec = self.spec;
        let (q_width, kv_width) = (spec.q_width() as usize, spec.kv_width() as usize);
        let stride = q_width + 2 * kv_width;
        let head_dim = spec.head_dim as usize;
        let queries = HeadRows { rows: self.tokens, stride, heads: spec.heads as usize, head_dim };
        let keys = HeadRows { heads: spec.kv_heads as usize, ..queries };
        let scratch = &mut *self.scratch;
        let qkv = &mut scratch.qkv[..self.tokens * stride];
        if let Some((q_norm, k_norm)) = &layer.qk_norm {
            let whole = |heads: HeadRows| match spec.qk_norm {
                Some(QkNorm::Row) => HeadRows { heads: 1, head_dim: heads.heads * head_dim, ..heads },
                _ => heads,
            };
            self.kernels.norm_heads(self.pool, whole(queries), qkv, &q_norm.norm());
            self.kernels.norm_heads(self.pool, whole(keys), &mut qkv[q_width..], &k_norm.norm());
            self.watch.lap(Operation::Norm);
        }
        let Some(rope) = spec.layers[index].rope.map(usize::from) else { return };
        let start = self.tokens * self.ropes[..rope].iter().map(RopeTable::pairs).sum::<usize>();
        let angles = start..start + self.tokens * self.ropes[rope].pairs();
        let pairing = if spec.ropes[rope].interleaved { Pairing::Neighbours } else { Pairing::Halves };
        let angles = Angles { cos: &scratch.cos[angles.clone()], sin: &scratch.sin[angles], pairing };
        // Queries and keys stand next to each other, so one call turns the heads of both.
        let heads = HeadRows { heads: queries.heads + keys.heads, ..queries };
        self.kernels.rope(self.pool, heads, qkv, &angles);
        self.watch.lap(Operation::Rope);
    }

    /// What the MLP gives, in `h`; where attention waits beside it, the sum of both.
    fn mlp(&mut self, index: usize, layer: &LayerWeights) {
        match &layer.mlp {
            MlpWeights::Gated(unit) => self.gated(index, unit),
            MlpWeights::Plain { up, down } => self.plain(index, up, down),
            MlpWeights::Experts(experts) => self.experts(experts),
        }
        let len = self.tokens * self.spec.hidden as usize;
        let Scratch { h, side, .. } = &mut *self.scratch;
        let h = &mut h[..len];
        finish_branch(self.kernels, self.pool, self.spec, layer.post_mlp_norm.as_ref(), h);
        if self.spec.block.flow != Flow::Sequential {
            self.kernels.add(self.pool, h, &side[..len]);
        }
        self.watch.lap(Operation::Norm);
    }

    /// `h = Down(activation(Gate h) * Up h)`
    fn gated(&mut self, index: usize, GatedUnit { gate_up, down }: &GatedUnit) {
        let inner = self.tokens * down.weight.k();
        let hidden = self.tokens * self.spec.hidden as usize;
        if self.changes(index, Changed::GateUp) {
            self.changed_gates(index, gate_up, inner);
        } else {
            let Scratch { h, gated, linear: staging, .. } = &mut *self.scratch;
            let (h, inner) = (&h[..hidden], &mut gated[..inner]);
            let (unit, bias) = ((&gate_up.weight, glu(self.spec)), gate_up.bias.as_deref());
            self.kernels.stacked_gated_linear(self.pool, h, unit, bias, staging, inner);
            self.watch.lap(Operation::GateUp);
        }
        self.down(index, down);
    }

    /// The gated unit in two parts, its sums and its activation, with the updates of adapters between them. Rows without an update
    /// have the bits of the unit as a whole.
    fn changed_gates(&mut self, index: usize, gate_up: &Linear, inner: usize) {
        let (applied, kind) = (self.applied(), glu(self.spec));
        let hidden = self.tokens * self.spec.hidden as usize;
        let Scratch { h, gated, linear: staging, adapters, .. } = &mut *self.scratch;
        let mut memory = Applied::take_sums(adapters);
        let stride = StackedLinear::sums(inner / self.tokens);
        let (h, sums) = (&h[..hidden], &mut memory[..self.tokens * stride]);
        let bias = gate_up.bias.as_deref();
        self.kernels.stacked_gated_sums(self.pool, h, &gate_up.weight, bias, staging, sums);
        self.watch.lap(Operation::GateUp);
        applied.add(adapters, (index, Changed::GateUp), h, (&mut *sums, stride));
        self.watch.lap(Operation::Adapters);
        self.kernels.glu(self.pool, (sums, stride), kind, &mut gated[..inner]);
        Applied::put_sums(adapters, memory);
        self.watch.lap(Operation::GateUp);
    }

    /// `h = Down(inner)`, where `inner` is what the first part of the MLP left.
    fn down(&mut self, index: usize, down: &Linear) {
        let applied = self.applied();
        let width = self.spec.hidden as usize;
        let Scratch { h, gated, linear: staging, adapters, .. } = &mut *self.scratch;
        let (h, inner) = (&mut h[..self.tokens * width], &gated[..self.tokens * down.weight.k()]);
        linear(self.kernels, self.pool, inner, down, staging, h);
        self.watch.lap(Operation::Down);
        if applied.change(adapters, index, Changed::Down) {
            applied.add(adapters, (index, Changed::Down), inner, (h, width));
            self.watch.lap(Operation::Adapters);
        }
    }

    /// `h = Down(activation(Up h))`
    fn plain(&mut self, index: usize, up: &Linear, down: &Linear) {
        let (applied, width) = (self.applied(), down.weight.k());
        let hidden = self.tokens * self.spec.hidden as usize;
        let Scratch { h, gated, linear: staging, adapters, .. } = &mut *self.scratch;
        let (h, inner) = (&h[..hidden], &mut gated[..self.tokens * width]);
        linear(self.kernels, self.pool, h, up, staging, inner);
        if applied.change(adapters, index, Changed::GateUp) {
            self.watch.lap(Operation::GateUp);
            applied.add(adapters, (index, Changed::GateUp), h, (&mut *inner, width));
            self.watch.lap(Operation::Adapters);
        }
        self.kernels.map(self.pool, inner, Map::Activate(glu(self.spec)));
        self.watch.lap(Operation::GateUp);
        self.down(index, down);
    }

    /// The adapters, as they are added to what operations give.
    fn applied(&self) -> Applied<'a> {
        Applied { kernels: self.kernels, pool: self.pool, adapters: self.adapters }
    }

    /// Whether an operation of a layer has updates in this step.
    fn changes(&self, index: usize, changed: Changed) -> bool {
        self.applied().change(&self.scratch.adapters, index, changed)
    }

    /// `x += h`, and what the next branch reads, in `h`: a norm of `x`, or `x` itself.
    fn join(&mut self, norm: Option<&NormWeights>) {
        let len = self.tokens * self.spec.hidden as usize;
        let scratch = &mut *self.scratch;
        let (x, h) = (&mut scratch.x[..len], &mut scratch.h[..len]);
        match norm {
            Some(norm) => self.kernels.add_norm(self.pool, x, &norm.norm(), h),
            None => {
                self.kernels.add(self.pool, x, h);
                h.copy_from_slice(x);
            }
        }
        self.watch.lap(Operation::Norm);
    }

    /// What a branch reads, in `h`: a norm of `x`, or `x` itself.
    fn read(&mut self, norm: Option<&NormWeights>) {
        let len = self.tokens * self.spec.hidden as usize;
        let scratch = &mut *self.scratch;
        let (x, h) = (&scratch.x[..len], &mut scratch.h[..len]);
        match norm {
            Some(norm) => self.kernels.norm(self.pool, x, &norm.norm(), h),
            None => h.copy_from_slice(x),
        }
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
        finish_logits(self.kernels, self.pool, self.spec, logits);
        self.watch.lap(Operation::Head);
    }
}

/// The activation of MLPs.
pub(crate) fn glu(spec: &DecoderSpec) -> Glu {
    match spec.activation {
        Activation::Silu => Glu::Silu,
        Activation::Gelu => Glu::Gelu,
        Activation::GeluTanh => Glu::GeluTanh,
        Activation::Relu => Glu::Relu,
        Activation::ClampedSwish { alpha, limit } => Glu::ClampedSwish { alpha, limit },
    }
}

pub(crate) fn linear(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &[f32],
    linear: &Linear,
    scratch: &mut LinearScratch,
    out: &mut [f32],
) {
    kernels.stacked_linear(pool, x, &linear.weight, linear.bias.as_deref(), scratch, out);
}

/// What a branch gives, `[tokens, hidden]`, as it joins the residual stream.
fn finish_branch(
    kernels: &Kernels,
    pool: &WorkerPool,
    spec: &DecoderSpec,
    norm: Option<&NormWeights>,
    out: &mut [f32],
) {
    let width = spec.hidden as usize;
    if let Some(norm) = norm {
        let rows = HeadRows { rows: out.len() / width, stride: width, heads: 1, head_dim: width };
        kernels.norm_heads(pool, rows, out, &norm.norm());
    }
    if spec.residual_scale != 1.0 {
        kernels.map(pool, out, Map::Scale(spec.residual_scale));
    }
}

/// What the head gives, as the sampler reads it.
pub(crate) fn finish_logits(kernels: &Kernels, pool: &WorkerPool, spec: &DecoderSpec, logits: &mut [f32]) {
    if spec.logit_scale != 1.0 {
        kernels.map(pool, logits, Map::Scale(spec.logit_scale));
    }
    if let Some(cap) = spec.logit_softcap {
        kernels.map(pool, logits, Map::Softcap(cap));
    }
}
