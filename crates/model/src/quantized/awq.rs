//! Folders of AWQ, as AutoAWQ writes them.
//!
//! | part | type | shape |
//! |---|---|---|
//! | `qweight` | I32 | `[k, n / 8]`: codes of 4 bits along n, outputs 0, 2, 4, 6, 1, 3, 5, 7 of eight from the lowest bits on |
//! | `qzeros` | I32 | `[groups, n / 8]`: zero points in the same order |
//! | `scales` | F16 | `[groups, n]` |
//!
//! The files say which matrices are quantised: those that have a `qweight`.

use super::codes::CodeOrder;
use super::data::ZeroOrder;
use super::gptq::read_group;
use super::parts::{Finding, Said, Target};
use crate::ModelError;
use crate::json::Object;

/// `quantization_config` of the method `awq`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awq {
    /// `None`: all of a row.
    group: Option<u64>,
}

const BITS: &str = "AWQ is read with 4 bits; use the same model in GPTQ, compressed-tensors or GGUF";
const LAYOUT: &str =
    "the layout gemm is read; use a checkpoint in it, or the same model in GPTQ, compressed-tensors or GGUF";
const GROUPS: &str =
    "groups of 32 weights, multiples of them and -1 are read; use another checkpoint of the model";
const ZEROS: &str = "AWQ is read with zero points; use the same model in GPTQ, compressed-tensors or GGUF";

impl Awq {
    pub(crate) fn read(fields: &Object) -> Result<Self, ModelError> {
        // Names of AutoAWQ and of the file from which transformers reads.
        let either = |a: &'static str, b: &'static str| if fields.get(a).is_some() { a } else { b };
        let bits = either("bits", "w_bit");
        if fields.integer(bits, 0, 64)?.is_some_and(|bits| bits != 4) {
            return Err(fields.unsupported(bits, BITS));
        }
        let version = either("version", "format");
        if fields.text(version)?.is_some_and(|version| !version.eq_ignore_ascii_case("gemm")) {
            return Err(fields.unsupported(version, LAYOUT));
        }
        if fields.flag("zero_point")? == Some(false) {
            return Err(fields.unsupported("zero_point", ZEROS));
        }
        let group = either("group_size", "q_group_size");
        Ok(Self { group: read_group(fields, group, Some(128), GROUPS)? })
    }

    /// The matrix if it is quantised.
    pub(crate) fn find(&self, target: &mut Target<'_>) -> Result<Option<Finding>, ModelError> {
        let Some(codes) = target.take("qweight") else { return Ok(None) };
        let (n, k) = (target.n, target.k);
        if !n.is_multiple_of(8) {
            return Err(target.error(
                codes,
                format!("holds a matrix [{n}, {k}], but words of 8 codes call for a multiple of 8 outputs"),
            ));
        }
        target.check(codes, &[k, n / 8], &["I32"], "codes of 4 bits")?;
        let groups = self.group.map_or(1, |group| k.div_ceil(group));
        let [scales, zeros] = ["scales", "qzeros"].map(|part| target.need(part, codes));
        let (scales, zeros) = (scales?, zeros?);
        target.check(scales, &[groups, n], &["F16", "BF16", "F32"], "scales")?;
        let dtype = target.check_scales(scales, n)?;
        target.check(zeros, &[groups, n / 8], &["I32"], "zero points")?;
        let said =
            Said { bits: 4, codes: CodeOrder::Awq, group: self.group, groups_first: true, one_scale: false };
        target.quantized(codes, said, (scales, dtype), Some((zeros, ZeroOrder::Awq)), None).map(Some)
    }
}
