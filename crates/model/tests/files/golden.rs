//! The reference models: all of them open, both styles of config.json mean the same, and the rotary
//! frequencies are those of the reference implementation.

use crate::tiny::Folder;
use pagoda_model::{AttentionSpan, Checkpoint, Dtype, ModelSource, QkNorm, Role, RopeScaling};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn folder(name: &str) -> PathBuf {
    root().join(name)
}

/// The folders of safetensors models.
fn models() -> Vec<String> {
    let folders = fs::read_dir(root()).expect("tests/golden").flatten().map(|entry| entry.path());
    let folders =
        folders.filter(|path| path.join("golden.json").is_file() && path.join("config.json").is_file());
    let name = |path: PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<_> = folders.filter_map(name).collect();
    names.sort();
    assert!(names.len() >= 10, "{names:?}");
    names
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(&ModelSource::Folder(folder(name))).expect("the fixture is good")
}

#[test]
fn both_styles_of_config_give_the_same_spec() {
    for name in &models() {
        if !folder(name).join("config.other.json").is_file() {
            continue;
        }
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
    for name in &models() {
        let golden: Value =
            serde_json::from_slice(&fs::read(folder(name).join("golden.json")).unwrap()).unwrap();
        let expected: Vec<&Value> = match &golden["inv_freq"] {
            Value::Null => Vec::new(),
            Value::Object(kinds) => vec![&kinds["full_attention"], &kinds["sliding_attention"]],
            one => vec![one],
        };
        let model = open(name);
        let spec = model.spec();
        assert_eq!(spec.ropes.len(), expected.len(), "{name}");
        for (rope, expected) in spec.ropes.iter().zip(expected) {
            let (found, expected) = (rope.inv_freq(spec.max_context), expected.as_array().unwrap());
            assert_eq!(found.len(), expected.len(), "{name}");
            for (pair, (found, expected)) in found.iter().zip(expected).enumerate() {
                let expected = expected.as_f64().unwrap();
                let error = (f64::from(*found) - expected).abs() / expected;
                // Three units in the last place: the reference rounds its powers in f32.
                assert!(error <= 3.6e-7, "{name} pair {pair}: {found} against {expected}");
            }
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
    assert_eq!((&spec.ropes[0].scaling, spec.ropes[0].theta, spec.dtype), (&scaling, 500_000.0, Dtype::Bf16));
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
    assert!(qwen3.spec().qk_norm == Some(QkNorm::Shared) && !qwen3.spec().qkv_bias);
    assert_eq!(qwen3.tensor(Role::Head).shape, [173, 56]);
}

#[test]
fn headers_are_read_as_the_format_s_own_crate_reads_them() {
    for name in &models() {
        let model = open(name);
        for (role, tensor) in model.tensors() {
            let bytes = fs::read(folder(name).join(tensor.file)).unwrap();
            let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let theirs = theirs.tensor(tensor.name).unwrap();
            // What shares its tensor with others is a part of it; the logits tell whether the right one.
            if tensor.name == model.spec().naming.name(role) && !tensor.name.starts_with("transformer.h") {
                assert_eq!(theirs.data(), &*tensor.bytes(), "{name} {}", tensor.name);
                assert!(theirs.shape().iter().map(|n| *n as u64).eq(tensor.shape.iter().copied()));
            }
        }
    }
}
