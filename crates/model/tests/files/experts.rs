//! Mixtures of experts: names and layouts of the families, and what is refused.

use crate::tiny::{Folder, Tiny, refused};
use pagoda_model::{BlockFormat, Dtype, ExpertRole, ExpertWeights, LayerRole, Mlp, Role, TensorData};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A Mixtral of three experts with the attention of the tiny Llama.
fn mixtral() -> Tiny {
    let mut tiny = Tiny::llama()
        .set("architectures", json!(["MixtralForCausalLM"]))
        .set("model_type", json!("mixtral"))
        .set("num_local_experts", json!(3))
        .set("num_experts_per_tok", json!(2));
    for layer in 0..2 {
        for name in ["gate", "up", "down"] {
            tiny.remove(&format!("model.layers.{layer}.mlp.{name}_proj.weight"));
        }
        let name = format!("model.layers.{layer}.block_sparse_moe");
        tiny.add(&format!("{name}.gate.weight"), &[3, 8]);
        for expert in 0..3 {
            for (matrix, shape) in [("w1", [12, 8]), ("w2", [8, 12]), ("w3", [12, 8])] {
                tiny.add(&format!("{name}.experts.{expert}.{matrix}.weight"), &shape);
            }
        }
    }
    tiny
}

fn at(layer: u32, expert: u32, role: ExpertRole) -> Role {
    Role::Layer(layer, LayerRole::Expert(expert, role))
}

#[test]
fn every_expert_has_its_matrices_and_no_layer_another_mlp() {
    let model = mixtral().write().open().expect("the model is good");
    let experts = model.spec().layers[1].mlp.experts().expect("experts");
    assert_eq!((experts.count, experts.per_token, experts.intermediate), (3, 2, 12));
    assert_eq!(experts.weights, ExpertWeights::Renormalised);
    let down = model.tensor(at(1, 2, ExpertRole::Down));
    assert_eq!(
        (down.name, down.shape),
        ("model.layers.1.block_sparse_moe.experts.2.w2.weight", &[8, 12][..])
    );
    assert_eq!(
        model.tensor(at(0, 0, ExpertRole::Up)).name,
        "model.layers.0.block_sparse_moe.experts.0.w3.weight"
    );
    let roles: Vec<Role> = Role::all(model.spec()).collect();
    assert_eq!(roles.iter().filter(|role| matches!(role, Role::Layer(0, LayerRole::Expert(..)))).count(), 9);
    assert!(!roles.contains(&Role::Layer(0, LayerRole::Gate)));
}

#[test]
fn numbers_of_experts_that_cannot_be_are_refused_by_name() {
    let with = |field: &str, value: Value| mixtral().set(field, value).write();
    refused(
        &with("num_experts_per_tok", json!(4)),
        &["config.json", "num_experts_per_tok", "only 3 experts"],
    );
    refused(&with("num_experts_per_tok", json!(0)), &["num_experts_per_tok", "0"]);
    refused(&with("num_local_experts", json!(5000)), &["num_local_experts", "5000"]);
    refused(&with("num_local_experts", json!(4)), &["block_sparse_moe"]);
    refused(&with("num_local_experts", json!(2)), &["experts"]);
    refused(&mixtral().unset("num_local_experts").write(), &["num_experts", "missing"]);
    let mut lacking = mixtral();
    lacking.remove("model.layers.1.block_sparse_moe.experts.1.w3.weight");
    refused(&lacking.write(), &["model.layers.1.block_sparse_moe.experts.1.w3.weight"]);
    let qwen = mixtral()
        .set("architectures", json!(["Qwen3MoeForCausalLM"]))
        .set("model_type", json!("qwen3_moe"))
        .set("moe_intermediate_size", json!(12));
    refused(&qwen.clone().set("mlp_only_layers", json!([2])).write(), &["mlp_only_layers", "[2]", "0 to 1"]);
    refused(&qwen.set("decoder_sparse_step", json!(0)).write(), &["decoder_sparse_step"]);
    let olmoe = mixtral().set("architectures", json!(["OlmoeForCausalLM"])).set("model_type", json!("olmoe"));
    refused(&olmoe.set("clip_qkv", json!(8.0)).write(), &["clip_qkv"]);
}

#[test]
fn a_model_without_experts_is_not_read_with_them() {
    refused(
        &Tiny::llama().set("num_local_experts", json!(8)).write(),
        &["num_local_experts", "8", "architecture"],
    );
}

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// The reference model of gpt-oss in MXFP4, with every `from` in its header made `to`, of equal length.
fn spoiled(from: &str, to: &str) -> Folder {
    assert_eq!(from.len(), to.len());
    let folder = Folder::new();
    let read = |name: &str| fs::read(golden("gpt-oss-mxfp4").join(name)).expect("the reference model");
    folder.write("config.json", read("config.json"));
    let mut bytes = read("model.safetensors");
    let (length, _) = bytes.split_first_chunk().expect("the length of the header");
    let end = 8 + u64::from_le_bytes(*length) as usize;
    let header = String::from_utf8_lossy(&bytes[8..end]).replace(from, to);
    bytes[8..end].copy_from_slice(header.as_bytes());
    folder.write("model.safetensors", bytes);
    folder
}

#[test]
fn experts_in_four_bits_are_read_in_their_size_or_as_floats() {
    let model = spoiled("U8", "U8").open().expect("the model is good");
    let spec = model.spec();
    assert!(spec.attn_sinks && spec.dtype == Dtype::Bf16);
    let Mlp::Experts(experts) = spec.layers[0].mlp else { panic!("experts") };
    assert!(experts.bias && experts.router_bias);
    let up = model.tensor(at(0, 3, ExpertRole::Up));
    assert_eq!(up.name, "model.layers.0.mlp.experts.gate_up_proj_blocks");
    assert_eq!(up.byte_len(), up.elements() / 32 * 17);
    let TensorData::Blocks(BlockFormat::Mxfp4, blocks) = up.data() else { panic!("blocks") };
    assert_eq!(blocks.len(), up.byte_len());
    assert_eq!(spec.stored_as(at(0, 3, ExpertRole::Up)), Dtype::Blocks(BlockFormat::Mxfp4));
    let TensorData::Bf16(elements) = up.floats() else { panic!("bf16") };
    assert_eq!(elements.len(), up.elements());
    assert_eq!(model.tensor(Role::Layer(1, LayerRole::Sinks)).shape, [u64::from(spec.heads)]);
    assert_eq!(model.tensor(at(1, 0, ExpertRole::UpBias)).shape, [u64::from(experts.intermediate)]);
}

#[test]
fn parts_of_four_bit_experts_that_lack_or_contradict_are_refused() {
    refused(&spoiled("\"U8\"", "\"I8\""), &["gate_up_proj_blocks", "I8", "U8"]);
    refused(&spoiled("_scales", "_scalez"), &["experts"]);
    refused(&spoiled("[4,128,3,16]", "[4,128,16,3]"), &["gate_up_proj_blocks", "[4, 128, 3, 16]"]);
}
