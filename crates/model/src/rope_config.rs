//! Rotary positions as config.json writes them: `rope_theta` and `rope_scaling` (transformers 4), or
//! `rope_parameters` (transformers 5), flat or per layer type.

use crate::config::{Common, Defaults, MAX_CONTEXT};
use crate::json::Object;
use crate::{ModelError, RopeScaling, RopeSpec};

const LAYER_TYPES: [&str; 3] = ["full_attention", "sliding_attention", "chunked_attention"];

/// What the parameters of a kind of rotation are checked against, and stand in for what they leave out.
struct Context<'a> {
    config: &'a Object,
    common: &'a Common,
    rotary: f32,
}

/// The rotation of all layers.
pub(crate) fn read(config: &Object, common: &Common, defaults: &Defaults) -> Result<RopeSpec, ModelError> {
    let outer = theta(config)?;
    let context = Context { config, common, rotary: rotary(config)?.unwrap_or(defaults.rotary) };
    let Some((field, parameters)) = parameters(config)? else {
        return context.plain(outer.unwrap_or(defaults.rope_theta));
    };
    let inner = theta(&parameters)?;
    if let (Some(outer), Some(inner)) = (outer, inner)
        && outer != inner
    {
        let problem = format!("is {outer}, but {field}.rope_theta is {inner}: make them equal");
        return Err(config.error("rope_theta", problem));
    }
    context.rope(&parameters, inner.or(outer).unwrap_or(defaults.rope_theta))
}

/// The rotations of the layers that see everything and of those with a window: `rope_parameters` per layer type, or else
/// `rope_theta` and `rope_scaling` for the former and `rope_local_base_freq` for the latter, whose default is `local`.
pub(crate) fn read_both(
    config: &Object,
    common: &Common,
    defaults: &Defaults,
    local: Option<f32>,
) -> Result<[RopeSpec; 2], ModelError> {
    let context = Context { config, common, rotary: rotary(config)?.unwrap_or(defaults.rotary) };
    let global = theta(config)?.unwrap_or(defaults.rope_theta);
    let local_theta = config
        .number("rope_local_base_freq", "a number of at least 1", |n| n >= 1.0)?
        .or(local)
        .unwrap_or(global);
    let new = config.object("rope_parameters")?;
    let of_type = |name| new.as_ref().map(|new| new.object(name)).transpose().map(Option::flatten);
    let [full, sliding] = [of_type(LAYER_TYPES[0])?, of_type(LAYER_TYPES[1])?];
    let full = match full {
        Some(full) => Some(full),
        None => config.object("rope_scaling")?,
    };
    let rope = |parameters: Option<Object>, default| match parameters {
        Some(parameters) => context.rope(&parameters, theta(&parameters)?.unwrap_or(default)),
        None => context.plain(default),
    };
    Ok([rope(full, global)?, rope(sliding, local_theta)?])
}

fn theta(object: &Object) -> Result<Option<f32>, ModelError> {
    object.number("rope_theta", "a number of at least 1", |n| n >= 1.0)
}

fn rotary(object: &Object) -> Result<Option<f32>, ModelError> {
    object.number("partial_rotary_factor", "above 0 and at most 1", |n| n > 0.0 && n <= 1.0)
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
            let advice = "this architecture rotates alike in every layer";
            return Err(config.unsupported("rope_parameters", advice));
        }
    }
    let inner = parameters.object(first)?;
    Ok(inner.unwrap_or(parameters))
}

impl Context<'_> {
    fn plain(&self, theta: f32) -> Result<RopeSpec, ModelError> {
        let rotary_dim = self.rotary_dim(self.rotary)?;
        Ok(RopeSpec { theta, rotary_dim, interleaved: false, scaling: RopeScaling::None })
    }

    fn rope(&self, parameters: &Object, theta: f32) -> Result<RopeSpec, ModelError> {
        let rotary_dim = self.rotary_dim(rotary(parameters)?.unwrap_or(self.rotary))?;
        let scaling = self.scaling(parameters, rotary_dim)?;
        if theta == 1.0 && matches!(scaling, RopeScaling::Yarn { .. }) {
            return Err(parameters.error("rope_theta", "is 1, but yarn needs a series of wavelengths"));
        }
        Ok(RopeSpec { theta, rotary_dim, interleaved: false, scaling })
    }

    fn rotary_dim(&self, part: f32) -> Result<u32, ModelError> {
        // As the reference rounds it: in f64, towards 0.
        let dim = (f64::from(self.common.head_dim) * f64::from(part) + 1e-6) as u32;
        if dim == 0 || !dim.is_multiple_of(2) {
            let head_dim = self.common.head_dim;
            let problem =
                format!("is {part}: of {head_dim} elements that is {dim}, but should be an even number");
            return Err(self.config.error("partial_rotary_factor", problem));
        }
        Ok(dim)
    }

    fn scaling(&self, parameters: &Object, rotary_dim: u32) -> Result<RopeScaling, ModelError> {
        let kind = match (parameters.text("rope_type")?, parameters.text("type")?) {
            (Some(new), Some(old)) if new != old => {
                let problem = format!("is {new:?}, but type, its older name, is {old:?}: make them equal");
                return Err(parameters.error("rope_type", problem));
            }
            (kind, older) => kind.or(older).unwrap_or("default"),
        };
        match kind {
            "default" => Ok(RopeScaling::None),
            // The base is corrected only beyond max_position_embeddings, where no sequence goes.
            "dynamic" => need_factor(parameters).map(|_| RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: need_factor(parameters)? }),
            "llama3" => self.llama3(parameters),
            "yarn" if parameters.get("short_factor").is_none() => self.yarn(parameters),
            "longrope" | "su" | "yarn" => self.longrope(parameters, rotary_dim),
            _ => {
                let field = if parameters.get("rope_type").is_some() { "rope_type" } else { "type" };
                let advice = "the kinds read are default, linear, dynamic, llama3, yarn and longrope; where the \
                              model was trained without scaling, remove it and lower max_position_embeddings to \
                              the trained length";
                Err(parameters.unsupported(field, advice))
            }
        }
    }

    fn llama3(&self, parameters: &Object) -> Result<RopeScaling, ModelError> {
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
            original_max_position: self.original(parameters)?,
        })
    }

    fn yarn(&self, parameters: &Object) -> Result<RopeScaling, ModelError> {
        let original = self.original(parameters)?;
        let factor = match factor(parameters)? {
            Some(factor) => factor,
            None => (self.common.max_context as f32 / original as f32).max(1.0),
        };
        let mscale = |field| parameters.number(field, "a number of at least 0", |n| n >= 0.0);
        let (over, under) = (mscale("mscale")?, mscale("mscale_all_dim")?);
        let of = |mscale: f64| {
            if factor > 1.0 { 0.1 * mscale * f64::from(factor).ln() + 1.0 } else { 1.0 }
        };
        let recommended = match (over, under) {
            (Some(over), Some(under)) if over > 0.0 && under > 0.0 => {
                of(f64::from(over)) / of(f64::from(under))
            }
            _ => of(1.0),
        };
        let beta = |field, default| Ok(positive(parameters, field)?.unwrap_or(default));
        Ok(RopeScaling::Yarn {
            factor,
            beta_fast: beta("beta_fast", 32.0)?,
            beta_slow: beta("beta_slow", 1.0)?,
            truncate: parameters.flag("truncate")?.unwrap_or(true),
            original_max_position: original,
            amplitude: positive(parameters, "attention_factor")?.unwrap_or(recommended as f32),
        })
    }

    fn longrope(&self, parameters: &Object, rotary_dim: u32) -> Result<RopeScaling, ModelError> {
        let original = self.original(parameters)?;
        let list = |field| {
            let pairs = rotary_dim as usize / 2;
            let numbers = parameters.numbers(field, "numbers above 0", |n| n > 0.0)?.unwrap_or_default();
            if numbers.len() != pairs {
                let problem = format!("has {} numbers, but {pairs} pairs are rotated", numbers.len());
                return Err(parameters.error(field, problem));
            }
            Ok(numbers.into_boxed_slice())
        };
        let stretch = match factor(parameters)? {
            Some(factor) => f64::from(factor),
            None => f64::from(self.common.max_context) / f64::from(original),
        };
        let recommended = match stretch > 1.0 && original > 1 {
            true => (1.0 + stretch.ln() / f64::from(original).ln()).sqrt(),
            false => 1.0,
        };
        Ok(RopeScaling::LongRope {
            short: list("short_factor")?,
            long: list("long_factor")?,
            original_max_position: original,
            amplitude: positive(parameters, "attention_factor")?.unwrap_or(recommended as f32),
        })
    }

    /// Context of the first training.
    fn original(&self, parameters: &Object) -> Result<u32, ModelError> {
        const FIELD: &str = "original_max_position_embeddings";
        let outer = self.config.count(FIELD, MAX_CONTEXT)?;
        let inner = parameters.count(FIELD, MAX_CONTEXT)?;
        Ok(outer.or(inner).unwrap_or(self.common.max_context))
    }
}

fn factor(parameters: &Object) -> Result<Option<f32>, ModelError> {
    parameters.number("factor", "a number of at least 1", |n| n >= 1.0)
}

fn need_factor(parameters: &Object) -> Result<f32, ModelError> {
    factor(parameters)?.ok_or_else(|| {
        parameters.error("factor", "is missing: give the factor by which the context is stretched")
    })
}

fn positive(parameters: &Object, field: &str) -> Result<Option<f32>, ModelError> {
    parameters.number(field, "a number above 0", |n| n > 0.0)
}

fn need_positive(parameters: &Object, field: &str) -> Result<f32, ModelError> {
    positive(parameters, field)?.ok_or_else(|| parameters.error(field, "is missing: llama3 scaling needs it"))
}
