//! Products of the codes of one group of a block with activations.

use super::dot::{Ahead, Sums, accumulate, add_part};
use super::int_dot::CodeDot;
use super::ints::Ints;
use super::planes::Planes;
use crate::blocks::Build;
use crate::packed::{PANEL, UNIT};
use crate::panels::blocks::LINE;

/// The codes of a group in the panels.
#[derive(Clone, Copy)]
pub(super) struct GroupCodes<'a> {
    /// First codes of the block, or of its first plane, and of its second plane.
    pub(super) planes: [*const u8; 2],
    /// Place of the group in the block.
    pub(super) group: usize,
    /// First output of the unit that is computed.
    pub(super) first: usize,
    pub(super) build: &'a Build,
}

/// How the codes of a group meet activations.
pub(super) trait MultiplyGroup<S: Ints, D: CodeDot<S>> {
    /// `sums` and the products of the codes with `words`, for V registers of outputs.
    ///
    /// # Safety
    ///
    /// The block has the codes of the group, in the order that this reads; `words` is readable for those of a group of R rows.
    unsafe fn add<const R: usize, const V: usize>(
        s: S,
        codes: GroupCodes<'_>,
        words: *const u32,
        ahead: Ahead<V>,
        sums: Sums<S::I, R, V>,
    ) -> Sums<S::I, R, V>;
}

/// Codes that lie as `D` loads them.
pub(super) struct AsPacked;

impl<S: Ints, D: CodeDot<S>> MultiplyGroup<S, D> for AsPacked {
    #[inline(always)]
    unsafe fn add<const R: usize, const V: usize>(
        s: S,
        GroupCodes { planes: [codes, _], group, first, build }: GroupCodes<'_>,
        words: *const u32,
        ahead: Ahead<V>,
        sums: Sums<S::I, R, V>,
    ) -> Sums<S::I, R, V> {
        // No constant: the loop over the loads of a group would be unrolled, and all its activations loaded, and spilled, first.
        let loads = build.group / D::STEPS;
        let mut starts = [codes; V];
        for (v, start) in starts.iter_mut().enumerate() {
            let column = first + v * S::LANES;
            let panels = (group * UNIT / PANEL + column / PANEL) * loads;
            // SAFETY: the group has as many loads of each panel.
            *start = unsafe { codes.add(panels * PANEL * D::CELL + column % PANEL * D::CELL) };
        }
        // SAFETY: as the caller promises.
        unsafe { accumulate::<S, D, R, V>(s, words, starts, loads, ahead, sums) }
    }
}

impl<S, D, const LOW: usize, const HIGH: usize> MultiplyGroup<S, D> for Planes<S, LOW, HIGH>
where
    S: Ints,
    D: CodeDot<S, Raw = S::I>,
{
    #[inline(always)]
    unsafe fn add<const R: usize, const V: usize>(
        s: S,
        GroupCodes { planes: [low, high], group, first, build }: GroupCodes<'_>,
        words: *const u32,
        ahead: Ahead<V>,
        sums: Sums<S::I, R, V>,
    ) -> Sums<S::I, R, V> {
        let lines = build.group / 4;
        let mut starts = [(low, high); V];
        for (v, start) in starts.iter_mut().enumerate() {
            let column = first + v * S::LANES;
            let panels = (group * UNIT / PANEL + column / PANEL) * lines;
            let place = |bits| panels * bits / 8 * LINE + column % PANEL * 4;
            // SAFETY: the planes have the bits of all lines before.
            *start = unsafe { (low.add(place(LOW)), high.add(place(HIGH))) };
        }
        let planes = Planes::<S, LOW, HIGH>::new(s, build);
        let mut lines = Lines { planes, starts, words, ahead, sums };
        // SAFETY: a group has 4 lines of a panel, or 8.
        unsafe {
            lines.add::<D, 0>(s);
            lines.add::<D, 1>(s);
            lines.add::<D, 2>(s);
            lines.add::<D, 3>(s);
            if build.group == 32 {
                lines.add::<D, 4>(s);
                lines.add::<D, 5>(s);
                lines.add::<D, 6>(s);
                lines.add::<D, 7>(s);
            }
        }
        lines.sums
    }
}

/// Lines of a group that are multiplied one after the other.
struct Lines<S: Ints, const LOW: usize, const HIGH: usize, const R: usize, const V: usize> {
    planes: Planes<S, LOW, HIGH>,
    /// First lines of the planes.
    starts: [(*const u8, *const u8); V],
    words: *const u32,
    ahead: Ahead<V>,
    sums: Sums<S::I, R, V>,
}

impl<S: Ints, const LOW: usize, const HIGH: usize, const R: usize, const V: usize> Lines<S, LOW, HIGH, R, V> {
    /// Adds the products of line I, the next one.
    ///
    /// # Safety
    ///
    /// The group has the line.
    #[inline(always)]
    unsafe fn add<D: CodeDot<S, Raw = S::I>, const I: usize>(&mut self, s: S) {
        let d = D::from(s);
        self.ahead.step(s);
        let mut raw = [s.zero_words(); V];
        for (raw, (low, high)) in raw.iter_mut().zip(self.starts) {
            // SAFETY: as the caller promises.
            *raw = unsafe { self.planes.line::<I>(low, high) };
        }
        // SAFETY: each part has R words.
        unsafe {
            add_part(d, raw, 0, self.words, &mut self.sums);
            if D::PARTS > 1 {
                add_part(d, raw, 1, self.words, &mut self.sums);
            }
            self.words = self.words.add(D::PARTS * R);
        }
    }
}
