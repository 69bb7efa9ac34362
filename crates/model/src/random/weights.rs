//! The tensors of a model with random weights.

use super::Generator;
use crate::tensor::Content;
use crate::{DecoderSpec, Dtype, ExpertRole, LayerRole, Role, Tensor};
use std::collections::HashMap;

/// What each tensor is to be; the elements are made when they are asked for.
#[derive(Debug)]
pub(crate) struct RandomWeights {
    bound: HashMap<Role, Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    shape: Vec<u64>,
    generator: Generator,
}

impl RandomWeights {
    /// Stands where a tensor's file would be named.
    const FILE: &'static str = "random weights";
    /// Format of every tensor, that of the public models.
    pub(crate) const DTYPE: Dtype = Dtype::Bf16;

    /// A tensor for every role of `spec`.
    pub(crate) fn new(spec: &DecoderSpec, seed: u64) -> Self {
        let entry = |role: Role| {
            let (name, shape) = (role.to_string(), role.shape(spec));
            let (mean, deviation) = distribution(role, spec);
            (role, Entry { generator: Generator::new(seed, &name, mean, deviation), name, shape })
        };
        Self { bound: Role::all(spec).map(entry).collect() }
    }

    pub(crate) fn get(&self, role: Role) -> Option<Tensor<'_>> {
        let entry = self.bound.get(&role)?;
        Some(Tensor {
            name: &entry.name,
            file: Self::FILE,
            dtype: Self::DTYPE,
            shape: &entry.shape,
            content: Content::Random(entry.generator),
        })
    }
}

/// Mean and standard deviation that keep activations of the order of 1: a matrix keeps the variance of its input, and
/// what the layers add to the residual stream has a variance of 1 in all.
fn distribution(role: Role, spec: &DecoderSpec) -> (f32, f32) {
    let fan_in = |width: u32| 1.0 / (width as f32).sqrt();
    let added = 1.0 / (2.0 * spec.layers.len() as f32).sqrt();
    match role {
        Role::FinalNorm => (1.0 - spec.norm.weight_offset, 0.05),
        Role::FinalNormBias => (0.0, 0.02),
        Role::Positions => (0.0, fan_in(spec.hidden)),
        // The head multiplies a normalised row, so that logits have a deviation of 2; a tied one is the embedding.
        Role::Embedding | Role::Head => (0.0, 2.0 * fan_in(spec.hidden)),
        Role::Layer(layer, role) => match role {
            LayerRole::AttnNorm | LayerRole::MlpNorm | LayerRole::QNorm | LayerRole::KNorm => {
                (1.0 - spec.norm.weight_offset, 0.05)
            }
            // What a branch gives is made this large.
            LayerRole::PostAttnNorm | LayerRole::PostMlpNorm => {
                (added - spec.norm.weight_offset, 0.05 * added)
            }
            LayerRole::Q | LayerRole::K | LayerRole::V | LayerRole::Gate | LayerRole::Up => {
                (0.0, fan_in(spec.hidden))
            }
            LayerRole::O => (0.0, added * fan_in(spec.q_width())),
            LayerRole::Down => (0.0, added * fan_in(spec.intermediate)),
            LayerRole::QBias | LayerRole::KBias | LayerRole::VBias => (0.0, 0.1),
            LayerRole::OBias | LayerRole::GateBias | LayerRole::UpBias | LayerRole::DownBias => (0.0, 0.02),
            LayerRole::AttnNormBias | LayerRole::MlpNormBias => (0.0, 0.02),
            LayerRole::Router | LayerRole::SharedRouter => (0.0, 2.0 * fan_in(spec.hidden)),
            LayerRole::SharedGate
            | LayerRole::SharedUp
            | LayerRole::Expert(_, ExpertRole::Gate | ExpertRole::Up) => (0.0, fan_in(spec.hidden)),
            // Their inputs are as wide as their shape says.
            LayerRole::SharedDown | LayerRole::Expert(_, ExpertRole::Down) => {
                let inputs = Role::Layer(layer, role).shape(spec)[1];
                (0.0, added * fan_in(inputs as u32))
            }
            LayerRole::Sinks => (0.0, 1.0),
            LayerRole::RouterBias | LayerRole::Expert(..) => (0.0, 0.02),
        },
    }
}
