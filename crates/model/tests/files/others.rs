//! Quantised folders as others write them: what is read of the reference models, and what is refused by name.

use crate::tiny::{Folder, Stored, Tiny, flip_bits, refused};
use pagoda_model::{Dtype, LayerRole, QuantScheme, Role, ScaleType, TensorData};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const FILE: &str = "model.safetensors";
const Q: &str = "model.layers.0.self_attn.q_proj";

/// A reference model, its files in memory.
fn fixture(name: &str) -> Tiny {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/quantized").join(name);
    let config = serde_json::from_slice(&fs::read(folder.join("config.json")).expect("the fixture has it"))
        .expect("it is JSON");
    let file = fs::read(folder.join(FILE)).expect("the fixture is good");
    let (length, rest) = file.split_first_chunk().expect("the fixture is good");
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header: Value = serde_json::from_slice(header).expect("the fixture is good");
    let entries =
        header.as_object().expect("the fixture is good").iter().filter(|(name, _)| *name != "__metadata__");
    let tensors = entries.map(|(name, entry)| {
        let numbers = |field: &str| -> Vec<u64> {
            entry[field]
                .as_array()
                .expect("the fixture is good")
                .iter()
                .map(|n| n.as_u64().expect("the fixture is good"))
                .collect()
        };
        let offsets = numbers("data_offsets");
        Stored {
            name: name.clone(),
            dtype: entry["dtype"].as_str().expect("the fixture is good").to_owned(),
            shape: numbers("shape"),
            bytes: data[offsets[0] as usize..offsets[1] as usize].to_vec(),
        }
    });
    Tiny { config, tensors: tensors.collect() }
}

/// The model with `change` made to a tensor.
fn spoilt(name: &str, tensor: &str, change: impl Fn(&mut Stored)) -> Folder {
    let mut tiny = fixture(name);
    change(tiny.tensor(tensor));
    tiny.write()
}

fn without(name: &str, tensor: &str) -> Folder {
    let mut tiny = fixture(name);
    tiny.remove(tensor);
    tiny.write()
}

/// The model with `value` in a field of its quantisation.
fn saying(name: &str, field: &str, value: Value) -> Folder {
    let mut tiny = fixture(name);
    tiny.config["quantization_config"][field] = value;
    tiny.write()
}

#[test]
fn matrices_keep_their_format() {
    let scheme =
        |bits, group, zero_point, scales| Dtype::Quantized(QuantScheme { bits, group, zero_point, scales });
    for (name, dtype) in [
        ("gptq", scheme(4, 32, false, ScaleType::F16)),
        ("gptq-act-order", scheme(4, 32, true, ScaleType::F16)),
        ("gptq-v2-head", scheme(8, 128, true, ScaleType::F16)),
        ("awq", scheme(4, 64, true, ScaleType::F16)),
        ("compressed-packed", scheme(4, 32, true, ScaleType::Bf16)),
        ("compressed-int8", scheme(8, 128, false, ScaleType::F32)),
        ("compressed-fp8", Dtype::Fp8),
        ("fp8-blocks", Dtype::Fp8),
    ] {
        let model = fixture(name).write().open().unwrap();
        let tensor = model.tensor(Role::Layer(0, LayerRole::Q));
        assert_eq!((tensor.dtype, tensor.elements()), (dtype, tensor.to_f32_vec().len()), "{name}");
        match tensor.data() {
            TensorData::Quantized(data) => {
                assert_eq!(data.order.is_some(), model.spec().reordered, "{name}");
            }
            TensorData::Fp8(data) => assert_eq!(data.codes.len(), tensor.elements(), "{name}"),
            _ => panic!("{name} is quantised"),
        }
    }
}

#[test]
fn a_file_of_its_own_may_say_how_a_folder_is_quantised() {
    let mut tiny = fixture("gptq");
    let said = tiny.config["quantization_config"].take();
    let folder = tiny.unset("quantization_config").write();
    refused(&folder, &["q_proj.weight", "is missing"]);
    folder.write("quantize_config.json", said.to_string());
    assert!(folder.open().is_ok());
    folder.write("quantize_config.json", "[]");
    refused(&folder, &["quantize_config.json", "object"]);
}

#[test]
fn parts_that_lack_or_contradict_are_refused_with_file_tensor_and_value() {
    let part = |part: &str| format!("{Q}.{part}");
    for (name, missing) in [
        ("gptq", "qzeros"),
        ("gptq", "scales"),
        ("gptq-act-order", "g_idx"),
        ("awq", "qzeros"),
        ("compressed-packed", "weight_zero_point"),
        ("compressed-packed", "weight_scale"),
        ("fp8-tensor", "weight_scale"),
        ("fp8-blocks", "weight_scale_inv"),
    ] {
        refused(&without(name, &part(missing)), &[FILE, Q, missing, "download the folder again"]);
    }
    for (name, tensor, wanted) in [
        ("gptq", "qweight", "[8, 96]"),
        ("gptq", "qzeros", "[2, 12]"),
        ("gptq", "scales", "[2, 96]"),
        ("awq", "qweight", "[64, 8]"),
        ("awq", "qzeros", "[1, 8]"),
        ("compressed-packed", "weight_packed", "[64, 8]"),
        ("compressed-packed", "weight_zero_point", "[8, 2]"),
        ("compressed-naive", "weight_zero_point", "[64, 1]"),
        ("compressed-fp8", "weight", "[64, 64]"),
        ("fp8-blocks", "weight_scale_inv", "[2, 2]"),
    ] {
        let turned =
            spoilt(name, &part(tensor), |tensor| tensor.shape = vec![1, 1, tensor.shape.iter().product()]);
        refused(&turned, &[FILE, tensor, wanted]);
        let other = spoilt(name, &part(tensor), |tensor| {
            let bytes = tensor.bytes.len() as u64 / tensor.shape.iter().product::<u64>();
            tensor.dtype = ["", "BOOL", "I16", "", "U32"][bytes as usize].into();
        });
        refused(&other, &[FILE]);
    }
}

#[test]
fn numbers_that_make_no_sense_are_refused_with_their_place() {
    let nan = |size: usize| move |tensor: &mut Stored| tensor.bytes[5 * size..6 * size].fill(0xff);
    for (name, tensor, size, place) in [
        ("gptq", "scales", 2, "row 0, column 5"),
        ("awq", "scales", 2, "row 0, column 5"),
        ("compressed-packed", "weight_scale", 2, "row 2, column 1"),
        ("compressed-int8", "weight_scale", 4, "row 5, column 0"),
        ("compressed-fp8", "weight_scale", 2, "row 5, column 0"),
    ] {
        refused(&spoilt(name, &format!("{Q}.{tensor}"), nan(size)), &[FILE, Q, tensor, place, "not finite"]);
    }
    let scale = |tensor: &mut Stored| tensor.bytes = f32::INFINITY.to_le_bytes().to_vec();
    refused(&spoilt("fp8-tensor", &format!("{Q}.weight_scale"), scale), &[FILE, Q, "not finite"]);
    let groups = |values: [i32; 2]| {
        move |tensor: &mut Stored| {
            for (at, value) in values.into_iter().enumerate() {
                tensor.bytes[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
    };
    let name = format!("{Q}.g_idx");
    for value in [3, -1, i32::MAX, i32::MIN] {
        let folder = spoilt("gptq-act-order", &name, groups([value, 0]));
        refused(&folder, &[FILE, "g_idx", "input 0", &value.to_string(), "3 groups"]);
    }
    // Both in one group: it has too many, unless they were there before.
    let all = |tensor: &mut Stored| tensor.bytes.as_chunks_mut::<4>().0[..40].fill(2i32.to_le_bytes());
    refused(&spoilt("gptq-act-order", &name, all), &[FILE, "g_idx", "32 inputs"]);
    let zeros = |tensor: &mut Stored| tensor.bytes.fill(0);
    let model = spoilt("gptq-act-order", &name, zeros).open().unwrap();
    let TensorData::Quantized(data) = model.tensor(Role::Layer(0, LayerRole::Q)).data() else {
        panic!("codes")
    };
    assert_eq!(data.order, None, "zeros mean that inputs are in order");
}

#[test]
fn settings_that_are_not_read_are_refused_by_name() {
    for bits in [2, 3, 5] {
        refused(&saying("gptq", "bits", json!(bits)), &["bits", &bits.to_string(), "4 and 8 bits", "GGUF"]);
        refused(&saying("awq", "bits", json!(bits)), &["bits", &bits.to_string(), "GPTQ"]);
    }
    for group in [0, 16, 48, -2] {
        refused(&saying("gptq", "group_size", json!(group)), &["group_size", &group.to_string()]);
    }
    // One that the scales are not in.
    refused(&saying("gptq", "group_size", json!(64)), &["scales", "[2, 96]", "[1, 96]"]);
    refused(
        &saying("gptq", "checkpoint_format", json!("marlin")),
        &["checkpoint_format", "marlin", "gptq_v2"],
    );
    refused(&saying("gptq", "is_marlin_format", json!(true)), &["is_marlin_format"]);
    let dynamic = |rules: Value| saying("gptq", "dynamic", rules);
    refused(&dynamic(json!({"+:.*(q": {"bits": 8}})), &["dynamic", "leaves a group open"]);
    refused(&dynamic(json!({"-:.*q_proj": {}})), &[Q, "dynamic", "leaves it out"]);
    refused(&dynamic(json!({".*q_proj": {"bits": 3}})), &["bits", "3"]);
    refused(&dynamic(json!({".*q_proj": {"bits": 8}})), &[Q, "[8, 96]", "[16, 96]"]);
    for version in ["gemv", "marlin", "exllama"] {
        refused(&saying("awq", "version", json!(version)), &["version", version, "gemm", "GPTQ"]);
    }
    refused(&saying("awq", "zero_point", json!(false)), &["zero_point", "GPTQ"]);
    refused(&saying("fp8-blocks", "fmt", json!("e5m2")), &["fmt", "e5m2", "e4m3"]);
    refused(
        &saying("fp8-blocks", "weight_block_size", json!([128, 64])),
        &["weight_block_size", "64", "128"],
    );
    refused(&saying("fp8-blocks", "weight_block_size", json!([128])), &["weight_block_size"]);
    refused(&saying("fp8-blocks", "scale_fmt", json!("ue8m0")), &["scale_fmt", "ue8m0"]);
    let codes = |tensor: &mut Stored| tensor.dtype = "F8_E5M2".into();
    refused(&spoilt("fp8-tensor", &format!("{Q}.weight"), codes), &[FILE, Q, "F8_E5M2"]);
}

#[test]
fn biases_beside_quantised_matrices_are_left_out_only_where_they_are_zero() {
    let bias = "model.layers.0.mlp.up_proj.bias";
    assert!(fixture("gptq").tensors.iter().any(|tensor| tensor.name == bias));
    refused(&spoilt("gptq", bias, |tensor| tensor.bytes[7] = 1), &[FILE, bias]);
}

#[test]
fn flipped_bits_never_panic() {
    for name in
        ["gptq-act-order", "gptq-fused-rules", "awq", "compressed-packed", "compressed-naive", "fp8-blocks"]
    {
        let refused = flip_bits(&fixture(name), 400);
        assert!(refused > 100, "{name}: {refused} refused");
    }
}
