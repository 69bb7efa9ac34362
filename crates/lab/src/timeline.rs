//! What was going on over time, in a bounded number of samples.

use serde::{Deserialize, Serialize};

/// Most samples that are kept.
const MOST: usize = 1024;

/// One moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the start.
    pub at_s: f64,
    /// Running sequences.
    pub running: u32,
    /// Waiting sequences.
    pub waiting: u32,
    /// Blocks that sequences hold, or that are reserved for them, in percent of the pool.
    pub used_percent: f64,
    /// Free blocks with content that a later request can take, in percent of the pool.
    pub cached_percent: f64,
}

/// Samples at even distances in steps. When there are too many, every other one is dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Steps between two samples.
    pub every: u64,
    /// The samples, in order of time.
    pub samples: Vec<Sample>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { every: 1, samples: Vec::new() }
    }
}

impl Timeline {
    /// Whether step number `step`, from 0, is sampled.
    pub(crate) fn wants(&self, step: u64) -> bool {
        step.is_multiple_of(self.every)
    }

    pub(crate) fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
        if self.samples.len() == MOST {
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.every *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stay_even_and_few() {
        let mut timeline = Timeline::default();
        for step in 0..100_000 {
            if timeline.wants(step) {
                timeline.push(Sample { at_s: step as f64, ..Sample::default() });
            }
        }
        assert!((MOST / 2 - 1..MOST).contains(&timeline.samples.len()));
        let gaps = timeline.samples.windows(2).map(|pair| pair[1].at_s - pair[0].at_s);
        assert!(gaps.into_iter().all(|gap| gap == timeline.every as f64));
    }
}
