//! Which stored tensor plays which role.

use crate::header::Entry;
use crate::json::clip;
use crate::mxfp4::Mxfp4Bytes;
use crate::naming::Location;
use crate::quantized::{Finding, Fp8Bytes, Kind, Part, Quantization, QuantizedBytes};
use crate::shards::{Found, Shard, Shards};
use crate::tensor::Content;
use crate::view::View;
use crate::{BlockFormat, DecoderSpec, Dtype, ModelError, ModelSource, Role, Tensor};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// The weight files of a model and which tensor plays which role.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    shards: Vec<Shard>,
    bound: HashMap<Role, Place>,
}

#[derive(Debug)]
struct Place {
    shard: usize,
    name: String,
    dtype: Dtype,
    shape: Vec<u64>,
    range: Range<usize>,
    /// Rows of the tensor in `range`, and the part of it that is meant.
    part: (u64, View),
    /// What `range` holds, and what belongs to it.
    kind: Kind,
}

impl WeightFiles {
    /// Finds a tensor of the right format and shape for every role of `spec`, and no tensor without a role.
    pub(crate) fn open(
        source: &ModelSource,
        spec: &DecoderSpec,
        quantization: &Quantization,
    ) -> Result<Self, ModelError> {
        Self::bind(Shards::open(source, spec.naming)?, spec, quantization)
    }

    /// The same in files that are open.
    pub(crate) fn bind(
        found: Shards,
        spec: &DecoderSpec,
        quantization: &Quantization,
    ) -> Result<Self, ModelError> {
        let (mut bound, mut used) = (HashMap::new(), HashSet::new());
        for role in Role::all(spec) {
            if let Some(finding) = quantization.find(role, spec, &found)? {
                let Finding { name, codes: Part { shard, range }, dtype, part, kind, used: names } = finding;
                let shape = role.shape(spec);
                bound.insert(role, Place { shard, name, dtype, shape, range, part, kind });
                used.extend(names);
                continue;
            }
            if let Some((place, names)) = find_mxfp4(role, spec, &found)? {
                bound.insert(role, place);
                used.extend(names);
                continue;
            }
            let (place, name) = find(role, spec, &found)?;
            bound.insert(role, place);
            used.insert(name);
        }
        let Shards { shards, mut tensors, .. } = found;
        let files = Self { shards, bound };
        let empty_bias = |name: &str, found: &Found| {
            let module = name.strip_suffix(".bias");
            // Some tools write a bias for every quantised matrix.
            module.is_some_and(|module| used.contains(&format!("{module}.qweight"))) && files.is_zero(found)
        };
        tensors.retain(|name, found| {
            !used.contains(name) && !quantization.ignores(name) && !empty_bias(name, found)
        });
        files.check_rest(spec, tensors)?;
        Ok(files)
    }

    pub(crate) fn get(&self, role: Role) -> Option<Tensor<'_>> {
        let place = self.bound.get(&role)?;
        let shard = &self.shards[place.shard];
        Some(Tensor {
            name: &place.name,
            file: &shard.file,
            dtype: place.dtype,
            shape: &place.shape,
            content: self.content(place),
        })
    }

    fn content(&self, place: &Place) -> Content<'_> {
        let (stored, (rows, view)) = (self.stored(place), place.part);
        let bytes = |part: &Part| &self.shards[part.shard].blob.bytes()[part.range.clone()];
        match (&place.kind, place.dtype) {
            (Kind::Mxfp4(scales), _) => {
                Content::Mxfp4(Mxfp4Bytes { blocks: stored, scales: bytes(scales), rows, view })
            }
            (Kind::Quantized(parts), Dtype::Quantized(scheme)) => Content::Quantized(QuantizedBytes {
                scheme,
                layout: parts.layout,
                rows,
                view,
                codes: stored,
                scales: bytes(&parts.scales),
                zeros: parts.zeros.as_ref().map(bytes),
                g_idx: parts.g_idx.as_ref().map(bytes),
            }),
            (Kind::Fp8(parts), _) => Content::Fp8(Fp8Bytes {
                codes: stored,
                scales: bytes(&parts.scales),
                scale_dtype: parts.scale_dtype,
                blocks: parts.blocks,
                rows,
                view,
            }),
            _ if view == View::Whole => Content::Stored(stored),
            _ => Content::Part(stored, rows, view),
        }
    }

    /// Brings in the pages of the tensor of `role` before they are read.
    pub(crate) fn prefetch(&self, role: Role) {
        for (shard, range) in self.ranges(role) {
            self.shards[shard].blob.prefetch(range);
        }
    }

    /// Gives back the pages of the tensor of `role`.
    pub(crate) fn release(&self, role: Role) {
        for (shard, range) in self.ranges(role) {
            self.shards[shard].blob.release(range);
        }
    }

    /// Where the parts of the tensor of `role` are.
    fn ranges(&self, role: Role) -> impl Iterator<Item = (usize, Range<usize>)> {
        self.bound.get(&role).into_iter().flat_map(|place| {
            let others: Vec<&Part> = match &place.kind {
                Kind::Plain => Vec::new(),
                Kind::Mxfp4(scales) => vec![scales],
                Kind::Fp8(parts) => vec![&parts.scales],
                Kind::Quantized(parts) => [Some(&parts.scales), parts.zeros.as_ref(), parts.g_idx.as_ref()]
                    .into_iter()
                    .flatten()
                    .collect(),
            };
            let others = others.into_iter().map(|part| (part.shard, part.range.clone()));
            std::iter::once((place.shard, place.range.clone())).chain(others)
        })
    }

    fn is_zero(&self, found: &Found) -> bool {
        let bytes = &self.shards[found.shard].blob.bytes()[found.entry.range.clone()];
        bytes.iter().all(|&byte| byte == 0)
    }

    fn stored(&self, place: &Place) -> &[u8] {
        &self.shards[place.shard].blob.bytes()[place.range.clone()]
    }

    /// The format of most floats, by bytes.
    pub(crate) fn main_dtype(&self) -> Dtype {
        let bytes = |dtype| {
            let of_dtype = self.bound.values().filter(|place| place.dtype == dtype);
            of_dtype.map(|place| place.range.len() as u128).sum::<u128>()
        };
        let formats = [Dtype::F32, Dtype::F16, Dtype::Bf16];
        formats.into_iter().max_by_key(|dtype| bytes(*dtype)).unwrap_or(Dtype::F32)
    }

    /// Tells `spec` how each matrix is stored.
    pub(crate) fn describe(&self, spec: &mut DecoderSpec) {
        let mut bytes: HashMap<Dtype, u64> = HashMap::new();
        let matrices = || self.bound.iter().filter(|(role, _)| may_be_blocks(**role));
        for (role, place) in matrices() {
            if matches!(role, Role::Layer(..)) {
                *bytes.entry(place.dtype).or_default() += place.shape.iter().product::<u64>();
            }
        }
        let most = bytes.into_iter().max_by_key(|(dtype, bytes)| (*bytes, dtype.to_string()));
        spec.dtype = most.map_or(Dtype::F32, |(dtype, _)| dtype);
        let of = |role| self.bound.get(&role).map(|place| place.dtype);
        spec.vocabulary_dtype = of(Role::Embedding).unwrap_or(Dtype::F32);
        let others = matrices().map(|(role, place)| (*role, place.dtype));
        let others: HashMap<Role, Dtype> =
            others.filter(|(role, dtype)| spec.stored_as(*role) != *dtype).collect();
        spec.stored = others;
    }

    /// Tells `spec` how the matrices of a folder are stored: of floats the format of most, which all are brought into.
    pub(crate) fn describe_folder(&self, spec: &mut DecoderSpec) {
        let quantized = |place: &Place| matches!(place.kind, Kind::Quantized(_) | Kind::Fp8(_));
        if self.bound.values().any(quantized) {
            let ordered =
                |place: &Place| matches!(&place.kind, Kind::Quantized(parts) if parts.g_idx.is_some());
            spec.reordered = self.bound.values().any(ordered);
            return self.describe(spec);
        }
        (spec.dtype, spec.vocabulary_dtype) = (self.main_dtype(), self.main_dtype());
        let blocks = self.bound.iter().filter(|(_, place)| matches!(place.dtype, Dtype::Blocks(_)));
        spec.stored = blocks.map(|(role, place)| (*role, place.dtype)).collect();
    }

    /// Names of the files.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.shards.iter().map(|shard| shard.file.as_str())
    }

    pub(crate) fn check_unchanged(&self) -> Result<(), ModelError> {
        match self.shards.iter().find(|shard| !shard.blob.is_unchanged()) {
            Some(shard) => Err(ModelError::FileChanged { file: shard.file.clone() }),
            None => Ok(()),
        }
    }

    /// Fails on a tensor without a role: leaving out a bias or a scale would give wrong text, not an error.
    fn check_rest(&self, spec: &DecoderSpec, rest: HashMap<String, Found>) -> Result<(), ModelError> {
        let ignored = |name: &str| spec.naming.ignored.iter().any(|start| name.starts_with(start));
        let mut rest: Vec<_> =
            rest.into_iter().filter(|(name, _)| !is_derived(name) && !ignored(name)).collect();
        rest.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, found) in rest {
            let file = &self.shards[found.shard].file;
            if spec.tied_head && spec.naming.places(Role::Head, spec).any(|head| head.name == name) {
                self.check_tied(&found, file)?;
                continue;
            }
            return Err(ModelError::UnexpectedTensor {
                file: file.clone(),
                advice: advice_for_unexpected(&name, spec),
                tensor: clip(&name),
                architecture: spec.architecture.clone(),
            });
        }
        Ok(())
    }

    /// Some tools write the head of a tied model a second time; it must be the embedding.
    fn check_tied(&self, head: &Found, file: &str) -> Result<(), ModelError> {
        let stored = &self.shards[head.shard].blob.bytes()[head.entry.range.clone()];
        let embedding = self.bound.get(&Role::Embedding);
        let same =
            embedding.is_some_and(|e| Some(e.dtype) == head.entry.format.dtype() && self.stored(e) == stored);
        if same {
            return Ok(());
        }
        Err(ModelError::TensorEntry {
            file: file.to_owned(),
            tensor: head.entry.name.clone(),
            problem: "config.json says tie_word_embeddings = true, but this differs from model.embed_tokens.weight: \
                      set tie_word_embeddings to false if the model has a head of its own"
                .to_owned(),
        })
    }
}

/// Buffers that old versions stored and that follow from the config: frequencies and masks of attention.
fn is_derived(name: &str) -> bool {
    const BUFFERS: [&str; 5] = [
        "rotary_emb.inv_freq",
        ".attn.bias",
        ".attn.masked_bias",
        ".attention.bias",
        ".attention.masked_bias",
    ];
    BUFFERS.iter().any(|buffer| name.ends_with(buffer))
}

/// Whether a tensor is one that the kernels multiply with in blocks.
fn may_be_blocks(role: Role) -> bool {
    match role {
        Role::Embedding | Role::Head => true,
        Role::Layer(_, role) => role.is_matrix() && !role.is_router(),
        _ => false,
    }
}

const VECTORS: &str = "norms, biases and routers are read as F32, F16 and BF16";
const MATRICES: &str = "safetensors are read as F32, F16, BF16 and, where quantization_config says so, as F8_E4M3, I8 and \
                        I32, GGUF files as the floats and Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, \
                        IQ4_NL, IQ4_XS and MXFP4; use the model in one of these";

/// The tensor of `role`, or the one that it shares with others, and its name.
fn find(role: Role, spec: &DecoderSpec, found: &Shards) -> Result<(Place, String), ModelError> {
    let naming = spec.naming;
    for mut location in naming.places(role, spec) {
        let bare = || location.name.strip_prefix(naming.optional_prefix);
        let tensor = found.tensors.get(&location.name);
        let Some(tensor) = tensor.or_else(|| found.tensors.get(bare()?)) else { continue };
        location.name.clone_from(&tensor.entry.name);
        let name = location.name.clone();
        return Ok((check(role, tensor, location, spec, &found.shards)?, name));
    }
    Err(missing(role, spec, found))
}

fn check(
    role: Role,
    found: &Found,
    location: Location,
    spec: &DecoderSpec,
    shards: &[Shard],
) -> Result<Place, ModelError> {
    let (entry, file) = (&found.entry, || shards[found.shard].file.clone());
    let Location { name, shape: expected, within, view } = location;
    let blocks = may_be_blocks(role);
    let dtype = entry.format.dtype().filter(|dtype| blocks || !matches!(dtype, Dtype::Blocks(_)));
    let Some(dtype) = dtype else {
        return Err(ModelError::Dtype {
            file: file(),
            tensor: name,
            dtype: entry.format.name,
            advice: if blocks { MATRICES } else { VECTORS },
        });
    };
    if without_ones(&entry.shape) != without_ones(&expected) {
        let part = if view == View::Whole { "" } else { " of one of its parts" };
        return Err(ModelError::Shape {
            file: file(),
            tensor: name,
            found: entry.shape.clone(),
            expected,
            rule: format!("{}{part}", role.shape_rule(spec)),
        });
    }
    let shape = role.shape(spec);
    let width = if shape.len() == 1 { 1 } else { entry.shape.last().map_or(1, |&last| last) };
    let (all, rows) = narrow(entry, width, within);
    let (range, view) = match view.contiguous(rows, &all) {
        Some(range) => (range, View::Whole),
        None => (all, view),
    };
    Ok(Place { shard: found.shard, name, dtype, shape, range, part: (rows, view), kind: Kind::Plain })
}

/// A shape without leading dimensions of 1, which some tools leave out.
fn without_ones(shape: &[u64]) -> &[u64] {
    let ones = shape.iter().take_while(|&&n| n == 1).count();
    &shape[ones.min(shape.len().saturating_sub(1))..]
}

/// Bytes and number of the rows `within`, of `width` elements each; of all if there is no such range.
fn narrow(entry: &Entry, width: u64, within: Option<Range<u64>>) -> (Range<usize>, u64) {
    let rows = entry.shape.iter().product::<u64>() / width.max(1);
    let within = within.unwrap_or(0..rows);
    let row = entry.range.len() / rows.max(1) as usize;
    let start = entry.range.start + within.start as usize * row;
    let rows = within.end - within.start;
    (start..start + rows as usize * row, rows)
}

/// The matrix of `role` in MXFP4, and the names of its tensors; `None` where it is not stored so.
fn find_mxfp4(
    role: Role,
    spec: &DecoderSpec,
    found: &Shards,
) -> Result<Option<(Place, [String; 2])>, ModelError> {
    let Some(locations) = spec.naming.mxfp4(role, spec) else { return Ok(None) };
    let mut parts = Vec::new();
    for Location { name, shape, within, view } in locations {
        let Some(tensor) = found.tensors.get(&name) else { return Ok(None) };
        let file = || found.shards[tensor.shard].file.clone();
        if tensor.entry.format.name != "U8" {
            let problem = format!("is stored as {}, but MXFP4 is U8", tensor.entry.format.name);
            return Err(ModelError::TensorEntry { file: file(), tensor: clip(&name), problem });
        }
        if tensor.entry.shape != shape {
            return Err(ModelError::Shape {
                file: file(),
                tensor: name,
                found: tensor.entry.shape.clone(),
                expected: shape,
                rule: format!("MXFP4 of {}", role.shape_rule(spec)),
            });
        }
        // A row of blocks and one of scales belong to the same output.
        let width = shape[2..].iter().product();
        let (range, rows) = narrow(&tensor.entry, width, within);
        parts.push((tensor.shard, range, (rows, view), name));
    }
    let [(shard, range, part, blocks), (scale_shard, scales, _, scale_name)]: [_; 2] =
        parts.try_into().expect("blocks and scales");
    let kind = Kind::Mxfp4(Part { shard: scale_shard, range: scales });
    let (name, shape) = (blocks.clone(), role.shape(spec));
    let dtype = Dtype::Blocks(BlockFormat::Mxfp4);
    let place = Place { shard, name, dtype, shape, range, part, kind };
    Ok(Some((place, [blocks, scale_name])))
}

fn missing(role: Role, spec: &DecoderSpec, found: &Shards) -> ModelError {
    let configured = spec.layers.len() as u32;
    let stored = found.layers;
    let name = spec.naming.shared(role, spec).map_or_else(|| spec.naming.name(role), |shared| shared.name);
    let bare = name.strip_prefix("model.").is_some_and(|name| found.tensors.contains_key(name));
    let advice = match role {
        _ if bare => {
            "the names lack the prefix \"model.\": save the model with its language-model head".to_owned()
        }
        Role::Layer(layer, _) if u64::from(layer) >= stored && stored > 0 => {
            format!("config.json says num_hidden_layers = {configured}, but the weights have {stored} layers")
        }
        Role::Head => {
            "set tie_word_embeddings to true if the head is the embedding, or else download the rest".into()
        }
        _ => "the download is incomplete, or config.json belongs to another model".to_owned(),
    };
    ModelError::MissingTensor { tensor: name, searched: found.searched(), advice }
}

fn advice_for_unexpected(name: &str, spec: &DecoderSpec) -> String {
    let layers = spec.layers.len();
    if let Some(layer) = spec.naming.layer_of(name).filter(|layer| *layer as usize >= layers) {
        return format!("it is of layer {layer}, but config.json says num_hidden_layers = {layers}");
    }
    let quantised = ["scale", "scales", "qweight", "qzeros", "g_idx", "weight_packed", "weight_shape"];
    let last = name.rsplit(['.', '_']).next().unwrap_or(name);
    if quantised.iter().any(|suffix| *suffix == last || name.ends_with(suffix)) {
        return "it belongs to a quantised checkpoint, which quantization_config of config.json does not describe".to_owned();
    }
    let has_switch = ["LlamaForCausalLM", "Qwen3ForCausalLM"].contains(&spec.architecture.as_str());
    if name.ends_with(".bias") && has_switch {
        return "set attention_bias or mlp_bias in config.json if the model has this bias".to_owned();
    }
    if name.contains("lora_") {
        return "merge the adapter into the model first".to_owned();
    }
    "remove it if the model does not need it, or correct architectures in config.json".to_owned()
}
