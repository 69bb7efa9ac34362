//! What the sums of groups of a block are multiplied by.

use super::ints::Ints;
use crate::blocks::{Build, Scales};
use crate::packed::UNIT;
use crate::panels::blocks::BlockPlaces;

/// Factors and addends of the groups of one block, for V registers of outputs.
pub(super) struct Factors<S: Ints, const V: usize> {
    d: [S::F; V],
    min: [S::F; V],
    /// Scales of the first group, and its minima where they are bytes of their own.
    scales: *const u8,
    mins: *const u8,
}

impl<S: Ints, const V: usize> Factors<S, V> {
    /// Those of a block of `layout` whose outputs from `first` on are at `block`.
    ///
    /// # Safety
    ///
    /// `block` is readable for a block, and the outputs are within the unit.
    #[inline(always)]
    pub(super) unsafe fn of(
        s: S,
        build: &Build,
        places: &BlockPlaces,
        block: *const u8,
        first: usize,
    ) -> Self {
        let mut factors =
            Factors { d: [s.splat(0.0); V], min: [s.splat(0.0); V], scales: block, mins: block };
        for v in 0..V {
            let column = first + v * S::LANES;
            // SAFETY: the numbers of the unit, at the places of the layout.
            unsafe {
                let d = block.add(2 * column);
                factors.d[v] = if build.wide_scale { s.load_bf16(d.cast()) } else { s.load_f16(d.cast()) };
                if build.minimum {
                    let min = s.load_f16(block.add(places.min + 2 * column).cast());
                    let sign = if build.scales == Scales::Own { 1.0 } else { -1.0 };
                    factors.min[v] = s.mul(min, s.splat(sign));
                }
            }
        }
        // SAFETY: within the block.
        unsafe {
            factors.scales = block.add(places.scales + first);
            factors.mins = block.add(places.mins + first);
        }
        factors
    }

    /// Factor and addend of group `group` for register `v`; the addend means something in formats with a minimum.
    ///
    /// # Safety
    ///
    /// The block has the group.
    #[inline(always)]
    pub(super) unsafe fn group(&self, s: S, build: &Build, group: usize, v: usize) -> (S::F, S::F) {
        let at = group * UNIT + v * S::LANES;
        match build.scales {
            Scales::Own => (self.d[v], self.min[v]),
            Scales::Bytes => {
                // SAFETY: a byte of each output.
                let scale = s.to_floats(unsafe { s.load_bytes(self.scales.add(at)) });
                let mut addend = self.min[v];
                if build.minimum {
                    // SAFETY: a byte of each output.
                    addend = s.mul(addend, s.to_floats(unsafe { s.load_bytes(self.mins.add(at)) }));
                }
                (s.mul(self.d[v], scale), addend)
            }
            Scales::Halves => {
                // SAFETY: a byte of each output.
                let both = unsafe { s.load_bytes(self.scales.add(at)) };
                let (scale, min) = (s.and_word(both, 15), s.and_word(s.shift_halves::<4>(both), 15));
                (s.mul(self.d[v], s.to_floats(scale)), s.mul(self.min[v], s.to_floats(min)))
            }
        }
    }
}
