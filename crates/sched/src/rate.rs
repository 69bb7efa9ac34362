//! How fast work leaves the queue, for retry hints.

use std::time::{Duration, Instant};

/// Time over which old observations fade to 1/e.
const FADE: Duration = Duration::from_secs(10);

/// Exponentially fading rate of a quantity, per second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RateMeter {
    per_second: f64,
    last: Option<Instant>,
}

impl RateMeter {
    /// Adds `amount` at `now`.
    pub(crate) fn add(&mut self, amount: u32, now: Instant) {
        self.per_second = self.per_second(now) + f64::from(amount) / FADE.as_secs_f64();
        self.last = Some(now);
    }

    /// Time until `amount` more has passed at the measured rate, between one second and thirty. Thirty when work
    /// has stopped passing; one when none was ever seen.
    pub(crate) fn time_for(&self, amount: u64, now: Instant) -> Duration {
        if self.last.is_none() {
            return Duration::from_secs(1);
        }
        let seconds = amount as f64 / self.per_second(now).max(f64::MIN_POSITIVE);
        Duration::from_secs_f64(seconds.clamp(1.0, 30.0))
    }

    /// The rate at `now`.
    pub(crate) fn per_second(&self, now: Instant) -> f64 {
        let age = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.per_second * (-age.as_secs_f64() / FADE.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_follows_the_measured_rate() {
        let t0 = Instant::now();
        let mut meter = RateMeter::default();
        assert_eq!(meter.time_for(1, t0), Duration::from_secs(1));
        let mut now = t0;
        for _ in 0..1_000 {
            now += Duration::from_millis(100);
            meter.add(2, now);
        }
        let hint = meter.time_for(100, now).as_secs_f64();
        assert!((4.8..5.2).contains(&hint), "20 per second pass, so 100 take 5 s, not {hint}");
        assert_eq!(meter.time_for(100, now + Duration::from_secs(600)), Duration::from_secs(30));
    }
}
