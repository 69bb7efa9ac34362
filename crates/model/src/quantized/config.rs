//! `quantization_config` of config.json.

use super::awq::Awq;
use super::compressed::Compressed;
use super::fp8::Fp8;
use super::gptq::Gptq;
use super::parts::{Finding, Target};
use crate::json::Object;
use crate::naming::Location;
use crate::shards::Shards;
use crate::view::View;
use crate::{DecoderSpec, ModelError, ModelSource, Role};

/// Which matrices are quantised, and how.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quantization {
    method: Method,
    /// Bits to which activations are to be rounded.
    pub(crate) activation_bits: Option<u8>,
}

#[derive(Clone, Debug, Default)]
enum Method {
    /// Nothing is, or what is says so by the names of its tensors.
    #[default]
    None,
    Gptq(Gptq),
    Awq(Awq),
    Fp8(Fp8),
    Compressed(Compressed),
}

const FIELD: &str = "quantization_config";

/// Files that hold the same where config.json does not, and the method if they do not name it.
const OTHER_FILES: [(&str, &str); 2] = [("quantize_config.json", "gptq"), ("quant_config.json", "awq")];

/// Longest such file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

const OTHER_METHOD: &str = "gptq, awq, compressed-tensors, fp8 and, of gpt-oss, mxfp4 are read; use the same model in one of \
                            these or in GGUF, or the original checkpoint with --quantize (pagoda quantize writes a folder)";

impl Quantization {
    /// Reads the field, or the file that has its place; nothing is quantised without either.
    pub(crate) fn read(config: &Object, source: &ModelSource) -> Result<Self, ModelError> {
        let mut quantization = Self::default();
        if let Some(fields) = config.object(FIELD)? {
            quantization.method = Method::read(&fields, "")?;
        } else if let Some((fields, usual)) = other_file(source)? {
            quantization.method = Method::read(&fields, usual)?;
        }
        if let Method::Compressed(compressed) = &quantization.method {
            quantization.activation_bits = compressed.activation_bits();
        }
        quantization.read_own(config)?;
        Ok(quantization)
    }

    /// What this engine's own files say beyond compressed-tensors.
    fn read_own(&mut self, config: &Object) -> Result<(), ModelError> {
        let Some(own) = config.object("pagoda")? else { return Ok(()) };
        match own.integer("activation_bits", 8, 16)? {
            None => {}
            Some(bits @ (8 | 16)) => self.activation_bits = Some(bits as u8),
            Some(bits) => {
                return Err(own.error("activation_bits", format!("is {bits}, but should be 8 or 16")));
            }
        }
        Ok(())
    }

    /// The matrix of `role` if it is quantised: by itself, or as part of one that holds several.
    pub(crate) fn find(
        &self,
        role: Role,
        spec: &DecoderSpec,
        found: &Shards,
    ) -> Result<Option<Finding>, ModelError> {
        let class = match role {
            Role::Embedding => "Embedding",
            Role::Head => "Linear",
            Role::Layer(_, role) if role.is_matrix() => "Linear",
            _ => return Ok(None),
        };
        if matches!(self.method, Method::None) {
            return Ok(None);
        }
        for location in spec.naming.places(role, spec) {
            let prefix = spec.naming.optional_prefix;
            for bare in [false, true] {
                let Some(mut target) = target(&location, found, bare.then_some(prefix)) else { continue };
                if let Some(finding) = self.find_in(&mut target, class)? {
                    return Ok(Some(finding));
                }
            }
        }
        Ok(None)
    }

    fn find_in(&self, target: &mut Target<'_>, class: &str) -> Result<Option<Finding>, ModelError> {
        match &self.method {
            Method::None => Ok(None),
            Method::Gptq(gptq) => gptq.find(target),
            Method::Awq(awq) => awq.find(target),
            Method::Fp8(fp8) => fp8.find(target),
            Method::Compressed(compressed) => compressed.find(target, class),
        }
    }

    /// Whether a tensor without a role is one that the method writes and that changes no weight: scales of stored keys and
    /// values, which are kept in a format of their own.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        const SCALES: [&str; 6] =
            [".k_scale", ".v_scale", ".q_scale", ".kv_scale", ".k_proj.output_scale", ".v_proj.output_scale"];
        matches!(self.method, Method::Fp8(_) | Method::Compressed(_))
            && SCALES.iter().any(|end| name.ends_with(end))
    }
}

impl Method {
    fn read(fields: &Object, usual: &'static str) -> Result<Self, ModelError> {
        let method = fields.text("quant_method")?.unwrap_or(usual);
        match method {
            // Which tensors are MXFP4, their names say.
            "mxfp4" => Ok(Self::None),
            "gptq" => Gptq::read(fields).map(Self::Gptq),
            "awq" => Awq::read(fields).map(Self::Awq),
            "fp8" => Fp8::read(fields).map(Self::Fp8),
            "compressed-tensors" => Compressed::read(fields).map(Self::Compressed),
            _ => Err(fields.unsupported("quant_method", OTHER_METHOD)),
        }
    }
}

fn other_file(source: &ModelSource) -> Result<Option<(Object, &'static str)>, ModelError> {
    for (name, method) in OTHER_FILES {
        if let Some(bytes) = source.read(name, MAX_BYTES)? {
            return Object::parse(name, &bytes).map(|fields| Some((fields, method)));
        }
    }
    Ok(None)
}

/// The module at `location`, its name without `prefix` if there is one; `None` where there is no such module.
fn target<'a>(location: &Location, found: &'a Shards, prefix: Option<&str>) -> Option<Target<'a>> {
    let name = location.name.strip_suffix(".weight")?;
    let module = match prefix {
        None => name,
        Some("") => return None,
        Some(prefix) => name.strip_prefix(prefix)?,
    };
    let &[a, b] = location.shape.as_slice() else { return None };
    let (n, k, view) = match location.view {
        _ if location.within.is_some() => return None,
        // Stored with inputs first as floats, but not quantised.
        View::Columns { width, start, step, len } if b == width => {
            let all = (start, step, len) == (0, 1, width);
            let rows = match step {
                1 => View::rows(start, len),
                _ => View::Rows { start, len: 1, stride: step, count: len },
            };
            (b, a, if all { View::Whole } else { rows })
        }
        View::Columns { .. } => return None,
        view => (a, b, view),
    };
    Some(Target { module: module.to_owned(), n, k, view, found, used: Vec::new() })
}
