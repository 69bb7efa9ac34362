//! What the operations of a step have to read and compute.

use crate::Operation;
use crate::profile::{Cost, OPERATIONS};
use crate::weights::ModelWeights;
use pagoda_model::{AttentionSpan, DecoderSpec};
use pagoda_sched::{KvLayout, StepInput};

/// Sizes from which the costs of a step follow.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// Of all layers (and the head): bytes read once per step, multiplications and additions per row.
    fixed: [Cost; OPERATIONS],
    /// Bytes of a row of the embedding.
    embedding_row: u64,
    /// Bytes of keys and values of a token in one layer.
    kv_token: u64,
    /// Multiplications and additions of attention in one layer for a token and one that it sees.
    pair: u64,
    /// How many layers see how far.
    spans: Vec<(AttentionSpan, u64)>,
}

impl Traffic {
    pub(crate) fn new(spec: &DecoderSpec, weights: &ModelWeights, layout: &KvLayout) -> Self {
        let mut fixed = [Cost::default(); OPERATIONS];
        let mut add = |operation: Operation, weight_bytes: u64, flops: u64| {
            fixed[operation as usize].weight_bytes += weight_bytes;
            fixed[operation as usize].flops += flops;
        };
        let norm = |weight: &[f32]| size_of_val(weight) as u64;
        for layer in &weights.layers {
            let heads = layer.qk_norm.as_ref().map_or(0, |(q, k)| norm(q) + norm(k));
            add(Operation::Norm, norm(&layer.attn_norm) + norm(&layer.mlp_norm) + heads, 0);
            let linears = [
                (Operation::Qkv, &layer.qkv),
                (Operation::O, &layer.o),
                (Operation::GateUp, &layer.gate_up),
                (Operation::Down, &layer.down),
            ];
            for (operation, linear) in linears {
                add(operation, linear.bytes(), flops(linear.weight.n(), linear.weight.k()));
            }
        }
        let (head, table) = (&weights.head, weights.embedding());
        add(Operation::Head, head.bytes() as u64, flops(head.n(), head.k()));
        add(Operation::Norm, norm(&weights.final_norm), 0);
        Self {
            fixed,
            embedding_row: table.bytes() as u64 / table.n().max(1) as u64,
            kv_token: layout.block_bytes() / u64::from(layout.layers * layout.block_size),
            pair: 4 * u64::from(spec.q_width()),
            spans: spans(spec),
        }
    }

    /// Costs of a step by operation.
    pub(crate) fn of(&self, input: &StepInput) -> [Cost; OPERATIONS] {
        let tokens = input.tokens.len() as u64;
        let sampled = input.rows.iter().filter(|row| row.sampling.is_some()).count() as u64;
        let mut costs = self.fixed;
        for (operation, cost) in Operation::ALL.into_iter().zip(&mut costs) {
            cost.flops *= if operation == Operation::Head { sampled } else { tokens };
        }
        if sampled == 0 {
            costs[Operation::Head as usize].weight_bytes = 0;
        }
        costs[Operation::Embed as usize].weight_bytes = tokens * self.embedding_row;
        let layers = self.spans.iter().map(|(_, layers)| layers).sum::<u64>();
        costs[Operation::KvWrite as usize].kv_bytes = tokens * layers * self.kv_token;
        for row in &input.rows {
            let (count, context) = (u64::from(row.tokens.end - row.tokens.start), u64::from(row.context));
            for &(span, layers) in &self.spans {
                let seen = |end: u64| match span {
                    AttentionSpan::Full => end,
                    AttentionSpan::Window(window) => end.min(u64::from(window)),
                };
                let first = context - count + 1;
                let pairs: u64 = (first..=context).map(seen).sum();
                let cost = &mut costs[Operation::Attention as usize];
                cost.flops += layers * pairs * self.pair;
                cost.kv_bytes += layers * (seen(first) + count - 1).min(context) * self.kv_token;
            }
        }
        costs
    }
}

fn flops(n: usize, k: usize) -> u64 {
    2 * n as u64 * k as u64
}

/// Equal spans counted together.
fn spans(spec: &DecoderSpec) -> Vec<(AttentionSpan, u64)> {
    let mut spans: Vec<(AttentionSpan, u64)> = Vec::new();
    for layer in &spec.layers {
        match spans.iter_mut().find(|(span, _)| *span == layer.attention) {
            Some((_, layers)) => *layers += 1,
            None => spans.push((layer.attention, 1)),
        }
    }
    spans
}
