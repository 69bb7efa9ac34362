//! Parts of a stored tensor that play a role of their own.

use std::borrow::Cow;
use std::ops::Range;

/// The part of a stored tensor, row-major, that plays a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// All of it, as it is.
    Whole,
    /// `count` runs of `len` rows, which begin `stride` rows apart.
    Rows { start: u64, len: u64, stride: u64, count: u64 },
    /// Every `step`-th column of `width` from `start` on, `len` of them, as rows.
    Columns { width: u64, start: u64, step: u64, len: u64 },
}

impl View {
    /// Rows in one run.
    pub(crate) fn rows(start: u64, len: u64) -> Self {
        Self::Rows { start, len, stride: 0, count: 1 }
    }

    pub(crate) fn columns(width: u64, start: u64, len: u64) -> Self {
        Self::Columns { width, start, step: 1, len }
    }

    /// Rows of the part, of a tensor of `rows` rows; of columns, as rows.
    pub(crate) fn len(self, rows: u64) -> u64 {
        match self {
            Self::Whole => rows,
            Self::Rows { len, count, .. } => len * count,
            Self::Columns { len, .. } => len,
        }
    }

    /// The rows of a tensor of `rows` rows that are the part, in order; all of columns.
    pub(crate) fn rows_of(self, rows: u64) -> impl Iterator<Item = u64> {
        let (start, len, stride, count) = match self {
            Self::Whole | Self::Columns { .. } => (0, rows, 0, 1),
            Self::Rows { start, len, stride, count } => (start, len, stride, count),
        };
        (0..count).flat_map(move |run| (0..len).map(move |row| start + run * stride + row))
    }

    /// The bytes of the part where they follow one another in `range`, which holds the whole tensor of `rows` rows.
    pub(crate) fn contiguous(self, rows: u64, range: &Range<usize>) -> Option<Range<usize>> {
        let Self::Rows { start, len, count: 1, .. } = self else {
            return (self == Self::Whole).then(|| range.clone());
        };
        let row = range.len() / (rows.max(1) as usize);
        let first = range.start + start as usize * row;
        Some(first..first + len as usize * row)
    }

    /// The part of a tensor of `bytes` whose elements take `size` bytes, in order.
    pub(crate) fn gather(self, bytes: &[u8], rows: u64, size: usize) -> Cow<'_, [u8]> {
        match self {
            Self::Whole => Cow::Borrowed(bytes),
            Self::Rows { start, len, count: 1, .. } => {
                let row = bytes.len() / rows.max(1) as usize;
                Cow::Borrowed(&bytes[start as usize * row..(start + len) as usize * row])
            }
            Self::Rows { start, len, stride, count } => {
                let row = bytes.len() / rows.max(1) as usize;
                let run = |index: u64| {
                    let first = (start + index * stride) as usize * row;
                    &bytes[first..first + len as usize * row]
                };
                let mut part = Vec::with_capacity(count as usize * len as usize * row);
                (0..count).for_each(|index| part.extend_from_slice(run(index)));
                Cow::Owned(part)
            }
            Self::Columns { width, start, step, len } => {
                let [width, start, step, len] = [width, start, step, len].map(|n| n as usize);
                let height = bytes.len() / size / width.max(1);
                let mut part = Vec::with_capacity(height * len * size);
                for column in (start..).step_by(step).take(len) {
                    for row in 0..height {
                        let at = (row * width + column) * size;
                        part.extend_from_slice(&bytes[at..at + size]);
                    }
                }
                Cow::Owned(part)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_rows_runs_and_columns() {
        // Six rows of two elements of two bytes.
        let bytes: Vec<u8> = (0..24).collect();
        let gather = |view: View| view.gather(&bytes, 6, 2).into_owned();
        assert_eq!(gather(View::Whole), bytes);
        assert_eq!(gather(View::rows(1, 2)), (4..12).collect::<Vec<_>>());
        assert_eq!(View::rows(1, 2).contiguous(6, &(100..124)), Some(104..112));
        let runs = View::Rows { start: 1, len: 1, stride: 3, count: 2 };
        assert_eq!(gather(runs), [4, 5, 6, 7, 16, 17, 18, 19]);
        assert_eq!(runs.contiguous(6, &(0..24)), None);
        let columns = View::columns(2, 1, 1);
        assert_eq!(gather(columns), [2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23]);
        let turns = View::Columns { width: 6, start: 1, step: 2, len: 3 }.gather(&bytes, 2, 2).into_owned();
        assert_eq!(turns, [2, 3, 14, 15, 6, 7, 18, 19, 10, 11, 22, 23]);
        // As two rows of six elements: the third and the fourth column.
        let transposed = View::columns(6, 2, 2).gather(&bytes, 2, 2).into_owned();
        assert_eq!(transposed, [4, 5, 16, 17, 6, 7, 18, 19]);
    }
}
