//! Names of tensors in the checkpoints of a family, and which of them are stored as one.

use crate::expert_naming::ExpertNaming;
use crate::view::View;
use crate::{DecoderSpec, LayerRole, Role};
use std::ops::Range;

/// How a family of models names and lays out its tensors.
///
/// A role has a name of its own, and may be part of a tensor that holds several. A checkpoint may use either.
#[derive(Debug, PartialEq, Eq)]
pub struct Naming {
    /// What some files leave out in front of all names; empty where none do.
    pub(crate) optional_prefix: &'static str,
    pub(crate) embedding: &'static str,
    pub(crate) positions: &'static str,
    pub(crate) final_norm: &'static str,
    pub(crate) head: &'static str,
    /// Another name of the head, in files of other versions.
    pub(crate) other_head: &'static str,
    /// Before the number of a layer.
    pub(crate) layers: &'static str,
    /// Where the names in a layer differ from the usual ones.
    pub(crate) renamed: &'static [(LayerRole, &'static str)],
    /// Name of the tensor that holds queries, keys and values.
    pub(crate) qkv: Option<(&'static str, Fusion)>,
    /// Name of the tensor that holds the gate, and after it up.
    pub(crate) gate_up: Option<&'static str>,
    /// How the names of tensors begin that are not of the decoder.
    pub(crate) ignored: &'static [&'static str],
    /// The matrices of the layers are stored as `[inputs, outputs]`.
    pub(crate) transposed: bool,
    pub(crate) experts: ExpertNaming,
}

/// Order of queries, keys and values in one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fusion {
    /// All queries, all keys, all values.
    Stacked,
    /// For each key/value head its queries, its key and its value.
    Grouped,
}

/// Where a role is: a tensor's name, its shape and the part of it.
pub(crate) struct Location {
    pub(crate) name: String,
    /// Shape of the whole tensor.
    pub(crate) shape: Vec<u64>,
    /// Rows of it that [`view`](Self::view) counts from; all if `None`. A row is one element of a vector, and of a matrix what
    /// the last dimension holds.
    pub(crate) within: Option<Range<u64>>,
    pub(crate) view: View,
}

impl Naming {
    /// The names of Llama, which most families use.
    pub(crate) const LLAMA: Self = Self {
        optional_prefix: "",
        embedding: "model.embed_tokens",
        positions: "model.embed_positions",
        final_norm: "model.norm",
        head: "lm_head",
        other_head: "",
        layers: "model.layers",
        renamed: &[],
        qkv: None,
        gate_up: None,
        ignored: &[],
        transposed: false,
        experts: ExpertNaming::QWEN,
    };

    /// The name of a role's own tensor.
    pub fn name(&self, role: Role) -> String {
        match role {
            Role::Embedding => format!("{}.weight", self.embedding),
            Role::Positions => format!("{}.weight", self.positions),
            Role::FinalNorm => format!("{}.weight", self.final_norm),
            Role::FinalNormBias => format!("{}.bias", self.final_norm),
            Role::Head => format!("{}.weight", self.head),
            Role::Layer(layer, role @ LayerRole::Expert(expert, part)) => {
                format!("{}.{layer}.{}.{}", self.layers, self.experts.module(expert, part), role.suffix())
            }
            Role::Layer(layer, role) => {
                let other = self.renamed.iter().find(|(renamed, _)| *renamed == role.module());
                let module = other.map_or(role.module_name(), |(_, name)| name);
                let dot = if role.suffix().is_empty() { "" } else { "." };
                format!("{}.{layer}.{module}{dot}{}", self.layers, role.suffix())
            }
        }
    }

    /// Where a role is if it has a tensor of its own.
    pub(crate) fn own(&self, role: Role, spec: &DecoderSpec) -> Location {
        let mut shape = role.shape(spec);
        let transposed = self.transposed && matches!(role, Role::Layer(_, role) if role.is_matrix());
        let view = if transposed { View::columns(shape[0], 0, shape[0]) } else { View::Whole };
        if transposed {
            shape.reverse();
        }
        Location { name: self.name(role), shape, within: None, view }
    }

    /// All places where a role may be, the usual one first.
    pub(crate) fn places(&self, role: Role, spec: &DecoderSpec) -> impl Iterator<Item = Location> {
        let own = self.own(role, spec);
        let other = (role == Role::Head && !self.other_head.is_empty())
            .then(|| Location { name: format!("{}.weight", self.other_head), ..self.own(role, spec) });
        std::iter::once(own).chain(self.shared(role, spec)).chain(other)
    }

    /// Where a role is if it shares its tensor; `None` where the family has no such tensor.
    pub(crate) fn shared(&self, role: Role, spec: &DecoderSpec) -> Option<Location> {
        let Role::Layer(layer, role) = role else { return None };
        if let LayerRole::Expert(expert, part) = role {
            let location = self.experts.stacked((layer, expert), part, spec)?;
            return Some(Location { name: format!("{}.{layer}.{}", self.layers, location.name), ..location });
        }
        let (q, kv) = (u64::from(spec.q_width()), u64::from(spec.kv_width()));
        let (dim, inner) = (u64::from(spec.head_dim), u64::from(spec.intermediate));
        let group = q / u64::from(spec.kv_heads);
        let qkv = |stacked: [u64; 2], grouped: [u64; 2]| {
            let (name, fusion) = self.qkv?;
            let view = match fusion {
                Fusion::Stacked => View::rows(stacked[0], stacked[1]),
                Fusion::Grouped => View::Rows {
                    start: grouped[0],
                    len: grouped[1],
                    stride: group + 2 * dim,
                    count: u64::from(spec.kv_heads),
                },
            };
            Some((name, q + 2 * kv, view))
        };
        let gate_up = |start| Some((self.gate_up?, 2 * inner, View::rows(start, inner)));
        let (module, rows, view) = match role.module() {
            LayerRole::Q => qkv([0, q], [0, group])?,
            LayerRole::K => qkv([q, kv], [group, dim])?,
            LayerRole::V => qkv([q + kv, kv], [group + dim, dim])?,
            LayerRole::Gate => gate_up(0)?,
            LayerRole::Up => gate_up(inner)?,
            _ => return None,
        };
        let name = format!("{}.{layer}.{module}.{}", self.layers, role.suffix());
        let hidden = u64::from(spec.hidden);
        let (shape, view) = match (role.is_matrix(), view) {
            (false, view) => (vec![rows], view),
            (true, View::Rows { start, len, .. }) if self.transposed => {
                (vec![hidden, rows], View::columns(rows, start, len))
            }
            (true, view) => (vec![rows, hidden], view),
        };
        Some(Location { name, shape, within: None, view })
    }

    /// Where the blocks and the scales of a matrix of an expert in MXFP4 are; `None` where the family has none.
    pub(crate) fn mxfp4(&self, role: Role, spec: &DecoderSpec) -> Option<[Location; 2]> {
        let Role::Layer(layer, LayerRole::Expert(expert, part)) = role else { return None };
        let locations = self.experts.mxfp4((layer, expert), part, spec)?;
        Some(locations.map(|location| Location {
            name: format!("{}.{layer}.{}", self.layers, location.name),
            ..location
        }))
    }

    /// Whether these are the names of GGUF files.
    pub(crate) fn is_gguf(&self) -> bool {
        self.layers == "blk"
    }

    /// The layer's number in the name of a tensor.
    pub(crate) fn layer_of(&self, name: &str) -> Option<u32> {
        let layers = self.layers.strip_prefix(self.optional_prefix).unwrap_or(self.layers);
        let rest = name.strip_prefix(self.layers).or_else(|| name.strip_prefix(layers))?;
        rest.strip_prefix('.')?.split('.').next()?.parse().ok()
    }
}
