//! adapter_config.json: rank and scale of each module, and what is not computed.

use crate::ModelError;
use crate::json::Object;
use serde_json::{Map, Value};

/// Largest rank that a config may name.
const MAX_RANK: u32 = 4096;

/// Initialisations that change the model itself, so that the saved matrices are no update of it.
const CHANGES_THE_MODEL: [&str; 4] = ["pissa", "olora", "corda", "loftq"];

/// Rank and scale of the modules of an adapter.
#[derive(Debug)]
pub(super) struct Config {
    object: Object,
    rank: u32,
    alpha: f32,
    /// Divide by the root of the rank instead of the rank (Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning
    /// with LoRA", 2023).
    by_root: bool,
    ranks: Map<String, Value>,
    alphas: Map<String, Value>,
}

impl Config {
    pub(super) fn read(object: &Object) -> Result<Self, ModelError> {
        check_kind(object)?;
        let pattern = |field| Ok(object.object(field)?.map(Object::into_fields).unwrap_or_default());
        Ok(Self {
            rank: object.need_count("r", MAX_RANK)?,
            alpha: object.number("lora_alpha", "a number", |_| true)?.unwrap_or(8.0),
            by_root: object.flag("use_rslora")?.unwrap_or(false),
            ranks: pattern("rank_pattern")?,
            alphas: pattern("alpha_pattern")?,
            object: object.clone(),
        })
    }

    /// Rank of a module.
    pub(super) fn rank(&self, module: &str) -> Result<u32, ModelError> {
        let Some((key, value)) = self.matching("rank_pattern", &self.ranks, module)? else {
            return Ok(self.rank);
        };
        let rank = value.as_u64().and_then(|rank| u32::try_from(rank).ok());
        rank.filter(|rank| (1..=MAX_RANK).contains(rank)).ok_or_else(|| {
            let problem = format!("{key:?} is {value}, but should be a whole number from 1 to {MAX_RANK}");
            self.object.error("rank_pattern", problem)
        })
    }

    /// Factor of the product of a module of this rank.
    pub(super) fn scale(&self, module: &str, rank: u32) -> Result<f32, ModelError> {
        let alpha = match self.matching("alpha_pattern", &self.alphas, module)? {
            None => self.alpha,
            Some((key, value)) => {
                let number = value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
                number.ok_or_else(|| {
                    let problem = format!("{key:?} is {value}, but should be a number");
                    self.object.error("alpha_pattern", problem)
                })?
            }
        };
        Ok(if self.by_root { alpha / (rank as f32).sqrt() } else { alpha / rank as f32 })
    }

    /// The entry of a pattern that names `module`: as a whole, or by what it ends with after a dot.
    fn matching<'p>(
        &self,
        field: &str,
        pattern: &'p Map<String, Value>,
        module: &str,
    ) -> Result<Option<(&'p str, &'p Value)>, ModelError> {
        let mut found: Option<(&str, &Value)> = None;
        for (key, value) in pattern {
            let plain = key.strip_prefix('^').unwrap_or(key).replace("\\.", ".");
            if plain.contains(['\\', '^', '$', '*', '+', '?', '(', ')', '[', ']', '{', '}', '|']) {
                let problem =
                    format!("{key:?} is a regular expression: name the modules, or the ends of their names");
                return Err(self.object.error(field, problem));
            }
            let rest = module.strip_suffix(plain.as_str());
            let whole = rest.is_some_and(str::is_empty);
            let end = !key.starts_with('^') && rest.is_some_and(|rest| rest.ends_with('.'));
            if !whole && !end {
                continue;
            }
            if let Some((other, _)) = found.filter(|(_, other)| *other != value) {
                let problem =
                    format!("{other:?} and {key:?} both name {module} and differ: leave one of them out");
                return Err(self.object.error(field, problem));
            }
            found = Some((key, value));
        }
        Ok(found)
    }
}

/// Refuses what would be computed otherwise than the adapter was trained.
fn check_kind(object: &Object) -> Result<(), ModelError> {
    let kind = object.text("peft_type")?.unwrap_or("LORA");
    if kind != "LORA" {
        return Err(
            object.unsupported("peft_type", "only LORA is computed; merge the adapter into its base model")
        );
    }
    let merge = "merge the adapter into its base model";
    for field in ["use_dora", "lora_bias", "use_qalora", "use_bdlora"] {
        if object.flag(field)?.unwrap_or(false) {
            return Err(object.unsupported(field, merge));
        }
    }
    if object.text("bias")?.is_some_and(|bias| bias != "none") {
        return Err(object.unsupported("bias", merge));
    }
    let lists = ["modules_to_save", "trainable_token_indices", "target_parameters", "layer_replication"];
    let variants = [
        "arrow_config",
        "corda_config",
        "kasa_config",
        "lora_ga_config",
        "monteclora_config",
        "velora_config",
    ];
    for field in lists.into_iter().chain(variants).chain(["alora_invocation_tokens"]) {
        let is_empty = |value: &Value| match value {
            Value::Array(list) => list.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            _ => false,
        };
        if object.get(field).is_some_and(|value| !is_empty(value)) {
            return Err(object.unsupported(field, merge));
        }
    }
    let init = object.get("init_lora_weights").and_then(Value::as_str).unwrap_or_default();
    if CHANGES_THE_MODEL.iter().any(|name| init.to_ascii_lowercase().starts_with(name)) {
        let advice =
            "it was trained beside a changed model; convert it with path_initial_model_for_weight_conversion";
        return Err(object.unsupported("init_lora_weights", advice));
    }
    Ok(())
}
