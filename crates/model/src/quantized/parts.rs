//! Where the parts of a quantised matrix are, checked against each other.

use super::QuantScheme;
use crate::header::Entry;
use crate::json::clip;
use crate::shards::{Found, Shard, Shards};
use crate::{Dtype, ModelError};
use half::{bf16, f16};
use std::ops::Range;

/// Places of the scales and zero points of a matrix; each is in a shard.
#[derive(Debug)]
pub(crate) struct QuantizedPlace {
    pub(crate) scales: (usize, Range<usize>),
    pub(crate) scale_dtype: Dtype,
    pub(crate) zeros: Option<(usize, Range<usize>)>,
}

/// Finds the parts of the matrix `name`, `[n, k]`: the codes, and the rest. `None` when there are no codes.
pub(crate) fn find(
    name: &str,
    [n, k]: [u64; 2],
    scheme: QuantScheme,
    found: &mut Shards,
) -> Result<Option<(Found, QuantizedPlace)>, ModelError> {
    let Some(codes) = found.tensors.remove(&scheme.code_name(name)) else { return Ok(None) };
    let matrix = Matrix { name, n, k, scheme };
    matrix.check(&codes, &found.shards, scheme.code_shape(n, k), &[scheme.code_format()], "codes")?;
    let mut take = |suffix: &str| found.tensors.remove(&format!("{name}{suffix}"));
    let (scales, zeros, shape) = (take("_scale"), take("_zero_point"), take("_shape"));
    let shards = &found.shards;
    let Some(scales) = scales else {
        let problem =
            format!("is quantised ({scheme}), but {name}_scale is missing: download the folder again");
        return Err(error(&codes, shards, problem));
    };
    let groups = scheme.groups(k);
    matrix.check(&scales, shards, [n, groups], &["BF16", "F16", "F32"], "scales")?;
    let scale_dtype = scales.entry.format.dtype().unwrap_or(Dtype::Bf16);
    check_finite(&scales, shards, groups)?;
    if let Some(shape) = shape {
        matrix.check_shape(&shape, shards)?;
    }
    let zeros = match (scheme.zero_point, zeros) {
        (false, None) => None,
        (true, Some(zeros)) => {
            matrix.check(&zeros, shards, [n.div_ceil(8), groups], &["I32"], "packed zero points")?;
            Some((zeros.shard, zeros.entry.range))
        }
        (true, None) => {
            let problem = format!("is quantised ({scheme}), but {name}_zero_point is missing");
            return Err(error(&codes, shards, problem));
        }
        (false, Some(zeros)) => {
            let problem = "is there, but quantization_config says that the weights are symmetric".to_owned();
            return Err(error(&zeros, shards, problem));
        }
    };
    Ok(Some((codes, QuantizedPlace { scales: (scales.shard, scales.entry.range), scale_dtype, zeros })))
}

struct Matrix<'a> {
    name: &'a str,
    n: u64,
    k: u64,
    scheme: QuantScheme,
}

impl Matrix<'_> {
    /// Fails unless a part has the shape and one of the formats that the matrix calls for.
    fn check(
        &self,
        part: &Found,
        shards: &[Shard],
        expected: [u64; 2],
        formats: &[&str],
        what: &str,
    ) -> Result<(), ModelError> {
        let Matrix { name, n, k, scheme } = self;
        let Entry { shape, format, .. } = &part.entry;
        if *shape != expected {
            let problem = format!(
                "has shape {shape:?}, but {what} of {name:?}, [{n}, {k}], as {scheme} are {expected:?}: scales and \
                 weights are not of the same quantisation, or quantization_config is another model's"
            );
            return Err(error(part, shards, problem));
        }
        if !formats.contains(&format.name) {
            let problem = format!("is stored as {}, but {what} are {}", format.name, formats.join(", "));
            return Err(error(part, shards, problem));
        }
        Ok(())
    }

    /// `weight_shape` repeats the shape of the matrix.
    fn check_shape(&self, part: &Found, shards: &[Shard]) -> Result<(), ModelError> {
        let bytes = &shards[part.shard].blob.bytes()[part.entry.range.clone()];
        let says: Vec<i64> = match part.entry.format.name {
            "I64" => bytes.as_chunks().0.iter().map(|&word| i64::from_le_bytes(word)).collect(),
            "I32" => bytes.as_chunks().0.iter().map(|&word| i64::from(i32::from_le_bytes(word))).collect(),
            other => return Err(error(part, shards, format!("is stored as {other}, but a shape is I64"))),
        };
        let expected = [self.n as i64, self.k as i64];
        if says == expected {
            return Ok(());
        }
        let says = clip(&format!("{says:?}"));
        let problem = format!("holds {says}, but config.json calls for {expected:?}");
        Err(error(part, shards, problem))
    }
}

/// Fails unless all scales are numbers.
fn check_finite(scales: &Found, shards: &[Shard], groups: u64) -> Result<(), ModelError> {
    let bytes = &shards[scales.shard].blob.bytes()[scales.entry.range.clone()];
    let halves = || bytes.as_chunks::<2>().0.iter();
    let bad = match scales.entry.format.dtype() {
        // As they are used: rounded to bf16.
        Some(Dtype::F32) => bytes
            .as_chunks()
            .0
            .iter()
            .position(|&scale| !bf16::from_f32(f32::from_le_bytes(scale)).is_finite()),
        Some(Dtype::F16) => halves().position(|&scale| !f16::from_le_bytes(scale).is_finite()),
        _ => halves().position(|&scale| !bf16::from_le_bytes(scale).is_finite()),
    };
    let Some(bad) = bad else { return Ok(()) };
    let (row, group) = (bad as u64 / groups.max(1), bad as u64 % groups.max(1));
    let problem = format!("the scale of row {row}, group {group} is not finite: quantise the model again");
    Err(error(scales, shards, problem))
}

fn error(part: &Found, shards: &[Shard], problem: String) -> ModelError {
    ModelError::TensorEntry { file: shards[part.shard].file.clone(), tensor: clip(&part.entry.name), problem }
}
