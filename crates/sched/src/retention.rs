//! How long cached prefixes stay.

use std::time::Duration;

/// Number of classes: ordinary, one per time to live, pinned.
pub(crate) const CLASSES: usize = 20;

/// Longest time to live, seconds: 36 hours.
const LONGEST: u64 = 1 << (CLASSES - 3);

/// How long the prefix cache keeps what a request has sent, after its last use. The default is as long as nothing more
/// recent needs the block.
///
/// Under pressure ordinary blocks go first, then those with a time to live, shortest first; pinned ones never go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Retention(u8);

impl Retention {
    /// Until the space is needed.
    pub const ORDINARY: Self = Self(0);
    /// Until the cache is cleared.
    pub const PINNED: Self = Self(CLASSES as u8 - 1);

    /// Beside ordinary blocks for at least `time` after each use: it is rounded up to the next power of two in seconds,
    /// from one second to 36 hours.
    pub fn ttl(time: Duration) -> Self {
        let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
        let power = seconds.clamp(1, LONGEST).next_power_of_two().trailing_zeros();
        Self(1 + power as u8)
    }

    /// The time to live, if that is what it is.
    pub fn time(self) -> Option<Duration> {
        let has_time = self != Self::ORDINARY && self != Self::PINNED;
        has_time.then(|| Duration::from_secs(1 << (self.0 - 1)))
    }

    /// Position among the classes, the first to be evicted first.
    pub(crate) fn class(self) -> usize {
        usize::from(self.0)
    }

    /// The class at this position.
    pub(crate) fn of_class(class: usize) -> Self {
        debug_assert!(class < CLASSES);
        Self(class as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_is_rounded_up_to_a_power_of_two() {
        let rounded =
            |seconds: f64| Retention::ttl(Duration::from_secs_f64(seconds)).time().map(|it| it.as_secs());
        for (seconds, expected) in
            [(0.0, 1), (0.2, 1), (1.0, 1), (1.5, 2), (60.0, 64), (86_400.0, LONGEST), (1e9, LONGEST)]
        {
            assert_eq!(rounded(seconds), Some(expected), "{seconds} s");
        }
        assert_eq!((Retention::ORDINARY.time(), Retention::PINNED.time()), (None, None));
        let longest = Retention::ttl(Duration::MAX);
        assert!(Retention::ORDINARY < Retention::ttl(Duration::ZERO) && longest < Retention::PINNED);
        assert_eq!(longest.class() + 1, Retention::PINNED.class());
    }
}
