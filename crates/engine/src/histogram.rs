//! A histogram with one writer and no lock.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts observations per bucket. Written by the engine thread alone, read by whoever scrapes.
#[derive(Clone, Debug)]
pub(crate) struct Histogram(Arc<Cells>);

#[derive(Debug)]
struct Cells {
    bounds: &'static [f64],
    /// One per bound, and one for what lies above all of them. Not cumulative.
    counts: Box<[AtomicU64]>,
    /// Bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    /// `bounds` are the upper bounds of the buckets, inclusive, ascending.
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Cells { bounds, counts, sum: AtomicU64::new(0.0_f64.to_bits()) }))
    }

    /// Counts `value`. One thread only: two would lose counts.
    pub(crate) fn observe(&self, value: f64) {
        let cells = &*self.0;
        let bucket = &cells.counts[cells.bounds.partition_point(|&bound| bound < value)];
        bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let sum = f64::from_bits(cells.sum.load(Ordering::Relaxed)) + value;
        cells.sum.store(sum.to_bits(), Ordering::Relaxed);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let cells = &*self.0;
        let bounds = cells.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<_> =
            bounds.zip(cells.counts.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        let count = buckets.iter().map(|&(_, count)| count).sum();
        let sum = f64::from_bits(cells.sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;
    use prometheus_client::{encoding::text, registry::Registry};

    #[test]
    fn bounds_belong_to_the_bucket_below_them() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 2.0, 2.5, 100.0] {
            histogram.observe(value);
        }
        let mut registry = Registry::default();
        registry.register("h", "H", histogram);
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        for line in [
            "h_sum 107.5",
            "h_count 6",
            r#"h_bucket{le="1.0"} 2"#,
            r#"h_bucket{le="2.0"} 4"#,
            r#"h_bucket{le="+Inf"} 6"#,
        ] {
            assert!(page.lines().any(|candidate| candidate == line), "{line} in\n{page}");
        }
    }
}
