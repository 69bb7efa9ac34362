//! Panels of quantised weights: units of two panels, cut into groups along K.
//!
//! ```text
//! [units][groups] {
//!     scales   [UNIT] bf16, f16 or f32
//!     zeros    [UNIT] u8 and 32 bytes of padding      only in formats with zero points
//!     codes of panel 0, codes of panel 1
//! }
//! codes of 8 bits: [group / 4][PANEL][4]   byte b: step 4 q + b
//! codes of 4 bits: [group / 8][PANEL][4]   byte b: low half step 8 q + b, high half step 8 q + 4 + b
//! ```
//!
//! Everything is a multiple of 64 bytes. A register of 64 bytes holds a dword of four consecutive steps for each of 16
//! outputs, as VPDPBUSD reads it; 16 of them are an AMX tile of B. The halves of 4-bit codes are such registers after a
//! mask, or a shift and a mask. K is padded to whole groups with codes of 0; rows beyond n have scale 0.

use super::{PANEL, UNIT};
use crate::pack_error::PackError;
use crate::quant::{Bits, QuantFormat, ScaleFormat};
use crate::quantize::Group;
use crate::quantized::GroupReader;
use crate::source::Weights;
use half::{bf16, f16};
use std::ops::Range;

/// Sizes and places in quantised panels of one K.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuantLayout {
    pub(crate) format: QuantFormat,
    /// Groups along K.
    pub(crate) groups: usize,
}

/// Bytes of the zero points of a unit.
const ZEROS: usize = 64;

impl QuantLayout {
    pub(crate) fn new(format: QuantFormat, k: usize) -> Self {
        QuantLayout { format, groups: k.div_ceil(format.group.into()) }
    }

    /// Steps of a group.
    pub(crate) fn group(self) -> usize {
        self.format.group.into()
    }

    /// Bytes of the codes of one panel and group.
    pub(crate) fn codes_bytes(self) -> usize {
        self.format.bits.bytes(self.group()) * PANEL
    }

    /// Place of the zero points in the bytes of a unit and group.
    pub(crate) fn zeros_start(self) -> usize {
        UNIT * self.format.scales.bytes()
    }

    /// Place of the codes in the bytes of a unit and group.
    pub(crate) fn codes_start(self) -> usize {
        self.zeros_start() + if self.format.zero_point { ZEROS } else { 0 }
    }

    /// Bytes of one unit and group.
    pub(crate) fn block_bytes(self) -> usize {
        self.codes_start() + 2 * self.codes_bytes()
    }

    /// Bytes of one unit.
    pub(crate) fn unit_bytes(self) -> usize {
        self.groups * self.block_bytes()
    }

    /// Place of a code in the codes of a panel and group: a byte and how far its bits are shifted.
    fn place(self, column: usize, step: usize) -> (usize, usize) {
        match self.format.bits {
            Bits::Eight => ((step / 4 * PANEL + column) * 4 + step % 4, 0),
            Bits::Four => ((step / 8 * PANEL + column) * 4 + step % 4, step / 4 % 2 * 4),
        }
    }
}

/// Quantised panels, as the kernels read them.
#[derive(Clone, Copy)]
pub(crate) struct QuantPanels<'a> {
    pub(crate) layout: QuantLayout,
    /// `[units][groups][block_bytes]`, aligned to 64 bytes.
    pub(crate) bytes: &'a [u8],
}

/// One unit and group.
#[derive(Clone, Copy)]
pub(crate) struct QuantBlock<'a> {
    layout: QuantLayout,
    bytes: &'a [u8],
}

impl<'a> QuantPanels<'a> {
    pub(crate) fn block(&self, unit: usize, group: usize) -> QuantBlock<'a> {
        let size = self.layout.block_bytes();
        let start = (unit * self.layout.groups + group) * size;
        QuantBlock { layout: self.layout, bytes: &self.bytes[start..start + size] }
    }
}

impl<'a> QuantBlock<'a> {
    /// Its first byte.
    pub(crate) fn start(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    /// Zero points of all outputs of the unit, in formats that have them.
    pub(crate) fn zeros(&self) -> &'a [u8] {
        &self.bytes[self.layout.zeros_start()..][..UNIT]
    }

    /// Scales of all outputs of the unit.
    pub(crate) fn scales(&self) -> [f32; UNIT] {
        std::array::from_fn(|column| self.scale(column))
    }

    /// Scale of output `column` of the unit.
    #[inline(always)]
    pub(crate) fn scale(&self, column: usize) -> f32 {
        let (halves, words) = (self.bytes.as_chunks::<2>().0, self.bytes.as_chunks::<4>().0);
        match self.layout.format.scales {
            ScaleFormat::Bf16 => bf16::from_ne_bytes(halves[column]).to_f32(),
            ScaleFormat::F16 => f16::from_ne_bytes(halves[column]).to_f32(),
            ScaleFormat::F32 => f32::from_ne_bytes(words[column]),
        }
    }

    /// Zero point of output `column` of the unit.
    pub(crate) fn zero(&self, column: usize) -> u8 {
        let format = self.layout.format;
        if format.zero_point { self.zeros()[column] } else { format.bits.middle() }
    }

    /// Codes of panel 0 or 1 of the unit.
    pub(crate) fn codes(&self, panel: usize) -> &'a [u8] {
        let size = self.layout.codes_bytes();
        let start = self.layout.codes_start() + panel * size;
        &self.bytes[start..start + size]
    }

    /// Code of output `column` of the unit at step `step` of the group.
    pub(crate) fn code(&self, column: usize, step: usize) -> u8 {
        let (byte, shift) = self.layout.place(column % PANEL, step);
        (self.codes(column / PANEL)[byte] >> shift) & self.layout.format.bits.max_code()
    }
}

/// Fills the unit whose first row is `first` of the parts that are stacked, each `[rows, k]`, quantising floats.
pub(crate) fn pack_unit(
    parts: &[(Weights<'_>, usize)],
    stacked: Range<usize>,
    k: usize,
    format: QuantFormat,
    first: usize,
    to: &mut [u8],
) -> Result<(), PackError> {
    let layout = QuantLayout::new(format, k);
    let mut part_start = 0;
    for part in stacked {
        let (weights, rows) = parts[part];
        let reader = GroupReader { weights, part, k, format };
        let from = first.max(part_start);
        let until = (first + UNIT).min(part_start + rows);
        for row in from..until.max(from) {
            for (index, block) in to.chunks_exact_mut(layout.block_bytes()).enumerate() {
                write_group(layout, row - first, &reader.read(row - part_start, index)?, block);
            }
        }
        part_start += rows;
    }
    Ok(())
}

/// Writes a group of output `column` of a unit.
fn write_group(layout: QuantLayout, column: usize, group: &Group, block: &mut [u8]) {
    // Exact: a stored scale is of this type, and one that was chosen here is of bf16.
    match layout.format.scales {
        ScaleFormat::Bf16 => {
            block.as_chunks_mut::<2>().0[column] = bf16::from_f32(group.scale).to_ne_bytes();
        }
        ScaleFormat::F16 => block.as_chunks_mut::<2>().0[column] = f16::from_f32(group.scale).to_ne_bytes(),
        ScaleFormat::F32 => block.as_chunks_mut::<4>().0[column] = group.scale.to_ne_bytes(),
    }
    if layout.format.zero_point {
        block[layout.zeros_start() + column] = group.zero;
    }
    let size = layout.codes_bytes();
    let codes = &mut block[layout.codes_start() + column / PANEL * size..][..size];
    let (words, _) = codes.as_chunks_mut::<4>();
    let column = column % PANEL;
    let steps = &group.codes[..layout.group()];
    match layout.format.bits {
        Bits::Eight => {
            for (q, steps) in steps.as_chunks::<4>().0.iter().enumerate() {
                words[q * PANEL + column] = *steps;
            }
        }
        Bits::Four => {
            for (q, steps) in steps.as_chunks::<8>().0.iter().enumerate() {
                words[q * PANEL + column] = std::array::from_fn(|b| steps[b] | steps[b + 4] << 4);
            }
        }
    }
}
