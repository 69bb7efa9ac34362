//! The weights of a model in the form in which the kernels read them.

use crate::source::matrix;
use crate::{CpuError, LoadProgress, WeightFormats};
use pagoda_kernels::{LinearShape, PackedLinear, WeightFormat, WorkerPool};
use pagoda_model::{Checkpoint, DecoderSpec, LayerRole, Role, Tensor, TensorData};

/// All weights.
#[derive(Debug)]
pub(crate) struct ModelWeights {
    /// `[vocab_size, hidden]`; `None` where it is the head.
    embedding: Option<PackedLinear>,
    pub(crate) layers: Vec<LayerWeights>,
    /// `[hidden]`
    pub(crate) final_norm: Vec<f32>,
    /// `[vocab_size, hidden]`
    pub(crate) head: PackedLinear,
}

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct LayerWeights {
    /// `[hidden]`
    pub(crate) attn_norm: Vec<f32>,
    /// `[q_width + 2 * kv_width, hidden]`: queries, keys, values.
    pub(crate) qkv: Linear,
    /// `[head_dim]` each: norms of query and key heads.
    pub(crate) qk_norm: Option<(Vec<f32>, Vec<f32>)>,
    /// `[hidden, q_width]`
    pub(crate) o: Linear,
    /// `[hidden]`
    pub(crate) mlp_norm: Vec<f32>,
    /// `[2 * intermediate, hidden]`: gate and up, a gated unit.
    pub(crate) gate_up: Linear,
    /// `[hidden, intermediate]`
    pub(crate) down: Linear,
}

/// A packed matrix with its bias.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: PackedLinear,
    /// `[n]`
    pub(crate) bias: Option<Vec<f32>>,
}

/// Which roles are packed together, stacked along the outputs or as the two of a gated unit, and which biases go with them.
struct Group {
    weights: &'static [LayerRole],
    biases: &'static [LayerRole],
    gated: bool,
}

const QKV: Group = Group {
    weights: &[LayerRole::Q, LayerRole::K, LayerRole::V],
    biases: &[LayerRole::QBias, LayerRole::KBias, LayerRole::VBias],
    gated: false,
};
const O: Group = Group { weights: &[LayerRole::O], biases: &[LayerRole::OBias], gated: false };
const GATE_UP: Group = Group {
    weights: &[LayerRole::Gate, LayerRole::Up],
    biases: &[LayerRole::GateBias, LayerRole::UpBias],
    gated: true,
};
const DOWN: Group = Group { weights: &[LayerRole::Down], biases: &[LayerRole::DownBias], gated: false };

/// Reads tensors, packs them and reports how far it has come.
struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    formats: WeightFormats,
    pool: &'a WorkerPool,
    progress: &'a mut dyn FnMut(LoadProgress),
    state: LoadProgress,
}

impl ModelWeights {
    /// Packs every tensor of `checkpoint` in `formats`.
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        formats: WeightFormats,
        pool: &WorkerPool,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, CpuError> {
        let total = checkpoint.tensors().map(|(_, tensor)| tensor.byte_len() as u64).sum();
        let mut loader =
            Loader { checkpoint, formats, pool, progress, state: LoadProgress { done: 0, total } };
        loader.report(0);
        let spec = checkpoint.spec();
        // The largest tensors first: what is made or mapped of a tensor while it is packed comes on top of what is
        // packed already.
        let embedding = (!spec.tied_head)
            .then(|| loader.pack(&[Role::Embedding], formats.vocabulary, false))
            .transpose()?;
        let head = loader.pack(&[Role::Head], formats.vocabulary, false)?;
        let layers =
            (0..spec.layers.len() as u32).map(|layer| loader.layer(layer)).collect::<Result<_, _>>()?;
        let final_norm = loader.vector(Role::FinalNorm);
        Ok(Self { embedding, layers, final_norm, head })
    }

    /// The vectors of the tokens: `[vocab_size, hidden]`.
    pub(crate) fn embedding(&self) -> &PackedLinear {
        self.embedding.as_ref().unwrap_or(&self.head)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        let layers: u64 = self.layers.iter().map(LayerWeights::bytes).sum();
        let embedding = self.embedding.as_ref().map_or(0, |table| table.bytes() as u64);
        embedding + layers + vector_bytes(&self.final_norm) + self.head.bytes() as u64
    }

    /// Bytes that [`load`](Self::load) will hold for a model of `spec`.
    pub(crate) fn planned_bytes(spec: &DecoderSpec, formats: WeightFormats) -> u64 {
        let rows = |role: Role| role.shape(spec)[0] as usize;
        let packed = |n: usize, k: usize, format| PackedLinear::packed_bytes(LinearShape { n, k }, format);
        let matrix_roles = [&QKV, &O, &GATE_UP, &DOWN];
        let mut total = 0;
        for role in Role::all(spec) {
            let shape = role.shape(spec);
            let elements: u64 = shape.iter().product();
            total += match role {
                Role::Embedding | Role::Head => {
                    packed(shape[0] as usize, shape[1] as usize, formats.vocabulary)
                }
                _ if shape.len() == 1 => elements * size_of::<f32>() as u64,
                _ => 0,
            };
        }
        for layer in 0..spec.layers.len() as u32 {
            for group in matrix_roles {
                let n = group.weights.iter().map(|&role| rows(Role::Layer(layer, role)));
                let k = Role::Layer(layer, group.weights[0]).shape(spec)[1] as usize;
                total += if group.gated {
                    let n = spec.intermediate as usize;
                    PackedLinear::packed_gated_bytes(LinearShape { n, k }, formats.layers)
                } else {
                    packed(n.sum(), k, formats.layers)
                };
            }
        }
        total
    }
}

impl LayerWeights {
    fn bytes(&self) -> u64 {
        let linears = [&self.qkv, &self.o, &self.gate_up, &self.down];
        let norms = self.qk_norm.iter().map(|(q, k)| vector_bytes(q) + vector_bytes(k)).sum::<u64>();
        linears.into_iter().map(Linear::bytes).sum::<u64>()
            + norms
            + vector_bytes(&self.attn_norm)
            + vector_bytes(&self.mlp_norm)
    }
}

impl Linear {
    /// Bytes of weights and bias.
    pub(crate) fn bytes(&self) -> u64 {
        self.weight.bytes() as u64 + self.bias.as_deref().map_or(0, vector_bytes)
    }
}

impl Loader<'_> {
    fn layer(&mut self, layer: u32) -> Result<LayerWeights, CpuError> {
        let at = |role| Role::Layer(layer, role);
        let spec = self.checkpoint.spec();
        let (qk_norm, qkv_bias, o_bias, mlp_bias) = (spec.qk_norm, spec.qkv_bias, spec.o_bias, spec.mlp_bias);
        Ok(LayerWeights {
            attn_norm: self.vector(at(LayerRole::AttnNorm)),
            qkv: self.linear(layer, &QKV, qkv_bias)?,
            qk_norm: qk_norm.then(|| (self.vector(at(LayerRole::QNorm)), self.vector(at(LayerRole::KNorm)))),
            o: self.linear(layer, &O, o_bias)?,
            mlp_norm: self.vector(at(LayerRole::MlpNorm)),
            gate_up: self.linear(layer, &GATE_UP, mlp_bias)?,
            down: self.linear(layer, &DOWN, mlp_bias)?,
        })
    }

    fn linear(&mut self, layer: u32, group: &Group, has_bias: bool) -> Result<Linear, CpuError> {
        let at = |&role: &LayerRole| Role::Layer(layer, role);
        let roles: Vec<Role> = group.weights.iter().map(at).collect();
        let weight = self.pack(&roles, self.formats.layers, group.gated)?;
        let bias = has_bias.then(|| {
            let biases: Vec<Vec<f32>> = group.biases.iter().map(at).map(|role| self.vector(role)).collect();
            match &biases[..] {
                [gate, up] if group.gated => PackedLinear::gated_bias(gate, up),
                stacked => stacked.concat(),
            }
        });
        Ok(Linear { weight, bias })
    }

    /// Packs the matrices of `roles`, which have equal inputs, stacked along their outputs or as a gated unit.
    fn pack(&mut self, roles: &[Role], format: WeightFormat, gated: bool) -> Result<PackedLinear, CpuError> {
        roles.iter().for_each(|&role| self.checkpoint.prefetch(role));
        let tensors: Vec<Tensor<'_>> = roles.iter().map(|&role| self.checkpoint.tensor(role)).collect();
        let data: Vec<TensorData<'_>> = tensors.iter().map(Tensor::data).collect();
        let k = tensors[0].shape[1] as usize;
        let part = |(data, tensor): (_, &Tensor<'_>)| {
            let n = tensor.shape[0] as usize;
            Ok((matrix(data, LinearShape { n, k })?, n))
        };
        let parts: Result<Vec<_>, _> = data.iter().zip(&tensors).map(part).collect();
        let packed = parts.and_then(|parts| match parts[..] {
            [(gate, n), (up, _)] if gated => {
                PackedLinear::pack_gated([gate, up], LinearShape { n, k }, format, self.pool)
            }
            _ => PackedLinear::pack(&parts, k, format, self.pool),
        });
        let packed = packed.map_err(|source| CpuError::Pack { role: roles[0], source })?;
        roles.iter().for_each(|&role| self.checkpoint.release(role));
        self.report(tensors.iter().map(Tensor::byte_len).sum());
        Ok(packed)
    }

    fn vector(&mut self, role: Role) -> Vec<f32> {
        let tensor = self.checkpoint.tensor(role);
        let elements = tensor.to_f32_vec();
        self.checkpoint.release(role);
        self.report(tensor.byte_len());
        elements
    }

    fn report(&mut self, bytes: usize) {
        self.state.done += bytes as u64;
        (self.progress)(self.state);
    }
}

fn vector_bytes(vector: &[f32]) -> u64 {
    size_of_val(vector) as u64
}
