//! Quantised folders: what is read, and what is refused by name.

use crate::tiny::{Folder, Stored, Tiny, flip_bits, refused};
use half::bf16;
use pagoda_model::{
    Checkpoint, Dtype, LayerRole, QuantScheme, Role, ScaleData, ScaleType, TensorData, pack_zero_points,
};
use serde_json::{Value, json};

const FILE: &str = "model.safetensors";
const FOUR: QuantScheme = QuantScheme { bits: 4, group: 32, zero_point: false, scales: ScaleType::Bf16 };
const ASYMMETRIC: QuantScheme = QuantScheme { zero_point: true, ..FOUR };
const EIGHT: QuantScheme = QuantScheme { bits: 8, group: 128, ..FOUR };
const GATE: &str = "model.layers.0.mlp.gate_proj.weight";

/// Bits `value` of code `column` of `row`, different everywhere.
fn code(row: u64, column: u64, bits: u8) -> u8 {
    let mixed = row * 7 + column * 3 + row * column;
    (mixed % (1 << bits)) as u8
}

/// Replaces the matrix `name`, `[n, k]`, by its parts in `scheme`.
fn quantize(tiny: &mut Tiny, name: &str, scheme: QuantScheme) {
    let at = tiny.tensors.iter().position(|tensor| tensor.name == name).expect("the tiny model has it");
    let (n, k) = (tiny.tensors[at].shape[0], tiny.tensors[at].shape[1]);
    let groups = scheme.groups(k);
    let stored = |name: String, dtype: &str, shape: &[u64], bytes: Vec<u8>| Stored {
        name,
        dtype: dtype.into(),
        shape: shape.to_vec(),
        bytes,
    };
    let scale = |cell: u64| bf16::from_f32((1 + cell) as f32 / 64.0).to_le_bytes();
    let scales = (0..n * groups).flat_map(scale).collect();
    let mut parts = vec![stored(format!("{name}_scale"), "BF16", &[n, groups], scales)];
    if scheme.bits == 8 {
        let codes = (0..n).flat_map(|i| (0..k).map(move |j| code(i, j, 8) ^ 0x80)).collect();
        parts.push(stored(name.to_owned(), "I8", &[n, k], codes));
    } else {
        let word = |i: u64, word: u64| {
            let codes = (0..8).filter(|j| word * 8 + j < k);
            codes.map(|j| u32::from(code(i, word * 8 + j, 4)) << (4 * j)).sum::<u32>().to_le_bytes()
        };
        let words = k.div_ceil(8);
        let codes = (0..n).flat_map(|i| (0..words).flat_map(move |w| word(i, w))).collect();
        parts.push(stored(format!("{name}_packed"), "I32", &[n, words], codes));
        let shape = [n, k].into_iter().flat_map(u64::to_le_bytes).collect();
        parts.push(stored(format!("{name}_shape"), "I64", &[2], shape));
    }
    if scheme.zero_point {
        let zeros: Vec<u8> = (0..n * groups).map(|cell| (cell % 16) as u8).collect();
        let packed = pack_zero_points(&zeros, groups as usize);
        parts.push(stored(format!("{name}_zero_point"), "I32", &[n.div_ceil(8), groups], packed));
    }
    tiny.tensors.splice(at..=at, parts);
}

fn weights(scheme: QuantScheme) -> Value {
    json!({
        "num_bits": scheme.bits, "type": "int", "symmetric": !scheme.zero_point, "strategy": "group",
        "group_size": scheme.group, "dynamic": false
    })
}

fn group(scheme: QuantScheme, targets: &[&str]) -> Value {
    json!({ "targets": targets, "weights": weights(scheme), "input_activations": null, "output_activations": null })
}

fn config(groups: Value) -> Value {
    json!({ "quant_method": "compressed-tensors", "config_groups": groups, "ignore": [] })
}

/// The tiny model with layers in `layers`, embedding and head in 8 bits.
fn quantized(layers: QuantScheme) -> Tiny {
    let groups =
        json!({ "group_0": group(layers, &["Linear"]), "group_1": group(EIGHT, &["Embedding", "lm_head"]) });
    let mut tiny = Tiny::llama().set("quantization_config", config(groups));
    let matrices: Vec<String> =
        tiny.tensors.iter().filter(|t| t.shape.len() == 2).map(|t| t.name.clone()).collect();
    for name in matrices {
        quantize(&mut tiny, &name, if name.starts_with("model.layers") { layers } else { EIGHT });
    }
    tiny
}

fn tensor_data(model: &Checkpoint, role: Role) -> Vec<f32> {
    model.tensor(role).to_f32_vec()
}

#[test]
fn codes_scales_and_zero_points_are_read() {
    for scheme in [FOUR, ASYMMETRIC, EIGHT] {
        let model = quantized(scheme).write().open().unwrap();
        assert_eq!(model.spec().dtype, Dtype::Quantized(scheme));
        assert_eq!(model.spec().vocabulary_dtype, Dtype::Quantized(EIGHT));
        let role = Role::Layer(0, LayerRole::Down);
        let tensor = model.tensor(role);
        let (n, k) = (tensor.shape[0], tensor.shape[1]);
        let expected: Vec<f32> = (0..n * k)
            .map(|i| {
                let (row, column) = (i / k, i % k);
                let zero = match (scheme.bits, scheme.zero_point) {
                    (8, _) => 128,
                    (_, false) => 8,
                    _ => row % 16,
                };
                (f32::from(code(row, column, scheme.bits)) - zero as f32) * (1 + row) as f32 / 64.0
            })
            .collect();
        assert_eq!(tensor_data(&model, role), expected, "{scheme}");
        let TensorData::Quantized(data) = tensor.data() else { panic!("{scheme} is quantised") };
        let ScaleData::Bf16(scales) = &data.scales else { panic!("{:?}", data.scales) };
        assert_eq!((data.scheme, scales.len() as u64), (scheme, n));
        let codes = if scheme.bits == 8 { n * k } else { n * k.div_ceil(8) * 4 };
        let zeros = if scheme.zero_point { n.div_ceil(8) * 4 } else { 0 };
        assert_eq!(tensor.byte_len() as u64, codes + 2 * n + zeros, "{scheme}");
    }
}

#[test]
fn scales_that_do_not_match_are_refused_with_file_tensor_and_shapes() {
    let mut tiny = quantized(FOUR);
    let scale = tiny.tensor(&format!("{GATE}_scale"));
    (scale.shape, scale.bytes) = (vec![11, 1], vec![0; 22]);
    refused(&tiny.write(), &[FILE, "gate_proj.weight_scale", "[11, 1]", "[12, 1]", "[12, 8]"]);
    let groups = json!({
        "group_0": group(QuantScheme { group: 128, ..FOUR }, &["Linear"]),
        "group_1": group(EIGHT, &["Embedding", "lm_head"])
    });
    let mut wide = quantized(FOUR);
    for name in [format!("{GATE}_scale"), format!("{GATE}_packed")] {
        wide.tensor(&name).shape[1] *= 2;
        let twice = wide.tensor(&name).bytes.repeat(2);
        wide.tensor(&name).bytes = twice;
    }
    refused(
        &wide.set("quantization_config", config(groups)).write(),
        &[FILE, "gate_proj.weight_packed", "[12, 2]"],
    );
}

#[test]
fn scales_that_are_no_numbers_are_refused_with_their_place() {
    for (dtype, bytes) in [
        ("BF16", bf16::NAN.to_le_bytes().to_vec()),
        ("F16", half::f16::INFINITY.to_le_bytes().to_vec()),
        ("F32", f32::NEG_INFINITY.to_le_bytes().to_vec()),
    ] {
        let mut tiny = quantized(EIGHT);
        let scale = tiny.tensor(&format!("{GATE}_scale"));
        let size = bytes.len();
        scale.dtype = dtype.into();
        scale.bytes = vec![0; 12 * size];
        assert!(tiny.write().open().is_ok(), "{dtype} scales are read");
        tiny.tensor(&format!("{GATE}_scale")).bytes[5 * size..6 * size].copy_from_slice(&bytes);
        refused(&tiny.write(), &[FILE, "gate_proj.weight_scale", "row 5, column 0", "not finite"]);
    }
}

#[test]
fn parts_that_lack_or_contradict_are_refused() {
    let without = |scheme, part: &str| {
        let mut tiny = quantized(scheme);
        tiny.remove(&format!("{GATE}{part}"));
        tiny.write()
    };
    refused(&without(FOUR, "_scale"), &[FILE, "gate_proj.weight_packed", "weight_scale is missing"]);
    refused(&without(FOUR, "_packed"), &["gate_proj.weight", "is missing"]);
    refused(&without(ASYMMETRIC, "_zero_point"), &[FILE, "weight_zero_point is missing"]);
    assert!(without(FOUR, "_shape").open().is_ok(), "the shape is known from config.json");
    let spoil = |scheme, part: &str, change: &dyn Fn(&mut Stored)| {
        let mut tiny = quantized(scheme);
        change(tiny.tensor(&format!("{GATE}{part}")));
        tiny.write()
    };
    let shape = spoil(FOUR, "_shape", &|part| part.bytes[8] = 9);
    refused(&shape, &[FILE, "weight_shape", "[12, 9]", "[12, 8]"]);
    let codes = spoil(FOUR, "_packed", &|part| part.dtype = "F32".into());
    refused(&codes, &[FILE, "weight_packed", "F32", "I32"]);
    let scales = spoil(EIGHT, "_scale", &|part| part.dtype = "I16".into());
    refused(&scales, &[FILE, "weight_scale", "I16", "BF16"]);
    let zeros = spoil(ASYMMETRIC, "_zero_point", &|part| part.shape = vec![1, 2]);
    refused(&zeros, &[FILE, "weight_zero_point"]);
    let mut extra = quantized(FOUR);
    let zeros = quantized(ASYMMETRIC).tensor(&format!("{GATE}_zero_point")).clone();
    extra.tensors.push(zeros);
    refused(&extra.write(), &[FILE, "weight_zero_point", "symmetric"]);
}

/// A folder whose config says `change` of group 0.
fn with(change: &dyn Fn(&mut Value)) -> Folder {
    let mut tiny = quantized(FOUR);
    change(&mut tiny.config["quantization_config"]);
    tiny.write()
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let weights = |field: &'static str, value: Value| {
        with(&move |config| config["config_groups"]["group_0"]["weights"][field] = value.clone())
    };
    refused(&weights("num_bits", json!(3)), &["num_bits", "3", "4 and 8 bits"]);
    refused(&weights("type", json!("float")), &["num_bits", "float-quantized"]);
    refused(&weights("type", json!("posit")), &["type", "posit", "integers"]);
    refused(&weights("strategy", json!("tensor_group")), &["strategy", "tensor_group", "group"]);
    refused(&weights("strategy", json!("tensor")), &["weight_scale", "[8, 1]", "one scale"]);
    refused(&weights("group_size", json!(48)), &["group_size", "48", "32"]);
    refused(&weights("group_size", Value::Null), &["group_size"]);
    let of_group = |field: &'static str, value: Value| {
        with(&move |config| config["config_groups"]["group_0"][field] = value.clone())
    };
    refused(&of_group("targets", json!(["re:.*(q_proj"])), &["targets", "q_proj", "leaves a group open"]);
    refused(&of_group("targets", json!(["re:.*q_proj"])), &["k_proj.weight", "is missing"]);
    refused(&of_group("output_activations", json!({})), &["output_activations"]);
    refused(&of_group("input_activations", json!({"num_bits": 4, "type": "float"})), &["input_activations"]);
    refused(&of_group("weights", Value::Null), &["weights", "missing"]);
    let top = |field: &'static str, value: Value| with(&move |config| config[field] = value.clone());
    for method in ["bitsandbytes", "hqq", "aqlm", "torchao", "exl2"] {
        refused(
            &top("quant_method", json!(method)),
            &["quant_method", method, "compressed-tensors", "--quantize"],
        );
    }
    refused(&top("sparsity_config", json!({"format": "sparse-24-bitmask"})), &["sparsity_config", "dense"]);
    refused(&top("format", json!("marlin-24")), &["format", "marlin-24", "pack-quantized"]);
    refused(&top("ignore", json!(["model.layers.0.mlp.gate_proj"])), &["gate_proj.weight", "is missing"]);
    refused(&top("config_groups", Value::Null), &["config_groups", "missing"]);
    refused(&top("ignore", json!(["lm_head"])), &["lm_head.weight", "I8"]);
}

#[test]
fn a_head_may_have_another_format_than_the_embedding() {
    let groups = json!({ "group_0": group(EIGHT, &["Linear"]) });
    let mut tiny = Tiny::llama().set("quantization_config", config(groups));
    let matrices: Vec<String> =
        tiny.tensors.iter().filter(|t| t.shape.len() == 2).map(|t| t.name.clone()).collect();
    for name in matrices.iter().filter(|name| !name.contains("embed")) {
        quantize(&mut tiny, name, EIGHT);
    }
    let model = tiny.write().open().unwrap();
    assert_eq!(model.spec().stored_as(Role::Embedding), Dtype::Bf16);
    assert_eq!(model.spec().stored_as(Role::Head), Dtype::Quantized(EIGHT));
}

#[test]
fn activations_are_read_from_either_place() {
    let bits = |change: &dyn Fn(&mut Value)| {
        let mut tiny = quantized(FOUR);
        change(&mut tiny.config);
        tiny.write().open().unwrap().spec().activation_bits
    };
    assert_eq!(bits(&|_| ()), None);
    assert_eq!(bits(&|config| config["pagoda"] = json!({"activation_bits": 16})), Some(16));
    let dynamic =
        json!({"num_bits": 8, "type": "int", "strategy": "token", "dynamic": true, "symmetric": true});
    let set = move |config: &mut Value| {
        config["quantization_config"]["config_groups"]["group_0"]["input_activations"] = dynamic.clone();
    };
    assert_eq!(bits(&set), Some(8));
    let mut odd = quantized(FOUR);
    odd.config["pagoda"] = json!({"activation_bits": 12});
    refused(&odd.write(), &["activation_bits", "12"]);
}

#[test]
fn flipped_bits_in_a_quantised_folder_never_panic() {
    for scheme in [ASYMMETRIC, EIGHT] {
        let refused = flip_bits(&quantized(scheme), 3_000);
        assert!(refused > 1_000, "{refused} refused");
    }
}
