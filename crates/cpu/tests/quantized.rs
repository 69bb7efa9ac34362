//! Quantised models: the same whatever instruction set computes the linear layers, and whether weights are quantised
//! while loading or before.

mod common {
    pub(crate) mod feed;
    pub(crate) mod rows;
}

use common::feed::feed;
use common::rows::Sequence;
use pagoda_cpu::{
    CpuError, CpuExecutor, CpuOptions, KvDtype, MemoryPlan, QuantizeError, WeightFormats, quantize_folder,
};
use pagoda_kernels::{Isa, QuantFormat};
use pagoda_model::{Checkpoint, ModelSource, Role, TensorData};
use std::path::{Path, PathBuf};

const FORMATS: [&str; 6] = ["int8", "int8-g32", "int4", "int4-g32-asym", "w8a8", "w4a8"];

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn open(path: impl Into<PathBuf>) -> Checkpoint {
    Checkpoint::open(&ModelSource::Folder(path.into())).expect("the model")
}

fn format(name: &str) -> QuantFormat {
    name.parse().expect("a format")
}

fn options(quantize: Option<QuantFormat>) -> CpuOptions {
    CpuOptions {
        quantize,
        threads: Some(2),
        blocks: 33,
        max_tokens_per_step: 64,
        max_rows: 4,
        ..CpuOptions::default()
    }
}

/// Logits after every token of a prompt.
fn logits(checkpoint: &Checkpoint, options: &CpuOptions) -> Vec<Vec<f32>> {
    let mut executor = CpuExecutor::load(checkpoint, options, &mut |_| ()).expect("the model loads");
    let vocab = checkpoint.spec().vocab_size;
    let tokens: Vec<u32> = (0..40u32).map(|place| (place * place * 13 + 7 * place + 3) % vocab).collect();
    let sequence = Sequence::scattered(&tokens, &executor, 3, 1);
    feed(&mut executor, &sequence, 0, 1)
}

/// A folder under the temporary one that is not there yet, and vanishes with the test.
struct Target(PathBuf);

impl Target {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pagoda-quantized-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_instruction_set_is_as_near_to_scalar_as_its_attention() {
    for model in ["tests/golden/llama-gqa3-untied", "tests/golden/qwen3-bias-tied"] {
        let checkpoint = open(repository(model));
        for name in FORMATS {
            // Keys and values in f32, which no instruction set multiplies as pairs of bf16.
            let of_isa = |isa| {
                let quantize = Some(format(name));
                logits(
                    &checkpoint,
                    &CpuOptions { isa: Some(isa), kv_dtype: Some(KvDtype::F32), ..options(quantize) },
                )
            };
            let want = of_isa(Isa::Scalar);
            for isa in Isa::available().filter(|isa| *isa != Isa::Scalar) {
                let mut worst = 0f32;
                for (got, want) in of_isa(isa).iter().zip(&want) {
                    let range = want.iter().copied().fold(f32::NEG_INFINITY, f32::max)
                        - want.iter().copied().fold(f32::INFINITY, f32::min);
                    let far = |(got, want): (&f32, &f32)| (got - want).abs() / range;
                    // A NaN is kept, and fails.
                    worst = got.iter().zip(want).map(far).fold(worst, |a, b| if b <= a { a } else { b });
                }
                println!("{model} {name} {isa}: {worst:.1e}");
                // Attention and norms differ in their last bits, which may move an activation to the next integer; with 8
                // bits of activations that is a visible step.
                let allowed = if name.starts_with('w') { 0.03 } else { 3e-4 };
                assert!(
                    worst <= allowed,
                    "{model}, {name}, {isa}: {worst:e} of the range, allowed {allowed:e}"
                );
            }
        }
    }
}

#[test]
fn a_quantised_folder_gives_the_bits_of_quantising_at_load() {
    // Some store several roles as one tensor, or transposed, and some have experts.
    let models = [
        "llama-gqa3-untied",
        "qwen2-tied",
        "gpt2",
        "phi3-partial",
        "falcon-groups",
        "mixtral-untied",
        "granite-moe-stacked",
    ]
    .map(|name| format!("tests/golden/{name}"));
    for model in models.iter().map(String::as_str).chain(["models/folktale"]) {
        let checkpoint = open(repository(model));
        for name in FORMATS {
            let target = Target::new(&format!("{}-{name}", model.replace('/', "-")));
            let mut last = 0.0;
            quantize_folder(&checkpoint, format(name), 2, &target.0, &mut |at| last = at.fraction())
                .expect("the folder is written");
            assert_eq!(last, 1.0, "{name}: progress ends at the end");
            let written = open(&target.0);
            let plan = MemoryPlan::new(written.spec(), &options(None)).expect("a plan");
            assert_eq!(plan.weight_formats, WeightFormats::quantized(format(name)), "{model}, {name}");
            assert!(written.stored_bytes() < checkpoint.stored_bytes());
            assert_eq!(
                logits(&written, &options(None)),
                logits(&checkpoint, &options(Some(format(name)))),
                "{model}, {name}"
            );
            let copied = |file| (checkpoint.file(file).expect("read"), written.file(file).expect("read"));
            for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
                let (from, to) = copied(file);
                assert_eq!(from, to, "{file}");
            }
        }
    }
}

#[test]
fn a_folder_that_is_not_empty_is_left_alone_and_a_failure_leaves_nothing() {
    let checkpoint = open(repository("tests/golden/qwen2-tied"));
    let target = Target::new("occupied");
    std::fs::create_dir_all(&target.0).expect("a folder");
    std::fs::write(target.0.join("precious"), "x").expect("a file");
    let quantize = |checkpoint: &Checkpoint, path: &Path| {
        quantize_folder(checkpoint, QuantFormat::INT8, 1, path, &mut |_| ())
    };
    let message = quantize(&checkpoint, &target.0).expect_err("not empty").to_string();
    assert!(message.contains("occupied") && message.contains("not empty"), "{message}");
    let message = quantize(&checkpoint, &target.0.join("precious")).expect_err("a file").to_string();
    assert!(message.contains("is a file"), "{message}");
    std::fs::remove_file(target.0.join("precious")).expect("removed");
    quantize(&checkpoint, &target.0).expect("an empty folder is filled");
    let again = Target::new("again");
    let written = open(&target.0);
    let error = quantize(&written, &again.0).expect_err("quantised already");
    assert!(error.to_string().contains("quantised already"), "{error}");
    assert!(!again.0.exists());
}

#[test]
fn a_weight_that_is_not_finite_is_named() {
    let from = repository("tests/golden/llama-gqa3-untied");
    let (copy, out) = (Target::new("nan"), Target::new("nan-out"));
    std::fs::create_dir_all(&copy.0).expect("a folder");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(from.join(file), copy.0.join(file)).expect("a copy");
    }
    let role = "model.layers.0.mlp.down_proj.weight";
    let path = copy.0.join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("the weights");
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let text: serde_json::Value = serde_json::from_slice(&bytes[8..header]).expect("a header");
    let start = header + text[role]["data_offsets"][0].as_u64().expect("a place") as usize;
    let width = text[role]["shape"][1].as_u64().expect("a shape") as usize;
    let size = if text[role]["dtype"] == "F32" { 4 } else { 2 };
    let place = start + (2 * width + 5) * size;
    bytes[place..place + size].fill(0xff);
    std::fs::write(&path, bytes).expect("written");
    let checkpoint = open(&copy.0);
    let error = quantize_folder(&checkpoint, QuantFormat::INT4, 1, &out.0, &mut |_| ()).expect_err("NaN");
    let message = error.to_string();
    assert!(matches!(error, QuantizeError::Tensor { .. }), "{message}");
    assert!(message.contains(role) && message.contains("row 2, column 5"), "{message}");
    assert!(!out.0.exists(), "nothing is left");
    let load = CpuExecutor::load(&checkpoint, &options(Some(QuantFormat::INT8)), &mut |_| ());
    let message = load.err().expect("NaN").to_string();
    assert!(message.contains(role) && message.contains("row 2, column 5"), "{message}");
}

#[test]
fn the_plan_is_kept_to_the_byte() {
    for model in ["llama-gqa3-untied", "qwen2-tied", "gpt2", "gemma3", "cohere", "olmo2"] {
        let checkpoint = open(repository(&format!("tests/golden/{model}")));
        for name in FORMATS {
            let options = options(Some(format(name)));
            let plan = MemoryPlan::new(checkpoint.spec(), &options).expect("a plan");
            let executor = CpuExecutor::load(&checkpoint, &options, &mut |_| ()).expect("loads");
            assert_eq!(executor.held_bytes()[0], plan.weights, "{model}, {name}");
        }
    }
}

#[test]
fn a_stored_format_can_change_its_activations_and_nothing_else() {
    let checkpoint = open(repository("tests/golden/qwen2-tied"));
    let target = Target::new("activations");
    quantize_folder(&checkpoint, format("int4"), 1, &target.0, &mut |_| ()).expect("written");
    let written = open(&target.0);
    assert!(matches!(written.tensor(Role::Embedding).data(), TensorData::Quantized(_)));
    let narrow = logits(&written, &options(Some(format("w4a8"))));
    assert_eq!(narrow, logits(&checkpoint, &options(Some(format("w4a8")))));
    let other = CpuExecutor::load(&written, &options(Some(format("int8"))), &mut |_| ());
    let error = other.err().expect("other bits");
    assert!(matches!(error, CpuError::Stored { .. }), "{error}");
}
