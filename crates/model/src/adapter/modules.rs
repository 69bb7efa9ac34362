//! The modules of a model that an adapter may change, by the names that PEFT gives them.

use crate::json::clip;
use crate::view::View;
use crate::{DecoderSpec, LayerRole, ModelError, Naming, Role};
use std::collections::HashMap;

/// Before the name of every module.
pub(super) const PREFIX: &str = "base_model.model.";

/// Matrices that may be changed, each with its bias, whose place among others that are stored with it is the same.
const ROLES: [(LayerRole, LayerRole); 7] = [
    (LayerRole::Q, LayerRole::QBias),
    (LayerRole::K, LayerRole::KBias),
    (LayerRole::V, LayerRole::VBias),
    (LayerRole::O, LayerRole::OBias),
    (LayerRole::Gate, LayerRole::GateBias),
    (LayerRole::Up, LayerRole::UpBias),
    (LayerRole::Down, LayerRole::DownBias),
];

/// Which matrix of an update a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// `A`
    Down,
    /// `B`
    Up,
}

impl Side {
    /// As tensors are named, in the order of the sides.
    pub(super) const NAMES: [&'static str; 2] = ["lora_A", "lora_B"];
}

/// A linear operation of the model as its own code has it; one may stand for several matrices.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) layer: u32,
    pub(super) inputs: u64,
    /// Of all parts.
    pub(super) outputs: u64,
    pub(super) parts: Vec<ModulePart>,
}

/// A matrix and its rows among the outputs of the module.
#[derive(Debug)]
pub(super) struct ModulePart {
    pub(super) role: LayerRole,
    pub(super) outputs: u64,
    pub(super) rows: View,
}

/// All modules of a model that may be changed.
#[derive(Debug)]
pub(super) struct Modules {
    naming: &'static Naming,
    by_name: HashMap<String, Module>,
}

impl Modules {
    pub(super) fn new(spec: &DecoderSpec) -> Self {
        let naming = spec.naming;
        let mut by_name: HashMap<String, Module> = HashMap::new();
        for (layer, layer_spec) in (0..).zip(&spec.layers) {
            for (role, bias) in ROLES.into_iter().filter(|(role, _)| role.needed(spec, layer_spec)) {
                let [outputs, inputs] = Role::Layer(layer, role).shape(spec)[..] else { continue };
                let own = ModulePart { role, outputs, rows: View::Whole };
                let module = Module { layer, inputs, outputs, parts: vec![own] };
                by_name.insert(module_name(&naming.name(Role::Layer(layer, role))), module);
                let Some(shared) = naming.shared(Role::Layer(layer, bias), spec) else { continue };
                let all = shared.shape[0];
                let module = Module { layer, inputs, outputs: all, parts: Vec::new() };
                let module = by_name.entry(module_name(&shared.name)).or_insert(module);
                module.parts.push(ModulePart { role, outputs, rows: shared.view });
            }
        }
        Self { naming, by_name }
    }

    /// The module of this name, which [`find`](Self::find) gave.
    pub(super) fn get(&self, name: &str) -> &Module {
        &self.by_name[name]
    }

    /// The module that a tensor belongs to, and which of its matrices it is.
    pub(super) fn find(&self, file: &str, tensor: &str) -> Result<(String, Side), ModelError> {
        let side = |name: &str, side: &str| {
            let ends = [format!(".{side}.weight"), format!(".{side}.default.weight")];
            ends.iter().find_map(|end| name.strip_suffix(end.as_str()).map(str::to_owned))
        };
        let inner = tensor.strip_prefix(PREFIX).unwrap_or(tensor);
        let found = [Side::Down, Side::Up]
            .into_iter()
            .find_map(|which| side(inner, Side::NAMES[which as usize]).map(|module| (module, which)));
        let Some((module, side)) = found else { return Err(self.unexpected(file, tensor)) };
        let prefixed = format!("{}{module}", self.naming.optional_prefix);
        let name = [module, prefixed].into_iter().find(|name| self.by_name.contains_key(name));
        name.map(|name| (name, side)).ok_or_else(|| self.unexpected(file, tensor))
    }

    fn unexpected(&self, file: &str, tensor: &str) -> ModelError {
        let advice = if tensor.contains("embed") || tensor.contains("lm_head") || tensor.contains(".wte") {
            "adapters of the embedding and the head are not computed; merge the adapter into its base model"
        } else if tensor.contains("expert") || tensor.contains(".mlp.gate.") || tensor.contains("router") {
            "adapters of experts and their router are not computed; merge the adapter into its base model"
        } else if tensor.contains("magnitude") {
            "DoRA is not computed; merge the adapter into its base model"
        } else {
            "it changes nothing that this model has; is the adapter for another model?"
        };
        let layer = self.naming.layer_of(tensor.strip_prefix(PREFIX).unwrap_or(tensor));
        let place = layer.map_or(String::new(), |layer| format!(" (layer {layer})"));
        ModelError::TensorEntry {
            file: file.to_owned(),
            tensor: clip(tensor),
            problem: format!("no adapter of this model has such a tensor{place}: {advice}"),
        }
    }
}

/// The module of a tensor.
fn module_name(tensor: &str) -> String {
    let (module, _) = tensor.rsplit_once('.').unwrap_or((tensor, ""));
    module.to_owned()
}
