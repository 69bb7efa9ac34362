//! Panels of weights in blocks: units of two panels, cut into blocks along K.
//!
//! ```text
//! [units][blocks] {
//!     d        [UNIT] f16 or, of wide scales, bf16
//!     min      [UNIT] f16              in formats with a minimum
//!     scales   [groups][UNIT] bytes    where groups have scales: each its scale, or the halves scale and minimum
//!     mins     [groups][UNIT] bytes    where they have minima that are bytes
//!     codes    one or two planes of bits
//! }
//! ```
//!
//! Opened, the codes of a block are bytes in lines of 64: `[groups][2 panels][group / 4][PANEL][4]`, a dword of four
//! consecutive steps for each of 16 outputs, as in [`quantized`](super::quantized). A plane of `b` bits has the bits of `8 / b`
//! consecutive lines in one line, the first one lowest. Everything is a multiple of 64 bytes.

use super::{PANEL, UNIT};
use crate::blocks::stored::Block;
use crate::blocks::{BlockFormat, BlockRef, Build, Scales};
use crate::pack_error::PackError;
use crate::source::Weights;
use half::f16;
use std::ops::Range;

/// Bytes of a line: a register of codes of one panel.
pub(crate) const LINE: usize = 4 * PANEL;

/// Sizes and places in panels of one K.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockLayout {
    pub(crate) format: BlockFormat,
    pub(crate) build: Build,
    /// Blocks along K.
    pub(crate) blocks: usize,
}

impl BlockLayout {
    pub(crate) fn new(format: BlockFormat, k: usize) -> Self {
        let build = format.build();
        BlockLayout { format, build, blocks: k / build.block }
    }

    /// Groups of a block.
    pub(crate) fn groups(self) -> usize {
        self.build.block / self.build.group
    }

    /// Where the parts of a block are.
    pub(crate) fn places(self) -> BlockPlaces {
        let Build { block, planes: [low, high], scales, minimum, .. } = self.build;
        let of_groups = if scales == Scales::Own { 0 } else { self.groups() * UNIT };
        let min = 2 * UNIT;
        let scales_start = if minimum { 2 * min } else { min };
        let mins = scales_start + of_groups;
        let codes = if minimum && scales == Scales::Bytes { mins + of_groups } else { mins };
        let second = codes + block * UNIT * low / 8;
        BlockPlaces { min, scales: scales_start, mins, codes, second, end: second + block * UNIT * high / 8 }
    }

    /// Bytes of one unit and block.
    pub(crate) fn block_bytes(self) -> usize {
        self.places().end
    }

    /// Bytes of one unit.
    pub(crate) fn unit_bytes(self) -> usize {
        self.blocks * self.block_bytes()
    }

    /// Place of the code of output `column` at step `step` in an opened block: line and byte.
    fn place(self, column: usize, step: usize) -> (usize, usize) {
        let quads = self.build.group / 4;
        let (group, quad) = (step / self.build.group, step % self.build.group / 4);
        ((group * 2 + column / PANEL) * quads + quad, column % PANEL * 4 + step % 4)
    }
}

/// Where the parts of one unit and block begin, in bytes from its `d` on; a part that there is not is empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockPlaces {
    pub(crate) min: usize,
    pub(crate) scales: usize,
    pub(crate) mins: usize,
    /// The first plane.
    pub(crate) codes: usize,
    /// The second plane.
    pub(crate) second: usize,
    pub(crate) end: usize,
}

/// Panels in blocks, as the kernels read them.
#[derive(Clone, Copy)]
pub(crate) struct BlockPanels<'a> {
    pub(crate) layout: BlockLayout,
    /// `[units][blocks][block_bytes]`, aligned to 64 bytes.
    pub(crate) bytes: &'a [u8],
}

/// One unit and block.
#[derive(Clone, Copy)]
pub(crate) struct PanelBlock<'a> {
    layout: BlockLayout,
    bytes: &'a [u8],
}

impl<'a> BlockPanels<'a> {
    pub(crate) fn block(&self, unit: usize, index: usize) -> PanelBlock<'a> {
        let size = self.layout.block_bytes();
        let start = (unit * self.layout.blocks + index) * size;
        PanelBlock { layout: self.layout, bytes: &self.bytes[start..start + size] }
    }
}

impl<'a> PanelBlock<'a> {
    /// Where its bytes begin: a block of them, aligned to 64.
    pub(crate) fn start(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    /// The two planes of bits.
    pub(crate) fn planes(&self) -> [&'a [u8]; 2] {
        let BlockPlaces { codes, second, end, .. } = self.layout.places();
        [&self.bytes[codes..second], &self.bytes[second..end]]
    }

    /// Factor and addend of group `group` of output `column` of the unit.
    pub(crate) fn group(&self, column: usize, group: usize) -> (f32, f32) {
        let (places, bytes) = (self.layout.places(), self.bytes);
        let half = |start| f16::from_ne_bytes([bytes[start + 2 * column], bytes[start + 2 * column + 1]]);
        let mut block = Block { d: half(0), ..Block::default() };
        let Build { scales, minimum, .. } = self.layout.build;
        if minimum {
            block.min = half(places.min);
        }
        let at = group * UNIT + column;
        match scales {
            Scales::Own => {}
            Scales::Bytes => {
                block.scales[group] = bytes[places.scales + at].cast_signed();
                block.mins[group] = if minimum { bytes[places.mins + at] } else { 0 };
            }
            Scales::Halves => {
                let byte = bytes[places.scales + at];
                (block.scales[group], block.mins[group]) = ((byte & 15).cast_signed(), byte >> 4);
            }
        }
        block.group(self.layout.format, group)
    }

    /// Level of output `column` of the unit at step `step` of the block.
    pub(crate) fn level(&self, column: usize, step: usize) -> i16 {
        let (line, byte) = self.layout.place(column, step);
        let Build { planes: [low, high], zero, table, .. } = self.layout.build;
        let bits = |plane: &[u8], width: usize| {
            let per = 8 / width;
            plane[line / per * LINE + byte] >> (line % per * width) & mask(width)
        };
        let [first, second] = self.planes();
        let mut code = bits(first, low);
        if high > 0 {
            code |= bits(second, high) << low;
        }
        if let Some(table) = table {
            code = table[usize::from(code)];
        }
        i16::from(code) - i16::from(zero)
    }
}

/// The lowest `bits` bits, at most 8.
pub(crate) const fn mask(bits: usize) -> u8 {
    (0xff_u16 >> (8 - bits)) as u8
}

/// Fills the unit whose first row is `first` of the parts that are stacked, each in blocks.
pub(crate) fn pack_unit(
    parts: &[(Weights<'_>, usize)],
    stacked: Range<usize>,
    k: usize,
    format: BlockFormat,
    first: usize,
    to: &mut [u8],
) -> Result<(), PackError> {
    let layout = BlockLayout::new(format, k);
    let mut rows = Vec::with_capacity(UNIT);
    let mut part_start = 0;
    for part in stacked {
        let (weights, height) = &parts[part];
        let Weights::Blocks(matrix) = weights else { unreachable!("packed in their own format") };
        let from = first.max(part_start);
        let until = (first + UNIT).min(part_start + height);
        let row = |row| StoredRow { matrix: *matrix, part, row: row - part_start, column: row - first };
        rows.extend((from..until.max(from)).map(row));
        part_start += height;
    }
    // Places of outputs that are not there stay 0.
    let mut packer = Packer {
        layout,
        opened: vec![0; layout.build.block * UNIT],
        block: Block::default(),
        places: layout.build.table.map(places_in),
    };
    for (index, to) in to.chunks_exact_mut(layout.block_bytes()).enumerate() {
        for row in &rows {
            packer.write(row, index, to)?;
        }
        packer.close(to);
    }
    Ok(())
}

/// A row of a matrix and the output of the unit that it is.
struct StoredRow<'a> {
    matrix: BlockRef<'a>,
    part: usize,
    row: usize,
    column: usize,
}

/// Brings the blocks of the rows of a unit together.
struct Packer {
    layout: BlockLayout,
    opened: Vec<u8>,
    block: Block,
    /// Place in the table of each level.
    places: Option<[u8; 256]>,
}

/// The place of each level in `table`.
fn places_in(table: &[u8; 16]) -> [u8; 256] {
    let mut places = [0; 256];
    // The first of equal levels counts.
    for (place, &level) in table.iter().enumerate().rev() {
        places[usize::from(level)] = place as u8;
    }
    places
}

impl Packer {
    /// Writes scales of block `index` of a row to their places in `to` and codes to the opened lines.
    fn write(&mut self, row: &StoredRow<'_>, index: usize, to: &mut [u8]) -> Result<(), PackError> {
        let &StoredRow { matrix, part, row, column } = row;
        let Build { block, group, minimum, scales, .. } = self.layout.build;
        matrix.read(row, index, &mut self.block);
        let Block { d, min, .. } = self.block;
        let number = |bits| self.layout.build.number(bits);
        if !number(d).is_finite() || !number(min).is_finite() {
            return Err(PackError::NotFinite { part, row, column: index * block });
        }
        let BlockPlaces {
            min: min_start, scales: scales_start, mins: mins_start, codes: codes_start, ..
        } = self.layout.places();
        to[2 * column..2 * column + 2].copy_from_slice(&d.to_ne_bytes());
        if minimum {
            to[min_start + 2 * column..min_start + 2 * column + 2].copy_from_slice(&min.to_ne_bytes());
        }
        let (scale_lines, _) = to[scales_start..mins_start].as_chunks_mut::<UNIT>();
        let values = self.block.scales.iter().zip(&self.block.mins);
        for (line, (scale, min)) in scale_lines.iter_mut().zip(values) {
            let halves = if scales == Scales::Halves { min << 4 } else { 0 };
            line[column] = scale.cast_unsigned() | halves;
        }
        // There are none where minima are halves.
        let (min_lines, _) = to[mins_start..codes_start].as_chunks_mut::<UNIT>();
        for (line, min) in min_lines.iter_mut().zip(&self.block.mins) {
            line[column] = *min;
        }
        if let Some(places) = &self.places {
            let codes = self.block.codes[..block].iter_mut();
            codes.for_each(|code| *code = places[usize::from(*code)]);
        }
        let (lines, _) = self.opened.as_chunks_mut::<LINE>();
        let (quads, _) = self.block.codes[..block].as_chunks::<4>();
        // Of the two panels that take turns, those of this output.
        let lines = lines.chunks_exact_mut(group / 4).skip(column / PANEL).step_by(2);
        let place = column % PANEL;
        for (lines, quads) in lines.zip(quads.chunks_exact(group / 4)) {
            for (line, quad) in lines.iter_mut().zip(quads) {
                line.as_chunks_mut::<4>().0[place] = *quad;
            }
        }
        Ok(())
    }

    /// Writes the planes of bits of the opened lines.
    fn close(&self, to: &mut [u8]) {
        let BlockPlaces { codes, second, .. } = self.layout.places();
        let [low, high] = self.layout.build.planes;
        let (first, rest) = to[codes..].split_at_mut(second - codes);
        squeeze(&self.opened, 0, low, first);
        if high > 0 {
            squeeze(&self.opened, low, high, rest);
        }
    }
}

/// Brings `bits` bits from `shift` on of the bytes of several lines into one line.
fn squeeze(lines: &[u8], shift: usize, bits: usize, to: &mut [u8]) {
    match bits {
        1 => squeeze_lines::<1>(lines, shift, to),
        2 => squeeze_lines::<2>(lines, shift, to),
        4 => squeeze_lines::<4>(lines, shift, to),
        _ => squeeze_lines::<8>(lines, shift, to),
    }
}

fn squeeze_lines<const BITS: usize>(lines: &[u8], shift: usize, to: &mut [u8]) {
    let (lines, _) = lines.as_chunks::<LINE>();
    let (to, _) = to.as_chunks_mut::<LINE>();
    for (lines, to) in lines.chunks_exact(8 / BITS).zip(to) {
        let mut sum = [0; LINE];
        for (place, line) in lines.iter().enumerate() {
            for (to, byte) in sum.iter_mut().zip(line) {
                *to |= (byte >> shift & mask(BITS)) << (place * BITS);
            }
        }
        *to = sum;
    }
}
