//! The forward pass against the answers of `transformers` for small models of every architecture; the files are
//! described in `tests/golden/README.md`. Run with `--nocapture` for the table.

mod common {
    pub(crate) mod feed;
    pub(crate) mod rows;
}

use common::feed::feed;
use common::rows::Sequence;
use pagoda_cpu::{ComputeDtype, CpuExecutor, CpuOptions, MemoryPlan};
use pagoda_kernels::{Isa, QuantFormat};
use pagoda_model::{
    AttentionSpan, Checkpoint, DecoderSpec, Dtype, Flow, Mlp, ModelSource, NormKind, QkNorm, RopeScaling,
    supported_models,
};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Largest error of the f32 path, relative to the range of the reference logits.
const F32_TOLERANCE: f32 = 1e-4;
/// The bf16 path rounds weights, keys and values but no activations, so its error has to stay below that of the
/// reference, which rounds everything.
const BF16_FACTOR: f32 = 1.0;
/// Where pairs of bf16 are multiplied, activations, queries and attention weights are rounded as the reference rounds
/// them, so that the errors are alike, but not the same.
const BF16_PAIRS_FACTOR: f32 = 1.25;
/// Largest error of int8, relative to the range: weights are rounded to one part in 256 of the largest of their group.
const INT8_TOLERANCE: f32 = 0.04;

#[derive(serde::Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    prompt: Vec<u32>,
    positions: Vec<u32>,
    f32: Answer,
    bf16: Answer,
}

#[derive(serde::Deserialize)]
struct Answer {
    logits: Vec<Vec<f32>>,
    greedy: Greedy,
}

#[derive(serde::Deserialize)]
struct Greedy {
    tokens: Vec<u32>,
    margins: Vec<f32>,
    last_logits: Vec<f32>,
}

/// What one path makes of one model.
#[derive(Default)]
struct Score {
    /// Largest difference from the reference, relative to the range of the logits.
    error: f32,
    /// Tokens that had to be, and were, those of the reference.
    equal: usize,
    /// Tokens whose margin is within the error, so that either may be chosen.
    open: usize,
}

impl Case {
    /// Largest distance between the reference's own two formats where both saw the same tokens.
    fn reference_error(&self) -> f32 {
        let pairs = self.f32.logits.iter().zip(&self.bf16.logits);
        pairs.map(|(exact, narrow)| distance(exact, narrow) / range(exact)).fold(0.0, f32::max)
    }
}

/// The reference models, by name.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root()).expect("tests/golden").flatten().map(|e| e.path()).collect();
    folders.retain(|path| path.join("golden.json").is_file());
    folders.sort();
    folders
}

/// `docs/models.md` is made from the models that are tested: `PAGODA_WRITE_DOCS=1` writes it.
#[test]
fn the_table_of_models_lists_what_is_tested() {
    let specs: Vec<(String, DecoderSpec)> = folders()
        .into_iter()
        .map(|folder| {
            let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
            let checkpoint = Checkpoint::open(&ModelSource::Folder(folder)).expect("the model");
            (name, checkpoint.spec().clone())
        })
        .collect();
    let mut text = String::from(INTRODUCTION);
    for (architecture, models) in supported_models() {
        let tested = specs.iter().filter(|(_, spec)| spec.architecture == architecture);
        let tested: Vec<String> = tested.map(|(name, _)| format!("`{name}`")).collect();
        assert!(!tested.is_empty(), "{architecture} has no reference model in tests/golden");
        writeln!(text, "| `{architecture}` | {models} | {} |", tested.join(", ")).expect("a string");
    }
    text.push_str(SHAPES);
    for (name, spec) in &specs {
        let DecoderSpec { heads, kv_heads, head_dim, dtype, .. } = spec;
        let features = match features(spec).join(", ") {
            none if none.is_empty() => "–".to_owned(),
            some => some,
        };
        writeln!(text, "| `{name}` | {heads} / {kv_heads} x {head_dim} | {dtype} | {features} |")
            .expect("a string");
    }
    let path = root().join("../../docs/models.md");
    if std::env::var_os("PAGODA_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).expect("docs can be written");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == text,
        "docs/models.md is stale: PAGODA_WRITE_DOCS=1 cargo test -p pagoda-cpu --test golden"
    );
}

const INTRODUCTION: &str = "\
# Models that can be served

A test makes this page from the list of reference models that it runs. Each row stands for small models of random weights,
whose logits and greedy tokens are compared with those of `transformers`, over paged keys and values, with prompts cut into
chunks, in f32, bf16, f16 and int8, on each instruction set of the machine. [`tests/golden`](../tests/golden) has them, and says
which ones are a Llama in files of other names.

| `architectures` in config.json | models | reference models |
|---|---|---|
";

const SHAPES: &str = "
## Reference models

| folder | query / key heads x elements | stored | what is particular |
|---|---|---|---|
";

/// What sets a model apart from a Llama.
fn features(spec: &DecoderSpec) -> Vec<&'static str> {
    let scaling = |is: fn(&RopeScaling) -> bool| spec.ropes.iter().any(|rope| is(&rope.scaling));
    let spans = |full: bool| spec.layers.iter().any(|layer| (layer.attention == AttentionSpan::Full) == full);
    let unrotated = spec.layers.iter().filter(|layer| layer.rope.is_none()).count();
    let features = [
        (spec.tied_head, "tied head"),
        (spec.qkv_bias || spec.mlp_bias, "biases"),
        (spec.norm.kind == NormKind::Layer, "layer norms"),
        (spec.block.post_norm && spec.block.pre_norm, "norms before and after the branches"),
        (spec.block.post_norm && !spec.block.pre_norm, "norms after the branches"),
        (spec.block.flow != Flow::Sequential, "attention and MLP in parallel"),
        (spec.qk_norm == Some(QkNorm::Row), "norm over all heads"),
        (matches!(spec.qk_norm, Some(QkNorm::Shared | QkNorm::PerHead)), "norm of each head"),
        (spec.layers.iter().any(|layer| layer.mlp == Mlp::Plain), "MLP without a gate"),
        (spec.layers.iter().any(|layer| layer.mlp.experts().is_some()), "experts"),
        (
            spec.layers.iter().any(|layer| layer.mlp.experts().is_some_and(|e| e.shared.is_some())),
            "a shared expert",
        ),
        (spec.attn_sinks, "sinks"),
        (spans(false) && spans(true), "windows in some layers"),
        (spans(false) && !spans(true), "windows in all layers"),
        (spec.learned_positions, "learned positions"),
        (!spec.learned_positions && unrotated > 0, "layers without rotation"),
        (spec.ropes.len() > 1, "two rotations"),
        (spec.ropes.iter().any(|rope| rope.interleaved), "rotation of neighbours"),
        (spec.ropes.iter().any(|rope| rope.rotary_dim < spec.head_dim), "partial rotation"),
        (scaling(|s| matches!(s, RopeScaling::Linear { .. })), "linear RoPE scaling"),
        (scaling(|s| matches!(s, RopeScaling::Llama3 { .. })), "llama3 RoPE scaling"),
        (scaling(|s| matches!(s, RopeScaling::Yarn { .. })), "YaRN"),
        (scaling(|s| matches!(s, RopeScaling::LongRope { .. })), "LongRoPE"),
        (spec.attn_softcap.is_some(), "capped scores"),
        (spec.logit_softcap.is_some(), "capped logits"),
        (spec.embedding_scale != 1.0, "scaled embedding"),
        (spec.residual_scale != 1.0, "scaled branches"),
        (spec.logit_scale != 1.0, "scaled logits"),
    ];
    features.into_iter().filter_map(|(has, name)| has.then_some(name)).collect()
}

#[test]
fn every_model_gives_the_reference_answers() {
    let folders = folders();
    println!(
        "| model | isa | f32 error | tokens | bf16 error | reference's bf16 error | tokens | f16 error | int8 error |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let failed: Vec<PathBuf> = folders
        .into_iter()
        // The others are compared all the same.
        .filter(|folder| std::panic::catch_unwind(|| compare(folder)).is_err())
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// Compares one model on every instruction set.
fn compare(folder: &Path) {
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    let golden = std::fs::read_to_string(folder.join("golden.json")).expect("golden.json");
    let golden: Golden = serde_json::from_str(&golden).expect("golden.json as described");
    let reference = golden.cases.iter().map(Case::reference_error).fold(0.0, f32::max);
    let checkpoint = Checkpoint::open(&ModelSource::Folder(folder.to_owned())).expect("the model");
    for isa in Isa::available() {
        let factor = if isa >= Isa::Avx512Bf16 { BF16_PAIRS_FACTOR } else { BF16_FACTOR };
        let of = |dtype, tolerance| score(&checkpoint, &golden, &options(dtype, isa), tolerance);
        let exact = of(ComputeDtype::F32, F32_TOLERANCE);
        let narrow = of(ComputeDtype::Bf16, factor * reference);
        let half = of(ComputeDtype::F16, factor * reference);
        let quantized = CpuOptions { quantize: Some(QuantFormat::INT8), ..options(ComputeDtype::Auto, isa) };
        let small = score(&checkpoint, &golden, &quantized, INT8_TOLERANCE);
        println!(
            "| {name} | {isa} | {:.1e} | {} | {:.1e} | {reference:.1e} | {} + {} open | {:.1e} | {:.1e} |",
            exact.error, exact.equal, narrow.error, narrow.equal, narrow.open, half.error, small.error
        );
        assert_eq!(exact.open, 0, "{name}: every margin exceeds the error of f32");
    }
}

#[test]
fn experts_in_four_bits_stay_so_and_give_the_reference_answers() {
    let folder = root().join("gpt-oss-mxfp4");
    let golden = std::fs::read_to_string(folder.join("golden.json")).expect("golden.json");
    let golden: Golden = serde_json::from_str(&golden).expect("golden.json as described");
    let reference = golden.cases.iter().map(Case::reference_error).fold(0.0, f32::max);
    let checkpoint = Checkpoint::open(&ModelSource::Folder(folder)).expect("the model");
    let experts = checkpoint.tensors().filter(|(_, tensor)| matches!(tensor.dtype, Dtype::Blocks(_)));
    let elements: u64 = experts.map(|(_, tensor)| tensor.elements() as u64).sum();
    for isa in Isa::available() {
        let factor = if isa >= Isa::Avx512Bf16 { BF16_PAIRS_FACTOR } else { BF16_FACTOR };
        let stored = options(ComputeDtype::Auto, isa);
        let error = score(&checkpoint, &golden, &stored, factor * reference).error;
        println!("{isa}: {error:.1e}, the reference's bf16 {reference:.1e}");
        let weights =
            |dtype| MemoryPlan::new(checkpoint.spec(), &options(dtype, isa)).expect("a plan").weights;
        // 16 bytes and a scale of two for 32 elements, in place of two bytes each.
        let saved = weights(ComputeDtype::Bf16) - weights(ComputeDtype::Auto);
        assert_eq!(saved, elements / 32 * (64 - 18));
    }
}

fn options(dtype: ComputeDtype, isa: Isa) -> CpuOptions {
    CpuOptions {
        dtype,
        isa: Some(isa),
        threads: Some(1),
        blocks: 33,
        max_tokens_per_step: 64,
        max_rows: 4,
        ..CpuOptions::default()
    }
}

/// Runs all cases; panics where an error exceeds `tolerance` or a clear token differs.
fn score(checkpoint: &Checkpoint, golden: &Golden, options: &CpuOptions, tolerance: f32) -> Score {
    let mut executor = CpuExecutor::load(checkpoint, options, &mut |_| ()).expect("the model loads");
    let mut score = Score::default();
    let plan = executor.plan();
    let name = format!("{}, {}, {}", checkpoint.source(), plan.weight_formats, executor.isa());
    for case in &golden.cases {
        let mut compare = |logits: &[f32], expected: &[f32], place: &str| {
            let error = distance(logits, expected) / range(expected);
            // Written so that NaN fails.
            let within = error <= tolerance;
            assert!(within, "{name}, {place}: error {error:e}, allowed {tolerance:e}");
            score.error = score.error.max(error);
        };
        for (&position, expected) in case.positions.iter().zip(&case.f32.logits) {
            let logits = prefill(&mut executor, &case.prompt[..=position as usize]);
            compare(&logits, expected, &format!("position {position}"));
        }
        // The reference's own tokens are fed, so that each choice is made in the context that it knows.
        let greedy = &case.f32.greedy;
        let tokens = [&case.prompt, &greedy.tokens[..]].concat();
        let sequence = Sequence::scattered(&tokens, &executor, 3, 1);
        let steps = feed(&mut executor, &sequence, 0, 1);
        for (index, (&token, &margin)) in greedy.tokens.iter().zip(&greedy.margins).enumerate() {
            let logits = &steps[case.prompt.len() - 1 + index];
            if index + 1 == greedy.tokens.len() {
                compare(logits, &greedy.last_logits, "the last token");
            }
            if margin > 2.0 * tolerance * range(&greedy.last_logits) {
                assert_eq!(argmax(logits), token, "{name}: token {index}");
                score.equal += 1;
            } else {
                score.open += 1;
            }
        }
    }
    score
}

/// Logits after `tokens`, computed in one chunk, in chunks of 7 and token by token, over different blocks: all the
/// same to the bit.
fn prefill(executor: &mut CpuExecutor, tokens: &[u32]) -> Vec<f32> {
    let mut ways = [tokens.len() as u32, 7, 1].into_iter().zip([1, 3, 5]).map(|(chunk, stride)| {
        let sequence = Sequence::scattered(tokens, executor, chunk, stride);
        feed(executor, &sequence, 0, chunk).pop().expect("a last chunk")
    });
    let whole = ways.next().expect("a first way");
    assert!(ways.all(|other| other == whole), "chunks change the logits");
    whole
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // `max` would drop a NaN; a sum of one keeps it.
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |worst, x| if x <= worst { worst } else { x })
}

fn range(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
        - logits.iter().copied().fold(f32::INFINITY, f32::min)
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden"))
}

/// Index of the largest logit, the lowest among equals.
fn argmax(logits: &[f32]) -> u32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&x| x == max).expect("a maximum") as u32
}
