//! Finding the parts of a quantised matrix and checking them against each other.

use super::codes::CodeOrder;
use super::data::{Layout, ZeroOrder};
use super::{Kind, QuantScheme, ScaleType};
use crate::header::Entry;
use crate::json::clip;
use crate::shards::{Found, Shards};
use crate::view::View;
use crate::{Dtype, ModelError};
use half::{bf16, f16};
use std::ops::Range;

/// A tensor, or the rest of one: a shard, and bytes of its file.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) shard: usize,
    pub(crate) range: Range<usize>,
}

impl Part {
    pub(crate) fn of(found: &Found) -> Self {
        Self { shard: found.shard, range: found.entry.range.clone() }
    }
}

/// Places of what belongs to the codes of a matrix.
#[derive(Clone, Debug)]
pub(crate) struct QuantizedPlace {
    pub(crate) layout: Layout,
    pub(crate) scales: Part,
    pub(crate) zeros: Option<Part>,
    pub(crate) g_idx: Option<Part>,
}

/// A matrix that is to be found: a module of the files, of which the outputs of `view` are meant.
pub(crate) struct Target<'a> {
    /// Name of the module, without `.weight`.
    pub(crate) module: String,
    /// Outputs and inputs of the stored matrix.
    pub(crate) n: u64,
    pub(crate) k: u64,
    pub(crate) view: View,
    pub(crate) found: &'a Shards,
    /// Names of the tensors that were taken.
    pub(crate) used: Vec<String>,
}

/// A matrix that was found.
pub(crate) struct Finding {
    pub(crate) name: String,
    pub(crate) codes: Part,
    pub(crate) dtype: Dtype,
    pub(crate) part: (u64, View),
    pub(crate) kind: Kind,
    pub(crate) used: Vec<String>,
}

/// What the files say of a quantised matrix before its parts are looked at.
#[derive(Clone, Copy)]
pub(crate) struct Said {
    pub(crate) bits: u8,
    pub(crate) codes: CodeOrder,
    /// Inputs that share a scale; `None`: all of a row.
    pub(crate) group: Option<u64>,
    /// Scales and zero points are `[groups, n]`.
    pub(crate) groups_first: bool,
    pub(crate) one_scale: bool,
}

/// Tensors beside a quantised matrix that are not needed: ranges of activations, which are taken from themselves.
const UNNEEDED: [&str; 5] =
    ["input_scale", "input_zero_point", "activation_scale", "output_scale", "output_zero_point"];

impl<'a> Target<'a> {
    /// Name of a part.
    pub(crate) fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.module)
    }

    /// A part, if it is there.
    pub(crate) fn peek(&self, part: &str) -> Option<&'a Found> {
        self.found.tensors.get(&self.name(part))
    }

    /// The same; it is then used.
    pub(crate) fn take(&mut self, part: &str) -> Option<&'a Found> {
        let found = self.peek(part)?;
        self.used.push(self.name(part));
        Some(found)
    }

    /// A part without which the others, of which `beside` is one, mean nothing.
    pub(crate) fn need(&mut self, part: &str, beside: &Found) -> Result<&'a Found, ModelError> {
        self.take(part).ok_or_else(|| {
            let name = self.name(part);
            self.error(beside, format!("is quantised, but {name} is missing: download the folder again"))
        })
    }

    /// An error about a part.
    pub(crate) fn error(&self, part: &Found, problem: String) -> ModelError {
        let file = self.found.shards[part.shard].file.clone();
        ModelError::TensorEntry { file, tensor: clip(&part.entry.name), problem }
    }

    pub(crate) fn bytes(&self, part: &Found) -> &'a [u8] {
        &self.found.shards[part.shard].blob.bytes()[part.entry.range.clone()]
    }

    /// Fails unless a part has the shape and one of the formats that the matrix calls for.
    pub(crate) fn check(
        &self,
        part: &Found,
        expected: &[u64],
        formats: &[&str],
        what: &str,
    ) -> Result<(), ModelError> {
        let Entry { shape, format, .. } = &part.entry;
        if shape != expected {
            let problem = format!(
                "has shape {shape:?}, but {what} of {:?}, [{}, {}], are {expected:?}: the parts are not of the same \
                 quantisation, or quantization_config is another model's",
                self.name("weight"),
                self.n,
                self.k
            );
            return Err(self.error(part, problem));
        }
        if !formats.contains(&format.name) {
            let problem = format!("is stored as {}, but {what} are {}", format.name, formats.join(", "));
            return Err(self.error(part, problem));
        }
        Ok(())
    }

    /// Fails unless scales are floats, and numbers; `columns` of them are a row of their tensor.
    pub(crate) fn check_scales(&self, scales: &Found, columns: u64) -> Result<Dtype, ModelError> {
        let format = scales.entry.format;
        let Some(dtype) = format.dtype().filter(|dtype| ScaleType::of(*dtype).is_some()) else {
            return Err(
                self.error(scales, format!("is stored as {}, but scales are BF16, F16, F32", format.name))
            );
        };
        let bytes = self.bytes(scales);
        let halves = || bytes.as_chunks::<2>().0.iter();
        let bad = match dtype {
            Dtype::F32 => {
                bytes.as_chunks().0.iter().position(|&scale| !f32::from_le_bytes(scale).is_finite())
            }
            Dtype::F16 => halves().position(|&scale| !f16::from_le_bytes(scale).is_finite()),
            _ => halves().position(|&scale| !bf16::from_le_bytes(scale).is_finite()),
        };
        self.release(scales);
        let Some(bad) = bad else { return Ok(dtype) };
        let (row, column) = (bad as u64 / columns.max(1), bad as u64 % columns.max(1));
        let problem = format!(
            "row {row}, column {column} is not finite: download the folder again, or quantise the model again"
        );
        Err(self.error(scales, problem))
    }

    /// Gives back the pages of a part that was looked at.
    pub(crate) fn release(&self, part: &Found) {
        self.found.shards[part.shard].blob.release(part.entry.range.clone());
    }

    /// What was found: `codes` hold the stored matrix.
    pub(crate) fn finding(&mut self, codes: &Found, dtype: Dtype, kind: Kind) -> Finding {
        let unneeded = UNNEEDED.into_iter().filter(|part| self.peek(part).is_some());
        let unneeded: Vec<String> = unneeded.map(|part| self.name(part)).collect();
        self.used.extend(unneeded);
        Finding {
            name: codes.entry.name.clone(),
            codes: Part::of(codes),
            dtype,
            part: (self.n, self.view),
            kind,
            used: std::mem::take(&mut self.used),
        }
    }

    /// What was found of a matrix in codes, whose tensors have the right shapes.
    pub(crate) fn quantized(
        &mut self,
        codes: &Found,
        said: Said,
        (scales, scale_dtype): (&Found, Dtype),
        zeros: Option<(&Found, ZeroOrder)>,
        g_idx: Option<&Found>,
    ) -> Result<Finding, ModelError> {
        let stored_group = said.group.unwrap_or(self.k);
        let Some(group) = kernel_group(said.group) else {
            let problem = format!(
                "is in groups of {stored_group}, but groups are read that are multiples of 32: use another checkpoint"
            );
            return Err(self.error(codes, problem));
        };
        let g_idx = match g_idx {
            Some(g_idx) => self.check_order(g_idx, stored_group)?.then(|| Part::of(g_idx)),
            None => None,
        };
        let layout = Layout {
            codes: said.codes,
            zeros: zeros.map_or(ZeroOrder::None, |(_, order)| order),
            groups_first: said.groups_first,
            one_scale: said.one_scale,
            group: stored_group,
        };
        let scheme = QuantScheme {
            bits: said.bits,
            group,
            zero_point: zeros.is_some(),
            scales: ScaleType::of(scale_dtype).expect("scales are floats"),
        };
        let zeros = zeros.map(|(zeros, _)| Part::of(zeros));
        let place = QuantizedPlace { layout, scales: Part::of(scales), zeros, g_idx };
        Ok(self.finding(codes, Dtype::Quantized(scheme), Kind::Quantized(place)))
    }

    /// Whether the inputs are in an order of their own; fails unless each group has all of its inputs.
    fn check_order(&self, g_idx: &Found, group: u64) -> Result<bool, ModelError> {
        self.check(g_idx, &[self.k], &["I32"], "groups of inputs")?;
        let groups: Vec<i64> =
            self.bytes(g_idx).as_chunks().0.iter().map(|&word| i64::from(i32::from_le_bytes(word))).collect();
        let expected = |input: usize| (input as u64 / group) as i64;
        let count = self.k.div_ceil(group) as i64;
        if groups.iter().enumerate().all(|(input, &found)| found == expected(input)) {
            return Ok(false);
        }
        if let Some(input) = groups.iter().position(|group| !(0..count).contains(group)) {
            let problem = format!(
                "says that input {input} is in group {}, but there are {count} groups: download the folder again",
                groups[input]
            );
            return Err(self.error(g_idx, problem));
        }
        let mut sorted = groups;
        sorted.sort_unstable();
        if let Some(input) = (0..sorted.len()).find(|&input| sorted[input] != expected(input)) {
            let problem = format!(
                "does not give each group {group} inputs: group {} has too many or group {} too few; use another checkpoint",
                sorted[input].min(expected(input)),
                sorted[input].max(expected(input))
            );
            return Err(self.error(g_idx, problem));
        }
        Ok(true)
    }
}

/// The group in which the kernels compute what is stored in groups of so many inputs; all of a row if `None`.
fn kernel_group(stored: Option<u64>) -> Option<u16> {
    [128, 64, 32]
        .into_iter()
        .find(|&group| stored.is_none_or(|stored| stored.is_multiple_of(u64::from(group))))
}
