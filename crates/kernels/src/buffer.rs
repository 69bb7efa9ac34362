//! Zeroed memory for weights and KV storage: aligned to a cache line, in huge pages when large, untouched until used.

use half::{bf16, f16};
use std::alloc::{self, Layout};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Alignment of every buffer in bytes: a cache line and the widest vector.
const ALIGN: usize = 64;

/// Size of a huge page; buffers of at least this size start at a multiple of it.
const HUGE: usize = 2 << 20;

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u32 {}
    impl Sealed for f32 {}
    impl Sealed for i8 {}
    impl Sealed for half::bf16 {}
    impl Sealed for half::f16 {}
}

/// Types of which all-zero bytes are a value: 0.
pub trait Element: Copy + Send + Sync + sealed::Sealed + 'static {}
impl Element for u8 {}
impl Element for u32 {}
impl Element for f32 {}
impl Element for i8 {}
impl Element for bf16 {}
impl Element for f16 {}

/// Why there is no buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot allocate {bytes} bytes; use a smaller model, a shorter context or fewer KV blocks")]
pub struct OutOfMemory {
    /// Size asked for.
    pub bytes: u64,
}

/// A slice of zeros on the heap, aligned to 64 bytes.
///
/// Large buffers come from the operating system page by page at first touch, so that on a machine with several memory
/// nodes a page lies on the node of the thread that wrote it first; huge pages are asked for.
pub struct Buffer<T: Element> {
    start: NonNull<T>,
    len: usize,
    memory: Memory,
}

/// Where the bytes came from, to give them back.
enum Memory {
    /// Nothing was allocated.
    None,
    Heap(Layout),
    Mapped {
        base: NonNull<u8>,
        bytes: usize,
    },
}

// SAFETY: a buffer owns its elements as a `Vec` does; `Element` is `Send` and `Sync`.
unsafe impl<T: Element> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Element> Sync for Buffer<T> {}

impl<T: Element> Buffer<T> {
    /// `len` zeros.
    ///
    /// # Errors
    ///
    /// When the system does not have the memory.
    pub fn zeroed(len: usize) -> Result<Self, OutOfMemory> {
        let error = OutOfMemory { bytes: (len as u64).saturating_mul(size_of::<T>() as u64) };
        let bytes =
            len.checked_mul(size_of::<T>()).filter(|&n| n <= isize::MAX as usize - 2 * HUGE).ok_or(error)?;
        if bytes == 0 {
            return Ok(Buffer { start: NonNull::dangling(), len, memory: Memory::None });
        }
        let (start, memory) = if bytes >= HUGE { map(bytes) } else { allocate(bytes) }.ok_or(error)?;
        Ok(Buffer { start: start.cast(), len, memory })
    }
}

fn allocate(bytes: usize) -> Option<(NonNull<u8>, Memory)> {
    let layout = Layout::from_size_align(bytes, ALIGN).ok()?;
    // SAFETY: the size is not 0.
    let start = NonNull::new(unsafe { alloc::alloc_zeroed(layout) })?;
    Some((start, Memory::Heap(layout)))
}

#[cfg(target_os = "linux")]
fn map(bytes: usize) -> Option<(NonNull<u8>, Memory)> {
    let mapped = bytes + HUGE;
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no existing memory.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), mapped, access, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return None;
    }
    let base = NonNull::new(base.cast::<u8>())?;
    let skip = base.as_ptr().align_offset(HUGE);
    // SAFETY: `skip` is below HUGE, so the start and `bytes` after it are inside the mapping.
    let start = unsafe { base.add(skip) };
    // SAFETY: the range is inside the mapping; the advice does not change what it holds, and a refusal costs speed only.
    unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
    Some((start, Memory::Mapped { base, bytes: mapped }))
}

#[cfg(not(target_os = "linux"))]
fn map(bytes: usize) -> Option<(NonNull<u8>, Memory)> {
    allocate(bytes)
}

impl<T: Element> Drop for Buffer<T> {
    fn drop(&mut self) {
        match self.memory {
            Memory::None => {}
            // SAFETY: the block was allocated with this layout and starts where the elements start.
            Memory::Heap(layout) => unsafe { alloc::dealloc(self.start.as_ptr().cast(), layout) },
            #[cfg(target_os = "linux")]
            Memory::Mapped { base, bytes } => {
                // SAFETY: this is the whole mapping made for this buffer, which nothing borrows any more.
                unsafe { libc::munmap(base.as_ptr().cast(), bytes) };
            }
            #[cfg(not(target_os = "linux"))]
            Memory::Mapped { .. } => unreachable!("nothing is mapped on this system"),
        }
    }
}

impl<T: Element> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `start` heads `len` elements that this buffer owns, initialised to zeros.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Element> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes it unique.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Element> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer<{}>({})", std::any::type_name::<T>(), self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_zeroed_and_writable() {
        for len in [0, 1, 63, 1 << 10, (HUGE / 4) + 3, HUGE] {
            let mut buffer = Buffer::<f32>::zeroed(len).unwrap();
            assert_eq!(buffer.len(), len);
            assert!(len == 0 || (buffer.as_ptr() as usize).is_multiple_of(ALIGN));
            assert!(buffer.iter().all(|&x| x == 0.0));
            buffer.fill(1.5);
            assert!(buffer.iter().all(|&x| x == 1.5));
        }
    }

    #[test]
    fn a_size_beyond_all_memory_is_an_error() {
        for len in [usize::MAX, usize::MAX / 4, isize::MAX as usize / 4] {
            assert!(Buffer::<f32>::zeroed(len).unwrap_err().bytes >= len as u64);
        }
    }
}
