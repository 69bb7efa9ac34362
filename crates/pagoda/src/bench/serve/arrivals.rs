//! When the requests of a load are sent.

use crate::bench::Random;
use std::time::Duration;

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrivals {
    /// Requests per second; infinite sends all at once.
    pub rate: f64,
    /// Shape of the gamma distribution of the gaps: 1 is a Poisson process, below 1 is burstier, above 1 more even.
    pub burstiness: f64,
    /// Seed of the gaps.
    pub seed: u64,
}

/// Stream of random numbers for the gaps; prompts use the ones from 0 on.
const STREAM: u64 = u64::MAX;

impl Arrivals {
    /// When each of `count` requests is sent, counted from the start; the last one is sent after `count / rate`.
    pub fn times(&self, count: usize) -> Vec<Duration> {
        if self.rate.is_infinite() {
            return vec![Duration::ZERO; count];
        }
        let mut random = Random::new(self.seed, STREAM);
        let mut time = 0.0;
        let times: Vec<f64> = (0..count)
            .map(|_| {
                time += random.gamma(self.burstiness);
                time
            })
            .collect();
        // The mean rate is exact, so that two runs differ in their gaps only.
        let scale = count as f64 / self.rate / time.max(f64::MIN_POSITIVE);
        times.into_iter().map(|time| Duration::from_secs_f64(time * scale)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_without_limit_sends_everything_at_once() {
        let arrivals = Arrivals { rate: f64::INFINITY, burstiness: 1.0, seed: 0 };
        assert_eq!(arrivals.times(3), [Duration::ZERO; 3]);
    }

    #[test]
    fn times_ascend_keep_the_rate_and_follow_the_seed() {
        let arrivals = Arrivals { rate: 4.0, burstiness: 0.5, seed: 3 };
        let times = arrivals.times(100);
        assert!(times.is_sorted() && times[0] > Duration::ZERO);
        assert!((times[99].as_secs_f64() - 25.0).abs() < 1e-6);
        assert_eq!(times, arrivals.times(100));
        assert_ne!(times, Arrivals { seed: 4, ..arrivals }.times(100));
    }

    #[test]
    fn burstiness_is_the_shape_of_the_gaps() {
        let deviation = |burstiness| {
            let times = Arrivals { rate: 1.0, burstiness, seed: 1 }.times(2000);
            let gaps: Vec<f64> = times.windows(2).map(|t| (t[1] - t[0]).as_secs_f64()).collect();
            crate::bench::stats::mean_and_std(&gaps).1
        };
        assert!(deviation(0.25) > deviation(1.0) && deviation(1.0) > deviation(16.0));
    }
}
