//! Folders of compressed-tensors, as llm-compressor writes them: which matrices are quantised, and how.
//!
//! | kind | codes | scales | zero points |
//! |---|---|---|---|
//! | packed (`pack-quantized`) | `weight_packed` I32, words along k of 4 or 8 bits, each plus half their number | `weight_scale` `[n, groups]` | `weight_zero_point` I32 `[n / 8, groups]` or `[n / 4, groups]`, words of rows |
//! | bytes (`int-quantized`, `naive-quantized`) | `weight` I8 `[n, k]` | as above, `[n, 1]` or one number | `weight_zero_point` I8, as the scales |
//! | floats (`float-quantized`, `naive-quantized`) | `weight` F8_E4M3 `[n, k]` | as above, or of blocks | – |
//!
//! Divisions round up. Which of the kinds a matrix is, its tensors say. `weight_g_idx` has the group of each input where they
//! are not in order.

use super::codes::CodeOrder;
use super::data::ZeroOrder;
use super::fp8::{self, Blocks};
use super::gptq::read_group;
use super::parts::{Finding, Said, Target};
use super::pattern::Pattern;
use crate::ModelError;
use crate::json::{Object, clip};
use crate::shards::Found;
use std::collections::HashSet;

/// `quantization_config` of the method `compressed-tensors`.
#[derive(Clone, Debug)]
pub(crate) struct Compressed {
    groups: Vec<Group>,
    ignored: Targets,
}

/// Matrices that are quantised alike.
#[derive(Clone, Debug)]
struct Group {
    targets: Targets,
    weights: Weights,
    /// Bits to which activations are to be rounded; `None` leaves it open.
    activation_bits: Option<u8>,
}

/// Names of modules and of their classes, and patterns of names.
#[derive(Clone, Debug, Default)]
struct Targets {
    names: HashSet<String>,
    patterns: Vec<Pattern>,
}

/// How weights are quantised.
#[derive(Clone, Copy, Debug)]
struct Weights {
    bits: u8,
    float: bool,
    symmetric: bool,
    strategy: Strategy,
}

#[derive(Clone, Copy, Debug)]
enum Strategy {
    Tensor,
    Channel,
    Group(u64),
    Blocks(Blocks),
}

/// Most patterns of one list.
const MAX_PATTERNS: usize = 64;

/// Layouts that are not read.
const LAYOUTS: [&str; 4] = ["marlin", "sparse", "nvfp4", "mxfp"];

const ELSE: &str =
    "use the same model in pack-quantized, int-quantized or float-quantized, in GPTQ, AWQ or GGUF";
const SPARSE: &str = "sparse weights are not read; use a dense checkpoint of the model";
const TRANSFORMED: &str = "transformed weights are not read; use a checkpoint without them";
const BITS: &str = "weights of 4 and 8 bits are read; use the same model in one of these, in GGUF, or the original with --quantize";
const GROUPS: &str =
    "groups of 32 weights, multiples of them and -1 are read; use another checkpoint of the model";
const STRATEGY: &str = "scales of a tensor, a channel, a group and, of floats, a block are read; use another checkpoint of the model";
const BLOCKS: &str = "a block has a multiple of 128 inputs; use the original checkpoint";

impl Compressed {
    pub(crate) fn read(fields: &Object) -> Result<Self, ModelError> {
        if fields.get("transform_config").is_some_and(|value| value.as_object().is_none_or(|o| !o.is_empty()))
        {
            return Err(fields.unsupported("transform_config", TRANSFORMED));
        }
        if let Some(sparsity) = fields.object("sparsity_config")?
            && sparsity.text("format")?.is_some_and(|format| format != "dense")
        {
            return Err(sparsity.unsupported("format", SPARSE));
        }
        check_format(fields)?;
        let Some(groups) = fields.object("config_groups")? else {
            return Err(fields.error("config_groups", "is missing: it should say what is quantised, and how"));
        };
        let groups = groups.names().filter_map(|name| groups.object(name).transpose());
        let groups = groups.map(|group| Group::read(&group?)).collect::<Result<_, _>>()?;
        Ok(Self { groups, ignored: Targets::read(fields, "ignore")? })
    }

    /// Bits to which activations are to be rounded: fewer only where all matrices but the embedding, which meets none, have it so.
    pub(crate) fn activation_bits(&self) -> Option<u8> {
        let met = self.groups.iter().filter(|group| !group.targets.names("Embedding"));
        let bits = met.map(|group| group.activation_bits);
        bits.reduce(|a, b| if a == b { a } else { None }).flatten()
    }

    /// The matrix if it is quantised; its module is of `class`.
    pub(crate) fn find(&self, target: &mut Target<'_>, class: &str) -> Result<Option<Finding>, ModelError> {
        let Some(weights) = self.weights(&target.module, class) else { return Ok(None) };
        if let Some(codes) = target.take("weight_packed") {
            return weights.packed(target, codes).map(Some);
        }
        match target.peek("weight").map(|codes| codes.entry.format.name) {
            Some("I8") => weights.bytes(target),
            Some(fp8::E4M3) => fp8::find(target, weights.blocks()),
            _ => Ok(None),
        }
    }

    fn weights(&self, module: &str, class: &str) -> Option<&Weights> {
        if self.ignored.names(module) || self.ignored.matches(module) || self.ignored.names(class) {
            return None;
        }
        // Names take precedence over patterns, and those over classes.
        let by = |fits: &dyn Fn(&Targets) -> bool| self.groups.iter().find(|group| fits(&group.targets));
        let named = by(&|targets| targets.names(module)).or_else(|| by(&|targets| targets.matches(module)));
        named.or_else(|| by(&|targets| targets.names(class))).map(|group| &group.weights)
    }
}

fn check_format(fields: &Object) -> Result<(), ModelError> {
    let unread = |format: &str| LAYOUTS.iter().any(|layout| format.starts_with(layout));
    if fields.text("format")?.is_some_and(unread) { Err(fields.unsupported("format", ELSE)) } else { Ok(()) }
}

impl Targets {
    fn read(fields: &Object, field: &str) -> Result<Self, ModelError> {
        let mut targets = Self::default();
        for name in fields.texts(field)?.unwrap_or_default() {
            let Some(pattern) = name.strip_prefix("re:") else {
                targets.names.insert(name.to_owned());
                continue;
            };
            let pattern = Pattern::read(pattern)
                .map_err(|problem| fields.error(field, format!("has {:?}, which {problem}", clip(name))))?;
            targets.patterns.push(pattern);
            if targets.patterns.len() > MAX_PATTERNS {
                return Err(fields.error(field, format!("has more than {MAX_PATTERNS} patterns")));
            }
        }
        Ok(targets)
    }

    fn names(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    fn matches(&self, module: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(module))
    }
}

impl Group {
    fn read(group: &Object) -> Result<Self, ModelError> {
        if group.get("output_activations").is_some() {
            return Err(
                group.unsupported("output_activations", "outputs are not rounded; use another checkpoint")
            );
        }
        check_format(group)?;
        let Some(weights) = group.object("weights")? else {
            return Err(group.error("weights", "is missing: it should say how weights are quantised"));
        };
        Ok(Self {
            targets: Targets::read(group, "targets")?,
            weights: Weights::read(&weights)?,
            activation_bits: read_activations(group)?,
        })
    }
}

impl Weights {
    fn read(fields: &Object) -> Result<Self, ModelError> {
        let float = match fields.text("type")? {
            None | Some("int") => false,
            Some("float") => true,
            Some(_) => {
                return Err(
                    fields.unsupported("type", "integers and floats are read; use another checkpoint")
                );
            }
        };
        let bits = match fields.count("num_bits", 64)?.unwrap_or(8) {
            8 => 8,
            4 if !float => 4,
            _ => return Err(fields.unsupported("num_bits", if float { ELSE } else { BITS })),
        };
        let strategy = read_strategy(fields, float)?;
        Ok(Self { bits, float, symmetric: fields.flag("symmetric")?.unwrap_or(true), strategy })
    }

    /// Outputs and inputs that share a scale, of floats.
    fn blocks(&self) -> Option<Blocks> {
        match self.strategy {
            Strategy::Tensor | Strategy::Channel => None,
            Strategy::Group(group) => Some(Blocks { rows: Some(1), inputs: Some(group) }),
            Strategy::Blocks(blocks) => Some(blocks),
        }
    }

    /// Inputs that share a scale, of integers.
    fn group(&self) -> Option<u64> {
        match self.strategy {
            Strategy::Group(group) => Some(group),
            Strategy::Tensor | Strategy::Channel | Strategy::Blocks(_) => None,
        }
    }

    /// The matrix whose words are `codes`.
    fn packed(&self, target: &mut Target<'_>, codes: &Found) -> Result<Finding, ModelError> {
        if self.float {
            return Err(target
                .error(codes, "is packed, but quantization_config says that weights are floats".to_owned()));
        }
        let (bits, per) = (self.bits, u64::from(32 / self.bits));
        let what = format!("codes of {bits} bits");
        target.check(codes, &[target.n, target.k.div_ceil(per)], &["I32"], &what)?;
        if let Some(shape) = target.take("weight_shape") {
            check_shape(target, shape)?;
        }
        let order = if bits == 8 { CodeOrder::ByteWords } else { CodeOrder::Words };
        self.finding(target, codes, (bits, order))
    }

    /// The matrix whose bytes are `weight`.
    fn bytes(&self, target: &mut Target<'_>) -> Result<Option<Finding>, ModelError> {
        let Some(codes) = target.take("weight") else { return Ok(None) };
        if self.float {
            return Err(
                target.error(codes, "is I8, but quantization_config says that weights are floats".to_owned())
            );
        }
        target.check(codes, &[target.n, target.k], &["I8"], "codes in bytes")?;
        self.finding(target, codes, (8, CodeOrder::Bytes)).map(Some)
    }

    fn finding(
        &self,
        target: &mut Target<'_>,
        codes: &Found,
        (bits, order): (u8, CodeOrder),
    ) -> Result<Finding, ModelError> {
        let scales = target.need("weight_scale", codes)?;
        let (n, group) = (target.n, self.group());
        let groups = group.map_or(1, |group| target.k.div_ceil(group));
        let one_scale = matches!(self.strategy, Strategy::Tensor);
        let shape = scales.entry.shape.as_slice();
        let flat = groups == 1 && shape == [n];
        if one_scale && shape.iter().any(|&size| size != 1) {
            return Err(target.error(
                scales,
                format!("has shape {shape:?}, but quantization_config says that a tensor has one scale"),
            ));
        }
        if !one_scale && !flat {
            target.check(scales, &[n, groups], &["BF16", "F16", "F32"], "scales")?;
        }
        let dtype = target.check_scales(scales, groups)?;
        let zeros = self.zeros(target, codes, scales)?;
        let g_idx = target.take("weight_g_idx");
        let said = Said { bits, codes: order, group, groups_first: false, one_scale };
        target.quantized(codes, said, (scales, dtype), zeros, g_idx)
    }

    fn zeros<'a>(
        &self,
        target: &mut Target<'a>,
        codes: &Found,
        scales: &Found,
    ) -> Result<Option<(&'a Found, ZeroOrder)>, ModelError> {
        if self.symmetric {
            let Some(zeros) = target.take("weight_zero_point") else { return Ok(None) };
            // Some versions write them all the same.
            let none = zeros.entry.format.name == "I8" && target.bytes(zeros).iter().all(|&byte| byte == 0);
            return match none {
                true => Ok(None),
                false => Err(target.error(
                    zeros,
                    "is there, but quantization_config says that the weights are symmetric".to_owned(),
                )),
            };
        }
        let zeros = target.need("weight_zero_point", codes)?;
        if zeros.entry.format.name == "I8" {
            target.check(zeros, &scales.entry.shape, &["I8"], "zero points")?;
            return Ok(Some((zeros, ZeroOrder::Bytes)));
        }
        let (per, groups) =
            (u64::from(32 / self.bits), self.group().map_or(1, |group| target.k.div_ceil(group)));
        target.check(zeros, &[target.n.div_ceil(per), groups], &["I32", "I8"], "packed zero points")?;
        Ok(Some((zeros, ZeroOrder::RowWords)))
    }
}

fn read_strategy(fields: &Object, float: bool) -> Result<Strategy, ModelError> {
    let by_group = |usual| match read_group(fields, "group_size", usual, GROUPS)? {
        Some(group) if !float || group.is_multiple_of(128) => Ok(Strategy::Group(group)),
        Some(_) => Err(fields.unsupported("group_size", BLOCKS)),
        None => Ok(Strategy::Channel),
    };
    match fields.text("strategy")? {
        Some("tensor") => Ok(Strategy::Tensor),
        Some("channel") => Ok(Strategy::Channel),
        Some("group") if fields.get("group_size").is_some() => by_group(None),
        Some("group") => {
            Err(fields.error("group_size", "is missing: it should say how many weights share a scale"))
        }
        Some("block") if float => {
            let sizes = fields
                .numbers("block_structure", "two whole numbers above 0", |n| n >= 1.0 && n.fract() == 0.0)?;
            match sizes.as_deref() {
                Some([rows, inputs]) if (*inputs as u64).is_multiple_of(128) => {
                    let blocks = Blocks { rows: Some(*rows as u64), inputs: Some(*inputs as u64) };
                    Ok(Strategy::Blocks(blocks))
                }
                _ => Err(fields.unsupported("block_structure", BLOCKS)),
            }
        }
        None if fields.get("group_size").is_some() => by_group(None),
        None => Ok(Strategy::Tensor),
        Some(_) => Err(fields.unsupported("strategy", STRATEGY)),
    }
}

/// Bits of activations that are to be rounded as they come. Stored ranges of them are not needed, since they are rounded by
/// their own, and floats of 8 bits are not rounded: both are nearer to the original.
fn read_activations(group: &Object) -> Result<Option<u8>, ModelError> {
    let Some(activations) = group.object("input_activations")? else { return Ok(None) };
    let bits = activations.count("num_bits", 64)?.unwrap_or(8);
    match (activations.text("type")?.unwrap_or("int"), bits) {
        ("int", 8) => Ok(Some(8)),
        ("float", 8) => Ok(None),
        _ => {
            Err(activations.unsupported("num_bits", "activations of 8 bits are read; use another checkpoint"))
        }
    }
}

/// `weight_shape` repeats the shape of the matrix.
fn check_shape(target: &Target<'_>, part: &Found) -> Result<(), ModelError> {
    let bytes = target.bytes(part);
    let says: Vec<i64> = match part.entry.format.name {
        "I64" => bytes.as_chunks().0.iter().map(|&word| i64::from_le_bytes(word)).collect(),
        "I32" => bytes.as_chunks().0.iter().map(|&word| i64::from(i32::from_le_bytes(word))).collect(),
        other => return Err(target.error(part, format!("is stored as {other}, but a shape is I64"))),
    };
    let expected = [target.n as i64, target.k as i64];
    if says == expected {
        return Ok(());
    }
    let says = clip(&format!("{says:?}"));
    Err(target.error(part, format!("holds {says}, but config.json calls for {expected:?}")))
}
