//! Memory between the operations of a step, sized once for the largest step.

use crate::adapters::AdapterScratch;
use crate::expert_scratch::ExpertScratch;
use crate::experts::common_width;
use crate::sampling::Place;
use crate::{CpuError, CpuOptions};
use pagoda_kernels::{AttentionLimits, AttentionRow, AttentionScratch, Buffer, LinearScratch};
use pagoda_model::{DecoderSpec, Flow};
use pagoda_sched::{Row, StepInput};
use std::ops::Range;

/// Buffers of one step. T is the tokens of the step, S its rows that sample.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// `[T, hidden]` residual stream.
    pub(crate) x: Buffer<f32>,
    /// `[T, hidden]` normalised input of a linear operation, or its output before it joins the residual.
    pub(crate) h: Buffer<f32>,
    /// `[T, hidden]` output of attention while the MLP runs on the same input; empty where it does not.
    pub(crate) side: Buffer<f32>,
    /// `[T, q_width + 2 * kv_width]` queries, keys, values.
    pub(crate) qkv: Buffer<f32>,
    /// `[T, q_width]` output of attention.
    pub(crate) attended: Buffer<f32>,
    /// `[T, width]` input of the last linear operation of a layer; of a shared expert if there are experts.
    pub(crate) gated: Buffer<f32>,
    /// `[T, rotary_dim / 2]` of each kind of rotary positions, one after the other.
    pub(crate) cos: Buffer<f32>,
    /// As `cos`.
    pub(crate) sin: Buffer<f32>,
    /// `[S, vocab_size]`
    pub(crate) logits: Buffer<f32>,
    /// Inputs of linear operations as the kernels arrange them.
    pub(crate) linear: LinearScratch,
    /// Memory of the attention of a layer.
    pub(crate) attention: AttentionScratch,
    /// `[T]` write slots.
    pub(crate) slots: Vec<u32>,
    /// Block tables, row after row.
    pub(crate) tables: Vec<u32>,
    /// Rows as attention sees them.
    pub(crate) rows: Vec<AttentionRow>,
    /// `[S]` indices into the rows of the step.
    pub(crate) sampled: Vec<u32>,
    /// Rows of which outputs are asked for.
    pub(crate) kept: Vec<Kept>,
    /// Places in prompts whose logits are asked for.
    pub(crate) places: Vec<Place>,
    /// Memory of mixtures of experts, where the model has some.
    pub(crate) experts: Option<ExpertScratch>,
    /// Memory of adapters, where there may be some.
    pub(crate) adapters: Option<AdapterScratch>,
}

/// A row of the step, with those of its tokens whose outputs are computed to the end: from the first that is asked for to the
/// last of the row.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Index into the rows of the step.
    pub(crate) row: u32,
    /// Range of the step's tokens.
    pub(crate) tokens: Range<u32>,
}

impl Kept {
    /// What is kept of row `index`; `None` if nothing is asked of it.
    pub(crate) fn of(index: usize, row: &Row) -> Option<Self> {
        let end = row.tokens.end;
        let first = match (&row.report, &row.sampling) {
            (Some(report), _) => report.tokens.start,
            (None, Some(_)) => end - 1,
            (None, None) => return None,
        };
        Some(Self { row: index as u32, tokens: first..end })
    }
}

/// Lengths of the float buffers in the order of the fields, and of the integer ones.
struct Lengths {
    floats: [usize; 9],
    tokens: usize,
    /// Inputs of the widest linear operation.
    widest: usize,
    tables: usize,
    rows: usize,
    attention: AttentionLimits,
}

impl Lengths {
    fn new(spec: &DecoderSpec, options: &CpuOptions) -> Self {
        let tokens = options.max_tokens_per_step as usize;
        let rows = options.max_rows.min(options.max_tokens_per_step) as usize;
        let (hidden, inner) = (spec.hidden as usize, common_width(spec));
        let (q, kv) = (spec.q_width() as usize, spec.kv_width() as usize);
        let pairs = spec.ropes.iter().map(|rope| rope.rotary_dim as usize / 2).sum();
        let side = if spec.block.flow == Flow::Sequential { 0 } else { hidden };
        let per_token = [hidden, hidden, side, q + 2 * kv, q, inner, pairs, pairs];
        let mut floats = [0; 9];
        floats.iter_mut().zip(per_token).for_each(|(len, width)| *len = tokens * width);
        floats[8] = rows * spec.vocab_size as usize;
        let blocks_per_row = options.longest(spec).div_ceil(options.block_size) as usize;
        let attention = AttentionLimits {
            heads: spec.heads as usize,
            kv_heads: spec.kv_heads as usize,
            head_dim: spec.head_dim as usize,
            tokens,
            rows,
            threads: options.workers(),
        };
        // The input of a gate and an up of two formats is arranged for both.
        let times = if options.role_formats(spec).has_mixed_gates() { 2 } else { 1 };
        let widest = (times * hidden).max(inner).max(q);
        Self { floats, tokens, widest, tables: rows * blocks_per_row, rows, attention }
    }
}

impl Scratch {
    /// Buffers for the largest step that `options` allow.
    pub(crate) fn new(spec: &DecoderSpec, options: &CpuOptions) -> Result<Self, CpuError> {
        let lengths = Lengths::new(spec, options);
        let mut next = lengths.floats.into_iter();
        let no_memory = |source| CpuError::OutOfMemory { purpose: "the activations of a step", source };
        let mut buffer = || Buffer::zeroed(next.next().expect("a length per buffer")).map_err(no_memory);
        Ok(Self {
            x: buffer()?,
            h: buffer()?,
            side: buffer()?,
            qkv: buffer()?,
            attended: buffer()?,
            gated: buffer()?,
            cos: buffer()?,
            sin: buffer()?,
            logits: buffer()?,
            linear: if spec.reordered {
                LinearScratch::for_orders(lengths.tokens, lengths.widest).map_err(no_memory)?
            } else {
                LinearScratch::new(lengths.tokens, lengths.widest).map_err(no_memory)?
            },
            attention: AttentionScratch::new(&lengths.attention).map_err(no_memory)?,
            slots: Vec::with_capacity(lengths.tokens),
            tables: Vec::with_capacity(lengths.tables),
            rows: Vec::with_capacity(lengths.rows),
            sampled: Vec::with_capacity(lengths.rows),
            kept: Vec::with_capacity(lengths.rows),
            places: Vec::with_capacity(lengths.tokens),
            experts: ExpertScratch::new(spec, options)?,
            adapters: AdapterScratch::new(spec, options)?,
        })
    }

    /// Bytes that [`new`](Self::new) reserves.
    pub(crate) fn planned_bytes(spec: &DecoderSpec, options: &CpuOptions) -> u64 {
        let lengths = Lengths::new(spec, options);
        let words = lengths.floats.iter().sum::<usize>() + lengths.tokens + lengths.tables + lengths.rows;
        let rows = lengths.rows * (size_of::<AttentionRow>() + size_of::<Kept>());
        let places = lengths.tokens * size_of::<Place>();
        (words * 4 + rows + places) as u64
            + LinearScratch::planned_bytes(lengths.tokens, lengths.widest) * (1 + u64::from(spec.reordered))
            + AttentionScratch::planned_bytes(&lengths.attention)
            + ExpertScratch::planned_bytes(spec, options)
            + AdapterScratch::planned_bytes(spec, options)
    }

    /// Bytes reserved.
    pub(crate) fn bytes(&self) -> u64 {
        let activations = [&self.x, &self.h, &self.side, &self.qkv, &self.attended, &self.gated];
        let floats = activations.into_iter().chain([&self.cos, &self.sin, &self.logits]);
        let integers = [&self.slots, &self.tables, &self.sampled];
        let words = floats.map(|buffer| buffer.len()).sum::<usize>()
            + integers.iter().map(|list| list.capacity()).sum::<usize>();
        let rows =
            self.rows.capacity() * size_of::<AttentionRow>() + self.kept.capacity() * size_of::<Kept>();
        let places = self.places.capacity() * size_of::<Place>();
        let experts = self.experts.as_ref().map_or(0, ExpertScratch::bytes);
        let adapters = self.adapters.as_ref().map_or(0, AdapterScratch::bytes);
        (words * 4 + rows + places) as u64 + self.linear.bytes() + self.attention.bytes() + experts + adapters
    }

    /// Takes over the integer arrays of a step in the types of the kernels.
    pub(crate) fn prepare(&mut self, input: &StepInput) {
        self.experts.iter_mut().for_each(ExpertScratch::start);
        self.slots.clear();
        self.slots.extend(input.write_slots.iter().map(|slot| slot.0));
        self.tables.clear();
        self.tables.extend(input.tables.iter().map(|block| block.0));
        self.rows.clear();
        self.sampled.clear();
        self.kept.clear();
        for (index, row) in input.rows.iter().enumerate() {
            let (tokens, table) = (row.tokens.clone(), row.table.clone());
            self.rows.push(AttentionRow { tokens, context: row.context, table });
            if row.sampling.is_some() {
                self.sampled.push(index as u32);
            }
            self.kept.extend(Kept::of(index, row));
        }
    }
}
