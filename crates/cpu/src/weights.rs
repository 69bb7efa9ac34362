//! The weights of a model in the form in which the kernels read them.

use crate::source::matrix;
use crate::{CpuError, LoadProgress, Operation, WeightFormats};
use pagoda_kernels::{LinearShape, Norm, NormKind, PackedLinear, WeightFormat, WorkerPool};
use pagoda_model::{Checkpoint, DecoderSpec, Flow, LayerRole, LayerSpec, Mlp, Role, Tensor, TensorData};

/// All weights.
#[derive(Debug)]
pub(crate) struct ModelWeights {
    /// `[vocab_size, hidden]`; `None` where it is the head.
    embedding: Option<PackedLinear>,
    /// `[max_context, hidden]`, where positions have vectors.
    pub(crate) positions: Option<Vec<f32>>,
    pub(crate) layers: Vec<LayerWeights>,
    /// `[hidden]`
    pub(crate) final_norm: NormWeights,
    /// `[vocab_size, hidden]`
    pub(crate) head: PackedLinear,
}

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct LayerWeights {
    /// `[hidden]`; before attention, and in front of both branches where they share it.
    pub(crate) attn_norm: Option<NormWeights>,
    /// `[q_width + 2 * kv_width, hidden]`: queries, keys, values.
    pub(crate) qkv: Linear,
    /// Norms of queries and keys.
    pub(crate) qk_norm: Option<(NormWeights, NormWeights)>,
    /// `[hidden, q_width]`
    pub(crate) o: Linear,
    /// `[hidden]`; of what attention gives.
    pub(crate) post_attn_norm: Option<NormWeights>,
    /// `[hidden]`; before the MLP.
    pub(crate) mlp_norm: Option<NormWeights>,
    pub(crate) mlp: MlpWeights,
    /// `[hidden]`; of what the MLP gives.
    pub(crate) post_mlp_norm: Option<NormWeights>,
}

/// The weights of the second branch of a layer.
#[derive(Debug)]
pub(crate) enum MlpWeights {
    /// With a gate.
    Gated {
        /// `[2 * intermediate, hidden]`: gate and up, a gated unit.
        gate_up: Linear,
        /// `[hidden, intermediate]`
        down: Linear,
    },
    /// Without one.
    Plain {
        /// `[intermediate, hidden]`
        up: Linear,
        /// `[hidden, intermediate]`
        down: Linear,
    },
}

/// The weights of a norm, as its kernel reads them.
#[derive(Debug)]
pub(crate) struct NormWeights {
    kind: NormKind,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    eps: f32,
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
const UP: Group = Group { weights: &[LayerRole::Up], biases: &[LayerRole::UpBias], gated: false };
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
        let positions = spec.learned_positions.then(|| loader.vector(Role::Positions));
        let final_norm = loader.norm(Role::FinalNorm, spec.norm.bias.then_some(Role::FinalNormBias));
        Ok(Self { embedding, positions, layers, final_norm, head })
    }

    /// The vectors of the tokens: `[vocab_size, hidden]`.
    pub(crate) fn embedding(&self) -> &PackedLinear {
        self.embedding.as_ref().unwrap_or(&self.head)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        let layers: u64 = self.layers.iter().map(LayerWeights::bytes).sum();
        let embedding = self.embedding.as_ref().map_or(0, |table| table.bytes() as u64);
        let positions = self.positions.as_deref().map_or(0, vector_bytes);
        embedding + positions + layers + self.final_norm.bytes() + self.head.bytes() as u64
    }

    /// Bytes that [`load`](Self::load) will hold for a model of `spec`.
    pub(crate) fn planned_bytes(spec: &DecoderSpec, formats: WeightFormats) -> u64 {
        let rows = |role: Role| role.shape(spec)[0] as usize;
        let packed = |n: usize, k: usize, format| PackedLinear::packed_bytes(LinearShape { n, k }, format);
        let mut total = 0;
        for role in Role::all(spec) {
            let shape = role.shape(spec);
            let elements: u64 = shape.iter().product();
            total += match role {
                Role::Embedding | Role::Head => {
                    packed(shape[0] as usize, shape[1] as usize, formats.vocabulary)
                }
                Role::Layer(_, role) if role.is_matrix() => 0,
                _ => elements * size_of::<f32>() as u64,
            };
        }
        for (layer, index) in spec.layers.iter().zip(0..) {
            for group in groups(layer) {
                let n = group.weights.iter().map(|&role| rows(Role::Layer(index, role)));
                let k = Role::Layer(index, group.weights[0]).shape(spec)[1] as usize;
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
        let norms: u64 = self.norms().map(NormWeights::bytes).sum();
        norms + self.linears().map(|(_, linear)| linear.bytes()).into_iter().sum::<u64>()
    }

    /// All norms.
    pub(crate) fn norms(&self) -> impl Iterator<Item = &NormWeights> {
        let heads = self.qk_norm.iter().flat_map(|(q, k)| [q, k]);
        let rows = [&self.attn_norm, &self.post_attn_norm, &self.mlp_norm, &self.post_mlp_norm];
        rows.into_iter().flatten().chain(heads)
    }

    /// The linear operations that run for every token.
    pub(crate) fn linears(&self) -> [(Operation, &Linear); 4] {
        let (up, down) = match &self.mlp {
            MlpWeights::Gated { gate_up, down } => (gate_up, down),
            MlpWeights::Plain { up, down } => (up, down),
        };
        [
            (Operation::Qkv, &self.qkv),
            (Operation::O, &self.o),
            (Operation::GateUp, up),
            (Operation::Down, down),
        ]
    }
}

impl NormWeights {
    pub(crate) fn norm(&self) -> Norm<'_> {
        Norm { kind: self.kind, weight: &self.weight, bias: self.bias.as_deref(), eps: self.eps }
    }

    /// Bytes of weights and biases.
    pub(crate) fn bytes(&self) -> u64 {
        vector_bytes(&self.weight) + self.bias.as_deref().map_or(0, vector_bytes)
    }
}

/// What is packed together in a layer.
fn groups(layer: &LayerSpec) -> [&'static Group; 4] {
    let up = match layer.mlp {
        Mlp::Gated => &GATE_UP,
        Mlp::Plain => &UP,
    };
    [&QKV, &O, up, &DOWN]
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
        let (pre, post) = (spec.block.pre_norm, spec.block.post_norm);
        let own = pre && spec.block.flow != Flow::ParallelShared;
        let bias = |role| spec.norm.bias.then_some(at(role));
        Ok(LayerWeights {
            attn_norm: pre.then(|| self.norm(at(LayerRole::AttnNorm), bias(LayerRole::AttnNormBias))),
            qkv: self.linear(layer, &QKV, spec.qkv_bias)?,
            qk_norm: spec
                .qk_norm
                .map(|_| (self.norm(at(LayerRole::QNorm), None), self.norm(at(LayerRole::KNorm), None))),
            o: self.linear(layer, &O, spec.o_bias)?,
            post_attn_norm: post.then(|| self.norm(at(LayerRole::PostAttnNorm), None)),
            mlp_norm: own.then(|| self.norm(at(LayerRole::MlpNorm), bias(LayerRole::MlpNormBias))),
            mlp: self.mlp(layer, spec)?,
            post_mlp_norm: post.then(|| self.norm(at(LayerRole::PostMlpNorm), None)),
        })
    }

    fn mlp(&mut self, layer: u32, spec: &DecoderSpec) -> Result<MlpWeights, CpuError> {
        Ok(match spec.layers[layer as usize].mlp {
            Mlp::Gated => MlpWeights::Gated {
                gate_up: self.linear(layer, &GATE_UP, spec.mlp_bias)?,
                down: self.linear(layer, &DOWN, spec.mlp_bias)?,
            },
            Mlp::Plain => MlpWeights::Plain {
                up: self.linear(layer, &UP, spec.mlp_bias)?,
                down: self.linear(layer, &DOWN, spec.mlp_bias)?,
            },
        })
    }

    fn norm(&mut self, weight: Role, bias: Option<Role>) -> NormWeights {
        let spec = self.checkpoint.spec().norm;
        let kind = match spec.kind {
            pagoda_model::NormKind::Rms => NormKind::Rms,
            pagoda_model::NormKind::Layer => NormKind::Layer,
        };
        let mut weight = self.vector(weight);
        weight.iter_mut().for_each(|weight| *weight += spec.weight_offset);
        NormWeights { kind, weight, bias: bias.map(|bias| self.vector(bias)), eps: spec.eps }
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
