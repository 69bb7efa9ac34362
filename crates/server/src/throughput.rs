//! How fast tokens come, for those who ask now and then.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shortest time that a rate is measured over.
const SHORTEST: Duration = Duration::from_secs(1);

/// The rate between the last two looks that were far enough apart.
#[derive(Debug, Default)]
pub(crate) struct Throughput(Mutex<Option<Look>>);

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    total: u64,
    rate: f64,
}

impl Throughput {
    /// The rate per second, at a look that finds `total` at `now`. The first look finds none.
    pub(crate) fn look(&self, total: u64, now: Instant) -> f64 {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = *last else {
            *last = Some(Look { at: now, total, rate: 0.0 });
            return 0.0;
        };
        let passed = now.saturating_duration_since(before.at);
        if passed < SHORTEST {
            return before.rate;
        }
        let rate = total.saturating_sub(before.total) as f64 / passed.as_secs_f64();
        *last = Some(Look { at: now, total, rate });
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_are_close_together_see_the_same_rate() {
        let (throughput, start) = (Throughput::default(), Instant::now());
        let look = |total, ms| throughput.look(total, start + Duration::from_millis(ms));
        assert_eq!([look(100, 0), look(150, 500), look(300, 2_000)], [0.0, 0.0, 100.0]);
        assert_eq!([look(900, 2_900), look(600, 3_000), look(600, 9_000)], [100.0, 300.0, 0.0]);
    }
}
