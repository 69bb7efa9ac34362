//! A tiny model whose files a test can spoil, and folders that vanish with the test.

use pagoda_model::{Checkpoint, ModelError, ModelSource};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that is removed when it is dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pagoda-model-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Replaces the file; shortening the old one would make some file systems wait for the disk.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.0.join(name);
        let _ = fs::remove_file(&path);
        fs::write(path, bytes).expect("the temporary folder is writable");
    }

    pub(crate) fn open(&self) -> Result<Checkpoint, ModelError> {
        Checkpoint::open(&ModelSource::Folder(self.0.clone()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A tensor as the header will describe it.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) bytes: Vec<u8>,
}

/// A Llama of two layers and its files before they are written.
#[derive(Clone)]
pub(crate) struct Tiny {
    pub(crate) config: Value,
    pub(crate) tensors: Vec<Stored>,
}

impl Tiny {
    pub(crate) fn llama() -> Self {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 16, "hidden_size": 8,
            "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 4, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "hidden_act": "silu", "tie_word_embeddings": false, "eos_token_id": 2, "torch_dtype": "bfloat16"
        });
        let mut tiny = Self { config, tensors: Vec::new() };
        tiny.add("model.embed_tokens.weight", &[16, 8]);
        tiny.add("model.norm.weight", &[8]);
        tiny.add("lm_head.weight", &[16, 8]);
        for layer in 0..2 {
            for (name, shape) in LAYER {
                tiny.add(&format!("model.layers.{layer}.{name}"), shape);
            }
        }
        tiny
    }

    pub(crate) fn set(mut self, field: &str, value: Value) -> Self {
        self.config[field] = value;
        self
    }

    pub(crate) fn unset(mut self, field: &str) -> Self {
        self.config.as_object_mut().expect("the config is an object").remove(field);
        self
    }

    /// Appends a bf16 tensor of recognisable numbers.
    pub(crate) fn add(&mut self, name: &str, shape: &[u64]) {
        let count = shape.iter().product::<u64>() as usize;
        let bytes = (0..count).flat_map(|i| half::bf16::from_f32(i as f32).to_le_bytes()).collect();
        self.tensors.push(Stored { name: name.into(), dtype: "BF16".into(), shape: shape.to_vec(), bytes });
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.tensors.retain(|tensor| tensor.name != name);
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut Stored {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("the tiny model has it")
    }

    pub(crate) fn header(&self) -> Map<String, Value> {
        header(&self.tensors)
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        self.tensors.iter().flat_map(|tensor| tensor.bytes.clone()).collect()
    }

    pub(crate) fn weights(&self) -> Vec<u8> {
        frame(&Value::Object(self.header()).to_string(), &self.data())
    }

    pub(crate) fn write(&self) -> Folder {
        self.write_with(&self.weights())
    }

    pub(crate) fn write_with(&self, weights: &[u8]) -> Folder {
        let folder = Folder::new();
        folder.write("config.json", self.config.to_string());
        folder.write("model.safetensors", weights);
        folder
    }
}

const LAYER: [(&str, &[u64]); 9] = [
    ("input_layernorm.weight", &[8]),
    ("self_attn.q_proj.weight", &[8, 8]),
    ("self_attn.k_proj.weight", &[4, 8]),
    ("self_attn.v_proj.weight", &[4, 8]),
    ("self_attn.o_proj.weight", &[8, 8]),
    ("post_attention_layernorm.weight", &[8]),
    ("mlp.gate_proj.weight", &[12, 8]),
    ("mlp.up_proj.weight", &[12, 8]),
    ("mlp.down_proj.weight", &[8, 12]),
];

pub(crate) fn header(tensors: &[Stored]) -> Map<String, Value> {
    let mut at = 0;
    let mut entry = |tensor: &Stored| {
        let begin = at;
        at += tensor.bytes.len();
        let body = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, at]});
        (tensor.name.clone(), body)
    };
    tensors.iter().map(&mut entry).collect()
}

/// A safetensors file of this header and data.
pub(crate) fn frame(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// Asserts that the folder is refused with a message that holds all `parts`.
#[track_caller]
pub(crate) fn refused(folder: &Folder, parts: &[&str]) {
    let message = folder.open().expect_err("the model must be refused").to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in the message: {message}");
    }
}

/// Flips a few bits of the weights, mostly of their header, `rounds` times; what opens can be read whole. Answers how many were
/// refused.
pub(crate) fn flip_bits(tiny: &Tiny, rounds: usize) -> usize {
    let (good, folder) = (tiny.weights(), tiny.write());
    let header = good.len() - tiny.data().len();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n as u64) as usize
    };
    let mut refused = 0;
    for round in 0..rounds {
        let mut bytes = good.clone();
        let area = if round % 4 == 0 { bytes.len() } else { header };
        for _ in 0..=below(4) {
            let at = below(area);
            bytes[at] ^= 1 << below(8);
        }
        folder.write("model.safetensors", &bytes);
        match folder.open() {
            Ok(model) => {
                for (role, tensor) in model.tensors() {
                    assert_eq!(tensor.to_f32_vec().len(), tensor.elements(), "{role}");
                }
            }
            Err(_) => refused += 1,
        }
    }
    refused
}
