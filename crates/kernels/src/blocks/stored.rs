//! Blocks as files store them.
//!
//! | format | fields, in order |
//! |---|---|
//! | q4_0, iq4_nl | `d` f16, 16 bytes of halves |
//! | mxfp4 | exponent of 2, plus 127, in a byte; 16 bytes of halves |
//! | q4_1 | `d` f16, `min` f16, 16 bytes of halves |
//! | q5_0, q5_1 | `d` f16, (`min` f16,) 32 fifth bits, 16 bytes of halves |
//! | q8_0 | `d` f16, 32 signed bytes |
//! | q2_k | 16 bytes of halves: scale, minimum; 64 bytes of quarters; `d`, `min` f16 |
//! | q3_k | 32 bytes of third bits; 64 bytes of quarters; 12 bytes of scales; `d` f16 |
//! | q4_k, q5_k | `d`, `min` f16; 12 bytes of scales and minima; (32 bytes of fifth bits;) 128 bytes of halves |
//! | iq4_xs | `d` f16; 2 bytes of upper quarters and 4 of lower halves of scales; 128 bytes of halves |
//! | q6_k | 128 bytes of halves; 64 bytes of quarters; 16 signed scales; `d` f16 |
//!
//! Halves of blocks of 32, and of each 32 of iq4_xs: byte `i` has inputs `i` and `i + 16`. In other blocks of 256 a run of 32 bytes has 32 inputs in its
//! lowest bits, the next 32 in the bits above, and so on.

use super::format::{BlockFormat, MAX_BLOCK, MIN_GROUP, Scales};
use half::f16;

/// One block with its parts taken out of their bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) d: f16,
    pub(crate) min: f16,
    /// Of each group.
    pub(crate) scales: [i8; MAX_BLOCK / MIN_GROUP],
    pub(crate) mins: [u8; MAX_BLOCK / MIN_GROUP],
    /// Of each input; levels of a table are looked up already.
    pub(crate) codes: [u8; MAX_BLOCK],
}

impl Default for Block {
    fn default() -> Self {
        Block { d: f16::ZERO, min: f16::ZERO, scales: [0; 16], mins: [0; 16], codes: [0; MAX_BLOCK] }
    }
}

impl Block {
    /// Factor and addend of group `group`.
    pub(crate) fn group(&self, format: BlockFormat, group: usize) -> (f32, f32) {
        let build = format.build();
        let (d, min) = (build.number(self.d), build.number(self.min));
        match (build.scales, build.minimum) {
            (Scales::Own, false) => (d, 0.0),
            (Scales::Own, true) => (d, min),
            (_, false) => (d * f32::from(self.scales[group]), 0.0),
            (_, true) => (d * f32::from(self.scales[group]), -(min * f32::from(self.mins[group]))),
        }
    }

    /// Reads the bytes of one block.
    pub(crate) fn read(&mut self, format: BlockFormat, bytes: &[u8]) {
        match format {
            BlockFormat::Q4_0 => self.plain(bytes, false, false),
            BlockFormat::Q4_1 => self.plain(bytes, true, false),
            BlockFormat::Q5_0 => self.plain(bytes, false, true),
            BlockFormat::Q5_1 => self.plain(bytes, true, true),
            BlockFormat::Q8_0 => {
                let (d, codes) = bytes.split_at(2);
                self.d = half(d);
                self.codes.iter_mut().zip(codes).for_each(|(to, code)| *to = code ^ 0x80);
            }
            BlockFormat::Iq4Nl => {
                self.plain(bytes, false, false);
                self.look_up(format);
            }
            BlockFormat::Iq4Xs => {
                self.iq4_xs(bytes);
                self.look_up(format);
            }
            BlockFormat::Mxfp4 => {
                self.halves(0, &bytes[1..]);
                self.d = power(bytes[0]);
                self.look_up(format);
            }
            BlockFormat::Q2K => self.q2(bytes),
            BlockFormat::Q3K => self.q3(bytes),
            BlockFormat::Q4K => self.q45(bytes, false),
            BlockFormat::Q5K => self.q45(bytes, true),
            BlockFormat::Q6K => self.q6(bytes),
        }
    }

    /// Blocks of 32 in halves, with or without a minimum and fifth bits.
    fn plain(&mut self, bytes: &[u8], minimum: bool, fifth: bool) {
        let (d, rest) = bytes.split_at(2);
        self.d = half(d);
        let (min, rest) = rest.split_at(if minimum { 2 } else { 0 });
        self.min = if minimum { half(min) } else { f16::ZERO };
        let (high, halves) = rest.split_at(if fifth { 4 } else { 0 });
        self.halves(0, halves);
        for (i, code) in self.codes[..32].iter_mut().enumerate().take(8 * high.len()) {
            *code |= (high[i / 8] >> (i % 8) & 1) << 4;
        }
    }

    /// Codes of 4 bits of the 32 inputs from `first` on: the first 16 in the lower halves.
    fn halves(&mut self, first: usize, bytes: &[u8]) {
        let (low, upper) = self.codes[first..first + 32].split_at_mut(16);
        for ((low, upper), byte) in low.iter_mut().zip(upper).zip(bytes) {
            (*low, *upper) = (byte & 15, byte >> 4);
        }
    }

    /// Makes levels of codes that are places in a table.
    fn look_up(&mut self, format: BlockFormat) {
        let table = format.build().table.expect("a format with a table");
        self.codes[..format.block()].iter_mut().for_each(|code| *code = table[usize::from(*code)]);
    }

    fn q2(&mut self, bytes: &[u8]) {
        let (scales, rest) = bytes.split_at(16);
        let (quarters, rest) = rest.split_at(64);
        (self.d, self.min) = (half(rest), half(&rest[2..]));
        for (i, byte) in scales.iter().enumerate() {
            (self.scales[i], self.mins[i]) = ((byte & 15).cast_signed(), byte >> 4);
        }
        self.spread::<32, 2>(quarters, 0);
    }

    fn q3(&mut self, bytes: &[u8]) {
        let (high, rest) = bytes.split_at(32);
        let (quarters, rest) = rest.split_at(64);
        let (packed, d) = rest.split_at(12);
        self.d = half(d);
        for (i, scale) in self.scales.iter_mut().enumerate() {
            let low = packed[i % 8] >> (i / 8 * 4) & 15;
            let upper = packed[8 + i % 4] >> (i / 4 * 2) & 3;
            *scale = (low | upper << 4).cast_signed() - 32;
        }
        self.spread::<32, 2>(quarters, 0);
        self.spread::<32, 1>(high, 2);
    }

    fn q45(&mut self, bytes: &[u8], fifth: bool) {
        (self.d, self.min) = (half(bytes), half(&bytes[2..]));
        let (packed, rest) = bytes[4..].split_at(12);
        for i in 0..4 {
            let (scale, min, more) = (packed[i], packed[i + 4], packed[i + 8]);
            (self.scales[i], self.mins[i]) = ((scale & 63).cast_signed(), min & 63);
            self.scales[i + 4] = (more & 15 | scale >> 6 << 4).cast_signed();
            self.mins[i + 4] = more >> 4 | min >> 6 << 4;
        }
        let (high, halves) = rest.split_at(if fifth { 32 } else { 0 });
        self.spread::<32, 4>(halves, 0);
        if fifth {
            self.spread::<32, 1>(high, 4);
        }
    }

    fn iq4_xs(&mut self, bytes: &[u8]) {
        self.d = half(bytes);
        let (scales, halves) = bytes[2..].split_at(6);
        let upper = u16::from_le_bytes([scales[0], scales[1]]);
        for (i, bytes) in halves.as_chunks::<16>().0.iter().enumerate() {
            let low = scales[2 + i / 2] >> (i % 2 * 4) & 15;
            let upper = (upper >> (2 * i) & 3) as u8;
            self.scales[i] = (low | upper << 4).cast_signed() - 32;
            self.halves(32 * i, bytes);
        }
    }

    fn q6(&mut self, bytes: &[u8]) {
        let (halves, rest) = bytes.split_at(128);
        let (quarters, rest) = rest.split_at(64);
        let (scales, d) = rest.split_at(16);
        self.d = half(d);
        self.scales.iter_mut().zip(scales).for_each(|(to, scale)| *to = scale.cast_signed());
        self.spread::<64, 4>(halves, 0);
        self.spread::<32, 2>(quarters, 4);
    }

    /// Adds, `shift` bits up, codes of `BITS` bits: a run of `RUN` bytes holds as many inputs in its lowest bits, the next
    /// ones above. Without a shift they take the place of what was there.
    fn spread<const RUN: usize, const BITS: usize>(&mut self, bytes: &[u8], shift: usize) {
        let mask = (1u8 << BITS) - 1;
        let (stored, _) = bytes.as_chunks::<RUN>();
        let (runs, _) = self.codes.as_chunks_mut::<RUN>();
        for (index, codes) in runs.iter_mut().enumerate() {
            let (from, place) = (&stored[index * BITS / 8], index % (8 / BITS) * BITS);
            for (code, byte) in codes.iter_mut().zip(from) {
                let part = (byte >> place & mask) << shift;
                *code = if shift == 0 { part } else { *code | part };
            }
        }
    }
}

/// Half of `2^(exponent - 127)`, for levels that are twice their floats, as the bits of a wide scale; NaN of the largest.
fn power(exponent: u8) -> f16 {
    let bits = match exponent {
        0 => 0x0020,
        1 => 0x0040,
        u8::MAX => 0x7fc0,
        _ => (u16::from(exponent) - 1) << 7,
    };
    f16::from_bits(bits)
}

fn half(bytes: &[u8]) -> f16 {
    f16::from_le_bytes([bytes[0], bytes[1]])
}
