//! Metadata in the names of config.json, so that one reading serves both, and what only the file can tell.

use super::arch::{FALCON_TWO_NORMS, FAMILIES, Family, MIXTRAL, NAMES, OTHER_KINDS};
use super::set::GgufSet;
use super::value::Value;
use crate::json::{Object, clip};
use crate::{DecoderSpec, Dtype, ModelError, RopeScaling, arch};
use serde_json::{Map, Value as Json, json};

/// Names of config.json and the ends of the names in the file, for every architecture.
const FIELDS: &[(&str, &str)] = &[
    ("hidden_size", "embedding_length"),
    ("num_hidden_layers", "block_count"),
    ("intermediate_size", "feed_forward_length"),
    ("num_attention_heads", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("head_dim", "attention.key_length"),
    ("max_position_embeddings", "context_length"),
    ("rope_theta", "rope.freq_base"),
    ("rms_norm_eps", "attention.layer_norm_epsilon"),
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
];

/// The same for fields that are translated in ways of their own.
const ROTARY: &[(&str, &str)] = &[
    ("partial_rotary_factor", "rope.dimension_count"),
    ("rope_scaling.rope_type", "rope.scaling.type"),
    ("rope_scaling.factor", "rope.scaling.factor"),
    ("rope_scaling.original_max_position_embeddings", "rope.scaling.original_context_length"),
    ("rope_scaling.attention_factor", "rope.scaling.attn_factor"),
    ("rope_scaling.beta_fast", "rope.scaling.yarn_beta_fast"),
    ("rope_scaling.beta_slow", "rope.scaling.yarn_beta_slow"),
];

/// Fields that ask for something that is not computed; 0 and `false` ask for nothing.
const REFUSED: &[(&str, &str)] = &[
    ("attention.max_alibi_bias", "ALiBi positions are not computed; use a model with rotary positions"),
    ("attention.clamp_kqv", "clamped queries, keys and values are not computed; use another model"),
    (
        "nextn_predict_layers",
        "layers that predict several tokens are not read; use a conversion without them",
    ),
];

/// Tensors of rotary frequencies, which become part of the spec.
const ROPE_FREQS: &str = "rope_freqs.weight";
const ROPE_SHORT: &str = "rope_factors_short.weight";
const ROPE_LONG: &str = "rope_factors_long.weight";

/// Most layers that are looked at before their number is checked.
const MAX_LAYERS: u64 = 1 << 10;

/// Most numbers of a tensor of rotary frequencies.
const MAX_FREQS: u64 = 1 << 12;

impl GgufSet {
    /// Reads what the file says of the model.
    ///
    /// # Errors
    /// A file that holds no language model, an architecture that is not read, fields that make no sense.
    pub(crate) fn spec(&mut self) -> Result<(DecoderSpec, Vec<u32>), ModelError> {
        let family = self.family()?;
        let config = self.config(family)?;
        let mut spec = arch::read_spec(&config).map_err(|error| self.in_own_names(error, family))?;
        spec.naming = family.naming;
        // Files hold the weights that norms multiply with.
        spec.norm.weight_offset = 0.0;
        for rope in &mut spec.ropes {
            rope.interleaved |= family.interleaved;
        }
        let has = |module: &str| self.has(&format!("blk.0.{module}.bias"));
        spec.qkv_bias = has("attn_q") || has("attn_qkv");
        (spec.o_bias, spec.mlp_bias) = (has("attn_output"), has("ffn_down"));
        self.frequencies(&mut spec)?;
        let stop_ids = self.stop_ids(spec.vocab_size as usize)?;
        // What is part of the spec is no weight.
        for name in [ROPE_FREQS, ROPE_SHORT, ROPE_LONG] {
            self.tensors.remove(name);
        }
        Ok((spec, stop_ids))
    }

    fn has(&self, tensor: &str) -> bool {
        self.tensors.contains_key(tensor)
    }

    fn family(&self) -> Result<&'static Family, ModelError> {
        const ARCHITECTURE: &str = "general.architecture";
        let (metadata, bytes) = (&self.metadata, self.bytes());
        let other = |what: &str| {
            let problem =
                format!("the file is {what}, not a language model: give the file of the language model");
            Err(metadata.error(ARCHITECTURE, problem))
        };
        match metadata.text("general.type", bytes)? {
            Some("adapter") => return other("an adapter (LoRA)"),
            Some("mmproj") => return other("a vision projector (mmproj)"),
            Some("vocab") => return other("a tokenizer alone"),
            Some("imatrix") => return other("statistics for quantisation"),
            _ => {}
        }
        let Some(name) = metadata.text(ARCHITECTURE, bytes)? else {
            return Err(metadata.error(ARCHITECTURE, "is missing: the file does not say what it holds"));
        };
        if let Some((_, what)) = OTHER_KINDS.iter().find(|(other, _)| *other == name) {
            return other(what);
        }
        if self.tensors.is_empty() {
            return other("without weights");
        }
        match FAMILIES.iter().find(|family| family.name == name) {
            Some(_) if name == "llama" && self.has("blk.0.ffn_gate_exps.weight") => Ok(&MIXTRAL),
            Some(family) if family.name == "falcon" && self.has("blk.0.attn_norm_2.weight") => {
                Ok(&FALCON_TWO_NORMS)
            }
            Some(family) => Ok(family),
            None => Err(self.unknown(name)),
        }
    }

    fn unknown(&self, name: &str) -> ModelError {
        let layers = self.metadata.whole(&format!("{name}.block_count")).ok().flatten();
        ModelError::UnknownGguf {
            file: self.file().to_owned(),
            name: clip(name),
            version: self.metadata.version,
            layers: layers.and_then(|layers| u32::try_from(layers).ok()).unwrap_or(0),
            supported: NAMES,
            nearest: arch::nearest(name, NAMES),
        }
    }

    /// The fields of config.json.
    fn config(&self, family: &Family) -> Result<Object, ModelError> {
        let (metadata, bytes) = (&self.metadata, self.bytes());
        let key = |end: &str| format!("{}.{end}", family.name);
        for &(end, advice) in REFUSED {
            let asks = match metadata.get(&key(end)) {
                Some(Value::Whole(number)) => *number != 0,
                Some(Value::Fraction(number)) => *number != 0.0,
                Some(Value::Flag(flag)) => *flag,
                _ => false,
            };
            if asks {
                return Err(metadata.error(&key(end), format!("is not supported: {advice}")));
            }
        }
        if !family.experts && metadata.whole(&key("expert_count"))?.is_some_and(|count| count > 0) {
            return Err(metadata
                .error(&key("expert_count"), "asks for experts, which this architecture is read without"));
        }
        let mut fields = Map::new();
        fields.insert("architectures".to_owned(), json!([family.architecture]));
        for &(name, end) in FIELDS.iter().chain(family.fields) {
            let Some(value) = metadata.get(&key(end)) else { continue };
            let value = value.json(bytes).ok_or_else(|| metadata.error(&key(end), "is too long"))?;
            fields.insert(name.to_owned(), one_of_all(value));
        }
        let Some(embedding) = self.tensors.get("token_embd.weight") else {
            return Err(
                metadata.error("general.architecture", "the file has no tensor \"token_embd.weight\"")
            );
        };
        let vocab = embedding.entry.shape[0];
        fields.insert("vocab_size".to_owned(), vocab.into());
        fields.insert("tie_word_embeddings".to_owned(), (!self.has("output.weight")).into());
        match metadata.get(&key("attention.sliding_window_pattern")).and_then(|value| value.json(bytes)) {
            Some(Json::Array(windowed)) => {
                let name = |windowed: &Json| {
                    if windowed == &Json::Bool(true) { "sliding_attention" } else { "full_attention" }
                };
                fields.insert("layer_types".to_owned(), windowed.iter().map(name).collect::<Vec<_>>().into());
            }
            Some(every) => drop(fields.insert("sliding_window_pattern".to_owned(), every)),
            None => {}
        }
        self.rotary(family, &mut fields)?;
        let special = self.special(family, &fields);
        fields.extend(special.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Ok(Object::new(self.file(), fields))
    }

    /// How much of a head is rotated, and how a longer context stretches it.
    fn rotary(&self, family: &Family, fields: &mut Map<String, Json>) -> Result<(), ModelError> {
        let (metadata, bytes) = (&self.metadata, self.bytes());
        let key = |end: &str| format!("{}.rope.{end}", family.name);
        let number = |name: &str| fields.get(name).and_then(Json::as_u64).filter(|n| *n > 0);
        let heads = || Some(number("hidden_size")? / number("num_attention_heads")?);
        let turned = metadata.whole(&key("dimension_count"))?;
        if let (Some(turned), Some(dim)) = (turned, number("head_dim").or_else(heads)) {
            // A little more than the quotient, which is multiplied and rounded down again.
            let more = if turned < i128::from(dim) { 1e-4 } else { 0.0 };
            let part = (turned as f64 + more) / dim as f64;
            fields.insert("partial_rotary_factor".to_owned(), part.into());
        }
        let scaling = |end: &str| metadata.get(&key(end)).and_then(|value| value.json(bytes));
        let mut parameters = Map::new();
        let mut put = |name: &str, value: Option<Json>| {
            if let Some(value) = value {
                parameters.insert(name.to_owned(), value);
            }
        };
        put("factor", scaling("scaling.factor"));
        put("original_max_position_embeddings", scaling("scaling.original_context_length"));
        // 1 stands for what follows from the factor.
        let amplitude = scaling("scaling.attn_factor").filter(|factor| factor.as_f64() != Some(1.0));
        put("attention_factor", amplitude);
        put("beta_fast", scaling("scaling.yarn_beta_fast"));
        put("beta_slow", scaling("scaling.yarn_beta_slow"));
        let (short, long) = (self.factors(ROPE_SHORT)?, self.factors(ROPE_LONG)?);
        let kind = metadata.text(&key("scaling.type"), bytes)?.filter(|kind| *kind != "none");
        let kind = if short.is_some() && long.is_some() { Some("longrope") } else { kind };
        put("short_factor", short.map(Json::from));
        put("long_factor", long.map(Json::from));
        if let Some(kind) = kind {
            // The file does not say that the bounds of the ramp are not whole numbers.
            put("truncate", (family.name == "gpt-oss").then(|| false.into()));
            put("rope_type", Some(kind.into()));
            fields.insert("rope_scaling".to_owned(), parameters.into());
        }
        Ok(())
    }

    /// What config.json says and the file leaves to the program that reads it.
    fn special(&self, family: &Family, fields: &Map<String, Json>) -> Vec<(&'static str, Json)> {
        let number = |name: &str| fields.get(name).and_then(Json::as_u64).filter(|n| *n > 0);
        let per_head = || Some(number("hidden_size")? / number("num_attention_heads")?);
        match family.name {
            "gemma2" | "gemma3" => {
                // The largest of each generation divides by the width that a head would have if heads filled the stream.
                let layers = number("num_hidden_layers");
                let largest = layers == Some(if family.name == "gemma2" { 46 } else { 62 });
                let scalar = if largest { per_head() } else { number("head_dim").or_else(per_head) };
                scalar.map(|scalar| ("query_pre_attn_scalar", scalar.into())).into_iter().collect()
            }
            "qwen2moe" | "qwen3moe" => {
                let layers = number("num_hidden_layers").unwrap_or(0).min(MAX_LAYERS);
                let dense =
                    (0..layers).filter(|layer| !self.has(&format!("blk.{layer}.ffn_gate_exps.weight")));
                let renormalised = family.name == "qwen3moe";
                vec![
                    ("mlp_only_layers", dense.collect::<Vec<_>>().into()),
                    ("norm_topk_prob", renormalised.into()),
                ]
            }
            "command-r" => vec![("use_qk_norm", self.has("blk.0.attn_q_norm.weight").into())],
            "falcon" => {
                let two = self.has("blk.0.attn_norm_2.weight");
                let kv_heads = number("num_key_value_heads").unwrap_or(1);
                vec![
                    ("new_decoder_architecture", (two || kv_heads > 1).into()),
                    ("num_ln_in_parallel_attn", if two { 2 } else { 1 }.into()),
                    ("multi_query", (kv_heads == 1).into()),
                ]
            }
            "olmo2" if fields.contains_key("sliding_window") => {
                vec![("architectures", json!(["Olmo3ForCausalLM"]))]
            }
            "exaone4" if !fields.contains_key("sliding_window") => vec![("sliding_window", Json::Null)],
            _ => Vec::new(),
        }
    }

    /// The numbers of a tensor of rotary frequencies.
    fn factors(&self, name: &str) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(found) = self.tensors.get(name) else { return Ok(None) };
        let (entry, shard) = (&found.entry, &self.shards[found.shard]);
        let error = |problem: String| ModelError::TensorEntry {
            file: shard.file.clone(),
            tensor: name.to_owned(),
            problem,
        };
        let &[len] = entry.shape.as_slice() else {
            return Err(error("should have one dimension".to_owned()));
        };
        if entry.format.dtype() != Some(Dtype::F32) || len > MAX_FREQS {
            return Err(error(format!(
                "is {len} numbers of {}, but should be a few of F32",
                entry.format.name
            )));
        }
        let words = shard.blob.bytes()[entry.range.clone()].as_chunks().0.iter();
        let factors: Vec<f32> = words.map(|&word| f32::from_le_bytes(word)).collect();
        match factors.iter().position(|factor| !(factor.is_finite() && *factor > 0.0)) {
            Some(bad) => Err(error(format!("element {bad} is {}, but should be above 0", factors[bad]))),
            None => Ok(Some(factors)),
        }
    }

    /// Divisors of the frequencies that are stored with the weights.
    fn frequencies(&self, spec: &mut DecoderSpec) -> Result<(), ModelError> {
        let Some(factors) = self.factors(ROPE_FREQS)? else { return Ok(()) };
        let error = |problem: String| ModelError::TensorEntry {
            file: self.file().to_owned(),
            tensor: ROPE_FREQS.to_owned(),
            problem,
        };
        for rope in &mut spec.ropes {
            if factors.len() != rope.rotary_dim as usize / 2 {
                let (len, pairs) = (factors.len(), rope.rotary_dim / 2);
                return Err(error(format!("has {len} numbers, but {pairs} pairs are rotated")));
            }
            if rope.scaling != RopeScaling::None {
                return Err(error("is there, but the metadata scale the rotation too".to_owned()));
            }
            let factors: Box<[f32]> = factors.as_slice().into();
            rope.scaling = RopeScaling::LongRope {
                short: factors.clone(),
                long: factors,
                original_max_position: spec.max_context,
                amplitude: 1.0,
            };
        }
        Ok(())
    }

    /// An error of a reading, with the name that the file has for the field.
    fn in_own_names(&self, error: ModelError, family: &Family) -> ModelError {
        let own = |field: &str| {
            let fields = FIELDS.iter().chain(family.fields).chain(ROTARY);
            let mut known = fields.filter(|(name, _)| *name == field);
            let key = |(_, end): &(&str, &str)| format!("{}.{end}", family.name);
            let written = known.clone().map(key).find(|key| self.metadata.get(key).is_some());
            written.or_else(|| known.next().map(key))
        };
        match error {
            ModelError::Field { file, field, problem } => {
                let field = own(&field).map_or(field.clone(), |key| format!("{key} ({field})"));
                ModelError::Field { file, field, problem }
            }
            other => other,
        }
    }
}

/// The element of a list with one number for each layer, where all are equal.
fn one_of_all(value: Json) -> Json {
    match value.as_array().map(Vec::as_slice) {
        Some([first, rest @ ..]) if rest.iter().all(|other| other == first) => first.clone(),
        _ => value,
    }
}
