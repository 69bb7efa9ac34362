//! Passes over one row of logits that the compiler can vectorise: exponential, sums.
//!
//! Sums are taken in a fixed order of their own, so that their bits depend on the logits alone.

use pagoda_kernels::{Kernels, weight};

/// Independent accumulators of a pass; enough to hide the latency of an addition.
const LANES: usize = 16;

/// Turns adjusted logits into weights relative to the most likely token, at one temperature.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weigher {
    max: f32,
    scale: f32,
    greedy: bool,
}

impl Weigher {
    /// `max` is the largest logit, `temperature` is positive.
    pub(crate) fn new(max: f32, temperature: f32) -> Self {
        let scale = 1.0 / temperature;
        // The inverse of a tiny temperature is infinite, and infinity times zero is no number; its limit is greedy.
        Self { max, scale, greedy: scale.is_infinite() }
    }

    /// `exp((logit - max) / temperature)`: 1 for the largest, exactly 0 for masked ids.
    pub(crate) fn weight(&self, logit: f32) -> f32 {
        if self.greedy {
            return if logit == self.max { 1.0 } else { 0.0 };
        }
        weight((logit - self.max) * self.scale)
    }

    /// [`weight`](Self::weight) of each of `logits`.
    pub(crate) fn weigh(&self, kernels: &Kernels, logits: &[f32], weights: &mut [f32]) {
        if self.greedy {
            weights.iter_mut().zip(logits).for_each(|(weight, &logit)| *weight = self.weight(logit));
        } else {
            kernels.weigh(logits, self.max, self.scale, weights);
        }
    }
}

/// Sum of `values` in 64 bits.
pub(crate) fn sum(values: &[f32]) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let (chunks, tail) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += f64::from(chunk[lane]);
        }
    }
    sums.iter().sum::<f64>() + tail.iter().map(|&v| f64::from(v)).sum::<f64>()
}

/// Natural logarithm of the sum of `exp(logits)`, all finite, `max` being the largest; `weights` is scratch of the same
/// length.
pub(crate) fn log_sum_exp(kernels: &Kernels, logits: &[f32], max: f32, weights: &mut [f32]) -> f64 {
    kernels.weigh(logits, max, 1.0, weights);
    f64::from(max) + sum(weights).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_sum_exp_agrees_with_64_bit_arithmetic() {
        let logits: Vec<f32> = (0..1_003).map(|i| ((i * 7919) % 1_000) as f32 * 0.03 - 11.0).collect();
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exact = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        let mut weights = vec![0.0; logits.len()];
        assert!((log_sum_exp(Kernels::best(), &logits, max, &mut weights) - exact).abs() < 1e-6);
    }

    #[test]
    fn an_extreme_temperature_is_the_greedy_limit() {
        let mut out = [0.0; 3];
        Weigher::new(3.0, f32::from_bits(1)).weigh(Kernels::best(), &[1.0, 3.0, 3.0], &mut out);
        assert_eq!(out, [0.0, 1.0, 1.0]);
    }
}
