//! Matrices in floats of 8 bits, E4M3, with a scale for each block of outputs and inputs.
//!
//! | config.json | scales |
//! |---|---|
//! | `fp8` with `weight_block_size` | `weight_scale_inv` `[n / rows, k / inputs]`, rounded up |
//! | `fp8` without | `weight_scale` or `weight_scale_inv`, one number |
//! | compressed-tensors, `float` | `weight_scale`: one number, `[n, 1]`, or a block's |
//!
//! A weight is `code * scale`, whatever the name of the scale says.

use super::parts::{Finding, Target};
use super::{Kind, Part};
use crate::json::Object;
use crate::tensor::aligned;
use crate::view::View;
use crate::{Dtype, ModelError};
use half::{bf16, f16};
use std::borrow::Cow;

/// Inputs that share a scale in [`Fp8Data`].
const GROUP: usize = 128;

/// The format of the codes, as a safetensors header names it.
pub(crate) const E4M3: &str = "F8_E4M3";

/// Outputs and inputs that share a scale; `None` is all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) rows: Option<u64>,
    pub(crate) inputs: Option<u64>,
}

/// `quantization_config` of the method `fp8`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fp8 {
    /// `None` where each matrix has one scale.
    blocks: Option<Blocks>,
}

const FMT: &str = "floats of 8 bits are read as e4m3; use the original checkpoint, or one in this format";
const BLOCKS: &str = "a block has a multiple of 128 inputs; use the original checkpoint";
const SCALE_FMT: &str = "scales are read as floats; use a checkpoint with float scales";
const EXPERT: &str = "experts are read in fp8; use another checkpoint";

impl Fp8 {
    pub(crate) fn read(fields: &Object) -> Result<Self, ModelError> {
        for (field, read, advice) in
            [("fmt", "e4m3", FMT), ("scale_fmt", "float", SCALE_FMT), ("expert_dtype", "fp8", EXPERT)]
        {
            if fields.text(field)?.is_some_and(|value| !value.eq_ignore_ascii_case(read)) {
                return Err(fields.unsupported(field, advice));
            }
        }
        let sizes = fields
            .numbers("weight_block_size", "two whole numbers above 0", |n| n >= 1.0 && n.fract() == 0.0)?;
        let blocks = sizes.map(|sizes| match sizes[..] {
            [rows, inputs] if (inputs as u64).is_multiple_of(GROUP as u64) => {
                Ok(Blocks { rows: Some(rows as u64), inputs: Some(inputs as u64) })
            }
            _ => Err(fields.unsupported("weight_block_size", BLOCKS)),
        });
        Ok(Self { blocks: blocks.transpose()? })
    }

    /// The matrix if it is stored in floats of 8 bits.
    pub(crate) fn find(&self, target: &mut Target<'_>) -> Result<Option<Finding>, ModelError> {
        find(target, self.blocks)
    }
}

/// The matrix if it is stored in floats of 8 bits; without blocks the shape of the scales says what they are of.
pub(crate) fn find(target: &mut Target<'_>, blocks: Option<Blocks>) -> Result<Option<Finding>, ModelError> {
    let Some(codes) = target.peek("weight").filter(|codes| codes.entry.format.name == E4M3) else {
        return Ok(None);
    };
    target.take("weight");
    let what = "codes in floats of 8 bits";
    target.check(codes, &[target.n, target.k], &[E4M3], what)?;
    let Some(scales) = target.take("weight_scale_inv").or_else(|| target.take("weight_scale")) else {
        let name = target.name("weight_scale");
        return Err(target.error(codes, format!("is in floats of 8 bits, but neither {name}_inv nor {name} is there: download the folder again")));
    };
    let (n, k) = (target.n, target.k);
    let shape = scales.entry.shape.as_slice();
    let single = shape.iter().all(|&size| size == 1);
    let blocks = match blocks {
        Some(blocks) => blocks,
        None if single => Blocks::default(),
        None => Blocks { rows: Some(1), inputs: None },
    };
    let of = |size: u64, block: Option<u64>| block.map_or(1, |block| size.div_ceil(block));
    let expected = [of(n, blocks.rows), of(k, blocks.inputs)];
    let fits = shape == expected
        || (single && expected == [1, 1])
        || (shape.len() == 1 && expected == [shape[0], 1]);
    if !fits {
        let problem = format!(
            "has shape {shape:?}, but scales of {:?}, [{n}, {k}], are {expected:?}: quantization_config is another model's",
            target.name("weight")
        );
        return Err(target.error(scales, problem));
    }
    let dtype = target.check_scales(scales, expected[1])?;
    let place = Fp8Place { blocks, scale_dtype: dtype, scales: Part::of(scales) };
    Ok(Some(target.finding(codes, Dtype::Fp8, Kind::Fp8(place))))
}

/// Where the scales are, and what they are of.
#[derive(Clone, Debug)]
pub(crate) struct Fp8Place {
    pub(crate) blocks: Blocks,
    pub(crate) scale_dtype: Dtype,
    pub(crate) scales: Part,
}

/// The parts of a stored matrix, as bytes of its file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fp8Bytes<'a> {
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [u8],
    pub(crate) scale_dtype: Dtype,
    pub(crate) blocks: Blocks,
    /// Rows that are stored, and which of them are meant.
    pub(crate) rows: u64,
    pub(crate) view: View,
}

/// A matrix `[n, k]` in floats of 8 bits, E4M3.
#[derive(Clone, Debug)]
pub struct Fp8Data<'a> {
    /// `[n, k]`
    pub codes: Cow<'a, [u8]>,
    /// `[n, ceil(k / 128)]`: what codes are multiplied by.
    pub scales: Vec<f32>,
}

impl<'a> Fp8Bytes<'a> {
    /// Bytes of the part that is meant.
    pub(crate) fn len(&self) -> usize {
        let all = (self.codes.len() + self.scales.len()) as u128;
        (all * u128::from(self.view.len(self.rows)) / u128::from(self.rows.max(1))) as usize
    }

    /// The parts of a matrix whose rows have `k` inputs.
    pub(crate) fn data(&self, k: usize) -> Fp8Data<'a> {
        let stored: Vec<f32> = match self.scale_dtype {
            Dtype::F32 => aligned(self.scales).into_owned(),
            Dtype::F16 => aligned::<f16>(self.scales).iter().map(|scale| scale.to_f32()).collect(),
            _ => aligned::<bf16>(self.scales).iter().map(|scale| scale.to_f32()).collect(),
        };
        let inputs = self.blocks.inputs.map_or(k, |inputs| inputs as usize).max(1);
        let columns = k.div_ceil(inputs);
        let row = |row: u64| {
            let first = self.blocks.rows.map_or(0, |rows| row as usize / rows as usize) * columns;
            let (stored, groups) = (&stored, k.div_ceil(GROUP));
            (0..groups).map(move |group| stored[first + group * GROUP / inputs])
        };
        let scales = self.view.rows_of(self.rows).flat_map(row).collect();
        Fp8Data { codes: self.view.gather(self.codes, self.rows, 1), scales }
    }
}

impl Fp8Data<'_> {
    /// The weights of a matrix of rows of `k`, each rounded to f32.
    pub(crate) fn widen(&self, k: usize) -> Vec<f32> {
        let groups = k.div_ceil(GROUP);
        let weight = |(i, &code): (usize, &u8)| value(code) * self.scales[i / k * groups + i % k / GROUP];
        self.codes.iter().enumerate().map(weight).collect()
    }
}

/// The number of a code: a sign, four bits of exponent, three of fraction; all of them set is NaN.
fn value(code: u8) -> f32 {
    let (exponent, fraction) = (u32::from(code >> 3 & 15), f32::from(code & 7));
    let magnitude = match (exponent, code & 7) {
        (15, 7) => f32::NAN,
        (0, _) => fraction / 512.0,
        _ => (8.0 + fraction) * f32::from_bits((exponent + 117) << 23),
    };
    if code >> 7 == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_values_of_the_format() {
        let values = [0x00, 0x01, 0x07, 0x08, 0x38, 0x3c, 0x7e, 0xb8, 0x80].map(value);
        let expected = [0.0, 2f32.powi(-9), 7.0 / 512.0, 2f32.powi(-6), 1.0, 1.5, 448.0, -1.0, -0.0];
        assert_eq!(values.map(f32::to_bits), expected.map(f32::to_bits));
        assert!(value(0x7f).is_nan() && value(0xff).is_nan());
    }

    #[test]
    fn blocks_of_scales_are_those_of_rows_and_groups() {
        let scales: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|s| s.to_le_bytes()).collect();
        let codes = vec![0x38; 3 * 300];
        let blocks = Blocks { rows: Some(2), inputs: Some(256) };
        let stored = |view| Fp8Bytes {
            codes: &codes,
            scales: &scales,
            scale_dtype: Dtype::F32,
            blocks,
            rows: 3,
            view,
        };
        let data = stored(View::Whole).data(300);
        assert_eq!(data.scales, [1.0, 1.0, 2.0, 1.0, 1.0, 2.0, 3.0, 3.0, 4.0]);
        let wide = data.widen(300);
        assert_eq!([wide[255], wide[256], wide[600], wide[899]], [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(stored(View::rows(1, 2)).data(300).scales, data.scales[3..]);
    }
}
