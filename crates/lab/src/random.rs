//! Random numbers of a workload: a seed gives the same workload on every machine.

use std::ops::Range;

/// A stream of random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// Stream number `stream` of `seed`; streams do not depend on how much of another one was used.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self { state: mix(seed ^ mix(stream.wrapping_add(STEP))) }
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number in (0, 1).
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// A number of `range`, which must not be empty.
    pub fn within(&mut self, range: Range<u32>) -> u32 {
        let width = u64::from(range.end - range.start);
        range.start + (((self.bits() >> 32) * width) >> 32) as u32
    }

    /// A number of the standard normal distribution.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// A number of the exponential distribution with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    /// A number whose logarithm is normal with this deviation, `sigma`; half of them are below `median`.
    pub fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    /// A number of the gamma distribution with this `shape`, above 0, and scale 1, by Marsaglia and Tsang's method.
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // A gamma of shape + 1 times a power of a uniform number has shape `shape`.
            return self.gamma(shape + 1.0) * self.unit().powf(1.0 / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.unit().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_streams_differ_and_repeat() {
        let first = |seed, stream| Random::new(seed, stream).bits();
        assert_eq!(first(7, 3), first(7, 3));
        assert_ne!(first(7, 3), first(7, 4));
        assert_ne!(first(7, 3), first(8, 3));
    }

    #[test]
    fn numbers_stay_in_their_range_and_reach_its_ends() {
        let mut random = Random::new(1, 0);
        let drawn: Vec<u32> = (0..1000).map(|_| random.within(5..9)).collect();
        for expected in 5..9 {
            assert!(drawn.contains(&expected), "{expected} was never drawn");
        }
        assert!(drawn.iter().all(|n| (5..9).contains(n)));
        assert!((0..1000).all(|_| (f64::MIN_POSITIVE..1.0).contains(&random.unit())));
    }

    #[test]
    fn exponential_and_lognormal_have_their_means() {
        let mut random = Random::new(4, 0);
        let mut mean =
            |draw: fn(&mut Random) -> f64| (0..40_000).map(|_| draw(&mut random)).sum::<f64>() / 4e4;
        assert!((mean(Random::exponential) - 1.0).abs() < 0.03);
        let expected = 3.0 * (0.5f64 * 0.8 * 0.8).exp();
        assert!((mean(|random| random.lognormal(3.0, 0.8)) / expected - 1.0).abs() < 0.03);
    }

    #[test]
    fn gamma_has_its_mean_and_variance() {
        for shape in [0.3, 1.0, 4.0] {
            let mut random = Random::new(11, 0);
            let drawn: Vec<f64> = (0..40_000).map(|_| random.gamma(shape)).collect();
            let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
            let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / drawn.len() as f64;
            // Both are `shape`; ten standard errors of the widest case are below a tenth.
            assert!((mean / shape - 1.0).abs() < 0.1, "shape {shape}: mean {mean}");
            assert!((variance / shape - 1.0).abs() < 0.2, "shape {shape}: variance {variance}");
        }
    }
}
