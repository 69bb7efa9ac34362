//! The reference models: all of them open, both styles of config.json mean the same, and the rotary
//! frequencies are those of the reference implementation.

use crate::tiny::Folder;
use pagoda_model::{AttentionSpan, Checkpoint, Dtype, ModelSource, Role, RopeScaling};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const MODELS: [&str; 10] = [
    "llama-gqa3-untied",
    "llama-llama3-tied",
    "llama-bias-linear",
    "llama-mqa-sharded",
    "mistral-window",
    "mistral-full",
    "qwen2-tied",
    "qwen2-mixed-window",
    "qwen3-sharded",
    "qwen3-bias-tied",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&ModelSource::Folder(folder(name))).expect("the fixture is good")
}

#[test]
fn both_styles_of_config_give_the_same_spec() {
    for name in MODELS {
        let model = open(name);
        let other = Folder::new();
        for entry in fs::read_dir(folder(name)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "safetensors")
                || path.ends_with("model.safetensors.index.json")
            {
                fs::copy(&path, other.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        fs::copy(folder(name).join("config.other.json"), other.path().join("config.json")).unwrap();
        let other = other.open().unwrap();
        assert_eq!(model.spec(), other.spec(), "{name}");
        assert_eq!(model.stop_ids(), other.stop_ids(), "{name}");
    }
}

#[test]
fn rotary_frequencies_are_those_of_the_reference() {
    for name in MODELS {
        let golden: Value =
            serde_json::from_slice(&fs::read(folder(name).join("golden.json")).unwrap()).unwrap();
        let expected = golden["inv_freq"].as_array().unwrap();
        let found = open(name).spec().rope.inv_freq();
        assert_eq!(found.len(), expected.len(), "{name}");
        for (pair, (found, expected)) in found.iter().zip(expected).enumerate() {
            let expected = expected.as_f64().unwrap();
            let error = (f64::from(*found) - expected).abs() / expected;
            // Two units in the last place: the reference rounds its powers in f32.
            assert!(error <= 2.4e-7, "{name} pair {pair}: {found} against {expected}");
        }
    }
}

#[test]
fn specs_are_what_the_fixtures_were_made_with() {
    let llama3 = open("llama-llama3-tied");
    let spec = llama3.spec();
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position: 32,
    };
    assert_eq!((spec.rope.scaling, spec.rope.theta, spec.dtype), (scaling, 500_000.0, Dtype::Bf16));
    assert_eq!((spec.heads, spec.kv_heads, spec.head_dim, spec.hidden), (3, 1, 64, 72));
    assert_eq!(llama3.stop_ids(), [2, 5, 7]);
    let bias = open("llama-bias-linear");
    assert!(bias.spec().qkv_bias && bias.spec().o_bias && bias.spec().mlp_bias);
    assert_eq!(bias.spec().dtype, Dtype::F16);
    let spans = |name: &str| open(name).spec().layers.iter().map(|l| l.attention).collect::<Vec<_>>();
    let (full, window) = (AttentionSpan::Full, AttentionSpan::Window(5));
    assert_eq!(spans("mistral-window"), [AttentionSpan::Window(7); 2]);
    assert_eq!(spans("mistral-full"), [full; 2]);
    assert_eq!(spans("qwen2-mixed-window"), [full, full, window, window]);
    let qwen3 = open("qwen3-sharded");
    assert!(qwen3.spec().qk_norm && !qwen3.spec().qkv_bias);
    assert_eq!(qwen3.tensor(Role::Head).shape, [173, 56]);
}

#[test]
fn headers_are_read_as_the_format_s_own_crate_reads_them() {
    for name in MODELS {
        let model = open(name);
        for (_, tensor) in model.tensors() {
            let bytes = fs::read(folder(name).join(tensor.file)).unwrap();
            let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let theirs = theirs.tensor(tensor.name).unwrap();
            assert_eq!(theirs.data(), &*tensor.bytes(), "{name} {}", tensor.name);
            assert!(theirs.shape().iter().map(|n| *n as u64).eq(tensor.shape.iter().copied()));
        }
    }
}
