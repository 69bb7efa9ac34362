//! The forward pass against the answers of `transformers` for small models of every architecture; the files are
//! described in `tests/golden/README.md`. Run with `--nocapture` for the table.

mod common {
    pub(crate) mod feed;
    mod gguf;
    pub(crate) mod golden;
    pub(crate) mod quantized;
    pub(crate) mod rows;
}

use common::golden::{Case, Golden, distance, range, root, score};
use pagoda_cpu::{ComputeDtype, CpuOptions, MemoryPlan};
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

/// Largest distance between the reference's own two formats where both saw the same tokens.
fn reference_error(case: &Case) -> f32 {
    let bf16 = case.bf16.as_ref().expect("the answers of folders have both");
    let pairs = case.f32.logits.iter().zip(&bf16.logits);
    pairs.map(|(exact, narrow)| distance(exact, narrow) / range(exact)).fold(0.0, f32::max)
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
    text.push_str(QUANTISED);
    for folder in common::quantized::folders() {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let checkpoint = Checkpoint::open(&ModelSource::Folder(folder)).expect("the model");
        let (spec, formats) = (checkpoint.spec(), common::quantized::formats(checkpoint.spec()).join("; "));
        let notes = [
            (spec.reordered, "columns sorted by activations"),
            (spec.activation_bits == Some(8), "activations of 8 bits"),
        ];
        let notes: Vec<&str> = notes.into_iter().filter_map(|(has, note)| has.then_some(note)).collect();
        let notes = if notes.is_empty() { "–".to_owned() } else { notes.join(", ") };
        writeln!(text, "| `{name}` | `{}` | {formats} | {notes} |", spec.architecture).expect("a string");
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

const QUANTISED: &str = "
## Quantised folders

Quantised safetensors of any of these architectures are kept in their size, and give the answers of the weights that their
codes stand for. `quantization_config` of config.json (or `quantize_config.json`, `quant_config.json`) says what they are:

| `quant_method` | read | refused, by name |
|---|---|---|
| `gptq` | 4 and 8 bits, groups of a multiple of 32 or whole rows, symmetric or not, `gptq` and `gptq_v2`, `desc_act`, `dynamic` rules, a quantised head | 2 and 3 bits, Marlin |
| `awq` | `gemm`, 4 bits with zero points, groups as above | `gemv`, Marlin, ExLlama, no zero points |
| `compressed-tensors` | `pack-quantized` and `int-quantized` of 4 and 8 bits, `naive-quantized`, `float-quantized` e4m3; scales of a group, a channel, a tensor, of floats a block; zero points; `actorder`; several groups, `ignore` | sparse, Marlin, transformed, NVFP4 and MXFP4 |
| `fp8` | e4m3; `weight_block_size` with a multiple of 128 inputs, or a scale for each matrix | e5m2, `ue8m0` scales |
| others | `mxfp4` of gpt-oss | bitsandbytes, hqq, aqlm, torchao and the rest: the same model in one of the above or in GGUF, or the original with `--quantize` |

Activations of 8-bit integers, static or dynamic, are rounded to 8 bits by the range of each row and group. Those of floats of 8
bits are not rounded, and stored ranges of keys and values are left out: these are kept as `--kv-cache-dtype` says.

| folder | architecture | stored | what is particular |
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
    compare_all(folders, compare);
}

/// Compares each folder; after one that fails the others are compared all the same.
fn compare_all(folders: Vec<PathBuf>, compare: fn(&Path)) {
    let fails = |folder: &PathBuf| std::panic::catch_unwind(|| compare(folder)).is_err();
    let failed: Vec<PathBuf> = folders.into_iter().filter(fails).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// Compares one model on every instruction set.
fn compare(folder: &Path) {
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    let golden = std::fs::read_to_string(folder.join("golden.json")).expect("golden.json");
    let golden: Golden = serde_json::from_str(&golden).expect("golden.json as described");
    let reference = golden.cases.iter().map(reference_error).fold(0.0, f32::max);
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
    let reference = golden.cases.iter().map(reference_error).fold(0.0, f32::max);
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
