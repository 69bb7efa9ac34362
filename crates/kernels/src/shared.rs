//! A mutable slice that workers write disjoint parts of.

use std::marker::PhantomData;
use std::ops::Range;

/// A `&mut [T]` that may be handed to several threads, each of which takes parts that no other takes.
pub(crate) struct SharedOut<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for a `&mut [T]`, whose parts may be sent to other threads when `T` may; `slice` and `pointer`
// make their callers keep the parts disjoint.
unsafe impl<T: Send> Sync for SharedOut<'_, T> {}

impl<'a, T> SharedOut<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        SharedOut { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// Elements of the slice.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The part `range`.
    ///
    /// # Safety
    ///
    /// While the result lives, no other part that overlaps `range` may be taken or written.
    ///
    /// # Panics
    ///
    /// When `range` is not within the slice.
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {} elements", self.len);
        // SAFETY: the range is inside the slice that `new` borrowed for 'a; the caller keeps it unaliased.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// The part `range`, for its own parts to be taken.
    ///
    /// # Panics
    ///
    /// When `range` is not within the slice.
    pub(crate) fn part(&self, range: Range<usize>) -> SharedOut<'a, T> {
        SharedOut { len: range.len(), start: self.pointer(range), slice: PhantomData }
    }

    /// The first element of `range`. Elements may be read and written through it as [`slice`](Self::slice) says, those
    /// between parts that others take left out.
    ///
    /// # Panics
    ///
    /// When `range` is not within the slice.
    pub(crate) fn pointer(&self, range: Range<usize>) -> *mut T {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {} elements", self.len);
        // SAFETY: the start of a range inside the slice.
        unsafe { self.start.add(range.start) }
    }

    /// Writes one element.
    ///
    /// # Safety
    ///
    /// No other thread may read or write this element in the same run, and no part that holds it may be alive.
    ///
    /// # Panics
    ///
    /// When `index` is not within the slice.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, index: usize, value: T) {
        assert!(index < self.len, "element {index} of {}", self.len);
        // SAFETY: the index is inside the slice; the caller keeps the element to one thread.
        unsafe { self.start.add(index).write(value) }
    }
}
