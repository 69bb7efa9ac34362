//! config.json and tensor list of a quantised folder.

use super::QuantScheme;
use crate::json::Object;
use crate::writer::{StoredTensor, WriteError};
use crate::{Checkpoint, Dtype, ModelError, Role};
use serde_json::{Map, Value, json};

/// How the matrices of a model are to be quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantizedFolder {
    /// The matrices of the layers.
    pub layers: QuantScheme,
    /// Embedding and head.
    pub vocabulary: QuantScheme,
    /// Bits, 8 or 16, to which activations are to be rounded.
    pub activation_bits: u8,
}

impl QuantizedFolder {
    /// How the tensor of `role` is stored; `None` as in the source.
    pub fn scheme(&self, role: Role) -> Option<QuantScheme> {
        match role {
            Role::Embedding | Role::Head => Some(self.vocabulary),
            Role::Positions | Role::FinalNorm | Role::FinalNormBias => None,
            Role::Layer(_, role) => role.is_quantizable().then_some(self.layers),
        }
    }

    /// The parts of the tensor of `role`, in the order in which they are written: codes, scales, zero points, shape.
    pub fn parts(&self, role: Role, checkpoint: &Checkpoint) -> Vec<StoredTensor> {
        let spec = checkpoint.spec();
        let (name, shape) = (spec.naming.name(role), role.shape(spec));
        let (Some(scheme), &[n, k]) = (self.scheme(role), shape.as_slice()) else {
            let format = match checkpoint.tensor(role).dtype {
                Dtype::F32 => "F32",
                Dtype::F16 => "F16",
                Dtype::Bf16 | Dtype::Fp8 | Dtype::Quantized(_) | Dtype::Blocks(_) => "BF16",
            };
            return vec![StoredTensor { name, format, shape }];
        };
        let groups = scheme.groups(k);
        let part = |name: String, format, shape: &[u64]| StoredTensor { name, format, shape: shape.to_vec() };
        let mut parts = vec![
            part(scheme.code_name(&name), scheme.code_format(), &scheme.code_shape(n, k)),
            part(format!("{name}_scale"), "BF16", &[n, groups]),
        ];
        if scheme.zero_point {
            parts.push(part(format!("{name}_zero_point"), "I32", &[n.div_ceil(8), groups]));
        }
        if scheme.bits == 4 {
            parts.push(part(format!("{name}_shape"), "I64", &[2]));
        }
        parts
    }

    /// The bytes of config.json: that of `checkpoint`, and how the weights are quantised.
    ///
    /// # Errors
    /// A config.json that cannot be read; a checkpoint that is quantised already.
    pub fn config(&self, checkpoint: &Checkpoint) -> Result<Vec<u8>, WriteError> {
        const CONFIG: &str = "config.json";
        let missing = || WriteError::Model(no_config(checkpoint));
        let bytes = checkpoint.file(CONFIG)?.ok_or_else(missing)?;
        let mut config = Object::parse(CONFIG, &bytes)?.into_fields();
        if config.get("quantization_config").is_some_and(|value| !value.is_null()) {
            return Err(WriteError::Quantized { origin: checkpoint.source().to_string() });
        }
        config.insert("quantization_config".to_owned(), self.describe());
        config.insert("pagoda".to_owned(), json!({ "activation_bits": self.activation_bits }));
        let mut text = serde_json::to_vec_pretty(&Value::Object(config)).expect("a JSON value has a text");
        text.push(b'\n');
        Ok(text)
    }

    fn describe(&self) -> Value {
        let group = |scheme: QuantScheme, targets: &[&str]| {
            json!({
                "targets": targets,
                "weights": {
                    "num_bits": scheme.bits,
                    "type": "int",
                    "symmetric": !scheme.zero_point,
                    "strategy": "group",
                    "group_size": scheme.group,
                    "dynamic": false,
                },
                "input_activations": null,
                "output_activations": null,
                "format": format_name(scheme),
            })
        };
        let mut groups = Map::new();
        let format = if self.layers == self.vocabulary {
            groups.insert("group_0".to_owned(), group(self.layers, &["Linear", "Embedding"]));
            format_name(self.layers)
        } else {
            groups.insert("group_0".to_owned(), group(self.layers, &["Linear"]));
            groups.insert("group_1".to_owned(), group(self.vocabulary, &["Embedding", "lm_head"]));
            "mixed-precision"
        };
        json!({
            "quant_method": "compressed-tensors",
            "quantization_status": "compressed",
            "format": format,
            "config_groups": groups,
            "ignore": [],
        })
    }
}

fn format_name(scheme: QuantScheme) -> &'static str {
    if scheme.bits == 8 { "int-quantized" } else { "pack-quantized" }
}

fn no_config(checkpoint: &Checkpoint) -> ModelError {
    ModelError::MissingFile {
        origin: checkpoint.source().to_string(),
        file: "config.json".into(),
        advice: "a quantised folder is made from a model folder".into(),
    }
}

/// Zero points `[n, groups]`, one byte each, as they are stored: words of eight rows.
pub fn pack_zero_points(zeros: &[u8], groups: usize) -> Vec<u8> {
    let rows = zeros.len().checked_div(groups).unwrap_or(0);
    let mut packed = vec![0u8; rows.div_ceil(8) * groups * 4];
    for (cell, zero) in zeros.iter().enumerate() {
        let (row, group) = (cell / groups, cell % groups);
        packed[(row / 8 * groups + group) * 4 + row % 8 / 2] |= (zero & 15) << (row % 2 * 4);
    }
    packed
}
