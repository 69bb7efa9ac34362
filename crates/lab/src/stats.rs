//! Medians, percentiles and spread.

use serde::{Deserialize, Serialize};

/// The `p`-th percentile, `p` in 0 to 100, of `sorted` numbers, interpolated between neighbours; 0 of none.
pub fn percentile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = p.clamp(0.0, 100.0) / 100.0 * last as f64;
    let below = place.floor() as usize;
    let above = sorted[(below + 1).min(last)];
    sorted[below] + (above - sorted[below]) * (place - below as f64)
}

/// Median and range of the repetitions of one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Median and range of `values`; `None` of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let sorted = sorted(values);
        Some(Self { median: percentile(&sorted, 50.0), min: *sorted.first()?, max: *sorted.last()? })
    }
}

/// Mean, deviation and percentiles of many measurements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Number of measurements.
    pub count: usize,
    /// The mean.
    pub mean: f64,
    /// The standard deviation of the population.
    pub std: f64,
    /// The 50th percentile.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Distribution {
    /// Describes `values`; all zero of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let sorted = sorted(values);
        let (mean, std) = mean_and_std(&sorted);
        let at = |p| percentile(&sorted, p);
        Self { count: sorted.len(), mean, std, p50: at(50.0), p90: at(90.0), p99: at(99.0), max: at(100.0) }
    }
}

/// Mean and standard deviation of the population; 0 of none.
pub fn mean_and_std(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

/// `values` in ascending order.
pub fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate_between_neighbours() {
        let values = [10.0, 20.0, 30.0, 40.0];
        for (p, expected) in [(0.0, 10.0), (50.0, 25.0), (90.0, 37.0), (100.0, 40.0), (150.0, 40.0)] {
            assert!((percentile(&values, p) - expected).abs() < 1e-9, "p{p}");
        }
        assert_eq!(percentile(&[], 50.0), 0.0);
        assert_eq!(percentile(&[7.0], 99.0), 7.0);
    }

    #[test]
    fn percentiles_rise_with_p() {
        let values = sorted((0..37).map(|i| f64::from(i * 31 % 37)));
        let all: Vec<f64> = (0..=1000).map(|p| percentile(&values, f64::from(p) / 10.0)).collect();
        assert!(all.is_sorted() && all[0] == 0.0 && all[1000] == 36.0);
    }

    #[test]
    fn spread_and_distribution_describe_their_values() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([]), None);
        let all = Distribution::of([4.0, 2.0]);
        assert_eq!((all.count, all.mean, all.std, all.p50, all.max), (2, 3.0, 1.0, 3.0, 4.0));
        assert_eq!(Distribution::of([]), Distribution::default());
    }
}
