//! Codes whose bits lie in planes: registers of bytes made of them.
//!
//! A line has 4 codes of 16 outputs, a byte each when it is opened. A plane of `b` bits has the bits of `8 / b` consecutive lines in
//! one line, the first one lowest. The registers of a line are as wide as those of the instruction set.

use super::ints::Ints;
use crate::blocks::Build;
use crate::panels::blocks::{LINE, mask};

/// Codes of LOW bits in a first plane and HIGH bits, above those, in a second one.
#[derive(Clone, Copy)]
pub(crate) struct Planes<S: Ints, const LOW: usize, const HIGH: usize> {
    s: S,
    /// Levels that codes are places of.
    table: Option<S::I>,
}

impl<S: Ints, const LOW: usize, const HIGH: usize> Planes<S, LOW, HIGH> {
    #[inline(always)]
    pub(crate) fn new(s: S, build: &Build) -> Self {
        Planes { s, table: build.table.map(|table| s.table(table)) }
    }

    /// The bytes of line I of lines whose planes start at `low` and `high`.
    ///
    /// # Safety
    ///
    /// Both are readable for a register of the lines that have the bits of line I; `high` only where HIGH is not 0.
    #[inline(always)]
    pub(crate) unsafe fn line<const I: usize>(self, low: *const u8, high: *const u8) -> S::I {
        let s = self.s;
        // SAFETY: as the caller promises.
        let first = unsafe { s.load_words(low.add(I * LOW / 8 * LINE)) };
        let mut codes = s.and_word(move_bits(s, first, I * LOW % 8, 0), in_bytes(mask(LOW)));
        if HIGH > 0 {
            // SAFETY: as the caller promises.
            let second = unsafe { s.load_words(high.add(I * HIGH / 8 * LINE)) };
            let upper = move_bits(s, second, I * HIGH % 8, LOW);
            codes = s.or_words(codes, s.and_word(upper, in_bytes(mask(HIGH) << LOW)));
        }
        match self.table {
            Some(table) => s.look_up(table, codes),
            None => codes,
        }
    }

    /// Writes the bytes of eight lines whose planes start at `low` and `high`.
    ///
    /// # Safety
    ///
    /// The planes are readable for the bits of eight lines, `out` writable for eight lines.
    #[inline(always)]
    pub(crate) unsafe fn open(self, low: *const u8, high: *const u8, out: *mut u8) {
        let mut part = 0;
        while part < LINE {
            // SAFETY: a register of each line, as the caller promises.
            unsafe {
                let (low, high, out) = (low.add(part), high.wrapping_add(part), out.add(part));
                self.s.write_words(out, self.line::<0>(low, high));
                self.s.write_words(out.add(LINE), self.line::<1>(low, high));
                self.s.write_words(out.add(2 * LINE), self.line::<2>(low, high));
                self.s.write_words(out.add(3 * LINE), self.line::<3>(low, high));
                self.s.write_words(out.add(4 * LINE), self.line::<4>(low, high));
                self.s.write_words(out.add(5 * LINE), self.line::<5>(low, high));
                self.s.write_words(out.add(6 * LINE), self.line::<6>(low, high));
                self.s.write_words(out.add(7 * LINE), self.line::<7>(low, high));
            }
            part += 4 * S::LANES;
        }
    }
}

/// Moves bits from place `from` of each byte to place `to`; those of other bytes come into the places beside them.
#[inline(always)]
fn move_bits<S: Ints>(s: S, x: S::I, from: usize, to: usize) -> S::I {
    match from as isize - to as isize {
        0 => x,
        1 => s.shift_halves::<1>(x),
        2 => s.shift_halves::<2>(x),
        3 => s.shift_halves::<3>(x),
        4 => s.shift_halves::<4>(x),
        5 => s.shift_halves::<5>(x),
        6 => s.shift_halves::<6>(x),
        7 => s.shift_halves::<7>(x),
        -1 => s.shift_halves_up::<1>(x),
        -2 => s.shift_halves_up::<2>(x),
        -3 => s.shift_halves_up::<3>(x),
        -4 => s.shift_halves_up::<4>(x),
        _ => unreachable!("planes have at most 4 bits of each byte above each other"),
    }
}

/// A word of four times `byte`.
const fn in_bytes(byte: u8) -> u32 {
    u32::from_ne_bytes([byte; 4])
}
