//! Items of a run, handed out chunk by chunk.

use crate::pool::partition;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Chunks of `0..items`, in one part per worker. A chunk is handed out once.
pub(crate) struct Chunks {
    /// Written between runs.
    items: AtomicUsize,
    grain: AtomicUsize,
    parts: Box<[Part]>,
}

/// Chunks that belong to one worker; alone on its cache lines, since its owner counts on it all the time.
#[repr(align(128))]
struct Part {
    next: AtomicUsize,
    end: AtomicUsize,
}

impl Chunks {
    pub(crate) fn new(workers: usize) -> Self {
        let part = || Part { next: AtomicUsize::new(0), end: AtomicUsize::new(0) };
        let parts = std::iter::repeat_with(part).take(workers).collect();
        Chunks { items: AtomicUsize::new(0), grain: AtomicUsize::new(1), parts }
    }

    /// Cuts `0..items` into chunks of `grain` and deals them out. Only between runs: the start of a run publishes it.
    pub(crate) fn deal(&self, items: usize, grain: usize) {
        let grain = grain.max(1);
        self.items.store(items, Relaxed);
        self.grain.store(grain, Relaxed);
        for (worker, part) in self.parts.iter().enumerate() {
            let chunks = partition(items.div_ceil(grain), self.parts.len(), worker);
            part.next.store(chunks.start, Relaxed);
            part.end.store(chunks.end, Relaxed);
        }
    }

    /// The chunks that worker `worker` gets: its own, then what the others have not come to.
    pub(crate) fn take(&self, worker: usize) -> impl Iterator<Item = Range<usize>> {
        let (items, grain) = (self.items.load(Relaxed), self.grain.load(Relaxed));
        let (before, from) = self.parts.split_at(worker);
        from.iter().chain(before).flat_map(move |part| {
            let end = part.end.load(Relaxed);
            let chunks = std::iter::from_fn(move || {
                let chunk = part.next.fetch_add(1, Relaxed);
                (chunk < end).then_some(chunk)
            });
            chunks.map(move |chunk| chunk * grain..((chunk + 1) * grain).min(items))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_handed_out_once_own_part_first() {
        let chunks = Chunks::new(3);
        for (items, grain) in [(1, 1), (10, 3), (7, 0), (100, 7), (2, 50)] {
            chunks.deal(items, grain);
            let first: Vec<_> = chunks.take(1).take(1).flatten().collect();
            let own = partition(items.div_ceil(grain.max(1)), 3, 1);
            if !own.is_empty() {
                assert_eq!(first[0], own.start * grain.max(1));
            }
            let mut all: Vec<usize> = [2, 0, 1].into_iter().flat_map(|w| chunks.take(w).flatten()).collect();
            all.extend(first);
            all.sort_unstable();
            assert_eq!(all, (0..items).collect::<Vec<_>>());
            assert_eq!(chunks.take(0).count(), 0);
        }
    }
}
