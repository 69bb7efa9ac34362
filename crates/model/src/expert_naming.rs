//! Names of the tensors of experts, and tensors that hold those of all experts of a layer.

use crate::mxfp4;
use crate::naming::Location;
use crate::view::View;
use crate::{DecoderSpec, ExpertRole};

/// How a family names the tensors of experts, in a layer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExpertNaming {
    /// Before the number of an expert.
    pub(crate) prefix: &'static str,
    /// Where the names in an expert differ from the usual ones.
    pub(crate) renamed: &'static [(ExpertRole, &'static str)],
    /// Tensors of all experts, if the family has them.
    pub(crate) stacked: Option<Stacked>,
}

/// Tensors of all experts of a layer, expert after expert.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stacked {
    /// Name of the gates with what they let through.
    pub(crate) gate_up: &'static str,
    pub(crate) down: &'static str,
    pub(crate) order: Order,
}

/// Order of the elements of one expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The gate `[intermediate, hidden]`, then up, then down `[hidden, intermediate]`; no biases.
    Halves,
    /// Gates `[intermediate, hidden]`, down `[hidden, intermediate]`, and in a tensor of its own what gates let through. Names
    /// of biases end with `.bias` in place of `.weight`.
    Apart { up: &'static str },
    /// `[hidden, intermediate, 2]`: gate and up in turn; down `[intermediate, hidden]`. Biases have names that end with `_bias`;
    /// matrices in MXFP4, with outputs before inputs, have names that end with `_blocks` and `_scales`.
    Turns,
}

/// The place of a role among the outputs of a tensor: every `step`-th of `len` in all, from `start` on, of `of`.
struct Part {
    start: u64,
    step: u64,
    len: u64,
    of: u64,
    inputs: u64,
}

impl ExpertNaming {
    /// The names of Qwen, which most families use.
    pub(crate) const QWEN: Self = Self { prefix: "mlp.experts", renamed: &[], stacked: None };

    /// The module of a role's own tensor, in the layer.
    pub(crate) fn module(&self, expert: u32, role: ExpertRole) -> String {
        let other = self.renamed.iter().find(|(renamed, _)| *renamed == role.module());
        format!("{}.{expert}.{}", self.prefix, other.map_or(role.module_name(), |(_, name)| name))
    }

    /// Where a role of expert `expert` of layer `layer` is in a tensor of all experts, named in the layer.
    pub(crate) fn stacked(
        &self,
        (layer, expert): (u32, u32),
        role: ExpertRole,
        spec: &DecoderSpec,
    ) -> Option<Location> {
        let (stacked, part, count) = self.part(layer, role, spec)?;
        let Part { start, step, len, of, inputs } = part;
        let (name, expert) = (stacked.name(role), u64::from(expert));
        let whole = |rows: u64| Some(expert * rows..(expert + 1) * rows);
        let rows = View::Rows {
            start,
            len: if step == 1 { len } else { 1 },
            stride: step,
            count: if step == 1 { 1 } else { len },
        };
        match (role.module() == role, stacked.order) {
            (true, Order::Halves | Order::Apart { .. }) => Some(Location {
                name: name.to_owned(),
                shape: vec![count, of, inputs],
                within: whole(of),
                view: rows,
            }),
            (true, Order::Turns) => {
                let view = View::Columns { width: of, start, step, len };
                Some(Location {
                    name: name.to_owned(),
                    shape: vec![count, inputs, of],
                    within: whole(inputs),
                    view,
                })
            }
            (false, Order::Halves) => None,
            (false, Order::Apart { .. }) => Some(Location {
                name: name.replace(".weight", ".bias"),
                shape: vec![count, of],
                within: whole(of),
                view: rows,
            }),
            (false, Order::Turns) => Some(Location {
                name: format!("{name}_bias"),
                shape: vec![count, of],
                within: whole(of),
                view: rows,
            }),
        }
    }

    /// Where blocks and scales of a matrix in MXFP4 are, named in the layer.
    pub(crate) fn mxfp4(
        &self,
        (layer, expert): (u32, u32),
        role: ExpertRole,
        spec: &DecoderSpec,
    ) -> Option<[Location; 2]> {
        let (stacked, part, count) = self.part(layer, role, spec)?;
        if stacked.order != Order::Turns || role.module() != role || !part.inputs.is_multiple_of(mxfp4::BLOCK)
        {
            return None;
        }
        let Part { start, step, len, of, inputs } = part;
        let (name, expert, blocks) = (stacked.name(role), u64::from(expert), inputs / mxfp4::BLOCK);
        let view = View::Rows { start, len: 1, stride: step, count: len };
        let location = |end: &str, shape: &[u64]| Location {
            name: format!("{name}_{end}"),
            shape: [&[count, of, blocks], shape].concat(),
            within: Some(expert * of..(expert + 1) * of),
            view,
        };
        Some([location("blocks", &[mxfp4::BLOCK / 2]), location("scales", &[])])
    }

    /// Where the outputs of a role are, and the number of experts.
    fn part(&self, layer: u32, role: ExpertRole, spec: &DecoderSpec) -> Option<(&Stacked, Part, u64)> {
        let stacked = self.stacked.as_ref()?;
        let experts = spec.layers[layer as usize].mlp.experts()?;
        let (hidden, inner) = (u64::from(spec.hidden), u64::from(experts.intermediate));
        let up = u64::from(role.module() == ExpertRole::Up);
        let part = match (role.module(), stacked.order) {
            (ExpertRole::Down, _) => Part { start: 0, step: 1, len: hidden, of: hidden, inputs: inner },
            (_, Order::Apart { .. }) => Part { start: 0, step: 1, len: inner, of: inner, inputs: hidden },
            (_, Order::Halves) => {
                Part { start: up * inner, step: 1, len: inner, of: 2 * inner, inputs: hidden }
            }
            (_, Order::Turns) => Part { start: up, step: 2, len: inner, of: 2 * inner, inputs: hidden },
        };
        Some((stacked, part, u64::from(experts.count)))
    }
}

impl Stacked {
    fn name(&self, role: ExpertRole) -> &'static str {
        match (role.module(), self.order) {
            (ExpertRole::Down, _) => self.down,
            (ExpertRole::Up, Order::Apart { up }) => up,
            _ => self.gate_up,
        }
    }
}
