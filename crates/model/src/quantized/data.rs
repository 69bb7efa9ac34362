//! The elements of a quantised matrix.

use super::codes::{AWQ_PLACES, CodeOrder, in_rows, reorder};
use super::{QuantScheme, ScaleType};
use crate::tensor::aligned;
use crate::view::View;
use half::{bf16, f16};
use std::borrow::Cow;

/// How the parts of a matrix lie in their tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) codes: CodeOrder,
    pub(crate) zeros: ZeroOrder,
    /// Scales and zero points are `[groups, n]`, not `[n, groups]`.
    pub(crate) groups_first: bool,
    /// There is one scale for all rows and inputs.
    pub(crate) one_scale: bool,
    /// Inputs that share a stored scale: k where a row has one.
    pub(crate) group: u64,
}

/// How zero points lie in their tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ZeroOrder {
    /// There are none.
    None,
    /// As the scales; in words of 32 bits of as many rows as fit.
    RowWords,
    /// As the scales; bytes, each minus half the number of codes.
    Bytes,
    /// `[groups, n]` in words along n.
    Gptq {
        /// Each word less one for each zero point.
        minus_one: bool,
    },
    /// `[groups, n]` in words along n, in the order of [`AWQ_PLACES`].
    Awq,
}

impl ZeroOrder {
    /// What is added to a word of GPTQ: one to each of its numbers, as a whole, since it was taken from the word as a whole.
    pub(crate) fn added(self, bits: u8) -> u32 {
        match (self, bits) {
            (Self::Gptq { minus_one: true }, 8) => 0x0101_0101,
            (Self::Gptq { minus_one: true }, _) => 0x1111_1111,
            _ => 0,
        }
    }
}

/// The parts of a stored matrix, as bytes of its file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuantizedBytes<'a> {
    pub(crate) scheme: QuantScheme,
    pub(crate) layout: Layout,
    /// Rows that are stored, and which of them are meant.
    pub(crate) rows: u64,
    pub(crate) view: View,
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [u8],
    pub(crate) zeros: Option<&'a [u8]>,
    /// The group of each input, where they are not in order.
    pub(crate) g_idx: Option<&'a [u8]>,
}

/// A quantised matrix `[n, k]`: a weight is `(u - zero) * scale` with codes `u` from 0 on.
#[derive(Clone, Debug)]
pub struct QuantizedData<'a> {
    /// Bits, group and whether there are zero points.
    pub scheme: QuantScheme,
    /// 8 bits: `[n, k]`, each `u - 128` in two's complement. 4 bits: `[n, ceil(k / 8)]` little-endian words of 32 bits, the
    /// first code in the lowest bits.
    pub codes: Cow<'a, [u8]>,
    /// `[n, groups]`
    pub scales: ScaleData<'a>,
    /// `[n, groups]`
    pub zeros: Option<Vec<u8>>,
    /// `[k]`: the input that each column of the codes belongs to, where they are not in order.
    pub order: Option<Vec<u32>>,
}

/// Scales of a quantised matrix.
#[derive(Clone, Debug)]
pub enum ScaleData<'a> {
    /// bfloat16.
    Bf16(Cow<'a, [bf16]>),
    /// Half precision.
    F16(Cow<'a, [f16]>),
    /// Single precision.
    F32(Cow<'a, [f32]>),
}

impl ScaleData<'_> {
    fn get(&self, cell: usize) -> f32 {
        match self {
            Self::Bf16(scales) => scales[cell].to_f32(),
            Self::F16(scales) => scales[cell].to_f32(),
            Self::F32(scales) => scales[cell],
        }
    }
}

impl<'a> QuantizedBytes<'a> {
    /// Bytes of the part that is meant.
    pub(crate) fn len(&self) -> usize {
        let all = self.codes.len() + self.scales.len() + self.zeros.map_or(0, <[u8]>::len);
        let meant = self.view.len(self.rows);
        (all as u128 * u128::from(meant) / u128::from(self.rows.max(1))) as usize
    }

    /// The parts of a matrix whose rows have `k` inputs.
    pub(crate) fn data(&self, k: usize) -> QuantizedData<'a> {
        let order = self.g_idx.map(order_of);
        let rows = self.rows as usize;
        let codes = match in_rows(self.codes, self.layout.codes, self.scheme.bits, [rows, k]) {
            Cow::Borrowed(codes) => self.view.gather(codes, self.rows, 1),
            Cow::Owned(codes) if self.view == View::Whole => Cow::Owned(codes),
            Cow::Owned(codes) => Cow::Owned(self.view.gather(&codes, self.rows, 1).into_owned()),
        };
        let codes = match &order {
            Some(order) => Cow::Owned(reorder(&codes, self.scheme.bits, k, order)),
            None => codes,
        };
        let scales = match self.scheme.scales {
            ScaleType::Bf16 => ScaleData::Bf16(self.scales(k)),
            ScaleType::F16 => ScaleData::F16(self.scales(k)),
            ScaleType::F32 => ScaleData::F32(self.scales(k)),
        };
        let zeros = self.zeros.filter(|_| self.scheme.zero_point).map(|zeros| {
            let cells = self.cells(k);
            cells.map(|(row, group, groups)| self.zero(zeros, row, group, groups)).collect()
        });
        QuantizedData { scheme: self.scheme, codes, scales, zeros, order }
    }

    /// Row, stored group and number of stored groups of each scale of the matrix.
    fn cells(&self, k: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let (group, stored) = (usize::from(self.scheme.group), self.layout.group as usize);
        let (groups, stored_groups) = (k.div_ceil(group), k.div_ceil(stored));
        let row = move |row: u64| {
            (0..groups).map(move |index| (row as usize, index * group / stored, stored_groups))
        };
        self.view.rows_of(self.rows).flat_map(row)
    }

    fn scales<T: bytemuck::Pod>(&self, k: usize) -> Cow<'a, [T]> {
        let all: Cow<'a, [T]> = aligned(self.scales);
        let Layout { groups_first, one_scale, group, .. } = self.layout;
        if self.view == View::Whole && !groups_first && !one_scale && group == u64::from(self.scheme.group) {
            return all;
        }
        let rows = self.rows as usize;
        let at = |(row, group, groups): (usize, usize, usize)| match (one_scale, groups_first) {
            (true, _) => 0,
            (false, true) => group * rows + row,
            (false, false) => row * groups + group,
        };
        self.cells(k).map(|cell| all[at(cell)]).collect()
    }

    /// A zero point.
    fn zero(&self, zeros: &[u8], row: usize, group: usize, groups: usize) -> u8 {
        let bits = u32::from(self.scheme.bits);
        let (per, mask) = (32 / bits as usize, (1u32 << bits) - 1);
        let rows = self.rows as usize;
        let word = |at: usize| u32::from_le_bytes(zeros.as_chunks().0[at]);
        match self.layout.zeros {
            ZeroOrder::None => self.scheme.middle(),
            ZeroOrder::RowWords => {
                (word(row / per * groups + group) >> (row % per * bits as usize) & mask) as u8
            }
            ZeroOrder::Bytes => {
                let at = if self.layout.one_scale { 0 } else { row * groups + group };
                (zeros[at].wrapping_add(self.scheme.middle())) & mask as u8
            }
            order @ ZeroOrder::Gptq { .. } => {
                let word = word(group * (rows / per) + row / per).wrapping_add(order.added(self.scheme.bits));
                (word >> (row % per * bits as usize) & mask) as u8
            }
            ZeroOrder::Awq => (word(group * (rows / 8) + row / 8) >> (4 * AWQ_PLACES[row % 8]) & 15) as u8,
        }
    }
}

/// The input of each column when the columns are sorted by the groups of their inputs.
fn order_of(g_idx: &[u8]) -> Vec<u32> {
    let groups = g_idx.as_chunks().0;
    let mut order: Vec<u32> = (0..groups.len() as u32).collect();
    order.sort_by_key(|&input| i32::from_le_bytes(groups[input as usize]));
    order
}

impl QuantizedData<'_> {
    /// The weights of a matrix of rows of `k`, each rounded to f32.
    pub(crate) fn widen(&self, k: usize) -> Vec<f32> {
        let (group, groups) = (usize::from(self.scheme.group), self.scheme.groups(k as u64) as usize);
        let row_bytes = self.scheme.row_bytes(k);
        let n = self.codes.len().checked_div(row_bytes).unwrap_or(0);
        let mut weights = vec![0.0; n * k];
        for (row, weights) in weights.chunks_exact_mut(k.max(1)).enumerate() {
            let bytes = &self.codes[row * row_bytes..][..row_bytes];
            for column in 0..k {
                let cell = row * groups + column / group;
                let code = match self.scheme.bits {
                    8 => bytes[column] ^ 0x80,
                    _ => (bytes[column / 2] >> (column % 2 * 4)) & 15,
                };
                let zero = self.zeros.as_ref().map_or(self.scheme.middle(), |zeros| zeros[cell]);
                let input = self.order.as_ref().map_or(column, |order| order[column] as usize);
                weights[input] = (f32::from(code) - f32::from(zero)) * self.scales.get(cell);
            }
        }
        weights
    }
}
