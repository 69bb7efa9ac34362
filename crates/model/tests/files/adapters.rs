//! Folders of adapters, good and bad, for the tiny model.

use crate::tiny::{Folder, Stored, Tiny, frame, header};
use pagoda_model::{Adapter, DecoderSpec, LayerRole, ModelError};
use serde_json::{Value, json};

/// The files of an adapter before they are written.
struct Files {
    config: Value,
    tensors: Vec<Stored>,
}

const LAYER_1: &str = "base_model.model.model.layers.1";

impl Files {
    /// Rank 2 on the queries and down of layer 1.
    fn new() -> Self {
        let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"],
            "bias": "none", "use_dora": false, "modules_to_save": null, "init_lora_weights": true});
        let mut files = Self { config, tensors: Vec::new() };
        files.add("self_attn.q_proj.lora_A.weight", &[2, 8]);
        files.add("self_attn.q_proj.lora_B.weight", &[8, 2]);
        files.add("mlp.down_proj.lora_A.weight", &[2, 12]);
        files.add("mlp.down_proj.lora_B.weight", &[8, 2]);
        files
    }

    fn set(mut self, field: &str, value: Value) -> Self {
        self.config[field] = value;
        self
    }

    fn add(&mut self, name: &str, shape: &[u64]) {
        let count = shape.iter().product::<u64>();
        let bytes = (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let (name, dtype) = (format!("{LAYER_1}.{name}"), "F32".into());
        self.tensors.push(Stored { name, dtype, shape: shape.to_vec(), bytes });
    }

    fn write(&self) -> Folder {
        let folder = Folder::new();
        folder.write("adapter_config.json", self.config.to_string());
        let data: Vec<u8> = self.tensors.iter().flat_map(|tensor| tensor.bytes.clone()).collect();
        folder.write(
            "adapter_model.safetensors",
            frame(&Value::Object(header(&self.tensors)).to_string(), &data),
        );
        folder
    }

    fn open(&self, spec: &DecoderSpec) -> Result<Adapter, ModelError> {
        Adapter::open(self.write().path(), spec)
    }
}

fn llama() -> DecoderSpec {
    Tiny::llama().write().open().expect("the tiny model").spec().clone()
}

#[track_caller]
fn refused(files: &Files, parts: &[&str]) {
    let message = files.open(&llama()).expect_err("the adapter must be refused").to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in the message: {message}");
    }
}

#[test]
fn matrices_and_scales_are_those_of_the_files() {
    let files = Files::new();
    let folder = files.write();
    let adapter = Adapter::open(folder.path(), &llama()).expect("a good adapter");
    let [down, q] = adapter.updates() else { panic!("{:?}", adapter.updates()) };
    assert_eq!((down.layer, down.role, down.inputs, down.outputs), (1, LayerRole::Down, 12, 8));
    assert_eq!((q.role, q.rank, q.scale, adapter.rank()), (LayerRole::Q, 2, 3.0, 2));
    assert_eq!(adapter.down(q), (0..16).map(|i| i as f32).collect::<Vec<_>>());
    assert_eq!(adapter.up(down)[14..], [14.0, 15.0]);
    adapter.check_unchanged().expect("nobody touched the file");
}

#[test]
fn patterns_and_the_root_of_the_rank_change_the_scale() {
    let scale = |files: &Files, module: usize| files.open(&llama()).expect("good").updates()[module].scale;
    let mut files = Files::new().set("use_rslora", json!(true)).set("alpha_pattern", json!({"q_proj": 1}));
    assert_eq!(scale(&files, 0), 6.0 / 2f32.sqrt());
    assert_eq!(scale(&files, 1), 1.0 / 2f32.sqrt());
    files.config["rank_pattern"] = json!({"model.layers.1.mlp.down_proj": 3});
    refused(&files, &["down_proj.lora_A", "[2, 12]", "[3, 12]"]);
    files.config["rank_pattern"] = json!({"^model.layers.1.mlp.down_proj": 2, "layers.0.mlp.down_proj": 3});
    assert_eq!(scale(&files, 0), 6.0 / 2f32.sqrt());
    files.config["alpha_pattern"] = json!({"proj": 5});
    assert_eq!(scale(&files, 1), 6.0 / 2f32.sqrt(), "only whole parts of names count");
    files.config["alpha_pattern"] = json!({"q_proj": 1, "self_attn.q_proj": 2});
    refused(&files, &["alpha_pattern", "q_proj", "self_attn.q_proj"]);
    files.config["alpha_pattern"] = json!({".*q_proj": 1});
    refused(&files, &["alpha_pattern", "regular expression"]);
    files.config["alpha_pattern"] = json!({"q_proj": "high"});
    refused(&files, &["alpha_pattern", "high"]);
}

#[test]
fn fused_matrices_are_taken_apart() {
    let mut tiny = Tiny::llama()
        .set("architectures", json!(["Phi3ForCausalLM"]))
        .set("model_type", json!("phi3"))
        .set("pad_token_id", json!(0));
    for layer in 0..2 {
        let at = |name: &str| format!("model.layers.{layer}.{name}.weight");
        for name in
            ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"]
        {
            tiny.remove(&at(name));
        }
        tiny.add(&at("self_attn.qkv_proj"), &[16, 8]);
        tiny.add(&at("mlp.gate_up_proj"), &[24, 8]);
    }
    let spec = tiny.write().open().expect("a tiny Phi").spec().clone();
    let mut files = Files::new();
    files.tensors.clear();
    files.add("self_attn.qkv_proj.lora_A.weight", &[2, 8]);
    files.add("self_attn.qkv_proj.lora_B.weight", &[16, 2]);
    files.add("mlp.gate_up_proj.lora_A.weight", &[2, 8]);
    files.add("mlp.gate_up_proj.lora_B.weight", &[24, 2]);
    let folder = files.write();
    let adapter = Adapter::open(folder.path(), &spec).expect("a good adapter");
    let rows = |role| {
        let update = adapter.updates().iter().find(|update| update.role == role).expect("it is there");
        (adapter.up(update)[0], update.outputs, adapter.up(update).len())
    };
    assert_eq!(rows(LayerRole::Q), (0.0, 8, 16));
    assert_eq!(rows(LayerRole::K), (16.0, 4, 8));
    assert_eq!(rows(LayerRole::V), (24.0, 4, 8));
    assert_eq!(rows(LayerRole::Gate), (0.0, 12, 24));
    assert_eq!(rows(LayerRole::Up), (24.0, 12, 24));
    files.add("self_attn.q_proj.lora_A.weight", &[2, 8]);
    files.add("self_attn.q_proj.lora_B.weight", &[8, 2]);
    let twice = files.open(&spec).expect_err("two updates of one matrix").to_string();
    assert!(twice.contains("q_proj") && twice.contains("qkv_proj"), "{twice}");
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    for (field, value) in [
        ("peft_type", json!("IA3")),
        ("use_dora", json!(true)),
        ("lora_bias", json!(true)),
        ("bias", json!("all")),
        ("modules_to_save", json!(["lm_head"])),
        ("layer_replication", json!([[0, 1]])),
        ("alora_invocation_tokens", json!([1, 2])),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("r", json!(0)),
        ("r", json!("two")),
        ("lora_alpha", json!("NaN")),
        ("rank_pattern", json!({"q_proj": 0})),
    ] {
        refused(&Files::new().set(field, value), &["adapter_config.json", field]);
    }
    let with = |name: &str, shape: &[u64]| {
        let mut files = Files::new();
        files.add(name, shape);
        files
    };
    refused(&with("mlp.experts.0.up_proj.lora_A.weight", &[2, 8]), &["experts.0", "not computed"]);
    refused(&with("self_attn.q_proj.lora_magnitude_vector", &[8]), &["magnitude", "DoRA"]);
    refused(&with("self_attn.r_proj.lora_A.weight", &[2, 8]), &["r_proj", "layer 1", "another model"]);
    let mut files = Files::new();
    files.tensors[0].name = "base_model.model.lm_head.lora_A.weight".into();
    refused(&files, &["lm_head", "the head"]);
}

#[test]
fn tensors_that_do_not_fit_are_refused_with_their_numbers() {
    let mut files = Files::new();
    files.tensors[1].shape = vec![4, 4];
    refused(&files, &["q_proj.lora_B", "[4, 4]", "[8, 2]"]);
    let mut files = Files::new();
    files.tensors.remove(0);
    refused(&files, &["q_proj.lora_A.weight", "missing"]);
    let mut files = Files::new();
    files.tensors.remove(1);
    refused(&files, &["q_proj.lora_B.weight", "missing"]);
    let mut files = Files::new();
    files.tensors[0].dtype = "I32".into();
    refused(&files, &["q_proj.lora_A", "I32"]);
    files.tensors.clear();
    refused(&files, &["adapter_model.safetensors", "no tensor"]);
    let other = Tiny::llama().set("num_hidden_layers", json!(1));
    let mut other = other;
    other.tensors.retain(|tensor| !tensor.name.starts_with("model.layers.1."));
    let spec = other.write().open().expect("a model of one layer").spec().clone();
    let message = Files::new().open(&spec).expect_err("layer 1 of 1").to_string();
    assert!(message.contains("layer 1") && message.contains("another model"), "{message}");
}

#[test]
fn missing_files_come_with_what_to_do() {
    let spec = llama();
    let message = |folder: &Folder| Adapter::open(folder.path(), &spec).expect_err("no adapter").to_string();
    let folder = Folder::new();
    assert!(message(&folder).contains("adapter_config.json"));
    folder.write("adapter_config.json", Files::new().config.to_string());
    assert!(message(&folder).contains("adapter_model.safetensors"));
    folder.write("adapter_model.bin", "");
    assert!(message(&folder).contains("safe_serialization"));
    let gone = Adapter::open(&folder.path().join("gone"), &spec).expect_err("no folder").to_string();
    assert!(gone.contains("does not exist") && gone.contains("adapter_config.json"), "{gone}");
}

#[test]
fn any_truncation_or_flipped_bit_is_an_error_or_an_adapter() {
    let (spec, folder) = (llama(), Files::new().write());
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let good = std::fs::read(folder.path().join(name)).expect("it was written");
        for end in (0..good.len()).step_by(7) {
            folder.write(name, &good[..end]);
            Adapter::open(folder.path(), &spec).expect_err("a part of a file");
        }
        for bit in (0..8 * good.len()).step_by(5) {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            folder.write(name, &bytes);
            if let Ok(adapter) = Adapter::open(folder.path(), &spec) {
                adapter.updates().iter().for_each(|update| assert!(!adapter.up(update).is_empty()));
            }
        }
        folder.write(name, good);
    }
}
