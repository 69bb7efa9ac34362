//! Folders of GPTQ, as AutoGPTQ and GPTQModel write them.
//!
//! | part | type | shape |
//! |---|---|---|
//! | `qweight` | I32 | `[k / 8, n]`, of 8 bits `[k / 4, n]`: codes along k, the first lowest |
//! | `qzeros` | I32 | `[groups, n / 8]` or `[groups, n / 4]`: zero points along n, less one before `gptq_v2` |
//! | `scales` | F16 | `[groups, n]` |
//! | `g_idx` | I32 | `[k]`: the group of each input |
//!
//! The files say which matrices are quantised: those that have a `qweight`. Where inputs were sorted by their activations
//! (`desc_act`), `g_idx` is not in order; the columns are then sorted by it.

use super::codes::CodeOrder;
use super::data::ZeroOrder;
use super::parts::{Finding, Said, Target};
use super::pattern::Pattern;
use crate::ModelError;
use crate::json::{Object, clip};
use crate::shards::Found;

/// `quantization_config` of the method `gptq`.
#[derive(Clone, Debug)]
pub(crate) struct Gptq {
    usual: Settings,
    /// Rules for modules whose names match, of which the first one holds.
    rules: Vec<(Pattern, Rule)>,
    /// Zero points are stored less one.
    minus_one: bool,
}

#[derive(Clone, Debug)]
enum Rule {
    /// The module is not quantised.
    Leave,
    Settings(Settings),
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    bits: u8,
    /// `None`: all of a row.
    group: Option<u64>,
    symmetric: bool,
    act_order: bool,
}

/// Most rules of one file.
const MAX_RULES: usize = 64;

const BITS: &str = "weights of 4 and 8 bits are read; use the same model in one of these, in GGUF, or the original with --quantize";
const GROUPS: &str =
    "groups of 32 weights, multiples of them and -1 are read; use another checkpoint of the model";
const LAYOUT: &str = "the layouts gptq and gptq_v2 are read; use a checkpoint in one of these, in AWQ, compressed-tensors or GGUF";

impl Gptq {
    pub(crate) fn read(fields: &Object) -> Result<Self, ModelError> {
        let field = if fields.get("checkpoint_format").is_some() { "checkpoint_format" } else { "format" };
        let minus_one = match fields.text(field)? {
            None | Some("gptq") => true,
            Some("gptq_v2") => false,
            Some(_) => return Err(fields.unsupported(field, LAYOUT)),
        };
        if fields.flag("is_marlin_format")?.unwrap_or(false) {
            return Err(fields.unsupported("is_marlin_format", LAYOUT));
        }
        let usual = Settings { bits: 4, group: Some(128), symmetric: true, act_order: false };
        let usual = Settings::read(fields, usual)?;
        Ok(Self { usual, rules: read_rules(fields, usual)?, minus_one })
    }

    /// The matrix if it is quantised.
    pub(crate) fn find(&self, target: &mut Target<'_>) -> Result<Option<Finding>, ModelError> {
        let Some(codes) = target.take("qweight") else { return Ok(None) };
        let rule = self.rules.iter().find(|(pattern, _)| pattern.matches(&target.module));
        let settings = match rule.map(|(_, rule)| rule) {
            None => self.usual,
            Some(Rule::Settings(settings)) => *settings,
            Some(Rule::Leave) => {
                return Err(target.error(
                    codes,
                    "is quantised, but a rule in quantization_config.dynamic leaves it out".to_owned(),
                ));
            }
        };
        let Settings { bits, group, symmetric, act_order } = settings;
        let (n, k, per) = (target.n, target.k, u64::from(32 / bits));
        if !n.is_multiple_of(per) || !k.is_multiple_of(per) {
            return Err(target.error(
                codes,
                format!("holds a matrix [{n}, {k}], but words of {per} codes call for multiples of {per}"),
            ));
        }
        let what = format!("codes of {bits} bits");
        target.check(codes, &[k / per, n], &["I32"], &what)?;
        let groups = group.map_or(1, |group| k.div_ceil(group));
        let [scales, zeros] = ["scales", "qzeros"].map(|part| target.need(part, codes));
        let (scales, zeros) = (scales?, zeros?);
        target.check(scales, &[groups, n], &["F16", "BF16", "F32"], "scales")?;
        let dtype = target.check_scales(scales, n)?;
        target.check(zeros, &[groups, n / per], &["I32"], "zero points")?;
        let g_idx = target.take("g_idx");
        if let (true, None) = (act_order && group.is_some(), g_idx) {
            target.need("g_idx", codes)?;
        }
        let order = ZeroOrder::Gptq { minus_one: self.minus_one };
        let zeros = (!(symmetric && all_middle(target, zeros, order, bits))).then_some((zeros, order));
        // Some tools leave it at 0 where inputs are in order.
        let g_idx = g_idx.filter(|g_idx| target.bytes(g_idx).iter().any(|&byte| byte != 0));
        let said = Said { bits, codes: CodeOrder::Gptq, group, groups_first: true, one_scale: false };
        target.quantized(codes, said, (scales, dtype), zeros, g_idx).map(Some)
    }
}

impl Settings {
    /// What `fields` say, and `usual` where they say nothing.
    fn read(fields: &Object, usual: Self) -> Result<Self, ModelError> {
        let bits = match fields.integer("bits", 0, 64)? {
            None => usual.bits,
            Some(bits @ (4 | 8)) => bits as u8,
            Some(_) => return Err(fields.unsupported("bits", BITS)),
        };
        Ok(Self {
            bits,
            group: read_group(fields, "group_size", usual.group, GROUPS)?,
            symmetric: fields.flag("sym")?.unwrap_or(usual.symmetric),
            act_order: fields.flag("desc_act")?.unwrap_or(usual.act_order),
        })
    }
}

/// The inputs of a group: -1 is all of a row, `None`.
pub(crate) fn read_group(
    fields: &Object,
    field: &str,
    usual: Option<u64>,
    advice: &'static str,
) -> Result<Option<u64>, ModelError> {
    let Some(value) = fields.get(field) else { return Ok(usual) };
    match value.as_i64() {
        Some(-1) => Ok(None),
        Some(group) if group > 0 && group % 32 == 0 => Ok(Some(group.cast_unsigned())),
        _ => Err(fields.unsupported(field, advice)),
    }
}

/// `dynamic`: settings of modules by patterns of their names; `-:` before a pattern leaves them out.
fn read_rules(fields: &Object, usual: Settings) -> Result<Vec<(Pattern, Rule)>, ModelError> {
    let Some(dynamic) = fields.object("dynamic")? else { return Ok(Vec::new()) };
    let mut rules = Vec::new();
    for name in dynamic.names() {
        let (leaves, text) = match name.strip_prefix("-:") {
            Some(text) => (true, text),
            None => (false, name.strip_prefix("+:").unwrap_or(name)),
        };
        let pattern = Pattern::read(text).map_err(|problem| dynamic.error(&clip(name), problem))?;
        let rule = match dynamic.object(name)? {
            _ if leaves => Rule::Leave,
            Some(settings) => Rule::Settings(Settings::read(&settings, usual)?),
            None => Rule::Settings(usual),
        };
        rules.push((pattern, rule));
        if rules.len() > MAX_RULES {
            return Err(fields.error("dynamic", format!("has more than {MAX_RULES} rules")));
        }
    }
    Ok(rules)
}

/// Whether all zero points are what they are without any.
fn all_middle(target: &Target<'_>, zeros: &Found, order: ZeroOrder, bits: u8) -> bool {
    let (added, middle) = (order.added(bits), if bits == 8 { 0x8080_8080 } else { 0x8888_8888 });
    let words = target.bytes(zeros).as_chunks().0;
    let all = words.iter().all(|&word| u32::from_le_bytes(word).wrapping_add(added) == middle);
    target.release(zeros);
    all
}
