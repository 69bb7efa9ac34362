//! The bound of the waiting queue, visible to submitters without asking the engine thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bits of the packed word that count prompt tokens; the bits above count requests.
const TOKEN_BITS: u32 = 40;
const TOKEN_MASK: u64 = (1 << TOKEN_BITS) - 1;

/// Requests that wait for their first step, and their prompt tokens: in the inbox or in the scheduler's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
}

impl Waiting {
    fn pack(self) -> u64 {
        (self.requests << TOKEN_BITS) | (self.tokens & TOKEN_MASK)
    }

    fn unpack(word: u64) -> Self {
        Self { requests: word >> TOKEN_BITS, tokens: word & TOKEN_MASK }
    }
}

/// Counts what waits. Submitters add, the engine thread takes away; one word, so that a refusal is exact.
#[derive(Debug)]
pub(crate) struct Admission {
    waiting: AtomicU64,
    limit: Waiting,
    retry_after_ms: AtomicU64,
}

impl Admission {
    pub(crate) fn new(limit: Waiting) -> Self {
        let limit = Waiting {
            requests: limit.requests.min(u64::MAX >> (TOKEN_BITS + 1)),
            tokens: limit.tokens.min(TOKEN_MASK >> 1),
        };
        Self { waiting: AtomicU64::new(0), limit, retry_after_ms: AtomicU64::new(1_000) }
    }

    /// Counts a request with `tokens` prompt tokens in, or returns what waits when there is no room. A prompt
    /// above the token limit is let in when nothing else waits, so that it is not refused for ever.
    pub(crate) fn reserve(&self, tokens: u64) -> Result<(), Waiting> {
        let add = |word| {
            let now = Waiting::unpack(word);
            let next = Waiting { requests: now.requests + 1, tokens: now.tokens + tokens };
            let fits = next.requests <= self.limit.requests && next.tokens <= self.limit.tokens;
            (fits || now.requests == 0).then(|| next.pack())
        };
        let update = self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        update.map(drop).map_err(Waiting::unpack)
    }

    /// Counts requests out that have started, ended, or never arrived.
    pub(crate) fn release(&self, gone: Waiting) {
        self.waiting.fetch_sub(gone.pack(), Ordering::AcqRel);
    }

    /// The requests that used to count as `before` count as `after` from here on: some have started or ended,
    /// and preempted ones wait again.
    pub(crate) fn settle(&self, before: Waiting, after: Waiting) {
        // Wrapping arithmetic on the packed word is exact, because the true sum of all parts fits its bits.
        self.waiting.fetch_add(after.pack().wrapping_sub(before.pack()), Ordering::AcqRel);
    }

    pub(crate) fn waiting(&self) -> Waiting {
        Waiting::unpack(self.waiting.load(Ordering::Acquire))
    }

    pub(crate) fn set_retry_after(&self, after: Duration) {
        self.retry_after_ms.store(after.as_millis() as u64, Ordering::Relaxed);
    }

    /// When a refused client may try again, from the measured rate of completion.
    pub(crate) fn retry_after(&self) -> Duration {
        Duration::from_millis(self.retry_after_ms.load(Ordering::Relaxed))
    }
}

/// Time over which old exits fade to 1/e.
const FADE_SECONDS: f64 = 10.0;

/// How fast requests leave the waiting queue: an exponentially fading mean. Kept by the engine thread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ExitRate {
    per_second: f64,
    last: Option<Instant>,
}

impl ExitRate {
    /// Counts `requests` that left at `now`.
    pub(crate) fn add(&mut self, requests: u64, now: Instant) {
        if requests > 0 {
            self.per_second = self.faded(now) + requests as f64 / FADE_SECONDS;
            self.last = Some(now);
        }
    }

    /// Time until one more leaves, within 1 to 30 s; 1 s as long as none has.
    pub(crate) fn time_for_one(&self, now: Instant) -> Duration {
        let seconds = if self.last.is_some() { 1.0 / self.faded(now).max(f64::MIN_POSITIVE) } else { 1.0 };
        Duration::from_secs_f64(seconds.clamp(1.0, 30.0))
    }

    fn faded(&self, now: Instant) -> f64 {
        let age = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.per_second * (-age.as_secs_f64() / FADE_SECONDS).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_exact_among_threads() {
        let admission = Admission::new(Waiting { requests: 100, tokens: 1_000_000 });
        let accept = || (0..1000).filter(|_| admission.reserve(3).is_ok()).count();
        let accepted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(accept)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(accepted, 100);
        assert_eq!(admission.reserve(1), Err(Waiting { requests: 100, tokens: 300 }));
    }

    #[test]
    fn settling_moves_the_count_both_ways() {
        let admission = Admission::new(Waiting { requests: 10, tokens: 100 });
        admission.reserve(40).unwrap();
        admission.reserve(50).unwrap();
        let (both, second) = (Waiting { requests: 2, tokens: 90 }, Waiting { requests: 1, tokens: 50 });
        admission.settle(both, second);
        assert_eq!(admission.waiting(), second);
        admission.settle(second, both);
        assert_eq!(admission.waiting(), both);
        admission.settle(both, Waiting::default());
        assert_eq!(admission.waiting(), Waiting::default());
    }

    #[test]
    fn limits_beyond_the_word_are_cut_to_it() {
        let admission = Admission::new(Waiting { requests: u64::MAX, tokens: u64::MAX });
        for _ in 0..100 {
            admission.reserve(u64::from(u32::MAX)).unwrap();
        }
        let waiting = Waiting { requests: 100, tokens: 100 * u64::from(u32::MAX) };
        assert_eq!(admission.waiting(), waiting);
        admission.release(waiting);
        assert_eq!(admission.waiting(), Waiting::default());
    }

    #[test]
    fn the_hint_follows_the_measured_rate() {
        let start = Instant::now();
        let mut rate = ExitRate::default();
        assert_eq!(rate.time_for_one(start), Duration::from_secs(1));
        let mut now = start;
        for _ in 0..100 {
            now += Duration::from_secs(5);
            rate.add(1, now);
        }
        let hint = rate.time_for_one(now).as_secs_f64();
        assert!((3.0..6.0).contains(&hint), "one leaves every 5 s, and the hint is {hint} s");
        assert_eq!(rate.time_for_one(now + Duration::from_secs(3600)), Duration::from_secs(30));
    }
}
