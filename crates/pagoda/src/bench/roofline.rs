//! The least time that the machine needs for a workload: bytes over bandwidth, operations over peak.

use super::limits::MachineLimits;
use super::workload::Workload;
use crate::MemoryPlan;
use crate::model::{AttentionSpan, DecoderSpec, ExpertSpec, Mlp};
use pagoda_kernels::{Bits, LinearShape, PackedLinear, WeightFormat};
use serde::{Deserialize, Serialize};

/// Bytes and operations of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    format: WeightFormat,
    /// Bytes of the weights that a decode step of one sequence reads: all but those of experts that it does not pass.
    pub weight_bytes: f64,
    /// Mixtures of experts.
    experts: Option<Experts>,
    /// Multiplications of the layers for a token.
    body: f64,
    /// Multiplications of the head for a row that samples.
    head: f64,
    /// Bytes of keys and values of one token in one layer.
    kv_bytes: f64,
    /// Multiplications of attention in one layer for a token and one that it sees.
    pair: f64,
    /// Window of each layer.
    windows: Vec<f64>,
}

/// The experts of all layers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Experts {
    /// Experts of a layer, and those that a token passes.
    count: f64,
    per_token: f64,
    /// Bytes of one expert in all layers.
    bytes: f64,
}

impl Experts {
    /// Bytes that `rows` tokens read, each of which chooses among all experts alike.
    fn read(&self, rows: f64) -> f64 {
        let unused = (1.0 - self.per_token / self.count).powf(rows);
        self.bytes * self.count * (1.0 - unused)
    }
}

/// What a workload can reach at most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// Prompt tokens per second until every sequence has its first token.
    pub prefill_tok_s: f64,
    /// Generated tokens per second after that.
    pub decode_tok_s: f64,
    /// Generated tokens per second end to end.
    pub output_tok_s: f64,
}

/// Linear operations of the last layer as the executor runs them, by name: queries, keys and values at once, gate and up at
/// once. Of a mixture, those of one expert.
pub(super) fn layer_shapes(spec: &DecoderSpec) -> [(&'static str, LinearShape); 4] {
    let mlp = spec.layers.last().map_or(Mlp::Gated, |layer| layer.mlp);
    let width = mlp.experts().map_or(spec.intermediate, |experts| experts.intermediate);
    let [qkv, o] = attention_shapes(spec);
    let [up, down] = mlp_shapes(spec, width, mlp != Mlp::Plain);
    [("qkv", qkv), ("o", o), ("gate_up", up), ("down", down)]
}

fn attention_shapes(spec: &DecoderSpec) -> [LinearShape; 2] {
    let (hidden, q, kv) = (spec.hidden as usize, spec.q_width() as usize, spec.kv_width() as usize);
    [LinearShape { n: q + 2 * kv, k: hidden }, LinearShape { n: hidden, k: q }]
}

/// Both halves of an MLP of this width.
fn mlp_shapes(spec: &DecoderSpec, width: u32, gated: bool) -> [LinearShape; 2] {
    let (hidden, inner) = (spec.hidden as usize, width as usize);
    let rows = if gated { 2 * inner } else { inner };
    [LinearShape { n: rows, k: hidden }, LinearShape { n: hidden, k: inner }]
}

/// What every token passes in a layer, and one of its experts.
fn shapes(spec: &DecoderSpec, mlp: Mlp) -> (Vec<LinearShape>, Option<(ExpertSpec, [LinearShape; 2])>) {
    let mut all = attention_shapes(spec).to_vec();
    let Mlp::Experts(experts) = mlp else {
        all.extend(mlp_shapes(spec, spec.intermediate, mlp == Mlp::Gated));
        return (all, None);
    };
    all.extend(experts.shared.iter().flat_map(|shared| mlp_shapes(spec, shared.intermediate, true)));
    (all, Some((experts, mlp_shapes(spec, experts.intermediate, true))))
}

/// The head.
pub(super) fn head_shape(spec: &DecoderSpec) -> LinearShape {
    LinearShape { n: spec.vocab_size as usize, k: spec.hidden as usize }
}

impl Cost {
    /// The model of `spec`, stored as `plan` says.
    pub fn new(spec: &DecoderSpec, plan: &MemoryPlan) -> Self {
        let kv_bytes = plan.layout.block_bytes() as f64
            / f64::from(plan.layout.block_size)
            / f64::from(plan.layout.layers.max(1));
        Self::of(spec, plan.weight_formats.layers, kv_bytes)
    }

    /// The model of `spec` with weights of `format` and `kv_bytes` for each token and layer.
    pub fn of(spec: &DecoderSpec, format: WeightFormat, kv_bytes: f64) -> Self {
        let head = head_shape(spec);
        let elements = |shape: LinearShape| (shape.n * shape.k) as f64;
        let bytes = |shape| PackedLinear::packed_bytes(shape, format) as f64;
        let (mut weight_bytes, mut body) =
            (PackedLinear::packed_bytes(head, head_format(format)) as f64, 0.0);
        let mut experts: Option<Experts> = None;
        for layer in &spec.layers {
            let (all, mixture) = shapes(spec, layer.mlp);
            weight_bytes += all.iter().copied().map(bytes).sum::<f64>();
            body += all.into_iter().map(elements).sum::<f64>();
            let Some((mixture, one)) = mixture else { continue };
            let (count, per_token) = (f64::from(mixture.count), f64::from(mixture.per_token));
            body += per_token * one.map(elements).iter().sum::<f64>();
            let experts = experts.get_or_insert(Experts { count, per_token, bytes: 0.0 });
            experts.bytes += one.map(bytes).iter().sum::<f64>();
        }
        let window = |layer: &crate::model::LayerSpec| match layer.attention {
            AttentionSpan::Full => f64::INFINITY,
            AttentionSpan::Window(window) => f64::from(window),
        };
        Self {
            format,
            weight_bytes: weight_bytes + experts.map_or(0.0, |experts| experts.read(1.0)),
            experts,
            body,
            head: elements(head),
            kv_bytes,
            pair: 2.0 * f64::from(spec.q_width()),
            windows: spec.layers.iter().map(window).collect(),
        }
    }

    /// Bytes of the weights that a step of `rows` tokens reads.
    fn read_bytes(&self, rows: f64) -> f64 {
        self.weight_bytes + self.experts.map_or(0.0, |experts| experts.read(rows) - experts.read(1.0))
    }

    /// Bytes of all weights.
    pub fn total_bytes(&self) -> f64 {
        self.read_bytes(f64::INFINITY)
    }

    /// Operations of one decode step of `rows` without attention.
    pub fn step_operations(&self, rows: f64) -> f64 {
        2.0 * (self.body + self.head) * rows
    }

    /// Operations of one token in prefill, without attention and head.
    pub fn token_operations(&self) -> f64 {
        2.0 * self.body
    }

    /// The least seconds of a decode step of `rows` sequences with `context` tokens each, of which they share the
    /// first `shared`.
    pub fn decode_seconds(&self, limits: &MachineLimits, rows: f64, context: f64, shared: f64) -> f64 {
        let tokens = |window: &f64| {
            let seen = context.min(*window);
            shared.min(seen) + rows * (seen - shared).max(0.0)
        };
        let bytes = self.read_bytes(rows) + self.kv_bytes * self.windows.iter().map(tokens).sum::<f64>();
        let arithmetic = self.step_operations(rows) / (1e9 * limits.best_peak(self.format));
        (bytes / (1e9 * limits.read_gbs)).max(arithmetic)
    }

    /// The least seconds of the prefill of all prompts of `load`, a shared prefix computed once.
    fn prefill_seconds(&self, limits: &MachineLimits, load: &Workload) -> f64 {
        let rows = f64::from(load.prompts);
        let (shared, own) = (f64::from(load.prefix_len), f64::from(load.input_len));
        // Each token sees on average half of what its own part adds, and all before it.
        let pairs = |window: &f64| {
            shared * (shared / 2.0).min(*window) + rows * own * (shared + own / 2.0).min(*window)
        };
        let pairs: f64 = self.windows.iter().map(pairs).sum();
        let linear = 2.0 * (self.body * (shared + rows * own) + self.head * rows);
        let arithmetic = linear / (1e9 * limits.best_peak(self.format))
            + 2.0 * self.pair * pairs / (1e9 * limits.attention_peak());
        arithmetic.max(self.read_bytes(shared + rows * own) / (1e9 * limits.read_gbs))
    }

    /// What `load` can reach; `None` when a limit is not known. For more prompts than run at once, the limit of as
    /// many full batches one after the other.
    pub fn bound(&self, limits: &MachineLimits, load: &Workload) -> Option<Bound> {
        let rows = f64::from(load.concurrency.min(load.prompts));
        let batch = Workload { prompts: rows as u32, ..load.clone() };
        let output = f64::from(load.output_len);
        let prefill = self.prefill_seconds(limits, &batch);
        let context = f64::from(load.prompt_len()) + output / 2.0;
        let step = self.decode_seconds(limits, rows, context, f64::from(load.prefix_len));
        let bound = Bound {
            prefill_tok_s: batch.prompt_tokens() as f64 / prefill,
            decode_tok_s: rows / step,
            output_tok_s: rows * output / (prefill + step * (output - 1.0).max(0.0)),
        };
        let numbers = [bound.prefill_tok_s, bound.decode_tok_s, bound.output_tok_s];
        numbers.into_iter().all(|number| number.is_finite() && number > 0.0).then_some(bound)
    }
}

/// The format of the head where the layers have `format`.
pub(super) fn head_format(format: WeightFormat) -> WeightFormat {
    match format {
        WeightFormat::Quantized(layers) if layers.bits == Bits::Four => layers.for_vocabulary().into(),
        same => same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;
    use crate::model::Checkpoint;
    use pagoda_kernels::limits::Unit;

    fn load(concurrency: u32) -> Workload {
        Workload {
            concurrency,
            prompts: concurrency,
            prefix_len: 0,
            input_len: 128,
            output_len: 128,
            seed: 0,
        }
    }

    fn limits() -> MachineLimits {
        let peak_gops = [(Unit::F32.name().to_owned(), 290.0), (Unit::Bf16Dot.name().to_owned(), 5650.0)];
        MachineLimits { threads: 2, read_gbs: 30.0, peak_gops: peak_gops.into() }
    }

    fn cost() -> Cost {
        let prepared = Engine::builder().prepare().expect("the embedded model");
        Cost::new(prepared.checkpoint.spec(), &prepared.memory)
    }

    #[test]
    fn the_bound_rises_with_concurrency_and_never_beyond_the_peak() {
        let bounds: Vec<Bound> =
            [1, 2, 8, 64, 512].map(|n| cost().bound(&limits(), &load(n)).expect("limits are known")).to_vec();
        assert!(bounds.is_sorted_by(|a, b| a.decode_tok_s <= b.decode_tok_s), "{bounds:?}");
        let peak = 5650e9 / cost().step_operations(1.0);
        assert!(bounds.iter().all(|bound| bound.decode_tok_s <= 1.001 * peak), "{bounds:?}");
        assert!(bounds.iter().all(|bound| bound.output_tok_s < 1.01 * bound.decode_tok_s), "{bounds:?}");
    }

    #[test]
    fn a_step_reads_more_experts_the_more_tokens_it_has() {
        let spec = Checkpoint::random("qwen3-30b-a3b".parse().expect("a known shape"), 0).spec().clone();
        let cost = Cost::of(&spec, WeightFormat::Bf16, 0.0);
        let read = [1.0, 2.0, 16.0, 1e6].map(|rows| cost.read_bytes(rows));
        assert!(read.is_sorted() && (read[0] - cost.weight_bytes).abs() < 1.0, "{read:?}");
        assert!(
            (5.5e9..7e9).contains(&cost.weight_bytes),
            "3 billion weights of 2 bytes: {}",
            cost.weight_bytes
        );
        assert!((59e9..62e9).contains(&cost.total_bytes()), "30 billion: {}", cost.total_bytes());
        assert!((0.99 * cost.total_bytes()..=cost.total_bytes()).contains(&read[3]));
    }

    #[test]
    fn one_sequence_is_bound_by_the_bytes_of_weights_and_context() {
        let cost = cost();
        let seconds = cost.decode_seconds(&limits(), 1.0, 100.0, 0.0);
        let bytes = cost.weight_bytes + 100.0 * cost.kv_bytes * cost.windows.len() as f64;
        assert!((seconds - bytes / 30e9).abs() < 1e-12, "{seconds}");
        let shared = cost.decode_seconds(&limits(), 4.0, 100.0, 90.0);
        assert!(shared < cost.decode_seconds(&limits(), 4.0, 100.0, 0.0));
    }

    #[test]
    fn unknown_limits_give_no_bound() {
        assert_eq!(cost().bound(&MachineLimits::default(), &load(1)), None);
    }
}
