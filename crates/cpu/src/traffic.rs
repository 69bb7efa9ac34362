//! What the operations of a step have to read and compute.

use crate::Operation;
use crate::profile::{Cost, OPERATIONS};
use crate::scratch::Kept;
use crate::weights::{ModelWeights, NormWeights};
use crate::work::row_logits;
use pagoda_model::{AttentionSpan, DecoderSpec, LayerSpec};
use pagoda_sched::{KvLayout, Row, StepInput};

/// Sizes from which the costs of a step follow.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// Of what runs for all tokens: bytes read once per step, multiplications and additions per token.
    all: [Cost; OPERATIONS],
    /// Of what runs for the tokens only whose outputs are asked for: the end of the last layer, and the head.
    kept: [Cost; OPERATIONS],
    /// Bytes of a row of the embedding.
    embedding_row: u64,
    /// Bytes of keys and values of a token in one layer.
    kv_token: u64,
    /// Multiplications and additions of attention in one layer for a token and one that it sees.
    pair: u64,
    /// How many layers see how far, without the last one.
    spans: Vec<(AttentionSpan, u64)>,
    last_span: AttentionSpan,
    layers: u64,
}

impl Traffic {
    pub(crate) fn new(spec: &DecoderSpec, weights: &ModelWeights, layout: &KvLayout) -> Self {
        let (mut all, mut kept) = ([Cost::default(); OPERATIONS], [Cost::default(); OPERATIONS]);
        let add = |costs: &mut [Cost; OPERATIONS], operation: Operation, weight_bytes: u64, flops: u64| {
            costs[operation as usize].weight_bytes += weight_bytes;
            costs[operation as usize].flops += flops;
        };
        let last = weights.layers.len() - 1;
        for (index, layer) in weights.layers.iter().enumerate() {
            add(&mut all, Operation::Norm, layer.norms().map(NormWeights::bytes).sum(), 0);
            for (operation, linear) in layer.linears() {
                let ends = index == last && operation != Operation::Qkv;
                let costs = if ends { &mut kept } else { &mut all };
                add(costs, operation, linear.bytes(), flops(linear.weight.n(), linear.weight.k()));
            }
        }
        let (head, table) = (&weights.head, weights.embedding());
        add(&mut kept, Operation::Head, head.bytes() as u64, flops(head.n(), head.k()));
        add(&mut kept, Operation::Norm, weights.final_norm.bytes(), 0);
        Self {
            all,
            kept,
            embedding_row: table.bytes() as u64 / table.n().max(1) as u64,
            kv_token: layout.block_bytes() / u64::from(layout.layers * layout.block_size),
            pair: 4 * u64::from(spec.q_width()),
            spans: spans(&spec.layers[..last]),
            last_span: spec.layers[last].attention,
            layers: last as u64 + 1,
        }
    }

    /// Costs of a step by operation.
    pub(crate) fn of(&self, input: &StepInput) -> [Cost; OPERATIONS] {
        let tokens = input.tokens.len() as u64;
        let (kept, logits) = input
            .rows
            .iter()
            .fold((0, 0), |(kept, logits), row| (kept + kept_tokens(row), logits + row_logits(row)));
        let mut costs = self.all;
        for (operation, (cost, end)) in costs.iter_mut().zip(&self.kept).enumerate() {
            let kept = if operation == Operation::Head as usize { logits } else { kept };
            cost.flops = cost.flops * tokens + end.flops * kept;
            cost.weight_bytes += if kept > 0 { end.weight_bytes } else { 0 };
        }
        costs[Operation::Embed as usize].weight_bytes = tokens * self.embedding_row;
        costs[Operation::KvWrite as usize].kv_bytes = tokens * self.layers * self.kv_token;
        for row in &input.rows {
            self.add_attention(row, &mut costs[Operation::Attention as usize]);
        }
        costs
    }

    fn add_attention(&self, row: &Row, cost: &mut Cost) {
        let (count, context) = (u64::from(row.tokens.end - row.tokens.start), u64::from(row.context));
        let mut add = |span: AttentionSpan, layers: u64, first: u64| {
            let seen = |end: u64| match span {
                AttentionSpan::Full => end,
                AttentionSpan::Window(window) => end.min(u64::from(window)),
            };
            let pairs: u64 = (first..=context).map(seen).sum();
            cost.flops += layers * pairs * self.pair;
            cost.kv_bytes += layers * (seen(first) + context - first).min(context) * self.kv_token;
        };
        for &(span, layers) in &self.spans {
            add(span, layers, context - count + 1);
        }
        let kept = kept_tokens(row);
        if kept > 0 {
            add(self.last_span, 1, context - kept + 1);
        }
    }
}

/// Tokens of a row whose outputs are computed to the end.
fn kept_tokens(row: &Row) -> u64 {
    Kept::of(0, row).map_or(0, |kept| kept.tokens.len() as u64)
}

fn flops(n: usize, k: usize) -> u64 {
    2 * n as u64 * k as u64
}

/// Equal spans counted together.
fn spans(layers: &[LayerSpec]) -> Vec<(AttentionSpan, u64)> {
    let mut spans: Vec<(AttentionSpan, u64)> = Vec::new();
    for layer in layers {
        match spans.iter_mut().find(|(span, _)| *span == layer.attention) {
            Some((_, layers)) => *layers += 1,
            None => spans.push((layer.attention, 1)),
        }
    }
    spans
}
