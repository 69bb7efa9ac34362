//! Many times in little memory.

use crate::stats::Distribution;

/// Bits of the mantissa that are kept: neighbouring buckets differ by less than 0.8 %.
const BITS: u32 = 7;

/// Times from 2^-40 to 2^40 seconds in buckets that are at most 0.8 % wide. Mean, deviation and maximum are exact.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Index of the first of `counts`.
    first: usize,
    counts: Vec<u32>,
    count: u64,
    sum: f64,
    squares: f64,
    max: f64,
}

impl Histogram {
    /// Adds one time, in seconds; one below 0 counts as 0.
    pub fn add(&mut self, seconds: f64) {
        let seconds = seconds.max(0.0);
        *self.count_at(bucket(seconds)) += 1;
        self.count += 1;
        self.sum += seconds;
        self.squares += seconds * seconds;
        self.max = self.max.max(seconds);
    }

    /// Adds all times of another one.
    pub fn merge(&mut self, other: &Self) {
        for (index, &count) in other.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            *self.count_at(other.first + index) += count;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
        self.max = self.max.max(other.max);
    }

    /// How many were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The `p`-th percentile, `p` in 0 to 100, in seconds: the time that so many per cent do not exceed, to 0.4 %; 0 of none.
    pub fn percentile(&self, p: f64) -> f64 {
        let rank = (p.clamp(0.0, 100.0) / 100.0 * self.count as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            below += u64::from(count);
            if below >= rank {
                return if below == self.count { self.last(index) } else { middle(self.first + index) };
            }
        }
        0.0
    }

    /// The largest, where it is alone in the last bucket or everything is in one.
    fn last(&self, index: usize) -> f64 {
        middle(self.first + index).min(self.max)
    }

    /// Mean, deviation and percentiles.
    pub fn distribution(&self) -> Distribution {
        let count = (self.count as f64).max(1.0);
        let mean = self.sum / count;
        Distribution {
            count: self.count as usize,
            mean,
            std: (self.squares / count - mean * mean).max(0.0).sqrt(),
            p50: self.percentile(50.0),
            p90: self.percentile(90.0),
            p99: self.percentile(99.0),
            max: self.max,
        }
    }

    fn count_at(&mut self, bucket: usize) -> &mut u32 {
        if self.counts.is_empty() {
            self.first = bucket;
        }
        if bucket < self.first {
            let more = self.first - bucket;
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.first = bucket;
        }
        let index = bucket - self.first;
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        &mut self.counts[index]
    }
}

/// Positive floats are ordered as their bits are.
fn bucket(seconds: f64) -> usize {
    let limited = (seconds as f32).clamp(2f32.powi(-40), 2f32.powi(40));
    (limited.to_bits() >> (23 - BITS)) as usize
}

fn middle(bucket: usize) -> f64 {
    let low = (bucket as u32) << (23 - BITS);
    let value = f32::from_bits(low + (1 << (22 - BITS)));
    if bucket == self::bucket(0.0) { 0.0 } else { f64::from(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a / b - 1.0).abs() < 0.006
    }

    #[test]
    fn percentiles_are_those_of_the_times_to_a_hundredth() {
        let times: Vec<f64> = (1..=10_000).map(|i| 1e-4 * f64::from((i * 7919) % 10_000 + 1)).collect();
        let mut histogram = Histogram::default();
        times.iter().for_each(|time| histogram.add(*time));
        let sorted = crate::stats::sorted(times.iter().copied());
        for p in [1.0, 10.0, 50.0, 90.0, 99.0, 99.9] {
            let exact = sorted[f64::ceil(100.0 * p) as usize - 1];
            assert!(close(histogram.percentile(p), exact), "p{p}: {} of {exact}", histogram.percentile(p));
        }
        let described = histogram.distribution();
        let exact = Distribution::of(times);
        assert!(close(described.mean, exact.mean) && close(described.std, exact.std));
        assert_eq!((described.count, described.max), (exact.count, exact.max));
    }

    #[test]
    fn zero_none_and_one_are_themselves() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.distribution(), Distribution::default());
        histogram.add(0.0);
        assert_eq!(histogram.percentile(99.0), 0.0);
        let mut one = Histogram::default();
        one.add(0.25);
        assert!(close(one.percentile(50.0), 0.25));
        one.add(1e30);
        assert!(one.percentile(100.0) > 1e11, "beyond the range is at its end");
        one.add(-1.0);
        assert_eq!(one.percentile(0.0), 0.0);
    }

    #[test]
    fn merging_is_adding_everything() {
        let (mut a, mut b, mut both) = (Histogram::default(), Histogram::default(), Histogram::default());
        for i in 0..500 {
            let time = 0.001 * f64::from(i * i + 1);
            if i % 3 == 0 {
                a.add(time)
            } else {
                b.add(time)
            }
            both.add(time);
        }
        a.merge(&b);
        assert_eq!((a.first, &a.counts, a.count), (both.first, &both.counts, both.count));
        assert!(close(a.sum, both.sum) && a.max == both.max);
    }
}
