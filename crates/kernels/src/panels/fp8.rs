//! Panels of floats of 8 bits: units of two panels, cut into groups of 128 steps along K.
//!
//! ```text
//! [units][groups] {
//!     scales   [UNIT] f32                 of codes as half-precision numbers, see `fp8`
//!     codes    [2 panels][128][PANEL]
//! }
//! ```
//!
//! Everything is a multiple of 64 bytes. K is padded to whole groups with codes of 0; rows beyond n have scale 0.

use super::{PANEL, UNIT};
use crate::fp8::{GROUP, NAN, UNIT_OF_HALVES, half_bits};
use crate::pack_error::PackError;
use crate::source::Weights;
use half::f16;
use std::ops::Range;

/// Bytes of the scales of a unit.
pub(crate) const SCALES: usize = 4 * UNIT;

/// Bytes of the codes of a panel and group.
pub(crate) const CODES: usize = GROUP * PANEL;

/// Bytes of a unit and group.
pub(crate) const BLOCK: usize = SCALES + UNIT / PANEL * CODES;

/// Bytes of a unit of K = `k`.
pub(crate) fn unit_bytes(k: usize) -> usize {
    k.div_ceil(GROUP) * BLOCK
}

/// Panels, as the kernels read them.
#[derive(Clone, Copy)]
pub(crate) struct Fp8Panels<'a> {
    /// Groups along K.
    pub(crate) groups: usize,
    /// `[units][groups][BLOCK]`, aligned to 64 bytes.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Fp8Panels<'a> {
    pub(crate) fn new(k: usize, bytes: &'a [u8]) -> Self {
        Fp8Panels { groups: k.div_ceil(GROUP), bytes }
    }

    /// One unit and group.
    #[inline(always)]
    pub(crate) fn block(&self, unit: usize, group: usize) -> &'a [u8; BLOCK] {
        &self.bytes.as_chunks::<BLOCK>().0[unit * self.groups + group]
    }

    /// The weight of output `column` of a unit at step `step`.
    pub(crate) fn weight(&self, unit: usize, column: usize, step: usize) -> f32 {
        let block = self.block(unit, step / GROUP);
        let scale = f32::from_ne_bytes(block.as_chunks::<4>().0[column]);
        let at = SCALES + column / PANEL * CODES + step % GROUP * PANEL + column % PANEL;
        f16::from_bits(half_bits(block[at])).to_f32() * scale
    }
}

/// Fills the unit whose first row is `first` of the parts that are stacked, each of floats of 8 bits.
pub(crate) fn pack_unit(
    parts: &[(Weights<'_>, usize)],
    stacked: Range<usize>,
    first: usize,
    to: &mut [u8],
) -> Result<(), PackError> {
    let mut part_start = 0;
    for part in stacked {
        let (weights, rows) = &parts[part];
        let Weights::Fp8(matrix) = weights else { unreachable!("packed in their own format") };
        let from = first.max(part_start);
        let until = (first + UNIT).min(part_start + rows);
        for row in from..until.max(from) {
            for (index, block) in to.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
                let group = matrix.group(row - part_start, index);
                write_group(row - first, group, block).map_err(|column| PackError::NotFinite {
                    part,
                    row: row - part_start,
                    column: index * GROUP + column,
                })?;
            }
        }
        part_start += rows;
    }
    Ok(())
}

/// Writes a group of output `column` of a unit; fails with the place of a weight that is not finite.
fn write_group(column: usize, (scale, codes): (f32, &[u8]), block: &mut [u8; BLOCK]) -> Result<(), usize> {
    let scale = scale * UNIT_OF_HALVES;
    if !scale.is_finite() {
        return Err(0);
    }
    let (scales, panels) = block.split_at_mut(SCALES);
    scales.as_chunks_mut::<4>().0[column] = scale.to_ne_bytes();
    let lines = panels[column / PANEL * CODES..][..CODES].as_chunks_mut::<PANEL>().0;
    let mut finite = true;
    for (line, &code) in lines.iter_mut().zip(codes) {
        finite &= code & NAN != NAN;
        line[column % PANEL] = code;
    }
    match finite {
        true => Ok(()),
        false => Err(codes.iter().position(|code| code & NAN == NAN).expect("one is not finite")),
    }
}
