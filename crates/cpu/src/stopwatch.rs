//! Laps of one step.

use crate::profile::{OPERATIONS, StepRecord};
use crate::{Operation, Profile};
use std::time::Instant;

/// Gives each stretch of a step to an operation, so that the parts sum to the whole.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    begin: Instant,
    last: Instant,
    calls: [u64; OPERATIONS],
    nanos: [u64; OPERATIONS],
}

impl Stopwatch {
    /// Starts where `profile` is on, else does nothing.
    pub(crate) fn start(profile: &Profile) -> Self {
        let running = || {
            let begin = Instant::now();
            Running { begin, last: begin, calls: [0; OPERATIONS], nanos: [0; OPERATIONS] }
        };
        Self { running: profile.is_on().then(running) }
    }

    /// Gives the time since the last lap to `operation`.
    #[inline]
    pub(crate) fn lap(&mut self, operation: Operation) {
        if let Some(running) = &mut self.running {
            running.lap(operation);
        }
    }

    /// Gives what is left to [`Operation::Other`] and says what was measured.
    pub(crate) fn finish(mut self) -> Option<StepRecord> {
        self.lap(Operation::Other);
        let running = self.running?;
        Some(StepRecord {
            nanos: (running.last - running.begin).as_nanos() as u64,
            calls: running.calls,
            operation_nanos: running.nanos,
            ..StepRecord::default()
        })
    }
}

impl Running {
    fn lap(&mut self, operation: Operation) {
        let now = Instant::now();
        self.calls[operation as usize] += 1;
        self.nanos[operation as usize] += (now - self.last).as_nanos() as u64;
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_sum_to_the_whole_and_a_stopped_watch_measures_nothing() {
        let profile = Profile::default();
        assert!(Stopwatch::start(&profile).finish().is_none());
        profile.start();
        let mut watch = Stopwatch::start(&profile);
        for _ in 0..3 {
            watch.lap(Operation::Qkv);
            std::thread::yield_now();
            watch.lap(Operation::Head);
        }
        let record = watch.finish().expect("the profile is on");
        assert_eq!(record.operation_nanos.iter().sum::<u64>(), record.nanos);
        assert_eq!(record.calls[Operation::Qkv as usize], 3);
        assert_eq!(record.calls[Operation::Other as usize], 1);
        profile.add(&record);
        profile.add(&record);
        let report = profile.report();
        assert_eq!(report.steps, 2);
        assert_eq!(report.time, report.operations.iter().map(|part| part.time).sum());
        profile.start();
        assert_eq!(profile.report().operations[Operation::Head as usize].calls, 0, "a start forgets");
        profile.stop();
        assert!(!profile.is_on());
    }
}
