//! Passes over one row of logits that the compiler can vectorise: exponential, sums.
//!
//! Sums are taken in a fixed order of their own, so that their bits depend on the logits alone.

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
        exp_non_positive((logit - self.max) * self.scale)
    }

    /// [`weight`](Self::weight) of each of `logits`.
    pub(crate) fn weigh(&self, logits: &[f32], weights: &mut [f32]) {
        for (weight, &logit) in weights.iter_mut().zip(logits) {
            *weight = self.weight(logit);
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

/// Natural logarithm of the sum of `exp(logits)`, all finite, `max` being the largest.
pub(crate) fn log_sum_exp(logits: &[f32], max: f32) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let (chunks, tail) = logits.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += f64::from(exp_non_positive(chunk[lane] - max));
        }
    }
    let tail: f64 = tail.iter().map(|&x| f64::from(exp_non_positive(x - max))).sum();
    f64::from(max) + (sums.iter().sum::<f64>() + tail).ln()
}

/// `exp(x)` for `x <= 0`, to 2 units in the last place; 0 below the smallest normal number.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; a polynomial for `exp(r)`, then `n` goes into the exponent bits.
/// Branch-free, and the same on every machine.
fn exp_non_positive(x: f32) -> f32 {
    // Adding this rounds to an integer that the low bits of the sum hold.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const SMALLEST: f32 = -87.0;
    let clamped = if x > SMALLEST { x } else { SMALLEST };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + coefficient;
    }
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    let power = f32::from_bits(exponent.wrapping_add(127) << 23);
    if x > SMALLEST { p * power } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for step in 0..870_000 {
            let x = -(step as f32) * 1e-4;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp_non_positive(x)) - exact).abs() / exact;
            assert!(error <= 2.0 * f64::from(f32::EPSILON), "exp({x}): relative error {error:e}");
        }
        assert_eq!(exp_non_positive(0.0), 1.0);
        assert_eq!(exp_non_positive(-1e30), 0.0);
        assert_eq!(exp_non_positive(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn log_sum_exp_agrees_with_64_bit_arithmetic() {
        let logits: Vec<f32> = (0..1_003).map(|i| ((i * 7919) % 1_000) as f32 * 0.03 - 11.0).collect();
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exact = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        assert!((log_sum_exp(&logits, max) - exact).abs() < 1e-6);
    }

    #[test]
    fn an_extreme_temperature_is_the_greedy_limit() {
        let mut out = [0.0; 3];
        Weigher::new(3.0, f32::from_bits(1)).weigh(&[1.0, 3.0, 3.0], &mut out);
        assert_eq!(out, [0.0, 1.0, 1.0]);
    }
}
