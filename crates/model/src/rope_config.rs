//! Rotary positions as config.json writes them: `rope_theta` and `rope_scaling` (transformers 4), or
//! `rope_parameters` (transformers 5), flat or per layer type.

use crate::config::Common;
use crate::json::Object;
use crate::{ModelError, RopeScaling, RopeSpec};

const DEFAULT_THETA: f32 = 10_000.0;
const LAYER_TYPES: [&str; 3] = ["full_attention", "sliding_attention", "chunked_attention"];

pub(crate) fn read(config: &Object, common: &Common) -> Result<RopeSpec, ModelError> {
    let outer = theta(config)?;
    let Some((field, parameters)) = parameters(config)? else {
        let theta = outer.unwrap_or(DEFAULT_THETA);
        return Ok(RopeSpec { theta, rotary_dim: common.head_dim, scaling: RopeScaling::None });
    };
    let inner = theta(&parameters)?;
    if let (Some(outer), Some(inner)) = (outer, inner)
        && outer != inner
    {
        let problem = format!("is {outer}, but {field}.rope_theta is {inner}: make them equal");
        return Err(config.error("rope_theta", problem));
    }
    let theta = inner.or(outer).unwrap_or(DEFAULT_THETA);
    Ok(RopeSpec { theta, rotary_dim: common.head_dim, scaling: scaling(&parameters, common)? })
}

fn theta(object: &Object) -> Result<Option<f32>, ModelError> {
    object.number("rope_theta", "a number of at least 1", |n| n >= 1.0)
}

/// The one set of parameters in force and the field that holds it.
fn parameters(config: &Object) -> Result<Option<(&'static str, Object)>, ModelError> {
    let (old, new) = (config.object("rope_scaling")?, config.object("rope_parameters")?);
    match (old, new) {
        (Some(_), Some(_)) if config.get("rope_scaling") != config.get("rope_parameters") => {
            Err(config.error("rope_scaling", "differs from rope_parameters: keep only rope_parameters"))
        }
        (_, Some(new)) => Ok(Some(("rope_parameters", flatten(config, new)?))),
        (Some(old), None) => Ok(Some(("rope_scaling", old))),
        (None, None) => Ok(None),
    }
}

/// Parameters per layer type, which must be equal, as one set.
fn flatten(config: &Object, parameters: Object) -> Result<Object, ModelError> {
    let types: Vec<_> =
        LAYER_TYPES.into_iter().filter(|name| parameters.get(name).is_some_and(|v| v.is_object())).collect();
    let Some((first, rest)) = types.split_first() else { return Ok(parameters) };
    for other in rest {
        if parameters.get(first) != parameters.get(other) {
            let advice = "rotary positions must be the same in every layer";
            return Err(config.unsupported("rope_parameters", advice));
        }
    }
    let inner = parameters.object(first)?;
    Ok(inner.unwrap_or(parameters))
}

fn scaling(parameters: &Object, common: &Common) -> Result<RopeScaling, ModelError> {
    if parameters.number("partial_rotary_factor", "a number", |_| true)?.is_some_and(|factor| factor != 1.0) {
        let advice = "only full rotation of each head is computed";
        return Err(parameters.unsupported("partial_rotary_factor", advice));
    }
    let kind = match (parameters.text("rope_type")?, parameters.text("type")?) {
        (Some(new), Some(old)) if new != old => {
            let problem = format!("is {new:?}, but type, its older name, is {old:?}: make them equal");
            return Err(parameters.error("rope_type", problem));
        }
        (kind, older) => kind.or(older).unwrap_or("default"),
    };
    match kind {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: need_factor(parameters)? }),
        "llama3" => llama3(parameters, common),
        _ => {
            let field = if parameters.get("rope_type").is_some() { "rope_type" } else { "type" };
            let advice = "the kinds read are default, linear and llama3; where the model was trained without \
                          scaling, remove it and lower max_position_embeddings to the trained length";
            Err(parameters.unsupported(field, advice))
        }
    }
}

fn llama3(parameters: &Object, common: &Common) -> Result<RopeScaling, ModelError> {
    let low_freq_factor = need_positive(parameters, "low_freq_factor")?;
    let high_freq_factor = need_positive(parameters, "high_freq_factor")?;
    if high_freq_factor <= low_freq_factor {
        let problem =
            format!("is {high_freq_factor}, but should be above low_freq_factor = {low_freq_factor}");
        return Err(parameters.error("high_freq_factor", problem));
    }
    Ok(RopeScaling::Llama3 {
        factor: need_factor(parameters)?,
        low_freq_factor,
        high_freq_factor,
        original_max_position: parameters
            .count("original_max_position_embeddings", u32::MAX)?
            .unwrap_or(common.max_context),
    })
}

fn need_factor(parameters: &Object) -> Result<f32, ModelError> {
    let factor = parameters.number("factor", "a number of at least 1", |n| n >= 1.0)?;
    factor.ok_or_else(|| {
        parameters.error("factor", "is missing: give the factor by which the context is stretched")
    })
}

fn need_positive(parameters: &Object, field: &str) -> Result<f32, ModelError> {
    let number = parameters.number(field, "a number above 0", |n| n > 0.0)?;
    number.ok_or_else(|| parameters.error(field, "is missing: llama3 scaling needs it"))
}
