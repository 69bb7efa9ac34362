//! The weights of a model in the form in which the kernels read them.

use crate::experts::{Experts, SharedUnit};
use crate::options::RoleFormats;
use crate::source::matrix;
use crate::{CpuError, LoadProgress, Operation};
use pagoda_kernels::{
    LinearShape, Norm, NormKind, PackError, PackedLinear, StackedLinear, WeightFormat, Weights, WorkerPool,
};
use pagoda_model::{
    Checkpoint, DecoderSpec, Dtype, ExpertRole, ExpertSpec, Flow, LayerRole, LayerSpec, Mlp, Role,
    SharedExpert, Tensor, TensorData,
};

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
    /// `[heads]`: scores of attention without values.
    pub(crate) sinks: Option<Vec<f32>>,
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
    Gated(GatedUnit),
    /// Without one.
    Plain {
        /// `[intermediate, hidden]`
        up: Linear,
        /// `[hidden, intermediate]`
        down: Linear,
    },
    /// Units of which each token passes some.
    Experts(Box<Experts>),
}

/// The weights of an MLP with a gate.
#[derive(Debug)]
pub(crate) struct GatedUnit {
    /// `[2 * intermediate, hidden]`: gate and up, a gated unit.
    pub(crate) gate_up: Linear,
    /// `[hidden, intermediate]`
    pub(crate) down: Linear,
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
    pub(crate) weight: StackedLinear,
    /// `[n]`
    pub(crate) bias: Option<Vec<f32>>,
}

/// Which roles are packed together, stacked along the outputs or as the two of a gated unit, and which biases go with them.
struct Group<'a> {
    weights: &'a [LayerRole],
    biases: &'a [LayerRole],
    gated: bool,
}

const QKV: Group<'static> = Group {
    weights: &[LayerRole::Q, LayerRole::K, LayerRole::V],
    biases: &[LayerRole::QBias, LayerRole::KBias, LayerRole::VBias],
    gated: false,
};
const O: Group<'static> = Group { weights: &[LayerRole::O], biases: &[LayerRole::OBias], gated: false };
const GATE_UP: Group<'static> = Group {
    weights: &[LayerRole::Gate, LayerRole::Up],
    biases: &[LayerRole::GateBias, LayerRole::UpBias],
    gated: true,
};
const UP: Group<'static> = Group { weights: &[LayerRole::Up], biases: &[LayerRole::UpBias], gated: false };
const DOWN: Group<'static> =
    Group { weights: &[LayerRole::Down], biases: &[LayerRole::DownBias], gated: false };
const SHARED_GATE_UP: Group<'static> =
    Group { weights: &[LayerRole::SharedGate, LayerRole::SharedUp], biases: &[], gated: true };
const SHARED_DOWN: Group<'static> = Group { weights: &[LayerRole::SharedDown], biases: &[], gated: false };
const ROUTER: Group<'static> =
    Group { weights: &[LayerRole::Router], biases: &[LayerRole::RouterBias], gated: false };
const SHARED_ROUTER: Group<'static> =
    Group { weights: &[LayerRole::SharedRouter], biases: &[], gated: false };

/// Reads tensors, packs them and reports how far it has come.
struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    formats: RoleFormats<'a>,
    pool: &'a WorkerPool,
    progress: &'a mut dyn FnMut(LoadProgress),
    state: LoadProgress,
}

impl ModelWeights {
    /// Packs every tensor of `checkpoint` in `formats`.
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        formats: RoleFormats<'_>,
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
        let embedding = (!spec.tied_head).then(|| loader.table(Role::Embedding)).transpose()?;
        let head = loader.table(Role::Head)?;
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
    pub(crate) fn planned_bytes(spec: &DecoderSpec, formats: RoleFormats<'_>) -> u64 {
        let mut total = 0;
        for role in Role::all(spec) {
            let shape = role.shape(spec);
            let elements: u64 = shape.iter().product();
            total += match role {
                Role::Embedding | Role::Head => {
                    let shape = LinearShape { n: shape[0] as usize, k: shape[1] as usize };
                    PackedLinear::packed_bytes(shape, formats.of(role))
                }
                Role::Layer(_, role) if role.is_matrix() => 0,
                _ => elements * size_of::<f32>() as u64,
            };
        }
        let layers = (0..).zip(&spec.layers);
        total + layers.map(|(index, layer)| planned_matrices(spec, (index, layer), formats)).sum::<u64>()
    }
}

/// Bytes of the packed matrices of a layer.
fn planned_matrices(spec: &DecoderSpec, (index, layer): (u32, &LayerSpec), formats: RoleFormats<'_>) -> u64 {
    let planned = |group: &Group<'_>| {
        let roles = group.weights.iter().map(|&role| Role::Layer(index, role));
        let sizes: Vec<_> = roles.map(|role| (role.shape(spec)[0] as usize, formats.of(role))).collect();
        let k = Role::Layer(index, group.weights[0]).shape(spec)[1] as usize;
        match sizes[..] {
            [(n, gate), (_, up)] if group.gated => {
                StackedLinear::packed_gated_bytes(LinearShape { n, k }, [gate, up])
            }
            _ => StackedLinear::packed_bytes(&sizes, k),
        }
    };
    let attention = planned(&QKV) + planned(&O);
    let experts = match layer.mlp {
        Mlp::Gated => return attention + planned(&GATE_UP) + planned(&DOWN),
        Mlp::Plain => return attention + planned(&UP) + planned(&DOWN),
        Mlp::Experts(experts) => experts,
    };
    // All experts are alike.
    let at = |role| LayerRole::Expert(0, role);
    let gate_up = Group { weights: &[at(ExpertRole::Gate), at(ExpertRole::Up)], biases: &[], gated: true };
    let down = Group { weights: &[at(ExpertRole::Down)], biases: &[], gated: false };
    let unit = planned(&gate_up) + planned(&down);
    let shared = experts.shared.map_or(0, |shared| {
        let gate = if shared.gated { planned(&SHARED_ROUTER) } else { 0 };
        gate + planned(&SHARED_GATE_UP) + planned(&SHARED_DOWN)
    });
    attention + planned(&ROUTER) + u64::from(experts.count) * unit + shared
}

impl LayerWeights {
    fn bytes(&self) -> u64 {
        let norms: u64 = self.norms().map(NormWeights::bytes).sum();
        let mlp = match &self.mlp {
            MlpWeights::Gated(unit) => unit.bytes(),
            MlpWeights::Plain { up, down } => up.bytes() + down.bytes(),
            MlpWeights::Experts(experts) => experts.bytes(),
        };
        let sinks = self.sinks.as_deref().map_or(0, vector_bytes);
        norms + sinks + self.qkv.bytes() + self.o.bytes() + mlp
    }

    /// All norms.
    pub(crate) fn norms(&self) -> impl Iterator<Item = &NormWeights> {
        let heads = self.qk_norm.iter().flat_map(|(q, k)| [q, k]);
        let rows = [&self.attn_norm, &self.post_attn_norm, &self.mlp_norm, &self.post_mlp_norm];
        rows.into_iter().flatten().chain(heads)
    }

    /// The linear operations that run for every token: not those of chosen experts.
    pub(crate) fn linears(&self) -> impl Iterator<Item = (Operation, &Linear)> {
        let attention = [(Operation::Qkv, &self.qkv), (Operation::O, &self.o)];
        let (up, down, router) = match &self.mlp {
            MlpWeights::Gated(GatedUnit { gate_up, down }) => (Some(gate_up), Some(down), None),
            MlpWeights::Plain { up, down } => (Some(up), Some(down), None),
            MlpWeights::Experts(experts) => {
                let shared = experts.shared.as_ref().map(|shared| &shared.unit);
                (shared.map(|unit| &unit.gate_up), shared.map(|unit| &unit.down), Some(&experts.router))
            }
        };
        let mlp = [(Operation::GateUp, up), (Operation::Down, down), (Operation::Route, router)];
        let mlp = mlp.into_iter().filter_map(|(operation, linear)| Some((operation, linear?)));
        attention.into_iter().chain(mlp)
    }
}

impl GatedUnit {
    /// Bytes of weights and biases.
    pub(crate) fn bytes(&self) -> u64 {
        self.gate_up.bytes() + self.down.bytes()
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
            sinks: spec.attn_sinks.then(|| self.vector(at(LayerRole::Sinks))),
            o: self.linear(layer, &O, spec.o_bias)?,
            post_attn_norm: post.then(|| self.norm(at(LayerRole::PostAttnNorm), None)),
            mlp_norm: own.then(|| self.norm(at(LayerRole::MlpNorm), bias(LayerRole::MlpNormBias))),
            mlp: self.mlp(layer, spec)?,
            post_mlp_norm: post.then(|| self.norm(at(LayerRole::PostMlpNorm), None)),
        })
    }

    fn mlp(&mut self, layer: u32, spec: &DecoderSpec) -> Result<MlpWeights, CpuError> {
        Ok(match spec.layers[layer as usize].mlp {
            Mlp::Gated => MlpWeights::Gated(self.unit(layer, [&GATE_UP, &DOWN], spec.mlp_bias)?),
            Mlp::Experts(experts) => MlpWeights::Experts(Box::new(self.experts(layer, experts)?)),
            Mlp::Plain => MlpWeights::Plain {
                up: self.linear(layer, &UP, spec.mlp_bias)?,
                down: self.linear(layer, &DOWN, spec.mlp_bias)?,
            },
        })
    }

    fn unit(&mut self, layer: u32, groups: [&Group<'_>; 2], has_bias: bool) -> Result<GatedUnit, CpuError> {
        let [gate_up, down] = groups;
        let gate_up = self.linear(layer, gate_up, has_bias)?;
        Ok(GatedUnit { gate_up, down: self.linear(layer, down, has_bias)? })
    }

    fn experts(&mut self, layer: u32, spec: ExpertSpec) -> Result<Experts, CpuError> {
        let router = self.linear(layer, &ROUTER, spec.router_bias)?;
        let expert = |index| {
            use ExpertRole::{Down, DownBias, Gate, GateBias, Up, UpBias};
            let at = |role| LayerRole::Expert(index, role);
            let (weights, biases) = ([at(Gate), at(Up)], [at(GateBias), at(UpBias)]);
            let [from, to] = [at(Up), at(Gate)].map(|role| self.formats.of(Role::Layer(layer, role)));
            if from != to {
                // Rows of many experts are computed as one operation, which has one format.
                let source = PackError::Format { part: 1, from, to };
                return Err(CpuError::Pack { role: Role::Layer(layer, at(Gate)), source });
            }
            let gate_up = Group { weights: &weights, biases: &biases, gated: true };
            let down = Group { weights: &[at(Down)], biases: &[at(DownBias)], gated: false };
            let unit = self.unit(layer, [&gate_up, &down], spec.bias)?;
            if unit.gate_up.weight.is_one() {
                return Ok(unit);
            }
            Err(CpuError::Pack { role: Role::Layer(layer, at(Gate)), source: PackError::Order { part: 1 } })
        };
        let units = (0..spec.count).map(expert).collect::<Result<_, _>>()?;
        let shared = spec.shared.map(|shared| self.shared(layer, shared)).transpose()?;
        Ok(Experts { spec, router, units, shared })
    }

    fn shared(&mut self, layer: u32, spec: SharedExpert) -> Result<SharedUnit, CpuError> {
        let unit = self.unit(layer, [&SHARED_GATE_UP, &SHARED_DOWN], false)?;
        let gate = || self.linear(layer, &SHARED_ROUTER, false);
        Ok(SharedUnit { unit, gate: spec.gated.then(gate).transpose()? })
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

    fn linear(&mut self, layer: u32, group: &Group<'_>, has_bias: bool) -> Result<Linear, CpuError> {
        let at = |&role: &LayerRole| Role::Layer(layer, role);
        let roles: Vec<Role> = group.weights.iter().map(at).collect();
        let weight = self.pack(&roles, group.gated)?;
        let bias = has_bias.then(|| {
            let biases: Vec<Vec<f32>> = group.biases.iter().map(at).map(|role| self.vector(role)).collect();
            match &biases[..] {
                [gate, up] if group.gated => PackedLinear::gated_bias(gate, up),
                stacked => stacked.concat(),
            }
        });
        Ok(Linear { weight, bias })
    }

    /// The table of tokens, or the head.
    fn table(&mut self, role: Role) -> Result<PackedLinear, CpuError> {
        let format = self.formats.of(role);
        self.read(&[role], |parts, k, pool| PackedLinear::pack(parts, k, format, pool))
    }

    /// Packs the matrices of `roles`, which have equal inputs, stacked along their outputs or as a gated unit.
    fn pack(&mut self, roles: &[Role], gated: bool) -> Result<StackedLinear, CpuError> {
        let formats: Vec<WeightFormat> = roles.iter().map(|&role| self.formats.of(role)).collect();
        self.read(roles, |parts, k, pool| match (parts, &formats[..]) {
            ([(gate, n), (up, _)], [gates, ups]) if gated => {
                StackedLinear::pack_gated([(*gate, *gates), (*up, *ups)], LinearShape { n: *n, k }, pool)
            }
            _ => {
                let matrices: Vec<_> =
                    parts.iter().zip(&formats).map(|(&(weights, n), &format)| (weights, n, format)).collect();
                StackedLinear::pack(&matrices, k, pool)
            }
        })
    }

    /// Brings the matrices of `roles` in, gives them with their rows and inputs to `pack`, and lets them go.
    fn read<T>(
        &mut self,
        roles: &[Role],
        pack: impl FnOnce(&[(Weights<'_>, usize)], usize, &WorkerPool) -> Result<T, PackError>,
    ) -> Result<T, CpuError> {
        roles.iter().for_each(|&role| self.checkpoint.prefetch(role));
        let tensors: Vec<Tensor<'_>> = roles.iter().map(|&role| self.checkpoint.tensor(role)).collect();
        let data =
            roles.iter().zip(&tensors).map(|(&role, tensor)| match (self.formats.of(role), tensor.dtype) {
                (WeightFormat::Blocks(..) | WeightFormat::Fp8, _)
                | (WeightFormat::Quantized(_), Dtype::Quantized(_)) => tensor.data(),
                _ => tensor.floats(),
            });
        let data: Vec<TensorData<'_>> = data.collect();
        let k = tensors[0].shape[1] as usize;
        let part = |(data, tensor): (_, &Tensor<'_>)| {
            let n = tensor.shape[0] as usize;
            Ok((matrix(data, LinearShape { n, k })?, n))
        };
        let parts: Result<Vec<_>, _> = data.iter().zip(&tensors).map(part).collect();
        let packed = parts.and_then(|parts| pack(&parts, k, self.pool));
        let packed = packed.map_err(|source| match source {
            PackError::NotFinite { part, row, column } => {
                let (file, tensor) = (tensors[part].file.to_owned(), tensors[part].name.to_owned());
                CpuError::NotFinite { file, tensor, row, column }
            }
            source => CpuError::Pack { role: roles[0], source },
        })?;
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
