//! Names of the shapes, and the config.json of each.

use super::shapes::{SHAPES, Shape};
use serde_json::{Value, json};
use std::fmt;
use std::str::FromStr;

/// The shape of a public model, by name: its config.json without its weights.
///
/// ```
/// use pagoda_model::RandomShape;
///
/// let shape: RandomShape = "qwen2.5-0.5b".parse()?;
/// assert_eq!(shape.to_string(), "qwen2.5-0.5b");
/// assert!("qwen2.5-0.6b".parse::<RandomShape>().is_err());
/// # Ok::<(), pagoda_model::ShapeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RandomShape(usize);

/// A name that is no known shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown shape {name:?}; known are: {}", known())]
pub struct ShapeError {
    name: String,
}

impl RandomShape {
    /// Every shape. Those whose names begin with `tiny` are no public models but small enough to test tools with.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHAPES.len()).map(Self)
    }

    /// Name, for example `llama-3.2-1b`.
    pub fn name(self) -> &'static str {
        self.shape().name
    }

    /// Rows of the embedding.
    pub(crate) fn vocab_size(self) -> u32 {
        self.shape().vocab_size
    }

    /// Contents of the config.json.
    pub(crate) fn config(self) -> Vec<u8> {
        let shape = self.shape();
        let mut config = json!({
            "architectures": [shape.family.architecture],
            "model_type": shape.family.model_type,
            "vocab_size": shape.vocab_size,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.intermediate,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "max_position_embeddings": shape.max_context,
            "rms_norm_eps": shape.norm_eps,
            "rope_theta": shape.rope_theta,
            "tie_word_embeddings": shape.tied_head,
            "eos_token_id": shape.eos,
            "hidden_act": "silu",
            "torch_dtype": "bfloat16",
            "sliding_window": null,
        });
        if let Some(experts) = shape.experts {
            config[shape.family.expert_count] = experts.count.into();
            config["num_experts_per_tok"] = experts.per_token.into();
            config["moe_intermediate_size"] = experts.intermediate.into();
            config["norm_topk_prob"] = true.into();
        }
        if let Some(factor) = shape.rope_factor {
            config["rope_scaling"] = llama3(factor);
        }
        let more: Value = serde_json::from_str(shape.family.more).expect("an object of ours");
        for (field, value) in more.as_object().into_iter().flatten() {
            config[field] = value.clone();
        }
        config.to_string().into_bytes()
    }

    fn shape(self) -> &'static Shape {
        &SHAPES[self.0]
    }
}

/// The stretch of the Llama 3 models, which differ in the factor only.
fn llama3(factor: f32) -> Value {
    json!({
        "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    })
}

impl fmt::Display for RandomShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RandomShape {
    type Err = ShapeError;

    /// Reads a name, in letters of either case.
    fn from_str(name: &str) -> Result<Self, ShapeError> {
        let known = Self::all().find(|shape| shape.name().eq_ignore_ascii_case(name));
        known.ok_or_else(|| ShapeError { name: name.to_owned() })
    }
}

fn known() -> String {
    RandomShape::all().map(RandomShape::name).collect::<Vec<_>>().join(", ")
}
